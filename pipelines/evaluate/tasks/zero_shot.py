"""Zero-shot classification by prompts alone.

The prompts of a class are the templates with its name, or those that a file of `prompts/zero_shot/` has for it. Their
direction is the mean of the normalised embeddings, normalised again (prompt ensembling, CLIP, Radford et al. 2021,
section 3.1.4). There are two kinds:

- `findings`: each finding against its negation. A class is a finding that a source names on its test images. Its items
  are the images of that source whose labels are known; the labels of other sources' images are unknown, not negative.
  The score of an image is its cosine to the finding's prompts less its cosine to the negative prompts ("no <finding>").
- `exclusive`: one of several classes, on sources of which each labelled image shows exactly one
  (`pipelines/evaluate/zero_shot/exclusive.py`); all that the source shows on any split can be answered. The score of
  a class is its softmax over the classes' cosines, divided by `temperature`; each class is told from the others
  (`auc_ovr`), and the highest is the answer (`accuracy`). Negative prompts stand for the class `No Finding` alone,
  where no file has prompts for it: those against each other class of its source.

`both` scores the two side by side, for a study of which some sources have exclusive classes.

An image's score depends on no other image, but in the metrics `transductive/...`, an option: there the cosines to the
prompts of each class (of `findings` also those to its negative prompts) are normalised over the source's labelled
images to mean 0 and standard deviation 1, as GLoRIA does over its test set (Huang et al. 2021). The difference of
`findings` would keep its order if it were normalised itself, so that its two sides are; `exclusive` takes the softmax
of the standard deviations, without a temperature. A method has no such test set when it is used: these metrics stand
beside the others, never in their place, and are no gate of promotion.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import chain
from typing import Any, ClassVar

import numpy as np

from models.capabilities import EmbedsImages, EmbedsText
from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.evaluation_set import EvaluationImage, EvaluationSet
from pipelines.evaluate.labelled import labelled_rows
from pipelines.evaluate.metrics.bootstrap import Score
from pipelines.evaluate.metrics.classification import with_ties
from pipelines.evaluate.task import QUOTED, GroupScores, ItemScore, Result, Task, score_by_source
from pipelines.evaluate.zero_shot import exclusive
from pipelines.evaluate.zero_shot.both import both_kinds
from pipelines.evaluate.zero_shot.classes import (
    FindingClass,
    class_truths,
    images_by_source,
    macro_auc,
    z_scores,
)
from pipelines.evaluate.zero_shot.figure import auc_figure
from pipelines.evaluate.zero_shot.prompts import ZeroShotConfig, class_directions, label_directions, mean_directions

TRANSDUCTIVE_NOTE = (
    "transductive/...: cosines are normalised over the images of the split, so that an image's score depends on the "
    "others; the intervals take the normalisation as it is"
)


class ZeroShot(Task):
    """Macro ROC AUC over findings or exclusive classes, with 0.5 as chance, and of the latter the accuracy."""

    Config = ZeroShotConfig
    needs: ClassVar[tuple[type, ...]] = (EmbedsImages, EmbedsText)
    definitions: ClassVar[Mapping[str, str]] = {
        "auc_macro": (
            "Area under the ROC curve, mean over the findings: how often an image with the finding scores "
            "higher than one without it, by prompts alone."
        ),
        "auc_ovr": (
            "Area under the ROC curve of each class against the others, mean over the classes: how often an image of "
            "the class has a higher softmax of it than one of another class, by prompts alone."
        ),
        "accuracy": "Fraction of the images whose own class has the nearest prompts; a tie with another is no hit.",
        "transductive/auc_macro": "As auc_macro, of cosines that are normalised over the images of the split.",
        "transductive/auc_ovr": "As auc_ovr, of cosines that are normalised over the images of the split.",
        "transductive/accuracy": "As accuracy, of cosines that are normalised over the images of the split.",
    }
    headline: tuple[str, ...] = ("auc_macro",)
    does = "tells findings apart"

    def __init__(self, config: ZeroShotConfig) -> None:
        super().__init__(config)
        self.reads_classes = config.kind != "findings"
        if config.kind != "findings":
            self.headline = (*(self.headline if config.kind == "both" else ()), "auc_ovr", "accuracy")

    @staticmethod
    def skip_reason(image: EvaluationImage) -> str | None:
        return "no_labels" if image.labels is None else None

    def run(self, test: EvaluationSet, bootstrap: Bootstrap) -> Result:
        if self.config.kind == "both":
            return both_kinds(test.images, self._findings(test, bootstrap), self._exclusive(test, bootstrap))
        return (self._findings if self.config.kind == "findings" else self._exclusive)(test, bootstrap)

    def _findings(self, test: EvaluationSet, bootstrap: Bootstrap) -> Result:
        excluded = self.excluded_images(test.images)
        truths, untold = class_truths(test.images, test.source_classes)
        skipped = [f"{source}: {label} ({why})" for (source, label), why in untold.items()]
        if not truths:
            reason = (
                "no test source has a finding that some images have and others lack (findings: "
                f"{'; '.join(skipped) or 'none'}; {len(excluded)} images without labels)"
            )
            return Result(status="skipped", reason=reason, excluded=excluded)
        scored_sources = {source for source, _ in truths}
        excluded |= {
            image.key: "no_class_to_tell"
            for image in test.images
            if image.key not in excluded and image.source not in scored_sources
        }
        classes = self._classes(test, truths)
        normalised = self._normalised(test, truths) if self.config.transductive else []

        def score(indices: Sequence[int]) -> GroupScores:
            chosen = [classes[index] for index in indices]
            metrics = {"auc_macro": macro_auc(chosen, bootstrap)}
            if normalised:
                metrics["transductive/auc_macro"] = macro_auc([normalised[index] for index in indices], bootstrap)
            images = sum(images_by_source(chosen).values())
            return GroupScores(items=images, pool=images, metrics=metrics)

        aucs = [macro_auc([finding], bootstrap) for finding in classes]
        return Result(
            scores=score(range(len(classes))),
            by_source=score_by_source([finding.source for finding in classes], score),
            details={
                "classes": _per_class(classes, aucs),
                "skipped_classes": skipped,
            },
            notes=[
                f"{len(classes)} classes are scored",
                *([f"{len(skipped)} classes are skipped: {'; '.join(skipped)}"] if skipped else []),
                *self._notes({label for _, label in truths}),
            ],
            excluded=excluded,
            items=_items(test.images, classes, "cosine_difference", self._asked_both),
            figure=None if test.scores_only else auc_figure(classes, aucs),
        )

    def _exclusive(self, test: EvaluationSet, bootstrap: Bootstrap) -> Result:
        excluded = self.excluded_images(test.images)
        sources, left_out, skipped = exclusive.exclusive_sources(test.images, test.source_classes)
        why = ", ".join(f"{source} ({reason})" for source, reason in left_out.items())
        if not sources:
            reason = (
                "no test source has images of several classes, each with exactly one label (sources with labels: "
                f"{why or 'none'}; {len(excluded)} images without labels)"
            )
            return Result(status="skipped", reason=reason, excluded=excluded)
        excluded |= {
            image.key: left_out[image.source]
            for image in test.images
            if image.key not in excluded and image.source in left_out
        }
        cosines = [
            test.image_embeddings[one.rows] @ class_directions(test.embed_texts, one.labels, self.config).T
            for one in sources
        ]
        # Name before a metric -> of each source what the softmax is of, and what decides the answer.
        logits = {"": ([of_source / self.config.temperature for of_source in cosines], cosines)}
        if self.config.transductive:
            deviations = [z_scores(of_source) for of_source in cosines]
            logits["transductive/"] = (deviations, deviations)
        classes = {
            name: [exclusive.one_vs_rest(*pair) for pair in zip(sources, values, strict=True)]
            for name, (values, _) in logits.items()
        }
        hits = {
            name: [exclusive.correct(*pair) for pair in zip(sources, values, strict=True)]
            for name, (_, values) in logits.items()
        }

        def score(indices: Sequence[int]) -> GroupScores:
            metrics = {}
            for name in logits:
                of_sources = [found for index in indices for found in classes[name][index]]
                metrics[f"{name}auc_ovr"] = macro_auc(of_sources, bootstrap)
                chosen = [sources[index] for index in indices]
                metrics[f"{name}accuracy"] = exclusive.accuracy(
                    chosen, [hits[name][index] for index in indices], bootstrap
                )
            images = sum(len(sources[index].rows) for index in indices)
            return GroupScores(items=images, pool=images, metrics=metrics)

        scored = [found for of_source in classes[""] for found in of_source]
        aucs = [macro_auc([found], bootstrap) for found in scored]
        return Result(
            scores=score(range(len(sources))),
            by_source=score_by_source([one.source for one in sources], score),
            details={
                "classes": _per_class(scored, aucs),
                "skipped_classes": [
                    *(f"{source}: {label} ({left_out[source]})" for source, label in skipped),
                    *(f"{one.source}: {label} (no image has it)" for one in sources for label in one.not_shown),
                ],
            },
            notes=[
                *map(exclusive.source_note, sources),
                *([f"{len(skipped)} classes are skipped, of sources that are left out: {why}"] if skipped else []),
                *self._notes({label for one in sources for label in one.labels}),
            ],
            excluded=excluded,
            items=chain(
                _items(test.images, scored, "log_probability", partial(self._asked_class, sources)),
                _named_items(test.images, sources, hits[""], [of_source.argmax(axis=1) for of_source in cosines]),
            ),
            figure=None if test.scores_only else auc_figure(scored, aucs),
        )

    def _classes(self, test: EvaluationSet, truths: dict[tuple[str, str], np.ndarray]) -> list[FindingClass]:
        labels = sorted({label for _, label in truths})
        direction = dict(zip(labels, label_directions(test.embed_texts, labels, self.config), strict=True))
        rows = labelled_rows(test.images)
        return [
            FindingClass(source, label, truth, with_ties(test.image_embeddings[rows[source]] @ direction[label]))
            for (source, label), truth in truths.items()
        ]

    def _normalised(self, test: EvaluationSet, truths: dict[tuple[str, str], np.ndarray]) -> list[FindingClass]:
        labels = sorted({label for _, label in truths})
        sides = [
            dict(zip(labels, mean_directions(test.embed_texts, [of_label(label) for label in labels]), strict=True))
            for of_label in (self.config.prompts_for, self.config.negatives_for)
        ]
        rows = labelled_rows(test.images)
        found = []
        for (source, label), truth in truths.items():
            of_sides = z_scores(test.image_embeddings[rows[source]] @ np.stack([side[label] for side in sides]).T)
            found.append(FindingClass(source, label, truth, of_sides[:, 0] - of_sides[:, 1]))
        return found

    def _asked_class(self, sources: Sequence[exclusive.ExclusiveSource], found: FindingClass) -> str:
        """The prompts of a class, one a line."""
        classes = next(one.labels for one in sources if one.source == found.source)
        return "\n".join(chain.from_iterable(self.config.sets_for(found.label, classes)))

    def _asked_both(self, finding: FindingClass) -> str:
        """The prompts of a finding, one a line, and behind an empty line those against it."""
        return "\n".join([*self.config.prompts_for(finding.label), "", *self.config.negatives_for(finding.label)])

    def _notes(self, labels: set[str]) -> list[str]:
        """What a reader must know of the options; without them nothing."""
        notes = [TRANSDUCTIVE_NOTE] if self.config.transductive else []
        if self.config.sets:
            names = self.config.sets.names
            notes.append(f"{self.config.prompts} has the prompts of {', '.join(sorted(names & labels)) or 'no class'}")
            if unused := sorted(names - labels):
                notes.append(f"{self.config.prompts} names what no class is called here: {', '.join(unused)}")
        return notes


def _per_class(classes: Sequence[FindingClass], aucs: Sequence[Score]) -> list[dict[str, Any]]:
    return [
        {
            "source": finding.source,
            "label": finding.label,
            "positives": int(finding.truth.sum()),
            "negatives": int((1 - finding.truth).sum()),
            "auc": asdict(auc),
        }
        for finding, auc in zip(classes, aucs, strict=True)
    ]


def _items(
    images: Sequence[EvaluationImage],
    classes: Sequence[FindingClass],
    metric: str,
    asked: Callable[[FindingClass], str],
) -> Iterator[ItemScore]:
    rows = labelled_rows(images)
    for finding in classes:
        prompt = asked(finding)
        values = zip(rows[finding.source], finding.scores.tolist(), finding.truth.tolist(), strict=True)
        for row, score, truth in values:
            yield ItemScore(images[row], metric, score, label=finding.label, truth=truth, prompt=prompt)


def _named_items(
    images: Sequence[EvaluationImage],
    sources: Sequence[exclusive.ExclusiveSource],
    hits: Sequence[np.ndarray],
    nearest: Sequence[np.ndarray],
) -> Iterator[ItemScore]:
    """Whether each image's class is found, and which one the method names: the nearest, of tied ones the first."""
    for source, of_source, named in zip(sources, hits, nearest, strict=True):
        for row, hit, number in zip(source.rows.tolist(), of_source.tolist(), named.tolist(), strict=True):
            yield ItemScore(images[row], "accuracy", float(hit), output={"label": source.labels[number][:QUOTED]})
