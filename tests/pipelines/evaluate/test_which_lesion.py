"""Which of all that is drawn a map is highest on: sizes, overlaps, and what is left out and told."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from models.data.batches import Images, Tokens
from tests.pipelines.evaluate.small_world import WORDS, Grounder, Matcher, image, region
from tests.pipelines.evaluate.test_grounding_planted import TOKENIZER, score_images


class Noise(Matcher):
    """Draws its maps, whatever it is asked."""

    def __init__(self) -> None:
        super().__init__(TOKENIZER)
        self.random = torch.Generator().manual_seed(0)

    def ground(self, images: Images, tokens: Tokens) -> Tensor:
        return torch.rand(len(tokens.ids), 8, 8, generator=self.random)


def test_noise_is_at_chance_where_the_lesion_is_the_larger_one(tmp_path: Path) -> None:
    images = [
        {
            **image(0, regions=[region(5, (0, 0, 12, 12))], look_alikes=[(14, 14, 16, 16)]),
            "key": f"{number:016x}",
        }
        for number in range(120)
    ]
    which = score_images(tmp_path, images, Noise())["metrics"]["which_lesion"]
    # Half of what is drawn is meant, and the larger half has the higher maximum nearly always.
    assert which["value"] > 0.85
    # Both of some tens of maps of one picture.
    assert which["chance"] == pytest.approx(which["value"], abs=0.09)


def test_what_lies_within_a_lesion_is_no_rival_of_it(tmp_path: Path) -> None:
    # The inner region is drawn last: the outer one's level is left around it.
    regions = [region(5, (0, 0, 12, 12)), region(9, (4, 4, 8, 8))]
    result = score_images(tmp_path, [image(0, regions=regions)], Grounder(TOKENIZER))
    assert result["metrics"]["which_lesion"]["value"] == 1
    assert result["details"]["items"]["which_lesion"] == 1
    assert (
        "which_lesion is of 1 of 2 phrases: for the others the method sees nothing drawn beside what is meant"
        in (result["notes"])
    )


def test_phrases_that_are_lost_without_their_place_are_told(tmp_path: Path) -> None:
    def notes(name: str, regions: list[dict[str, Any]]) -> list[str]:
        found = score_images(tmp_path / name, [image(0, regions=regions)], Grounder(TOKENIZER))["notes"]
        return [note for note in found if note.startswith(("without_position: ", "no phrase is left"))]

    # Equal words in two places are one phrase, whose mask is the whole image.
    halves = [region(3, (0, 0, 16, 8), position="left upper"), region(3, (0, 8, 16, 16), position="left lower")]
    (note,) = notes("some", [*halves, region(4, (0, 0, 4, 4)), region(5, (8, 8, 12, 12), phrase="right lower")])
    assert note.startswith("without_position: 1 phrases without their words of place")
    assert "; 1 more are left out, as their mask is empty or full" in note
    assert note.endswith("; the phrases of 1 regions are words of place alone")
    (note,) = notes("none", [region(4, (0, 0, 4, 4), phrase="left upper")])
    assert note.endswith("may name theirs; the phrases of 1 regions are words of place alone")


def test_words_that_encoders_read_alike_are_one_phrase_for_its_training_masks_too(tmp_path: Path) -> None:
    train = [image(0, regions=[region(3, (0, 0, 8, 8), role="input", phrase="Delta!")], split="train")]
    test = [image(1, regions=[region(3, (0, 0, 8, 8), phrase="delta")])]
    assert WORDS[3] == "delta"
    result = score_images(tmp_path, [*train, *test], Grounder(TOKENIZER))
    assert result["metrics"]["pointing"]["baselines"]["mean training mask"] == 1
