"""Words of place in a phrase: which field of the image they name, and the phrase without them."""

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from models.geometry import fitted_size
from models.places import BOTH_SIDES, spelled_out
from models.text import normalise
from pipelines.evaluate.metrics.segmentation import Values
from pipelines.sides import DENIAL, OPPOSITE

_ENDINGS = ("", "most", "ward", "wards", "hand", "handed", "side", "sided")
_COLUMN = {
    **{f"{side}{ending}": (side,) for side in OPPOSITE for ending in _ENDINGS},
    **dict.fromkeys(("center", "centre", "central", "centrally", "midline"), ("center",)),
    **dict.fromkeys(BOTH_SIDES, ("left", "right")),
}
_ROW = {
    **dict.fromkeys(("upper", "uppermost", "top", "topmost", "superior", "cranial"), "upper"),
    **dict.fromkeys(("apex", "apices", "apical", "biapical"), "upper"),
    **dict.fromkeys(("middle", "mid", "midzone"), "middle"),
    **dict.fromkeys(("lower", "lowermost", "bottom", "bottommost", "inferior", "caudal"), "lower"),
    **dict.fromkeys(("base", "bases", "basal", "basilar", "bibasal", "bibasilar"), "lower"),
}
# Words of place that name no field of the grid.
_ELSEWHERE = {
    *("unilateral", "unilaterally", "lateral", "medial", "anterior", "posterior", "peripheral", "peripherally"),
    *("hilar", "hilum", "perihilar", "suprahilar", "infrahilar", "bihilar", "retrocardiac", "paracardiac", "lingula"),
    *("lingular", "costophrenic", "subpleural", "above", "below", "upwards", "downwards", "vertical", "vertically"),
    *("horizontal", "horizontally"),
}
_PLACE = {*_COLUMN, *_ROW, *_ELSEWHERE}
# Words that go with a word of place, and stay where there is none beside them.
_LINK = {
    *("in", "at", "on", "of", "to", "the", "within", "over", "near", "along", "towards", "its", "and", "sided", "side"),
    *("sides", "zone", "zones", "lobe", "lobes", "lung", "lungs", "field", "fields", "third", "half", "quadrant"),
    *("aspect", "corner", "part", "portion", "area", "region", "hemithorax"),
}
_CLAUSE = re.compile(r"[.,;!?]\s+")
_EMPTY = _LINK | {"a", "an", "there", "is", "are", "seen", "shows", "lies", "with", "note"}

_FIELD = {"left": 1 / 6, "center": 1 / 2, "right": 5 / 6, "upper": 1 / 6, "middle": 1 / 2, "lower": 5 / 6}
# Standard deviation of the blob, of the image's width and height: half a field of the grid.
_SPREAD = 1 / 6


@dataclass(frozen=True)
class Place:
    """Fields of the 3 x 3 grid that a phrase names.

    Attributes:
        columns: Of left, center and right, those of the image, never the patient's; empty: the phrase names none.
        rows: Of upper, middle and lower.
    """

    columns: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.columns or self.rows)


def named_place(phrase: str, *, patient_sides: bool) -> Place:
    """The place that a phrase's words name; what it denies is in no place.

    Args:
        phrase: Any text.
        patient_sides: Whether its left and right are those of the patient, who faces the viewer.
    """
    stated = (clause for clause in _CLAUSE.split(spelled_out(phrase)) if not DENIAL.search(clause))
    words = normalise(" ".join(stated)).split()
    columns = {column for word in words for column in _COLUMN.get(word, ())}
    if patient_sides:
        columns = {OPPOSITE.get(column, column) for column in columns}
    return Place(tuple(sorted(columns)), tuple(sorted({_ROW[word] for word in words if word in _ROW})))


def without_place(phrase: str) -> str | None:
    """The phrase without its words of place, and without what links them: `in the`, `zone`; None: nothing is left.

    The other words stay as they are written. A place that is named by what else is there (`above the heart`) is not
    known to be one, beyond its first word.
    """
    kept: list[str] = []
    run: list[str] = []
    for word in [*spelled_out(phrase).split(), ""]:
        parts = normalise(word).split()
        if parts and all(part in _PLACE or part in _LINK for part in parts):
            run.append(word)
            continue
        if not any(part in _PLACE for linked in run for part in normalise(linked).split()):
            kept += run
        run = []
        kept.append(word)
    text = " ".join(kept).strip()
    return None if set(normalise(text).split()) <= _EMPTY else text


@lru_cache(maxsize=256)
def place_heatmap(place: Place, width: int, height: int, side: int) -> Values:
    """(side, side): a blob at each named field, in the middle where none is named; the image is never looked at.

    Args:
        place: What a phrase names.
        width: Of the original image, in pixels.
        height: Of the original image, in pixels.
        side: Pixels of the square that the image fills from the top left.
    """
    fitted = fitted_size(width, height, side)
    lines = []
    for named, default, length in zip((place.columns, place.rows), ("center", "middle"), fitted, strict=True):
        along = (np.arange(side) + 0.5) / length
        distances = [(along - _FIELD[name]) / _SPREAD for name in named or (default,)]
        lines.append(np.exp(-np.square(distances) / 2).max(axis=0))
    columns, rows = lines
    return np.asarray(rows[:, None] * columns)
