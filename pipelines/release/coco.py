"""The regions as COCO JSON, for pycocotools and all that reads it: two files for each split.

`<split>_input.json` has the regions that a model may see, `<split>_truth.json` of validation and test images what the
source annotated, so that nobody scores with the one and trains with the other by mistake. A mask is a compressed
run-length code, as pycocotools decodes it; a region that is a box alone has no `segmentation`.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pipelines.records import RegionRow, SplitImageRow
from pipelines.release.contents import Contents
from pipelines.release.images import FOLDER
from pipelines.release.rows import region_row

COCO = "coco"
UNNAMED = "region"  # the category of a region that nobody named
ROLES = ("input", "truth")
# Keys of COCO's own; what else is known of a region stands beside them.
_OWN = ("region_id", "role", "score", "probability", "certified", "caption", "term", "adjective", "position", "oracle")


def write_coco(contents: Contents, out: Path) -> None:
    """Write `coco/<split>_<role>.json` for each split and role with regions, and `<split>_input.json` in any case."""
    (out / COCO).mkdir()
    names = sorted({_name(region) for regions in contents.regions.values() for region in regions})
    categories = {name: number for number, name in enumerate(names, start=1)}
    for split, images in contents.images.items():
        if not images:
            continue
        for role in ROLES:
            regions = [
                (number, image, region)
                for number, image in enumerate(images, start=1)
                for region in contents.regions.get(image.image_id, ())
                if region.role == role
            ]
            if regions or role == "input":
                parts: dict[str, Iterable[dict[str, Any]]] = {
                    "licenses": _licences(contents),
                    "categories": ({"id": number, "name": name} for name, number in categories.items()),
                    "images": _images(contents, split, images),
                    "annotations": _annotations(contents, regions, categories),
                }
                _write(out / COCO / f"{split}_{role}.json", f"{role} regions of the split {split}", parts)


def _write(file: Path, description: str, parts: dict[str, Iterable[dict[str, Any]]]) -> None:
    """One JSON object, an entry a line, so that the entries need not be in memory together."""
    with file.open("w", encoding="utf-8") as stream:
        stream.write(f'{{"info": {json.dumps({"description": description})}')
        for name, entries in parts.items():
            stream.write(f',\n"{name}": [')
            for number, entry in enumerate(entries):
                stream.write(f"{',' if number else ''}\n{json.dumps(entry, ensure_ascii=False, allow_nan=False)}")
            stream.write("\n]")
        stream.write("}\n")


def _name(region: RegionRow) -> str:
    return region.label or UNNAMED


def _licences(contents: Contents) -> list[dict[str, Any]]:
    return [{"id": number, "name": name} for name, number in _licence_ids(contents).items()]


def _licence_ids(contents: Contents) -> dict[str, int]:
    names = sorted({contents.licence(source) for source in contents.terms})
    return {name: number for number, name in enumerate(names, start=1)}


def _images(contents: Contents, split: str, images: Iterable[SplitImageRow]) -> Iterator[dict[str, Any]]:
    licences = _licence_ids(contents)
    for number, image in enumerate(images, start=1):
        yield {
            "id": number,
            "file_name": f"{FOLDER}/{split}/{image.image_id}.png",
            "width": image.width,
            "height": image.height,
            "license": licences[contents.licence(image.source)],
            "image_id": image.image_id,
            "source": image.source,
            "modality": image.modality,
            "caption": contents.captions[image.image_id].summary,
        }


def _annotations(
    contents: Contents, regions: Iterable[tuple[int, SplitImageRow, RegionRow]], categories: dict[str, int]
) -> Iterator[dict[str, Any]]:
    for number, (image_number, image, region) in enumerate(regions, start=1):
        values = region_row(region, contents.captions[region.region_id])
        yield {
            "id": number,
            "image_id": image_number,
            "category_id": categories[_name(region)],
            "bbox": [region.x0, region.y0, region.x1 - region.x0, region.y1 - region.y0],
            "area": region.area,
            "iscrowd": 0,
            **({"segmentation": {"size": [image.height, image.width], "counts": region.mask}} if region.mask else {}),
            **{name: values[name] for name in _OWN if values[name] is not None},
        }
