"""What the methods of a study answer for the images that are shown: from their checkpoints, one in memory at a time."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from models import inference
from models.capabilities import EmbedsImages, EmbedsText, SegmentsFromText
from models.data.shards import Sample, ShardSet
from models.geometry import Mask
from models.inference import can_ground
from models.plan.model import Plan
from pipelines.errors import one_line
from pipelines.evaluate.evaluation_set import EvaluationSet, finite
from pipelines.evaluate.metrics.localisation import upsample
from pipelines.evaluate.metrics.segmentation import Values
from pipelines.evaluate.scoring import TEST, ScoredModel, load_model
from pipelines.evaluate.segmentation.masks import predicted_masks, without_padding
from pipelines.evaluate.stage import CAPTIONS, CHECKPOINTS, IMAGES
from pipelines.studies.kept_words import KeptWords, kept_words
from pipelines.studies.shown import Shown, choose

logger = logging.getLogger(__name__)

NEAREST = 5
_BATCH = 16


@dataclass(frozen=True, kw_only=True)
class ShownAnswers:
    """What one method answers for what is shown; empty where it cannot.

    Attributes:
        heat_maps: (height, width) of the image for each phrase; NaN where the method does not look.
        masks: (height, width) of the image for each of `Shown.masks`.
        nearest: For each query the places in `Shown.pool` of the texts nearest to it, the nearest first.
        kept_words: For each of `Shown.reports`, of PLAN alone.
        fault: Why it answered nothing at all; None: it did, as far as it can.
    """

    heat_maps: list[Values] = field(default_factory=list)
    masks: list[Mask] = field(default_factory=list)
    nearest: list[list[int]] = field(default_factory=list)
    kept_words: list[KeptWords] = field(default_factory=list)
    fault: str | None = None


@dataclass(frozen=True, kw_only=True)
class StudyAnswers:
    """What is shown, and all answers to it.

    Attributes:
        shown: What was chosen.
        samples: The images that are shown somewhere, by their index.
        answers: Entry of `train.methods` -> its answers.
    """

    shown: Shown
    samples: Mapping[int, Sample]
    answers: Mapping[str, ShownAnswers]


def answered(workspace: Path, entries: Sequence[str]) -> StudyAnswers:
    """Choose test images of a workspace, and ask its checkpoints about them.

    Args:
        workspace: With shards and checkpoints.
        entries: Of `train.methods`, trained there.
    """
    shards = ShardSet(workspace / IMAGES, workspace / CAPTIONS, TEST)
    shown: Shown | None = None
    samples: dict[int, Sample] = {}
    answers = {}
    for entry in entries:
        try:
            scored = load_model(entry, workspace / CHECKPOINTS / entry, workspace)
            if shown is None:
                shown = choose(_set(scored, shards.samples).images)
                samples = {index: shards.sample(index) for index in sorted(shown.images)}
            answers[entry] = _answers(scored, shown, samples)
        except Exception as error:
            # The page of the study says why; its table is there already.
            logger.warning("no pictures of %s", entry, exc_info=True)
            answers[entry] = ShownAnswers(fault=one_line(error))
    return StudyAnswers(shown=shown or Shown(), samples=samples, answers=answers)


def _answers(scored: ScoredModel, shown: Shown, samples: Mapping[int, Sample]) -> ShownAnswers:
    model = scored.model
    embeds = model.offers(EmbedsImages) and model.offers(EmbedsText)
    return ShownAnswers(
        heat_maps=list(_heat_maps(scored, shown, samples)) if can_ground(model) else [],
        masks=list(_masks(scored, shown, samples)) if model.offers(SegmentsFromText) else [],
        nearest=_nearest(scored, shown, samples) if embeds and shown.queries else [],
        kept_words=list(_kept_words(scored, shown, samples)) if isinstance(model, Plan) else [],
    )


def _set(scored: ScoredModel, samples: Callable[..., Iterator[Sample]]) -> EvaluationSet:
    return EvaluationSet(scored.model, scored.tokenizer, samples, _BATCH, scores_only=True)


def _few(scored: ScoredModel, samples: Mapping[int, Sample], indices: Sequence[int]) -> EvaluationSet:
    """Some images as a set of their own, in which they stand in this order."""
    chosen = [samples[index] for index in indices]
    return _set(scored, lambda *, with_image=True: iter(chosen))


def _heat_maps(scored: ScoredModel, shown: Shown, samples: Mapping[int, Sample]) -> Iterator[Values]:
    few = _few(scored, samples, [phrase.index for phrase in shown.phrases])
    for sample, heat_map in few.ground([(place, phrase.text) for place, phrase in enumerate(shown.phrases)]):
        side = len(sample.image)
        yield without_padding(sample, upsample(heat_map[None], side, scored.model.visible_crop(side))[0])


def _masks(scored: ScoredModel, shown: Shown, samples: Mapping[int, Sample]) -> Iterator[Mask]:
    few = _few(scored, samples, list(shown.masks))
    texts = {place: {"text": text} for place, text in enumerate(shown.masks.values())}
    for _, _, masks in predicted_masks(few, texts):
        yield masks["text"]


def _nearest(scored: ScoredModel, shown: Shown, samples: Mapping[int, Sample]) -> list[list[int]]:
    texts = _few(scored, samples, []).embed_texts(shown.pool)
    queries = inference.embed_images(scored.model, (samples[index] for index in shown.queries), _BATCH)
    return [np.argsort(-(texts @ query), kind="stable")[:NEAREST].tolist() for query in finite(queries, "queries")]


def _kept_words(scored: ScoredModel, shown: Shown, samples: Mapping[int, Sample]) -> Iterator[KeptWords]:
    assert isinstance(scored.model, Plan)
    few = _few(scored, samples, list(shown.reports))
    for index, text in shown.reports.items():
        inputs = few.inputs(samples[index], text)
        yield kept_words(scored.model, scored.tokenizer, samples[index], inputs, text)
