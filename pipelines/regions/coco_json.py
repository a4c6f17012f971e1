"""Regions as COCO JSON, as CVAT, FiftyOne and others read it: boxes, masks as run-length codes, scores.

A verdict stands in an annotation's `attributes.verdict` (accepted or rejected; null: not reviewed). A box that people
moved is rejected where it was and drawn where it is; an annotation without `attributes.region_id` is a new box. One
that was taken out says nothing: reject it instead, for COCO cannot tell deleted from never shown.
"""

from typing import Any

from pipelines.errors import UserError
from pipelines.proposals.overlap import box_of_row
from pipelines.regions.verdicts import UNNAMED, Verdict, compare

Row = dict[str, Any]


def dataset(images: list[Row], regions: dict[str, list[Row]]) -> Row:
    """The regions of some images.

    Args:
        images: Rows of `SPLIT_IMAGES`.
        regions: Rows of `REGIONS`, by image_id.
    """
    shown = [(place, region) for place, image in enumerate(images, start=1) for region in regions[image["image_id"]]]
    labels = sorted({region["label"] or UNNAMED for _, region in shown})
    category = {label: number for number, label in enumerate(labels, start=1)}
    return {
        "images": [
            {
                "id": place,
                "file_name": f"{image['source']}/{image['path']}",
                **{name: image[name] for name in ("width", "height", "image_id", "member", "frame", "split")},
            }
            for place, image in enumerate(images, start=1)
        ],
        "categories": [{"id": number, "name": label} for label, number in category.items()],
        "annotations": [
            _annotation(number, place, images[place - 1], region, category[region["label"] or UNNAMED])
            for number, (place, region) in enumerate(shown, start=1)
        ],
    }


def _annotation(number: int, place: int, image: Row, region: Row, category: int) -> Row:
    box = box_of_row(region)
    mask = {"size": [image["height"], image["width"]], "counts": region["mask"]} if region["mask"] else []
    return {
        "id": number,
        "image_id": place,
        "category_id": category,
        "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
        "segmentation": mask,
        "area": region["area"],
        "iscrowd": 0,
        "score": region["probability"],
        "attributes": {"region_id": region["region_id"], "shown": list(box), "verdict": region["review"]},
    }


def verdicts_of(exported: Row) -> list[Verdict]:
    """People's verdicts from COCO JSON.

    Raises:
        UserError: An image is not one of ours, or a verdict is none.
    """
    images = {image["id"]: image.get("image_id") for image in exported["images"]}
    names = {category["id"]: category["name"] for category in exported.get("categories", [])}
    verdicts: list[Verdict] = []
    for annotation in exported["annotations"]:
        image_id = images.get(annotation["image_id"])
        if image_id is None:
            raise UserError(f"annotation {annotation['id']}: its image lacks image_id: import what was exported here")
        attributes = annotation.get("attributes", {})
        word = attributes.get("verdict") or None
        if word not in (None, "accepted", "rejected"):
            raise UserError(f"annotation {annotation['id']}: the verdict {word!r} is neither accepted nor rejected")
        x, y, width, height = annotation["bbox"]
        name = names.get(annotation["category_id"], UNNAMED)
        box = ((x, y, x + width, y + height), None if name == UNNAMED else name)
        shown = [tuple(attributes["shown"])] if attributes.get("region_id") else []
        said = compare(image_id, shown, [] if word == "rejected" else [box])
        verdicts += [] if word is None and shown and len(said) == 1 else said
    return verdicts
