"""What is asked of each image: its pairs, and labels that it lacks; and in which words."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.data.pairs import PhrasePair
from models.text import normalise
from pipelines.evaluate.evaluation_set import EvaluationImage

LABEL = "{label}"


@dataclass(frozen=True, slots=True)
class AskedPair:
    """A text of an image whose mask is known.

    Attributes:
        index: Of the image in `EvaluationSet.images`.
        pair: Its text and its regions.
        prompt: What the method is asked.
        rewordings: The same in other words; none of a sentence, which is asked as it is written.
    """

    index: int
    pair: PhrasePair
    prompt: str
    rewordings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AskedAbsence:
    """A label that an image lacks.

    Attributes:
        index: Of the image in `EvaluationSet.images`.
        label: As encoders read it.
        prompt: What the method is asked.
    """

    index: int
    label: str
    prompt: str


def asked_pairs(pairs: Sequence[Sequence[PhrasePair]], template: str, rewordings: Sequence[str]) -> list[AskedPair]:
    """The pairs of all images, in their order.

    Args:
        pairs: Those of each image.
        template: Prompt of a label, for which `LABEL` stands.
        rewordings: Further templates.
    """
    asked = []
    for index, of_image in enumerate(pairs):
        for pair in of_image:
            if pair.is_sentence:
                asked.append(AskedPair(index, pair, pair.text))
            else:
                others = tuple(_worded(other, pair.text) for other in rewordings)
                asked.append(AskedPair(index, pair, _worded(template, pair.text), others))
    return asked


def asked_absences(
    images: Sequence[EvaluationImage],
    pairs: Sequence[Sequence[PhrasePair]],
    template: str,
    most: int,
    seed: int,
) -> list[AskedAbsence]:
    """Labels that the source says an image lacks: it names the image's labels, and this one is not among them.

    Asked are labels that the same source outlines in other images of the split and names among the labels of some: a
    region's label that is never an image's is anatomy, of which the labels of an image say nothing.

    Args:
        images: Of the split.
        pairs: Those of each image.
        template: Prompt of a label.
        most: Labels an image; of more, these are drawn.
        seed: Of the draw, which depends on the image's key beside it.
    """
    known = _vocabularies(images, pairs)
    asked = []
    for index, (image, of_image) in enumerate(zip(images, pairs, strict=True)):
        if image.labels is None:
            continue
        present = {*map(normalise, image.labels), *(pair.label for pair in of_image)}
        vocabulary = known.get(image.source, {})
        absent = [(label, vocabulary[label]) for label in sorted(vocabulary.keys() - present)]
        if len(absent) > most:
            random = np.random.default_rng([seed, int(image.key, 16)])
            absent = [absent[place] for place in sorted(random.choice(len(absent), most, replace=False).tolist())]
        asked += [AskedAbsence(index, label, _worded(template, text)) for label, text in absent]
    return asked


def _vocabularies(
    images: Sequence[EvaluationImage], pairs: Sequence[Sequence[PhrasePair]]
) -> dict[str, dict[str, str]]:
    """Source -> label as encoders read it -> the label as it is first written."""
    named: dict[str, set[str]] = {}
    for image in images:
        named.setdefault(image.source, set()).update(map(normalise, image.labels or ()))
    found: dict[str, dict[str, str]] = {}
    for image, of_image in zip(images, pairs, strict=True):
        for pair in of_image:
            if not pair.is_sentence and pair.label in named[image.source]:
                found.setdefault(image.source, {}).setdefault(pair.label, pair.text)
    return found


def _worded(template: str, label: str) -> str:
    return template.replace(LABEL, label)
