"""Tables with known rows, and the stage run on them."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from models.geometry import Mask, box_of_mask
from pipelines.captions.captioners.findings import Findings
from pipelines.captions.config import CaptionsConfig, Modality, Sizes
from pipelines.captions.protocols import Settings
from pipelines.captions.stage import run
from pipelines.masks import encode
from pipelines.records import (
    ANNOTATIONS_PROPOSER,
    CAPTIONS,
    MODALITIES,
    REGIONS,
    SPLIT_IMAGES,
    CaptionRow,
    RegionRow,
    SplitImageRow,
)
from pipelines.sources import Sources
from pipelines.workers.config import WorkersConfig

PROMPTS = Path(__file__).resolve().parents[3] / "prompts/findings"
CONFIG = CaptionsConfig(
    captioner="findings",
    prompts=PROMPTS,
    seed=0,
    sizes=Sizes(medium=0.01, large=0.05),
    modalities={name: Modality(name=name, side="patient" if name == "radiograph" else "image") for name in MODALITIES},
    max_failed_fraction=0.0,
)
SIDE = 90
ZERO = "0" * 64
FINDINGS = Findings(
    Settings(
        prompts=PROMPTS, seed=0, options={}, sizes=CONFIG.sizes, roots={}, max_pixels=1, cache=Path("no answer costs")
    )
)


def image_row(image_id: str = "0" * 16, /, **columns: Any) -> SplitImageRow:
    """A frontal training radiograph of 90 x 90 pixels."""
    defaults = {
        "image_id": image_id,
        "source": "toy",
        "path": "x.png",
        "sha256": ZERO,
        "pixel_sha256": ZERO,
        "perceptual_hash": ZERO,
        "width": SIDE,
        "height": SIDE,
        "modality": "radiograph",
        "view": "frontal",
        "split_conflict": False,
        "rows": 1,
        "group": image_id,
        "split": "train",
        "leak": False,
    }
    return SplitImageRow(**(defaults | columns))


def region_row(image_id: str = "0" * 16, n: int = 0, mask: Mask | None = None, /, **columns: Any) -> RegionRow:
    """A region, by default an annotation; its box and its area are those of the mask."""
    defaults: dict[str, Any] = {
        "region_id": f"{image_id}-{n}",
        "image_id": image_id,
        "source": "toy",
        "n": n,
        "role": "input",
        "proposer": ANNOTATIONS_PROPOSER,
        "area": 0,
        "score": 1.0,
        "certified": False,
        "status": "accepted",
    }
    if mask is not None:
        defaults |= dict(zip(("x0", "y0", "x1", "y1"), box_of_mask(mask), strict=True))
        defaults |= {"mask": encode(mask), "area": int(mask.sum()), "area_fraction": float(mask.mean())}
    return RegionRow(**(defaults | columns))


class World:
    """Rows of images and regions in a folder.

    Args:
        folder: Where tables and files are written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.images: list[SplitImageRow] = []
        self.regions: list[RegionRow] = []

    def image(self, split: str = "train", **columns: Any) -> str:
        """An image without a file; its id."""
        self.images.append(image_row(f"{len(self.images):016x}", split=split, **columns))
        return self.images[-1].image_id

    def region(self, item: str, x: int = 5, y: int = 5, side: int = 20, **columns: Any) -> None:
        """A square region with a mask, by default an annotation in the upper left of the image."""
        mask = np.zeros((SIDE, SIDE), dtype=bool)
        mask[y : y + side, x : x + side] = True
        self.mask_region(item, mask, **columns)

    def mask_region(self, item: str, mask: Mask, /, **columns: Any) -> None:
        """A region of any shape, by default an annotation."""
        n = sum(row.image_id == item for row in self.regions)
        self.regions.append(region_row(item, n, mask, **columns))

    def image_file(self, split: str = "train", **columns: Any) -> str:
        """An image whose file exists: noise, another one for each."""
        file = self.folder / "toy" / f"{len(self.images)}.png"
        file.parent.mkdir(exist_ok=True)
        noise = np.random.default_rng(len(self.images)).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(noise).save(file)
        return self.image(
            split, **{"path": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest(), **columns}
        )

    def change_image(self, index: int, **columns: Any) -> None:
        self.images[index] = dataclasses.replace(self.images[index], **columns)

    def change_region(self, index: int, **columns: Any) -> None:
        self.regions[index] = dataclasses.replace(self.regions[index], **columns)

    def write(self) -> tuple[Path, Path]:
        images, regions = self.folder / "data/split/images.parquet", self.folder / "data/regions/regions.parquet"
        SPLIT_IMAGES.write(images, self.images)
        REGIONS.write(regions, self.regions)
        return images, regions

    def run(self, processes: int = 1, **changes: Any) -> tuple[dict[str, Any], dict[str, CaptionRow]]:
        """The stage with so many workers and changed settings; its summary, and the rows of its table by item."""
        sources = Sources(roots={"toy": self.folder / "toy"}, max_pixels=10**6)
        output, cache = self.folder / "captions.parquet", self.folder / "results.sqlite"
        config = dataclasses.replace(CONFIG, **changes)
        workers = WorkersConfig(processes=processes)
        summary = run(config, sources, *self.write(), output, self.folder, cache, workers)
        return summary, {row.item_id: row for row in CAPTIONS.read(output)}
