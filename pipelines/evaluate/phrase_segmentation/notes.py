"""What a reader needs to read the scores of `phrase_segmentation`."""

from collections.abc import Sequence

from pipelines.evaluate.metrics.lesion_sizes import Limits
from pipelines.evaluate.metrics.segmentation import EVERY_PIXEL
from pipelines.evaluate.phrase_segmentation.measure import EMPTY_TEXT, TRAINING_MASK, Measured, PairResult
from pipelines.evaluate.segmentation.masks import THRESHOLD
from pipelines.evaluate.task import independence_note


def notes(
    measured: Measured,
    *,
    template: str,
    rewordings: Sequence[str],
    tolerance: float | None,
    limits: Limits | None,
    limits_given: bool,
    reads_text: bool,
) -> list[str]:
    """The notes.

    Args:
        measured: All results.
        template: Prompt of labels.
        rewordings: Further ones.
        tolerance: Of NSD; None where outlines are not measured.
        limits: Of sizes.
        limits_given: Whether the options name them.
        reads_text: Whether the method reads the text.
    """
    labels = [result for result in measured.pairs if not result.asked.pair.is_sentence]
    sentences = [result for result in measured.pairs if result.asked.pair.is_sentence]
    return [
        *([] if reads_text else ["the method ignores the text: its mask is the same for every phrase"]),
        *_asked(labels, sentences, template),
        f"a mask is empty or not at a threshold of {THRESHOLD}; the padding of the square does not count",
        *_beside(measured.pairs),
        *_outlines(tolerance),
        *_sizes(limits, given=limits_given),
        *([f"reworded: the mean over {len(rewordings)} other templates, named in the details"] if rewordings else []),
        _absences(measured),
        *_left_out(measured),
        independence_note("pairs", "image or patient"),
    ]


def _asked(labels: Sequence[PairResult], sentences: Sequence[PairResult], template: str) -> list[str]:
    found = []
    if labels:
        names = {result.asked.pair.label for result in labels}
        images = {result.asked.index for result in labels}
        found.append(
            f"{len(labels)} pairs of {len(names)} labels on {len(images)} images, asked as {template!r}: a label means "
            "all its regions together, and of an image with one label alone all that is outlined; a macro score is the "
            "mean over the labels"
        )
    if sentences:
        found.append(f"sentence: {len(sentences)} sentences of the source about regions, asked as they are written")
    return found


def _beside(results: Sequence[PairResult]) -> list[str]:
    if not results:
        return []
    known = f"chance is a mask of {EVERY_PIXEL}, as one of no pixel shares nothing with a label that is there; "
    known += f"{EMPTY_TEXT} is the method's mask without a text"
    if TRAINING_MASK in results[0].values:
        return [f"{known}; {TRAINING_MASK} is the place of the label on the training split, the same for every image"]
    return [f"{known}; no training mask has a name, or none is at hand"]


def _outlines(tolerance: float | None) -> list[str]:
    if tolerance is None:
        return []
    return [
        f"hd95, of which less is better, and nsd (within {tolerance:g}) are in pixels of the stored image; without a "
        "prediction hd95 is the image's diagonal, and nsd 0"
    ]


def _sizes(limits: Limits | None, *, given: bool) -> list[str]:
    if limits is None:
        return []
    low, high = (f"{100 * limit:.3g} %" for limit in limits)
    origin = "as the options say" if given else "thirds of the pairs"
    return [f"small masks fill up to {low} of their image, medium ones up to {high} ({origin})"]


def _absences(measured: Measured) -> str:
    if not measured.absences:
        return "absent is left out: no image is known to lack a label that its source outlines in others"
    return (
        f"absent: {len(measured.absences)} labels that their image lacks, as its source names its labels and this one "
        "is not among them; a mask of no pixel is right"
    )


def _left_out(measured: Measured) -> list[str]:
    found = []
    if measured.no_pixel:
        found.append(f"{measured.no_pixel} pairs are left out: their mask has no pixel at the size of the shards")
    if measured.incomplete:
        found.append(
            f"of {measured.incomplete} images more than a twentieth of what is outlined is in no stored region, so "
            "that masks of labels lack it: regions were rejected, as their summary says"
        )
    return found
