"""SAM's decoder on the features of one image, for the segmenters that have one."""

from typing import Any

import torch
from torch import Tensor


@torch.inference_mode()
def decode(model: Any, name: str, embedding: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (n, 256, 256) and predicted IoUs (n), 0 to 1, of boxes in pixels of the model's square.

    Args:
        model: SamModel of `transformers`.
        name: Its name, for the error.
        embedding: (256, 64, 64), on the model's device.
        boxes: (n, 4).

    Raises:
        FloatingPointError: The model answered NaN.
    """
    answer = model(
        image_embeddings=embedding[None], input_boxes=boxes[None].to(embedding.device), multimask_output=False
    )
    if not (answer.pred_masks.isfinite().all() and answer.iou_scores.isfinite().all()):
        raise FloatingPointError(f"{name} answered NaN")
    return answer.pred_masks[0, :, 0].float(), answer.iou_scores[0, :, 0].float().clamp(0, 1).cpu()
