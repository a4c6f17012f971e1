"""Laterality: does a method tell a text from the same text with left and right exchanged?

Texts are asked that name exactly one side. A method that embeds is asked whether the image is nearer to its own report
(`report`); a heatmap (`map`) or a predicted mask (`mask`) is right where it lies on the named side, and more so than
with the sides exchanged. Phrases of maps are the captions of annotated regions, or the report where there is none;
masks are asked for with the report, or with the captions. A mask counts by its probabilities, not by the pixels above a
threshold: a weak one too may follow the side, or lie on it.

A map that the side says nothing of lies on the named one in half of the cases, and more so than the other map in half
of these: chance is 1/4. One that finds what is there, and ignores the side, is half right at most: the baseline
`same answer for both sides`. A method that ignores the image is right on any: its baseline `image-blind` is as high as
its accuracy. `moved` and `shift` say what the text changes, whatever the image shows; their control is never worse.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from models.capabilities import EmbedsImages, EmbedsText, SegmentsFromText
from models.data.shards import Sample
from models.inference import can_ground
from models.method import Method
from models.places import flip_text
from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.evaluation_set import EvaluationImage, EvaluationSet
from pipelines.evaluate.metrics.bootstrap import mean_score
from pipelines.evaluate.metrics.laterality import moved, side_share
from pipelines.evaluate.metrics.localisation import upsample
from pipelines.evaluate.metrics.retrieval import TIE
from pipelines.evaluate.one_sided import OneSidedText, mask_texts, phrases, reports
from pipelines.evaluate.segmentation.masks import without_padding
from pipelines.evaluate.segmentation.notes import convention_notes
from pipelines.evaluate.task import GroupScores, ItemScore, Result, Task, independence_note, score_by_source
from pipelines.sides import named_side


@dataclass(frozen=True, kw_only=True)
class LateralityConfig:
    """Options of the task.

    Attributes:
        sample: Most texts of a split for which maps, or masks, are computed; of more, so many are drawn.
    """

    sample: int

    def __post_init__(self) -> None:
        if self.sample < 1:
            raise ValueError("sample must be at least 1")


@dataclass(frozen=True)
class _Answer:
    """What the exchange of sides changes: `values` by metric; `named` and `exchanged` are what they follow from.

    Of reports these are the cosines with either text, of maps and masks the fraction on the named side under either.
    """

    setting: str
    of: OneSidedText
    values: Mapping[str, float]
    named: float
    exchanged: float


# What a method gets that gives the same answer for both sides.
_SAME = {"accuracy": 0.5, "moved": 0.5, "shift": 0.0}
_CHANCE = {
    "report/accuracy": 0.5,
    **{f"{setting}/{name}": {**_SAME, "accuracy": 0.25}[name] for setting in ("map", "mask") for name in _SAME},
}


class Laterality(Task):
    """Accuracy of reports, maps and masks, and how far the latter move, with chance beside each."""

    Config = LateralityConfig
    needs: ClassVar[tuple[type, ...]] = ()
    definitions: ClassVar[Mapping[str, str]] = {
        "report/accuracy": (
            "How often an image is nearer to its own report, which names one side, than to the same report with left "
            "and right exchanged; a tie counts half."
        ),
        "map/accuracy": (
            "How often most of the heatmap lies on the side that the phrase names, and more of it than under the same "
            "phrase with left and right exchanged; at most half where the exchange changes nothing."
        ),
        "mask/accuracy": (
            "How often the mask's probability is higher in the mean on the side that the text names, and more so than "
            "under the same text with left and right exchanged; at most half where the exchange changes nothing."
        ),
        "moved": (
            "How often more of the map (or mask) lies on the named side than under the same text with left and right "
            "exchanged, wherever most of it lies; a tie counts half. It says what the text changes, on any image."
        ),
        "shift": (
            "Fraction of the map (or of the mask's probability) on the side that the text names, less that fraction "
            "under the same text with left and right exchanged; 0: it does not move, 1: it moves from one half of the "
            "image to the other."
        ),
    }
    headline = ("report/accuracy", "map/accuracy", "mask/accuracy")
    does = "follows left and right"

    @staticmethod
    def skip_reason(image: EvaluationImage) -> str | None:
        texts = (image.report, image.truth_text, *(region.phrase or region.caption for region in image.regions))
        return None if any(map(named_side, texts)) else "no_one_sided_text"

    def run(self, test: EvaluationSet, bootstrap: Bootstrap) -> Result:
        texts = _texts_by_setting(test)
        if not texts:
            return Result(
                status="skipped",
                reason="the method neither embeds images and texts, nor grounds phrases, nor segments",
                excluded={image.key: "method_lacks_capability" for image in test.images},
            )
        drawn = self._drawn(texts, bootstrap.seed)
        excluded = self._left_out(test.images, texts, drawn)
        answers = [answer for setting, of_setting in drawn.items() for answer in _ANSWERS[setting](test, of_setting)]
        if not answers:
            return Result(status="skipped", reason="no test image has a text that names one side", excluded=excluded)

        def score(indices: Sequence[int]) -> GroupScores:
            return _score([answers[index] for index in indices], bootstrap)

        return Result(
            scores=score(range(len(answers))),
            by_source=score_by_source([test.images[answer.of.index].source for answer in answers], score),
            details={"items": {setting: len(of_setting) for setting, of_setting in drawn.items()}},
            notes=_notes(test, texts, drawn),
            excluded=excluded,
            items=_items(test.images, answers),
        )

    def _drawn(self, texts: Mapping[str, Sequence[OneSidedText]], seed: int) -> dict[str, list[OneSidedText]]:
        """At most `sample` texts of maps, and of masks; in the images' order."""
        random = np.random.default_rng(seed)
        drawn = {}
        for setting, of_setting in texts.items():
            drawn[setting] = list(of_setting)
            if setting != "report" and len(of_setting) > self.config.sample:
                chosen = random.choice(len(of_setting), self.config.sample, replace=False)
                drawn[setting] = [of_setting[number] for number in sorted(chosen.tolist())]
        return drawn

    def _left_out(
        self,
        images: Sequence[EvaluationImage],
        texts: Mapping[str, Sequence[OneSidedText]],
        drawn: Mapping[str, Sequence[OneSidedText]],
    ) -> dict[str, str]:
        known, asked = ({text.index for part in parts.values() for text in part} for parts in (texts, drawn))
        return {
            image.key: "not_drawn" if index in known else "no_one_sided_text"
            for index, image in enumerate(images)
            if index not in asked
        }


