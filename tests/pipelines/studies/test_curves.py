"""Curves by method: what is written in them is what the items say."""

import re

import pytest

from pipelines.records import ItemRow
from pipelines.studies.curves import FINDINGS, few_shot_figure, roc_figure
from tests.pipelines.report.test_plots import item


def items(values: list[float], truth: list[int], label: str = "mass", source: str = "mine") -> list[ItemRow]:
    rows = zip(values, truth, strict=True)
    return [
        item("zero_shot", "cosine", value, str(n), label=label, truth=has, source=source)
        for n, (value, has) in enumerate(rows)
    ]


def texts(svg: bytes | None) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]+)</text>", (svg or b"").decode())


def test_the_area_is_the_fraction_of_pairs_in_order() -> None:
    # Pairs of one with and one without: 3 of 4 are in order, and none.
    methods = {
        "CLIP": items([0.9, 0.8, 0.7, 0.1], [1, 0, 1, 0]),
        "a $b$ & <c>": items([0.1, 0.8, 0.7, 0.9], [1, 0, 1, 0]),
    }
    svg = roc_figure(methods)
    assert {"mass", "CLIP 0.75", "a $b$ &amp; &lt;c&gt; 0.00"} <= set(texts(svg))
    assert roc_figure(methods) == svg


@pytest.mark.parametrize("truth", [[1, 1], [0, 0]])
def test_a_finding_of_all_images_or_of_none_has_no_curve(truth: list[int]) -> None:
    assert roc_figure({"CLIP": items([0.5, 0.6], truth)}) is None
    assert roc_figure({}) is None


def test_of_many_findings_those_with_most_images_are_drawn() -> None:
    rows = [row for n in range(FINDINGS + 3) for row in items([0.5] * (n + 2), [1] * (n + 1) + [0], f"finding {n}")]
    names = {text for text in texts(roc_figure({"CLIP": rows})) if text.startswith("finding")}
    assert names == {f"finding {n}" for n in range(3, FINDINGS + 3)}


def test_few_shot_scores_have_a_panel_for_each_kind() -> None:
    score = {"value": 0.7, "low": 0.6, "high": 0.8, "chance": 0.5}
    svg = few_shot_figure(
        {"CLIP": {"auc_macro@1": score, "auc_macro@all": score}, "SigLIP": {"auc_macro@1": score, "accuracy@5": score}}
    )
    found = texts(svg)
    assert found.count("auc_macro") == found.count("accuracy") == 1
    assert (found.count("CLIP"), found.count("SigLIP")) == (1, 2)
    assert {"1", "5", "all"} <= set(found)
    assert few_shot_figure({}) is None
