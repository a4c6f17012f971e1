"""Settings of the method, and the part of nnU-Net's planning that follows from them."""

from dataclasses import dataclass

from models.ranges import at_least

# nnU-Net's own: the shortest side that halving may leave.
LEAST_SIDE = 4


def halvings(side: int) -> int:
    """How often nnU-Net halves images of isotropic pixels: while `LEAST_SIDE` pixels or more are left (rounded up)."""
    count = 0
    while side >= 2 * LEAST_SIDE:
        side, count = (side + 1) // 2, count + 1
    return count


@dataclass(frozen=True, kw_only=True)
class NnUNetConfig:
    """Settings of `NnUNet`.

    Attributes:
        image_size: Side of the images in pixels, from which the network is planned. nnU-Net fills images up to a
            multiple of what its halvings need; here the size must be one.
        base: Channels at full size; they double at each halving, up to 512.
    """

    image_size: int = 224
    base: int = 32

    def __post_init__(self) -> None:
        at_least(1, base=self.base)
        # Two halvings are the fewest of which MONAI builds a network.
        multiple = 2 ** max(2, halvings(self.image_size))
        if self.image_size % multiple or self.image_size < 4 * LEAST_SIDE:
            raise ValueError(
                f"image_size {self.image_size}: nnunet halves it {halvings(self.image_size)} times; choose a multiple "
                f"of {multiple}, {4 * LEAST_SIDE} or more"
            )
