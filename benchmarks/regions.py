"""How well risk control keeps its guarantee on real data: Kvasir-SEG and QaTa-COV19.

Reads   RAW/kvasir_seg and RAW/qata_cov19 as their publishers lay them out, and, with PARAMS (a study of params/), its
        section `proposals` in the place of the weight-free one below, and the limits of its sources; with SEGMENTER
        another segmenter, on the same images and boxes
Writes  benchmarks/results/regions.csv, each row as it ends; existing rows are kept, so delete the file to start anew.
        Tables and cached results are written to WORK, so that a killed run continues where it stopped
Run     python benchmarks/regions.py RAW WORK [PARAMS [SEGMENTER]]

The joint score is fitted on train, thresholds come from validation, metrics from test. Then validation is split at
random, by patient, into a half that selects the threshold and a half that it is evaluated on. The guarantee is violated
where the precision of the accepted regions of the second half is below the target, with each patient counted once
(`violation_fraction`) or each region once (`violation_fraction_regions`). A split without a certified threshold
guarantees nothing and violates nothing.
"""

import csv
import dataclasses
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from header import header, last_commit
from numpy.typing import NDArray

from pipelines.config import parse
from pipelines.files import atomic_path
from pipelines.ingest import stage as ingest
from pipelines.ingest.config import IngestConfig
from pipelines.params import load_study
from pipelines.proposals import stage as proposals
from pipelines.proposals.config import ProposalsConfig
from pipelines.regions import stage as regions
from pipelines.regions.calibration.groups import labelled_regions
from pipelines.regions.calibration.risk_control import LabelledRegions, fixed_sequence_test, threshold_sequence
from pipelines.regions.candidates import select_candidates
from pipelines.regions.config import RegionsConfig, RiskControlConfig
from pipelines.regions.self_training import self_train
from pipelines.sources import Sources
from pipelines.split import stage as split
from pipelines.split.config import SplitConfig
from pipelines.stage import command

RESULTS = Path(__file__).parent / "results" / "regions.csv"
METHOD = "learn-then-test, fixed sequence, betting by patient"
TARGETS = (0.3, 0.4, 0.5, 0.6, 0.7)
RESPLITS = 500

SOURCES: dict[str, dict[str, Any]] = {
    "kvasir_seg": {
        "adapter": "image_mask_folders",
        "patient_ids": "public",
        "options": {"modality": "endoscopy", "label": "polyp"},
    },
    "qata_cov19": {"adapter": "lvit", "patient_ids": "public"},
}
WEIGHT_FREE = {
    "proposers": ["saliency"],
    "segmenter": "threshold",
    "labelled_images": 1500,
    "max_proposals": 50,
    "phrases": {},
    "terms": [],
    "batch_size": 8,
    "gpus_per_worker": 0.0,
    "max_failed_fraction": 0.01,
}
REGIONS = {
    "training_regions": "annotations",
    "min_score": 0.05,
    "min_side": 4,
    "min_area_fraction": 0.0005,
    "max_area_fraction": 0.6,
    "min_mask_stability": 0.0,
    "max_regions": 2,
    "nms_iou": 0.3,
    "min_labelled": 50,
    "min_probability": 0.1,
    "risk_control": {"quantity": "region", "target_precision": 0.5, "confidence": 0.9, "min_calibration_images": 50},
    "self_training": {"max_rounds": 3, "pseudo_label_threshold": 0.9},
    "review": os.devnull,
}


def main(raw: str, work: str, params: str | None = None, segmenter: str | None = None) -> None:
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    study = {"proposals": WEIGHT_FREE} if params is None else load_study(Path(params))
    settings = study["proposals"] | ({} if segmenter is None else {"segmenter": segmenter})
    proposals_config = parse(ProposalsConfig, settings, "proposals")
    regions_config = parse(RegionsConfig, REGIONS, "regions")
    called = "whole" if params is None else Path(params).stem
    facts = {
        "study": called,
        "proposer": "+".join(proposals_config.proposers),
        "segmenter": proposals_config.segmenter,
        "max_proposals": proposals_config.max_proposals,
    }
    for name in SOURCES:
        known = (name, called, facts["proposer"], facts["segmenter"])
        missing = [target for target in TARGETS if (*known, str(target)) not in _done()]
        if missing:
            folder = Path(work) / called / name
            limit = study.get("ingest", {}).get("sources", {}).get(name, {}).get("limit")
            _propose(name, Path(raw), folder, proposals_config, limit)
            for row in _evaluate(name, folder, missing, regions_config):
                _append(row | facts)


