"""Zero-shot classification: each finding against its negation, by prompts alone.

A class is a finding that a source names on its test images; the images of that source where somebody said whether
there are findings are its items (those of other sources are unknown, not negative). The score of an image is its cosine
to the finding's prompts less its cosine to the negative prompts ("no <finding>"), each the mean of the normalised
embeddings, normalised again (prompt ensembling, CLIP, Radford et al. 2021, section 3.1.4). Scores are not normalised
over the test set: an image's score depends on no other image.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import scipy.stats
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score

from models.capabilities import EmbedsImages, EmbedsText
from pipelines.evaluate.bootstrap import Score, score
from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.evaluation_set import EvaluationSet, Item
from pipelines.evaluate.task import Result
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
class _Class:
    """A finding of one source: `truth` (images of the source,) 0 or 1, `scores` beside it."""

    source: str
    label: str
    truth: np.ndarray
    scores: np.ndarray


class ZeroShot:
    """Macro ROC AUC over findings, with 0.5 as chance."""

    Config = ZeroShotConfig
    needs: ClassVar[tuple[type, ...]] = (EmbedsImages, EmbedsText)

    def __init__(self, config: ZeroShotConfig) -> None:
        self.config = config

    def run(self, test: EvaluationSet, bootstrap: Bootstrap) -> Result:
        excluded = {item.key: "no_labels" for item in test.items if item.labels is None}
        truths, one_sided = _truths(test.items)
        if not truths:
            reason = (
                f"no test source has a finding that some images have and others lack ({len(one_sided)} findings on all "
                f"of their source's images, {len(excluded)} images without labels)"
            )
            return Result(status="skipped", reason=reason, excluded=excluded)
        scored_sources = {source for source, _ in truths}
        excluded |= {
            item.key: "no_class_to_tell"
            for item in test.items
            if item.labels is not None and item.source not in scored_sources
        }
        classes = self._classes(test, truths)
        sources = sorted(scored_sources)
        items = sum(_images(classes, source) for source in sources)
        notes = [f"{len(classes)} classes scored", f"{len(one_sided)} skipped: all of their source's images have them"]
        aucs = [_macro_auc([one], bootstrap) for one in classes]
        per_class = [
            {
                "source": one.source,
                "label": one.label,
                "positives": int(one.truth.sum()),
                "negatives": int((1 - one.truth).sum()),
                "auc": asdict(auc),
            }
            for one, auc in zip(classes, aucs, strict=True)
        ]
        by_source: dict[str, dict[str, Any]] = {}
        for source in sources if len(sources) > 1 else []:
            mine = [one for one in classes if one.source == source]
            count = _images(classes, source)
            macro = asdict(_macro_auc(mine, bootstrap))
            by_source[source] = {"items": count, "pool": count, "metrics": {"auc_macro": macro}}
        return Result(
            items=items,
            pool=items,
            metrics={"auc_macro": _macro_auc(classes, bootstrap)},
            by_source=by_source,
            details={"classes": per_class, "skipped_classes": [f"{source}: {label}" for source, label in one_sided]},
            notes=notes,
            excluded=excluded,
            figure=_figure(classes, aucs),
        )

    def _classes(self, test: EvaluationSet, truths: dict[tuple[str, str], np.ndarray]) -> list[_Class]:
        labels = sorted({label for _, label in truths})
        positive = self._prompt_embeddings(test, labels, self.config.templates)
        negative = self._prompt_embeddings(test, labels, self.config.negatives)
        direction = dict(zip(labels, positive - negative, strict=True))
        rows: dict[str, list[int]] = {}
        for index, item in enumerate(test.items):
            if item.labels is not None:
                rows.setdefault(item.source, []).append(index)
        return [
            _Class(source, label, truth, test.image_embeddings[rows[source]] @ direction[label])
            for (source, label), truth in truths.items()
        ]

    def _prompt_embeddings(self, test: EvaluationSet, labels: Sequence[str], templates: Sequence[str]) -> np.ndarray:
        """(labels, dimensions), of length 1: the mean direction of each label's prompts."""
        prompts = [template.replace("{label}", label) for label in labels for template in templates]
        mean = test.embed_texts(prompts).reshape(len(labels), len(templates), -1).mean(axis=1)
        # Prompts that cancel out have no direction; they score every image alike instead of dividing by zero.
        return mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)


def _truths(items: Sequence[Item]) -> tuple[dict[tuple[str, str], np.ndarray], list[tuple[str, str]]]:
    """(source, label) -> 0 or 1 for each labelled image of the source; and the classes that all of them have."""
    by_source: dict[str, list[set[str]]] = {}
    for item in items:
        if item.labels is not None:
            by_source.setdefault(item.source, []).append(set(item.labels) - {NO_FINDING})
    truths, one_sided = {}, []
    for source, label_sets in sorted(by_source.items()):
        for label, count in sorted(Counter(label for labels in label_sets for label in labels).items()):
            if count == len(label_sets):
                one_sided.append((source, label))
            else:
                truths[source, label] = np.array([int(label in labels) for labels in label_sets])
    return truths, one_sided


def _images(classes: Sequence[_Class], source: str) -> int:
    return next(len(one.truth) for one in classes if one.source == source)


def _macro_auc(classes: Sequence[_Class], bootstrap: Bootstrap) -> Score:
    """Mean of the classes' AUCs; images are resampled within their source.

    A class of which a resample drew no positive or no negative drops out of that resample's mean.
    """
    sources = sorted({one.source for one in classes})

    def resampled(*indices: np.ndarray) -> np.ndarray:
        drawn = dict(zip(sources, indices, strict=True))
        aucs = np.stack([_aucs(one.truth[drawn[one.source]], one.scores[drawn[one.source]]) for one in classes])
        present = np.isfinite(aucs)
        return np.where(present.any(axis=0), np.nansum(aucs, axis=0) / np.maximum(present.sum(axis=0), 1), np.nan)

    value = float(np.mean([roc_auc_score(one.truth, one.scores) for one in classes]))
    return score([_images(classes, source) for source in sources], resampled, value, 0.5, bootstrap)


def _aucs(truth: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """ROC AUC of each row by the rank sum (Mann-Whitney U); `roc_auc_score` takes 1.7 ms a call, too slow to resample.

    Args:
        truth: (resamples, images) 0 or 1.
        scores: (resamples, images).

    Returns:
        (resamples,); NaN where a row holds one class only.
    """
    positives = truth.sum(axis=1)
    pairs = positives * (truth.shape[1] - positives)
    rank_sum = (scipy.stats.rankdata(scores, axis=1) * truth).sum(axis=1)
    wins = rank_sum - positives * (positives + 1) / 2
    return np.where(pairs > 0, wins / np.maximum(pairs, 1), np.nan)


def _figure(classes: Sequence[_Class], aucs: Sequence[Score]) -> Figure:
    figure = Figure(figsize=(5, 1 + 0.28 * len(classes)), layout="constrained")
    axes = figure.subplots()
    places = range(len(classes))
    lows, highs = zip(*(auc.bounds for auc in aucs), strict=True)
    axes.hlines(places, lows, highs, color="grey")
    axes.plot([auc.value for auc in aucs], places, "o")
    axes.axvline(0.5, linestyle="--", color="grey")
    axes.set_yticks(places, [f"{one.source}: {one.label}" for one in classes])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("ROC AUC, 95 % interval; dashed: chance")
    return figure
