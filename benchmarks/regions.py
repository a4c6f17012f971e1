"""What the promise of certified regions is worth on real data: Kvasir-SEG and QaTa-COV19.

Reads   RAW/kvasir_seg and RAW/qata_cov19 as their publishers lay them out, and, with PARAMS, the sections `proposals`
        and `regions` of that file in the place of the weight-free ones below
Writes  benchmarks/results/regions.csv, each row as it ends; rows that are there are kept, so delete the file to start
        anew. Tables and answers lie in WORK, so that a killed run goes on where it stopped
Run     python benchmarks/regions.py RAW WORK [PARAMS]

The joint score is fitted on train, thresholds come from validation, figures from test. Then validation is split at
random, by patient, into a half that chooses the threshold and one that is judged: the promise is broken where fewer of
its accepted regions than promised are right, each patient counted once (`broken_share`), or each region once
(`broken_share_regions`). A split without a certified threshold promises nothing and breaks nothing.
"""

import csv
import dataclasses
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from header import header, last_commit

from pipelines.config import load, parse
from pipelines.files import atomic_path
from pipelines.ingest import stage as ingest
from pipelines.ingest.config import IngestConfig
from pipelines.proposals import stage as proposals
from pipelines.proposals.config import ProposalsConfig
from pipelines.records import PROPOSALS, SPLIT_IMAGES
from pipelines.regions import stage as regions
from pipelines.regions.candidates import told_images, truth_of, usable
from pipelines.regions.config import RegionsConfig
from pipelines.regions.judge import samples_of
from pipelines.regions.promise import Sample, certify, sequence
from pipelines.regions.rounds import run_rounds
from pipelines.split import stage as split
from pipelines.split.config import SplitConfig
from pipelines.stage import command

RESULTS = Path(__file__).parent / "results" / "regions.csv"
METHOD = "learn-then-test, fixed sequence, betting by patient"
PROMISED = (0.3, 0.4, 0.5, 0.6, 0.7)
RESPLITS = 500

SOURCES: dict[str, dict[str, Any]] = {
    "kvasir_seg": {"adapter": "image_mask_folders", "options": {"modality": "endoscopy", "label": "polyp"}},
    "qata_cov19": {"adapter": "lvit"},
}
WEIGHT_FREE = {
    "proposers": ["saliency"],
    "segmenter": "threshold",
    "labelled_images": 1500,
    "max_proposals": 50,
    "phrases": {},
    "terms": [],
    "batch_size": 8,
    "workers": 0,
    "gpus_per_worker": 0.0,
    "max_failed_fraction": 0.01,
}
SCORED = {
    "train": "annotations",
    "min_score": 0.05,
    "min_side": 4,
    "min_area_fraction": 0.0005,
    "max_area_fraction": 0.6,
    "min_mask_stability": 0.0,
    "max_regions": 2,
    "overlap": 0.3,
    "min_labelled": 50,
    "min_probability": 0.1,
    "promise": {"precision": 0.5, "confidence": 0.9, "min_calibration": 50},
    "rounds": {"most": 3, "accept": 0.9},
    "review": os.devnull,
}


def main(raw: str, work: str, params: str | None = None) -> None:
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    if params is None:
        propose, judge = parse(ProposalsConfig, WEIGHT_FREE, "proposals"), parse(RegionsConfig, SCORED, "regions")
    else:
        propose = load(ProposalsConfig, "proposals", Path(params))
        judge = load(RegionsConfig, "regions", Path(params))
    for name in SOURCES:
        proposers = "+".join(propose.proposers)
        missing = [p for p in PROMISED if (name, proposers, propose.segmenter, str(p)) not in _done()]
        if missing:
            folder = Path(work) / name
            _propose(name, Path(raw), folder, propose)
            for row in _judge(name, folder, missing, judge):
                _append(row | {"proposer": proposers, "segmenter": propose.segmenter})


def _propose(name: str, raw: Path, folder: Path, config: ProposalsConfig) -> None:
    """Run ingest, split and proposals of one data set; the result cache spares what a former run asked."""
    root = raw / name
    values = {
        "sources": {name: SOURCES[name] | {"root": str(root)}},
        "max_pixels": 100_000_000,
        "max_failed_fraction": 0.0,
    }
    fractions = {"train": 0.7, "validation": 0.1, "test": 0.2}
    near = {"max_distance": 48, "min_correlation": 0.93}
    splitting = {"seed": 0, "fractions": fractions, "near_duplicates": near, "allow_leaks": [name]}
    summaries = folder / "summaries"
    if not (folder / "split" / "images.parquet").exists():
        ingest.run(name, parse(IngestConfig, values, "ingest"), folder / "ingest" / name, summaries)
        split.run(parse(SplitConfig, splitting, "split"), [name], folder / "ingest", folder / "split", summaries)
    store, output = folder / "results.sqlite", folder / "proposals.parquet"
    proposals.run(config, {name: root}, folder / "split", output, store, summaries)


