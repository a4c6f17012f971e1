"""Regions as Label Studio's JSON: tasks to import there, and the review labels in what it exports.

`LABELLING` is the labelling set-up of the project there. A task shows the image with the regions as predictions. The
reviewer keeps a box (accepted), deletes it (rejected), moves it (rejected, and drawn anew) or draws another. A task
without a submitted annotation gives no labels. The boxes stand in the task's `data.regions`, because Label Studio
returns `data` as it was, but does not always return the predictions.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from models.geometry import Box
from pipelines.errors import UserError
from pipelines.records import RegionRow, SplitImageRow
from pipelines.regions.annotation_tools import IMAGES, UNNAMED_LABEL, labels_from_edits
from pipelines.regions.review_labels import ReviewLabel

NAME, IMAGE = "region", "image"

LABELLING = f"""<View>
  <Image name="{IMAGE}" value="$image"/>
  <RectangleLabels name="{NAME}" toName="{IMAGE}"><Label value="{UNNAMED_LABEL}"/></RectangleLabels>
</View>
"""

Json = dict[str, Any]


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
            {"region_id": region.region_id, "x0": region.x0, "y0": region.y0, "x1": region.x1, "y1": region.y1}
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
            "rectanglelabels": [region.label or UNNAMED_LABEL],
        },
    }


def review_labels(exported: Sequence[Json]) -> list[ReviewLabel]:
    """The review labels in Label Studio's JSON export.

    Raises:
        UserError: A task was not exported by this module, or a rectangle is rotated.
    """
    labels: list[ReviewLabel] = []
    for number, task in enumerate(exported):
        data = task.get("data", {})
        if "image_id" not in data or "regions" not in data:
            raise UserError(f"task {number} has no data.image_id and data.regions: import the JSON export of our tasks")
        boxes: list[Box] = [(region["x0"], region["y0"], region["x1"], region["y1"]) for region in data["regions"]]
        for annotation in task.get("annotations", []):
            if not annotation.get("was_cancelled"):
                results = annotation["result"]
                returned = [_rectangle(result) for result in results if result["type"] == "rectanglelabels"]
                labels += labels_from_edits(data["image_id"], boxes, returned)
    return labels


def _rectangle(result: Json) -> tuple[Box, str | None]:
    value, width, height = result["value"], result["original_width"], result["original_height"]
    if value.get("rotation"):
        raise UserError(f"rectangle {result.get('id')} is rotated by {value['rotation']} degrees: draw it upright")
    x0, y0 = value["x"] * width / 100, value["y"] * height / 100
    label = value["rectanglelabels"][0] if value.get("rectanglelabels") else UNNAMED_LABEL
    box = (x0, y0, x0 + value["width"] * width / 100, y0 + value["height"] * height / 100)
    return box, None if label == UNNAMED_LABEL else label
