"""What is fuzzed: each reader of the product behind one function of some bytes.

A target returns a value that says what came of the input, the same for the same input; it lets through what a boundary
of the product may raise for one (`EXPECTED`), and nothing else may come out of it.
"""

import dataclasses
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from flows.config import ServeConfig
from pipelines import masks as mask_codes
from pipelines.archives import list_files, locate, read_bytes
from pipelines.captions.config import CaptionsConfig
from pipelines.captions.templates import Templates
from pipelines.config import load, load_params
from pipelines.errors import Rejected, UserError
from pipelines.evaluate.config import EvaluateConfig
from pipelines.images import decode, decode_mask, pixel_sha256
from pipelines.ingest.config import IngestConfig
from pipelines.ingest.masks import region_mask
from pipelines.ingest.sources.table import TableSource
from pipelines.params import merged_text
from pipelines.phantom.config import PhantomConfig
from pipelines.promotion.config import PromoteConfig
from pipelines.proposals.config import ProposalsConfig
from pipelines.regions.annotation_tools import ShownImage, ShownRegion
from pipelines.regions.config import RegionsConfig
from pipelines.regions.review import import_labels
from pipelines.report.config import ReportConfig
from pipelines.shards.config import ShardsConfig
from pipelines.split.config import SplitConfig
from pipelines.tracking.config import TrackingConfig
from pipelines.train.config import TrainConfig

from . import fuzz_seeds
from .answers import WORDS, Answers

EXPECTED = (Rejected, UserError)
MAX_PIXELS = 250_000
SIZE = (12, 18)

Target = Callable[[bytes], Any]

_SECTIONS: dict[str, type] = {
    "phantom": PhantomConfig,
    "ingest": IngestConfig,
    "split": SplitConfig,
    "proposals": ProposalsConfig,
    "regions": RegionsConfig,
    "captions": CaptionsConfig,
    "shards": ShardsConfig,
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "report": ReportConfig,
    "tracking": TrackingConfig,
    "promote": PromoteConfig,
    "serve": ServeConfig,
}
# Of the prompt files of both captioners.
_VALUES: dict[str, Any] = {
    **dict.fromkeys(("name", "view", "side", "report", "term", "adjective", "reason", "principal", "position"), "left"),
    "size": "large",
    "labels": ["mass", "nodule"],
    "regions": [{"term": "mass", "box": (1, 2, 3, 4)}],
    "width": 90,
    "height": 80,
    "medium_percent": 2.0,
    "large_percent": 5.0,
    "box": (1, 2, 3, 4),
    "no_finding": False,
}
# The images of the seeds of `reviews`, one with a region.
_SHOWN = {
    fuzz_seeds.IMAGE_ID: ShownImage(size=(18, 12), regions=(ShownRegion(box=(1, 2, 9, 8), label="mass"),)),
    fuzz_seeds.OTHER_ID: ShownImage(size=(18, 12)),
}
_SUFFIXES = {ord("c"): "csv", ord("t"): "tsv", ord("j"): "jsonl"}


