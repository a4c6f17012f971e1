"""A small dataset with everything the report shows: two sources, rejections, contradictions, oracle captions."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from pipelines.masks import encode
from pipelines.records import CAPTIONS, NEAR_DUPLICATES, QUESTIONS, REGIONS, REJECTED, SPLIT_IMAGES
from pipelines.report import stage
from pipelines.report.config import ReportConfig, load_terms
from pipelines.report.inputs import Paths
from pipelines.sources import load_sources
from pipelines.stage import Summary

ATTACK = "<script>alert('x')</script> & \"quoted\""
STATUSES = ("ok", "no_finding", "unannotated", "ok")
# What became of the caption of an image's first region; even images are of alpha, odd ones of beta.
FAULTS: dict[int, dict] = {
    2: {"contradiction": "contradicts_side", "attempts": 3},
    4: {"warnings": ["few_words"]},
    8: {"status": "rejected", "reason": "wrong_schema", "raw_answer": f"{ATTACK}\n" + "z" * 3000, "attempts": 3},
    9: {"status": "failed", "reason": "http_500", "attempts": 2},
}
PROMISE = {"ultrasound": {"threshold": 0.625, "precision": 0.8}, "ct": {"threshold": None, "reason": ATTACK}}


@dataclass
class Workspace:
    """One workspace's folder, and the stage on it."""

    root: Path
    images: list[dict] = field(default_factory=list)

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
        self.write(
            f"checkpoints/{method}/curve.json", {"method": method, "steps": steps, "validation": validation, **facts}
        )
        recall = {"value": 0.3125, "low": 0.25, "high": 0.4, "chance": 0.005}
        median = {"value": 12.5, "low": None, "high": None, "chance": 105}
        retrieval = {
            "status": "ok",
            "reason": None,
            "items": 200,
            "pool": 210,
            "excluded": {"oracle": 40},
            "notes": ["Equal texts count as hits."],
            "metrics": {"t2i_recall@1": recall, "i2t_median_rank": median},
            "by_source": {"alpha": {"items": 100, "pool": 100, "metrics": {"t2i_recall@1": recall}}},
        }
        ratio = {"value": 0.4125, "low": 0.38, "high": 0.45, "chance": 0.0}
        grounding = {
            "status": "ok",
            "reason": None,
            "items": 150,
            "pool": 0,
            "excluded": {"no_truth_region": 50},
            "notes": [map_note, "intervals resample phrases"],
            "by_source": {},
            "metrics": {"cnr_signed": ratio, "pointing": recall},
        }
        skipped = {"status": "skipped", "reason": "no test image has labels", "items": 0, "pool": 0}
        tasks = {
            "retrieval": retrieval,
            "grounding": grounding,
            "zero_shot": {**skipped, "metrics": {}, "by_source": {}, "notes": []},
        }
        metrics = {"method": method, "checkpoint_sha256": "ab" * 32, "split": "test", "tasks": tasks}
        self.write(f"evaluation/{method}/metrics.json", metrics)

    def segment(self, method: str) -> None:
        """What evaluating a method that segments would leave."""
        self.train(method)
        dice = {"value": 0.625, "low": 0.5, "high": 0.75, "chance": 0.25}
        found = {
            "status": "ok",
            "reason": None,
            "items": 30,
            "pool": 0,
            "excluded": {"no_target": 4},
            "notes": [],
            "by_source": {"beta": {"items": 6, "pool": 0, "metrics": {"none/iou_pooled": dice}}},
            "metrics": {"given/dice_per_image": dice, "one_side/gone": dice},
            "details": {"items": {"given": 20, "one_side": 5}, "cost": {"macs": 1_234_567, "flops": 2_469_134}},
        }
        metrics = {"method": method, "checkpoint_sha256": "ab" * 32, "split": "test", "tasks": {"segmentation": found}}
        self.write(f"evaluation/{method}/metrics.json", metrics)
        summary = Summary(f"evaluate-{method}")
        summary.extra["timings"] = {"segmentation": {"latency_cpu_ms": 12.25}}
        summary.write(0, self.root / "data" / "summaries")


