"""The questions of a source; they wait on the disk, with some bytes of each in memory."""

from array import array
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from pipelines.errors import Rejected
from pipelines.ingest.key_index import KeyIndex, hash_of
from pipelines.ingest.record import Question
from pipelines.records import QuestionRow
from pipelines.spill import Spill


class Questions:
    """Questions by their ids, which are unique in a source.

    Args:
        folder: Where they lie while they are needed.

    Attributes:
        repeated: Questions that stood there already, word for word.
    """

    def __init__(self, folder: Path) -> None:
        self._stored: Spill[tuple[Question, ...]] = Spill(folder)  # those of a row together
        self._ids = array("Q")  # row -> image_id
        self._index = KeyIndex()
        self._count = 0
        self.repeated = 0

    def __len__(self) -> int:
        return self._count

    def add(self, image_id: str, questions: Sequence[Question]) -> None:
        """Take in the questions of a row.

        Raises:
            Rejected: repeated_question_id, where an id stands there already with other words, or twice in the row; then
                none is taken in.
        """
        if not questions:
            return
        number = int(image_id, 16)
        by_id = {question.question_id: question for question in questions}
        known = {question_id: self._known(question_id) for question_id in by_id}
        other = any(known[question_id] not in (None, (number, question)) for question_id, question in by_id.items())
        if other or len(by_id) < len(questions):
            where = "in other rows, with other words" if other else "in this row"
            raise Rejected("repeated_question_id", f"questions: an id stands twice, {where}: ids must be unique")
        new = tuple(question for question_id, question in by_id.items() if known[question_id] is None)
        self.repeated += len(by_id) - len(new)
        if new:
            row = self._stored.add(new)
            self._ids.append(number)
            for question in new:
                self._index.add(hash_of(question.question_id), row)
            self._count += len(new)

    def rows(self, source: str) -> Iterator[QuestionRow]:
        """Rows of the table of questions, by image_id and question_id."""
        in_order = np.argsort(np.array(self._ids), kind="stable").tolist()
        for number, rows in groupby(in_order, key=self._ids.__getitem__):
            questions = [question for row in rows for question in self._stored[row]]
            for question in sorted(questions, key=lambda one: one.question_id):
                yield QuestionRow(image_id=f"{number:016x}", source=source, **vars(question))

    def _known(self, question_id: str) -> tuple[int, Question] | None:
        """The question of an id, and the image that it is about."""
        for row in self._index.find(hash_of(question_id)):
            for question in self._stored[row]:
                if question.question_id == question_id:
                    return self._ids[row], question
        return None