class Targets:
    """The targets by name, with their seeds.

    Args:
        root: The project.
        scratch: Folder for the inputs of readers that read files; best in memory.
    """

    def __init__(self, root: Path, scratch: Path) -> None:
        self._root = root
        self._scratch = scratch
        self._calls = 0
        self._answers: Answers | None = None
        # The whole params.yaml would take twenty times as long to read as the input.
        self._base = scratch / "base.yaml"
        self._base.write_text("".join(f"{name}: {{}}\n" for name in _SECTIONS), encoding="utf-8")

    def names(self) -> list[str]:
        return list(self._all())

    def target(self, name: str) -> Target:
        return self._all()[name][0]

    def seeds(self, name: str) -> list[bytes]:
        return self._all()[name][1]()

    def _all(self) -> dict[str, tuple[Target, Callable[[], list[bytes]]]]:
        return {
            "images": (picture, fuzz_seeds.images),
            "masks": (mask, fuzz_seeds.masks),
            "volumes": (picture, fuzz_seeds.volumes),
            "dicom": (picture, fuzz_seeds.dicoms),
            "archives": (self.archive, fuzz_seeds.archives),
            "tables": (self.table, fuzz_seeds.tables),
            "params": (self.params, lambda: fuzz_seeds.params(self._root)),
            "answers": (self.answer, lambda: fuzz_seeds.answers(WORDS)),
            "run_lengths": (run_length, fuzz_seeds.run_lengths),
            "templates": (self.template, lambda: fuzz_seeds.templates(self._root)),
            "reviews": (self.review, fuzz_seeds.reviews),
        }

    def archive(self, data: bytes) -> Any:
        """Every member of a zip or tar, whichever the first byte says."""
        suffix = ".zip" if data[:1] == b"P" else ".tar.gz" if data[:1] == b"\x1f" else ".tar"
        with self._file(f"a{suffix}", data) as file:
            found = []
            for name in list_files(file)[:20]:
                try:
                    found.append((name, hashlib.sha256(read_bytes(file, *locate(file, name))).hexdigest()))
                except Rejected as error:
                    found.append((name, error.reason))
            return found

    def table(self, data: bytes) -> Any:
        """Rows of a table through the adapter; the first byte tells the suffix."""
        suffix = _SUFFIXES.get(data[0] if data else 0, "parquet")
        with self._file(f"metadata.{suffix}", data[1:]) as file:
            return [repr(record) for record in TableSource(file.parent, {}).records()]

    def params(self, data: bytes) -> Any:
        """All sections of a params file, as the stages read them, and the file as an overlay of the project's."""
        with self._file("params.yaml", data) as file:
            found = []
            for name in load_params(file):
                try:
                    found.append(repr(load(_SECTIONS[name], name, file)) if name in _SECTIONS else "")
                except UserError as error:
                    found.append(str(error).replace(str(file), ""))
            return found, merged_text(file, self._base).replace(str(file), "")

    def answer(self, data: bytes) -> Any:
        """What the captioner makes of a server's response; the first byte tells which part of it the rest is."""
        self._answers = self._answers or Answers(self._root, self._scratch)
        self._calls += 1
        return self._answers.describe(data, self._calls)

    def template(self, data: bytes) -> Any:
        """A prompt file, rendered."""
        with self._file("a.txt", data) as file:
            return Templates(file.parent, ["a.txt"]).render("a.txt", _VALUES)

    def review(self, data: bytes) -> Any:
        """An export of a review tool, imported."""
        with self._file("export.json", data) as file:
            labels = file.parent / "review.jsonl"
            import_labels(file, _SHOWN, labels)
            import_labels(file, _SHOWN, labels)
            return labels.read_bytes()

    def _file(self, name: str, data: bytes) -> "_File":
        # A folder of its own for each call: archives stay open in a cache, by name, time and size.
        self._calls += 1
        return _File(self._scratch / f"{os.getpid()}-{self._calls}", name, data)


class _File:
    """An input as a file in a folder of its own, for as long as it is read."""

    def __init__(self, folder: Path, name: str, data: bytes) -> None:
        self._path, self._data = folder / name, data

    def __enter__(self) -> Path:
        self._path.parent.mkdir(parents=True)
        self._path.write_bytes(self._data)
        return self._path

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._path.parent)


def picture(data: bytes) -> Any:
    """An image of any kind: its only frame, or the first."""
    found = []
    for frame in (None, 0):
        try:
            found.append(pixel_sha256(decode(data, frame, MAX_PIXELS)))
        except Rejected as error:
            found.append(error.reason)
    return found


def mask(data: bytes) -> Any:
    """A mask with one region, and the region of one value."""
    stored = decode_mask(data, None, MAX_PIXELS)
    found = []
    for value in (None, 1):
        try:
            found.append(hashlib.sha256(np.packbits(region_mask(stored, value)).tobytes()).hexdigest())
        except Rejected as error:
            found.append(error.reason)
    return found


@dataclasses.dataclass(frozen=True)
class _Marked:
    """What `largest_ious` compares."""

    box: tuple[float, float, float, float]
    mask: str | None


def run_length(data: bytes) -> Any:
    """A run-length code, decoded and compared with another; a table holds it as text."""
    text = data.decode("utf-8", errors="replace")
    regions = [_Marked((0, 0, SIZE[1], SIZE[0]), text)]
    others = [_Marked((1, 1, 5, 5), mask_codes.encode(np.ones(SIZE, bool)))]
    try:
        decoded = mask_codes.decode(text, *SIZE)
        return int(decoded.sum()), mask_codes.largest_ious(regions, others, *SIZE).tolist()
    # The documented error of `decode`; the stages' own codes come from tables that are checked by digest.
    except ValueError as error:
        return str(error)
