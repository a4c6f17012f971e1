"""The phrases of images, in two settings, and the masks of what is drawn in an image."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from models.data.shards import Sample
from models.geometry import filled_box
from models.text import normalise
from pipelines.evaluate.evaluation_set import EvaluationImage
from pipelines.evaluate.grounding.places import Place, named_place, without_place


class Described(Protocol):
    """A region with its words: one of `EvaluationImage.regions`, or of the training split."""

    @property
    def number(self) -> int: ...
    @property
    def adjective(self) -> str: ...
    @property
    def term(self) -> str: ...
    @property
    def caption(self) -> str: ...
    @property
    def phrase(self) -> str | None: ...


@dataclass(frozen=True)
class Phrase:
    """A text and the regions of one image that it describes.

    Attributes:
        index: Of the image in `EvaluationSet.images`.
        text: The phrase.
        term: The finding that the regions show; `nodule or mass` where equal texts stand for several.
        regions: Their numbers.
        place: Where its words say that it is.
    """

    index: int
    text: str
    term: str
    regions: tuple[int, ...]
    place: Place


def _as_written(region: Described) -> str | None:
    return region.phrase or region.caption


def _without_position(region: Described) -> str | None:
    return without_place(region.phrase or normalise(f"{region.adjective} {region.term}"))


OWN, WITHOUT_POSITION = "", "without_position"
# Setting -> the text of a region in it; None: the region has none.
SETTINGS: dict[str, Callable[[Described], str | None]] = {OWN: _as_written, WITHOUT_POSITION: _without_position}


def named(setting: str, metric: str) -> str:
    """The metric's name in a setting: `without_position/pointing`."""
    return f"{setting}/{metric}" if setting else metric


def phrases_of(images: Sequence[EvaluationImage], setting: str = OWN) -> list[Phrase]:
    """The phrases of all images in one of `SETTINGS`, in the images' order."""
    return [
        phrase
        for index, image in enumerate(images)
        for phrase in phrases_of_regions(image.regions, setting, index, patient_sides=image.patient_sides)
    ]


def phrases_of_regions(regions: Iterable[Described], setting: str, index: int, *, patient_sides: bool) -> list[Phrase]:
    """The phrases of one image: regions whose texts are equal but for case and punctuation are one phrase.

    Args:
        regions: Of the image.
        setting: One of `SETTINGS`.
        index: Of the image.
        patient_sides: Whether its texts name the patient's sides.
    """
    by_text: dict[str, list[tuple[str, Described]]] = {}
    for region in regions:
        if (text := SETTINGS[setting](region)) is not None:
            by_text.setdefault(normalise(text), []).append((text, region))
    phrases = []
    for same in by_text.values():
        text, _ = same[0]
        terms = " or ".join(dict.fromkeys(region.term for _, region in same))
        numbers = tuple(region.number for _, region in same)
        phrases.append(Phrase(index, text, terms, numbers, named_place(text, patient_sides=patient_sides)))
    return phrases


def region_mask(sample: Sample, number: int) -> np.ndarray:
    """(side, side) bool: the mask of a region, or its box where it has no mask."""
    mask = sample.mask(number)
    return filled_box(sample.meta.regions[number].box, len(sample.target)) if mask is None else mask
