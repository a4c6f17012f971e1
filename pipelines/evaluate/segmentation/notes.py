"""The notes of the task `segmentation`: what a reader needs to know to read its scores."""

from collections.abc import Mapping, Sequence

from pipelines.evaluate.evaluation_set import EvaluationImage
from pipelines.evaluate.metrics.laterality import LateralityEffect
from pipelines.evaluate.segmentation.masks import THRESHOLD
from pipelines.evaluate.segmentation.texts import Texts, unchanged_texts
from pipelines.evaluate.task import independence_note


def notes(
    texts: Mapping[str, Texts],
    baselines: Mapping[str, Sequence[str]],
    effects: Mapping[int, LateralityEffect | str],
    cut: Sequence[EvaluationImage],
    *,
    reads_text: bool,
) -> list[str]:
    """Sentences for the report.

    Args:
        texts: Setting -> image -> text; settings without an image are absent.
        baselines: Constant prediction -> the scores whose chance it is.
        effects: Image -> its laterality effect, or the reason code for which it has none.
        cut: The images of `effects`.
        reads_text: Whether the method reads the text.
    """
    lines = [] if reads_text else ["the method ignores the text: its masks are the same with every text"]
    return [
        *lines,
        *_setting_notes(texts),
        "per_image is the mean over the images, where an empty target with an empty prediction counts as 1; pooled and "
        f"accuracy are over the pixels of all images together; the threshold is {THRESHOLD}; the padding of the square "
        "does not count",
        "the chance of segmentation is the better of two constant predictions: "
        + "; ".join(
            f"{prediction} for {', '.join(_short_names(names, len(texts)))}"
            for prediction, names in sorted(baselines.items())
        ),
        *_laterality_notes(effects, cut),
        independence_note("images", "patient"),
    ]


def _setting_notes(texts: Mapping[str, Texts]) -> list[str]:
    lines = []
    if own := texts.get("own"):
        lines.append(f"own: the image's report, {len(own)} images")
    else:
        lines.append("own and shuffled are left out: no test image with a target has a report of its own")
    if others := texts.get("shuffled"):
        lines.append(
            f"shuffled: the reports exchanged among the images of a source, {len(others)} images, of which "
            f"{unchanged_texts(texts['own'], others)} get a text equal to their own"
        )
    elif own:
        lines.append("shuffled is left out: no source has two different reports")
    lines.append(f"empty: the empty text, {len(texts['empty'])} images")
    if derived := texts.get("mask_derived"):
        lines.append(
            f"mask_derived: the caption made from the mask, {len(derived)} images; the text tells where the target is, "
            "so these scores compare with no paper's"
        )
    return lines


def _short_names(names: Sequence[str], settings: int) -> list[str]:
    """`<setting>/<metric>` as they are, but those of all settings as the metric alone."""
    metrics = [name.partition("/")[2] for name in names]
    short = [metric if metrics.count(metric) == settings else name for name, metric in zip(names, metrics, strict=True)]
    return list(dict.fromkeys(short))


def _laterality_notes(effects: Mapping[int, LateralityEffect | str], cut: Sequence[EvaluationImage]) -> list[str]:
    if not effects:
        return ["laterality is left out: no report names findings left and right"]
    reasons = [effect for effect in effects.values() if isinstance(effect, str)]
    left_out = "".join(f", {reason} {reasons.count(reason)}" for reason in sorted(set(reasons)))
    return [
        f"laterality: the reports of {len(effects)} images name findings left and right; {len(effects) - len(reasons)} "
        f"of these images are scored{left_out}. Each report is cut to one side and to the other. Of the true positives "
        "with the whole report, retention is the fraction on the named side that stay, and suppression the fraction on "
        "the other side that disappear. The chance is a method that ignores the text: retention 1, suppression 0",
        *convention_notes(cut),
    ]


def convention_notes(cut: Sequence[EvaluationImage]) -> list[str]:
    """Whose left and right the reports of these images mean."""
    conventions = {(image.source, image.view, image.patient_sides) for image in cut}
    return [
        f"left and right in the reports of {source}{'' if view is None else f', {view} views,'} are the "
        f"{'patient' if patient_sides else 'image'}'s"
        for source, view, patient_sides in sorted(conventions, key=str)
    ]
