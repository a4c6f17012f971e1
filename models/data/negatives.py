"""Altered captions of a region, the hard negatives of RegionMed-CLIP (paper 001, eq. 4 and its appendix B).

Only one part of a caption is altered. Another adjective comes from the caption itself, whose captioner wrote five;
another position is one of the nine; another term is one that the caller names. Nothing that is drawn is an invented
finding: it is a text that does not describe the region.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from models.data.format import RegionCaption
from models.geometry import POSITIONS
from models.text import normalise, region_text

# Altered captions of a region, as in the paper.
NEGATIVES = 5


@dataclass(frozen=True, kw_only=True)
class NegativeCounts:
    """How many of a region's five altered captions differ in what.

    Attributes:
        adjective: Shape or appearance, in the words of the captioner.
        position: Place in the image: one of the other eight.
        term: The finding.
    """

    adjective: int = NEGATIVES
    position: int = 0
    term: int = 0

    def __post_init__(self) -> None:
        counts = asdict(self)
        named = ", ".join(f"{name} {count}" for name, count in counts.items())
        if min(counts.values()) < 0 or sum(counts.values()) != NEGATIVES:
            raise ValueError(f"negatives are {NEGATIVES} captions, not {named}: give counts of this sum")


def altered_captions(
    caption: RegionCaption, counts: NegativeCounts, terms: Sequence[str], random: np.random.Generator
) -> list[str]:
    """The five altered captions of a region as running text: those with another adjective, then position, then term.

    Args:
        caption: Of status `ok`.
        counts: How many of each kind; of all five adjectives none is drawn.
        terms: Of which another one is taken.
        random: Draws, without repeating one.

    Raises:
        ValueError: There are too few terms beside the region's own.
    """
    adjective, term, position = caption.triple
    # A triple is split before punctuation is normalised away.
    written = [tuple(part.strip() for part in negative.split("|")) for negative in caption.negatives or ()]
    places = [(adjective, term, other) for other in POSITIONS if other != normalise(position)]
    # Terms that encoders read alike are one.
    others = {normalise(other): other for other in terms if normalise(other) != normalise(term)}
    findings = [(adjective, other, position) for other in others.values()]
    chosen = [
        *_drawn(written[:NEGATIVES], counts.adjective, random),
        *_drawn(places, counts.position, random),
        *_drawn(findings, counts.term, random),
    ]
    return [region_text(*triple) for triple in chosen]


def _drawn(triples: Sequence[tuple[str, ...]], count: int, random: np.random.Generator) -> list[tuple[str, ...]]:
    if count > len(triples):
        raise ValueError(f"{count} altered captions are wanted of {len(triples)}")
    if count in (0, len(triples)):
        return list(triples[:count])
    return [triples[index] for index in random.choice(len(triples), count, replace=False)]
