"""Tables of the split and of proposals made by hand, and the stage run on them."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.masks import encode
from pipelines.records import (
    ANNOTATIONS_PROPOSER,
    PROPOSALS,
    REGIONS,
    SPLIT_IMAGES,
    ProposalRow,
    RegionRow,
    Split,
    SplitImageRow,
)
from pipelines.regions.config import RegionsConfig, RiskControlConfig, SelfTrainingConfig
from pipelines.regions.stage import run
from tests.rows import by_image

CONFIG = RegionsConfig(
    training_regions="annotations",
    min_score=0.05,
    min_side=4,
    min_area_fraction=0.001,
    max_area_fraction=0.5,
    min_mask_stability=0.3,
    max_regions=3,
    nms_iou=0.5,
    min_labelled=20,
    min_probability=0.5,
    risk_control=RiskControlConfig(quantity="region", target_precision=0.7, confidence=0.9, min_calibration_images=20),
    self_training=SelfTrainingConfig(max_rounds=0, pseudo_label_threshold=0.9),
    review=Path(os.devnull),
)
SIDE = 64


def image_id(n: int) -> str:
    return f"{n:016x}"


class World:
    """A source's tables."""

    def __init__(self, folder: Path) -> None:
        self.split_file, self.proposals_file = folder / "images.parquet", folder / "proposals.parquet"
        self.regions_file, self.summaries = folder / "regions.parquet", folder / "summaries"
        self.images: list[SplitImageRow] = []
        self.proposals: list[ProposalRow] = []

    def image(self, split: Split, **columns: Any) -> str:
        """Add an image; its id."""
        name = image_id(len(self.images))
        row = SplitImageRow(
            image_id=name,
            source="toy",
            path=f"{name}.png",
            sha256="0" * 64,
            pixel_sha256="0" * 64,
            perceptual_hash="0" * 64,
            width=SIDE,
            height=SIDE,
            modality="radiograph",
            split_conflict=False,
            rows=1,
            group=name,
            split=split,
            leak=False,
        )
        self.images.append(dataclasses.replace(row, **columns))
        return name

    def propose(self, image_id: str, *box: float, **columns: Any) -> ProposalRow:
        """Add a proposal of `saliency` on an image that nobody annotated, unless columns say otherwise."""
        x0, y0, x1, y1 = box
        area = round((x1 - x0) * (y1 - y0))
        row = ProposalRow(
            image_id=image_id,
            source="toy",
            n=sum(other.image_id == image_id for other in self.proposals),
            proposer="saliency",
            sees_annotations=False,
            own_phrases=False,
            x0=x0,
            y0=y0,
            x1=x1,
            y1=y1,
            area=area,
            area_fraction=min(area / SIDE**2, 1.0),
            score=0.5,
        )
        self.proposals.append(dataclasses.replace(row, **columns))
        return self.proposals[-1]

    def annotate(self, image_id: str, *box: float, **columns: Any) -> ProposalRow:
        annotation = {"proposer": ANNOTATIONS_PROPOSER, "sees_annotations": True, "score": 1.0, "truth_iou": 1.0}
        return self.propose(image_id, *box, **(annotation | columns))

    def add_images(self, split: Split, count: int, seed: int, annotated: bool = True, **columns: Any) -> list[str]:
        """Images with a correct proposal (score about 0.8), two wrong ones (about 0.3), and their annotation."""
        rng = np.random.default_rng(seed)
        ids = []
        for _ in range(count):
            ids.append(self.image(split, **columns))
            if annotated:
                self.annotate(ids[-1], 10, 10, 26, 26, label="nodule")
            for index, (box, correct) in enumerate(
                [((10, 10, 26, 26), True), ((36, 8, 50, 20), False), ((8, 40, 20, 56), False)],
            ):
                score = float(np.clip(rng.normal(0.8 if correct else 0.3, 0.12), 0.06, 0.99))
                iou = (0.9 if correct else 0.1) if annotated else None
                self.propose(ids[-1], *(edge + index / 8 for edge in box), score=score, truth_iou=iou)
        return ids

    def change_proposals(self, change: Callable[[ProposalRow], dict[str, Any]]) -> None:
        """Replace the columns that `change` returns for a proposal."""
        self.proposals = [dataclasses.replace(row, **change(row)) for row in self.proposals]

    def ids_of(self, split: Split) -> set[str]:
        return {image.image_id for image in self.images if image.split == split}

    def write(self) -> None:
        SPLIT_IMAGES.write(self.split_file, self.images)
        PROPOSALS.write(self.proposals_file, by_image(self.proposals))

    def run(self, config: RegionsConfig = CONFIG, **changes: Any) -> tuple[dict[str, Any], list[RegionRow]]:
        self.write()
        settings = dataclasses.replace(config, **changes)
        summary = run(settings, self.split_file, self.proposals_file, self.regions_file, self.summaries)
        return summary, REGIONS.read(self.regions_file)


def study(folder: Path) -> World:
    """A small study with everything: annotated and unannotated training images, validation, test."""
    world = World(folder)
    world.add_images("train", 40, seed=0)
    world.add_images("train", 20, seed=1, annotated=False)
    world.add_images("validation", 60, seed=2)
    world.add_images("test", 40, seed=3)
    return world


def square(x0: int, y0: int, x1: int, y1: int) -> str:
    """A mask, as a run-length code."""
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    mask[y0:y1, x0:x1] = True
    return encode(mask)
