"""What a right set-up gives on the sample images, and whether a run gave it.

The ranges are expectations: nobody has run the models by this code yet. They are wide, so that what lies outside is a
wrong set-up and no bad luck: a prompt that the model does not read, pixels scaled otherwise, weights not loaded, a
server that ignores the schema. Narrow them once a run was looked at.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.records import ANNOTATIONS_PROPOSER


@dataclass(frozen=True, kw_only=True)
class Range:
    """Where a figure lies in a right set-up.

    Attributes:
        figure: Its name, as `measure` has it.
        low, high: Its bounds, which belong to it.
        reason: Why these.
    """

    figure: str
    low: float
    high: float
    reason: str


RANGES = (
    Range(
        figure="boxes an image",
        low=0.5,
        high=60,
        reason="at Grounding DINO's low thresholds most images have a box or more; far more: overlaps are not removed",
    ),
    Range(
        figure="share of boxes with a mask",
        low=0.9,
        high=1,
        reason="MedSAM answers each box with a mask; an empty one is rare",
    ),
    Range(
        figure="share of accepted answers",
        low=0.8,
        high=1,
        reason="the schema holds answers to the form, and each has three attempts",
    ),
    Range(
        figure="seconds an image, proposals",
        low=0.05,
        high=10,
        reason="on a GPU, loading included; two models on large squares take longer than 0.05 s, on a CPU minutes",
    ),
    Range(
        figure="seconds an image, captions",
        low=0.05,
        high=60,
        reason="a few requests of some hundred tokens; faster: answers came from a cache",
    ),
)


def measure(proposals: Mapping[str, Any], captions: Mapping[str, Any]) -> dict[str, float | None]:
    """The figures of a run, from the summaries of the two stages; None where nothing could be counted.

    Annotations of the sources are no answers of a model, and boxes beyond `max_proposals` get no mask.
    """
    boxes = masks = asked = 0
    for of_source in proposals["proposals"].values():
        for proposer, counts in of_source.items():
            if proposer != ANNOTATIONS_PROPOSER:
                boxes += counts["proposed"]
                masks += counts["masks"]
                asked += counts["proposed"] - sum(counts["reasons"].values())
    answered = sum(count for name, count in proposals["answered"].items() if name != ANNOTATIONS_PROPOSER)
    # The captioner `vllm` counts what it asked; others say something about every item.
    items = captions.get("sent", captions["inputs"])
    images = proposals["inputs"]
    return {
        "boxes an image": boxes / answered if answered else None,
        "share of boxes with a mask": masks / asked if asked else None,
        "share of accepted answers": 1 - (captions["rejected"] + captions["failed"]) / items if items else None,
        "seconds an image, proposals": proposals["seconds"] / images if images else None,
        "seconds an image, captions": captions["seconds"] / images if images else None,
    }


def judge(figures: Mapping[str, float | None]) -> list[tuple[bool, str]]:
    """For each range whether the figure lies in it, and a line for a person."""
    lines = []
    for one in RANGES:
        value = figures[one.figure]
        inside = value is not None and one.low <= value <= one.high
        shown = "nothing counted" if value is None else f"{value:.3g}"
        verdict = "as expected" if inside else f"OUTSIDE: {one.reason}"
        lines.append((inside, f"{one.figure}: {shown}, expected {one.low:g} to {one.high:g}: {verdict}"))
    return lines
