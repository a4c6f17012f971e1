"""Grounding with planted methods: one that finds the lesion must win, one that reads the phrase alone must not."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from models.data.batches import Images, Tokens
from models.data.shards import ShardSet
from pipelines.config import parse
from pipelines.evaluate.config import EvaluateConfig
from pipelines.evaluate.evaluation_set import EvaluationSet
from pipelines.evaluate.grounding.phrases import OWN, SETTINGS, WITHOUT_POSITION, phrases_of
from pipelines.evaluate.grounding.places import Place, named_place, place_heatmap, without_place
from pipelines.evaluate.grounding.training import MeanTrainingMasks
from pipelines.evaluate.stage import evaluate
from tests.pipelines.evaluate.small_world import (
    WORDS,
    Collapsed,
    Grounder,
    Matcher,
    image,
    region,
    tokenizer_of,
    write_shards,
)

VALUES = {"tasks": {"grounding": {}}, "batch_size": 4, "bootstrap": {"samples": 100, "seed": 0}}
CONFIG = parse(EvaluateConfig, VALUES, "here")
TOKENIZER = tokenizer_of([f"a finding called {word} spot left right upper lower" for word in WORDS])
CORNERS = {
    "left upper": (0, 0, 4, 4),
    "right upper": (12, 0, 16, 4),
    "left lower": (0, 12, 4, 16),
    "right lower": (12, 12, 16, 16),
}
METRICS = ("pointing", "which_lesion", "cnr_signed", "cnr_absolute", "iou")


def pictures(split: str, first: int) -> list[dict[str, Any]]:
    """Two regions and a look-alike in corners that take turns: a word says nothing of the place."""
    places = list(CORNERS)
    images = []
    for number in range(8):
        one, other, third = (places[(number + step) % 4] for step in (0, 1, 2))
        role = "input" if split == "train" else "truth"
        regions = [
            region(word, CORNERS[place], position=place, role=role)
            for word, place in ((5 + number // 4, one), (8 + number // 4, other))
        ]
        images.append(
            {**image(0, regions=regions, look_alikes=[CORNERS[third]], split=split), "key": f"{first + number:016x}"}
        )
    return images


class ReadsPlace(Matcher):
    """Its map is the corner that the phrase names; it never looks at the image."""

    def ground(self, images: Images, tokens: Tokens) -> torch.Tensor:
        vocabulary = TOKENIZER.get_vocab()
        maps = torch.zeros(len(tokens.ids), 4, 4)
        for row, ids in enumerate(tokens.ids.tolist()):
            known = {word for word in ("left", "right", "upper", "lower") if vocabulary[word] in ids}
            if known:
                maps[row, 3 * ("lower" in known), 3 * ("right" in known)] = 1
        return maps


def score(folder: Path, model: Any, splits: tuple[str, ...] = ("train", "validation", "test")) -> dict[str, Any]:
    images = [one for number, split in enumerate(splits) for one in pictures(split, 100 * number)]
    return {
        split: score_images(folder, images, model, part)
        for split, part in (("test", "."), ("validation", "validation"))
        if split in splits
    }


def score_images(folder: Path, images: list[dict[str, Any]], model: Any, part: str = ".") -> dict[str, Any]:
    """The task's result on test images, or on those of the split `part`."""
    if not (folder / "out").is_dir():
        shards = write_shards(folder / "shards", images)
        evaluate(CONFIG, "probe", model, TOKENIZER, "0" * 64, *shards, folder / "out", folder / "summaries")
    return json.loads((folder / "out" / part / "metrics.json").read_text())["tasks"]["grounding"]


