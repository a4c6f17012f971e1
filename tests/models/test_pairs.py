"""(Phrase, mask) pairs of an image, and training on them: which there are, which an epoch asks, and what is refused."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from models.data.augmentation import Augmentation
from models.data.batches import Tokenise
from models.data.pairs import PhrasePair, pair_mask, pair_of_epoch, pairs_of
from models.data.shards import Sample, joined
from models.segmentation.batches import SegmentationBatch, SegmentationCollate
from models.training.config import EngineConfig, Phase, TrainingConfig
from models.training.prepare import check_phases
from models.unet.config import UNetConfig
from models.unet.model import UNet
from tests.shards import SmallSample, image_captions, image_meta, jpeg, png, region_caption, region_meta

SIDE = 16
Box = tuple[int, int, int, int]
UPPER, LEFT, RIGHT = (0, 0, 16, 4), (0, 8, 4, 12), (10, 8, 16, 16)


def filled(*boxes: Box) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for x0, y0, x1, y1 in boxes:
        mask[y0:y1, x0:x1] = 255
    return mask


def region(label: str | None, box: Box | None, **changes: Any) -> dict[str, Any]:
    """`box` None: the region has a box alone."""
    return {"label": label, "box": box, "role": "input", "basis": "annotation", "phrase": None} | changes


def sample(
    *regions: dict[str, Any], labels: tuple[str, ...] | None = None, target: Any = (UPPER, LEFT, RIGHT), key: int = 7
) -> Sample:
    name = f"{key:016x}"
    captions = [
        region_caption(
            f"{name}-{n}", "round", one["label"] or "region", "left upper", basis=one["basis"], phrase=one["phrase"]
        )
        for n, one in enumerate(regions)
    ]
    metas = [region_meta(f"{name}-{n}", one["role"], label=one["label"]) for n, one in enumerate(regions)]
    pixels = np.random.default_rng(key).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
    small = SmallSample(
        meta=image_meta(name, metas, labels=labels),
        captions=image_captions(name, captions, report="A report, left."),
        image=jpeg(pixels, quality=95),
        crops=[jpeg(pixels[:8, :8]) for _ in regions],
        masks=[None if one["box"] is None else png(filled(one["box"])) for one in regions],
        target=None if target is None else png(filled(*target)),
    )
    return joined(name, small.image_members(), small.caption_members(), ("images", "captions"), with_image=True)


LIVER, KIDNEYS = region("Liver", UPPER), [region("kidney", LEFT), region("Kidney", RIGHT)]


def labels_of(pairs: list[PhrasePair]) -> list[tuple[str, str, tuple[int, ...]]]:
    return [(pair.text, pair.label, pair.regions) for pair in pairs]


@pytest.mark.parametrize(
    ("regions", "changes", "expected"),
    [
        # Regions of one label are one pair, in the words of the first.
        ([LIVER, *KIDNEYS], {}, [("Liver", "liver", (0,)), ("kidney", "kidney", (1, 2))]),
        ([*KIDNEYS, LIVER], {"labels": ("Liver", "kidney")}, [("kidney", "kidney", (0, 1)), ("Liver", "liver", (2,))]),
        # A box alone is no outline, and what is left of the label would be a part of it.
        ([LIVER, KIDNEYS[0], region("kidney", None)], {}, [("Liver", "liver", (0,))]),
        ([LIVER], {"target": None}, []),
        # Nobody named the parts, but the image has one finding.
        ([region(None, LEFT)], {"labels": ("Polyp",)}, [("Polyp", "polyp", ())]),
        ([region(None, LEFT)], {"labels": ("polyp", "ulcer")}, []),
        # The lung is anatomy: all that is outlined as a finding is the nodule.
        ([region("nodule", LEFT), region("lung", UPPER)], {"labels": ("nodule",), "target": [LEFT]},
         [("nodule", "nodule", ()), ("lung", "lung", (1,))]),
        ([region("lung", UPPER)], {"labels": (), "target": []}, [("lung", "lung", (0,))]),
        # What a proposer found, and what training must not see.
        ([LIVER, region("kidney", LEFT, basis="proposal")], {}, [("Liver", "liver", (0,))]),
        ([LIVER, region("kidney", LEFT, role="truth")], {}, [("Liver", "liver", (0,))]),
        ([region("...", UPPER), region(" ", LEFT)], {}, []),
    ],
)  # fmt: skip
def test_the_pairs_of_an_image(regions: list[dict], changes: dict, expected: list[tuple]) -> None:
    assert labels_of(pairs_of(sample(*regions, **changes), "input")) == expected


def test_truth_makes_the_pairs_of_evaluation_alone() -> None:
    given = sample(LIVER, region("kidney", LEFT, role="truth"))
    assert labels_of(pairs_of(given, "truth")) == [("kidney", "kidney", (1,))]


def test_sentences_of_the_source_are_pairs_too() -> None:
    both = "Both kidneys."
    regions = [
        region("left kidney", LEFT, phrase=both),
        region("right kidney", RIGHT, phrase="both KIDNEYS"),
        region("liver", UPPER, phrase="A large liver."),
        region("spleen", LEFT, phrase="Spleen"),
    ]
    sentences = [pair for pair in pairs_of(sample(*regions), "input") if pair.is_sentence]
    # The last one says nothing but its label.
    assert labels_of(sentences) == [(both, "", (0, 1)), ("A large liver.", "liver", (2,))]


def test_a_mask_is_the_union_of_its_regions_whatever_their_order() -> None:
    for regions in ([LIVER, *KIDNEYS], [*reversed(KIDNEYS), LIVER]):
        given = sample(*regions)
        masks = {pair.label: pair_mask(given, pair) for pair in pairs_of(given, "input")}
        assert np.array_equal(masks["kidney"], filled(LEFT, RIGHT) > 0)
        assert np.array_equal(masks["liver"], filled(UPPER) > 0)
    whole = sample(region(None, LEFT), labels=("polyp",))
    assert np.array_equal(pair_mask(whole, pairs_of(whole, "input")[0]), filled(UPPER, LEFT, RIGHT) > 0)


def test_an_epoch_draws_one_pair_by_seed_epoch_and_key() -> None:
    given, other = sample(LIVER, *KIDNEYS), sample(LIVER, *KIDNEYS, key=8)
    drawn = [pair_of_epoch(given, 1.0, 0, epoch) for epoch in range(200)]
    assert drawn == [pair_of_epoch(given, 1.0, 0, epoch) for epoch in range(200)]
    assert 70 < sum(pair is not None and pair.label == "liver" for pair in drawn) < 130
    assert drawn != [pair_of_epoch(given, 1.0, 1, epoch) for epoch in range(200)]
    assert drawn != [pair_of_epoch(other, 1.0, 0, epoch) for epoch in range(200)]
    some = [pair_of_epoch(given, 0.25, 0, epoch) for epoch in range(200)]
    assert 30 < sum(pair is not None for pair in some) < 70
    # A larger chance asks more pairs, and the same ones.
    assert all(one is None or one == always for one, always in zip(some, drawn, strict=True))
    assert pair_of_epoch(sample(), 1.0, 0, 0) is None


@pytest.fixture
def tokenise(tokenizer: PreTrainedTokenizerFast) -> Tokenise:
    return Tokenise(tokenizer, 32)


def batch(tokenise: Tokenise, samples: list[Sample], epoch: int | None = 0, **changes: float) -> SegmentationBatch:
    return SegmentationCollate(tokenise, Augmentation(**changes), 0)(samples, epoch)


def test_a_batch_asks_pairs_and_validation_does_not(tokenise: Tokenise) -> None:
    given = sample(region("left kidney", LEFT), region(None, UPPER))
    asked = batch(tokenise, [given], phrases=1.0)
    assert torch.equal(asked.text.ids, tokenise(["left kidney"]).ids)
    assert np.array_equal(asked.target[0].numpy(), filled(LEFT) > 0)
    # Image and words are mirrored together with the mask of the pair.
    mirrored = batch(tokenise, [given], phrases=1.0, mirror=1.0)
    assert torch.equal(mirrored.text.ids, tokenise(["right kidney"]).ids)
    assert not torch.equal(mirrored.text.ids, asked.text.ids)
    assert torch.equal(mirrored.target, asked.target.flip(-1))
    assert torch.equal(mirrored.images.pixels, asked.images.pixels.flip(-1))
    united = batch(tokenise, [given], None, phrases=1.0, text_dropout=1.0)
    assert torch.equal(united.text.ids, tokenise(["A report, left."]).ids)
    assert np.array_equal(united.target[0].numpy(), given.target)
    assert torch.equal(united.images.pixels, asked.images.pixels)


def test_the_text_is_left_out_and_the_mask_stays(tokenise: Tokenise) -> None:
    given = sample(LIVER)
    for phrases, mask in ((0.0, given.target), (1.0, filled(UPPER) > 0)):
        found = batch(tokenise, [given], text_dropout=1.0, phrases=phrases)
        assert torch.equal(found.text.ids, tokenise([""]).ids)
        assert np.array_equal(found.target[0].numpy(), mask)
    samples = [sample(LIVER, key=key) for key in range(200)]
    lengths = batch(tokenise, samples, text_dropout=0.3).text.mask.sum(dim=1)
    assert 40 < (lengths == 2).sum() < 80, "the empty text is its two special tokens"


def test_an_image_without_a_pair_keeps_its_text_and_all_that_is_outlined(tokenise: Tokenise) -> None:
    # The outline of the second has no pixel left.
    for given in (sample(), sample(region("kidney", (3, 3, 3, 3)))):
        plain, asked = (batch(tokenise, [given], 3, mirror=0.5, rotation=10.0, phrases=chance) for chance in (0.0, 1.0))
        assert torch.equal(plain.text.ids, asked.text.ids)
        assert torch.equal(plain.target, asked.target)
        assert torch.equal(plain.images.pixels, asked.images.pixels)


def test_a_permuted_batch_has_permuted_rows(tokenise: Tokenise) -> None:
    samples = [sample(LIVER, *KIDNEYS, key=key) for key in range(6)]
    changes = {"phrases": 0.7, "text_dropout": 0.3, "mirror": 0.5}
    one, other = batch(tokenise, samples, 2, **changes), batch(tokenise, samples[::-1], 2, **changes)
    assert torch.equal(one.target, other.target.flip(0))
    assert torch.equal(one.text.ids, other.text.ids.flip(0))


def test_a_method_that_reads_no_text_cannot_be_trained_on_phrases() -> None:
    phases = {"joint": Phase(epochs=1, batch_size=2, learning_rate=0.1, losses=("segmentation",))}
    engine = EngineConfig(num_workers=0)
    for changes in ({"phrases": 0.5}, {"text_dropout": 0.1}):
        config = TrainingConfig(phases=phases, augmentation=Augmentation(**changes))
        with pytest.raises(ValueError, match="phrases or text_dropout, but the method reads no text") as caught:
            check_phases(UNet(UNetConfig(base=2), 9), config, engine, usable=8, validation=8)
        assert "\n" not in str(caught.value)


def test_what_is_asked_changes_no_image() -> None:
    # Features of a frozen image encoder stay right.
    assert not Augmentation(phrases=0.5, text_dropout=0.1).changes_images
    assert Augmentation(phrases=0.5, mirror=0.1).changes_images
    assert not Augmentation(mirror=0.1).changes_texts
