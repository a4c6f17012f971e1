"""Regions as Label Studio's JSON: tasks to import there, and what people made of them.

The labelling set-up of the project there: `LABELLING`. A task shows the image with the regions as predictions. People
keep a box (accepted), delete it (rejected), move it (rejected, and drawn anew) or draw another; a task without a
submitted annotation says nothing. What was shown stands in `data.regions` of the task, for Label Studio hands `data`
back as it was, but not always the predictions.
"""

from typing import Any

from models.geometry import Box
from pipelines.errors import UserError
from pipelines.proposals.overlap import box_of_row
from pipelines.regions.verdicts import UNNAMED, Verdict, compare

NAME, IMAGE = "region", "image"

LABELLING = f"""<View>
  <Image name="{IMAGE}" value="$image"/>
  <RectangleLabels name="{NAME}" toName="{IMAGE}"><Label value="{UNNAMED}"/></RectangleLabels>
</View>
"""

Row = dict[str, Any]


def tasks(images: list[Row], regions: dict[str, list[Row]]) -> list[Row]:
    """One task an image.

    Args:
        images: Rows of `SPLIT_IMAGES`.
        regions: Rows of `REGIONS` to show, by image_id.
    """
    return [_task(image, regions[image["image_id"]]) for image in images]


def _task(image: Row, regions: list[Row]) -> Row:
    width, height = image["width"], image["height"]
    where = {name: image[name] for name in ("image_id", "source", "path", "member", "frame", "split")}
    shown = [
        {"region_id": region["region_id"], **{name: region[name] for name in ("x0", "y0", "x1", "y1")}}
        for region in regions
    ]
    results = [
        {
            "id": region["region_id"],
            "type": "rectanglelabels",
            "from_name": NAME,
            "to_name": IMAGE,
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "score": region["probability"],
            "value": {
                "x": 100 * region["x0"] / width,
                "y": 100 * region["y0"] / height,
                "width": 100 * (region["x1"] - region["x0"]) / width,
                "height": 100 * (region["y1"] - region["y0"]) / height,
                "rotation": 0,
                "rectanglelabels": [region["label"] or UNNAMED],
            },
        }
        for region in regions
    ]
    data = {"image": f"/data/local-files/?d={image['source']}/{image['path']}", **where, "regions": shown}
    return {"data": data, "predictions": [{"model_version": "medregion", "result": results}]}


def verdicts_of(exported: list[Row]) -> list[Verdict]:
    """People's verdicts from Label Studio's JSON export.

    Raises:
        UserError: A task is not one of ours, or a rectangle is turned.
    """
    verdicts: list[Verdict] = []
    for number, task in enumerate(exported):
        data = task.get("data", {})
        if "image_id" not in data or "regions" not in data:
            raise UserError(f"task {number} has no data.image_id and data.regions: import the JSON export of our tasks")
        shown = [box_of_row(region) for region in data["regions"]]
        for annotation in task.get("annotations", []):
            if not annotation.get("was_cancelled"):
                drawn = [_rectangle(result) for result in annotation["result"] if result["type"] == "rectanglelabels"]
                verdicts += compare(data["image_id"], shown, drawn)
    return verdicts


def _rectangle(result: Row) -> tuple[Box, str | None]:
    value, width, height = result["value"], result["original_width"], result["original_height"]
    if value.get("rotation"):
        raise UserError(f"rectangle {result.get('id')} is turned by {value['rotation']} degrees: draw it upright")
    x0, y0 = value["x"] * width / 100, value["y"] * height / 100
    label = value["rectanglelabels"][0] if value.get("rectanglelabels") else UNNAMED
    box = (x0, y0, x0 + value["width"] * width / 100, y0 + value["height"] * height / 100)
    return box, None if label == UNNAMED else label