def _images(root: Path) -> list[dict]:
    rows = []
    generator = np.random.default_rng(1)
    for number in range(16):
        source = ("alpha", "beta")[number % 2]
        path = root / "raw" / source / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 99, (40, 60), dtype=np.uint8)).save(path)
        digest = hashlib.sha256(path.name.encode()).hexdigest()
        same = {"sha256": digest, "pixel_sha256": digest, "perceptual_hash": digest, "split_conflict": False}
        where = {"image_id": digest[:16], "source": source, "path": path.name, "width": 60, "height": 40, "rows": 1}
        split = ("train", "train", "validation", "test")[number // 2 % 4]
        rows.append({**where, **same, "modality": "ct", "group": f"g{number // 2}", "split": split, "leak": False})
    return rows


def _regions(images: list[dict]) -> list[dict]:
    mask = np.zeros((40, 60), dtype=bool)
    mask[10:20, 30:50] = True
    box = {"x0": 30.0, "y0": 10.0, "x1": 50.0, "y1": 20.0}
    kinds = (("input", "accepted", encode(mask)), ("truth", "accepted", None), ("input", "rejected", encode(mask)))
    return [
        {
            "region_id": f"{row['image_id']}-{n}",
            "image_id": row["image_id"],
            "source": row["source"],
            "n": n,
            "role": role,
            "proposer": "saliency",
            "label": ATTACK,
            **box,
            "mask": code,
            "area": 200,
            "score": 0.5,
            "area_fraction": 200 / 2400,
            "mask_quality": 0.91,
            "mask_stability": 0.82,
            "box_agreement": 0.73,
            "agreement": 0.64,
            "probability": 0.75,
            "round": 1 if status == "accepted" else None,
            "certified": n == 0 and row["split"] == "test",
            "review": "accepted" if n == 0 and row is images[0] else None,
            "status": status,
            "reason": "too_small" if status == "rejected" else None,
        }
        for row in images
        for n, (role, status, code) in enumerate(kinds)
    ]


def _captions(images: list[dict], regions: list[dict]) -> list[dict]:
    same = {"captioner": "findings", "prompt_sha256": "cd" * 32}
    rows = []
    for number, row in enumerate(images):
        status = STATUSES[number // 2 % 4]
        text = {} if status == "unannotated" else {"report": f"Report {number}: {ATTACK}", "basis": "report"}
        where = {"item_id": row["image_id"], "image_id": row["image_id"], "source": row["source"], "kind": "image"}
        rows.append({**where, **same, **text, "status": status, "oracle": number == 6})
    for region in regions:
        if region["status"] == "accepted":
            where = {"item_id": region["region_id"], "image_id": region["image_id"], "source": region["source"]}
            text = {
                "region_caption": "round | nodule | left upper",
                "basis": "proposal",
                "oracle": region["role"] == "truth",
            }
            rows.append({**where, **same, **text, "kind": "region", "status": "ok"})
    described = {row["item_id"]: row for row in rows}
    for number, changes in FAULTS.items():
        described[f"{images[number]['image_id']}-0"] |= changes
    return rows


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """8 images of `alpha` and 8 of `beta`; no method trained."""
    images = _images(tmp_path)
    regions = _regions(images)
    data = tmp_path / "data"
    pair = {"image_id": images[0]["image_id"], "other_id": images[1]["image_id"], "distance": 3, "correlation": 0.99}
    question = {"image_id": images[0]["image_id"], "source": "alpha", "question_id": "1", "question": "Where?"}
    SPLIT_IMAGES.write(SPLIT_IMAGES.frame(images), data / "split" / "images.parquet")
    pairs = NEAR_DUPLICATES.frame([{**pair, "source": "alpha", "other_source": "beta"}])
    NEAR_DUPLICATES.write(pairs, data / "split" / "near_duplicates.parquet")
    QUESTIONS.write(
        QUESTIONS.frame([{**question, "answer": "left", "answer_type": "open"}]), data / "split" / "questions.parquet"
    )
    REGIONS.write(REGIONS.frame(regions), data / "regions" / "regions.parquet")
    CAPTIONS.write(CAPTIONS.frame(_captions(images, regions)), data / "captions" / "captions.parquet")
    fault = {"source": "alpha", "row": "metadata.csv:9", "path": "x.png", "reason": "truncated", "detail": ATTACK}
    REJECTED.write(REJECTED.frame([fault]), data / "ingest" / "alpha" / "rejected.parquet")
    REJECTED.write(REJECTED.frame([]), data / "ingest" / "beta" / "rejected.parquet")
    sources = {name: {"adapter": "table", "root": str(tmp_path / "raw" / name)} for name in ("alpha", "beta")}
    sources["alpha"]["licence"] = "CC0 1.0"
    params = {"ingest": {"sources": sources, "max_pixels": 10_000, "max_failed_fraction": 0.0}}
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
    summary.extra["promise"] = PROMISE
    summary.write(48, data / "summaries")
    return Workspace(tmp_path, images)
