"""Which part of a file a picture shows."""

from dataclasses import dataclass
from typing import Literal

Axis = Literal["axial", "coronal", "sagittal"]
AXES: tuple[Axis, ...] = ("axial", "coronal", "sagittal")


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A slice or frame of a file.

    Attributes:
        frame: Slice or frame from 0; None where there is one alone.
        axis: Of a volume: along which its slices are counted; None: axial. Of a DICOM file an axis asks for the volume
            of its series or frames, None for the file's own picture.
        volume: Of a file with several volumes, such as a time series: which, from 0.
    """

    frame: int | None = None
    axis: Axis | None = None
    volume: int | None = None

    @property
    def key(self) -> list[int | str | None]:
        """What tells it from others, as JSON: the frame alone where nothing else is named."""
        return [self.frame, *([] if self.axis is self.volume is None else [self.axis, self.volume])]
