"""Tables with known rows, and the stage run on them."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from models.geometry import box_of_mask
from pipelines.captions.captioners.findings import Findings
from pipelines.captions.config import CaptionsConfig, Modality, Sizes
from pipelines.captions.protocols import Settings
from pipelines.captions.stage import run
from pipelines.ingest.config import IngestConfig, SourceConfig
from pipelines.masks import encode
from pipelines.records import CAPTIONS, MODALITIES, REGIONS, SPLIT_IMAGES, rows_of

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
        prompts=PROMPTS, seed=0, options={}, sizes=CONFIG.sizes, roots={}, max_pixels=1, store=Path("no answer costs")
    )
)


class World:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.images: list[dict[str, Any]] = []
        self.regions: list[dict[str, Any]] = []

    def image(self, split: str = "train", **columns: Any) -> str:
        item = f"{len(self.images):016x}"
        row = {
            "image_id": item,
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
            "group": item,
            "split": split,
            "leak": False,
        }
        self.images.append(row | columns)
        return item

    def region(self, item: str, x: int = 5, y: int = 5, side: int = 20, **columns: Any) -> None:
        """A square region with a mask, by default an annotation in the upper left of the image."""
        mask = np.zeros((SIDE, SIDE), dtype=bool)
        mask[y : y + side, x : x + side] = True
        self.outline(item, mask, **columns)

    def outline(self, item: str, drawn: np.ndarray, **columns: Any) -> None:
        """A region of any shape, by default an annotation."""
        n = sum(row["image_id"] == item for row in self.regions)
        row = {
            "region_id": f"{item}-{n}",
            "image_id": item,
            "source": "toy",
            "n": n,
            "role": "input",
            "proposer": "annotations",
            **dict(zip(("x0", "y0", "x1", "y1"), box_of_mask(drawn), strict=True)),
            "mask": encode(drawn),
            "area": int(drawn.sum()),
            "area_fraction": float(drawn.mean()),
            "score": 1.0,
            "certified": False,
            "status": "accepted",
        }
        self.regions.append(row | columns)

    def picture(self, split: str = "train", **columns: Any) -> str:
        """An image whose file exists: noise, another one for each."""
        file = self.folder / "toy" / f"{len(self.images)}.png"
        file.parent.mkdir(exist_ok=True)
        noise = np.random.default_rng(len(self.images)).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(noise).save(file)
        return self.image(
            split, **{"path": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest(), **columns}
        )

    def write(self) -> tuple[Path, Path]:
        images, regions = self.folder / "data/split/images.parquet", self.folder / "data/regions/regions.parquet"
        SPLIT_IMAGES.write(SPLIT_IMAGES.frame(self.images), images)
        REGIONS.write(REGIONS.frame(self.regions), regions)
        return images, regions

    def run(self, **changes: Any) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """The stage with changed settings; its summary, and the rows of its table by item."""
        source = SourceConfig(adapter="table", root=str(self.folder / "toy"))
        ingest = IngestConfig(sources={"toy": source}, max_pixels=10**6, max_failed_fraction=0.0)
        output, store = self.folder / "captions.parquet", self.folder / "results.sqlite"
        config = dataclasses.replace(CONFIG, **changes)
        summary = run(config, ingest, *self.write(), output, self.folder, store)
        return summary, {row["item_id"]: row for row in rows_of(CAPTIONS.read(output))}
