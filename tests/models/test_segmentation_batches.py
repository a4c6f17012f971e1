"""What methods that segment are trained on: texts, masks, the losses of a mask, and what the loop refuses."""

import dataclasses
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from models.data.augmentation import Augmentation
from models.data.batches import Tokenise
from models.data.format import TARGET, RegionCaption
from models.data.shards import Sample, ShardSet
from models.data.texts import region_texts
from models.segmentation.batches import SegmentationCollate, training_text
from models.segmentation.losses import dice_loss, mask_loss
from models.segmentation.method import SegmentationMethod
from models.training.config import EngineConfig, Phase, TrainingConfig
from models.training.prepare import check_phases
from models.unet.config import UNetConfig
from models.unet.model import UNet
from tests.shards import image_captions, image_meta, png, region_caption

KEY = "0" * 16


def caption(basis: str, position: str, **changes: Any) -> RegionCaption:
    return region_caption(f"{KEY}-0", "Round", "polyp", position, basis=basis, **changes)


def sample(*, has_target: bool = True, **captions: Any) -> Sample:
    texts = {"summary": "Short.", "report": "A Report."} | captions
    return Sample(KEY, image_meta(KEY, has_target=has_target), image_captions(KEY, **texts), {})


DRAWN = [
    caption("annotation", "center upper"),
    caption("proposal", "left lower"),
    caption("annotation", "right middle"),
]
REFUSED = caption("annotation", "left upper", status="rejected")


@pytest.mark.parametrize(
    ("captions", "text"),
    [
        # As its source wrote it, whatever was drawn.
        ({}, "A Report."),
        ({"regions": DRAWN}, "A Report."),
        ({"basis": "labels", "report": "Shows a nodule."}, "Shows a nodule."),
        ({"basis": "pixels", "report": "A model saw this."}, "A model saw this."),
        # Nobody said anything.
        ({"basis": None, "report": None, "summary": None, "status": "unannotated"}, ""),
        ({"basis": None, "report": None, "regions": DRAWN}, ""),
        # Made from truth, though not from outlines.
        ({"basis": "labels", "oracle": True}, ""),
        # Outlines are all that is known: what they outline, not the report that tells their area.
        ({"basis": "annotation", "regions": DRAWN}, "round polyp center upper. round polyp right middle"),
        ({"basis": "annotation", "oracle": True, "regions": DRAWN[:1]}, "round polyp center upper"),
        ({"basis": "annotation", "regions": DRAWN[1:2]}, ""),
        ({"basis": "annotation", "regions": [REFUSED, DRAWN[0]]}, "round polyp center upper"),
    ],
)
def test_the_text_that_a_sample_is_trained_with(captions: dict[str, Any], text: str) -> None:
    given = sample(**captions)
    assert training_text(given) == text
    assert SegmentationMethod.training_texts(given) == [text]


def test_texts_of_chosen_regions_in_their_order() -> None:
    given = sample(regions=[*DRAWN, REFUSED])
    assert region_texts(given, [1]) == "round polyp left lower"
    assert region_texts(given, [2, 0]) == "round polyp right middle. round polyp center upper"
    assert region_texts(given, [3]) == ""
    assert region_texts(given, []) == ""


def test_an_image_without_a_target_cannot_be_trained_on() -> None:
    assert SegmentationMethod.skip_reason(sample(basis=None, report=None)) is None, "a text is not needed"
    assert SegmentationMethod.skip_reason(sample(has_target=False)) == "no_target"


def read(shards: Path, *numbers: int) -> list[Sample]:
    split = ShardSet(shards / "images", shards / "captions", "train")
    return [split.sample(number) for number in numbers]


def collate(tokenizer: PreTrainedTokenizerFast, augmentation: Augmentation | None = None, seed: int = 0) -> Any:
    return SegmentationCollate(Tokenise(tokenizer, 32), augmentation, seed)


