"""Predictions of images from outside the shards."""

import io
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from models import checkpoint
from models.clip.model import Clip
from models.data.batches import Images, Tokens
from models.inference import embed_images, embed_texts
from models.method import Method
from models.prediction import PredictionError, Predictor
from models.preparation import InputFormat
from models.regionmed_clip.model import RegionMedClip
from models.served import answer
from models.unet.config import UNetConfig
from models.unet.model import UNet
from models.verified import DamagedError
from tests.models.small import make_model
from tests.shards import INPUT_FORMAT

SIZE_32 = InputFormat(image_size=32, crop_size=8, crop_margin=0.0, quality=95)


@dataclass(frozen=True)
class BrightConfig:
    """What the encoder sees of the square, from its first pixel."""

    visible: int = 32


class Bright(Method):
    """Marks what is bright: its mask is the bright pixels, its heat map the brightness of cells of 4 x 4 pixels."""

    Config = BrightConfig
    max_regions = 0

    def __init__(self, config: BrightConfig, vocabulary_size: int) -> None:
        super().__init__()
        self.config = config
        self.scale = nn.Parameter(torch.ones(1))

    def visible_crop(self, side: int) -> slice:
        return slice(0, self.config.visible)

    def segment(self, images: Images, tokens: Tokens) -> Tensor:
        return self.scale * images.pixels.float().mean(dim=1) / 255

    def ground(self, images: Images, tokens: Tokens) -> Tensor:
        return nn.functional.avg_pool2d(self.segment(images, tokens), 4)[..., : self.config.visible // 4, :][
            ..., : self.config.visible // 4
        ]

    def forward(self, batch: Any, losses: Sequence[str]) -> dict[str, Tensor]:
        raise NotImplementedError


def saved(folder: Path, model: Method, tokenizer, wanted: InputFormat = INPUT_FORMAT) -> Path:
    folder.mkdir()
    checkpoint.save(folder, "some_method", model.eval(), model.state_dict(), tokenizer, {}, wanted)
    return folder


@pytest.fixture
def clip(tokenizer, tmp_path: Path) -> Predictor:
    return Predictor(saved(tmp_path / "clip", make_model(tokenizer, Clip), tokenizer), Clip)


def bright(tokenizer, folder: Path, **settings: Any) -> Predictor:
    return Predictor(saved(folder, Bright(BrightConfig(**settings), len(tokenizer)), tokenizer, SIZE_32), Bright)


def png(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "PNG")
    return stream.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def with_chunk(data: bytes, kind: bytes, body: bytes) -> bytes:
    """A PNG file with one more chunk before its end."""
    end = data.rindex(b"IEND") - 4
    return data[:end] + chunk(kind, body) + data[end:]


