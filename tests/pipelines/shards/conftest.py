"""A small real dataset: image files of two sources with the tables that the earlier stages would have written."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.geometry import box_of_mask
from pipelines.masks import encode
from pipelines.records import CAPTIONS, REGIONS, SPLIT_IMAGES, SPLIT_QUESTIONS, CaptionRow, RegionRow, SplitImageRow
from pipelines.shards import captions, images
from pipelines.shards.config import ShardsConfig
from pipelines.shards.earlier import EarlierTars
from pipelines.sources import Sources
from tests.rows import by_image, with_digests

CONFIG = ShardsConfig(
    image_size=32, crop_size=16, crop_margin=0.25, samples_per_shard=4, quality=90, max_failed_fraction=0.2
)


@dataclass
class Workspace:
    """Paths of one small run, and the two stages on them."""

    root: Path
    config: ShardsConfig = CONFIG
    code: str | None = None  # of runs that take over tars of the run before

    def __post_init__(self) -> None:
        self.images, self.regions, self.captions, self.questions = (
            self.root / f"{name}.parquet" for name in ("images", "regions", "captions", "questions")
        )
        self.image_shards, self.caption_shards = self.root / "shards" / "images", self.root / "shards" / "captions"
        self.roots = {name: self.root / "raw" / name for name in ("grey", "colour")}

    def run_images(self, output: Path | None = None) -> dict:
        output = output or self.image_shards
        sources = Sources(roots=self.roots, max_pixels=10_000)
        tables = self.images, self.regions
        return images.run(self.config, sources, *tables, output, self.root / "summaries", earlier=self._earlier(output))

    def run_captions(self, output: Path | None = None) -> dict:
        output = output or self.caption_shards
        if not self.questions.is_file():
            SPLIT_QUESTIONS.write(self.questions, [])
        tables = self.captions, self.questions
        return captions.run(*tables, self.image_shards, output, self.root / "summaries", earlier=self._earlier(output))

    def _earlier(self, output: Path) -> EarlierTars | None:
        return None if self.code is None else EarlierTars(self.root / "tars" / output.name, self.code)

    def write_captions(self, prefix: str) -> None:
        """The caption table, with texts that begin with `prefix`."""
        rows = [
            CaptionRow(
                item_id=row.image_id,
                image_id=row.image_id,
                source=row.source,
                kind="image",
                status="ok",
                summary=f"{prefix} summary",
                report=f"{prefix} <b>report</b>",
                basis="report",
                oracle=False,
                captioner="findings",
                prompt_sha256="0" * 64,
            )
            for row in SPLIT_IMAGES.read(self.images)
        ]
        rows += [
            CaptionRow(
                item_id=row.region_id,
                image_id=row.image_id,
                source=row.source,
                kind="region",
                status="ok",
                region_caption=f"{prefix} | nodule | left upper",
                adjective=prefix,
                term="nodule",
                position="left upper",
                negatives=tuple(f"no{n}" for n in range(5)),
                basis="annotation",
                oracle=True,
                captioner="findings",
                prompt_sha256="1" * 64,
            )
            for row in REGIONS.read(self.regions)
            if row.status == "accepted"
        ]
        CAPTIONS.write(self.captions, by_image(rows))


def split_image_row(image_id: str, source: str, name: str, width: int, height: int, split: str) -> SplitImageRow:
    digest = hashlib.sha256(image_id.encode()).hexdigest()
    return SplitImageRow(
        image_id=image_id,
        source=source,
        path=name,
        sha256=digest,
        pixel_sha256=digest,
        perceptual_hash=digest,
        width=width,
        height=height,
        modality="other",
        split_conflict=False,
        labels=("nodule",),
        rows=1,
        group=f"g{name}",
        split=split,
        leak=False,
    )


def region_row(image_id: str, source: str, n: int, role: str, outline: np.ndarray, **changes: Any) -> RegionRow:
    """An accepted region that the source outlined."""
    x0, y0, x1, y1 = box_of_mask(outline)
    values = {
        "region_id": f"{image_id}-{n}",
        "proposer": "annotations",
        "label": "nodule",
        "mask": encode(outline),
        "area": int(outline.sum()),
        "area_fraction": float(outline.mean()),
        "score": 1.0,
        "certified": False,
        "status": "accepted",
    }
    where = {"image_id": image_id, "source": source, "n": n, "role": role, "x0": x0, "y0": y0, "x1": x1, "y1": y1}
    return RegionRow(**where, **values | changes)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """22 images of odd sizes (12 train, 4 validation, 6 test) with 0 to 2 accepted regions and a rejected one each."""
    made = Workspace(tmp_path)
    generator = np.random.default_rng(5)
    image_rows, region_rows = [], []
    for number in range(22):
        source = "grey" if number % 2 else "colour"
        width, height = 40 + number, 61 - number
        pixels = generator.integers(0, 255, (height, width) if source == "grey" else (height, width, 3), dtype=np.uint8)
        name = f"{number:02d}.png"
        (made.roots[source] / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(made.roots[source] / name)
        image_id = hashlib.sha256(name.encode()).hexdigest()[:16]
        split = "train" if number < 12 else "validation" if number < 16 else "test"
        image_rows.append(split_image_row(image_id, source, name, width, height, split))
        mask = np.zeros((height, width), dtype=bool)
        mask[10:20, 5:25] = True
        if number % 3 > 0:
            region_rows.append(region_row(image_id, source, 0, "input", mask))
        if number % 3 > 1:
            region_rows.append(region_row(image_id, source, 1, "truth", mask, mask=None))
        region_rows.append(region_row(image_id, source, 7, "input", mask, status="rejected", reason="too_small"))
    SPLIT_IMAGES.write(made.images, by_image(with_digests(image_rows, made.roots)))
    REGIONS.write(made.regions, by_image(region_rows))
    made.write_captions("round")
    return made
