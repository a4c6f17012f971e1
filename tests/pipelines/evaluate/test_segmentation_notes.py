"""The notes of the task `segmentation`."""

from pipelines.evaluate.evaluation_set import EvaluationImage
from pipelines.evaluate.segmentation.notes import notes


def test_scores_of_all_settings_are_named_once() -> None:
    texts = {"own": {0: "a"}, "empty": {0: "", 1: ""}}
    baselines = {
        "no pixel": ["own/accuracy", "empty/dice_pooled", "empty/accuracy"],
        "every pixel": ["own/dice_pooled"],
    }
    lines = notes(texts, baselines, {}, [], reads_text=True)
    (chance,) = (line for line in lines if line.startswith("the chance of segmentation"))
    assert chance.endswith(
        "two constant predictions: every pixel for own/dice_pooled; no pixel for accuracy, empty/dice_pooled"
    )


def test_settings_that_are_left_out_are_noted() -> None:
    lines = notes({"empty": {0: ""}}, {}, {}, [], reads_text=False)
    assert lines[0].startswith("the method ignores the text")
    assert "own and shuffled are left out: no test image with a target has a report of its own" in lines
    cut = [EvaluationImage("k", "toy", None, "ok", "a", False, view="frontal", patient_sides=False)]
    lines = notes({"own": {0: "a"}, "empty": {0: ""}}, {}, {0: "no_true_positives"}, cut, reads_text=True)
    assert "left and right in the reports of toy, frontal views, are the image's" in lines
    assert "shuffled is left out: no source has two different reports" in lines
    assert any("0 of these images are scored, no_true_positives 1" in line for line in lines)
