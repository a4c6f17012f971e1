"""The square that MedSAM, SAM 2 and SAM 3 see: the whole image resized to it, its aspect ratio not kept."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from models.geometry import Box
from models.loading import pixel_statistics
from pipelines.errors import UserError
from pipelines.proposals.checkpoint import Checkpoint


@dataclass(frozen=True, kw_only=True)
class Square:
    """What a checkpoint of SAM 2 or SAM 3 expects of its images.

    Their own image processors need torchvision; this does the same with Pillow.

    Attributes:
        side: Pixels.
        mean: Of the pixels, 0 to 1, a channel.
        deviation: As `mean`.
    """

    side: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @classmethod
    def of(cls, checkpoint: Checkpoint, side: int) -> "Square":
        """The square of a checkpoint whose model takes images of `side` pixels.

        Raises:
            UserError: Its preprocessor_config.json is absent, or lacks mean or deviation.
        """
        try:
            mean, deviation = pixel_statistics(checkpoint.model, checkpoint.revision)
        except ValueError as error:
            raise UserError(str(error)) from None
        return cls(side=side, mean=tuple(mean), deviation=tuple(deviation))

    def pixels(self, image: Image.Image) -> Tensor:
        """(3, side, side): resized bilinearly in 8 bits, with means over areas where it gets smaller; normalised."""
        resized = image.convert("RGB").resize((self.side, self.side), Image.Resampling.BILINEAR)
        values = torch.from_numpy(np.asarray(resized, dtype=np.float32) / 255).permute(2, 0, 1)
        mean, deviation = (torch.tensor(channels)[:, None, None] for channels in (self.mean, self.deviation))
        return (values - mean) / deviation


def scale_boxes(boxes: Sequence[Box], size: tuple[int, int], side: int) -> Tensor:
    """Boxes in pixels of an image of (width, height) -> pixels of the square, shape (n, 4)."""
    return torch.tensor(boxes, dtype=torch.float64).mul(side).div(torch.tensor([*size, *size])).float()
