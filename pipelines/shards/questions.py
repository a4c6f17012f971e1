"""The questions of the split's table in the order of the images, as the shards need them.

The table is by source and question_id. Its rows wait on the disk; memory holds some numbers of each.
"""

from array import array
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from models.data.format import ImageQuestion
from pipelines.records import SPLIT_QUESTIONS, QuestionRow
from pipelines.spill import Spill


class QuestionsByImage:
    """The questions of each image that is asked for, by source and question_id.

    Args:
        table: The table `questions` of the split.
        folder: Where they wait.

    Attributes:
        given: How many `of` gave.
    """

    def __init__(self, table: Path, folder: Path) -> None:
        self.given = 0
        self._waiting: Spill[QuestionRow] = Spill(folder)
        numbers = array("Q")
        for row in SPLIT_QUESTIONS.rows(table):
            numbers.append(int(row.image_id, 16))
            self._waiting.add(row)
        images = np.array(numbers, dtype=np.uint64)
        # Stable: the questions of an image stay in the order of the table.
        self._order = np.argsort(images, kind="stable")
        self._images = images[self._order]

    def __len__(self) -> int:
        return len(self._waiting)

    def of(self, image_id: str) -> tuple[ImageQuestion, ...]:
        """The questions about an image, if there are any."""
        number = np.uint64(int(image_id, 16))
        first, last = (int(np.searchsorted(self._images, number, side=side)) for side in ("left", "right"))
        self.given += last - first
        return image_questions(image_id, (self._waiting[int(index)] for index in self._order[first:last]))


def image_questions(image_id: str, rows: Iterable[QuestionRow]) -> tuple[ImageQuestion, ...]:
    """The questions about an image, numbered: a source's own ids may tell what it keeps to itself."""
    return tuple(
        ImageQuestion(
            question_id=f"{image_id}-{number}",
            question=row.question,
            answer=row.answer,
            answer_type=row.answer_type,
            published_split=row.split,
        )
        for number, row in enumerate(rows)
    )
