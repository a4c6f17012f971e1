"""Laterality: shares by hand, and methods that follow the side, ignore it, or follow the text without the image."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.data.batches import Images, Tokens
from models.method import Method
from pipelines.config import parse
from pipelines.errors import UserError
from pipelines.evaluate.config import EvaluateConfig
from pipelines.evaluate.metrics.laterality import moved, side_share
from pipelines.evaluate.scoring import load_tasks
from pipelines.evaluate.stage import evaluate
from tests.pipelines.evaluate.small_world import SIDE, ImagesOnly, image, levels, region, tokenizer_of, write_shards

TOKENIZER = tokenizer_of(["a round spot left right upper nothing"])
LEFT, RIGHT = (0, 0, 8, 8), (8, 0, 16, 8)
BRIGHT = 255


def test_the_share_of_a_half_by_hand() -> None:
    # Columns 0 to 4: the middle one counts half on each side.
    values = np.array([[1.0, 0, 2, 0, 1], [2, 0, 0, 1, 1]])
    assert side_share(values, "left", patient_sides=False) == (1 + 2 + 1) / 8
    assert side_share(values, "right", patient_sides=False) == (1 + 1 + 1 + 1) / 8
    wide = np.array([[3.0, 0, 0, 1]])
    assert [side_share(wide, "left", patient_sides=patient) for patient in (False, True)] == [0.75, 0.25]
    assert side_share(np.zeros((2, 3)), "left", patient_sides=True) == 0.5
    # A crop that shows three columns of the right half and one of the left: means, for sums would favour the right.
    cropped = np.array([[np.nan, np.nan, 2.0, 1, 1, 1]])
    assert side_share(cropped, "left", patient_sides=False) == pytest.approx(2 / 3)
    assert side_share(np.array([[np.nan, np.nan, 1.0, 1]]), "left", patient_sides=False) == 0.5
    assert [moved(shift) for shift in (0.2, -0.2, 1e-7, 0)] == [1, 0, 0.5, 0.5]


class Follows(Method):
    """Looks for what is bright on the side that the text names; a bright half is where the image's vector points."""

    max_regions = 0
    normalises_text = True

    def __init__(self, *, sees: bool = True, reads: bool = True, favourite: str = "") -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1))
        self.sees, self.reads, self.favourite = sees, reads, favourite

    def _bright(self, images: Images) -> Tensor:
        bright = (levels(images.pixels) > 128).float()
        return bright if self.sees else torch.ones_like(bright)

    def _sides(self, tokens: Tokens) -> Tensor:
        """(texts, 2): whether left, and right, is named."""
        words = [TOKENIZER.get_vocab()[word] for word in ("left", "right")]
        named = torch.tensor([[float(word in ids) for word in words] for ids in tokens.ids.tolist()])
        return named if self.reads else torch.ones_like(named)

    def embed_images(self, images: Images) -> Tensor:
        bright = self._bright(images)
        halves = torch.stack([bright[..., : SIDE // 2].mean((1, 2)), bright[..., SIDE // 2 :].mean((1, 2))], dim=1)
        if self.favourite:
            halves = torch.tensor([[1.0, 0.0]]).expand(len(halves), 2)
        return nn.functional.normalize(halves + 1e-3, dim=1)

    def embed_text(self, tokens: Tokens) -> Tensor:
        return nn.functional.normalize(self._sides(tokens) + 1e-3, dim=1)

    def segment(self, images: Images, tokens: Tokens) -> Tensor:
        named = self._sides(tokens).repeat_interleave(SIDE // 2, dim=1)
        return self._bright(images) * named[:, None, :]

    def ground(self, images: Images, tokens: Tokens) -> Tensor:
        # A heatmap may be below 0: it is measured from its lowest value.
        return nn.functional.avg_pool2d(self.segment(images, tokens), 4) - 3


def images_of(count: int = 8, **changes: Any) -> list[dict[str, Any]]:
    """Every second image is bright on the left, the others on the right, as report and caption say."""
    return [
        image(
            number,
            level=0,
            report=f"A round spot {side}, upper.",
            target=[box],
            regions=[region(0, box, level=BRIGHT, adjective="round", position=f"{side} upper")],
            **changes,
        )
        for number in range(count)
        for side, box in [("left", LEFT) if number % 2 else ("right", RIGHT)]
    ]


def score(folder: Path, images: list[dict], model: Any, sample: int = 100) -> dict:
    shards = write_shards(folder / "shards", images)
    values = {"tasks": {"laterality": {"sample": sample}}, "batch_size": 3, "bootstrap": {"samples": 50, "seed": 0}}
    config = parse(EvaluateConfig, values, "here")
    summary = evaluate(config, "probe", model, TOKENIZER, "0" * 64, *shards, folder / "out", folder / "summaries")
    result = json.loads((folder / "out" / "metrics.json").read_text())["tasks"]["laterality"]
    return result | {"counted": (summary["ok"], summary["inputs"])}


def values_of(result: dict) -> dict[str, float]:
    return {name: metric["value"] for name, metric in result["metrics"].items()}


def test_a_method_that_follows_the_side_wins_and_beats_its_blind_control(tmp_path: Path) -> None:
    result = score(tmp_path, images_of(), Follows())
    assert values_of(result) == pytest.approx(
        {
            "report/accuracy": 1,
            # What is bright lies on the named side. With the sides exchanged nothing is found, which is on no side.
            "map/accuracy": 1,
            "map/moved": 1,
            "map/shift": 0.5,
            "mask/accuracy": 1,
            "mask/moved": 1,
            "mask/shift": 0.5,
        },
        abs=0.07,
    )
    chances = {name: metric["chance"] for name, metric in result["metrics"].items()}
    assert chances.pop("report/accuracy") == 0.5
    expected = {"accuracy": 0.25, "moved": 0.5, "shift": 0}
    assert chances == {f"{setting}/{name}": chance for setting in ("map", "mask") for name, chance in expected.items()}
    for name in ("report/accuracy", "map/accuracy", "mask/accuracy"):
        metric = result["metrics"][name]
        assert metric["low"] > metric["baselines"]["image-blind"], name
    assert result["details"]["items"] == {"report": 8, "map": 8, "mask": 8}
    assert result["counted"] == (8, 8)


def test_a_method_that_ignores_the_side_is_at_chance(tmp_path: Path) -> None:
    result = score(tmp_path, images_of(), Follows(reads=False))
    # It finds the spots, on whatever side: no more than the same answer for both sides, which stands beside it.
    for name in ("map/accuracy", "mask/accuracy"):
        assert result["metrics"][name]["baselines"]["same answer for both sides"] == 0.5
    assert "same answer for both sides" not in result["metrics"]["report/accuracy"]["baselines"]
    assert values_of(result) == {
        "report/accuracy": 0.5,
        "map/accuracy": 0.5,
        "map/moved": 0.5,
        "map/shift": 0,
        "mask/accuracy": 0.5,
        "mask/moved": 0.5,
        "mask/shift": 0,
    }


def test_a_method_that_follows_the_text_alone_equals_its_blind_control(tmp_path: Path) -> None:
    images = images_of(7)
    result = score(tmp_path, images, Follows(sees=False, favourite="left"))
    # Three of seven images have a report of the left; every map lies where its phrase says.
    assert values_of(result)["report/accuracy"] == pytest.approx(3 / 7, abs=1e-6)
    assert values_of(result)["map/accuracy"] == values_of(result)["mask/shift"] == 1
    for name, metric in result["metrics"].items():
        assert metric["baselines"]["image-blind"] == metric["value"], name


def test_maps_without_any_relation_to_the_side_are_right_in_a_quarter_of_the_cases(tmp_path: Path) -> None:
    random = torch.Generator().manual_seed(0)

    class Trembles(Follows):
        """Looks at the left half always, and a little more at a half that it draws anew for each phrase."""

        def ground(self, images: Images, tokens: Tokens) -> Tensor:
            halves = torch.tensor([[1.0, 0.0]]) + 0.2 * torch.rand(len(images.pixels), 2, generator=random)
            return halves.repeat_interleave(2, dim=1)[:, None].expand(-1, 4, -1)

    images = [{**one, "key": f"{number:016x}"} for number, one in enumerate(images_of(8) * 12)]
    found = score(tmp_path, images, Trembles())["metrics"]["map/accuracy"]
    assert found["low"] <= found["chance"] == 0.25 <= found["high"] < 0.5


def test_masks_of_a_method_that_reads_no_text_are_right_in_half_where_they_lie_on_the_side(tmp_path: Path) -> None:
    class Deaf(Follows):
        reads_text = False

        def segment(self, images: Images, tokens: Tokens) -> Tensor:
            asked.append(len(tokens.ids))
            bright = self._bright(images)
            return bright if self.favourite != "wrong" else bright.flip(-1)

        def ground(self, images: Images, tokens: Tokens) -> Tensor:
            return self._bright(images)

    asked: list[int] = []
    result = score(tmp_path / "right", images_of(), Deaf())
    assert (values_of(result)["mask/accuracy"], values_of(result)["mask/shift"]) == (0.5, 0)
    # Once each, not for either side; and again for the control, on two splits.
    assert sum(asked) <= 4 * len(images_of())
    wrong = score(tmp_path / "wrong", images_of(), Deaf(favourite="wrong"))
    assert (values_of(wrong)["mask/accuracy"], values_of(wrong)["mask/moved"]) == (0, 0.5)
    assert "the method ignores the text: its masks are the same with every text" in result["notes"]


def test_a_mask_counts_by_its_probability_not_by_its_pixels_above_a_threshold(tmp_path: Path) -> None:
    class Hazy(Follows):
        """A sixteenth of the named half at 0.9, and the whole other half at a level that it is given."""

        haze = 0.0

        def segment(self, images: Images, tokens: Tokens) -> Tensor:
            left = self._sides(tokens)[:, 0] > 0
            probability = torch.full((len(left), SIDE, SIDE), 0.0)
            for mask, named in zip(probability, left.tolist(), strict=True):
                own, other = (slice(0, 8), slice(8, 16)) if named else (slice(8, 16), slice(0, 8))
                mask[:, other] = self.haze
                mask[:2, own][:, :4] = 0.9
            return probability

    model = Hazy()
    found = {}
    for haze in (0.04, 0.08):
        model.haze = haze
        found[haze] = values_of(score(tmp_path / str(haze), images_of(), model))
    # Means of the halves: 0.9 / 16 = 0.056 on the named side, and the haze, of which no pixel reaches a threshold.
    assert [found[haze]["mask/accuracy"] for haze in (0.04, 0.08)] == [1, 0]
    share = 0.9 / 16 / (0.9 / 16 + 0.04)
    assert found[0.04]["mask/shift"] == pytest.approx(2 * share - 1, abs=1e-5)


def test_sides_are_the_patients_where_the_source_says_so(tmp_path: Path) -> None:
    result = score(tmp_path, images_of(sides="patient"), Follows())
    # The method takes them for the image's: it moves to the wrong side every time.
    assert (values_of(result)["map/accuracy"], values_of(result)["mask/accuracy"]) == (0, 0)
    assert values_of(result)["report/accuracy"] == 1
    assert any(note.endswith("are the patient's") for note in result["notes"])


def test_texts_of_no_one_side_are_left_out_and_maps_of_some_alone_are_computed(tmp_path: Path) -> None:
    images = [
        *images_of(5),
        image(8, level=0, report="A spot left, a spot right."),
        image(9, level=0, report="Nothing left.", oracle=True),
    ]
    result = score(tmp_path, images, Follows(), sample=3)
    assert result["details"]["items"] == {"report": 5, "map": 3, "mask": 3}
    assert result["excluded"]["no_one_sided_text"] >= 1
    assert result["notes"][0].endswith("report 5 of 5, map 3 of 6, mask 3 of 5")
    none = score(tmp_path / "none", images[5:6], Follows())
    assert (none["status"], none["reason"]) == ("skipped", "no test image has a text that names one side")
    lacks = score(tmp_path / "lacks", images, ImagesOnly())
    assert (lacks["status"], lacks["excluded"]) == ("skipped", {"method_lacks_capability": 7})


def test_an_image_that_was_not_drawn_is_counted(tmp_path: Path) -> None:
    class Segments(Follows):
        def offers(self, capability: type) -> bool:
            return capability.__name__ == "SegmentsFromText"

    result = score(tmp_path, images_of(5), Segments(), sample=3)
    assert (result["items"], result["excluded"], result["counted"]) == (3, {"not_drawn": 2}, (3, 5))


def test_each_source_is_scored_by_itself_and_each_text_is_an_item(tmp_path: Path) -> None:
    images = images_of(4)
    images[0]["source"] = images[1]["source"] = "two"
    result = score(tmp_path, images, Follows())
    assert {source: part["items"] for source, part in result["by_source"].items()} == {"one": 2, "two": 2}
    assert "image-blind" in result["by_source"]["two"]["metrics"]["map/accuracy"]["baselines"]


def test_a_wrong_option_is_one_line() -> None:
    values = {"tasks": {"laterality": {"sample": 0}}, "batch_size": 3, "bootstrap": {"samples": 5, "seed": 0}}
    with pytest.raises(UserError, match=r"evaluate\.tasks\.laterality.*sample must be at least 1"):
        load_tasks(parse(EvaluateConfig, values, "here"))
