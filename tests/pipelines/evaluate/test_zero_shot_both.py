"""Findings and exclusive classes side by side: each as it is by itself."""

from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.evaluate.small_world import WORDS, Matcher, image
from tests.pipelines.evaluate.test_zero_shot_exclusive import EXCLUSIVE, TEMPLATES, TOKENIZER, score

BOTH = {**TEMPLATES, "kind": "both"}


def labelled(number: int, source: str, *words: int) -> dict[str, Any]:
    return image(number, source=source, labels=[WORDS[word] for word in words])


# Of the first source an image has two labels; of the second each has one, and two images are of another level.
SEVERAL = [labelled(0, "several", 0, 1), labelled(1, "several", 1), labelled(2, "several")]
ONE_EACH = [labelled(3, "exclusive", 3), labelled(4, "exclusive", 4), labelled(5, "exclusive", 3)]


def test_each_kind_has_the_scores_that_it_has_alone(tmp_path: Path) -> None:
    images = [*SEVERAL, *ONE_EACH]
    both = score(tmp_path / "both", images, BOTH)
    findings = score(tmp_path / "findings", images, TEMPLATES)
    exclusive = score(tmp_path / "exclusive", images, EXCLUSIVE)
    assert both["metrics"] == findings["metrics"] | exclusive["metrics"]
    assert set(both["metrics"]) == {"auc_macro", "auc_ovr", "accuracy"}
    assert both["verdict"]["headline"] == ["auc_macro", "auc_ovr", "accuracy"]
    # Exclusive classes are of one source: its scores are those of all.
    assert exclusive["by_source"] == {}
    assert set(both["by_source"]["several"]["metrics"]) == {"auc_macro"}
    of_source = both["by_source"]["exclusive"]["metrics"]
    assert of_source["accuracy"] == exclusive["metrics"]["accuracy"]
    assert of_source["auc_macro"] == findings["by_source"]["exclusive"]["metrics"]["auc_macro"]
    assert both["excluded"] == {}
    assert both["items"] == 6


def test_where_one_kind_is_skipped_the_other_stands(tmp_path: Path) -> None:
    both = score(tmp_path / "both", SEVERAL, BOTH)
    assert (both["status"], set(both["metrics"])) == ("ok", {"auc_macro"})
    assert any(
        note.startswith("kind exclusive: no test source has images of several classes") for note in both["notes"]
    )
    none = score(tmp_path / "none", [image(0)], BOTH, Matcher(TOKENIZER))
    assert none["status"] == "skipped"
    assert none["reason"].startswith("kind findings: no test source has a finding")
    assert "; kind exclusive: no test source" in none["reason"]


@pytest.mark.parametrize("kind", ["both", "findings"])
def test_a_source_alone_has_no_scores_by_source(tmp_path: Path, kind: str) -> None:
    assert score(tmp_path, ONE_EACH, {**TEMPLATES, "kind": kind})["by_source"] == {}
