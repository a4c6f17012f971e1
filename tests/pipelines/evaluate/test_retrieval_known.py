"""What is known of each image, the recall that it alone gives, and the baselines that stand beside retrieval."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from models.data.batches import Images
from pipelines.config import parse
from pipelines.evaluate.config import Bootstrap, EvaluateConfig
from pipelines.evaluate.evaluation_set import EvaluationImage, TruthRegion
from pipelines.evaluate.metrics.retrieval import known_recall, majority_recall
from pipelines.evaluate.metrics.text_chance import chance_recall_of_texts, known_recall_of_texts
from pipelines.evaluate.retrieval.known import baseline, ceiling_notes, ceilings, knowledge
from pipelines.evaluate.retrieval.statements import few, label_aucs, number_of_areas, statement_counts, statement_notes
from pipelines.evaluate.stage import evaluate
from tests.pipelines.evaluate.small_world import WORDS, Matcher, image, region, tokenizer_of, write_shards

TOKENIZER = tokenizer_of([f"a finding called {word} left right" for word in WORDS])


def region_of(position: str, term: str = "cyst", adjective: str = "round") -> TruthRegion:
    return TruthRegion(
        number=0,
        region_id="r",
        adjective=adjective,
        term=term,
        position=position,
        caption="",
        negatives=(),
        oracle=True,
    )


def image_of(*regions: TruthRegion, **changes: Any) -> EvaluationImage:
    values = {"key": "a", "source": "s", "labels": ("cyst",) if regions else (), "status": "ok", "report": "A text."}
    values |= {"oracle": False, "annotated": len(regions), "regions": regions, "attributes": {"fat": "thick"}}
    return EvaluationImage(**values | changes)


def expected_recall(groups: list[int], order_of: Any, k: int) -> float:
    """Mean over queries and over all orders of the candidates that `order_of` allows of a right one in the first k."""
    hits = []
    for query in range(len(groups)):
        orders = list(order_of(query))
        hits += [np.mean([any(groups[row] == groups[query] for row in order[:k]) for order in orders])]
    return float(np.mean(hits))


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_recalls_of_what_is_known_equal_the_mean_over_all_orders(k: int) -> None:
    groups, known = [0, 0, 1, 2, 1], [0, 0, 0, 1, 1]

    def orders(query: int) -> Any:
        alike = [row for row in range(5) if known[row] == known[query]]
        others = [row for row in range(5) if known[row] != known[query]]
        return ([*order, *others] for order in itertools.permutations(alike))

    assert known_recall(np.array(groups), np.array(known), k) == pytest.approx(expected_recall(groups, orders, k))


@pytest.mark.parametrize("k", [1, 2, 3, 5, 7])
def test_one_who_knows_ranks_equal_texts_beside_each_other(k: int) -> None:
    # The text 1 is also that of an image of which something else is known.
    groups, known = [0, 0, 1, 2, 1, 3, 3], [0, 0, 0, 1, 1, 1, 1]

    def orders(query: int) -> Any:
        alike = {groups[row] for row in range(7) if known[row] == known[query]}
        others = [row for row in range(7) if groups[row] not in alike]
        for order in itertools.permutations(sorted(alike)):
            yield [*(row for text in order for row in range(7) if groups[row] == text), *others]

    found = known_recall_of_texts(np.array(groups), np.array(known), k)
    assert found == pytest.approx(expected_recall(groups, orders, k))


def test_one_who_knows_nothing_guesses() -> None:
    groups = np.random.default_rng(0).integers(0, 12, 80)
    for k in (1, 5, 10):
        known = known_recall_of_texts(groups, np.full(80, 4), k)
        assert known == pytest.approx(chance_recall_of_texts(groups, k), abs=1e-12)
    # Two texts of 50 images each: one of them is first, however many of its copies are counted.
    halves = np.repeat([0, 1], 50)
    assert known_recall_of_texts(halves, np.zeros(100, int), 10) == 0.5
    assert known_recall_of_texts(halves, halves, 1) == 1
    # The images that a text finds are not equal: ten of them all miss hardly ever.
    assert known_recall(halves, np.zeros(100, int), 10) > 0.999


@pytest.mark.parametrize("k", [1, 2, 3, 4, 6])
def test_the_most_frequent_text_first_equals_the_mean_over_the_orders_of_ties(k: int) -> None:
    groups = [4, 1, 1, 2, 2, 3]

    def orders(query: int) -> Any:
        for frequent in ([1, 2], [2, 1]):
            for rare in ([3, 4], [4, 3]):
                yield [row for text in (*frequent, *rare) for row in range(6) if groups[row] == text]

    assert majority_recall(np.array(groups), k) == pytest.approx(expected_recall(groups, orders, k))


def test_by_hand() -> None:
    groups = np.array([0, 0, 0, 1])
    # Three of four images have the first text; nobody else is right with it.
    assert majority_recall(groups, 1) == 0.75
    assert known_recall(groups, np.array([0, 0, 1, 1]), 1) == (1 + 1 + 0.5 + 0.5) / 4
    assert known_recall(groups, np.zeros(4, int), 1) == (3 * 0.75 + 0.25) / 4


def test_what_is_known_grows_from_the_modality_to_the_shapes() -> None:
    images = [
        image_of(region_of("left upper"), region_of("right lower")),
        image_of(region_of("right lower"), region_of("left upper")),
        image_of(region_of("right lower", term="nodule"), region_of("left upper")),
        image_of(region_of("right lower", adjective="oval"), region_of("left upper")),
        image_of(region_of("left upper")),
        image_of(),
        image_of(attributes={"fat": "thin"}),
        image_of(modality="ct"),
    ]
    found = {names: known.tolist() for names, known in knowledge(images).items()}
    assert found == {
        "modality": [0, 0, 0, 0, 0, 0, 0, 1],
        "modality, traits": [0, 0, 0, 0, 0, 0, 1, 2],
        "modality, traits, normality": [0, 0, 0, 0, 0, 1, 2, 3],
        "modality, traits, normality, cells": [0, 0, 0, 0, 1, 2, 3, 4],
        "modality, traits, normality, cells, terms": [0, 0, 1, 0, 2, 3, 4, 5],
        "modality, traits, normality, cells, terms, shapes": [0, 0, 1, 2, 3, 4, 5, 6],
    }
    # One of 8 different texts: with the modality (7 / 7 + 1 / 1) / 8, with all facts the two alike share one.
    steps = ceilings(knowledge(images), np.arange(8), [1])
    for way in ("i2t", "t2i"):
        assert [step[f"{way}_recall@1"] for step in steps] == [2 / 8, 3 / 8, 4 / 8, 5 / 8, 6 / 8, 7 / 8]
        assert baseline(knowledge(images), np.arange(8), way, 1) == {"ceiling: modality, traits, normality": 0.5}
    assert ceiling_notes(steps)[0].startswith("i2t_recall@1, t2i_recall@1 of one who knows ")
    assert "modality 0.250, 0.250; modality, traits 0.375, 0.375; " in ceiling_notes(steps)[0]
    assert len(ceiling_notes(steps)) == 1


@pytest.mark.parametrize(
    ("changes", "unknown"),
    [
        ({"attributes": {}}, {"traits"}),
        ({"labels": None}, {"normality"}),
        ({"labels": None, "annotated": 0, "regions": ()}, {"normality", "cells", "terms", "shapes"}),
        # A finding without a caption: where it is nobody says.
        ({"annotated": 2}, {"cells", "terms", "shapes"}),
    ],
)
def test_a_fact_that_is_not_known_of_all_images_is_left_out_and_named(changes: dict, unknown: set[str]) -> None:
    images = [image_of(region_of("left upper")), image_of(region_of("left upper"), **changes)]
    last = list(knowledge(images))[-1].split(", ")
    assert {"modality", "traits", "normality", "cells", "terms", "shapes"} - set(last) == unknown
    note = ceiling_notes(ceilings(knowledge(images), np.arange(2), [1]))[1]
    assert note.startswith("not known of every image, or different for most of them: ")
    assert set(note.partition(": ")[2].split(", ")) == unknown
    # That one text in two is right, chance says already.
    assert baseline(knowledge(images), np.arange(2), "i2t", 1) == {}


def test_traits_that_tell_most_images_apart_are_left_out() -> None:
    ages = [image_of(region_of("left upper"), attributes={"age": str(40 + number)}) for number in range(4)]
    sexes = [image_of(region_of("left upper"), attributes={"sex": "fm"[number % 2]}) for number in range(4)]
    assert not any("traits" in names for names in knowledge(ages))
    assert "modality, traits" in knowledge(sexes)


class Normality(Matcher):
    """Embeds an image as the word `normal` is, or as the word that all other images share."""

    def embed_images(self, images: Images) -> Tensor:
        return self._embed(images.pixels * 0)


def retrieval_of(folder: Path, images: list[dict], model: Any) -> dict:
    shards = write_shards(folder / "shards", images)
    values = {"tasks": {"retrieval": {"ks": [1]}}, "batch_size": 4, "bootstrap": {"samples": 50, "seed": 0}}
    config = parse(EvaluateConfig, values, "here")
    evaluate(config, "probe", model, TOKENIZER, "0" * 64, *shards, folder / "out", folder / "summaries")
    return json.loads((folder / "out/metrics.json").read_text())["tasks"]["retrieval"]


def test_a_method_that_knows_the_texts_beats_the_ceiling_and_one_that_sees_nothing_gets_no_more(tmp_path: Path) -> None:
    images = [
        image(n, attributes={"fat": "thick"}, labels=[] if n < 2 else ["spot"], regions=[region(n)] if n >= 2 else [])
        for n in range(10)
    ]
    # Images 8 and 9 have the text of image 7.
    for one in images[8:]:
        one["report"] = images[7]["report"]

    class Knows(Matcher):
        def embed_images(self, pictures: Images) -> Tensor:
            return self._embed(pictures.pixels[..., 9:, 9:])

    scores = retrieval_of(tmp_path / "knows", images[:8], Knows(TOKENIZER))["metrics"]["i2t_recall@1"]
    assert scores["baselines"] == {"ceiling: modality, traits, normality": 0.25, "image-blind": 0}
    assert scores["low"] > 0.25
    blind = retrieval_of(tmp_path / "blind", images, Normality(TOKENIZER))["metrics"]
    # Three of ten images have the most frequent text; of the eight with a finding too, of which one guesses. These have
    # six different texts.
    for name, expected in (
        ("i2t_recall@1", (2 * 1 / 2 + 8 * 1 / 6) / 10),
        ("t2i_recall@1", (2 * 1 / 2 + 3 * 3 / 8 + 5 * 1 / 8) / 10),
    ):
        baselines = blind[name]["baselines"]
        assert baselines["majority text"] == 0.3
        assert baselines["ceiling: modality, traits, normality"] == pytest.approx(expected, abs=1e-6)
        assert blind[name]["high"] <= max(0.3, baselines["image-blind"])


def test_each_source_has_baselines_of_its_own(tmp_path: Path) -> None:
    images = [image(n, word=0 if n < 3 else n, source="one" if n < 4 else "two") for n in range(7)]
    result = retrieval_of(tmp_path, images, Matcher(TOKENIZER))
    assert result["by_source"]["one"]["metrics"]["i2t_recall@1"]["baselines"]["majority text"] == 0.75
    assert "majority text" not in result["by_source"]["two"]["metrics"]["i2t_recall@1"]["baselines"]
    # Five different texts; as a query the frequent one finds one of its three images first in three of seven orders.
    assert result["details"]["ceilings"] == [
        {"known": "modality", "i2t_recall@1": 1 / 5, "t2i_recall@1": pytest.approx((9 + 4) / 49, abs=1e-6)}
    ]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("Bilateral pulmonary infection, two infected areas, upper left lung.", "2"),
        ("Single nodule.", "1"),
        ("1 area on the left.", "1"),
        ("No nodules. Three lesions.", "3"),
        ("Two nodules and one mass.", None),
        ("A nodule of 18 percent of the width.", None),
        ("Three small calcified nodules.", "3"),
        # No number by itself, no count, and no exact one.
        ("twenty-one lesions", None),
        ("2.5 nodules; 1,000 lesions; 1-2 masses", None),
        ("grade 2 lesion in series 3 mass", None),
        ("A grade 2 lesion, two nodules", "2"),
        ("More than one lesion", None),
        ("two or three nodules", None),
    ],
)
def test_the_number_that_a_text_gives(text: str, number: str | None) -> None:
    assert number_of_areas(text) == number


TEXTS = [
    "Unilateral infection, one infected area, left lung.",
    "Unilateral infection, two infected areas, left lung.",
    "Unilateral infection, one infected area, right lung.",
    "Bilateral infection, two infected areas, left lung and right lung.",
]
QUICK = Bootstrap(samples=100, seed=0)


def test_label_auc_of_a_method_that_knows_the_side_alone_and_of_a_blind_one() -> None:
    reports = [TEXTS[n % 4] for n in range(40)]
    groups = np.arange(40) % 4
    assert few(groups)
    assert not few(np.array([0, 0, 1, 2, 3]))
    # The dimensions: left, right, neither.
    side = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)[groups]
    scores = label_aucs(side, side, reports, groups, QUICK)
    assert {name: score.chance for name, score in scores.items()} == {
        "side/label_auc": 0.5,
        "extent/label_auc": 0.5,
        "number/label_auc": 0.5,
    }
    assert (scores["side/label_auc"].value, scores["side/label_auc"].low) == (1, 1)
    # Two areas are left, or both; one is left, or right. So left scores 0, right less, both more:
    # of the four kinds of pairs one is a tie, and three are right.
    assert scores["number/label_auc"].value == 3.5 / 4
    blind = label_aucs(np.ones((40, 3), np.float32) / 3**0.5, side, reports, groups, QUICK)
    assert {score.value for score in blind.values()} == {0.5}
    # The same with the last digit of all that is left: rounding is no sight.
    trembling = np.ones((40, 3), np.float32) / 3**0.5
    trembling[groups < 2, 0] = np.nextafter(trembling[groups < 2, 0], np.float32(1))
    assert {score.value for score in label_aucs(trembling, side, reports, groups, QUICK).values()} == {0.5}
    random = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    guess = label_aucs(random, side, reports, groups, QUICK)["side/label_auc"]
    assert guess.low is not None
    assert guess.high is not None
    assert guess.low <= 0.5 <= guess.high


def test_what_texts_do_not_tell_apart_is_left_out_and_named() -> None:
    reports = ["Infection of the left lung."] * 3 + ["Infection of the right lung."] * 3
    groups = np.array([0, 0, 0, 1, 1, 1])
    embeddings = np.eye(2, dtype=np.float32)[groups]
    assert set(label_aucs(embeddings, embeddings, reports, groups, QUICK)) == {"side/label_auc"}
    counts = statement_counts(reports)
    assert counts == {"side": {"left": 3, "right": 3}, "extent": {"unilateral": 6}, "number": {}}
    notes = statement_notes(counts)
    assert notes[0] == "side/label_auc: images whose text says left 3, right 3"
    assert [note.partition("/")[0] for note in notes if "left out" in note] == ["extent", "number"]


def test_the_task_scores_what_few_texts_say(tmp_path: Path) -> None:
    images = [image(n, report=TEXTS[2 * (n % 2)]) for n in range(8)]
    result = retrieval_of(tmp_path, images, Matcher(TOKENIZER))
    # The words of the reports are none that the method knows: every answer is the same.
    assert result["metrics"]["side/label_auc"]["value"] == 0.5
    assert result["metrics"]["side/label_auc"]["baselines"] == {"image-blind": 0.5}
    assert result["details"]["items"] == {"side": 8, "extent": 8, "number": 8}
    assert "number/label_auc is left out: the texts say no two values of it" in result["notes"]
    assert "side/label_auc" not in retrieval_of(tmp_path / "many", images[:3], Matcher(TOKENIZER))["metrics"]
