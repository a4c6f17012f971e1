"""SAM's decoder on the features of one image, for the segmenters that have one."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from pipelines.proposals.protocols import Segment

# SAM's stability score moves the threshold by 1 either way, in logits.
LOGITS = (-1.0, 0.0, 1.0)
# Boxes that the decoder works on at once: 32 take half a gigabyte.
_DECODED = 32

Answer = Callable[[Tensor], tuple[Tensor, Tensor]]


@torch.inference_mode()
def decode(model: Any, name: str, features: Tensor | list[Tensor], boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (n, rows, columns) and predicted IoUs (n), 0 to 1, of boxes in pixels of the model's square.

    Args:
        model: SamModel, Sam2Model or Sam3TrackerModel of `transformers`.
        name: Its name, for the error.
        features: What the model's `get_image_embeddings` gives, a batch of one: SAM (1, 256, 64, 64), the later ones
            three maps.
        boxes: (n, 4).

    Raises:
        FloatingPointError: The model answered NaN.
    """
    answer = model(image_embeddings=features, input_boxes=boxes[None].to(model.device), multimask_output=False)
    if not (answer.pred_masks.isfinite().all() and answer.iou_scores.isfinite().all()):
        raise FloatingPointError(f"{name} answered NaN")
    return answer.pred_masks[0, :, 0].float(), answer.iou_scores[0, :, 0].float().clamp(0, 1).cpu()


def segments(
    answer: Answer, boxes: Tensor, size: tuple[int, int], cuts: tuple[float, float, float] = LOGITS
) -> Iterator[Segment]:
    """The masks of boxes of one image, one by one.

    Args:
        answer: Some boxes (n, 4) -> low-resolution masks (n, rows, columns) of the whole image, and predicted IoUs (n).
        boxes: (n, 4) in pixels of the model's square.
        size: (width, height) of the image.
        cuts: Of the masks' values, the one above which a pixel belongs to the mask, between the two of the stability.
    """
    loose_cut, cut, tight_cut = cuts
    for some in boxes.split(_DECODED):
        for low, quality in zip(*answer(some), strict=True):
            # One at a time: the values of a 4,000-pixel image take 64 MB.
            full = interpolate(low[None, None], (size[1], size[0]), mode="bilinear", align_corners=False)
            values = full[0, 0].cpu().numpy()
            tight, loose = (np.count_nonzero(values > threshold) for threshold in (tight_cut, loose_cut))
            stability = float(tight / loose) if loose else 0.0
            yield Segment(mask=values > cut, quality=float(quality), stability=stability)
