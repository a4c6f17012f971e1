"""What a reader needs to read the scores of `detection`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.evaluate.detection.chosen import Choice, Choices
from pipelines.evaluate.detection.config import DetectionConfig
from pipelines.evaluate.detection.measure import FindingResult, Key
from pipelines.evaluate.detection.presence import ALWAYS, NEVER
from pipelines.evaluate.detection.scores import map_values
from pipelines.evaluate.grounding.measure import METHOD
from pipelines.evaluate.grounding.scores import DEFAULT_THRESHOLD
from pipelines.evaluate.metrics.segmentation import Values
from pipelines.evaluate.task import independence_note


def notes(
    config: DetectionConfig,
    results: Sequence[FindingResult],
    choices: Choices,
    *,
    own_map: bool,
    left_out: int,
    untold: Sequence[Key],
) -> list[str]:
    """The notes.

    Args:
        config: Of the task.
        results: Those that are scored.
        choices: Thresholds and cuts.
        own_map: Whether the heatmap is the method's own, not Grad-CAM.
        left_out: Findings of images whose union is empty or full.
        untold: Findings without an accuracy.
    """
    rows, columns = results[0].grid
    images = len({result.of.index for result in results})
    keys = sorted({result.of.key for result in results})
    name = "the method's own" if own_map else "Grad-CAM"
    found = [
        f"the heatmap is {name}, {rows} x {columns}; {len(results)} findings of {images} images; an image without the "
        "finding has no iou, dice and pointing",
        *(
            f"{': '.join(key)}: the prompt is '{config.prompt(key[1])}'; {_choice(config, choices.get(key))}"
            for key in keys
        ),
        independence_note("findings of images", "patient"),
    ]
    if boxes := sum(not result.has_masks for result in results):
        found.append(f"{boxes} of {len(results)} findings are boxes, which count as masks")
    if left_out:
        found.append(f"left out, for their union is empty or full within the visible crop: {left_out} findings")
    if untold:
        names = ", ".join(f"{source}: {finding}" for source, finding in untold)
        found.append(f"accuracy leaves out what cannot be told, or has no chosen similarity: {names}")
    if unused := config.unused({finding for _, finding in keys}):
        found.append(f"prompts names what no finding is called here: {', '.join(unused)}")
    return found


def _choice(config: DetectionConfig, choice: Choice | None) -> str:
    if config.threshold is not None:
        text = f"the threshold is {config.threshold}, as the options say"
    elif choice is None or not choice.thresholds:
        text = f"the threshold is {DEFAULT_THRESHOLD}, the default, for there was nothing to choose it on"
    else:
        chosen = choice.thresholds[METHOD]
        text = f"the threshold, {chosen}, was chosen on {choice.images} images of the split {choice.on}"
    if choice is None or choice.cut is None:
        return text
    where = {ALWAYS: "in every image", NEVER: "in none"}.get(choice.cut, f"from a cosine of {choice.cut:.3f} on")
    return f"{text}; it counts as there {where}, chosen on the split {choice.on}"


def finding_details(
    results: Sequence[FindingResult],
    choices: Choices,
    levels: Values,
    right: Mapping[Key, NDArray[np.bool_]],
) -> list[dict[str, Any]]:
    """The scores of each finding of each source by itself."""
    by_key: dict[Key, list[FindingResult]] = {}
    for result in results:
        by_key.setdefault(result.of.key, []).append(result)
    found = []
    for key, same in sorted(by_key.items()):
        means = {name: round(float(v.mean()), 6) for name, v in map_values(same, METHOD, choices, levels).items()}
        if key in right:
            means["accuracy"] = round(float(right[key].mean()), 6)
        found.append({"source": key[0], "finding": key[1], "images": len(same), **means})
    return found
