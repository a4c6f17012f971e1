"""What a method sees of one image: the pixels that count, and heatmaps over them."""

from collections.abc import Iterable
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from models.geometry import Mask, fitted_size
from models.method import Method
from pipelines.evaluate.metrics import localisation
from pipelines.evaluate.metrics.segmentation import Values


class VisiblePart:
    """The part of the padded square that the encoder sees and the image fills.

    Args:
        model: Its `visible_crop` decides.
        width: Of the original image, in pixels.
        height: Of the original image, in pixels.
        side: Pixels of the padded square.

    Attributes:
        visible: Rows, and columns, that the encoder sees.
        fitted: Width and height of the image in the square.
        valid: Rows and columns that count.
    """

    def __init__(self, model: Method, width: int, height: int, side: int) -> None:
        self.side = side
        self.visible = model.visible_crop(side)
        self.fitted = fitted_size(width, height, side)
        first, last = self.visible.start, self.visible.stop
        self.valid = (slice(first, min(last, self.fitted[1])), slice(first, min(last, self.fitted[0])))

    def heatmaps(self, grids: NDArray[np.float32]) -> Values:
        """A method's heatmaps (heatmaps, rows, columns) as (heatmaps, side, side)."""
        return localisation.upsample(grids, self.side, self.visible)

    def pixels(self, mask: Mask) -> Mask:
        """(side, side) -> (pixels,): those that count."""
        return mask[self.valid].ravel()

    def levels(self, heatmaps: Iterable[Values]) -> Values:
        """(side, side) each -> (heatmaps, pixels): those that count, each heatmap from 0 to 1."""
        return localisation.scaled(np.stack([heatmap[self.valid].ravel() for heatmap in heatmaps]))

    def highest(self, levels: Values) -> tuple[float, float]:
        """Where a heatmap is highest, as `localisation.pointing_game` looks at it.

        Args:
            levels: (pixels,), one of `levels`.

        Returns:
            Column and row as fractions of the image's width and height; of equal pixels the first by rows.
        """
        rows, columns = self.valid
        first = int(np.argmax(levels >= levels.max() - localisation.ROUNDING))
        row, column = divmod(first, columns.stop - columns.start)
        width, height = self.fitted
        return (columns.start + column + 0.5) / width, (rows.start + row + 0.5) / height

    @cached_property
    def centre(self) -> Values:
        """(side, side): the heatmap that is high in the image's centre."""
        return localisation.centre_heatmap(*self.fitted, self.side)

    def random(self, grid: tuple[int, int], count: int) -> Values:
        """(count, pixels): random heatmaps as coarse as `grid`, from 0 to 1."""
        rows, columns = (part.stop for part in self.valid)
        first, last = self.visible.start, self.visible.stop
        return localisation.random_levels(grid, self.side, first, last, rows, columns)[:count]
