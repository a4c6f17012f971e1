"""A small dataset with all that the report shows: two sources, rejections, contradictions, oracle captions."""

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from models.verified import record, sha256_file
from pipelines.masks import encode
from pipelines.records import (
    CAPTIONS,
    NEAR_DUPLICATES,
    REGIONS,
    REJECTED,
    SPLIT_IMAGES,
    SPLIT_QUESTIONS,
    CaptionRow,
    NearDuplicateRow,
    QuestionRow,
    RegionRow,
    RejectedRow,
    SplitImageRow,
)
from pipelines.report import stage
from pipelines.report.config import ReportConfig, load_terms
from pipelines.report.inputs import Paths
from pipelines.sources import load_sources
from pipelines.stage import Summary
from tests.rows import by_image

ATTACK = "<script>alert('x')</script> & \"quoted\""
STATUSES = ("ok", "no_finding", "unannotated", "ok")
# Changes to the caption of an image's first region; even images are of alpha, odd ones of beta.
FAULTS: dict[int, dict] = {
    2: {"contradiction": "contradicts_side", "attempts": 3},
    4: {"warnings": ("few_words",)},
    8: {"status": "rejected", "reason": "wrong_schema", "raw_answer": f"{ATTACK}\n" + "z" * 3000, "attempts": 3},
    9: {"status": "failed", "reason": "http_500", "attempts": 2},
}
MEASURED = {
    "images": 20,
    "patients": 10,
    "accepted": 12,
    "correct": 9,
    "precision": 0.75,
    "precision_low": 0.5,
    "coverage": 0.5,
}
RISK_CONTROL = {
    "ultrasound": {
        "threshold": 0.625,
        "reason": None,
        "quantity": "patient_best",
        "promised": "the patients' best accepted regions",
        "target_precision": 0.7,
        "confidence": 0.9,
        "calibration": MEASURED,
        "test": MEASURED,
    },
    "ct": {
        "threshold": None,
        "reason": ATTACK,
        "quantity": "patient_best",
        "promised": "the patients' best accepted regions",
        "target_precision": 0.7,
        "confidence": 0.9,
        "calibration": MEASURED,
        "test": MEASURED,
    },
}
SAID = {"does": "", "headline": []}


