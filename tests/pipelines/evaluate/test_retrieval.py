"""Which images take part in retrieval."""

import pytest

from pipelines.evaluate.evaluation_set import EvaluationImage
from pipelines.evaluate.task import other_reports_note
from pipelines.evaluate.tasks.retrieval import Retrieval


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"status": "no_finding"}, None),
        ({"status": "unannotated", "report": None}, "unannotated"),
        ({"status": "rejected"}, "caption_rejected"),
        ({"status": "failed"}, "caption_failed"),
        ({"report": None}, "no_text"),
        ({"report": " . "}, "no_text"),
        ({"oracle": True}, "oracle"),
    ],
)
def test_reason_code_by_caption_status_text_and_origin(changes: dict, reason: str | None) -> None:
    values = {"key": "a", "source": "s", "labels": None, "status": "ok", "report": "A text.", "oracle": False}
    assert Retrieval.skip_reason(EvaluationImage(**{**values, **changes})) == reason


def test_a_note_says_which_of_several_reports_is_read() -> None:
    values = {"key": "a", "source": "s", "labels": None, "status": "ok", "report": "A text.", "oracle": False}
    images = [EvaluationImage(**values, other_reports=count) for count in (0, 2, 1)]
    (note,) = other_reports_note(images)
    assert note.startswith("2 of 3 images have more than one report: the first")
    assert other_reports_note(images[:1]) == []
