"""The inputs of the report: paths, tables, summaries and the results of the methods."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.config import PARAMS
from pipelines.files import read_output, read_summary
from pipelines.records import (
    CAPTIONS,
    NEAR_DUPLICATES,
    REGIONS,
    REJECTED,
    SPLIT_IMAGES,
    SPLIT_QUESTIONS,
    CaptionRow,
    NearDuplicateRow,
    QuestionRow,
    RegionRow,
    RejectedRow,
    SplitImageRow,
)

# Stages in the order of the graph; a summary belongs to the first name that it starts with.
STAGES = (
    "code",
    "phantom",
    "ingest",
    "split",
    "proposals",
    "regions",
    "captions",
    "image_shards",
    "caption_shards",
    "train",
    "evaluate",
)


@dataclass(frozen=True, kw_only=True)
class Paths:
    """Where the report's inputs are: `data/` and params.yaml of one workspace."""

    data: Path = Path("data")
    params: Path = PARAMS

    @property
    def tables(self) -> dict[str, Path]:
        split = self.data / "split"
        return {
            "images": split / "images.parquet",
            "questions": split / "questions.parquet",
            "near_duplicates": split / "near_duplicates.parquet",
            "regions": self.data / "regions" / "regions.parquet",
            "captions": self.data / "captions" / "captions.parquet",
        }

    def rejected(self, source: str) -> Path:
        return self.data / "ingest" / source / "rejected.parquet"


@dataclass(frozen=True, kw_only=True)
class Tables:
    """The dataset's tables; `rejected` is of all sources together."""

    images: list[SplitImageRow]
    questions: list[QuestionRow]
    near_duplicates: list[NearDuplicateRow]
    regions: list[RegionRow]
    captions: list[CaptionRow]
    rejected: list[RejectedRow]


def read_tables(paths: Paths, sources: list[str]) -> Tables:
    files = paths.tables
    return Tables(
        images=SPLIT_IMAGES.read(files["images"]),
        questions=SPLIT_QUESTIONS.read(files["questions"]),
        near_duplicates=NEAR_DUPLICATES.read(files["near_duplicates"]),
        regions=REGIONS.read(files["regions"]),
        captions=CAPTIONS.read(files["captions"]),
        rejected=[row for source in sources for row in REJECTED.read(paths.rejected(source))],
    )


def read_summaries(folder: Path) -> list[dict[str, Any]]:
    """Every stage's summary but the report's own, in the order of the graph; a stage without one is left out."""
    summaries = [read_summary(path) for path in sorted(folder.glob("*.json")) if path.stem != "report"]
    return sorted(summaries, key=lambda summary: (_index(summary["stage"]), summary["stage"]))


def read_results(folder: Path, file: str, methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    """`<folder>/<method>/<file>` by method, sorted by name; a method without one is left out."""
    return {name: read_output(path) for name in sorted(methods) if (path := folder / name / file).is_file()}


def _index(stage: str) -> int:
    return next((index for index, name in enumerate(STAGES) if stage.startswith(name)), len(STAGES))
