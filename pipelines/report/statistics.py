"""What each source holds, counted for pictures: modalities, findings, positions and sizes of regions, words."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pipelines.records import CaptionRow, RegionRow, SplitImageRow
from pipelines.report.inputs import Tables

GRID = 32  # cells along each side of the map of positions
MAX_TEXTS = 20_000  # of one source, in the order of image_id, which is a hash: a fair sample
RowT = TypeVar("RowT", SplitImageRow, RegionRow, CaptionRow)

_WORD = re.compile(r"[^\W\d_]{3,24}")
# Articles, pronouns, prepositions, forms of be and have; in the last line words of every report.
# fmt: off
_STOP_WORDS = frozenset(
    {"about", "above", "after", "again", "all", "also", "and", "any", "are", "because", "been", "before", "being",
     "below", "between", "both", "but", "can", "did", "does", "during", "each", "few", "for", "from", "further", "had",
     "has", "have", "her", "here", "him", "his", "how", "into", "its", "itself", "more", "most", "nor", "not", "off",
     "once", "only", "other", "our", "out", "over", "own", "same", "she", "should", "some", "such", "than", "that",
     "the", "their", "them", "then", "there", "these", "they", "this", "those", "through", "too", "under", "until",
     "very", "was", "were", "what", "when", "where", "which", "while", "who", "why", "will", "with", "you", "your",
     "according", "image", "images", "part", "published", "seen", "show", "shown", "shows", "source"}
)
# fmt: on


@dataclass(kw_only=True)
class SourceStatistics:
    """What is counted of one source, or of several together.

    Attributes:
        name: The source.
        images: Images.
        modalities: Images of each modality.
        labels: Images with each finding; an image may have several.
        outcomes: Modality -> images with a finding, with none, and of which nobody said.
        texts: Images whose words are counted.
        left_out: Further images with a text, beyond `MAX_TEXTS`.
        words: Images whose summary or report has a word.
        longer_sides: Longer side of each image, in pixels.
        area_fractions: Of each accepted region, 0 to 1.
        positions: Modality -> how many accepted regions' boxes cover each cell of the unit square (GRID x GRID).
        regions: Accepted regions of each modality.
    """

    name: str
    images: int = 0
    modalities: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    outcomes: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    texts: int = 0
    left_out: int = 0
    words: Counter[str] = field(default_factory=Counter)
    longer_sides: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    area_fractions: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    positions: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    regions: Counter[str] = field(default_factory=Counter)

    def outcome(self, name: str) -> int:
        """Images of all modalities with an outcome: finding, no finding or unknown."""
        return sum(counts[name] for counts in self.outcomes.values())


def source_statistics(tables: Tables, names: Sequence[str]) -> list[SourceStatistics]:
    """The statistics of each source, those with the most images first.

    Args:
        tables: The dataset's tables. Regions are the accepted ones that a method may see.
        names: The sources.
    """
    images, regions, captions = _by_source(tables.images), _by_source(tables.regions), _by_source(tables.captions)
    found = [_of_source(name, images[name], regions[name], captions[name]) for name in names]
    return sorted(found, key=lambda one: -one.images)


def together(sources: Sequence[SourceStatistics]) -> SourceStatistics:
    """The statistics of several sources as if they were one, called `all`."""
    whole = SourceStatistics(name="all")
    for one in sources:
        whole.images += one.images
        whole.texts += one.texts
        whole.left_out += one.left_out
        for counter, other in (
            (whole.modalities, one.modalities),
            (whole.labels, one.labels),
            (whole.words, one.words),
            (whole.regions, one.regions),
        ):
            counter.update(other)
        for modality, counts in one.outcomes.items():
            whole.outcomes[modality].update(counts)
        for modality, covered in one.positions.items():
            whole.positions[modality] = whole.positions.get(modality, 0) + covered
    whole.longer_sides = np.concatenate([whole.longer_sides, *(one.longer_sides for one in sources)])
    whole.area_fractions = np.concatenate([whole.area_fractions, *(one.area_fractions for one in sources)])
    return whole


def _by_source(rows: Iterable[RowT]) -> dict[str, list[RowT]]:
    groups: dict[str, list[RowT]] = defaultdict(list)
    for row in rows:
        groups[row.source].append(row)
    return groups


def _of_source(
    name: str, images: Sequence[SplitImageRow], regions: Sequence[RegionRow], captions: Sequence[CaptionRow]
) -> SourceStatistics:
    found = SourceStatistics(name=name, images=len(images))
    for image in images:
        found.modalities[image.modality] += 1
        found.labels.update(set(image.labels or ()))
        outcome = "unknown" if image.labels is None else "finding" if image.labels else "no finding"
        found.outcomes[image.modality][outcome] += 1
    found.longer_sides = np.array([max(image.width, image.height) for image in images], dtype=np.int64)
    accepted = [row for row in regions if row.role == "input" and row.status == "accepted"]
    found.area_fractions = np.array([row.area_fraction for row in accepted], dtype=np.float64)
    _count_positions(found, accepted, {image.image_id: image for image in images})
    _count_words(found, captions)
    return found


def _count_positions(
    found: SourceStatistics, regions: Iterable[RegionRow], images: Mapping[str, SplitImageRow]
) -> None:
    boxes = defaultdict(list)
    for row in regions:
        image = images[row.image_id]
        size = image.width, image.height
        boxes[image.modality].append([edge / size[axis % 2] for axis, edge in enumerate(row.box)])
    for modality, unit_boxes in sorted(boxes.items()):
        found.regions[modality] = len(unit_boxes)
        found.positions[modality] = covered(np.array(unit_boxes))


def covered(boxes: NDArray[np.float64]) -> NDArray[np.int64]:
    """How many boxes cover each cell, at least in part.

    Args:
        boxes: n x 4: x0, y0, x1, y1 in units of the image's width and height.

    Returns:
        GRID x GRID, rows from top to bottom.
    """
    first = np.clip(np.floor(boxes[:, :2] * GRID + 1e-9), 0, GRID - 1).astype(np.int64)
    last = np.clip(np.ceil(boxes[:, 2:] * GRID - 1e-9), 1, GRID).astype(np.int64)
    # The corners of each box; the sums over rows and columns fill it.
    corners = np.zeros((GRID + 1, GRID + 1), dtype=np.int64)
    for rows, columns, sign in (
        (first[:, 1], first[:, 0], 1),
        (first[:, 1], last[:, 0], -1),
        (last[:, 1], first[:, 0], -1),
        (last[:, 1], last[:, 0], 1),
    ):
        np.add.at(corners, (rows, columns), sign)
    sums: NDArray[np.int64] = corners.cumsum(axis=0).cumsum(axis=1)[:GRID, :GRID]
    return sums


def _count_words(found: SourceStatistics, captions: Iterable[CaptionRow]) -> None:
    texts = [row for row in captions if row.kind == "image" and (row.summary or row.report)]
    texts.sort(key=lambda row: row.image_id)
    found.texts, found.left_out = len(texts[:MAX_TEXTS]), len(texts[MAX_TEXTS:])
    for row in texts[:MAX_TEXTS]:
        found.words.update(words_of(f"{row.summary or ''} {row.report or ''}"))


def words_of(text: str) -> set[str]:
    """The words of a text, in lower case: 3 to 24 letters, without those that say nothing of an image."""
    return set(_WORD.findall(text.lower())) - _STOP_WORDS
