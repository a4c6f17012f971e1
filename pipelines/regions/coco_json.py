"""Regions as COCO JSON, as CVAT, FiftyOne and others read it: boxes, masks as run-length codes, scores.

A reviewer sets an annotation's `attributes.decision` to accepted or rejected; null means: not reviewed. A box that was
moved is rejected where it was and drawn where it is; an annotation without `attributes.region_id` is a new box. An
annotation that was deleted gives no label, because COCO cannot tell deleted from never shown: reject it instead.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from models.geometry import Box
from pipelines.errors import UserError
from pipelines.records import RegionRow, SplitImageRow
from pipelines.regions.annotation_tools import UNNAMED_LABEL, labels_from_edits
from pipelines.regions.review_labels import ReviewLabel

Json = dict[str, Any]


def dataset(images: Sequence[SplitImageRow], regions: Mapping[str, Sequence[RegionRow]]) -> Json:
    """A COCO dataset of some images and their regions.

    Args:
        images: The images to review.
        regions: Regions to show, by image_id.
    """
    numbered = list(enumerate(images, start=1))
    exported = [(number, image, region) for number, image in numbered for region in regions[image.image_id]]
    names = sorted({region.label or UNNAMED_LABEL for _, _, region in exported})
    categories = {name: category_id for category_id, name in enumerate(names, start=1)}
    return {
        "images": [
            {
                "id": number,
                "file_name": f"{image.image_id}.png",
                "width": image.width,
                "height": image.height,
                "image_id": image.image_id,
                "source": image.source,
                "split": image.split,
            }
            for number, image in numbered
        ],
        "categories": [{"id": category_id, "name": name} for name, category_id in categories.items()],
        "annotations": [
            {"id": annotation_id, "image_id": number, "category_id": categories[region.label or UNNAMED_LABEL]}
            | _annotation(image, region)
            for annotation_id, (number, image, region) in enumerate(exported, start=1)
        ],
    }


def _annotation(image: SplitImageRow, region: RegionRow) -> Json:
    """A COCO annotation but for its ids."""
    return {
        "bbox": [region.x0, region.y0, region.x1 - region.x0, region.y1 - region.y0],
        "segmentation": {"size": [image.height, image.width], "counts": region.mask} if region.mask else [],
        "area": region.area,
        "iscrowd": 0,
        "score": region.probability,
        "attributes": {"region_id": region.region_id, "exported_box": list(region.box), "decision": region.review},
    }


def review_labels(exported: Json) -> list[ReviewLabel]:
    """The review labels in COCO JSON.

    Raises:
        UserError: An image was not exported by this module, or a decision is unknown.
    """
    images = {image["id"]: image.get("image_id") for image in exported["images"]}
    names = {category["id"]: category["name"] for category in exported.get("categories", [])}
    labels: list[ReviewLabel] = []
    for annotation in exported["annotations"]:
        image_id = images.get(annotation["image_id"])
        if image_id is None:
            raise UserError(f"annotation {annotation['id']}: its image lacks image_id: import what was exported here")
        labels += _labels_of_annotation(image_id, annotation, names.get(annotation["category_id"], UNNAMED_LABEL))
    return labels


def _labels_of_annotation(image_id: str, annotation: Json, category: str) -> list[ReviewLabel]:
    attributes = annotation.get("attributes", {})
    decision = attributes.get("decision") or None
    if decision not in (None, "accepted", "rejected"):
        raise UserError(f"annotation {annotation['id']}: the decision {decision!r} is neither accepted nor rejected")
    x, y, width, height = annotation["bbox"]
    box: Box = (x, y, x + width, y + height)
    exported = [tuple(attributes["exported_box"])] if attributes.get("region_id") else []
    returned = [] if decision == "rejected" else [(box, None if category == UNNAMED_LABEL else category)]
    labels = labels_from_edits(image_id, exported, returned)
    # One label for an exported box means that the box was not moved: without a decision, nobody reviewed it.
    unreviewed = decision is None and exported and len(labels) == 1
    return [] if unreviewed else labels
