"""Regions: how many a guarantee covers, what held-out images measure of it, and why there is none."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipelines.report.counts import SourceCounts
from pipelines.report.verdict.finding import Finding
from pipelines.report.verdict.words import counted, listed, percent

TOPIC = "regions"
LOWER = "a lower regions.risk_control.target_precision"
# Code of `SelectedThreshold.reason` -> why, and what to do.
REASONS = {
    "no_score": (
        "too few labels to fit the joint score",
        "annotate more training images, or review some: python -m pipelines.regions.review export FOLDER",
    ),
    "no_calibration_images": (
        "no validation image is annotated, on which a threshold could be tested",
        "annotate validation images (masks or boxes); where training images have annotations, a larger "
        "split.fractions.validation brings some over",
    ),
    "no_fitting_images": (
        "no annotated training image has proposals, by which thresholds are ordered",
        "annotate training images, or name another proposer in proposals.proposers",
    ),
    "first_threshold_failed": (
        "already the strictest threshold misses the target on validation images",
        f"another proposer (proposals.proposers), more annotated validation images, or {LOWER}",
    ),
}


def region_findings(
    sources: Sequence[SourceCounts], risk_control: Mapping[str, Any] | None, summary: Mapping[str, Any] | None
) -> Iterator[Finding]:
    """Of the whole dataset.

    Args:
        sources: Counts of regions.
        risk_control: Group of modalities -> its threshold and figures, from the summary of `regions`.
        summary: Of the stage `regions`; None: there is none.
    """
    accepted = sum(source.regions["input"]["accepted"] for source in sources)
    certified = sum(source.certified for source in sources)
    given = sum(source.given for source in sources)
    controls = risk_control or {}
    yield total(accepted, certified, given, controls)
    if certified:
        for group, control in controls.items():
            yield control_finding(group, control)
    if summary is not None:
        yield from _told_by_the_stage(sum(source.images for source in sources), summary)


def total(accepted: int, certified: int, given: int, controls: Mapping[str, Any]) -> Finding:
    """The accepted regions by what speaks for them; why no guarantee covers any of them.

    Args:
        accepted: Those that a method may see.
        certified: Of these, those that the guarantee covers.
        given: Of these, those that the source or a reviewer gives.
        controls: Risk control of each group.
    """
    if not accepted:
        action = "look at rejected.html; name another proposer in proposals.proposers"
        return Finding(level="wrong", topic=TOPIC, text="No region is accepted.", action=action)
    rest = accepted - certified - given
    text = f"{counted(accepted, 'accepted region')}: {given:,} by the source or a reviewer, {certified:,} certified, "
    text += f"{rest:,} without any guarantee"
    if certified or not rest:
        return Finding(level="ok", topic=TOPIC, text=f"{text}.")
    reasons = [control_finding(group, control) for group, control in controls.items()]
    first = next((finding.action for finding in reasons if finding.action), None)
    whys = "".join(f" {finding.text}" for finding in reasons)
    return Finding(level="wrong", topic=TOPIC, text=f"No region is certified. {text}.{whys}", action=first)


def control_finding(group: str, control: Mapping[str, Any]) -> Finding:
    """What one group's certificate promises and what test images measure, or why there is none."""
    target, confidence = percent(control["target_precision"]), percent(control["confidence"])
    promise = f"at least {target} of {control['promised']} right, with {confidence} confidence"
    threshold, test = control["threshold"], control["test"]
    if threshold is None:
        return _without_threshold(group, control, promise)
    text = f"Risk control, {group}: from probability {threshold:.2f} on, {promise}; "
    if test["precision"] is None:
        text += "no region of an annotated test image is there to check it."
        return Finding(level="warning", topic=TOPIC, text=text, action="annotate test images")
    low = "" if test["precision_low"] is None else f", at least {percent(test['precision_low'])}"
    text += f"on {counted(test['images'], 'held-out test image')} {percent(test['precision'])} are right{low}."
    if test["precision"] < control["target_precision"]:
        action = "test images are unlike the validation images: compare how they were split and where they come from"
        return Finding(level="wrong", topic=TOPIC, text=text, action=action)
    return Finding(level="ok", topic=TOPIC, text=text)


def _without_threshold(group: str, control: Mapping[str, Any], promise: str) -> Finding:
    reason, calibration = control["reason"], control["calibration"]
    why, action = REASONS.get(reason, (reason, None))
    text = f"Risk control, {group}: no threshold gives {promise}, for {why}"
    if calibration["precision"] is not None:
        low = calibration["precision_low"]
        text += (
            f"; on {counted(calibration['images'], 'validation image')} {percent(calibration['precision'])} are right"
        )
        text += "" if low is None else f", at least {percent(low)}"
    level: Any = "wrong" if reason == "first_threshold_failed" else "warning"
    return Finding(level=level, topic=TOPIC, text=f"{text}.", action=action)


def _told_by_the_stage(images: int, summary: Mapping[str, Any]) -> Iterator[Finding]:
    without = summary.get("images_without_input_region", {})
    if images and 2 * sum(without.values()) > images:
        text = f"More than half of the images have no accepted region: {listed(without)}."
        action = "rejected.html says why; regions.min_probability and regions.min_score decide it"
        yield Finding(level="warning", topic=TOPIC, text=text, action=action)
    if unused := summary.get("review", {}).get("unused"):
        text = f"Review labels without effect: {listed(unused)}."
        yield Finding(level="warning", topic="review", text=text, action="docs/regions.md, Review by people")