def _propose(name: str, raw: Path, folder: Path, config: ProposalsConfig, limit: dict[str, int] | None) -> None:
    """Run ingest, split and proposals of one data set; the result cache keeps the results of former runs."""
    root = raw / name
    values: dict[str, Any] = {
        "sources": {name: SOURCES[name] | {"root": str(root), "limit": limit}},
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
    cache, output = folder / "results.sqlite", folder / "proposals.parquet"
    where = Sources(roots={name: root}, max_pixels=values["max_pixels"])
    proposals.run(config, where, folder / "split", output, cache, summaries)


def _evaluate(name: str, folder: Path, targets: list[float], config: RegionsConfig) -> Iterator[dict[str, Any]]:
    """One row for each target precision."""
    images_file, proposals_file = folder / "split" / "images.parquet", folder / "proposals.parquet"
    candidates = select_candidates(images_file, proposals_file, config)
    correct = candidates.correctness()
    labels, test_candidates = (
        np.where(candidates.in_split("train"), correct, np.nan),
        correct[candidates.in_split("test")],
    )
    unannotated = np.zeros(len(candidates.images), dtype=bool)
    probability = self_train(candidates, labels, unannotated, config)[-1].scores.probability
    ((group, splits),) = labelled_regions(candidates, probability, config).items()
    for target in targets:
        control = dataclasses.replace(config.risk_control, target_precision=target)
        settings = dataclasses.replace(config, risk_control=control)
        output = folder / f"regions-{target}.parquet"
        summary = regions.run(settings, images_file, proposals_file, output, folder / "summaries")
        result = summary["risk_control"][group]
        yield {
            "data": name,
            "target_precision": target,
            "confidence": control.confidence,
            "method": METHOD,
            "threshold": result["threshold"],
            "reason": result["reason"],
            **{f"calibration_{key}": value for key, value in result["calibration"].items()},
            **{f"test_{key}": value for key, value in result["test"].items()},
            "test_recall": result["test_recall"],
            "test_candidates": int(np.isfinite(test_candidates).sum()),
            "test_candidates_correct": float(np.nanmean(test_candidates)),
            "resplits": RESPLITS,
            **_resplit(splits, control),
        }


def _resplit(splits: dict[str, LabelledRegions], config: RiskControlConfig) -> dict[str, float]:
    """Fractions of random halvings of validation whose calibration half certifies, and whose other half violates it."""
    rng = np.random.default_rng(0)
    validation = splits["validation"]
    patients = len(validation.images_per_patient)
    thresholds = threshold_sequence(splits["train"], patients // 2, config)
    certified = violations = region_violations = 0
    for _ in range(RESPLITS):
        order = rng.permutation(patients)
        halves = order[: patients // 2], order[patients // 2 :]
        calibration, held_out = (_of_patients(validation, np.sort(half)) for half in halves)
        threshold = fixed_sequence_test(thresholds, calibration, config)
        if threshold is None:
            continue
        certified += 1
        precision = held_out.precision(threshold, config.quantity)
        if precision is not None:
            violations += precision < config.target_precision
            accepted = held_out.probability >= threshold
            region_violations += bool(held_out.correct[accepted].mean() < config.target_precision)
    return {
        "certified_fraction": certified / RESPLITS,
        "violation_fraction": violations / RESPLITS,
        "violation_fraction_regions": region_violations / RESPLITS,
    }


def _of_patients(regions: LabelledRegions, patients: NDArray[np.int64]) -> LabelledRegions:
    """The regions of some patients (their indices, sorted)."""
    rows = np.isin(regions.patient, patients)
    return LabelledRegions(
        probability=regions.probability[rows],
        correct=regions.correct[rows],
        image=regions.image[rows],
        patient=np.searchsorted(patients, regions.patient[rows]),
        images_per_patient=regions.images_per_patient[patients],
        max_per_image=regions.max_per_image,
    )


COLUMNS = (
    "data",
    "study",
    "proposer",
    "segmenter",
    "max_proposals",
    "target_precision",
    "confidence",
    "method",
    "threshold",
    "reason",
    "calibration_images",
    "calibration_patients",
    "calibration_accepted",
    "calibration_correct",
    "calibration_precision",
    "calibration_coverage",
    "test_images",
    "test_patients",
    "test_accepted",
    "test_correct",
    "test_precision",
    "test_precision_low",
    "test_coverage",
    "test_recall",
    "test_candidates",
    "test_candidates_correct",
    "resplits",
    "certified_fraction",
    "violation_fraction",
    "violation_fraction_regions",
)


def _done() -> set[tuple[str, ...]]:
    if not RESULTS.exists():
        return set()
    lines = [line for line in RESULTS.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    keys = ("data", "study", "proposer", "segmenter", "target_precision")
    return {tuple(row[key] for key in keys) for row in csv.DictReader(lines)}


def _append(row: dict[str, Any]) -> None:
    text = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else _header() + ",".join(COLUMNS) + "\n"
    with atomic_path(RESULTS) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        stream.write(text)
        writer = csv.DictWriter(stream, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writerow({key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()})


def _header() -> str:
    changed = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    state = " and uncommitted changes" if changed else ""
    return header("python benchmarks/regions.py RAW WORK", last_commit(Path()) + state)


if __name__ == "__main__":
    command(main)
