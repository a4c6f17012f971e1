"""Windows of an image, as large as its regions may be: what the ROI processor is asked about to make a map."""

import torch
import torch.nn.functional as F
from torch import Tensor


def windows(pixels: Tensor, size: float, grid: int, side: int | None) -> Tensor:
    """Square windows around the centres of a grid of cells, as crops.

    A window that would leave the image is moved back into it: a crop ends at the border too, and the encoder never saw
    a padding that lies all around.

    Args:
        pixels: (images, 3, side, side), 0 to 255.
        size: Side of a window, as a fraction of the image's.
        grid: Rows, and columns, of windows.
        side: Pixels of a crop; None leaves the windows as large as they are.

    Returns:
        (images, grid * grid, 3, crop, crop) float, by rows; resized as crops are (`models.geometry.fit_image`).
    """
    whole = pixels.shape[-1]
    window = max(1, round(size * whole))
    first = [min(max(round((cell + 0.5) / grid * whole - window / 2), 0), whole - window) for cell in range(grid)]
    cut = torch.stack([pixels[..., y : y + window, x : x + window] for y in first for x in first], dim=1).float()
    if side is None or side == window:
        return cut
    resized = F.interpolate(cut.flatten(0, 1), (side, side), mode="bicubic", antialias=True).clamp(0, 255)
    return resized.unflatten(0, (len(pixels), -1))
