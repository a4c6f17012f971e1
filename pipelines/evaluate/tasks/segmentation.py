"""Language-guided segmentation: is what the text speaks of found, pixel by pixel, and does the text matter?

The target of an image is everything that its source outlined. Every image with one is segmented with the texts of four
settings: its own report (`given`), another image's (`shuffled`), none (`none`), and, where it has no report, captions
made from its outlines (`from_mask`). Where a report and the target have findings on both sides, each side is also asked
for by itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from models.capabilities import SegmentsFromText
from pipelines.evaluate.bootstrap import Score, score
from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.evaluation_set import EvaluationSet
from pipelines.evaluate.segmentation import metrics
from pipelines.evaluate.segmentation.cost import cost, latency
from pipelines.evaluate.segmentation.figure import cases, figure
from pipelines.evaluate.segmentation.halves import OTHER
from pipelines.evaluate.segmentation.masks import masks, of_picture, reads_text
from pipelines.evaluate.segmentation.metrics import Counts
from pipelines.evaluate.segmentation.notes import notes
from pipelines.evaluate.segmentation.one_side import (
    Answer,
    Votes,
    Where,
    answer,
    names_both_sides,
    one_sided,
    patients_sides,
)
from pipelines.evaluate.segmentation.texts import Texts, texts_of
from pipelines.evaluate.task import Result

# What the figure shows and the cost is measured with: the first of these that the test set has.
_SHOWN = ("given", "from_mask", "none")


@dataclass(frozen=True, kw_only=True)
class SegmentationConfig:
    """The task has no options."""


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What came of the masks; an image is its place in `EvaluationSet.items`.

    Attributes:
        counts: Setting -> image -> row of `metrics`.
        answers: Image -> what asking for one side did, or why it says nothing.
    """

    counts: dict[str, dict[int, list[int]]]
    answers: dict[int, Answer | str]


class Segmentation:
    """Dice and IoU both ways, accuracy, and what the text changes."""

    Config = SegmentationConfig
    needs: ClassVar[tuple[type, ...]] = (SegmentsFromText,)

    def __init__(self, config: SegmentationConfig) -> None:
        self.config = config

    def run(self, test: EvaluationSet, bootstrap: Bootstrap) -> Result:
        excluded = {item.key: "no_target" for item in test.items if not item.has_target}
        texts = {setting: found for setting, found in texts_of(test.items, bootstrap.seed).items() if found}
        if not texts:
            return Result(status="skipped", reason="no test image has a target", excluded=excluded)
        asked = _one_sided(texts.get("given", {}))
        votes = patients_sides(texts.get("given", {}), test.items)
        found = _segment(test, texts, asked, votes)
        values, constant = _scores(found, bootstrap)
        parts: dict[str, dict[str, Any]] = {}
        sources = sorted({test.items[place].source for place in texts["none"]})
        for source in sources if len(sources) > 1 else []:
            mine = _of(found, {place for place in texts["none"] if test.items[place].source == source})
            of_source = {name: asdict(value) for name, value in _scores(mine, bootstrap)[0].items()}
            parts[source] = {"items": len(mine.counts["none"]), "pool": 0, "metrics": of_source}
        shown = next(setting for setting in _SHOWN if setting in texts)
        first = next(iter(texts[shown]))
        inputs = test.inputs(test.samples([first])[first], texts[shown][first])
        return Result(
            items=len(texts["none"]),
            metrics=values,
            by_source=parts,
            details={
                "items": {setting: len(counts) for setting, counts in found.counts.items()}
                | {"one_side": len(_told(found.answers))},
                "reads_text": reads_text(test.model),
                "drop_when_shuffled": _drop(found, bootstrap),
                "cost": {
                    **cost(test.model, *inputs),
                    "image_size": inputs[0].pixels.shape[-1],
                    "tokens": inputs[1].ids.shape[-1],
                },
            },
            notes=notes(texts, constant, found.answers, votes, reads=reads_text(test.model)),
            excluded=excluded,
            figure=figure(test, cases(found.counts[shown], texts[shown])),
            timings={"latency_cpu_ms": round(latency(test.model, *inputs), 3)},
        )


