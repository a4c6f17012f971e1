"""What a reader has to know to read the scores of `segmentation`."""

from collections.abc import Mapping, Sequence

from pipelines.evaluate.segmentation.masks import THRESHOLD
from pipelines.evaluate.segmentation.one_side import Answer, Votes, Where
from pipelines.evaluate.segmentation.texts import Texts, kept


def notes(
    texts: Mapping[str, Texts],
    constant: Mapping[str, Sequence[str]],
    answers: Mapping[int, Answer | str],
    votes: Mapping[Where, Votes],
    *,
    reads: bool,
) -> list[str]:
    """Lines for the report.

    Args:
        texts: Setting -> image -> text; settings without an image are not there.
        constant: Constant answer -> the scores whose chance it is.
        answers: Image -> what asking for one side did, or why it says nothing.
        votes: Whose sides the reports mean.
        reads: Whether the method reads the text.
    """
    lines = [] if reads else ["the method ignores the text: its masks are the same with all of them"]
    return [
        *lines,
        *_settings(texts),
        "per_image: mean over the images, where an empty target of which nothing is found counts as 1; pooled and "
        f"accuracy: the pixels of all images together; threshold {THRESHOLD}; the padding of the square does not count",
        "chance of segmentation is the better of two answers that look at nothing: "
        + "; ".join(
            f"{answer} for {', '.join(_short(names, len(texts)))}" for answer, names in sorted(constant.items())
        ),
        *_one_side(answers, votes),
        "intervals resample images as if they were independent; those of one patient are not",
    ]


def _settings(texts: Mapping[str, Texts]) -> list[str]:
    lines = []
    if given := texts.get("given"):
        lines.append(f"given: the image's report, {len(given)} images")
    else:
        lines.append("given and shuffled are left out: no test image with a target has a report of its own")
    if others := texts.get("shuffled"):
        lines.append(
            f"shuffled: the reports exchanged among the images of a source, {len(others)} images; "
            f"{kept(texts['given'], others)} of them keep an equal text"
        )
    elif given:
        lines.append("shuffled is left out: no source has two different reports")
    lines.append(f"none: the empty text, {len(texts['none'])} images")
    if truth := texts.get("from_mask"):
        lines.append(
            f"from_mask: caption from mask, {len(truth)} images; the text was made from the outlines that are asked "
            "for, so these figures stand beside no paper's"
        )
    return lines


def _short(names: Sequence[str], settings: int) -> list[str]:
    """`<setting>/<metric>` as they are, but those of all settings as the metric alone."""
    metrics = [name.partition("/")[2] for name in names]
    short = [metric if metrics.count(metric) == settings else name for name, metric in zip(names, metrics, strict=True)]
    return list(dict.fromkeys(short))


def _one_side(answers: Mapping[int, Answer | str], votes: Mapping[Where, Votes]) -> list[str]:
    if not answers:
        return ["one_side is left out: no report names findings left and right"]
    told = sum(isinstance(one, Answer) for one in answers.values())
    reasons = [one for one in answers.values() if isinstance(one, str)]
    left_out = "".join(f", {reason} {reasons.count(reason)}" for reason in sorted(set(reasons)))
    return [
        f"one_side: of {len(answers)} images whose report names findings left and right {told} tell{left_out}; each "
        "side is asked for by the report without what it says of the other; of the target's pixels that the whole "
        "report found, kept is the share of the asked side's that stay and gone the share of the other side's that go; "
        "its chance is a method that ignores the text",
        *_whose(votes),
    ]


def _whose(votes: Mapping[Where, Votes]) -> list[str]:
    return [
        f"left and right in the reports of {source}{'' if view is None else f', {view} views'} are the "
        f"{'patient' if one.decide(view) else 'image'}'s: so say {max(one.patients, one.images)} of "
        f"{one.patients + one.images} reports that name one side, beside a target in one half of the image"
        for (source, view), one in sorted(votes.items(), key=str)
    ]
