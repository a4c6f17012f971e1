"""How many images, or questions, a data set has: from the tables of the stage `split`, without a model."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipelines.records import MODALITIES, SPLIT_IMAGES, SPLIT_QUESTIONS, SPLITS

TASK, STAGE = "counts", "split"
TOTAL = "total"
METRICS = (*SPLITS, TOTAL)
FOLDER = Path("data/split")


@dataclass(frozen=True, kw_only=True)
class Counted:
    """What a row counts.

    Attributes:
        data: Data set of `studies/data.yaml`.
        of: Images, or the questions about them, in the split of their image.
        modality: Those of this kind of image alone.
    """

    data: str
    of: Literal["images", "questions"] = "images"
    modality: str | None = None

    def __post_init__(self) -> None:
        if self.modality is not None and self.modality not in MODALITIES:
            raise ValueError(f"modality is '{self.modality}': choose from {', '.join(MODALITIES)}")


@dataclass(frozen=True)
class SplitCounts:
    """Number of images, and of questions, by source, split and kind of image."""

    images: Counter[tuple[str, str, str]]
    questions: Counter[tuple[str, str, str]]

    def of(self, counted: Counted, source: str | None) -> dict[str, int]:
        """Metric -> count.

        Args:
            counted: What is counted.
            source: Of which source; None: of all together.
        """
        counts = self.images if counted.of == "images" else self.questions
        found = dict.fromkeys(METRICS, 0)
        for (of_source, split, modality), count in counts.items():
            if source in (None, of_source) and counted.modality in (None, modality):
                found[split] += count
                found[TOTAL] += count
        return found


def read_counts(workspace: Path) -> SplitCounts | None:
    """What the stage `split` of a workspace found; None: it did not run."""
    images, questions = (workspace / FOLDER / f"{name}.parquet" for name in ("images", "questions"))
    if not images.is_file() or not questions.is_file():
        return None
    counts: Counter[tuple[str, str, str]] = Counter()
    place: dict[str, tuple[str, str]] = {}
    for row in SPLIT_IMAGES.parts(images, ("image_id", "source", "split", "modality")):
        counts[row.source, row.split, row.modality] += 1
        place[row.image_id] = row.split, row.modality
    asked = SPLIT_QUESTIONS.parts(questions, ("source", "question_id", "image_id"))
    return SplitCounts(counts, Counter((row.source, *place[row.image_id]) for row in asked))
