"""Methods that segment on the patches of an image encoder, such as a DINOv2, which has one size of features alone."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.encoders import ImageEncoder
from models.token_layout import as_grid


def patch_map(patches: Tensor, rows: int, columns: int) -> Tensor:
    """Patches of square images (batch, patches, width), by rows -> (batch, width, rows, columns), bilinear."""
    grid = as_grid(patches).permute(0, 3, 1, 2)
    # Without antialiasing a map of fewer positions would leave patches out.
    return F.interpolate(grid, (rows, columns), mode="bilinear", align_corners=False, antialias=True)


def check_whole(image_encoder: ImageEncoder) -> None:
    """Refuse an encoder that sees only a part of the images.

    Raises:
        ValueError: It cuts them.
    """
    if image_encoder.config.crop is not None:
        raise ValueError("image_encoder.crop cuts the image, but not its mask: remove it")


class PatchFusion(nn.Module):
    """A U-Net's deepest features mixed with the patches of an image encoder; its finer features stay.

    So has TransUNet (Chen et al. 2021, arXiv:2102.04306) a transformer between a convolutional encoder and a decoder;
    there the transformer reads the convolutions' features, here the image.

    Args:
        image_encoder: Which is not kept: `forward` gets its patches.
        channels: Of the deepest features.

    Raises:
        ValueError: The image encoder cuts images.
    """

    def __init__(self, image_encoder: ImageEncoder, channels: int) -> None:
        super().__init__()
        check_whole(image_encoder)
        width = image_encoder.width
        # The patches have no common scale: those of one family are a hundred times those of another.
        self.norm = nn.LayerNorm(width)
        self.mix = nn.Sequential(nn.Conv2d(channels + width, channels, 1), nn.BatchNorm2d(channels), nn.ReLU())

    def forward(self, levels: Sequence[Tensor], patches: Tensor) -> list[Tensor]:
        """What `UNetEncoder` gives, and (batch, patches, width) -> the levels, the last of them changed."""
        *above, deepest = levels
        beside = patch_map(self.norm(patches), *deepest.shape[2:])
        return [*above, self.mix(torch.cat([deepest, beside], dim=1))]


class Reassemble(nn.Module):
    """Patches as features of another width and size (DPT, Ranftl et al. 2021, arXiv:2103.13413).

    Args:
        width: Of the patches.
        narrower: Of what comes out.
    """

    def __init__(self, width: int, narrower: int) -> None:
        super().__init__()
        # Before the resampling, where positions are few.
        self.project = nn.Linear(width, narrower)
        self.mix = nn.Sequential(nn.Conv2d(narrower, narrower, 3, padding=1), nn.BatchNorm2d(narrower), nn.ReLU())

    def forward(self, patches: Tensor, rows: int, columns: int) -> Tensor:
        """(batch, patches, width) -> (batch, narrower, rows, columns)."""
        return self.mix(patch_map(self.project(patches), rows, columns))


class Pyramid(nn.Module):
    """Features of an image at 1/4, 1/8, 1/16 and 1/32 of its size: four stages of an image encoder, or its patches.

    All four are made of the patches of the last layer, as in ViTDet (Li et al. 2022, arXiv:2203.16527).

    Args:
        image_encoder: Which is not kept: `forward` gets it again.
        widths: Of the four features, of a backbone that has patches of one size; None takes a backbone's four stages.

    Attributes:
        widths: Of the four features, the finest first.

    Raises:
        ValueError: The image encoder cuts images, or has not the stages that are asked of it.
    """

    def __init__(self, image_encoder: ImageEncoder, widths: Sequence[int] | None = None) -> None:
        super().__init__()
        check_whole(image_encoder)
        settings = image_encoder.backbone.config
        stages = list(getattr(settings, "hidden_sizes", ()))
        self.patches: nn.ModuleList | None = None
        if widths is not None:
            if len(widths) != 4 or min(widths) < 1:
                raise ValueError(f"pyramid_widths {list(widths)}: give four widths, the finest features' first")
            self.widths = list(widths)
            self.norm = nn.LayerNorm(image_encoder.width)
            self.patches = nn.ModuleList(Reassemble(image_encoder.width, width) for width in widths)
            return
        if len(stages) != 4:
            raise ValueError(
                f"image_encoder {settings.model_type} has no four stages of features: choose convnext, or set "
                "pyramid_widths, by which they are made of its patches"
            )
        if image_encoder.config.frozen:
            raise ValueError(
                "image_encoder.frozen keeps patches and no stages: remove it, or set pyramid_widths, by which the "
                "patches are read"
            )
        self.widths = stages

    def forward(self, image_encoder: ImageEncoder, pixels: Tensor) -> list[Tensor]:
        """(batch, 3, height, width) -> four times (batch, width, rows, columns), the finest first.

        Raises:
            ValueError: A side is no multiple of 32.
        """
        height, width = pixels.shape[2:]
        if height % 32 or width % 32:
            raise ValueError(f"images of {width} x {height} pixels: set shards.image_size to a multiple of 32")
        if self.patches is None:
            return image_encoder.pyramid(pixels)
        patches = self.norm(image_encoder(pixels)[1])
        levels = zip(self.patches, (4, 8, 16, 32), strict=True)
        return [reassemble(patches, height // stride, width // stride) for reassemble, stride in levels]