def _judge(name: str, folder: Path, promised: list[float], config: RegionsConfig) -> Any:
    """One row a promise."""
    images_file, proposals_file = folder / "split" / "images.parquet", folder / "proposals.parquet"
    found = PROPOSALS.read(proposals_file)
    images = told_images(SPLIT_IMAGES.read(images_file), found)
    candidates = usable(found, images, config)
    target = np.where(candidates["split"] == "train", truth_of(candidates), np.nan)
    probability = run_rounds(candidates, target, set(), config)[-1].scored.probability
    ((group, samples),) = samples_of(images, candidates, probability, config).items()
    for precision in promised:
        settings = dataclasses.replace(config, promise=dataclasses.replace(config.promise, precision=precision))
        output = folder / f"regions-{precision}.parquet"
        told = regions.run(settings, images_file, proposals_file, output, folder / "summaries")["promise"][group]
        yield {
            "data": name,
            "precision_promised": precision,
            "confidence": config.promise.confidence,
            "method": METHOD,
            "threshold": told["threshold"],
            "reason": told["reason"],
            **{f"calibration_{key}": value for key, value in told["calibration"].items()},
            **{f"test_{key}": value for key, value in told["test"].items()},
            "test_recall": told["test_recall"],
            "resplits": RESPLITS,
            **_resplit(samples, settings),
        }


def _resplit(samples: dict[str, Sample], config: RegionsConfig) -> dict[str, float]:
    """Shares of random halvings of validation whose calibration half certifies, and whose other half breaks it."""
    rng = np.random.default_rng(0)
    patients = len(samples["validation"].images)
    thresholds = sequence(samples["train"], patients // 2, config.promise)
    certified = broken = broken_regions = 0
    for _ in range(RESPLITS):
        order = rng.permutation(patients)
        calibration, held_out = (
            _of_patients(samples["validation"], np.sort(part))
            for part in (order[: patients // 2], order[patients // 2 :])
        )
        threshold = certify(thresholds, calibration, config.promise)
        if threshold is None:
            continue
        certified += 1
        accepted = held_out.probability >= threshold
        if accepted.any():
            broken += bool(held_out.precision(threshold) < config.promise.precision)  # type: ignore[operator]
            broken_regions += bool(held_out.right[accepted].mean() < config.promise.precision)
    shares = {"certified_share": certified, "broken_share": broken, "broken_share_regions": broken_regions}
    return {name: count / RESPLITS for name, count in shares.items()}


def _of_patients(sample: Sample, patients: np.ndarray) -> Sample:
    """The part of a sample that belongs to some patients (their numbers, sorted)."""
    rows = np.isin(sample.patient, patients)
    return Sample(
        probability=sample.probability[rows],
        right=sample.right[rows],
        image=sample.image[rows],
        patient=np.searchsorted(patients, sample.patient[rows]),
        images=sample.images[patients],
        most=sample.most,
    )


COLUMNS = (
    "data",
    "proposer",
    "segmenter",
    "precision_promised",
    "confidence",
    "method",
    "threshold",
    "reason",
    "calibration_images",
    "calibration_patients",
    "calibration_accepted",
    "calibration_right",
    "calibration_precision",
    "calibration_coverage",
    "test_images",
    "test_patients",
    "test_accepted",
    "test_right",
    "test_precision",
    "test_precision_low",
    "test_coverage",
    "test_recall",
    "resplits",
    "certified_share",
    "broken_share",
    "broken_share_regions",
)


def _done() -> set[tuple[str, ...]]:
    if not RESULTS.exists():
        return set()
    lines = [line for line in RESULTS.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    keys = ("data", "proposer", "segmenter", "precision_promised")
    return {tuple(row[key] for key in keys) for row in csv.DictReader(lines)}


def _append(row: dict[str, Any]) -> None:
    text = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else _header() + ",".join(COLUMNS) + "\n"
    with atomic_path(RESULTS) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        stream.write(text)
        writer = csv.DictWriter(stream, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writerow({key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()})


def _header() -> str:
    changed = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    state = " and what was not committed yet" if changed else ""
    return header("python benchmarks/regions.py RAW WORK", last_commit(Path()) + state)


if __name__ == "__main__":
    command(main)