def _one_sided(given: Texts) -> dict[int, dict[str, str]]:
    """Image -> the text of each side, for the texts that name both and can be parted."""
    found = {}
    for place, text in given.items():
        if names_both_sides(text):
            sides = {side: one_sided(text, side) for side in OTHER}
            found[place] = {side: text for side, text in sides.items() if text is not None}
    return {place: sides for place, sides in found.items() if len(sides) == len(OTHER)}


def _segment(
    test: EvaluationSet,
    texts: Mapping[str, Texts],
    asked: Mapping[int, Mapping[str, str]],
    votes: Mapping[Where, Votes],
) -> _Found:
    """One pass over the images; no mask is kept."""
    found = _Found(counts={setting: {} for setting in texts}, answers={})
    by_image = {
        place: {setting: by_place[place] for setting, by_place in texts.items() if place in by_place}
        | dict(asked.get(place, {}))
        for place in sorted(texts["none"])
    }
    for place, sample, by_name in masks(test, by_image):
        target = of_picture(sample, sample.target)
        for name, mask in by_name.items():
            if name in texts:
                found.counts[name][place] = metrics.count(mask, target)
        if place in asked:
            sides = {side: by_name[side] for side in OTHER}
            item = test.items[place]
            patients = votes.get((item.source, item.view), Votes()).decide(item.view)
            found.answers[place] = answer(target, by_name["given"], sides, patients=patients)
    return found


def _of(found: _Found, places: set[int]) -> _Found:
    counts = {
        setting: {place: row for place, row in rows.items() if place in places}
        for setting, rows in found.counts.items()
    }
    answers = {place: one for place, one in found.answers.items() if place in places}
    return _Found(counts={setting: rows for setting, rows in counts.items() if rows}, answers=answers)


def _scores(found: _Found, bootstrap: Bootstrap) -> tuple[dict[str, Score], dict[str, list[str]]]:
    """`<setting>/<metric>`, and constant answer -> the scores whose chance it is."""
    scored: dict[str, Score] = {}
    constant: dict[str, list[str]] = {}
    for setting, rows in found.counts.items():
        values, answers = metrics.scores(_rows(rows), bootstrap)
        scored |= {f"{setting}/{name}": value for name, value in values.items()}
        for name, of in answers.items():
            constant.setdefault(of, []).append(f"{setting}/{name}")
    told = _told(found.answers)
    if told:
        # Chance: what a method does that does not read the text.
        for name, chance in (("kept", 1.0), ("gone", 0.0)):
            scored[f"one_side/{name}"] = _mean(np.array([getattr(one, name) for one in told]), chance, bootstrap)
    return scored, constant


def _mean(values: np.ndarray, chance: float, bootstrap: Bootstrap) -> Score:
    return score([len(values)], lambda index: values[index].mean(axis=-1), float(values.mean()), chance, bootstrap)


def _rows(rows: Mapping[int, Sequence[int]]) -> Counts:
    return np.array(list(rows.values()), dtype=np.int64)


def _told(answers: Mapping[int, Answer | str]) -> list[Answer]:
    return [one for one in answers.values() if isinstance(one, Answer)]


def _drop(found: _Found, bootstrap: Bootstrap) -> dict[str, Any] | None:
    """Dice of each image with its own text less that with another's; null where nothing was exchanged."""
    shuffled = found.counts.get("shuffled")
    if shuffled is None:
        return None
    own = {place: found.counts["given"][place] for place in shuffled}
    change = metrics.dice(_rows(own)) - metrics.dice(_rows(shuffled))
    return {"dice_per_image": asdict(_mean(change, 0.0, bootstrap))}