@dataclass
class Workspace:
    """One workspace's folder, and the stage on it."""

    root: Path
    images: list[SplitImageRow] = field(default_factory=list)

    def run(self, gallery: int = 4) -> dict:
        paths = Paths(data=self.root / "data", params=self.root / "params.yaml")
        sources, terms = load_sources(paths.params), load_terms(paths.params)
        settings = ReportConfig(gallery=gallery, rejected=2)
        data = self.root / "data"
        return stage.run(settings, sources, terms, paths, data / "report", data / "summaries")

    def read(self, name: str) -> str:
        return (self.root / "data" / "report" / name).read_text(encoding="utf-8")

    def write(self, name: str, value: object) -> None:
        path = self.root / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value))
        record(path)

    def train(self, method: str, map_note: str = "the map is Grad-CAM") -> None:
        """The files that training and evaluation would leave."""
        steps = [
            {
                "step": n,
                "phase": "global" if n < 5 else "joint",
                "loss": 4 - n / 4,
                "terms": {"global": 3.0},
                "lr": 1e-4,
            }
            for n in range(10)
        ]
        validation = [
            {"step": n, "phase": entry["phase"], "loss": 4.25 - n / 4, "terms": {"global": 3.25}}
            for n, entry in enumerate(steps)
            if n % 3 == 2
        ]
        facts = {"phases": ["global", "joint"], "parameters": 1234567, "samples": 8, "skipped": {"unannotated": 2}}
        facts["truncated_texts"] = 0
        self.write(
            f"checkpoints/{method}/curve.json", {"method": method, "steps": steps, "validation": validation, **facts}
        )
        recall = {"value": 0.3125, "low": 0.25, "high": 0.4, "chance": 0.005, "baselines": {}}
        median = {"value": 12.5, "low": None, "high": None, "chance": 105, "baselines": {}}
        retrieval = {
            "status": "ok",
            "reason": None,
            "items": 200,
            "pool": 210,
            "excluded": {"oracle": 40},
            "notes": ["Equal texts count as hits."],
            "metrics": {"t2i_recall@1": recall, "i2t_median_rank": median},
            "definitions": [
                {"metric": "t2i_recall@k", "text": "Fraction of the texts whose image is among the first k."},
                {"metric": "i2t_median_rank", "text": "Median rank."},
            ],
            "verdict": {"does": "retrieves", "headline": ["t2i_recall@k"]},
            "by_source": {"alpha": {"items": 100, "pool": 100, "metrics": {"t2i_recall@1": recall}}},
        }
        ratio = {
            "value": 0.4125,
            "low": 0.38,
            "high": 0.45,
            "chance": 0.0,
            "baselines": {"centre heatmap": 0.5, "corner heatmap": 0.25},
        }
        grounding = {
            "status": "ok",
            "reason": None,
            "items": 150,
            "pool": 0,
            "excluded": {"no_truth_region": 50},
            "notes": [map_note, "intervals resample phrases"],
            "by_source": {},
            "metrics": {"cnr_signed": ratio, "pointing": recall},
            "definitions": [{"metric": "cnr_signed", "text": "Contrast-to-noise ratio."}],
            "verdict": {"does": "grounds phrases", "headline": ["cnr_signed"]},
        }
        skipped = {"status": "skipped", "reason": "no test image has labels", "items": 0, "pool": 0}
        tasks = {
            "retrieval": retrieval,
            "grounding": grounding,
            "zero_shot": {
                **skipped,
                "excluded": {"no_labels": 16},
                "metrics": {},
                "by_source": {},
                "notes": [],
                "definitions": [],
                "verdict": SAID,
            },
        }
        metrics = {"method": method, "checkpoint_sha256": "ab" * 32, "split": "test", "tasks": tasks}
        self.write(f"evaluation/{method}/metrics.json", metrics)

    def segment(self, method: str) -> None:
        """What evaluating a method that segments would leave."""
        self.train(method)
        dice = {"value": 0.625, "low": 0.5, "high": 0.75, "chance": 0.25, "baselines": {}}
        segmentation = {
            "status": "ok",
            "reason": None,
            "items": 30,
            "pool": 0,
            "excluded": {"no_target": 4},
            "notes": [],
            "by_source": {"beta": {"items": 6, "pool": 0, "metrics": {"empty/iou_pooled": dice}}},
            "metrics": {"own/dice_per_image": dice, "laterality/suppression": dice},
            "definitions": [{"metric": "dice_per_image", "text": "Dice."}],
            "verdict": SAID,
            "details": {"items": {"own": 20, "laterality": 5}, "cost": {"macs": 1_234_567, "flops": 2_469_134}},
        }
        metrics = {
            "method": method,
            "checkpoint_sha256": "ab" * 32,
            "split": "test",
            "tasks": {"segmentation": segmentation},
        }
        self.write(f"evaluation/{method}/metrics.json", metrics)
        summary = Summary(f"evaluate-{method}")
        summary.extra["timings"] = {"segmentation": {"latency_cpu_ms": 12.25}}
        summary.write(0, self.root / "data" / "summaries")


