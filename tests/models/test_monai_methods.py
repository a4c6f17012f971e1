"""The baselines that see the image alone: those that MONAI builds, and TransUNet."""

from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from models.attention_unet.config import AttentionUNetConfig
from models.attention_unet.model import AttentionUNet
from models.data.batches import Images, Tokenise, Tokens
from models.data.shards import ShardSet
from models.nnunet.config import NnUNetConfig
from models.nnunet.model import NnUNet
from models.segmentation.batches import SegmentationBatch, SegmentationCollate
from models.segmentation.method import SegmentationMethod
from models.swin_unetr.config import SwinUnetrConfig
from models.swin_unetr.model import SwinUnetr
from models.transunet.config import TransUNetConfig
from models.transunet.model import TransUNet
from models.unetpp.config import UNetPlusPlusConfig
from models.unetpp.model import UNetPlusPlus
from tests.models.small import write_shards

SMALL_VIT = {"image_size": 64, "depths": (1, 1, 1), "hidden_size": 16, "layers": 1, "heads": 2}
MAKE = {
    "unetpp": lambda: UNetPlusPlus(UNetPlusPlusConfig(base=4), 20),
    "attention_unet": lambda: AttentionUNet(AttentionUNetConfig(base=4), 20),
    "swin_unetr": lambda: SwinUnetr(SwinUnetrConfig(feature_size=12), 20),
    "nnunet": lambda: NnUNet(NnUNetConfig(image_size=64, base=4), 20),
    "transunet": lambda: TransUNet(TransUNetConfig(base=8, **SMALL_VIT), 20),
}


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> SegmentationBatch:
    """Four images of 64 pixels, with texts of different lengths."""
    root: Path = write_shards(tmp_path_factory.mktemp("shards"), 4, size=64)
    shards = ShardSet(root / "images", root / "captions", "train")
    return SegmentationCollate(Tokenise(tokenizer, 32), None, 0)([shards.sample(place) for place in range(4)])


@pytest.fixture(params=MAKE)
def model(request: pytest.FixtureRequest) -> SegmentationMethod:
    torch.manual_seed(0)
    return MAKE[request.param]()


def test_segment_returns_one_probability_per_pixel_and_ignores_the_text(
    model: SegmentationMethod, batch: SegmentationBatch
) -> None:
    model.eval()
    assert not model.reads_text
    text = batch.text
    others = Tokens(text.ids.flip(0), text.mask.flip(0), text.words.flip(0))
    with torch.no_grad():
        found = model.segment(batch.images, text)
        assert torch.equal(model.segment(batch.images, others), found)
    assert found.shape == (4, 64, 64)
    assert 0 <= found.min() < found.max() <= 1


def test_images_do_not_change_one_another(model: SegmentationMethod, batch: SegmentationBatch) -> None:
    model.eval()
    images = batch.images
    flipped = Images(images.pixels.flip(0), images.crops, images.owner)
    with torch.no_grad():
        found, other = model.segment(images, batch.text), model.segment(flipped, batch.text)
    torch.testing.assert_close(other, found.flip(0), rtol=1e-4, atol=1e-5)


def test_a_deterministic_step_reaches_every_weight_and_lowers_the_loss(
    model: SegmentationMethod, batch: SegmentationBatch
) -> None:
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    torch.use_deterministic_algorithms(True)
    try:
        losses = []
        for _ in range(4):
            optimiser.zero_grad()
            (loss,) = model(batch, model.losses).values()
            loss.backward()
            losses.append(loss.item())
            missed = [name for name, part in model.named_parameters() if part.grad is None or not part.grad.any()]
            optimiser.step()
    finally:
        torch.use_deterministic_algorithms(False)
    assert missed == []
    assert losses[-1] < losses[0]


def test_grad_cam_finds_the_first_decoder(model: SegmentationMethod, batch: SegmentationBatch) -> None:
    shapes = []
    model.first_decoder.register_forward_hook(lambda part, inputs, output: shapes.append(tuple(output.shape)))
    model.eval().logits(batch.images, batch.text)
    assert shapes == [(4, 96, 4, 4) if isinstance(model, SwinUnetr) else (4, 32, 8, 8)]


@pytest.mark.parametrize(
    ("name", "side", "says"),
    [
        ("unetpp", 40, "multiples of 16"),
        ("unetpp", 16, "32 pixels or more"),
        ("attention_unet", 40, "multiples of 16"),
        ("swin_unetr", 48, "multiples of 32"),
        ("swin_unetr", 32, "64 pixels or more"),
    ],
)
def test_sides_that_cannot_be_halved_are_refused(name: str, side: int, says: str) -> None:
    pixels = torch.zeros(1, 3, side, 64, dtype=torch.uint8)
    with pytest.raises(ValueError, match=f"{name} needs .*{says}.*have {side} x 64"):
        MAKE[name]().logits(Images(pixels, pixels[:0], torch.zeros(0, dtype=torch.long)), None)


def test_a_feature_size_that_heads_cannot_share_is_refused() -> None:
    with pytest.raises(ValueError, match="feature_size 20 must be a multiple of 12"):
        SwinUnetrConfig(feature_size=20)