def _texts_by_setting(test: EvaluationSet) -> dict[str, list[OneSidedText]]:
    """The texts of each setting that the method can answer."""
    model = test.model
    texts = {}
    if model.offers(EmbedsImages) and model.offers(EmbedsText):
        texts["report"] = reports(test.images)
    if can_ground(model):
        texts["map"] = phrases(test.images)
    if model.offers(SegmentsFromText):
        texts["mask"] = mask_texts(test.images)
    return texts


def _of_reports(test: EvaluationSet, texts: Sequence[OneSidedText]) -> list[_Answer]:
    if not texts:
        return []
    images = test.image_embeddings[[text.index for text in texts]]
    both = test.embed_texts([*(text.text for text in texts), *(flip_text(text.text) for text in texts)])
    own, other = (np.einsum("ij,ij->i", images, half) for half in np.split(both, 2))
    nearer = np.where(np.abs(own - other) <= TIE, 0.5, own > other)
    answers = zip(texts, nearer.tolist(), own.tolist(), other.tolist(), strict=True)
    return [_Answer("report", text, {"accuracy": value}, *cosines) for text, value, *cosines in answers]


def _of_maps(test: EvaluationSet, texts: Sequence[OneSidedText]) -> list[_Answer]:
    maps = (_map(test.model, sample, heatmap) for sample, heatmap in test.ground(_with_exchanged(texts)))
    return _moves("map", test, texts, maps)


