"""A small source with its split tables, and a proposer from outside, for the tests of the stage."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from models.geometry import Mask
from models.verified import sha256_file
from pipelines.masks import encode
from pipelines.proposals.config import ProposalsConfig
from pipelines.proposals.protocols import Proposal, Query
from pipelines.proposals.stage import run
from pipelines.records import ANNOTATIONS, PROPOSALS, SPLIT_IMAGES, AnnotationRow, ProposalRow, SplitImageRow
from pipelines.sources import MAX_PIXELS, Sources
from pipelines.workers.config import WorkersConfig

CONFIG = ProposalsConfig(
    proposers=["saliency"],
    segmenter="threshold",
    labelled_images=100,
    max_proposals=20,
    phrases={"radiograph": ["opacity"], "endoscopy": ["polyp"]},
    terms=[],
    batch_size=3,
    gpus_per_worker=0,
    max_failed_fraction=0.5,
)
SIDE = 64
FIRST, SECOND = (10, 10, 22, 22), (34, 36, 50, 52)  # the bright squares


def image_id(n: int) -> str:
    return f"{n:016x}"


class World:
    """A source's folder with its split tables, and a result cache."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "raw"
        self.split = folder / "split"
        self.output = folder / "proposals.parquet"
        self.cache = folder / "results.sqlite"
        self.summaries = folder / "summaries"
        self.root.mkdir(parents=True)
        self.images: list[SplitImageRow] = []
        self.annotations: list[AnnotationRow] = []

    def image(self, split: str, **columns: Any) -> str:
        """A grey image with two bright squares, 12 and 16 pixels wide."""
        n = len(self.images)
        values = np.full((SIDE, SIDE), 100, dtype=np.uint8)
        values[10:22, 10:22] = 180
        values[36:52, 34:50] = 180
        # Equal pixels, but a file of its own: an answer in the result cache is that of the file.
        text = PngInfo()
        text.add_text("number", str(n))
        Image.fromarray(values).save(self.root / f"{n}.png", pnginfo=text)
        return self.row(split, SIDE, SIDE, f"{n}.png", **columns)

    def replace(self, n: int, pixels: Image.Image) -> None:
        """Another file in the place of an image, as if it had been ingested."""
        pixels.save(self.root / f"{n}.png")
        self.images[n] = dataclasses.replace(self.images[n], sha256=sha256_file(self.root / f"{n}.png"))

    def row(self, split: str, width: int, height: int, path: str, **columns: Any) -> str:
        n = len(self.images)
        values = {
            "image_id": image_id(n),
            "source": "toy",
            "path": path,
            "sha256": sha256_file(self.root / path),
            "pixel_sha256": "0" * 64,
            "perceptual_hash": "0" * 64,
            "width": width,
            "height": height,
            "modality": "radiograph",
            "split_conflict": False,
            "rows": 1,
            "group": str(n),
            "split": split,
            "leak": False,
        }
        self.images.append(SplitImageRow(**{**values, **columns}))
        return image_id(n)

    def annotate(self, item: str, **columns: Any) -> None:
        n = sum(row.image_id == item for row in self.annotations)
        self.annotations.append(AnnotationRow(image_id=item, source="toy", n=n, **columns))

    def box(self, item: str, x0: float, y0: float, x1: float, y1: float, **columns: Any) -> None:
        self.annotate(item, x0=float(x0), y0=float(y0), x1=float(x1), y1=float(y1), **columns)

    def mask(self, item: str, mask: Mask, **columns: Any) -> None:
        self.annotate(item, mask=encode(mask), **columns)

    def run(self, processes: int = 1, **changes: Any) -> tuple[dict[str, Any], list[ProposalRow]]:
        SPLIT_IMAGES.write(self.split / "images.parquet", self.images)
        ANNOTATIONS.write(self.split / "annotations.parquet", self.annotations)
        config = dataclasses.replace(CONFIG, **changes)
        summary = run(
            config,
            Sources(roots={"toy": self.root}, max_pixels=MAX_PIXELS),
            self.split,
            self.output,
            self.cache,
            self.summaries,
            WorkersConfig(processes=processes),
        )
        return summary, PROPOSALS.read(self.output)


def of(rows: list[ProposalRow], item: str, proposer: str) -> list[ProposalRow]:
    return [row for row in rows if (row.image_id, row.proposer) == (item, proposer)]


def square(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    mask[y0:y1, x0:x1] = True
    return mask


class Plain:
    """A proposer from outside: one box. It stops, fails or answers nonsense where the tests say so."""

    sees_annotations = False
    uses_phrases = True
    identity = "plain"
    calls: ClassVar[list[list[tuple[str, ...]]]] = []
    fault: ClassVar[Any] = None

    def __init__(self, options: dict[str, Any]) -> None:
        pass

    def propose(self, images: Sequence[Image.Image], queries: Sequence[Query]) -> Iterator[list[Proposal]]:
        assert all(query.annotations == () for query in queries)
        self.calls.append([query.phrases for query in queries])
        if self.fault:
            self.fault(images)
        return iter([[Proposal(box=(10.0, 10.0, 30.0, 30.0), score=0.5)]] * len(images))
