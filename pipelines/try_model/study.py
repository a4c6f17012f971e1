"""What a study's training images say: the captions that an image is compared with, and the findings."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from pipelines.records import CAPTIONS, SPLIT_IMAGES

# Texts that are embedded when the page starts: some seconds on two cores.
MAX_CAPTIONS = 500


@dataclass(frozen=True, kw_only=True)
class StudyTexts:
    """Texts of the training split.

    Attributes:
        captions: Summary captions, the most frequent first, at most `MAX_CAPTIONS`.
        distinct: How many different ones there are.
        labels: The findings that the sources name, in alphabetical order.
    """

    captions: tuple[str, ...] = ()
    distinct: int = 0
    labels: tuple[str, ...] = ()


def study_texts(project: Path) -> StudyTexts:
    """Read the captions and labels of a study's training images; there are none where the study was not run.

    Args:
        project: Folder with data/.

    Raises:
        DamagedError: A table is not the one that was written.
    """
    images, captions = project / "data/split/images.parquet", project / "data/captions/captions.parquet"
    if not images.is_file() or not captions.is_file():
        return StudyTexts()
    train = {row.image_id: row.labels for row in SPLIT_IMAGES.read(images) if row.split == "train"}
    counted = Counter(
        row.summary for row in CAPTIONS.rows(captions) if row.summary and not row.oracle and row.image_id in train
    )
    frequent = sorted(counted, key=lambda text: (-counted[text], text))
    labels = sorted({label for found in train.values() for label in found or ()})
    return StudyTexts(captions=tuple(frequent[:MAX_CAPTIONS]), distinct=len(counted), labels=tuple(labels))
