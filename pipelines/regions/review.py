"""Review of regions by people: export to Label Studio or COCO tools, and import as review labels.

    python -m pipelines.regions.review export FOLDER    writes label_studio.json, label_studio.xml, coco.json, images/
    python -m pipelines.regions.review import FILE      adds the review labels of an export of either tool

Both read data/split/images.parquet, data/regions/regions.parquet, the export also the sources' image files. The exports
show the accepted regions that come from proposers. They contain image ids, boxes, masks, labels and copies of the
images, as PNG files that are called after the image's id; no report, no patient, no name of a raw file.
Review labels are added to the file that `regions.review` in params.yaml names; a later label of a box replaces the
former. What a tool returned and no label can be made of is counted by reason code.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path

from pipelines.config import load, parse
from pipelines.errors import Rejected, UserError, item_boundary, one_line
from pipelines.files import atomic_path, write_json, write_text
from pipelines.raw_images import open_raw
from pipelines.records import REGIONS, SPLIT_IMAGES, RegionRow, SplitImageRow
from pipelines.regions import coco_json, label_studio, review_labels
from pipelines.regions.annotation_tools import IMAGES, ShownImage, exported_regions, shown_images
from pipelines.regions.config import RegionsConfig
from pipelines.regions.review_labels import ReviewLabel
from pipelines.sources import Sources, load_sources
from pipelines.stage import command

_MAX_BYTES = 256 * 2**20  # of a file to import


def main(action: str, path: str) -> None:
    tables = Path("data/split/images.parquet"), Path("data/regions/regions.parquet")
    if action == "export":
        export_regions(*tables, load_sources(), Path(path))
        return
    if action != "import":
        raise UserError(f"'{action}' is neither export nor import")
    images = shown_images(SPLIT_IMAGES.read(tables[0]), REGIONS.read(tables[1]))
    import_labels(Path(path), images, load(RegionsConfig, "regions").review)


def export_regions(split: Path, regions: Path, sources: Sources, folder: Path) -> None:
    """Write the accepted regions of proposers for review, in both formats, with the images that they lie on."""
    rows = REGIONS.read(regions)
    regions_of_image: dict[str, list[RegionRow]] = defaultdict(list)
    for region in exported_regions(rows):
        regions_of_image[region.image_id].append(region)
    images, left_out = [], Counter[str]()
    for image in SPLIT_IMAGES.read(split):
        if image.image_id in regions_of_image:
            try:
                _write_image(image, sources, folder / IMAGES)
            except Rejected as error:
                left_out[error.reason] += 1
            else:
                images.append(image)
    write_json(folder / "label_studio.json", label_studio.tasks(images, regions_of_image))
    write_text(folder / "label_studio.xml", label_studio.labelling(row.label for row in rows if row.label))
    write_json(folder / "coco.json", coco_json.dataset(images, regions_of_image))
    count = sum(len(regions_of_image[image.image_id]) for image in images)
    reasons = f"; images left out: {_listed(left_out)}" if left_out else ""
    print(f"review: {count} regions of {len(images)} images in {folder}{reasons}")


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def _write_image(image: SplitImageRow, sources: Sources, folder: Path) -> None:
    """What the stages see of an image, as a file that a browser shows; the raw file may be a slice or a member."""
    pixels = open_raw(sources, image)
    with atomic_path(folder / f"{image.image_id}.png") as temporary:
        pixels.save(temporary, "PNG")


def import_labels(file: Path, images: Mapping[str, ShownImage], review: Path) -> None:
    """Add the review labels of a Label Studio (a list) or COCO (an object) export to the existing ones.

    Args:
        file: The export.
        images: The study's images, by image_id.
        review: The file of review labels.

    Raises:
        UserError: The file is neither, holds what no review label can hold, or nothing of it can be used.
    """
    if not file.is_file():
        raise UserError(f"{file} is no file: give the file that the tool exported")
    if file.stat().st_size > _MAX_BYTES:
        raise UserError(f"{file} is larger than {_MAX_BYTES} bytes: import the export in parts")
    try:
        with item_boundary():
            exported = json.loads(file.read_bytes())
    except Rejected as error:
        raise UserError(f"{file} cannot be read as JSON: {error.detail}") from None
    try:
        with item_boundary():
            found = (label_studio if isinstance(exported, list) else coco_json).review_labels(exported, images)
    except Rejected as error:
        raise UserError(f"{file} is neither a Label Studio nor a COCO export of ours: {error.detail}") from None
    except UserError as error:
        raise UserError(f"{file}: {one_line(error)}") from None
    # The tools' readers take values as they come: here they are checked as those of our own file are.
    latest = [parse(ReviewLabel, vars(label), f"{file}: label {n}") for n, label in enumerate(found.labels, start=1)]
    left_out = +found.left_out
    if left_out and not latest:
        hint = ": its images are not in this study" if set(left_out) == {"unknown_image"} else ""
        raise UserError(f"{file}: nothing can be imported ({_listed(left_out)}){hint}")
    existing = review_labels.read(review) if review.exists() else []
    review_labels.write(review_labels.merge(existing, latest), review)
    counts = _listed(Counter(label.decision for label in latest))
    print(f"review: {len(latest)} labels ({counts}){f'; left out: {_listed(left_out)}' if left_out else ''}")


if __name__ == "__main__":
    command(main)
