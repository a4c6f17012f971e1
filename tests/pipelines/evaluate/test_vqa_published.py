"""The published split of questions beside that of images: what its heads learn from, and that no test question is."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.evaluate.blind import exchange
from pipelines.evaluate.evaluation_set import EvaluationImage
from pipelines.promotion.paired import value_of
from pipelines.records import ITEMS
from tests.pipelines.evaluate.small_world import WORDS, Collapsed, Matcher, image, task_result, tokenizer_of

TOKENIZER = tokenizer_of([f"which {word} is it bright" for word in WORDS])
# The method knows an image by its grey level, and a question by its word.
WHICH, BRIGHT = "Which jade is it?", "Is the opal bright?"
OPTIONS = {"hidden": 32, "epochs": 40, "learning_rate": 0.01}
COLOURS = ("red", "green", "blue", "black", "white", "grey")
METRICS = ("accuracy", "accuracy_open", "accuracy_closed")


def asked_of(level: int, which: str | None, bright: str | None) -> list[tuple[str | None, ...]]:
    """The open and the closed question about an image, in the splits that they are published in."""
    return [(WHICH, COLOURS[level], "open", which), (BRIGHT, "yes" if level >= 2 else "no", "closed", bright)]


def images_of(split: str, start: int, rows: list[tuple[int, str | None, str | None]]) -> list[dict[str, Any]]:
    return [
        image(row[0], key=f"{start + number:016x}", split=split, questions=asked_of(*row))
        for number, row in enumerate(rows)
    ]


def world() -> list[dict[str, Any]]:
    """White and grey are in no training image: published for training are the one of test, the other of validation."""
    return [
        *images_of("train", 100, [(level % 4, "train", "train") for level in range(40)]),
        *images_of("validation", 200, [(5, "train", "train")] * 4),
        *images_of("test", 300, [(level, "test", "train") for level in range(6)]),
        *images_of("test", 400, [(level, "train", "test") for level in range(5)]),
        *images_of("test", 500, [(4, "train", "train")] * 3),
    ]


def run(folder: Path, images: list[dict[str, Any]], model: Any = None) -> dict[str, Any]:
    return task_result(folder, images, "vqa", OPTIONS, model or Matcher(TOKENIZER), TOKENIZER)


def published(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        name.removeprefix("published/"): score
        for name, score in result["metrics"].items()
        if name.startswith("published/")
    }


def answers(folder: Path) -> dict[str, str | None]:
    """What the heads of the published split answer, by question."""
    rows = ITEMS.read(folder / "out/items.parquet")
    return {row.item: json.loads(row.output or "")["answer"] for row in rows if row.metric == "published/accuracy"}


def test_scores_by_hand_stand_beside_those_of_the_split_of_images(tmp_path: Path) -> None:
    result = run(tmp_path, world())
    found = published(result)
    # Six open questions and five closed ones are published as test, and every answer is one of published training.
    assert {name: score["value"] for name, score in found.items()} == dict.fromkeys(METRICS, 1.0)
    ceilings = {name: score["baselines"]["ceiling: training vocabulary"] for name, score in found.items()}
    assert ceilings == dict.fromkeys(METRICS, 1.0)
    # The training images alone have neither white (five open questions of the test images) nor grey (one of them).
    disjoint = result["metrics"]["accuracy_open"]
    assert disjoint["value"] == disjoint["baselines"]["ceiling: training vocabulary"] == pytest.approx(8 / 14, abs=1e-6)
    # Published training has eleven reds, greens, blues and blacks and four whites and greys: black is the first of the
    # most frequent. Yes is 31 of its 53 closed answers.
    assert {name: score["chance"] for name, score in found.items()} == {
        "accuracy": pytest.approx(4 / 11, abs=1e-6),
        "accuracy_open": pytest.approx(1 / 6, abs=1e-6),
        "accuracy_closed": 0.6,
    }
    # Without the image each question has one answer.
    text_only = {name: score["baselines"]["text-only head"] for name, score in found.items()}
    assert text_only["accuracy_open"] == pytest.approx(1 / 6, abs=1e-6)
    assert text_only["accuracy_closed"] == 0.6
    details = result["details"]
    assert details["items"] == {
        "accuracy": 28,
        "accuracy_open": 14,
        "accuracy_closed": 14,
        "published/accuracy": 11,
        "published/accuracy_open": 6,
        "published/accuracy_closed": 5,
    }
    assert details["published"] == {
        "questions": 11,
        "on_training_images": 11,
        "elsewhere": 0,
        # Of 40 training, 4 validation and 14 test images.
        "training_questions": 80 + 8 + 17,
        "vocabulary": {"answers": 8, "closed": 2, "open": 6},
        "ceiling": ceilings,
    }
    assert details["training_questions"] == 80
    notes = " ".join(result["notes"])
    assert "learn from the 105 questions published as training, and are asked the 11 published as test; 11 of" in notes
    assert "a leak, so that the scores compare with printed ones of this split alone" in notes
    assert "published/...: epochs of training" in notes
    assert "training questions that were held out" in notes
    assert set(result["chosen"]) == {
        *("epochs", "text_only_epochs", "published/epochs", "published/text_only_epochs"),
    }
    leaks = [one["text"] for one in result["definitions"] if one["metric"].startswith("published/")]
    assert len(leaks) == 3
    assert all("it leaks: it compares with printed figures alone" in text for text in leaks)
    rows = ITEMS.read(tmp_path / "out/items.parquet")
    for name, score in found.items():
        assert value_of(rows, f"published/{name}") == pytest.approx(score["value"], abs=1e-6)


def test_the_control_looks_at_other_images_with_the_same_head(tmp_path: Path) -> None:
    images = world()
    # Colours are learnt from test images alone: a control that learnt from others' pictures would know none.
    for one in images:
        if one["split"] != "test":
            one["questions"] = one["questions"][1:]
    levels = [*range(6), *range(5), *[4] * 3, *[number % 5 for number in range(20)]]
    images += images_of("test", 600, [(level, "train", "train") for level in levels[14:]])
    found = published(run(tmp_path, images))
    assert found["accuracy_open"]["value"] == found["accuracy_open"]["baselines"]["ceiling: training vocabulary"]
    plain = [EvaluationImage(f"{number:016x}", "one", None, "ok", None, False) for number in range(len(levels))]
    pairs = [(levels[place], levels[other]) for place, other in enumerate(exchange(plain, 0))]
    right = [COLOURS[own] == COLOURS[seen] for own, seen in pairs[:6]]
    closed = [(own >= 2) == (seen >= 2) for own, seen in pairs[6:11]]
    assert found["accuracy_open"]["baselines"]["image-blind"] == pytest.approx(np.mean(right), abs=1e-6)
    assert found["accuracy_closed"]["baselines"]["image-blind"] == pytest.approx(np.mean(closed), abs=1e-6)
    assert np.mean(right) < 1
    assert np.mean(closed) < 1


def test_no_question_that_is_published_as_test_is_learnt_from(tmp_path: Path) -> None:
    images, others = world(), world()
    # Published as test about a training image, where nobody is asked it.
    for one in others[:4]:
        one["questions"].append((WHICH, "violet", "open", "test"))
    for one in others:
        if one["split"] == "test":
            one["questions"] = [
                (text, "violet" if kind == "open" else "maybe", kind, split)
                if split == "test"
                else (text, answer, kind, split)
                for text, answer, kind, split in one["questions"]
            ]
    first, second = run(tmp_path / "a", images), run(tmp_path / "b", others)
    assert answers(tmp_path / "a") == answers(tmp_path / "b")
    names = ("published/epochs", "published/text_only_epochs")
    assert [first["chosen"][name] for name in names] == [second["chosen"][name] for name in names]
    assert {name: score["value"] for name, score in published(second).items()} == dict.fromkeys(METRICS, 0.0)
    assert second["details"]["published"]["vocabulary"] == first["details"]["published"]["vocabulary"]
    assert second["details"]["published"]["elsewhere"] == 4
    assert any("4 questions published as test are about images of other splits" in note for note in second["notes"])


@pytest.mark.parametrize(
    "splits",
    [
        # No published split of questions; and one that is one of images, as SLAKE's.
        {"train": None, "validation": None, "test": None},
        {"train": "train", "validation": "validation", "test": "test"},
    ],
    ids=["none", "of-images"],
)
def test_a_split_that_parts_no_image_gives_no_scores_of_its_own(tmp_path: Path, splits: dict[str, str | None]) -> None:
    images = world()
    for one in images:
        one["questions"] = [(*asked[:3], splits[one["split"]]) for asked in one["questions"]]
    result = run(tmp_path, images)
    assert set(result["metrics"]) == set(METRICS)
    assert "published" not in result["details"]
    assert set(result["chosen"]) == {"epochs", "text_only_epochs"}
    assert not any(note.startswith("published/") for note in result["notes"])


def test_another_source_takes_no_part(tmp_path: Path) -> None:
    images, others = world(), world()
    more = [
        *images_of("train", 600, [(level, "train", "train") for level in range(4)]),
        *images_of("test", 700, [(level, "test", "test") for level in range(4)]),
    ]
    alone = run(tmp_path / "a", images)
    result = run(tmp_path / "b", [*others, *(one | {"source": "two"} for one in more)])
    assert result["details"]["published"] == alone["details"]["published"]
    assert answers(tmp_path / "a") == answers(tmp_path / "b")
    assert "published/accuracy" in result["by_source"]["one"]["metrics"]
    assert set(result["by_source"]["two"]["metrics"]) == set(METRICS)


def test_a_collapsed_method_guesses(tmp_path: Path) -> None:
    for name, score in published(run(tmp_path, world(), Collapsed())).items():
        assert score["value"] <= 0.6, name
        assert score["value"] == score["baselines"]["image-blind"], name
