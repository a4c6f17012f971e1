"""Regions as COCO JSON, as CVAT, FiftyOne and others read it: boxes, masks as run-length codes, scores.

A reviewer sets an annotation's `attributes.decision` to accepted or rejected; empty means: not reviewed. A box that was
moved is rejected where it was and drawn where it is, one with another category is accepted with that name, and an
annotation on a place where no region was shown is a new box. An annotation that was deleted gives no label, because
COCO cannot tell deleted from never shown: reject it instead.

Tools keep less than what COCO holds. Datumaro, which CVAT reads and writes with, drops unknown keys of images, hence
the file's name is the image's id, and refuses a score of null. CVAT makes text of attributes, and keeps those alone
that its project declares; what it returns of a region with a mask is the box of the mask.
"""

import contextlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from models.geometry import Box
from pipelines.errors import Rejected, UserError, item_boundary
from pipelines.records import RegionRow, SplitImageRow
from pipelines.regions.annotation_tools import (
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

Json = dict[str, Any]

_NO_DECISION = (None, "", "None", "null")


def dataset(images: Sequence[SplitImageRow], regions: Mapping[str, Sequence[RegionRow]]) -> Json:
    """A COCO dataset of some images and their regions.

    Args:
        images: The images to review.
        regions: Regions to show, by image_id.
    """
    numbered = list(enumerate(images, start=1))
    exported = [(number, image, region) for number, image in numbered for region in regions[image.image_id]]
    names = sorted({label_name(region.label) for _, _, region in exported})
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
            {"id": annotation_id, "image_id": number, "category_id": categories[label_name(region.label)]}
            | _annotation(image, region)
            for annotation_id, (number, image, region) in enumerate(exported, start=1)
        ],
    }


def _annotation(image: SplitImageRow, region: RegionRow) -> Json:
    """A COCO annotation but for its ids."""
    annotation: Json = {
        "bbox": [region.x0, region.y0, region.x1 - region.x0, region.y1 - region.y0],
        "segmentation": {"size": [image.height, image.width], "counts": region.mask} if region.mask else [],
        "area": region.area,
        "iscrowd": 0,
        "attributes": {
            "region_id": region.region_id,
            "exported_box": list(region.box),
            "exported_label": label_name(region.label),
            "decision": region.review or "",
        },
    }
    return annotation if region.probability is None else annotation | {"score": region.probability}


def review_labels(exported: Json, images: Mapping[str, ShownImage]) -> Import:
    """The review labels in COCO JSON.

    Args:
        exported: The data set.
        images: The study's images, by image_id.

    Raises:
        UserError: An image was not exported by this module, or a decision is unknown.
    """
    entries = {image["id"]: image for image in exported["images"]}
    names = {category["id"]: category["name"] for category in exported.get("categories", [])}
    found = Import()
    in_place, boxes = _in_place(exported["annotations"]), _boxes(exported["annotations"])
    turned: dict[Any, bool] = {}
    for annotation in exported["annotations"]:
        number = annotation["image_id"]
        entry = entries.get(number)
        image_id = None if entry is None else entry.get("image_id") or _stem(entry.get("file_name"))
        if entry is None or image_id is None:
            raise UserError(f"annotation {annotation['id']}: its image lacks image_id: import what was exported here")
        image = image_of(image_id, images)
        if number not in turned:
            turned[number] = image is not None and is_picture_turned(image.size, image.regions, boxes[number])
        if image is None:
            found.left_out["unknown_image"] += 1
        elif (entry.get("width"), entry.get("height")) not in ((None, None), image.size):
            found.left_out["size_differs"] += 1
        elif turned[number]:
            found.left_out["image_rotated"] += 1
        else:
            try:
                with item_boundary("bad_annotation"):
                    category = names.get(annotation["category_id"], UNNAMED_LABEL)
                    _add_annotation(found, image_id, image, annotation, label_of_name(category), in_place)
            except Rejected as error:
                found.left_out[error.reason] += 1
    return found


def _stem(file_name: object) -> str | None:
    return PurePosixPath(file_name).stem if isinstance(file_name, str) else None


def _boxes(annotations: Sequence[Json]) -> dict[Any, list[Box]]:
    """All boxes of each image that can be read."""
    found: dict[Any, list[Box]] = defaultdict(list)
    for annotation in annotations:
        with contextlib.suppress(Rejected), item_boundary():
            found[annotation["image_id"]].append(_box(annotation))
    return found


def _in_place(annotations: Sequence[Json]) -> set[object]:
    """Regions of which an annotation lies where it was shown: another one that names them is a copy."""
    found = set()
    for annotation in annotations:
        with contextlib.suppress(Rejected), item_boundary():
            attributes = annotation["attributes"]
            if ShownRegion(box=_exported_box(attributes), label=None).is_at(_box(annotation)):
                found.add(attributes["region_id"])
    return found


def _box(annotation: Json) -> Box:
    x, y, width, height = annotation["bbox"]
    return x, y, x + width, y + height


def _exported_box(attributes: Json) -> Box:
    text = attributes["exported_box"]
    x0, y0, x1, y1 = (float(edge) for edge in (json.loads(text) if isinstance(text, str) else text))
    return x0, y0, x1, y1


def _add_annotation(
    found: Import, image_id: str, image: ShownImage, annotation: Json, label: str | None, in_place: set[object]
) -> None:
    attributes = annotation.get("attributes", {})
    decision = attributes.get("decision")
    if decision not in (*_NO_DECISION, "accepted", "rejected"):
        raise UserError(f"annotation {annotation['id']}: the decision {decision!r} is neither accepted nor rejected")
    box = _box(annotation)
    shown = _shown_region(image_id, image, attributes, box, in_place)
    if shown is not None and decision in _NO_DECISION and shown.is_at(box) and shown.is_called(label):
        return  # Nobody touched it.
    regions = [] if shown is None else [shown]
    add_edits(found, image_id, regions, [] if decision == "rejected" else [(box, label)])


def _is_of(image_id: str, region_id: object) -> bool:
    """Whether a region is one of this image: a copy that a tool pasted into another one is new there."""
    return isinstance(region_id, str) and region_id.startswith(f"{image_id}-")


def _shown_region(
    image_id: str, image: ShownImage, attributes: Json, box: Box, in_place: set[object]
) -> ShownRegion | None:
    """The region that an annotation was exported for; None: it is new, or a copy of one that is still there.

    Where the tool dropped our attributes, it is the region that lies where the annotation does.
    """
    text = attributes.get("exported_box") if _is_of(image_id, attributes.get("region_id")) else None
    if text is None:
        return next((region for region in image.regions if region.is_at(box)), None)
    exported = _exported_box(attributes)
    label = label_of_name(attributes.get("exported_label", UNNAMED_LABEL))
    mask_box = next((region.mask_box for region in image.regions if region.box == exported), None)
    shown = ShownRegion(box=exported, label=label, mask_box=mask_box)
    return None if attributes["region_id"] in in_place and not shown.is_at(box) else shown
