"""Gaussian blur by matrix products, with the bits of `scipy.ndimage.gaussian_filter`.

scipy adds the taps of a kernel one after the other, which for the wide kernels of `saliency` takes most of its time. A
product with the matrix of the same weights is several times faster, but adds in an order that depends on the machine's
BLAS. Both sums are within `_MARGIN` of the true one, so that where rounding to float32 gives one number for everything
within that margin, it gives scipy's number. The few arrays in which it does not are left to scipy.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

# The sum of n products of numbers that are not negative has a relative error of about n * 1.1e-16 at most, in any
# order; twice that for two orders, and n is at most 257 here.
_MARGIN = 1e-13
_TRUNCATE = 2.0


def blur(array: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """`gaussian_filter(array, sigma, mode="constant", truncate=2.0)`, bit by bit.

    Args:
        array: height x width, at most 256 pixels a side, no number negative.
        sigma: Standard deviation in pixels.
    """
    height, width = array.shape
    down = _rounded(_matrix(height, sigma) @ array.astype(np.float64))
    if down is None:
        down = _filter(array, sigma, axis=0)
    across = _rounded(down.astype(np.float64) @ _matrix(width, sigma).T)
    return _filter(down, sigma, axis=1) if across is None else across


@lru_cache(maxsize=64)
def _matrix(size: int, sigma: float) -> NDArray[np.float64]:
    """The weights as a matrix, size x size: each column is the answer to one bright pixel."""
    return _filter(np.eye(size), sigma, axis=0)


def _filter(array: NDArray, sigma: float, axis: int) -> NDArray:
    return gaussian_filter1d(array, sigma, axis=axis, mode="constant", truncate=_TRUNCATE)


def _rounded(sums: NDArray[np.float64]) -> NDArray[np.float32] | None:
    """The sums in float32; None where one of them lies too near to the middle of two float32 numbers."""
    lower, upper = (sums * (1 - _MARGIN)).astype(np.float32), (sums * (1 + _MARGIN)).astype(np.float32)
    return lower if np.array_equal(lower, upper) else None
