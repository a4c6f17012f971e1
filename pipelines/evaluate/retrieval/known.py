"""What is known of each image of a pool, and how well one retrieves who knows exactly this.

One who knows a fact of every image ranks the texts of the images of which the same is known before all others, and
guesses among them. So each ceiling says how much of a recall a method may owe to that fact alone. Equal texts have one
embedding, and stand together in every order that even the one who knows can give.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np

from pipelines.evaluate.evaluation_set import EvaluationImage
from pipelines.evaluate.guessing import CEILING
from pipelines.evaluate.metrics.retrieval import known_recall
from pipelines.evaluate.metrics.text_chance import known_recall_of_texts

Fact = Callable[[EvaluationImage], Hashable | None]
# Each direction's recall of one who knows: texts with copies stand together, images by themselves.
_RECALLS = {"i2t": known_recall_of_texts, "t2i": known_recall}


def _traits(image: EvaluationImage) -> Hashable | None:
    return tuple(sorted(image.attributes.items())) or None


def _normality(image: EvaluationImage) -> Hashable | None:
    return None if image.labels is None else not image.labels


def _of_regions(*names: str) -> Fact:
    """These properties of all annotated regions; without a finding there is none to know of."""

    def fact(image: EvaluationImage) -> Hashable | None:
        if not image.annotated:
            return () if image.labels == () else None
        if len(image.regions) != image.annotated:
            return None
        return tuple(sorted(tuple(getattr(region, name) for name in names) for region in image.regions))

    return fact


# Each adds to those before it: where the findings are, what they are there, and what shape they have.
FACTS: Mapping[str, Fact] = {
    "modality": lambda image: image.modality,
    "traits": _traits,
    "normality": _normality,
    "cells": _of_regions("position"),
    "terms": _of_regions("position", "term"),
    "shapes": _of_regions("position", "term", "adjective"),
}
# A method that tells no finding from another may know so much.
BEFORE_FINDINGS = ("modality", "traits", "normality")


def knowledge(images: Sequence[EvaluationImage]) -> dict[str, np.ndarray]:
    """`modality, traits` -> (images,) equal numbers for images of which the same is known, one more fact in each.

    A fact that is not known of every image is left out, and so are traits that nearly tell the images apart, such as
    the patient's age in days: one who knows them knows the image, and no method would come near.
    """
    names: list[str] = []
    known: list[tuple[Hashable, ...]] = [()] * len(images)
    result = {}
    for name, fact in FACTS.items():
        values = [fact(image) for image in images]
        if any(value is None for value in values) or (name == "traits" and _tells_apart(values)):
            continue
        names.append(name)
        known = [(*before, value) for before, value in zip(known, values, strict=True)]
        numbers: dict[Hashable, int] = {}
        result[", ".join(names)] = np.array([numbers.setdefault(value, len(numbers)) for value in known])
    return result


def _tells_apart(values: Sequence[Hashable | None]) -> bool:
    return len(set(values)) > len(values) / 2


def ceilings(steps: Mapping[str, np.ndarray], groups: np.ndarray, ks: Sequence[int]) -> list[dict[str, str | float]]:
    """`{known, i2t_recall@k, ..., t2i_recall@k, ...}` of each step of `knowledge`, the least first.

    Args:
        steps: Of `knowledge` of the pool.
        groups: (images,) equal numbers for equal texts.
        ks: At most the number of images.
    """
    return [
        {
            "known": names,
            **{f"{way}_recall@{k}": round(of_way(groups, known, k), 6) for way, of_way in _RECALLS.items() for k in ks},
        }
        for names, known in steps.items()
    ]


def baseline(steps: Mapping[str, np.ndarray], groups: np.ndarray, way: str, k: int) -> dict[str, float]:
    """`ceiling: modality, traits, normality` -> its recall at k, with those of the three that are known.

    Empty where it is not known which images are normal, or where all that is known is the same of all images.

    Args:
        steps: Of `knowledge` of the pool.
        groups: (images,) equal numbers for equal texts.
        way: `i2t` or `t2i`.
        k: At most the number of images.
    """
    before = [names for names, known in steps.items() if set(names.split(", ")) <= set(BEFORE_FINDINGS) and known.any()]
    if not before or "normality" not in (names := before[-1]):
        return {}
    return {f"{CEILING}{names}": round(_RECALLS[way](groups, steps[names], k), 6)}


def ceiling_notes(found: Sequence[Mapping[str, str | float]]) -> list[str]:
    """The ceilings in a sentence, and what is not known."""
    parts = [
        f"{ceiling['known']} {', '.join(f'{value:.3f}' for name, value in ceiling.items() if name != 'known')}"
        for ceiling in found
    ]
    if not parts:
        return []
    recalls = ", ".join(name for name in found[0] if name != "known")
    notes = [
        f"{recalls} of one who knows of each image what follows, and guesses among the texts of the images of which "
        f"the same is known: {'; '.join(parts)}"
    ]
    unknown = [name for name in FACTS if name not in str(found[-1]["known"]).split(", ")]
    return notes + (
        [f"not known of every image, or different for most of them: {', '.join(unknown)}"] if unknown else []
    )
