"""Regions as Label Studio's JSON: tasks to import there, and the review labels in what it exports.

`labelling` is the labelling set-up of the project there; it offers every label that a task uses, as Label Studio
refuses predictions with others. A task shows the image with the regions as predictions. The reviewer keeps a box
(accepted), names it anew (accepted, with that name), deletes it (rejected), moves it (rejected, and drawn anew) or
draws another. A task without a submitted annotation gives no labels. The boxes stand in the task's `data.regions`,
because Label Studio returns `data` as it was, but does not always return the predictions.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from xml.sax.saxutils import quoteattr

from models.geometry import Box
from pipelines.errors import UserError
from pipelines.records import RegionRow, SplitImageRow
from pipelines.regions.annotation_tools import (
    IMAGES,
    MAX_SHIFT,
    UNNAMED_LABEL,
    Import,
    ShownImage,
    ShownRegion,
    add_edits,
    image_of,
    is_picture_turned,
    label_name,
    label_of_name,
)

NAME, IMAGE = "region", "image"

Json = dict[str, Any]


def labelling(labels: Iterable[str]) -> str:
    """The labelling set-up, in Label Studio's XML.

    Args:
        labels: All that a region may be called; `UNNAMED_LABEL` comes first.
    """
    names = [UNNAMED_LABEL, *sorted({label_name(label) for label in labels} - {UNNAMED_LABEL})]
    offered = "\n".join(f"    <Label value={quoteattr(name)}/>" for name in names)
    return f"""<View>
  <Image name="{IMAGE}" value="$image"/>
  <RectangleLabels name="{NAME}" toName="{IMAGE}">
{offered}
  </RectangleLabels>
</View>
"""


def tasks(images: Sequence[SplitImageRow], regions: Mapping[str, Sequence[RegionRow]]) -> list[Json]:
    """One task for each image.

    Args:
        images: The images to review.
        regions: Regions to show, by image_id.
    """
    return [_task(image, regions[image.image_id]) for image in images]


def _task(image: SplitImageRow, regions: Sequence[RegionRow]) -> Json:
    data = {
        "image": f"/data/local-files/?d={IMAGES}/{image.image_id}.png",
        "image_id": image.image_id,
        "source": image.source,
        "split": image.split,
        "regions": [
            {
                "region_id": region.region_id,
                "x0": region.x0,
                "y0": region.y0,
                "x1": region.x1,
                "y1": region.y1,
                "label": region.label,
            }
            for region in regions
        ],
    }
    results = [_prediction(region, image.width, image.height) for region in regions]
    return {"data": data, "predictions": [{"model_version": "medregion", "result": results}]}


def _prediction(region: RegionRow, width: int, height: int) -> Json:
    return {
        "id": region.region_id,
        "type": "rectanglelabels",
        "from_name": NAME,
        "to_name": IMAGE,
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "score": region.probability,
        # Label Studio's lengths are percentages of the image's sides.
        "value": {
            "x": 100 * region.x0 / width,
            "y": 100 * region.y0 / height,
            "width": 100 * (region.x1 - region.x0) / width,
            "height": 100 * (region.y1 - region.y0) / height,
            "rotation": 0,
            "rectanglelabels": [label_name(region.label)],
        },
    }


def review_labels(exported: Sequence[Json], images: Mapping[str, ShownImage]) -> Import:
    """The review labels in Label Studio's JSON export.

    Args:
        exported: The tasks.
        images: The study's images, by image_id.

    Raises:
        UserError: A task was not exported by this module.
    """
    found = Import()
    for number, task in enumerate(exported):
        data = task.get("data", {})
        if "image_id" not in data or "regions" not in data:
            raise UserError(f"task {number} has no data.image_id and data.regions: import the JSON export of our tasks")
        results = [
            annotation["result"] for annotation in task.get("annotations", []) if not annotation.get("was_cancelled")
        ]
        image = image_of(data["image_id"], images)
        if image is None:
            found.left_out["unknown_image"] += len(results)
            continue
        shown = [
            ShownRegion(box=(region["x0"], region["y0"], region["x1"], region["y1"]), label=region.get("label"))
            for region in data["regions"]
        ]
        for result in results:
            _add_annotation(found, data["image_id"], image, shown, result)
    return found


def _add_annotation(
    found: Import, image_id: str, image: ShownImage, shown: Sequence[ShownRegion], results: Sequence[Json]
) -> None:
    """Add what one person submitted for one image."""
    rectangles = [result for result in results if result["type"] == "rectanglelabels"]
    found.left_out["not_a_rectangle"] += len(results) - len(rectangles)
    if any((result["original_width"], result["original_height"]) != image.size for result in rectangles):
        found.left_out["size_differs"] += 1
    elif any(result.get("image_rotation") for result in rectangles) or is_picture_turned(
        image.size, shown, [_box(result) for result in rectangles]
    ):
        found.left_out["image_rotated"] += 1
    else:
        upright = [(_box(result), _label(result)) for result in rectangles if not _is_turned(result)]
        turned = [_box(result) for result in rectangles if _is_turned(result)]
        found.left_out["turned_rectangle"] += len(turned)
        add_edits(found, image_id, shown, upright, turned)


def _box(result: Json) -> Box:
    """The rectangle in pixels of the image, as it is without its rotation."""
    value, width, height = result["value"], result["original_width"], result["original_height"]
    x0, y0 = value["x"] * width / 100, value["y"] * height / 100
    return x0, y0, x0 + value["width"] * width / 100, y0 + value["height"] * height / 100


def _is_turned(result: Json) -> bool:
    """Whether its rotation (degrees, about the upper left corner) moves a corner further than a box may shift."""
    x0, y0, x1, y1 = _box(result)
    angle = math.remainder(result["value"].get("rotation") or 0, 360)
    return abs(math.radians(angle)) * math.hypot(x1 - x0, y1 - y0) > MAX_SHIFT


def _label(result: Json) -> str | None:
    names = result["value"].get("rectanglelabels")
    return label_of_name(names[0]) if names else None
