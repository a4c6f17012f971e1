"""Which constant answer is whose chance."""

from pipelines.evaluate.segmentation.notes import notes
from pipelines.evaluate.segmentation.one_side import Votes


def test_scores_of_all_settings_are_named_once() -> None:
    texts = {"given": {0: "a"}, "none": {0: "", 1: ""}}
    constant = {
        "no pixel": ["given/accuracy", "none/dice_pooled", "none/accuracy"],
        "every pixel": ["given/dice_pooled"],
    }
    lines = notes(texts, constant, {}, {}, reads=True)
    (chance,) = (line for line in lines if line.startswith("chance"))
    assert chance.endswith(
        "two answers that look at nothing: every pixel for given/dice_pooled; no pixel for accuracy, none/dice_pooled"
    )


def test_settings_that_are_left_out_are_said() -> None:
    lines = notes({"none": {0: ""}}, {}, {}, {}, reads=False)
    assert lines[0].startswith("the method ignores the text")
    assert "given and shuffled are left out: no test image with a target has a report of its own" in lines
    votes = {("toy", "frontal"): Votes(images=2, patients=1)}
    lines = notes({"given": {0: "a"}, "none": {0: ""}}, {}, {0: "nothing_found"}, votes, reads=True)
    assert any("toy, frontal views are the image's: so say 2 of 3 reports" in line for line in lines)
    assert "shuffled is left out: no source has two different reports" in lines
    assert any("right 0 tell, nothing_found 1" in line for line in lines)
