"""SAM's decoder on the features of one image, for the segmenters that have one."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from pipelines.proposals.protocols import Segment


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


def segment_of(low: Tensor, quality: float, size: tuple[int, int]) -> Segment:
    """The mask of one box at the size of its image, cut at 0.

    Args:
        low: Logits (rows, columns) of the whole image.
        quality: Predicted IoU, 0 to 1.
        size: (width, height) of the image.
    """
    # One at a time: the logits of a 4,000-pixel image take 64 MB.
    logits = interpolate(low[None, None], (size[1], size[0]), mode="bilinear", align_corners=False)
    values = logits[0, 0].cpu().numpy()
    # SAM's stability score moves the threshold by 1 either way, in logits.
    tight, loose = (np.count_nonzero(values > threshold) for threshold in (1.0, -1.0))
    return Segment(mask=values > 0, quality=quality, stability=float(tight / loose) if loose else 0.0)