def _images(root: Path) -> list[SplitImageRow]:
    rows = []
    generator = np.random.default_rng(1)
    # In the order of their ids, which is that of the table.
    digests = sorted(hashlib.sha256(f"{number}.png".encode()).hexdigest() for number in range(16))
    for number, digest in enumerate(digests):
        source = ("alpha", "beta")[number % 2]
        path = root / "raw" / source / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 99, (40, 60), dtype=np.uint8)).save(path)
        rows.append(
            SplitImageRow(
                image_id=digest[:16],
                source=source,
                path=path.name,
                sha256=sha256_file(path),
                pixel_sha256=digest,
                perceptual_hash=digest,
                width=60,
                height=40,
                modality="ct",
                split_conflict=False,
                rows=1,
                group=f"g{number // 2}",
                split=("train", "train", "validation", "test")[number // 2 % 4],
                leak=False,
            )
        )
    return rows


def _regions(images: list[SplitImageRow]) -> list[RegionRow]:
    mask = np.zeros((40, 60), dtype=bool)
    mask[10:20, 30:50] = True
    kinds = (("input", "accepted", encode(mask)), ("truth", "accepted", None), ("input", "rejected", encode(mask)))
    return [
        RegionRow(
            region_id=f"{row.image_id}-{n}",
            image_id=row.image_id,
            source=row.source,
            n=n,
            role=role,
            proposer="saliency",
            label=ATTACK,
            x0=30.0,
            y0=10.0,
            x1=50.0,
            y1=20.0,
            mask=code,
            area=200,
            score=0.5,
            area_fraction=200 / 2400,
            mask_quality=0.91,
            mask_stability=0.82,
            box_agreement=0.73,
            agreement=0.64,
            probability=0.75,
            round=1 if status == "accepted" else None,
            certified=n == 0 and row.split == "test",
            review="accepted" if n == 0 and row is images[0] else None,
            status=status,
            reason="too_small" if status == "rejected" else None,
        )
        for row in images
        for n, (role, status, code) in enumerate(kinds)
    ]


def _captions(images: list[SplitImageRow], regions: list[RegionRow]) -> list[CaptionRow]:
    prompt = {"captioner": "findings", "prompt_sha256": "cd" * 32}
    rows = []
    for number, image in enumerate(images):
        status = STATUSES[number // 2 % 4]
        text = {} if status == "unannotated" else {"report": f"Report {number}: {ATTACK}", "basis": "report"}
        ids = {"item_id": image.image_id, "image_id": image.image_id, "source": image.source}
        rows.append(CaptionRow(**ids, **prompt, **text, kind="image", status=status, oracle=number == 6))
    faults = {f"{images[number].image_id}-0": changes for number, changes in FAULTS.items()}
    for region in regions:
        if region.status == "accepted":
            row = CaptionRow(
                item_id=region.region_id,
                image_id=region.image_id,
                source=region.source,
                kind="region",
                status="ok",
                region_caption="round | nodule | left upper",
                basis="proposal",
                oracle=region.role == "truth",
                **prompt,
            )
            rows.append(replace(row, **faults.get(region.region_id, {})))
    return rows


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """8 images of `alpha` and 8 of `beta`; no method trained."""
    images = _images(tmp_path)
    regions = _regions(images)
    data = tmp_path / "data"
    pair = NearDuplicateRow(
        image_id=images[0].image_id,
        other_id=images[1].image_id,
        source="alpha",
        other_source="beta",
        distance=3,
        correlation=0.99,
    )
    question = QuestionRow(
        image_id=images[0].image_id,
        source="alpha",
        question_id="1",
        question="Where?",
        answer="left",
        answer_type="open",
    )
    fault = RejectedRow(source="alpha", row="metadata.csv:9", path="x.png", reason="truncated", detail=ATTACK)
    SPLIT_IMAGES.write(data / "split" / "images.parquet", images)
    NEAR_DUPLICATES.write(data / "split" / "near_duplicates.parquet", [pair])
    SPLIT_QUESTIONS.write(data / "split" / "questions.parquet", [question])
    REGIONS.write(data / "regions" / "regions.parquet", regions)
    CAPTIONS.write(data / "captions" / "captions.parquet", by_image(_captions(images, regions)))
    REJECTED.write(data / "ingest" / "alpha" / "rejected.parquet", [fault])
    REJECTED.write(data / "ingest" / "beta" / "rejected.parquet", [])
    sources = {name: {"adapter": "table", "root": str(tmp_path / "raw" / name)} for name in ("alpha", "beta")}
    sources["alpha"]["licence"] = "CC0 1.0"
    ingest = {"sources": sources, "max_pixels": 10_000, "max_failed_fraction": 0.0}
    audit = {"answers": "audit.jsonl", "seed": 0, "regions": 4, "captions": 4, "min_per_stratum": 1, "confidence": 0.95}
    (tmp_path / "audit.jsonl").touch()
    params = {"audit": audit, "ingest": ingest, "train": {"methods": {"clip": {}, "regionmed_clip": {}, "unet": {}}}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    summary = Summary("ingest-alpha")
    summary.ok(8)
    summary.rejected("truncated")
    summary.failed("read_error", 2)
    summary.extra["available"] = 4321
    summary.write(11, data / "summaries")
    summary = Summary("regions")
    summary.ok(32)
    summary.rejected("too_small", 16)
    summary.extra["risk_control"] = RISK_CONTROL
    summary.write(48, data / "summaries")
    return Workspace(tmp_path, images)
