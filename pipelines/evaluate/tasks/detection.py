"""Detection: does a finding's name alone tell whether an image shows it, and where?

As object detection without a trained detector, on RSNA's pneumonia boxes (PLAN's table IV, after MedKLIP, Wu et al.
2023, arXiv:2301.02228). The prompt of a finding is grounded in each image that shows it, and the heatmap, scaled to 0
to 1 within the image, is compared with the union of all annotated regions of that finding, masks or boxes: IoU and Dice
of what it marks from a threshold on, and the pointing game. All are means over images (MedKLIP's protocol); pooled
pixels would give other figures. Images without the finding have no such score: whatever a heatmap marks there is wrong.

`accuracy` is that of the image as a whole: by the cosine of its embedding with the prompt, never by the heatmap's
maximum, which says nothing across images where the map is Grad-CAM. It is of the images whose labels are known, of each
finding that their source drew; PLAN's paper does not say what its ACC is, and the pointing game is the other reading.

Threshold and cosine from which on a finding is there are chosen for each finding of each source on the training images
(`choose_on`), else on the validation split; `threshold` fixes the former. Chance of IoU and Dice is a mask of the whole
image, of accuracy the better constant answer. Baselines that see no image: the heatmap of the image's centre, and the
mean union of the training images with the finding.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import ClassVar

from models.capabilities import EmbedsImages, EmbedsText, GroundsPhrases
from models.inference import can_ground
from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.detection.chosen import (
    VALIDATION,
    Choice,
    as_json,
    choose,
    choose_on_training,
    from_json,
    levels_of,
    prompt_directions,
)
from pipelines.evaluate.detection.config import DetectionConfig
from pipelines.evaluate.detection.measure import FindingResult, Key, drawn_findings, mean_training_boxes, measure
from pipelines.evaluate.detection.notes import finding_details, notes
from pipelines.evaluate.detection.presence import Presence, accuracy, findings_told, told_rightly
from pipelines.evaluate.detection.scores import map_items, map_scores, presence_items
from pipelines.evaluate.evaluation_set import EvaluationImage, EvaluationSet
from pipelines.evaluate.grounding.training import MeanMasks
from pipelines.evaluate.task import GroupScores, Result, Task, score_by_source

ACCURACY = "accuracy"


class Detection(Task):
    """IoU, Dice, pointing game and accuracy of findings by their names, with chance and baselines beside each."""

    Config = DetectionConfig
    needs: ClassVar[tuple[type, ...]] = (EmbedsImages, EmbedsText)
    definitions: ClassVar[Mapping[str, str]] = {
        "iou": (
            "Intersection over union of all annotated regions of a finding and the heatmap of its prompt, scaled to 0 "
            "to 1, from a threshold on; mean over the images that show it. Chance is a mask of the whole image."
        ),
        "dice": "Dice of the same masks, mean over the same images.",
        "pointing": "Pointing game: how often the heatmap's highest point lies in an annotated region of the finding.",
        ACCURACY: (
            "Fraction of the images whose labels are known for which it is told rightly whether they show the finding, "
            "by the cosine with its prompt from a chosen value on. Chance is the better constant answer."
        ),
    }
    headline = ("dice", "pointing", ACCURACY)
    does = "detects findings"
    chooses = True
    learns = True

    @staticmethod
    def skip_reason(image: EvaluationImage) -> str | None:
        return None if image.annotated or image.labels is not None else "no_truth_region"

    def run(self, test: EvaluationSet, bootstrap: Bootstrap) -> Result:
        if not can_ground(test.model):
            return Result(
                status="skipped",
                reason="the method does not offer GroundsPhrases, and Grad-CAM finds no image model in it",
                excluded={image.key: "method_lacks_capability" for image in test.images},
            )
        sources = [image.source for image in test.images]
        drawn = drawn_findings(sources, test.region_labels)
        levels = levels_of(self.config)
        training = None if test.training_samples is None or not drawn else mean_training_boxes(test.training_samples())
        results = measure(test, drawn, self.config.prompt, levels, training)
        if not results:
            reason = f"no annotated region of a named finding can be scored ({len(drawn)} findings of images)"
            return Result(status="skipped", reason=reason, excluded=_excluded(self, test, [], []))
        keys = {one.key for one in drawn}
        direction = prompt_directions(test, keys, self.config).__getitem__
        labels = [image.labels for image in test.images]
        told = findings_told(sources, labels, test.image_embeddings, keys, direction)
        choices = self._choices(test, results, told, training)
        right = {
            key: told_rightly(one, choice.cut)
            for key, one in told.items()
            if (choice := choices.get(key)) is not None and choice.cut is not None
        }
        answered = [key for key in told if key in right]

        def score(indices: Sequence[int]) -> GroupScores:
            of_maps = [results[index] for index in indices if index < len(results)]
            of_images = [answered[index - len(results)] for index in indices if index >= len(results)]
            metrics = map_scores(of_maps, choices, levels, bootstrap) if of_maps else {}
            if of_images:
                some = [told[key] for key in of_images], [right[key] for key in of_images]
                metrics[ACCURACY] = accuracy(*some, bootstrap)
            return GroupScores(items=len(of_maps), metrics=metrics)

        own_map = test.model.offers(GroundsPhrases)
        return Result(
            scores=score(range(len(results) + len(answered))),
            by_source=score_by_source(
                [*(result.of.source for result in results), *(key[0] for key in answered)], score
            ),
            details={
                "map": "ground" if own_map else "grad_cam",
                "items": {ACCURACY: sum(len(right[key]) for key in answered)},
                "findings": finding_details(results, choices, levels, right),
            },
            notes=notes(
                self.config,
                results,
                choices,
                own_map=own_map,
                left_out=len(drawn) - len(results),
                untold=sorted(keys - set(answered)),
            ),
            excluded=_excluded(self, test, results, [told[key] for key in answered]),
            items=chain(
                map_items(test.images, results, choices, levels, self.config.prompt),
                presence_items(test.images, told, right, ACCURACY, self.config.prompt),
            ),
            chosen=as_json(choices),
        )

    def _choices(
        self,
        test: EvaluationSet,
        results: Sequence[FindingResult],
        told: Mapping[Key, Presence],
        training: MeanMasks | None,
    ) -> dict[Key, Choice]:
        """Those that were given; else those of the training images, or of these where this is the validation split."""
        if test.chosen:
            return from_json(test.chosen)
        own = choose(self.config, results, told, VALIDATION) if test.chosen is None else {}
        if self.config.choose_on == VALIDATION:
            return own
        return own | choose_on_training(self.config, test, training)


def _excluded(
    task: Detection, test: EvaluationSet, results: Sequence[FindingResult], told: Sequence[Presence]
) -> dict[str, str]:
    excluded = task.excluded_images(test.images)
    scored = {result.of.index for result in results} | {row for one in told for row in one.rows.tolist()}
    for index, image in enumerate(test.images):
        if index not in scored and image.key not in excluded:
            if test.region_labels[index]:
                excluded[image.key] = "mask_empty_or_full"
            else:
                excluded[image.key] = "unnamed_region" if image.annotated else "no_class_to_tell"
    return excluded