def _of_masks(test: EvaluationSet, texts: Sequence[OneSidedText]) -> list[_Answer]:
    """Those of a method that ignores the text are computed once: no exchange changes anything."""
    asked = _with_exchanged(texts) if test.model.reads_text else [(text.index, text.text) for text in texts]
    masks = (without_padding(sample, probability) for sample, probability in test.segment(asked))
    if not test.model.reads_text:
        masks = (mask for same in masks for mask in (same, same))
    return _moves("mask", test, texts, masks)


def _with_exchanged(texts: Sequence[OneSidedText]) -> list[tuple[int, str]]:
    return [(text.index, asked) for text in texts for asked in (text.text, flip_text(text.text))]


def _map(model: Method, sample: Sample, heatmap: np.ndarray) -> np.ndarray:
    """(height, width): the heatmap on the image, less its lowest value; 0 if it is flat, NaN where nothing is seen."""
    side = len(sample.image)
    pixels = without_padding(sample, upsample(heatmap[None], side, model.visible_crop(side))[0])
    low, high = np.nanmin(pixels), np.nanmax(pixels)
    flat = high - low <= 1e-6 * max(abs(low), abs(high))
    return pixels * 0 if flat else pixels - low


def _moves(
    setting: str, test: EvaluationSet, texts: Sequence[OneSidedText], predictions: Iterator[np.ndarray]
) -> list[_Answer]:
    """Of each text two predictions follow one another: for it, and for the exchanged one."""
    answers = []
    for text in texts:
        patient_sides = test.images[text.index].patient_sides
        own, other = (side_share(next(predictions), text.side, patient_sides=patient_sides) for _ in range(2))
        towards = moved(own - other)
        values = {"accuracy": min(towards, moved(own - 0.5)), "moved": towards, "shift": own - other}
        answers.append(_Answer(setting, text, values, own, other))
    return answers


def _score(answers: Sequence[_Answer], bootstrap: Bootstrap) -> GroupScores:
    values: dict[str, list[float]] = {}
    for answer in answers:
        for name, value in answer.values.items():
            values.setdefault(f"{answer.setting}/{name}", []).append(value)
    metrics = {
        name: mean_score(np.array(of_items), _CHANCE[name], bootstrap, _baselines(name))
        for name, of_items in values.items()
    }
    return GroupScores(items=len({answer.of.index for answer in answers}), metrics=metrics)


def _notes(
    test: EvaluationSet, texts: Mapping[str, Sequence[OneSidedText]], drawn: Mapping[str, Sequence[OneSidedText]]
) -> list[str]:
    asked = dict.fromkeys(text.index for of_setting in drawn.values() for text in of_setting)
    notes = [
        "texts that name one side, and are asked with the other too: "
        + ", ".join(f"{setting} {len(drawn[setting])} of {len(of_setting)}" for setting, of_setting in texts.items())
    ]
    if "mask" in texts and not test.model.reads_text:
        notes.append("the method ignores the text: its masks are the same with every text")
    return [
        *notes,
        *convention_notes([test.images[index] for index in asked]),
        independence_note("texts", "image or patient"),
    ]


_ANSWERS: Mapping[str, Callable[[EvaluationSet, Sequence[OneSidedText]], list[_Answer]]] = {
    "report": _of_reports,
    "map": _of_maps,
    "mask": _of_masks,
}


def _baselines(metric: str) -> dict[str, float]:
    same = _SAME[metric.partition("/")[2]]
    return {} if same == _CHANCE[metric] else {"same answer for both sides": same}


def _items(images: Sequence[EvaluationImage], answers: Sequence[_Answer]) -> Iterator[ItemScore]:
    for answer in answers:
        image, prompt = images[answer.of.index], answer.of.text
        item = None if answer.setting == "report" else f"{image.key} {prompt}"
        output: dict[str, float] | None = {"named": round(answer.named, 6), "exchanged": round(answer.exchanged, 6)}
        for name, value in answer.values.items():
            yield ItemScore(image, f"{answer.setting}/{name}", value, item=item, prompt=prompt, output=output)
            output = None
