"""The image-blind control: who is exchanged with whom, what a method sees, and who is told from whom by it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from models.data.batches import Images, Tokens
from models.data.shards import ShardSet
from pipelines.config import parse
from pipelines.evaluate.blind import BlindSet, exchange
from pipelines.evaluate.config import EvaluateConfig
from pipelines.evaluate.evaluation_set import EvaluationImage, EvaluationSet
from pipelines.evaluate.stage import evaluate
from tests.pipelines.evaluate.small_world import WORDS, Grounder, image, levels, region, tokenizer_of, write_shards

TOKENIZER = tokenizer_of([f"a finding called {word} no spot left upper" for word in WORDS])
TASKS = {
    "retrieval": {"ks": [1]},
    "region_retrieval": {"ks": [1]},
    "grounding": {},
    "zero_shot": {"templates": ["{label}"], "negatives": ["no {label}"]},
}


class Reader(Grounder):
    """Reads the image: knows the answers. The lower right of an image shows no region."""

    def embed_images(self, images: Images) -> Tensor:
        return self._embed(images.pixels[..., 9:, 9:])

    def segment(self, images: Images, tokens: Tokens) -> Tensor:
        return levels(images.pixels) / 255


class TextAlone(Reader):
    """Gives every image the embedding of its favourite word, and a map of each phrase that no image changes."""

    def embed_images(self, images: Images) -> Tensor:
        return self._embed(torch.zeros_like(images.pixels))

    def embed_regions(self, images: Images) -> Tensor:
        return self._embed(torch.zeros_like(images.crops))

    def ground(self, images: Images, tokens: Tokens) -> Tensor:
        upper_left = torch.zeros(len(images.pixels), 4, 4)
        upper_left[:, :2, :2] = 1 + self.embed_text(tokens).argmax(dim=-1)[:, None, None]
        return upper_left


def images_of(count: int = 8) -> list[dict[str, Any]]:
    places = [(0, 0, 8, 8), (8, 0, 16, 8), (0, 8, 8, 16)]
    return [
        image(
            number,
            source="one" if number < count // 2 else "two",
            labels=[WORDS[number]] if number % 2 else [],
            regions=[region((number + 5) % len(WORDS), places[number % 3])],
        )
        for number in range(count)
    ]


def tasks_of(folder: Path, images: list[dict], model: Any, **changes: Any) -> dict[str, Any]:
    shards = write_shards(folder / "shards", images)
    values = {"tasks": TASKS, "batch_size": 3, "bootstrap": {"samples": 20, "seed": 0}, **changes}
    config = parse(EvaluateConfig, values, "here")
    evaluate(config, "probe", model, TOKENIZER, "0" * 64, *shards, folder / "out", folder / "summaries")
    read = {".": json.loads((folder / "out/metrics.json").read_text())["tasks"]}
    if (folder / "out/validation").is_dir():
        read["validation"] = json.loads((folder / "out/validation/metrics.json").read_text())["tasks"]
    return read


def test_every_image_is_exchanged_with_another_of_its_source() -> None:
    images = truth_of("abacbaa")
    shown = exchange(images, seed=3)
    assert sorted(shown) == list(range(7))
    assert ["abacbaa"[index] for index in shown] == list("abacbaa")
    assert [index for index, other in enumerate(shown) if index == other] == [3]
    assert shown == exchange(images, seed=3)
    assert len({tuple(exchange(truth_of("a" * 9), seed)) for seed in range(5)}) > 1


def truth_of(sources: str, patients: str = "") -> list[EvaluationImage]:
    return [
        EvaluationImage(f"{number}", source, None, "ok", None, False, group=patients[number : number + 1])
        for number, source in enumerate(sources)
    ]


@pytest.mark.parametrize("patients", ["xxyyzzz", "xyzxyzx", "xxxyzuv", "xxxxyyyy"])
def test_every_image_is_exchanged_with_one_of_another_patient(patients: str) -> None:
    for seed in range(6):
        shown = exchange(truth_of("a" * len(patients), patients), seed)
        assert sorted(shown) == list(range(len(patients)))
        assert all(patients[index] != patients[other] for index, other in enumerate(shown))


def test_a_source_of_one_patient_exchanges_its_images_and_a_patient_of_most_images_some() -> None:
    assert all(index != other for index, other in enumerate(exchange(truth_of("aaa", "xxx"), 0)))
    patients = "xxxxxy"
    shown = exchange(truth_of("a" * 6, patients), 0)
    assert all(index != other for index, other in enumerate(shown))
    assert sorted(shown) == list(range(6))


def test_the_method_sees_the_pixels_and_crops_of_the_others_and_the_task_their_owners(tmp_path: Path) -> None:
    images = images_of()
    shards = ShardSet(*write_shards(tmp_path, images), "test")
    model = Reader(TOKENIZER)
    test = EvaluationSet(model, TOKENIZER, shards.samples, 3)
    blind = BlindSet(test, shards.sample, seed=0)
    others = [shards.sample(index) for index in blind.shown]
    assert blind.images == test.images
    exchanged = EvaluationSet(model, TOKENIZER, lambda **_: iter(others), 3)
    np.testing.assert_array_equal(blind.image_embeddings, exchanged.image_embeddings)
    regions = [(index, 0) for index in range(len(images))]
    np.testing.assert_array_equal(blind.region_embeddings(regions), exchanged.region_embeddings(regions))
    phrases = [(index, word) for index in range(len(images)) for word in (WORDS[index], WORDS[index + 5])]
    for ask in ("ground", "segment"):
        seen = list(getattr(blind, ask)(phrases))
        assert [sample.key for sample, _ in seen] == [images[index]["key"] for index, _ in phrases]
        for (_, found), (_, wanted) in zip(seen, getattr(exchanged, ask)(phrases), strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_the_only_image_with_regions_is_shown_itself_and_that_is_told(tmp_path: Path) -> None:
    images = [image(number) for number in range(5)]
    images[1]["regions"] = [region(6), region(7)]
    tasks = tasks_of(tmp_path, images, Reader(TOKENIZER))["."]
    recall = tasks["region_retrieval"]["metrics"]["recall@1"]
    assert recall["value"] == recall["baselines"]["image-blind"] == 1
    assert [note for note in tasks["region_retrieval"]["notes"] if note.startswith("image-blind: 1 image is shown")]
    # Of whole images there are five.
    assert not [note for note in tasks["retrieval"]["notes"] if note.startswith("image-blind: ")]


def test_a_region_is_exchanged_with_one_of_the_next_image_that_has_any(tmp_path: Path) -> None:
    images = [image(number) for number in range(5)]
    images[1]["regions"] = [region(6), region(7)]
    images[4]["regions"] = [region(8)]
    shards = ShardSet(*write_shards(tmp_path, images), "test")
    blind = BlindSet(EvaluationSet(Reader(TOKENIZER), TOKENIZER, shards.samples, 3), shards.sample, seed=0)
    rows = blind.region_embeddings([(1, 0), (1, 1), (4, 0)]).argmax(axis=1).tolist()
    assert rows == [8, 8, 6]


@pytest.mark.parametrize("split", [".", "validation"])
def test_a_method_that_reads_the_image_beats_its_control_in_each_task(tmp_path: Path, split: str) -> None:
    images = images_of() + [
        {**one, "key": f"{100 + number:016x}", "split": "validation"} for number, one in enumerate(images_of())
    ]
    tasks = tasks_of(tmp_path, images, Reader(TOKENIZER))[split]
    for task, metric in (("retrieval", "i2t_recall@1"), ("region_retrieval", "recall@1"), ("grounding", "cnr_signed")):
        for scores in (tasks[task], *tasks[task]["by_source"].values()):
            score = scores["metrics"][metric]
            assert score["low"] > score["baselines"]["image-blind"], (task, metric)
    auc = tasks["zero_shot"]["metrics"]["auc_macro"]
    assert (auc["value"], auc["baselines"]["image-blind"] < 0.5) == (1.0, True)


def test_a_method_that_reads_the_text_alone_equals_its_control_in_each_score(tmp_path: Path) -> None:
    tasks = tasks_of(tmp_path, images_of(), TextAlone(TOKENIZER))["."]
    for name in TASKS:
        assert tasks[name]["status"] == "ok"
        for scores in (tasks[name], *tasks[name]["by_source"].values()):
            for score in scores["metrics"].values():
                assert score["baselines"]["image-blind"] == pytest.approx(score["value"], abs=1e-6)
    # Its maps are above chance: a baseline without the image is needed to see that it looks at none.
    pointing = tasks["grounding"]["metrics"]["pointing"]
    assert pointing["value"] > pointing["chance"]


def test_images_that_another_one_of_the_same_patient_stands_for_are_told(tmp_path: Path) -> None:
    images = [image(number, group="x" if number < 4 else "y") for number in range(5)]
    result = tasks_of(tmp_path, images, Reader(TOKENIZER), tasks={"retrieval": {"ks": [1]}})["."]["retrieval"]
    # Of four images of a patient one sees the other patient's, which one of the four sees in turn.
    assert [note for note in result["notes"] if note.startswith("image-blind: ")] == [
        "image-blind: 3 images are exchanged with others of their patients, for want of another patient of the source "
        "that is asked about"
    ]


def test_an_image_that_is_alone_in_its_source_is_named_and_the_control_may_be_left_out(tmp_path: Path) -> None:
    images = [*(image(number) for number in range(4)), image(5, source="two")]
    tasks = {"retrieval": {"ks": [1]}}
    result = tasks_of(tmp_path / "on", images, Reader(TOKENIZER), tasks=tasks)["."]["retrieval"]
    (note,) = [note for note in result["notes"] if note.startswith("image-blind: ")]
    assert note.startswith("image-blind: 1 image is shown itself, for want of another one")
    # Of the five images four see another one.
    assert result["metrics"]["i2t_recall@1"]["baselines"]["image-blind"] == 0.2
    result = tasks_of(tmp_path / "off", images, Reader(TOKENIZER), tasks=tasks, image_blind=False)["."]["retrieval"]
    assert "image-blind" not in result["metrics"]["i2t_recall@1"]["baselines"]
    assert not [note for note in result["notes"] if "image-blind" in note]
