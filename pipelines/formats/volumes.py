"""`Volume`: what NIfTI, NRRD and MetaImage files and DICOM series all become, its slices, and samples of it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.preparation import to_8_bit
from pipelines.cuts import Axis, Cut
from pipelines.errors import Rejected
from pipelines.formats import space
from pipelines.formats.limits import MAX_SLICES, check_frame, check_pixels
from pipelines.formats.space import Affine, Plane

# Of a volume unpacked: it is held in memory while its slices are taken.
MAX_VOLUME_BYTES = 4 * 2**30


@dataclass(frozen=True, kw_only=True, eq=False)
class Volume:
    """A file of voxels, which are unpacked when they are first asked for.

    Attributes:
        shape: Voxels (i, j, k).
        volumes: How many the file holds, such as the moments of a time series.
        channels: 1, or 3 for colour.
        dtype: Of one number as stored.
        affine: (i, j, k, 1) -> world (`pipelines.formats.space`).
        placed: The file says where the volume lies; without that, the affine is that of the format's custom.
        slope: A value is its stored number times this ...
        intercept: ... plus this.
        unpack: The stored numbers' bytes, channels first, then i, j, k and the volumes; at least `size` of them.
        grey: Values of a slice -> its grey levels, uint8.
    """

    shape: tuple[int, int, int]
    volumes: int = 1
    channels: int = 1
    dtype: np.dtype[Any]
    affine: Affine
    placed: bool = True
    slope: float = 1.0
    intercept: float = 0.0
    unpack: Callable[[int], bytes | memoryview]
    grey: Callable[[NDArray[Any]], NDArray[np.uint8]] = to_8_bit

    def __post_init__(self) -> None:
        if min(*self.shape, self.volumes) < 1:
            raise Rejected("corrupt", f"volume of shape {self.shape}, {self.volumes} times")
        if self.dtype.kind not in "biuf" or self.dtype.itemsize > 8:
            raise Rejected("unsupported_type", f"voxels of type {self.dtype}")
        if self.channels != 1 and (self.channels, self.dtype) != (3, np.uint8):
            raise Rejected("unsupported_type", f"voxels of {self.channels} numbers of type {self.dtype}")
        if self.size > MAX_VOLUME_BYTES or max(*self.shape, self.volumes) > MAX_SLICES:
            raise Rejected("file_too_large", f"volume of shape {self.shape}, {self.volumes} times")
        space.check_affine(self.affine)

    @property
    def size(self) -> int:
        """Bytes of the unpacked numbers."""
        # Python's integers, for those of numpy overflow.
        i, j, k = map(int, self.shape)
        return i * j * k * int(self.volumes) * self.channels * self.dtype.itemsize

    def slices(self, axis: Axis | None) -> int:
        """How many slices there are along an axis."""
        return self._shown(self._index, axis)[0].shape[2]

    def plane(self, cut: Cut) -> Plane:
        """Where the picture of a slice lies, as `picture` gives it."""
        return space.squared(self._stored_plane(cut))

    def picture(self, cut: Cut, max_pixels: int) -> NDArray[Any]:
        """A slice as it is shown, in square pixels.

        Returns:
            Grey values as the file scales them, (height, width); colour is uint8, (height, width, 3).
        """
        stored = self._stored_plane(cut)
        check_pixels(stored.width, stored.height, max_pixels)
        plane = space.squared(stored)
        check_pixels(plane.width, plane.height, max_pixels)
        turned, _ = self._shown(self._values(cut.volume), cut.axis)
        values = self._scaled(turned[:, :, stored.before].swapaxes(0, 1))
        values = space.resampled(values, plane.width, plane.height, stored)
        return values if self.channels == 1 else np.rint(values).astype(np.uint8)

    def sampled(self, plane: Plane, volume: int | None) -> NDArray[Any]:
        """The values at a picture's pixels, (height, width): those of the nearest voxels, 0 outside of the volume.

        Raises:
            Rejected: no_overlap, where no part of the picture's own volume lies in this one; unplaced, where one of the
                two files does not say where it lies, or neither does and they differ in size.
        """
        if self.channels != 1:
            raise Rejected("unsupported_type", "a volume in colour: give grey values")
        if self.placed != plane.placed:
            raise Rejected("unplaced", "one of image and mask does not say where in the patient it lies")
        if not self.placed and not space.same_extent(self.shape, self.affine, plane):
            raise Rejected("unplaced", "neither image nor mask says where it lies, and their sizes differ")
        if not space.overlap(self.shape, self.affine, plane):
            raise Rejected("no_overlap", "the mask lies beside the image in the patient")
        return self._scaled(space.nearest(self._values(volume), self.affine, plane))

    def _stored_plane(self, cut: Cut) -> Plane:
        turned, affine = self._shown(self._index, cut.axis)
        width, height, count = turned.shape
        index = check_frame(cut.frame, count)
        move = np.eye(4)
        move[2, 3] = index
        return Plane(
            affine=affine @ move,
            width=width,
            height=height,
            before=index,
            after=count - 1 - index,
            placed=self.placed,
        )

    @property
    def _index(self) -> NDArray[Any]:
        """An array of the volume's shape that takes no memory."""
        return np.broadcast_to(np.zeros(1, np.uint8), self.shape)

    def _shown(self, values: NDArray[Any], axis: Axis | None) -> tuple[NDArray[Any], Affine]:
        return space.shown(values, self.affine, axis or "axial")

    def _values(self, volume: int | None) -> NDArray[Any]:
        """One volume's stored numbers, (i, j, k) or, in colour, (i, j, k, 3)."""
        if (volume is None and self.volumes > 1) or not 0 <= (volume or 0) < self.volumes:
            named = "none is named" if volume is None else f"{volume} is named"
            raise Rejected("missing_volume", f"a file of {self.volumes} volumes, and {named}, counted from 0 (volume)")
        values = self._unpacked[..., volume or 0]
        return values[0] if self.channels == 1 else np.moveaxis(values, 0, -1)

    @cached_property
    def _unpacked(self) -> NDArray[Any]:
        shape = (self.channels, *self.shape, self.volumes)
        data = self._data
        if isinstance(data, Rejected):
            raise data
        return np.ndarray(shape, self.dtype, data, order="F")

    @cached_property
    def _data(self) -> bytes | memoryview | Rejected:
        """The bytes, or why there are none: a damaged file is unpacked once, too, and not for each of its slices."""
        try:
            data = self.unpack(self.size)
        except Rejected as error:
            return error
        return data if len(data) >= self.size else Rejected("truncated", f"{len(data)} of {self.size} bytes of voxels")

    def _scaled(self, values: NDArray[Any]) -> NDArray[Any]:
        values = values.astype(values.dtype.newbyteorder("="))
        return (
            values
            if (self.slope, self.intercept) == (1, 0)
            else values.astype(np.float64) * self.slope + self.intercept
        )
