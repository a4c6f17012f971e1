"""A small real dataset: image files of two sources with the tables that the earlier stages would have written."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.ingest.config import IngestConfig, SourceConfig
from pipelines.masks import encode
from pipelines.records import CAPTIONS, REGIONS, SPLIT_IMAGES
from pipelines.shards import captions, images
from pipelines.shards.config import ShardsConfig

CONFIG = ShardsConfig(
    image_size=32, crop_size=16, crop_margin=0.25, samples_per_shard=4, quality=90, max_failed_fraction=0.2
)


@dataclass
class Workspace:
    """Paths of one small run, and the two stages on them."""

    root: Path
    config: ShardsConfig = CONFIG

    def __post_init__(self) -> None:
        self.images, self.regions, self.captions = (
            self.root / f"{name}.parquet" for name in ("images", "regions", "captions")
        )
        self.image_shards, self.caption_shards = self.root / "shards" / "images", self.root / "shards" / "captions"
        self.roots = {name: self.root / "raw" / name for name in ("grey", "colour")}

    def run_images(self, output: Path | None = None) -> dict:
        output = output or self.image_shards
        sources = {name: SourceConfig(adapter="table", root=str(root)) for name, root in self.roots.items()}
        ingest = IngestConfig(sources=sources, max_pixels=10_000, max_failed_fraction=0)
        return images.run(self.config, ingest, self.images, self.regions, output, self.root / "summaries")

    def run_captions(self, output: Path | None = None) -> dict:
        output = output or self.caption_shards
        return captions.run(self.captions, self.image_shards, output, self.root / "summaries")

    def write_captions(self, prefix: str) -> None:
        """The caption table, with texts that begin with `prefix`."""
        rows = []
        for row in SPLIT_IMAGES.read(self.images).to_dict("records"):
            where = {"image_id": row["image_id"], "source": row["source"]}
            what = {"basis": "report", "oracle": False, "captioner": "findings", "prompt_sha256": "0" * 64}
            text = {"summary": f"{prefix} summary", "report": f"{prefix} <b>report</b>"}
            rows.append({"item_id": row["image_id"], **where, "kind": "image", "status": "ok", **text, **what})
        for row in REGIONS.read(self.regions).to_dict("records"):
            if row["status"] == "accepted":
                where = {"image_id": row["image_id"], "source": row["source"]}
                what = {"basis": "annotation", "oracle": True, "captioner": "findings", "prompt_sha256": "1" * 64}
                words = {"adjective": prefix, "term": "nodule", "position": "left upper"}
                text = {
                    "region_caption": " | ".join(words.values()),
                    **words,
                    "negatives": [f"no{n}" for n in range(5)],
                }
                rows.append({"item_id": row["region_id"], **where, "kind": "region", "status": "ok", **text, **what})
        CAPTIONS.write(CAPTIONS.frame(rows), self.captions)


def _image_row(image_id: str, source: str, name: str, width: int, height: int, split: str) -> dict:
    digest = hashlib.sha256(image_id.encode()).hexdigest()
    same = {"sha256": digest, "pixel_sha256": digest, "perceptual_hash": digest, "split_conflict": False, "leak": False}
    where = {"image_id": image_id, "source": source, "path": name, "width": width, "height": height, "rows": 1}
    return {**where, **same, "modality": "other", "labels": ["nodule"], "group": f"g{name}", "split": split}


def _region_row(image_id: str, source: str, n: int, role: str, status: str, mask: np.ndarray, boxed: bool) -> dict:
    ys, xs = np.nonzero(mask)
    box = {"x0": xs.min(), "y0": ys.min(), "x1": xs.max() + 1, "y1": ys.max() + 1}
    return {
        "region_id": f"{image_id}-{n}",
        "image_id": image_id,
        "source": source,
        "n": n,
        "role": role,
        "proposer": "annotations",
        "label": "nodule",
        **{name: float(edge) for name, edge in box.items()},
        "mask": None if boxed else encode(mask),
        "area": int(mask.sum()),
        "area_fraction": float(mask.mean()),
        "score": 1.0,
        "certified": False,
        "status": status,
        "reason": "too_small" if status == "rejected" else None,
    }


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
        image_rows.append(_image_row(image_id, source, name, width, height, split))
        mask = np.zeros((height, width), dtype=bool)
        mask[10:20, 5:25] = True
        for n in range(number % 3):
            region_rows.append(_region_row(image_id, source, n, "truth" if n else "input", "accepted", mask, n == 1))
        region_rows.append(_region_row(image_id, source, 7, "input", "rejected", mask, False))
    SPLIT_IMAGES.write(SPLIT_IMAGES.frame(image_rows), made.images)
    REGIONS.write(REGIONS.frame(region_rows), made.regions)
    made.write_captions("round")
    return made
