"""MedSAM's way from pixels to masks, on a checkpoint of SAM's real architecture with random weights."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.transform import resize
from transformers import SamModel

from models.geometry import box_of_mask
from pipelines.errors import UserError
from pipelines.images import open_image
from pipelines.proposals.protocols import Segment
from pipelines.proposals.segmenters.medsam import MedSam, preprocess
from pipelines.proposals.square import scale_boxes


@pytest.fixture(scope="module")
def medsam(sam_folder: Path) -> MedSam:
    return MedSam({"model": str(sam_folder)})


def segments(medsam: MedSam, image: Image.Image, *boxes: tuple[float, ...]) -> list[Segment]:
    (found,) = medsam.segment([image], [boxes])
    return list(found)


def published_preprocessing(image: Image.Image) -> torch.Tensor:
    """As MedSAM_Inference.py has it."""
    values = np.asarray(image)
    values = np.repeat(values[:, :, None], 3, axis=-1) if values.ndim == 2 else values
    square = resize(values, (1024, 1024), order=3, preserve_range=True, anti_aliasing=True).astype(np.uint8)
    square = (square - square.min()) / np.clip(square.max() - square.min(), a_min=1e-8, a_max=None)
    return torch.tensor(square).float().permute(2, 0, 1)


@pytest.mark.parametrize("shape", [(40, 70), (40, 70, 3), (1500, 1100)])
def test_preprocessing_is_that_of_medsam(shape: tuple[int, ...]) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(20, 200, shape, dtype=np.uint8))
    assert torch.equal(preprocess(image), published_preprocessing(image))


def test_an_even_picture_is_zero_not_nan() -> None:
    assert torch.equal(preprocess(Image.new("L", (32, 50), 90)), torch.zeros(3, 1024, 1024))


@pytest.mark.parametrize(
    ("size", "box", "expected"),
    [
        ((32, 32), (0, 0, 32, 32), (0, 0, 1024, 1024)),
        ((64, 32), (16, 8, 48, 24), (256, 256, 768, 768)),  # the aspect ratio is not kept
        ((4000, 32), (1000, 8, 3000, 16), (256, 256, 768, 512)),
        ((4000, 4000), (1, 2, 3, 4000), (0.256, 0.512, 0.768, 1024)),
        ((333, 4000), (33.3, 400, 166.5, 2000), (102.4, 102.4, 512, 512)),
    ],
)
def test_boxes_in_pixels_of_the_square(size: Any, box: Any, expected: Any) -> None:
    assert scale_boxes([box], size, 1024)[0].tolist() == pytest.approx(expected, rel=1e-6)


def quarters(module: Any, inputs: Any, output: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits 10 in the left upper quarter, 0.5 right of it, -10 below; predicted IoUs 2 (too much) and 0.75."""
    logits = torch.full_like(output[0], -10.0)
    logits[..., :128, :128], logits[..., :128, 128:] = 10.0, 0.5
    quality = torch.full_like(output[1], 2.0)
    quality[:, 1:] = 0.75
    return logits, quality


@pytest.mark.parametrize("size", [(32, 32), (4000, 32), (32, 4000), (2000, 2000), (640, 480)])
def test_masks_come_back_at_the_size_of_the_image(medsam: MedSam, size: tuple[int, int]) -> None:
    """Positive logits fill the upper half; only the left of it stays at a threshold that is higher by 1."""
    hook = medsam.model.mask_decoder.register_forward_hook(quarters)
    try:
        image = Image.effect_noise(size, 50)
        found = segments(medsam, image, (0, 0, *size), (1, 1, 20, 20))
    finally:
        hook.remove()
    width, height = size
    assert [segment.quality for segment in found] == [1.0, 0.75]
    for segment in found:
        assert segment.mask.shape == (height, width)
        # Between the halves lies one cell of the decoder's 256, blurred: it may fall to either side.
        blur = height / 256 + 1
        assert box_of_mask(segment.mask)[:3] == (0, 0, width)
        assert abs(box_of_mask(segment.mask)[3] - height / 2) <= blur
        assert segment.stability == pytest.approx(0.5, abs=0.04)


def test_an_image_is_encoded_once_for_all_its_boxes(medsam: MedSam) -> None:
    images = [Image.effect_noise((60, 40), 50), Image.effect_noise((40, 60), 50)]
    encoded: list[torch.Size] = []
    decoded: list[int] = []
    hooks = [
        medsam.model.vision_encoder.register_forward_pre_hook(lambda module, inputs: encoded.append(inputs[0].shape)),
        medsam.model.prompt_encoder.register_forward_hook(
            lambda module, inputs, output: decoded.append(output[0].shape[1])
        ),
    ]
    try:
        boxes = [(2.0, 2.0, 30.0, 30.0)] * 40
        answers = [list(found) for found in medsam.segment(images, [boxes, boxes[:2]])]
    finally:
        for hook in hooks:
            hook.remove()
    assert encoded == [(2, 3, 1024, 1024)]
    assert decoded == [32, 8, 2]
    assert [len(found) for found in answers] == [40, 2]


def test_masks_are_those_of_the_published_inference(medsam: MedSam, sam_folder: Path, shared_data: Path) -> None:
    """The model called with pixels and box at once, and sigmoid, resize, threshold as MedSAM_Inference.py has them."""
    root = shared_data / "kvasir_seg" / "validation"
    name = sorted(file.name for file in (root / "images").iterdir())[0]
    image = open_image(root, f"images/{name}")
    box = np.array([0.2 * image.width, 0.3 * image.height, 0.7 * image.width, 0.9 * image.height])
    width, height = image.size
    model = SamModel.from_pretrained(sam_folder).eval()
    with torch.no_grad():
        answer = model(
            pixel_values=published_preprocessing(image)[None],
            input_boxes=torch.tensor(box / np.array([width, height, width, height]) * 1024).float()[None, None],
            multimask_output=False,
        )
    low = torch.sigmoid(answer.pred_masks[0])
    share = torch.nn.functional.interpolate(low, size=(height, width), mode="bilinear", align_corners=False)[0, 0]
    (found,) = segments(medsam, image, tuple(box))
    expected = share.numpy() > 0.5
    assert 0 < expected.mean() < 1
    assert (found.mask == expected).mean() > 0.9999
    assert found.quality == pytest.approx(answer.iou_scores[0, 0, 0].clamp(0, 1).item(), abs=1e-5)


def test_a_model_that_answers_nan_is_no_silent_empty_mask(sam_folder: Path) -> None:
    broken = MedSam({"model": str(sam_folder)})
    with torch.no_grad():
        broken.model.mask_decoder.iou_token.weight.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="NaN"):
        segments(broken, Image.new("L", (32, 32), 9), (1, 1, 9, 9))


def test_checkpoint_of_another_model_is_refused(dino_folder: Path) -> None:
    with pytest.raises(UserError, match="is no checkpoint for SamModel: it is of type grounding-dino, not sam"):
        segments(MedSam({"model": str(dino_folder)}), Image.new("L", (32, 32)), (1, 1, 9, 9))
