"""Which images take part in retrieval, what its notes say of the intervals, and what its plot shows."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import same_color

from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.evaluation_set import EvaluationImage
from pipelines.evaluate.metrics.retrieval import retrieval_ranks, retrieval_scores
from pipelines.evaluate.task import other_reports_note
from pipelines.evaluate.tasks.retrieval import Retrieval, _figure
from tests.pipelines.evaluate.small_world import WORDS, Matcher, image, task_result, tokenizer_of

TOKENIZER = tokenizer_of([f"a finding called {word}" for word in WORDS])


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


def test_a_plot_has_the_chance_of_each_direction_in_its_colour_where_they_differ() -> None:
    ks = [1, 5, 10]
    for groups, lines in ((np.repeat(np.arange(4), 10), 4), (np.arange(40), 3)):
        texts = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)[groups]
        images = np.random.default_rng(1).normal(size=(40, 8)).astype(np.float32)
        scores = retrieval_scores(retrieval_ranks(images, texts, groups), groups, ks, Bootstrap(samples=20, seed=0))
        drawn = {str(line.get_label()): line for line in _figure(scores, ks).axes[0].get_lines()}
        assert len(drawn) == lines
        for name, label in (("i2t", "image to text"), ("t2i", "text to image")):
            chance = drawn["chance" if lines == 3 else f"chance, {label}"]
            assert list(chance.get_ydata()) == [scores[f"{name}_recall@{k}"].chance for k in ks]
            assert chance.get_linestyle() == "--"
            assert same_color(chance.get_color(), drawn[label].get_color()) == (lines == 4)


def test_notes_say_what_the_intervals_take_for_independent(tmp_path: Path) -> None:
    images = [image(number, word=number // 2) for number in range(6)]
    patients = (
        "the intervals resample images, and different texts, as if they were independent; those of one patient are not"
    )
    texts = (
        "the intervals of t2i resample the 3 different texts, each with all of its images, for equal texts have one "
        "embedding"
    )
    result = task_result(tmp_path / "repeated", images, "retrieval", {"ks": [1]}, Matcher(TOKENIZER), TOKENIZER)
    assert {patients, texts} <= set(result["notes"])
    result = task_result(tmp_path / "once", images[::2], "retrieval", {"ks": [1]}, Matcher(TOKENIZER), TOKENIZER)
    assert patients in result["notes"]
    assert not [note for note in result["notes"] if "of t2i" in note]
