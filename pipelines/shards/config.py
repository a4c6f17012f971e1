"""Settings of the stage `shards`."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from models.preparation import InputFormat

Positive = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, kw_only=True)
class ShardsConfig:
    """Section `shards` of params.yaml.

    Attributes:
        image_size: Side of the padded square in pixels.
        crop_size: Side of a region crop's padded square in pixels.
        crop_margin: Context on each side of a crop, as a fraction of the longer side of the region's box.
        samples_per_shard: Images a tar, at most.
        quality: JPEG quality, 1 to 95.
        max_failed_fraction: The stage fails when a larger fraction (0 to 1) of the images cannot be opened.
    """

    image_size: Positive
    crop_size: Positive
    crop_margin: Annotated[float, Field(ge=0)]
    samples_per_shard: Positive
    quality: Annotated[int, Field(ge=1, le=95)]
    max_failed_fraction: Annotated[float, Field(ge=0, le=1)]

    @property
    def input_format(self) -> InputFormat:
        """How images and crops are prepared: what a model that is trained on the shards asks of its images, too."""
        return InputFormat(
            image_size=self.image_size, crop_size=self.crop_size, crop_margin=self.crop_margin, quality=self.quality
        )
