"""Settings of the method."""

from dataclasses import dataclass

from models.ranges import at_least

# Pixels along the side of a position of the transformer: the ResNet halves the image four times.
STRIDE = 16


@dataclass(frozen=True, kw_only=True)
class TransUNetConfig:
    """Settings of `TransUNet`; the defaults are those of the paper, ResNet-50 and ViT-B/16.

    Attributes:
        image_size: Side of the images in pixels, a multiple of 16: the transformer learns a position for each cell.
        base: Channels of the ResNet's first convolution, a multiple of 4; the decoder's widths go with it.
        depths: Blocks of the ResNet's three stages.
        hidden_size: Width of the transformer, a multiple of `heads`.
        layers: Of the transformer.
        heads: Of its attention.
    """

    image_size: int = 224
    base: int = 64
    depths: tuple[int, ...] = (3, 4, 9)
    hidden_size: int = 768
    layers: int = 12
    heads: int = 12

    def __post_init__(self) -> None:
        if self.image_size % STRIDE or self.image_size < 2 * STRIDE:
            raise ValueError(f"image_size {self.image_size} must be a multiple of {STRIDE}, {2 * STRIDE} or more")
        if self.base % 4 or self.base < 4:
            raise ValueError(f"base {self.base} must be a multiple of 4, 4 or more")
        if len(self.depths) != 3 or min(self.depths) < 1:
            raise ValueError(f"depths {list(self.depths)}: give the blocks of three stages, 1 or more of each")
        at_least(1, layers=self.layers, heads=self.heads)
        if self.hidden_size % self.heads or self.hidden_size < self.heads:
            raise ValueError(f"hidden_size {self.hidden_size} must be a multiple of the {self.heads} heads")
