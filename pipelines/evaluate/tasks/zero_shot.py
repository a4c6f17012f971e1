"""Zero-shot classification: each finding against its negation, by prompts alone.

A class is a finding that a source names on its test images. Its items are the images of that source whose labels are
known; the labels of other sources' images are unknown, not negative. The score of an image is its cosine to the
finding's prompts less its cosine to the negative prompts ("no <finding>"), each the mean of the normalised embeddings,
normalised again (prompt ensembling, CLIP, Radford et al. 2021, section 3.1.4). Scores are not normalised over the test
set: an image's score depends on no other image.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np
from matplotlib.figure import Figure

from models.capabilities import EmbedsImages, EmbedsText
from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.evaluation_set import EvaluationImage, EvaluationSet
from pipelines.evaluate.metrics import classification
from pipelines.evaluate.metrics.bootstrap import Score, bootstrap_score
from pipelines.evaluate.task import GroupScores, ItemScore, Result, Task, score_by_source
from pipelines.records import NO_FINDING


@dataclass(frozen=True, kw_only=True)
class ZeroShotConfig:
    """Options of the task.

    Attributes:
        templates: Prompts for a finding; `{label}` stands for its name.
        negatives: Prompts for its absence, such as `no {label}`.
    """

    templates: list[str]
    negatives: list[str]

    def __post_init__(self) -> None:
        for name, prompts in (("templates", self.templates), ("negatives", self.negatives)):
            if not prompts or not all("{label}" in prompt for prompt in prompts):
                raise ValueError(f"{name} must hold at least one prompt, each with {{label}} in it")


@dataclass(frozen=True)
class _FindingClass:
    """A finding of one source: `truth` (images of the source,) 0 or 1, `scores` beside it."""

    source: str
    label: str
    truth: np.ndarray
    scores: np.ndarray


class ZeroShot(Task):
    """Macro ROC AUC over findings, with 0.5 as chance."""

    Config = ZeroShotConfig
    needs: ClassVar[tuple[type, ...]] = (EmbedsImages, EmbedsText)
    definitions: ClassVar[Mapping[str, str]] = {
        "auc_macro": (
            "Area under the ROC curve, mean over the findings: how often an image with the finding scores "
            "higher than one without it, by prompts alone."
        ),
    }
    headline = ("auc_macro",)
    does = "tells findings apart"

    @staticmethod
    def skip_reason(image: EvaluationImage) -> str | None:
        return "no_labels" if image.labels is None else None

    def run(self, test: EvaluationSet, bootstrap: Bootstrap) -> Result:
        excluded = self.excluded_images(test.images)
        truths, without_negatives = class_truths(test.images)
        if not truths:
            reason = (
                f"no test source has a finding that some images have and others lack ({len(without_negatives)} "
                f"findings on all of their source's images, {len(excluded)} images without labels)"
            )
            return Result(status="skipped", reason=reason, excluded=excluded)
        scored_sources = {source for source, _ in truths}
        excluded |= {
            image.key: "no_class_to_tell"
            for image in test.images
            if image.key not in excluded and image.source not in scored_sources
        }
        classes = self._classes(test, truths)

        def score(indices: Sequence[int]) -> GroupScores:
            return _score([classes[index] for index in indices], bootstrap)

        aucs = [macro_auc([finding], bootstrap) for finding in classes]
        per_class = [
            {
                "source": finding.source,
                "label": finding.label,
                "positives": int(finding.truth.sum()),
                "negatives": int((1 - finding.truth).sum()),
                "auc": asdict(auc),
            }
            for finding, auc in zip(classes, aucs, strict=True)
        ]
        return Result(
            scores=score(range(len(classes))),
            by_source=score_by_source([finding.source for finding in classes], score),
            details={
                "classes": per_class,
                "skipped_classes": [f"{source}: {label}" for source, label in without_negatives],
            },
            notes=[
                f"{len(classes)} classes are scored",
                f"{len(without_negatives)} classes are skipped: all of their source's images have them",
            ],
            excluded=excluded,
            items=_items(test.images, classes),
            figure=None if test.scores_only else _figure(classes, aucs),
        )

    def _classes(self, test: EvaluationSet, truths: dict[tuple[str, str], np.ndarray]) -> list[_FindingClass]:
        labels = sorted({label for _, label in truths})
        direction = dict(zip(labels, label_directions(test.embed_texts, labels, self.config), strict=True))
        rows: dict[str, list[int]] = {}
        for index, image in enumerate(test.images):
            if image.labels is not None:
                rows.setdefault(image.source, []).append(index)
        return [
            _FindingClass(source, label, truth, test.image_embeddings[rows[source]] @ direction[label])
            for (source, label), truth in truths.items()
        ]


def label_directions(
    embed: Callable[[Sequence[str]], np.ndarray], labels: Sequence[str], config: ZeroShotConfig
) -> np.ndarray:
    """What an image's embedding is multiplied with for the labels' scores: (labels, dimensions).

    Args:
        embed: Texts -> (texts, dimensions), of length 1.
        labels: Names of findings.
        config: The prompts.
    """

    def mean(templates: Sequence[str]) -> np.ndarray:
        """(labels, dimensions), of length 1: the mean direction of each label's prompts."""
        prompts = [template.replace("{label}", label) for label in labels for template in templates]
        vectors = embed(prompts).reshape(len(labels), len(templates), -1).mean(axis=1)
        # Prompts that cancel out have no direction; they score every image alike instead of dividing by zero.
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)

    return mean(config.templates) - mean(config.negatives)


