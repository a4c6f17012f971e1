"""A small source with its split tables, and a proposer from outside, for the tests of the stage."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from pipelines.proposals.config import ProposalsConfig
from pipelines.proposals.protocols import Proposal, Query
from pipelines.proposals.stage import run
from pipelines.records import GIVEN_REGIONS, PROPOSALS, SPLIT_IMAGES, rows_of

CONFIG = ProposalsConfig(
    proposers=["saliency"],
    segmenter="threshold",
    labelled_images=100,
    max_proposals=20,
    phrases={"radiograph": ["opacity"], "endoscopy": ["polyp"]},
    terms=[],
    batch_size=3,
    workers=0,
    gpus_per_worker=0,
    max_failed_fraction=0.5,
)
SIDE = 64
FIRST, SECOND = (10, 10, 22, 22), (34, 36, 50, 52)  # the bright squares


def image_id(n: int) -> str:
    return f"{n:016x}"


class World:
    """A source's folder with its split tables, and an result cache."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "raw"
        self.split = folder / "split"
        self.output = folder / "proposals.parquet"
        self.store = folder / "results.sqlite"
        self.summaries = folder / "summaries"
        self.root.mkdir(parents=True)
        self.images: list[dict[str, Any]] = []
        self.given: list[dict[str, Any]] = []

    def image(self, split: str, **columns: Any) -> str:
        """A grey picture with two bright squares, 12 and 16 pixels wide."""
        n = len(self.images)
        values = np.full((SIDE, SIDE), 100, dtype=np.uint8)
        values[10:22, 10:22] = 180
        values[36:52, 34:50] = 180
        Image.fromarray(values).save(self.root / f"{n}.png")
        return self.row(split, SIDE, SIDE, **{"path": f"{n}.png", **columns})

    def row(self, split: str, width: int, height: int, **columns: Any) -> str:
        n = len(self.images)
        row = {
            "image_id": image_id(n),
            "source": "toy",
            "sha256": f"{n:064x}",
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
        self.images.append(row | columns)
        return image_id(n)

    def annotate(self, item: str, **columns: Any) -> None:
        n = sum(row["image_id"] == item for row in self.given)
        self.given.append({"image_id": item, "source": "toy", "n": n, **columns})

    def box(self, item: str, x0: float, y0: float, x1: float, y1: float, **columns: Any) -> None:
        self.annotate(item, x0=x0, y0=y0, x1=x1, y1=y1, **columns)

    def mask(self, name: str, values: np.ndarray) -> str:
        Image.fromarray(values.astype(np.uint8)).save(self.root / name)
        return name

    def run(self, **changes: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        SPLIT_IMAGES.write(SPLIT_IMAGES.frame(self.images), self.split / "images.parquet")
        GIVEN_REGIONS.write(GIVEN_REGIONS.frame(self.given), self.split / "regions.parquet")
        config = dataclasses.replace(CONFIG, **changes)
        summary = run(config, {"toy": self.root}, self.split, self.output, self.store, self.summaries)
        return summary, rows_of(PROPOSALS.read(self.output))


def of(rows: list[dict[str, Any]], item: str, proposer: str) -> list[dict[str, Any]]:
    return [row for row in rows if (row["image_id"], row["proposer"]) == (item, proposer)]


def box_of(row: dict[str, Any]) -> tuple[float, ...]:
    return row["x0"], row["y0"], row["x1"], row["y1"]


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
        assert all(query.given == () for query in queries)
        self.calls.append([query.phrases for query in queries])
        if self.fault:
            self.fault(images)
        return iter([[Proposal(box=(10.0, 10.0, 30.0, 30.0), score=0.5)]] * len(images))
