"""Small ingested sources for the tests of `split`: real image files, read and hashed as the stage `ingest` does."""

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from pipelines.cuts import Cut
from pipelines.images import decode, image_identity, perceptual_hash, pixel_sha256, thumbnail
from pipelines.opened import opened
from pipelines.records import ANNOTATIONS, IMAGES, NEAR_DUPLICATES, QUESTIONS, SPLIT_IMAGES
from pipelines.split.config import Fractions, NearDuplicates, SplitConfig
from pipelines.split.stage import run
from tests.rows import by_image


def picture(seed: int, size: tuple[int, int] = (96, 96)) -> Image.Image:
    """A smooth random grey image: another seed gives a picture that has nothing to do with it."""
    noise = np.random.default_rng(seed).integers(0, 256, size=(12, 12), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def png(image: Image.Image) -> bytes:
    return _encoded(image, "PNG")


def jpeg(image: Image.Image, quality: int = 80) -> bytes:
    return _encoded(image, "JPEG", quality=quality)


def _encoded(image: Image.Image, kind: str, **options: int) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def image_row(source: str, data: bytes, name: str | None = None, **columns: Any) -> dict[str, Any]:
    """One row of the table `images`; without a name the file has one of its own."""
    image = decode(data)
    sha256 = hashlib.sha256(data).hexdigest()
    return {
        "image_id": image_identity(opened(data), None, Cut()),
        "source": source,
        "path": name or f"{sha256}.png",
        "sha256": sha256,
        "pixel_sha256": pixel_sha256(image),
        "perceptual_hash": perceptual_hash(image),
        "thumbnail": thumbnail(image),
        "width": image.width,
        "height": image.height,
        "modality": "radiograph",
        "split_conflict": False,
        "rows": 1,
        **columns,
    }


def settings(**changes: Any) -> SplitConfig:
    values: dict[str, Any] = {
        "seed": 0,
        "fractions": Fractions(train=0.8, validation=0.1, test=0.1),
        "near_duplicates": NearDuplicates(max_distance=48, min_correlation=0.93),
    }
    return SplitConfig(**(values | changes))


class Workspace:
    """Folders of one run; `split` reads what `ingest` wrote and gives the tables back."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.out = folder / "split"
        self.sources: list[str] = []

    def ingest(self, source: str, images: list[dict], annotations: list[dict] = (), questions: list[dict] = ()) -> None:
        self.sources.append(source)
        for table, rows, name in (
            (IMAGES, images, "images"),
            (ANNOTATIONS, annotations, "annotations"),
            (QUESTIONS, questions, "questions"),
        ):
            table.write(self.folder / "ingest" / source / f"{name}.parquet", by_image(table.row(**row) for row in rows))

    def split(self, **changes: Any) -> dict[str, Any]:
        return run(settings(**changes), self.sources, self.folder / "ingest", self.out, self.folder / "summaries")

    @property
    def images(self) -> pd.DataFrame:
        return SPLIT_IMAGES.frame(SPLIT_IMAGES.read(self.out / "images.parquet")).set_index("image_id")

    @property
    def annotations(self) -> pd.DataFrame:
        return ANNOTATIONS.frame(ANNOTATIONS.read(self.out / "annotations.parquet"))

    @property
    def questions(self) -> pd.DataFrame:
        return QUESTIONS.frame(QUESTIONS.read(self.out / "questions.parquet"))

    @property
    def pairs(self) -> pd.DataFrame:
        return NEAR_DUPLICATES.frame(NEAR_DUPLICATES.read(self.out / "near_duplicates.parquet"))