def class_truths(
    images: Sequence[EvaluationImage],
) -> tuple[dict[tuple[str, str], np.ndarray], list[tuple[str, str]]]:
    """(source, label) -> 0 or 1 for each labelled image of the source; and the classes that all of them have."""
    by_source: dict[str, list[set[str]]] = {}
    for image in images:
        if image.labels is not None:
            by_source.setdefault(image.source, []).append(set(image.labels) - {NO_FINDING})
    truths, without_negatives = {}, []
    for source, label_sets in sorted(by_source.items()):
        for label, count in sorted(Counter(label for labels in label_sets for label in labels).items()):
            if count == len(label_sets):
                without_negatives.append((source, label))
            else:
                truths[source, label] = np.array([label in labels for labels in label_sets], dtype=np.int8)
    return truths, without_negatives


def _items(images: Sequence[EvaluationImage], classes: Sequence[_FindingClass]) -> Iterator[ItemScore]:
    labelled: dict[str, list[EvaluationImage]] = {}
    for image in images:
        if image.labels is not None:
            labelled.setdefault(image.source, []).append(image)
    for finding in classes:
        values = zip(labelled[finding.source], finding.scores.tolist(), finding.truth.tolist(), strict=True)
        for image, score, truth in values:
            yield ItemScore(image, "cosine_difference", score, label=finding.label, truth=truth)


def _images_by_source(classes: Sequence[_FindingClass]) -> dict[str, int]:
    """Source -> number of its labelled images, sources in alphabetical order."""
    return dict(sorted({finding.source: len(finding.truth) for finding in classes}.items()))


def _score(classes: Sequence[_FindingClass], bootstrap: Bootstrap) -> GroupScores:
    images = sum(_images_by_source(classes).values())
    return GroupScores(items=images, pool=images, metrics={"auc_macro": macro_auc(classes, bootstrap)})


def macro_auc(classes: Sequence[_FindingClass], bootstrap: Bootstrap) -> Score:
    """Mean of the classes' AUCs; images are resampled within their source."""
    images = _images_by_source(classes)
    sources = list(images)
    findings = [(sources.index(finding.source), finding.truth, finding.scores) for finding in classes]

    def resampled(*drawn: np.ndarray) -> np.ndarray:
        return classification.macro_auc(findings, drawn)

    value = float(resampled(*(np.arange(count)[None] for count in images.values()))[0])
    return bootstrap_score(list(images.values()), resampled, value, 0.5, bootstrap)


def _figure(classes: Sequence[_FindingClass], aucs: Sequence[Score]) -> Figure:
    figure = Figure(figsize=(5, 1 + 0.28 * len(classes)), layout="constrained")
    axes = figure.subplots()
    rows = range(len(classes))
    lows, highs = zip(*(auc.bounds for auc in aucs), strict=True)
    axes.hlines(rows, lows, highs, color="grey")
    axes.plot([auc.value for auc in aucs], rows, "o")
    axes.axvline(0.5, linestyle="--", color="grey")
    axes.set_yticks(rows, [f"{finding.source}: {finding.label}" for finding in classes])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("ROC AUC, 95 % interval; dashed: chance")
    return figure
