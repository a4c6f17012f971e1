"""Tables of the split and of proposals made by hand, and the stage run on them."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.masks import encode
from pipelines.records import PROPOSALS, REGIONS, SPLIT_IMAGES, rows_of
from pipelines.regions.config import PromiseConfig, RegionsConfig, RoundsConfig
from pipelines.regions.stage import run

CONFIG = RegionsConfig(
    train="annotations",
    min_score=0.05,
    min_side=4,
    min_area_fraction=0.001,
    max_area_fraction=0.5,
    min_mask_stability=0.3,
    max_regions=3,
    overlap=0.5,
    min_labelled=20,
    min_probability=0.5,
    promise=PromiseConfig(precision=0.7, confidence=0.9, min_calibration=20),
    rounds=RoundsConfig(most=0, accept=0.9),
    review=Path(os.devnull),
)
SIDE = 64
Row = dict[str, Any]


def image_id(n: int) -> str:
    return f"{n:016x}"


class World:
    """A source's tables."""

    def __init__(self, folder: Path) -> None:
        self.split, self.proposals = folder / "images.parquet", folder / "proposals.parquet"
        self.output, self.summaries = folder / "regions.parquet", folder / "summaries"
        self.images: list[Row] = []
        self.rows: list[Row] = []

    def image(self, split: str, **columns: Any) -> str:
        name = image_id(len(self.images))
        row = {
            "image_id": name,
            "source": "toy",
            "path": f"{name}.png",
            "sha256": "0" * 64,
            "pixel_sha256": "0" * 64,
            "perceptual_hash": "0" * 64,
            "width": SIDE,
            "height": SIDE,
            "modality": "radiograph",
            "split_conflict": False,
            "rows": 1,
            "group": name,
            "split": split,
            "leak": False,
        }
        self.images.append(row | columns)
        return name

    def propose(self, item: str, *box: float, **columns: Any) -> Row:
        """A proposal of `saliency` on an image that nobody annotated, unless columns say otherwise."""
        x0, y0, x1, y1 = box
        area = round((x1 - x0) * (y1 - y0))
        row = {
            "image_id": item,
            "source": "toy",
            "n": sum(other["image_id"] == item for other in self.rows),
            "proposer": "saliency",
            "sees_annotations": False,
            "own_phrases": False,
            "x0": x0,
            "y0": y0,
            "x1": x1,
            "y1": y1,
            "area": area,
            "area_fraction": min(area / SIDE**2, 1.0),
            "score": 0.5,
        }
        self.rows.append(row | columns)
        return self.rows[-1]

    def annotate(self, item: str, *box: float, **columns: Any) -> Row:
        given = {"proposer": "annotations", "sees_annotations": True, "score": 1.0, "truth_iou": 1.0}
        return self.propose(item, *box, **(given | columns))

    def crowd(self, split: str, count: int, seed: int, truth: bool = True, **columns: Any) -> list[str]:
        """Images with a right proposal (score about 0.8) and two wrong ones (about 0.3), and their annotation."""
        rng = np.random.default_rng(seed)
        items = []
        for _ in range(count):
            item = self.image(split, **columns)
            items.append(item)
            if truth:
                self.annotate(item, 10, 10, 26, 26, label="nodule")
            for place, (box, right) in enumerate(
                [((10, 10, 26, 26), 1), ((36, 8, 50, 20), 0), ((8, 40, 20, 56), 0)],
            ):
                score = float(np.clip(rng.normal(0.8 if right else 0.3, 0.12), 0.06, 0.99))
                overlap = (0.9 if right else 0.1) if truth else None
                self.propose(item, *(edge + place / 8 for edge in box), score=score, truth_iou=overlap)
        return items

    def write(self) -> None:
        SPLIT_IMAGES.write(SPLIT_IMAGES.frame(self.images), self.split)
        PROPOSALS.write(PROPOSALS.frame(self.rows), self.proposals)

    def run(self, config: RegionsConfig = CONFIG, **changes: Any) -> tuple[Row, list[Row]]:
        self.write()
        settings = dataclasses.replace(config, **changes)
        summary = run(settings, self.split, self.proposals, self.output, self.summaries)
        return summary, rows_of(REGIONS.read(self.output))


def square(x0: int, y0: int, x1: int, y1: int) -> str:
    """A mask, as a run-length code."""
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    mask[y0:y1, x0:x1] = True
    return encode(mask)
