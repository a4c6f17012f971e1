"""The predicted masks that `items.parquet` keeps, as run-length codes."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.geometry import Mask
from pipelines import masks
from pipelines.spill import Spill

# Of an output, in this order: the row of `metrics.segmentation`.
COUNTS = ("true_positive", "false_positive", "false_negative", "true_negative")
# Characters of a code, of which JSON may double each. A smooth outline takes about three a column of the image, a mask
# of noise far more.
LONGEST = 4_000


class KeptMasks:
    """Masks by image and setting, which wait on the disk until the table is written: memory holds a number of each."""

    def __init__(self) -> None:
        self._codes: Spill[tuple[int, int, str | None]] = Spill(Path(tempfile.gettempdir()))
        self._places: dict[tuple[int, str], int] = {}

    def add(self, index: int, by_setting: Mapping[str, Mask]) -> None:
        """Keep the masks of one image.

        Args:
            index: Of the image.
            by_setting: (height, width) each; settings that share one object share its code.
        """
        places: dict[int, int] = {}
        for setting, mask in by_setting.items():
            if id(mask) not in places:
                code = masks.encode(mask)
                places[id(mask)] = self._codes.add((*mask.shape, code if len(code) <= LONGEST else None))
            self._places[index, setting] = places[id(mask)]

    def of(self, index: int, setting: str) -> dict[str, Any]:
        """`size`, (height, width), and `mask`, the COCO code of the image and setting; null where it is too long."""
        height, width, code = self._codes[self._places[index, setting]]
        return {"size": [height, width], "mask": code}