def large(side: int) -> bytes:
    """The head of a PNG file of grey pixels."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", b"")


NOISE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def test_each_method_says_what_it_gives(tokenizer, tmp_path: Path, clip: Predictor) -> None:
    both = ("image_embedding", "text_embedding", "similarity", "region_embeddings", "heat_map")
    assert clip.offers == both
    assert clip.reads_regions
    unet = Predictor(saved(tmp_path / "unet", UNet(UNetConfig(base=4), len(tokenizer)), tokenizer), UNet)
    assert unet.offers == ("mask",)
    assert not unet.reads_regions
    with pytest.raises(PredictionError, match=r"UNet gives no similarity, heat_map; it gives mask"):
        unet.require(["similarity", "mask", "heat_map"])


@pytest.mark.parametrize(("width", "height"), [(96, 48), (48, 96), (80, 80), (20, 10)])
def test_masks_and_heat_maps_lie_where_the_image_has_what_they_show(
    tokenizer, tmp_path: Path, width: int, height: int
) -> None:
    values = np.zeros((height, width), np.uint8)
    inside = np.s_[height // 4 : height // 2, width // 2 : 3 * width // 4]
    values[inside] = 255
    predictor = bright(tokenizer, tmp_path / "bright")
    sample = predictor.prepare("a", Image.fromarray(values))
    (probability,) = predictor.masks([(sample, "")])
    mask, truth = probability > 0.5, values > 0
    assert mask.shape == (height, width)
    assert (mask & truth).sum() / (mask | truth).sum() > 0.8
    (heat_map,) = predictor.heat_maps([(sample, "bright")])
    assert heat_map.shape == (height, width)
    assert truth[np.unravel_index(heat_map.argmax(), heat_map.shape)]
    assert heat_map[inside].mean() > 0.5 > 0.1 > heat_map[~truth].mean()


def test_a_heat_map_says_nothing_where_the_encoder_sees_nothing(tokenizer, tmp_path: Path) -> None:
    predictor = bright(tokenizer, tmp_path / "bright", visible=16)
    (heat_map,) = predictor.heat_maps([(predictor.prepare("a", Image.new("L", (64, 64), 200)), "")])
    known = ~np.isnan(heat_map)
    assert known[:30, :30].all()
    assert not known[34:].any()
    assert not known[:, 34:].any()
    np.testing.assert_allclose(heat_map[:30, :30], 200 / 255, atol=0.02)


def test_embeddings_are_those_of_evaluation(clip: Predictor) -> None:
    samples = [clip.prepare(str(n), Image.fromarray(np.roll(NOISE, n, axis=0))) for n in range(5)]
    np.testing.assert_array_equal(clip.embed_images(samples), embed_images(clip.model, samples, 16))
    texts = ["A RED picture.", "green"]
    np.testing.assert_array_equal(clip.embed_texts(texts), embed_texts(clip.model, clip._tokenizer, texts, 16))
    # The method reads texts in lower case and without punctuation.
    np.testing.assert_array_equal(clip.embed_texts(texts), clip.embed_texts(["a red picture", "green"]))


def test_regions_change_the_image_of_a_method_that_looks_at_them(tokenizer, tmp_path: Path) -> None:
    model = make_model(tokenizer, RegionMedClip, embedding="mean")
    predictor = Predictor(saved(tmp_path / "regions", model, tokenizer), RegionMedClip)
    image = Image.fromarray(NOISE)
    whole, marked = predictor.prepare("0", image), predictor.prepare("1", image, [(0, 0, 5, 5), (10, 10, 40, 40)])
    first, second = predictor.embed_images([whole, marked])
    assert not np.allclose(first, second, atol=1e-3)
    none, two = predictor.embed_regions([whole, marked])
    assert none.shape[0] == 0
    assert two.shape == (2, 8)
    # What hangs out of the image is cut off.
    (again,) = predictor.embed_regions([predictor.prepare("0", image, [(10, 10, 30, 20)])])
    np.testing.assert_allclose(again[0], two[1], atol=1e-6)


BOXES = [
    (30, 0, 40, 5),
    (5, 5, 5, 9),
    (1, 2, 3),
    (0, 0, float("nan"), 3),
    (0, 0, 10**310, 3),
    # What a request may bring in the place of four numbers.
    ("a", 0, 4, 4),
    (None, 0, 4, 4),
    ([0, 0], [4, 4], 1, 2),
    ([0, 0], [4, 4], [1, 1], [2, 2]),
    (0, 0, 4j, 4),
    "0044",
    {0: 0, 1: 0, 2: 4, 3: 4},
    5,
    np.array(5),
    np.zeros((4, 2)),
]


@pytest.mark.parametrize("box", BOXES)
def test_a_box_that_holds_nothing_of_the_image_is_refused(clip: Predictor, box: Any) -> None:
    with pytest.raises(PredictionError, match=r"no area|a region is a box") as caught:
        clip.prepare("a", Image.fromarray(NOISE), [box])
    assert len(str(caught.value).splitlines()) == 1


def test_boxes_of_any_kind_of_numbers_are_the_same(clip: Predictor) -> None:
    boxes = [(0, 0, 5, 5), [0.0, 0.0, 5.0, 5.0], np.array([0, 0, 5, 5]), np.array([0, 0, 5, 5], np.float32)]
    samples = [clip.prepare("a", Image.fromarray(NOISE), [box]) for box in boxes]
    assert len({sample.members["crops.bin"] for sample in samples}) == 1


def test_diverged_weights_are_told(tokenizer, tmp_path: Path) -> None:
    model = Bright(BrightConfig(), len(tokenizer))
    nn.init.constant_(model.scale, float("nan"))
    predictor = Predictor(saved(tmp_path / "nan", model, tokenizer, SIZE_32), Bright)
    with pytest.raises(PredictionError, match=r"the mask is not finite: the weights of the model diverged"):
        list(predictor.masks([(predictor.prepare("a", Image.fromarray(NOISE)), "")]))


def test_a_damaged_checkpoint_is_not_loaded(tokenizer, tmp_path: Path) -> None:
    folder = saved(tmp_path / "clip", make_model(tokenizer, Clip), tokenizer)
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    with pytest.raises(DamagedError, match=r"model\.safetensors has other bytes"):
        Predictor(folder, Clip)


def test_rows_of_images_and_texts_get_what_they_have_the_inputs_of(clip: Predictor) -> None:
    rows = [
        {"image": png(NOISE), "text": "red"},
        {"image": None, "text": "green"},
        {"image": png(NOISE[::-1])},
        {"text": None},
    ]
    found = answer(clip, rows, clip.offers)
    assert [value is not None for value in found["image_embedding"]] == [True, False, True, False]
    assert [value is not None for value in found["text_embedding"]] == [True, True, False, False]
    assert [value is not None for value in found["similarity"]] == [True, False, False, False]
    assert [value is not None for value in found["heat_map"]] == [True, False, False, False]
    assert found["heat_map"][0].shape == (20, 30)
    expected = found["image_embedding"][0] @ found["text_embedding"][0]
    assert found["similarity"][0] == pytest.approx(expected)
    assert answer(clip, rows, ["similarity"]) == {"similarity": [pytest.approx(expected), None, None, None]}
    assert answer(clip, [], ["similarity"]) == {"similarity": []}


def test_a_mask_needs_no_text(tokenizer, tmp_path: Path) -> None:
    values = np.zeros((16, 32), np.uint8)
    values[:, :16] = 255
    found = answer(bright(tokenizer, tmp_path / "bright"), [{"image": png(values)}, {"text": "x"}], ["mask"])
    assert found["mask"][0].dtype == bool
    np.testing.assert_array_equal(found["mask"][0], values > 0)
    assert found["mask"][1] is None


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"image": b"GIF89a"}, "row 1: not a PNG or JPEG file"),
        ({"image": png(NOISE)[:200]}, "row 1: the image cannot be read"),
        ({"image": "a.png"}, "row 1: an image is the bytes of a PNG or JPEG file, not str"),
        ({"text": 3}, "row 1: a text is a string, not int"),
        ({"image": png(NOISE), "regions": [[0, 0, 1]]}, "row 1: a region is a box x0, y0, x1, y1"),
        ({"image": png(NOISE), "regions": [["a", 0, 4, 4]]}, "row 1: a region is a box .* not \\['a', 0, 4, 4\\]"),
        ({"image": png(NOISE), "regions": 5}, "row 1: regions are boxes .* not int"),
        ({"image": png(NOISE), "regions": np.array(5)}, "row 1: regions are boxes .* not ndarray"),
        ({"image": png(NOISE), "regions": {"x0": 1}}, "row 1: regions are boxes .* not dict"),
        # A profile whose chunk holds nothing, behind the pixels: Pillow raises what it raises nowhere else.
        ({"image": with_chunk(png(NOISE), b"iCCP", b"x\0")}, "row 1: the image cannot be read: "),
        ({"image": large(11_000)}, "row 1: 11000 x 11000 pixels, at most"),
        ({"text": "half \ud800 a pair"}, "row 1: a text has half a surrogate pair"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(clip: Predictor, row: dict[str, Any], message: str) -> None:
    with pytest.raises(PredictionError, match=message):
        answer(clip, [{"text": "red"}, row], clip.offers)