def test_a_method_that_finds_the_lesion_wins_every_score(tmp_path: Path) -> None:
    results = score(tmp_path, Grounder(TOKENIZER))
    result = results["test"]
    assert set(result["metrics"]) == {*METRICS, *(f"without_position/{metric}" for metric in METRICS)}
    for metric in METRICS:
        found = result["metrics"][f"without_position/{metric}"]
        assert found["low"] > max(found["chance"], *found["baselines"].values()), metric
        assert set(found["baselines"]) == {"centre heatmap", "named cell", "mean training mask", "image-blind"}
    which = result["metrics"]["which_lesion"]
    assert (which["value"], which["chance"]) == (1, pytest.approx(1 / 3, abs=0.05))
    # The threshold of test is that of validation, and is said.
    assert result["chosen"] == results["validation"]["chosen"]
    threshold = result["chosen"]["iou"]["method"]
    assert threshold in [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert f"the threshold of iou, {threshold}, was chosen on the validation split" in result["notes"]


def test_without_a_validation_split_the_threshold_is_a_half(tmp_path: Path) -> None:
    result = score(tmp_path, Grounder(TOKENIZER), ("test",))["test"]
    assert set(result["chosen"]["iou"].values()) == {0.5}
    known = [note for note in result["notes"] if "is the default" in note]
    assert [note.split(",")[:2] for note in known] == [
        [f"the threshold of {prefix}iou", " 0.5"] for prefix in ("", "without_position/")
    ]
    assert "mean training mask" not in result["metrics"]["iou"]["baselines"]


def test_a_method_that_reads_the_place_alone_falls_to_chance_without_it(tmp_path: Path) -> None:
    metrics = score(tmp_path, ReadsPlace(TOKENIZER))["test"]["metrics"]
    for metric in ("pointing", "which_lesion"):
        assert metrics[metric]["value"] == 1 == metrics[metric]["baselines"]["named cell"]
        without = metrics[f"without_position/{metric}"]
        # Of random heatmaps; those of the method are constant, which is the fraction of what is drawn.
        assert without["value"] == pytest.approx(without["chance"], abs=0.05)
        assert without["chance"] < 0.4
    # It answers the same whatever the image is.
    assert metrics["cnr_signed"]["baselines"]["image-blind"] == metrics["cnr_signed"]["value"]


def test_a_constant_heatmap_is_chance_in_which_lesion(tmp_path: Path) -> None:
    metrics = score(tmp_path, Collapsed(2.0))["test"]["metrics"]
    for prefix in ("", "without_position/"):
        which = metrics[f"{prefix}which_lesion"]
        assert which["value"] == pytest.approx(1 / 3, abs=1e-6)
        assert which["chance"] == pytest.approx(1 / 3, abs=0.05)


def test_words_of_place_name_a_field_of_the_image() -> None:
    assert named_place("oval cyst left upper", patient_sides=False) == Place(("left",), ("upper",))
    assert named_place("Oval cyst, left upper.", patient_sides=True) == Place(("right",), ("upper",))
    assert named_place("opacity at both lung bases", patient_sides=True) == Place(("left", "right"), ("lower",))
    assert not named_place("oval cyst", patient_sides=True)
    assert named_place("RUL cyst", patient_sides=True) == Place(("left",), ("upper",))
    # What is denied is nowhere.
    assert named_place("cyst upper left, no effusion on the right", patient_sides=False) == Place(("left",), ("upper",))
    for place, highest in ((Place(("right",), ("upper",)), (1, 7)), (Place(), (4, 4)), (Place((), ("lower",)), (7, 4))):
        heatmap = place_heatmap(place, 9, 9, 9)
        assert divmod(int(heatmap.argmax()), 9) == highest


@pytest.mark.parametrize(
    ("phrase", "left"),
    [
        ("Patchy opacity in the right lower lobe", "Patchy opacity"),
        ("There is a small oval cyst in the left upper zone.", "There is a small oval cyst"),
        ("Left-sided pleural effusion", "pleural effusion"),
        ("Enlargement of the heart", "Enlargement of the heart"),
        ("the left upper zone", None),
        ("RUL nodule", "nodule"),
        ("a mass of the R lung", "a mass"),
        ("uppermost suprahilar nodule", "nodule"),
    ],
)
def test_phrases_without_their_words_of_place(phrase: str, left: str | None) -> None:
    assert without_place(phrase) == left


def test_the_own_phrase_of_a_region_stands_for_its_caption(tmp_path: Path) -> None:
    regions = [
        region(5, phrase="A cyst in the left upper zone"),
        region(6, phrase="left upper"),
        region(7, CORNERS["right lower"]),
    ]
    shards = write_shards(tmp_path, [image(0, regions=regions)])
    test = EvaluationSet(Matcher(TOKENIZER), TOKENIZER, ShardSet(*shards, "test").samples, 2)
    own, without = ([phrase.text for phrase in phrases_of(test.images, setting)] for setting in SETTINGS)
    assert own == ["A cyst in the left upper zone", "left upper", f"{WORDS[7]} spot left upper"]
    assert without == ["A cyst", f"{WORDS[7]} spot"]


def test_the_mean_training_mask_is_of_the_phrases_most_like_it(tmp_path: Path) -> None:
    def one(number: int, word: int, place: str, split: str, term: str = "spot") -> dict[str, Any]:
        role = "input" if split == "train" else "truth"
        found = region(word, CORNERS[place], position=place, role=role, term=term)
        return {**image(0, regions=[found], split=split), "key": f"{number:016x}"}

    train = [
        one(0, 3, "left upper", "train"),
        one(1, 4, "right lower", "train", "lump"),
        one(2, 3, "left lower", "train"),
    ]
    # Equal words; the same place alone; the same term alone; none of them.
    asked = [
        ("left upper", 3, "spot"),
        ("right lower", 9, "other"),
        ("right upper", 9, "lump"),
        ("right upper", 9, "x"),
    ]
    test = [one(10 + n, word, place, "test", term) for n, (place, word, term) in enumerate(asked)]
    shards = write_shards(tmp_path, [*train, *test])
    images = EvaluationSet(Matcher(TOKENIZER), TOKENIZER, ShardSet(*shards, "test").samples, 2).images
    phrases = {setting: phrases_of(images, setting) for setting in SETTINGS}
    masks = MeanTrainingMasks(ShardSet(*shards, "train").samples(), phrases)

    def corners(setting: str, number: int) -> list[float]:
        mean = masks.of(setting, phrases[setting][number], 16, 16, 16)
        assert mean is not None
        return [round(float(mean[y0:y1, x0:x1].mean()), 6) for x0, y0, x1, y1 in CORNERS.values()]

    third = round(1 / 3, 6)
    assert corners(OWN, 0) == [1, 0, 0, 0]
    assert corners(OWN, 1) == [0, 0, 0, 1]
    assert corners(OWN, 2) == [0, 0, 0, 1]
    assert corners(OWN, 3) == [third, 0, third, third]
    # Both places of its word.
    assert corners(WITHOUT_POSITION, 0) == [0.5, 0, 0.5, 0]
