"""(Phrase, mask) pairs of an image: what its source outlined under one label, or under one of its sentences.

The shards hold nothing for them alone: labels and masks of annotated regions, and the sentences of regions, are there
for other ends. The united pair, the report with everything that is outlined, is none of these.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from models.data.format import RegionMeta
from models.data.shards import Sample
from models.data.texts import PAIRS_DRAW, draw
from models.geometry import Mask
from models.text import normalise

# A text as it is written, and the number of a region that has it.
_Named = tuple[str, int, RegionMeta]


@dataclass(frozen=True, slots=True, kw_only=True)
class PhrasePair:
    """A text of one image, and the regions whose masks it means.

    Attributes:
        text: The label as the source writes it, or its sentence.
        label: The label as encoders read it, by which pairs of several images are one class; of a sentence that of its
            regions, and empty where they have none or several.
        regions: Their numbers in `ImageMeta.regions`; empty: the pair means all that is outlined (`Sample.target`).
        is_sentence: Whether `text` is a sentence of the source.
    """

    text: str
    label: str
    regions: tuple[int, ...]
    is_sentence: bool = False


def pairs_of(sample: Sample, role: str) -> list[PhrasePair]:
    """The pairs of an image: first those of its labels, then those of sentences that are no label.

    An image has pairs where its source outlined all of its findings (`ImageMeta.has_target`): elsewhere a finding may
    have a box alone, and what a segmenter made of it is no outline. So a label, or a sentence, of which a region has no
    mask makes no pair. Where the image has one label alone, all that is outlined is meant, also by masks whose parts
    nobody named; a region whose label is none of the image's labels is anatomy, and makes a pair of its own.

    Args:
        sample: Its description and texts are read alone, no pixels.
        role: `input` for what training may see, `truth` for what is scored.
    """
    meta = sample.meta
    if not meta.has_target:
        return []
    annotated = [
        (number, region, caption)
        for number, (region, caption) in enumerate(zip(meta.regions, sample.captions.regions, strict=True))
        if region.role == role and caption.basis == "annotation"
    ]
    pairs: dict[str, PhrasePair] = {}
    if meta.labels is not None and len(meta.labels) == 1:
        (label,) = meta.labels
        pairs[normalise(label)] = PhrasePair(text=label, label=normalise(label), regions=())
    for label, same in _grouped((region.label, number, region) for number, region, _ in annotated).items():
        if label not in pairs and _have_masks(same):
            pairs[label] = PhrasePair(text=same[0][0], label=label, regions=_numbers(same))
    for sentence, same in _grouped((caption.phrase, number, region) for number, region, caption in annotated).items():
        if sentence not in pairs and _have_masks(same):
            labels = {normalise(region.label or "") for _, _, region in same}
            pairs[sentence] = PhrasePair(
                text=same[0][0],
                label=labels.pop() if len(labels) == 1 else "",
                regions=_numbers(same),
                is_sentence=True,
            )
    return list(pairs.values())


def _grouped(named: Iterable[tuple[str | None, int, RegionMeta]]) -> dict[str, list[_Named]]:
    """Text as encoders read it -> the regions that have it, in their order."""
    groups: dict[str, list[_Named]] = {}
    for text, number, region in named:
        if text and (read := normalise(text)):
            groups.setdefault(read, []).append((text, number, region))
    return groups


def _have_masks(same: Sequence[_Named]) -> bool:
    return all(region.mask is not None for _, _, region in same)


def _numbers(same: Sequence[_Named]) -> tuple[int, ...]:
    return tuple(number for _, number, _ in same)


def pair_mask(sample: Sample, pair: PhrasePair) -> Mask:
    """(image_size, image_size) bool: what a pair of this sample means."""
    if not pair.regions:
        return sample.target
    masks = [mask for number in pair.regions if (mask := sample.mask(number)) is not None]
    united: Mask = np.logical_or.reduce(masks)
    return united


def pair_of_epoch(sample: Sample, chance: float, seed: int, epoch: int) -> PhrasePair | None:
    """The pair that a sample is trained on in an epoch; None: its united pair.

    Args:
        sample: Its description and texts are read alone.
        chance: That it is one of its pairs, each as likely as another.
        seed: Of the draw.
        epoch: The draw is made anew for each.
    """
    random = draw(sample, seed, epoch, PAIRS_DRAW)
    if random.random() >= chance or not (pairs := pairs_of(sample, "input")):
        return None
    return pairs[int(random.integers(len(pairs)))]
