"""LiteMedSAM's way from pixels to masks, with random weights; its answers are in tests/pipelines/weights."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from models.lite_medsam import WEIGHTS, empty_model, save_weights
from pipelines.errors import UserError
from pipelines.proposals.segmenters.lite_medsam import LiteMedSam, preprocess, scale_boxes, shown_size


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> LiteMedSam:
    folder = tmp_path_factory.mktemp("lite_medsam")
    torch.manual_seed(0)
    save_weights(empty_model(), folder / WEIGHTS)
    return LiteMedSam({"model": str(folder)})


@pytest.mark.parametrize(
    ("size", "shown"),
    [((256, 256), (256, 256)), ((512, 384), (256, 192)), ((64, 32), (256, 128)), ((333, 100), (256, 77))],
)
def test_the_longer_side_fills_the_square(size: tuple[int, int], shown: tuple[int, int]) -> None:
    assert shown_size(size) == shown
    values = preprocess(Image.effect_noise(size, 60))
    width, height = shown
    assert values.shape == (3, 256, 256)
    assert values[:, :height, :width].min() == 0
    assert values[:, :height, :width].max() == 1
    assert not values[:, height:].any()
    assert not values[:, :, width:].any()


def test_smaller_pictures_are_means_over_areas() -> None:
    values = np.random.default_rng(0).integers(0, 256, (512, 512), dtype=np.uint8)
    means = values.reshape(256, 2, 256, 2).mean(axis=(1, 3))
    found = preprocess(Image.fromarray(values))[0].numpy()
    low, high = means.min(), means.max()
    # Resized in 8 bits.
    assert np.abs(found * (high - low) + low - means).max() < 1.01


def test_an_even_picture_is_zero_not_nan() -> None:
    assert torch.equal(preprocess(Image.new("L", (32, 50), 90)), torch.zeros(3, 256, 256))


def test_boxes_in_pixels_of_the_square_keep_the_aspect_ratio() -> None:
    assert scale_boxes([(16, 8, 48, 24)], (64, 32))[0].tolist() == [64, 32, 192, 96]


def halves(module: Any, inputs: Any, output: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits 10 in the left half of the square, 0.5 in the quarter right of it, -10 beyond."""
    logits = torch.full_like(output[0], -10.0)
    logits[..., :128], logits[..., 128:192] = 10.0, 0.5
    return logits, torch.full_like(output[1], 2.0)


@pytest.mark.parametrize("size", [(32, 32), (400, 300), (300, 400), (2000, 640)])
def test_masks_come_back_at_the_size_and_place_of_the_image(segmenter: LiteMedSam, size: tuple[int, int]) -> None:
    hook = segmenter.model.mask_decoder.register_forward_hook(halves)
    try:
        (found,) = segmenter.segment([Image.effect_noise(size, 50)], [[(0, 0, *size), (1, 1, 20, 20)]])
        first, _ = found
    finally:
        hook.remove()
    width, height = size
    assert first.mask.shape == (height, width)
    # The square shows the longer side at 256: of it, 192 columns are above 0, and 128 above 1.
    scale = 256 / max(size)
    columns = min(width, round(192 / scale))
    assert first.mask[:, : columns - 8].all()
    assert abs(int(first.mask[0].sum()) - columns) <= 8
    assert first.quality == 1
    expected = min(width, 128 / scale) / columns
    assert first.stability == pytest.approx(expected, abs=0.05)


def test_more_boxes_than_the_decoder_takes_at_once(segmenter: LiteMedSam) -> None:
    image = Image.effect_noise((64, 64), 50)
    boxes = [(float(n % 20), 2.0, 40.0 + n % 20, 50.0) for n in range(34)]
    (found,) = segmenter.segment([image], [boxes])
    (last,) = segmenter.segment([image], [boxes[33:]])
    qualities = [one.quality for one in found]
    assert len(qualities) == 34
    assert next(last).quality == pytest.approx(qualities[33], abs=1e-5)


def test_a_folder_of_other_weights_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no folder here"):
        LiteMedSam({"model": str(tmp_path / "absent")})
    with pytest.raises(UserError, match="`make weights` makes those of data/weights/README"):
        LiteMedSam({"model": "data/weights/absent"})
    (tmp_path / "other.safetensors").touch()
    with pytest.raises(
        UserError, match=r"is no folder with model\.safetensors; `make weights` makes data/weights/lite_medsam"
    ):
        LiteMedSam({"model": str(tmp_path)})
    save_weights(torch.nn.Linear(2, 2), tmp_path / WEIGHTS)
    with pytest.raises(UserError, match="is no LiteMedSAM of `make weights`") as caught:
        _ = LiteMedSam({"model": str(tmp_path)}).model
    assert "\n" not in str(caught.value)
