"""The task `vqa` on real shards: who answers what, beside which guesses, on which questions epochs are chosen."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.dummy import DummyClassifier
from sklearn.metrics import accuracy_score
from torch import Tensor

from models.data.batches import Images
from models.data.format import ImageQuestion
from pipelines.config import parse
from pipelines.errors import UserError
from pipelines.evaluate.config import Bootstrap, EvaluateConfig
from pipelines.evaluate.evaluation_set import EvaluationImage
from pipelines.evaluate.stage import evaluate
from pipelines.evaluate.vqa.asked import AskedQuestion, majority_right
from pipelines.promotion.paired import check_metric, difference, value_of
from pipelines.records import ITEMS
from tests.pipelines.evaluate.small_world import (
    WORDS,
    Collapsed,
    ImagesOnly,
    Matcher,
    image,
    tokenizer_of,
    write_shards,
)

TOKENIZER = tokenizer_of([f"a finding called {word} which is it no" for word in WORDS])
# The method knows an image by its grey level, and a question by its word.
WHICH, BRIGHT = "Which jade is it?", "Is the opal bright?"
OPTIONS = {"hidden": 32, "epochs": 40, "learning_rate": 0.01}
COLOURS = ("red", "green", "blue", "black")


class FixedImages(Matcher):
    """Reads the questions alone: every image has the same embedding."""

    def embed_images(self, images: Images) -> Tensor:
        return self._embed(torch.zeros_like(images.pixels))


def asked_of(level: int) -> list[tuple[str, ...]]:
    return [(WHICH, COLOURS[level], "open"), (BRIGHT, "Yes" if level >= 2 else "no", "closed")]


def images_of(split: str, count: int, start: int, **changes: Any) -> list[dict[str, Any]]:
    """Images of the four levels in turn, with an open and a closed question each."""
    return [
        image(
            number % 4,
            key=f"{start + number:016x}",
            split=split,
            questions=asked_of(number % 4),
            **changes,
        )
        for number in range(count)
    ]


def world(train: int = 16, validation: int = 4, test: int = 8) -> list[dict[str, Any]]:
    return [
        *images_of("train", train, 100),
        *images_of("validation", validation, 200),
        *images_of("test", test, 300),
    ]


def run(folder: Path, images: Sequence[dict], model: Any = None, **changes: Any) -> dict[str, Any]:
    """The summary, and of each split what metrics.json says of `vqa`, with the digest of its items."""
    shards = write_shards(folder / "shards", list(images))
    values = {"tasks": {"vqa": OPTIONS}, "batch_size": 3, "bootstrap": {"samples": 50, "seed": 0}, **changes}
    config = parse(EvaluateConfig, values, "params.yaml: evaluate")
    summary = evaluate(
        config, "probe", model or Matcher(TOKENIZER), TOKENIZER, "0" * 64, *shards, folder / "out", folder / "summaries"
    )
    found = {"summary": summary}
    for split, part in (("test", "."), ("validation", "validation")):
        file = folder / "out" / part / "metrics.json"
        if file.is_file():
            metrics = json.loads(file.read_text())
            found[split] = metrics["tasks"].get("vqa", {}) | {"digest": metrics["items_sha256"]}
    return found


def values(result: dict[str, Any]) -> dict[str, float]:
    return {name: score["value"] for name, score in result["metrics"].items()}


def test_a_method_that_reads_both_answers_all_and_the_guesses_stand_beside_it(tmp_path: Path) -> None:
    images = world()
    # Two answers that training lacks, one of them of this type alone.
    images[-1]["questions"] = [*asked_of(3), (WHICH, "violet", "open"), (WHICH, "yes", "open")]
    result = run(tmp_path, images)["test"]
    # 8 images: 16 questions that can be answered, and 2 open ones that cannot.
    assert values(result) == {
        "accuracy": pytest.approx(16 / 18, abs=1e-6),
        "accuracy_open": 0.8,
        "accuracy_closed": 1.0,
    }
    assert (result["items"], result["pool"], result["excluded"]) == (18, 6, {})
    scores = result["metrics"]
    # Majority: of the open answers the first in the alphabet, black (2 of 10); of yes and no, as frequent, no (4 of 8).
    chances = {name: score["chance"] for name, score in scores.items()}
    assert chances == {"accuracy": pytest.approx(6 / 18, abs=1e-6), "accuracy_open": 0.2, "accuracy_closed": 0.5}
    ceilings = {name: score["baselines"]["ceiling: training vocabulary"] for name, score in scores.items()}
    assert ceilings == values(result)
    # Without the image each question has one answer: right for 2 of 10 and 4 of 8.
    text_only = {name: score["baselines"]["text-only head"] for name, score in scores.items()}
    assert (text_only["accuracy_open"], text_only["accuracy_closed"]) == (0.2, 0.5)
    assert all(score["baselines"]["image-blind"] < score["value"] for score in scores.values())
    assert scores["accuracy"]["low"] < scores["accuracy"]["value"] <= scores["accuracy"]["high"]
    assert result["details"] == {
        "items": {"accuracy": 18, "accuracy_open": 10, "accuracy_closed": 8},
        "training_questions": 32,
        "vocabulary": {"answers": 6, "closed": 2, "open": 4},
        "ceiling": ceilings,
        "in_training_groups": 0,
        "published_test": {"questions": 0, "accuracy": None},
    }
    notes = " ".join(result["notes"])
    assert "18 questions on 8 images; the head learnt from 32 training questions" in notes
    assert "16 of 18 questions have their answer among them" in notes
    assert "the intervals resample questions as if they were independent" in notes
    assert "no question is about an image whose patient or scene is known to be in training too" in notes
    assert [one["metric"] for one in result["definitions"]] == ["accuracy", "accuracy_open", "accuracy_closed"]


def test_a_method_that_reads_the_questions_alone_scores_as_its_control(tmp_path: Path) -> None:
    scores = run(tmp_path, world(), FixedImages(TOKENIZER))["test"]["metrics"]
    for name, score in scores.items():
        assert score["value"] == score["baselines"]["image-blind"], name
    assert scores["accuracy_open"]["value"] == 0.25
    assert scores["accuracy_closed"]["value"] == 0.5


def test_a_collapsed_method_guesses(tmp_path: Path) -> None:
    images = world()
    for one in images:
        one["questions"] = [(WHICH, "red" if one["level"] < 30 else "blue", "open"), (BRIGHT, "no", "closed")]
    images[0]["questions"] += [(WHICH, "red", "open")] * 5
    metrics = run(tmp_path, images, Collapsed())["test"]["metrics"]
    for name, score in metrics.items():
        assert score["value"] <= score["chance"], name
    assert {name: score["chance"] for name, score in metrics.items()} == {
        "accuracy": 0.75,
        "accuracy_open": 0.5,
        "accuracy_closed": 1.0,
    }


def test_answers_are_compared_after_normalisation(tmp_path: Path) -> None:
    plain, dressed = world(), world()
    for one in dressed:
        if one["split"] == "test":
            one["questions"] = [(text, f"The {answer.upper()}.", kind) for text, answer, kind in one["questions"]]
    assert values(run(tmp_path / "a", plain)["test"]) == values(run(tmp_path / "b", dressed)["test"])


def test_epochs_are_chosen_on_validation_and_not_on_test(tmp_path: Path) -> None:
    images, others = world(), world()
    for one in others:
        if one["split"] == "test":
            one["questions"] = [(text, "black" if kind == "open" else "no", kind) for text, _, kind in one["questions"]]
    first, second = run(tmp_path / "a", images), run(tmp_path / "b", others)
    assert values(first["test"]) != values(second["test"])
    chosen = first["validation"]["chosen"]
    assert chosen == first["test"]["chosen"] == second["validation"]["chosen"] == second["test"]["chosen"]
    assert set(chosen) == {"epochs", "text_only_epochs"}
    assert 1 <= chosen["epochs"] <= 40
    assert any("the best on the validation split" in note for note in first["test"]["notes"])
    # With a validation split on which nothing is right the first epoch is as good as any.
    for one in others:
        if one["split"] == "validation":
            one["questions"] = [(WHICH, "violet", "open")]
    assert run(tmp_path / "c", others)["test"]["chosen"] == {"epochs": 1, "text_only_epochs": 1}


def test_without_validation_questions_epochs_are_chosen_on_groups_of_training_images(tmp_path: Path) -> None:
    images = world(validation=0)
    # Twenty training images of five patients: one patient's four, with eight questions, are held out.
    images[:16] = [one | {"group": f"{number // 4:016x}"} for number, one in enumerate(images_of("train", 20, 100))]
    result = run(tmp_path / "a", images)
    assert "validation" not in result
    assert any("the best on 8 training questions that were held out" in note for note in result["test"]["notes"])
    assert values(result["test"])["accuracy"] == 1
    for one in images:
        if one["split"] == "test":
            one["questions"] = [(WHICH, "black", "open")]
    assert run(tmp_path / "b", images)["test"]["chosen"] == result["test"]["chosen"]
    # One group alone: nothing can be held out, and all epochs are run. A validation split without questions is none.
    images = [*world(), image(0, key=f"{400:016x}", split="validation")]
    images = [one | {"group": "a" * 16} if one["split"] == "train" else one for one in images]
    for one in images:
        if one["split"] == "validation":
            one["questions"] = []
    result = run(tmp_path / "c", images)
    assert result["validation"]["reason"] == "no image of the split has a question"
    assert result["test"]["chosen"] == {"epochs": 40, "text_only_epochs": 40}
    assert any("there was nothing to choose them on" in note for note in result["test"]["notes"])


def test_questions_about_patients_of_training_images_are_told(tmp_path: Path) -> None:
    images = world()
    images[-1]["group"] = images[0]["key"]
    result = run(tmp_path, images)["test"]
    assert result["details"]["in_training_groups"] == 2
    told = "2 of 16 questions are about images whose patient or scene is in training too"
    assert any(told in note for note in result["notes"])


def test_the_published_split_of_questions_is_told_apart(tmp_path: Path) -> None:
    images = world()
    for number, one in enumerate(images[-8:]):
        one["questions"] = [
            (WHICH, "violet" if number == 0 else COLOURS[number % 4], "open", "test"),
            (BRIGHT, "maybe", "closed", "train"),
        ]
    result = run(tmp_path, images)["test"]
    assert result["details"]["published_test"] == {"questions": 8, "accuracy": 0.875}
    assert any("8 of 16 questions are published in another split than test" in note for note in result["notes"])
    assert any("on the 8 of the published test split accuracy is 0.875" in note for note in result["notes"])


def test_images_without_questions_and_splits_without_any_are_told(tmp_path: Path) -> None:
    images = [*world(), image(0, key=f"{400:016x}"), image(1, key=f"{401:016x}")]
    result = run(tmp_path / "some", images)
    assert result["test"]["excluded"] == {"no_questions": 2}
    assert result["summary"]["reasons"]["rejected"] == {"no_questions": 2}
    asking = [one for one in images if one["split"] == "test"]
    unasked = run(tmp_path / "train", [*images_of("train", 4, 100)[:1], *asking])
    assert unasked["test"]["status"] == "ok"
    silent = run(tmp_path / "silent", [image(0, split="train", key=f"{1:016x}"), *asking])
    assert (silent["test"]["status"], silent["test"]["reason"]) == (
        "skipped",
        "no training image has a question, so that there is no answer to learn",
    )
    assert silent["summary"]["reasons"]["rejected"] == {"no_questions": 2, "task_skipped": 8}
    alone = run(tmp_path / "alone", asking)
    assert alone["test"]["reason"] == silent["test"]["reason"]
    none = run(tmp_path / "none", [one | {"questions": []} for one in images])
    assert (none["test"]["status"], none["test"]["reason"]) == ("skipped", "no image of the split has a question")
    assert none["test"]["excluded"] == {"no_questions": 10}
    lacking = run(tmp_path / "lacking", images, ImagesOnly())
    assert lacking["test"]["reason"] == "the method does not offer EmbedsText"


def test_a_type_that_training_lacks_is_out_of_reach(tmp_path: Path) -> None:
    images = world()
    for one in images:
        if one["split"] == "train":
            one["questions"] = one["questions"][:1]
    result = run(tmp_path, images)["test"]
    assert values(result) == {"accuracy": 0.5, "accuracy_open": 1.0, "accuracy_closed": 0.0}
    closed = result["metrics"]["accuracy_closed"]
    assert (closed["chance"], closed["baselines"]["ceiling: training vocabulary"]) == (0, 0)
    only_open = [one | {"questions": one["questions"][:1]} for one in images]
    assert list(run(tmp_path / "open", only_open)["test"]["metrics"]) == ["accuracy", "accuracy_open"]


def test_sources_are_scored_by_themselves(tmp_path: Path) -> None:
    images = world()
    for one in images[-4:]:
        one |= {"source": "two", "questions": [(WHICH, "violet", "open")]}
    result = run(tmp_path, images)["test"]
    assert {source: scores["items"] for source, scores in result["by_source"].items()} == {"one": 8, "two": 4}
    assert [scores["metrics"]["accuracy"]["value"] for scores in result["by_source"].values()] == [1, 0]
    assert "accuracy_closed" not in result["by_source"]["two"]["metrics"]


def test_every_metric_is_the_mean_of_its_items_and_can_be_a_gate(tmp_path: Path) -> None:
    images = world()
    images[-1]["questions"].append((WHICH, "violet", "open"))
    result = run(tmp_path / "a", images)["test"]
    rows = ITEMS.read(tmp_path / "a/out/items.parquet")
    run(tmp_path / "b", images, Collapsed())
    guessed = ITEMS.read(tmp_path / "b/out/items.parquet")
    for metric, score in result["metrics"].items():
        check_metric(metric, result["metrics"], rows)
        assert value_of(rows, metric) == pytest.approx(score["value"], abs=1e-6)
        paired = difference(rows, guessed, metric, Bootstrap(samples=20, seed=0))
        assert paired is not None
        assert paired.items == result["details"]["items"][metric]
    of_last = [(row.item, row.metric, row.value) for row in rows if row.image_id == images[-1]["key"]]
    key = images[-1]["key"]
    assert of_last == [
        *((f"{key}-0", metric, 1.0) for metric in ("accuracy", "accuracy_open")),
        *((f"{key}-1", metric, 1.0) for metric in ("accuracy", "accuracy_closed")),
        *((f"{key}-2", metric, 0.0) for metric in ("accuracy", "accuracy_open")),
    ]


def test_the_order_of_test_images_and_of_their_questions_changes_no_answer(tmp_path: Path) -> None:
    images = world()
    images[-1]["questions"].append((WHICH, "violet", "open"))
    turned = [
        one | {"key": f"{900 - int(one['key'], 16):016x}", "questions": one["questions"][::-1]}
        if one["split"] == "test"
        else one
        for one in images
    ]
    turned.sort(key=lambda one: one["key"])
    first, second = run(tmp_path / "a", images)["test"], run(tmp_path / "b", turned)["test"]
    assert values(first) == values(second)
    assert [score["chance"] for score in first["metrics"].values()] == [
        score["chance"] for score in second["metrics"].values()
    ]


def test_two_runs_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        run(tmp_path / name, world())
    for file in ("metrics.json", "items.parquet", "validation/metrics.json"):
        assert (tmp_path / "a/out" / file).read_bytes() == (tmp_path / "b/out" / file).read_bytes()


def test_questions_are_part_of_what_scores_compare_by_where_they_are_asked(tmp_path: Path) -> None:
    images, others = world(), world()
    others[-1]["questions"] = others[-1]["questions"][:1]
    retrieval = {"tasks": {"retrieval": {"ks": [1]}}}
    for name, changes, equal in (("vqa", {}, False), ("retrieval", retrieval, True)):
        digests = [
            run(tmp_path / f"{name}{number}", some, **changes)["test"]["digest"]
            for number, some in enumerate((images, others))
        ]
        assert (digests[0] == digests[1]) is equal


def test_majority_and_accuracy_are_those_of_scikit_learn() -> None:
    random = np.random.default_rng(4)

    def drawn(count: int) -> list[AskedQuestion]:
        return [
            AskedQuestion(
                0,
                EvaluationImage("k", "one", None, "ok", None, False),
                ImageQuestion(question_id="k-0", question="?", answer=answer, answer_type=kind),
            )
            for answer, kind in zip(
                random.choice(list("bcdef"), count), random.choice(["open", "closed"], count), strict=True
            )
        ]

    training, asked = drawn(60), drawn(200)
    right = majority_right(training, asked)
    for kind in ("open", "closed"):
        known, truth = (
            [one.question.answer for one in some if one.question.answer_type == kind] for some in (training, asked)
        )
        dummy = DummyClassifier(strategy="most_frequent").fit(np.zeros((len(known), 1)), known)
        expected = accuracy_score(truth, dummy.predict(np.zeros((len(truth), 1))))
        found = right[[one.question.answer_type == kind for one in asked]].mean()
        assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epoch": 3}, r"evaluate\.tasks\.vqa\.epoch: unknown key; did you mean 'epochs'\?"),
        ({"hidden": 0}, "hidden is 0; give 1 or more"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0; give a number above 0"),
    ],
)
def test_mistakes_in_the_options_are_one_clear_line(tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(tmp_path, world(), tasks={"vqa": options})


def test_no_option_is_needed(tmp_path: Path) -> None:
    assert run(tmp_path, world(), tasks={"vqa": {}})["test"]["status"] == "ok"
