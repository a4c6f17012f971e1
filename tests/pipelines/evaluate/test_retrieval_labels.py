"""Precision over labels and recall among different texts: who is asked about, and the scores of known methods."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.config import parse
from pipelines.errors import UserError
from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.definitions import definition_of
from pipelines.evaluate.evaluation_set import EvaluationImage
from pipelines.evaluate.metrics.retrieval import distinct_ranks, distinct_scores
from pipelines.evaluate.retrieval.labels import (
    SourcePrecision,
    labelled_sources,
    precision_scores,
    query_counts,
    source_precision,
)
from pipelines.evaluate.tasks.retrieval import RetrievalConfig
from pipelines.promotion.paired import check_metric, value_of
from pipelines.records import ITEMS
from tests.pipelines.evaluate.small_world import WORDS, Collapsed, Matcher, image, task_result, tokenizer_of

TOKENIZER = tokenizer_of([f"a finding called {word} no" for word in WORDS])
QUICK = Bootstrap(samples=50, seed=0)
EVERYTHING = {"ks": [1, 2], "precision_ks": [1, 2, 3], "deduplicate": True}


def labelled(source: str, labels: tuple[str, ...] | None) -> EvaluationImage:
    return EvaluationImage("k", source, labels, "ok", "A text.", False)


def score(folder: Path, images: list[dict[str, Any]], options: dict[str, Any], model: Any = None) -> dict[str, Any]:
    return task_result(folder, images, "retrieval", options, model or Matcher(TOKENIZER), TOKENIZER)


def test_a_text_is_right_where_its_image_of_the_same_source_has_the_same_set_of_labels() -> None:
    images = [
        labelled("b", ("mass", "effusion")),
        labelled("a", ("mass",)),
        labelled("b", None),
        labelled("b", ("effusion", "mass")),
        labelled("b", ("mass",)),
        labelled("a", ()),
        labelled("c", ("polyp",)),
        labelled("c", ("polyp",)),
        labelled("a", ("No Finding",)),
        labelled("d", None),
    ]
    found, alike = labelled_sources(images)
    assert [(one.source, one.rows.tolist(), one.labels.tolist()) for one in found] == [
        ("a", [1, 5, 8], [0, 1, 1]),
        ("b", [0, 3, 4], [0, 0, 1]),
    ]
    assert alike == ["c"]


def test_sources_are_pools_by_themselves_and_one_that_is_too_small_for_a_k_has_no_part_in_it() -> None:
    # Each image's own text is the nearest, and all others are equally far.
    images = [labelled("a", ("mass",)), labelled("a", ()), *[labelled("b", label) for label in [(), (), ("mass",)]]]
    vectors = np.eye(5, dtype=np.float32)
    sources, _ = labelled_sources(images)
    found = [source_precision(vectors, vectors, np.arange(5), one, [1, 3], exclude_own=False) for one in sources]
    scores = precision_scores(found, np.arange(5), QUICK)
    assert query_counts(found) == {
        "i2t_precision@1": 5,
        "t2i_precision@1": 5,
        "i2t_precision@3": 3,
        "t2i_precision@3": 3,
    }
    # By hand: chance 1/2 twice and 2/3, 2/3, 1/3; the majority of `a` is a tie, of `b` the images without finding.
    assert scores["i2t_precision@1"].value == 1
    assert scores["i2t_precision@1"].chance == pytest.approx((1 / 2 + 1 / 2 + 2 / 3 + 2 / 3 + 1 / 3) / 5, abs=1e-6)
    assert scores["i2t_precision@1"].baselines == {"majority label": pytest.approx((0.5 + 0.5 + 1 + 1 + 0) / 5)}
    # All three texts are among the first three.
    assert scores["t2i_precision@3"].value == scores["t2i_precision@3"].chance == pytest.approx(5 / 9, abs=1e-6)
    without = [source_precision(vectors, vectors, np.arange(5), one, [1, 3], exclude_own=True) for one in sources]
    assert query_counts(without) == {"i2t_precision@1": 5, "t2i_precision@1": 5}
    chance = precision_scores(without, np.arange(5), QUICK)["i2t_precision@1"].chance
    assert chance == pytest.approx((1 / 2 + 1 / 2) / 5, abs=1e-6)


def test_equal_texts_as_queries_of_precision_are_resampled_together() -> None:
    # Text 7 stands for the first three images, of which two are right; texts 3 and 5 for one each.
    images = [labelled("a", label) for label in [("mass",), ("mass",), (), (), ("mass",)]]
    (labelled_source,), _ = labelled_sources(images)
    values = np.array([1.0, 1.0, 0.0, 0.0, 1.0])
    found = SourcePrecision(
        labelled=labelled_source,
        values={"t2i_precision@1": values, "i2t_precision@1": values},
        chance={"t2i_precision@1": values, "i2t_precision@1": values},
        majority={"t2i_precision@1": values, "i2t_precision@1": values},
    )
    scores = precision_scores([found], np.array([7, 7, 7, 3, 5]), QUICK)
    drawn = np.random.default_rng(0).integers(3, size=(50, 3))
    sums, sizes = np.array([2, 0, 1]), np.array([3, 1, 1])
    expected = np.percentile([sums[row].sum() / sizes[row].sum() for row in drawn], [2.5, 97.5])
    score = scores["t2i_precision@1"]
    assert (score.low, score.high) == pytest.approx(tuple(expected), abs=1e-6)
    assert scores["i2t_precision@1"].low != score.low


def images_of_classes() -> list[dict[str, Any]]:
    """Images 0 and 1 say alpha and look so; 2 and 3 say beta, and 3 looks like alpha; 4 has no labels, and is gamma."""
    return [
        image(0, word=0, labels=["mass"]),
        image(1, word=0, labels=["mass"], level=0, report="A finding called ALPHA"),
        image(2, word=1, labels=[], level=15),
        image(3, word=1, labels=[], level=0),
        image(4, word=2, level=30),
    ]


def test_scores_by_hand_beside_chance_majority_and_the_image_blind_control(tmp_path: Path) -> None:
    result = score(tmp_path, images_of_classes(), EVERYTHING)
    metrics = result["metrics"]
    # Image 3 is nearest to the texts alpha, whose images have another label; the others' nearest two are right.
    assert metrics["i2t_precision@1"]["value"] == metrics["i2t_precision@2"]["value"] == 0.75
    # Both texts alpha tie between the images 0, 1 and 3, of which the wrong one stands first: 0 of 1, 1 of 2, 2 of 3.
    # Both texts beta are nearest to image 2, then to 0, 1 and 3 alike: 1 of 1, 1 of 2, 1 of 3.
    assert [metrics[f"t2i_precision@{k}"]["value"] for k in (1, 2, 3)] == [0.5, 0.5, 0.5]
    assert metrics["i2t_precision@2"]["chance"] == 0.5
    assert metrics["i2t_precision@2"]["baselines"].keys() == {"majority label", "image-blind"}
    assert metrics["i2t_precision@2"]["baselines"]["majority label"] == 0.5
    # Three texts for five images, of which image 3 finds alpha. As a query each text finds an image of its own first,
    # but alpha: image 3 ties with its own two.
    assert (metrics["i2t_distinct_recall@1"]["value"], metrics["i2t_distinct_recall@1"]["chance"]) == (
        0.8,
        pytest.approx(1 / 3, abs=1e-6),
    )
    assert metrics["i2t_distinct_recall@1"]["baselines"]["majority text"] == 0.4
    assert metrics["i2t_distinct_recall@2"]["baselines"]["majority text"] == 0.8
    assert metrics["t2i_distinct_recall@1"]["value"] == pytest.approx(2 / 3, abs=1e-6)
    assert metrics["t2i_distinct_recall@2"]["value"] == 1
    # Of 5 images 2, 2 and 1 are right.
    assert metrics["t2i_distinct_recall@1"]["chance"] == pytest.approx((0.4 + 0.4 + 0.2) / 3, abs=1e-6)
    assert all(definition_of(name, result["definitions"]) for name in metrics)
    items = result["details"]["items"]
    assert (items["i2t_precision@1"], items["t2i_distinct_recall@1"]) == (4, 3)
    (note,) = [note for note in result["notes"] if note.startswith("precision@k is of")]
    assert "4 images (one 4 images, 2 sets of labels)" in note
    assert "left out: 1 images without labels" in note
    rows = [row for row in ITEMS.read(tmp_path / "out" / "items.parquet") if row.task == "retrieval"]
    for name in ("i2t_precision@2", "t2i_precision@3", "i2t_distinct_recall@1", "t2i_distinct_recall@2"):
        assert value_of(rows, name) == pytest.approx(metrics[name]["value"], abs=1e-6)
        check_metric(name, metrics, rows)


def test_without_the_own_text_a_repeated_one_of_the_class_still_counts(tmp_path: Path) -> None:
    options = {"ks": [1], "precision_ks": [1, 3], "exclude_own": True}
    metrics = score(tmp_path, images_of_classes(), options)["metrics"]
    # 0 and 1 find each other's text; 2 finds that of 3; 3, without its own, is nearest to alpha.
    assert metrics["i2t_precision@1"]["value"] == 0.75
    assert metrics["i2t_precision@3"]["value"] == metrics["i2t_precision@3"]["chance"] == pytest.approx(1 / 3, abs=1e-6)


def test_options_that_are_off_leave_every_other_byte_as_it_is(tmp_path: Path) -> None:
    plain = score(tmp_path / "plain", images_of_classes(), {"ks": [1, 2]})
    both = score(tmp_path / "both", images_of_classes(), EVERYTHING)
    added = {name for name in both["metrics"] if "precision" in name or "distinct" in name}
    assert len(added) == 10
    assert {name: value for name, value in both["metrics"].items() if name not in added} == plain["metrics"]
    assert not [note for note in plain["notes"] if "precision" in note]
    rows = [
        [row for row in ITEMS.read(tmp_path / name / "out" / "items.parquet") if row.metric in ("i2t_rank", "t2i_rank")]
        for name in ("plain", "both")
    ]
    assert rows[0] == rows[1]


def test_each_source_has_the_precision_of_its_own_queries(tmp_path: Path) -> None:
    images = [*images_of_classes(), image(5, source="two", labels=["a"]), image(6, source="two", labels=["b"])]
    images += [image(7, source="three", labels=["a"]), image(8, source="three", labels=["a"])]
    result = score(tmp_path, images, EVERYTHING)
    by_source = result["by_source"]
    assert by_source["one"]["metrics"]["i2t_precision@3"]["value"] == pytest.approx(
        result["metrics"]["i2t_precision@3"]["value"]
    )
    assert by_source["two"]["metrics"]["i2t_precision@1"]["value"] == 1
    assert by_source["two"]["metrics"]["i2t_precision@1"]["chance"] == 0.5
    assert not [name for name in by_source["three"]["metrics"] if "precision" in name]
    assert "precision@k leaves out sources whose images all have the same labels: three" in result["notes"]
    assert "precision@k of two is left out for k in [3]: it has 2 candidates" in result["notes"]


def test_a_collapsed_method_scores_at_or_below_chance(tmp_path: Path) -> None:
    metrics = score(tmp_path, images_of_classes(), EVERYTHING, Collapsed())["metrics"]
    found = {name: value for name, value in metrics.items() if "precision" in name or "distinct" in name}
    assert len(found) == 10
    assert all(value["value"] <= value["chance"] for value in found.values())


def test_nothing_to_be_precise_about_is_said(tmp_path: Path) -> None:
    result = score(tmp_path, [image(number) for number in range(3)], {"ks": [1], "precision_ks": [1]})
    assert not [name for name in result["metrics"] if "precision" in name]
    (note,) = [note for note in result["notes"] if "precision" in note]
    assert "0 images (no source)" in note
    assert "3 images without labels" in note


def test_different_texts_by_a_slow_count() -> None:
    random = np.random.default_rng(0)
    # Whole numbers: many similarities are equal.
    groups = random.integers(0, 9, 60)
    images = random.integers(-2, 3, (60, 3)).astype(np.float32)
    texts = random.integers(-2, 3, (9, 3)).astype(np.float32)
    found = distinct_ranks(images, texts[groups], groups)
    similarity = images @ texts.T
    own = [row[group] for row, group in zip(similarity, groups, strict=True)]
    assert found["i2t_distinct"].tolist() == [
        int((row >= value).sum()) for row, value in zip(similarity, own, strict=True)
    ]
    expected = []
    for number in range(9):
        best = similarity[groups == number, number].max()
        expected.append(1 + int((similarity[groups != number, number] >= best).sum()))
    assert found["t2i_distinct"].tolist() == expected
    scores = distinct_scores(found, groups, [1, 9, 10, 61], QUICK)
    assert scores.keys() == {
        *("i2t_distinct_recall@1", "i2t_distinct_recall@9"),
        *(f"t2i_distinct_recall@{k}" for k in (1, 9, 10)),
    }
    assert scores["i2t_distinct_recall@9"].value == scores["i2t_distinct_recall@9"].chance == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision_ks": [0]}, "precision_ks must hold numbers of at least 1"),
        ({"exclude_own": True}, "exclude_own is for precision alone: give precision_ks"),
        ({"ks": []}, "ks must hold numbers of at least 1"),
        ({"precison_ks": [1]}, r"precison_ks: unknown key; did you mean 'precision_ks'\?"),
        ({"deduplicate": 1}, "deduplicate"),
    ],
)
def test_mistyped_options_are_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse(RetrievalConfig, {"ks": [1], **options}, "here")