def test_a_batch(shards: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    # 3: left half; 2: right half; 4: nothing is drawn, and nobody described it.
    batch = collate(tokenizer)(read(shards, 3, 2, 4))
    assert batch.keys == [f"{number:016x}" for number in (3, 2, 4)]
    assert (batch.images.pixels.shape, batch.images.pixels.dtype) == ((3, 3, 16, 16), torch.uint8)
    assert batch.images.crops.shape[0] == len(batch.images.owner) == 0
    assert (batch.target.shape, batch.target.dtype) == ((3, 16, 16), torch.bool)
    assert batch.target[0, :, :8].all()
    assert not batch.target[0, :, 8:].any()
    assert torch.equal(batch.target[1], ~batch.target[0])
    assert not batch.target[2].any()
    said = ["The picture is red, number 3, left half.", "The picture is blue, number 2, right half.", ""]
    assert torch.equal(batch.text.ids, Tokenise(tokenizer, 32)(said).ids)
    assert batch.text.mask.sum(dim=1)[2] == 2, "the empty text is its two special tokens"


def test_a_permuted_batch_has_permuted_rows(shards: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    strong = Augmentation(mirror=0.5, rotation=20.0, brightness=0.3)
    one = collate(tokenizer, strong)(read(shards, 1, 2, 3, 4), 5)
    other = collate(tokenizer, strong)(read(shards, 3, 1, 4, 2), 5)
    for first, second in [(0, 1), (1, 3), (2, 0), (3, 2)]:
        assert torch.equal(one.images.pixels[first], other.images.pixels[second])
        assert torch.equal(one.target[first], other.target[second])
        assert torch.equal(one.text.ids[first], other.text.ids[second])


def test_augmentation_is_for_training_epochs_alone(shards: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    always = collate(tokenizer, Augmentation(mirror=1.0))
    plain, validation = collate(tokenizer)(read(shards, 3, 2), 1), always(read(shards, 3, 2), None)
    assert torch.equal(plain.target, validation.target)
    assert torch.equal(plain.images.pixels, validation.images.pixels)
    mirrored = always(read(shards, 3, 2), 1)
    assert torch.equal(mirrored.images.pixels, plain.images.pixels.flip(-1))
    assert torch.equal(mirrored.target, plain.target.flip(-1))
    expected = Tokenise(tokenizer, 32)(
        ["The picture is red, number 3, right half.", "The picture is blue, number 2, left half."]
    )
    assert torch.equal(mirrored.text.ids, expected.ids)
    assert not torch.equal(mirrored.text.ids, plain.text.ids)


def test_changes_depend_on_seed_and_epoch(shards: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    strong = Augmentation(brightness=0.5)
    found = [
        collate(tokenizer, strong, seed)(read(shards, 3), epoch) for seed, epoch in [(0, 0), (0, 0), (0, 1), (1, 0)]
    ]
    first, same, *others = (batch.images.pixels for batch in found)
    assert torch.equal(first, same)
    assert not any(torch.equal(first, other) for other in others)


def test_a_process_of_the_loader_makes_the_same_batch(shards: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    ours = collate(tokenizer, Augmentation(mirror=0.5, rotation=20.0))
    theirs = pickle.loads(pickle.dumps(ours))
    one, other = ours(read(shards, 1, 2, 3), 4), theirs(read(shards, 1, 2, 3), 4)
    assert torch.equal(one.images.pixels, other.images.pixels)
    assert torch.equal(one.target, other.target)
    assert torch.equal(one.text.ids, other.text.ids)


def slow_dice(probability: Tensor, target: Tensor, *, squared: bool, smooth: float) -> float:
    losses = []
    for p, t in zip(probability.tolist(), target.tolist(), strict=True):
        pairs = [(float(a), float(b)) for rows in zip(p, t, strict=True) for a, b in zip(*rows, strict=True)]
        common = sum(a * b for a, b in pairs)
        sizes = sum(a * a + b * b if squared else a + b for a, b in pairs)
        losses.append(1 - (2 * common + smooth) / (sizes + smooth))
    return sum(losses) / len(losses)


def random_masks(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits and targets of four images; the last target is empty."""
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(4, 5, 6, generator=random, dtype=torch.float64)
    target = torch.rand(4, 5, 6, generator=random) > torch.tensor([0.5, 0.9, 0.1, 1.0]).view(4, 1, 1)
    return logits, target


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("smooth", [1.0, 1e-5])
def test_the_dice_loss_by_a_slow_reference(squared: bool, smooth: float) -> None:
    logits, target = random_masks()
    found = dice_loss(logits.sigmoid(), target, squared=squared, smooth=smooth)
    assert found.item() == pytest.approx(slow_dice(logits.sigmoid(), target, squared=squared, smooth=smooth), rel=1e-12)


def test_the_dice_loss_by_hand() -> None:
    target = torch.tensor([[[True, True, False, False]]])
    half = torch.tensor([[[1.0, 0.0, 1.0, 0.0]]])
    # One of two pixels found, one wrong: 2 * 1 / (2 + 2), with one pixel added to both.
    assert dice_loss(half, target).item() == pytest.approx(1 - 3 / 5)
    assert dice_loss(half, target, smooth=0.0).item() == pytest.approx(0.5)
    assert dice_loss(target.float(), target).item() == 0
    nothing = torch.zeros(1, 1, 4, dtype=torch.bool)
    assert dice_loss(torch.zeros(1, 1, 4), nothing).item() == 0
    assert dice_loss(half, nothing).item() == pytest.approx(1 - 1 / 3)
    # Per image, then the mean: not the Dice of all pixels together.
    both = dice_loss(torch.cat([half, torch.zeros(1, 1, 4)]), torch.cat([target, nothing]))
    assert both.item() == pytest.approx((1 - 3 / 5) / 2)


def test_the_mask_loss_by_a_slow_reference() -> None:
    logits, target = random_masks()
    numbers = zip(logits.flatten().tolist(), target.flatten().tolist(), strict=True)
    cross_entropy = [math.log(1 + math.exp(-x if wanted else x)) for x, wanted in numbers]
    expected = slow_dice(logits.sigmoid(), target, squared=False, smooth=1.0) + sum(cross_entropy) / len(cross_entropy)
    # Taken in float32.
    assert mask_loss(logits, target).item() == pytest.approx(expected, rel=1e-6)
    large = torch.full((1, 2, 2), 1e4)
    assert mask_loss(large, torch.ones(1, 2, 2, dtype=torch.bool)).item() == pytest.approx(0)
    # A logit of 10,000 that is wrong costs 10,000: nothing has passed it through a sigmoid before.
    assert mask_loss(large, torch.zeros(1, 2, 2, dtype=torch.bool)).item() == pytest.approx(1e4 + 0.8)
    rough = mask_loss(logits.bfloat16(), target)
    assert rough.dtype == torch.float32


@pytest.mark.parametrize("squared", [False, True])
def test_the_gradient_of_the_dice_loss(squared: bool) -> None:
    logits, target = random_masks()
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: dice_loss(x.sigmoid(), target, squared=squared), logits)


def test_the_losses_of_two_workers_are_those_of_one_batch() -> None:
    logits, target = random_masks()
    parts = [mask_loss(logits[rows], target[rows]) for rows in (slice(0, 2), slice(2, 4))]
    torch.testing.assert_close(torch.stack(parts).mean(), mask_loss(logits, target))
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(mask_loss(logits[order], target[order]), mask_loss(logits, target))


def unet() -> UNet:
    torch.manual_seed(0)
    return UNet(UNetConfig(base=4), 50)


def test_forward_gives_the_mask_loss_of_its_logits(shards: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    model, batch = unet().eval(), collate(tokenizer)(read(shards, 1, 2, 3, 4))
    with torch.no_grad():
        found = model(batch, ["segmentation"])
        logits = model.logits(batch.images, batch.text)
        shown = model.segment(batch.images, batch.text)
    assert found.keys() == {"segmentation"}
    assert torch.equal(found["segmentation"], mask_loss(logits, batch.target))
    assert torch.equal(shown, logits.sigmoid())
    model.uses_bfloat16 = True
    with torch.no_grad():
        rough = model(batch, ["segmentation"])["segmentation"]
        roughly = model.segment(batch.images, batch.text)
    assert rough.dtype == roughly.dtype == torch.float32
    assert not torch.equal(roughly, shown)
    torch.testing.assert_close(roughly, shown, rtol=0, atol=0.05)


class TwoLosses(UNet):
    """Has a second loss, of a component that is on."""

    losses = ("segmentation", "alignment")

    def __init__(self, config: UNetConfig, vocabulary_size: int, *, aligned: bool) -> None:
        super().__init__(config, vocabulary_size)
        self.losses = ("segmentation", "alignment") if aligned else ("segmentation",)


@pytest.mark.parametrize(
    ("aligned", "asked", "message"),
    [
        (True, ("segmentation", "alignment"), None),
        (False, ("segmentation",), None),
        (True, ("segmentation",), r"leaves out the losses \['alignment'\] of components that are on"),
        (True, ("alignment",), r"leaves out the losses \['segmentation'\]"),
        (False, ("segmentation", "alignment"), r"asks for the losses \['alignment'\]; the method has: segmentation"),
    ],
)
def test_a_component_that_is_on_must_train(aligned: bool, asked: tuple[str, ...], message: str | None) -> None:
    model = TwoLosses(UNetConfig(base=4), 50, aligned=aligned)
    phase = Phase(epochs=1, batch_size=4, learning_rate=1e-3, losses=asked)
    config, engine = TrainingConfig(phases={"one": phase}), EngineConfig(num_workers=0)
    if message is None:
        check_phases(model, config, engine, usable=8, validation=0)
        return
    with pytest.raises(ValueError, match=message) as caught:
        check_phases(model, config, engine, usable=8, validation=0)
    assert "\n" not in str(caught.value)


def test_too_few_outlined_images_raise_an_error_that_says_so() -> None:
    phase = Phase(epochs=1, batch_size=8, learning_rate=1e-3, losses=("segmentation",))
    with pytest.raises(ValueError, match="only 7 training images have an outline of all findings: lower batch_size"):
        check_phases(unet(), TrainingConfig(phases={"one": phase}), EngineConfig(num_workers=0), usable=7, validation=0)


def test_a_target_begins_in_the_middle_of_the_grey_values(shards: Path) -> None:
    values = np.array([[0, 127], [128, 255]], np.uint8)
    (one,) = read(shards, 3)
    given = dataclasses.replace(one, members={TARGET: png(values)})
    assert given.target.tolist() == [[False, False], [True, True]]


def test_an_epoch_has_one_of_several_reports_and_everything_else_the_first() -> None:
    given = sample(other_reports=("A second.", "A third."))
    assert training_text(given) == "A Report."
    assert SegmentationMethod.training_texts(given) == ["A Report.", "A second.", "A third."]
    assert SegmentationMethod.training_texts(sample(basis="labels", oracle=True, other_reports=("A second.",))) == [""]
    drawn = [training_text(given, 7, epoch) for epoch in range(300)]
    assert drawn == [training_text(given, 7, epoch) for epoch in range(300)]
    assert drawn != [training_text(given, 8, epoch) for epoch in range(300)]
    # A fair choice of three lies within 100 +- 5 standard deviations of 8.2.
    assert all(59 < drawn.count(text) < 141 for text in SegmentationMethod.training_texts(given))
    assert len(set(drawn)) == 3
    alone = sample()
    assert {training_text(alone, 7, epoch) for epoch in range(20)} == {"A Report."}
