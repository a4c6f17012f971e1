"""Review of regions by people: export to Label Studio or COCO tools, and import as review labels.

    python -m pipelines.regions.review export FOLDER    writes label_studio.json, label_studio.xml and coco.json
    python -m pipelines.regions.review import FILE      adds the review labels of an export of either tool

Reads data/split/images.parquet and data/regions/regions.parquet. The exports show the accepted regions that come from
proposers. They contain image ids, paths relative to the source's root, boxes, masks and labels; no report, no patient.
Review labels are added to the file that `regions.review` in params.yaml names; a later label of a box replaces the
former.
"""

import json
from collections import Counter, defaultdict
from pathlib import Path

from pipelines.config import load
from pipelines.errors import UserError
from pipelines.files import write_json, write_text
from pipelines.records import ANNOTATIONS_PROPOSER, REGIONS, SPLIT_IMAGES, RegionRow
from pipelines.regions import coco_json, label_studio, review_labels
from pipelines.regions.config import RegionsConfig
from pipelines.regions.table import REVIEW_PROPOSER
from pipelines.stage import command


def main(action: str, path: str) -> None:
    if action == "export":
        export_regions(Path("data/split/images.parquet"), Path("data/regions/regions.parquet"), Path(path))
        return
    if action != "import":
        raise UserError(f"'{action}' is neither export nor import")
    import_labels(Path(path), load(RegionsConfig, "regions").review)


def export_regions(split: Path, regions: Path, folder: Path) -> None:
    """Write the accepted regions of proposers for review, in both formats."""
    regions_of_image: dict[str, list[RegionRow]] = defaultdict(list)
    for region in sorted(REGIONS.read(regions), key=lambda region: (region.image_id, region.n)):
        is_proposed = region.proposer not in (ANNOTATIONS_PROPOSER, REVIEW_PROPOSER)
        if region.role == "input" and region.status == "accepted" and is_proposed:
            regions_of_image[region.image_id].append(region)
    images = [image for image in SPLIT_IMAGES.read(split) if image.image_id in regions_of_image]
    write_json(folder / "label_studio.json", label_studio.tasks(images, regions_of_image))
    write_text(folder / "label_studio.xml", label_studio.LABELLING)
    write_json(folder / "coco.json", coco_json.dataset(images, regions_of_image))
    print(f"review: {sum(map(len, regions_of_image.values()))} regions of {len(images)} images in {folder}")


def import_labels(file: Path, review: Path) -> None:
    """Add the review labels of a Label Studio (a list) or COCO (an object) export to the existing ones.

    Raises:
        UserError: The file is neither.
    """
    try:
        exported = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{file} cannot be read as JSON: {error}") from None
    try:
        latest = (label_studio if isinstance(exported, list) else coco_json).review_labels(exported)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{file} is neither a Label Studio nor a COCO export of ours: {error!r}") from None
    existing = review_labels.read(review) if review.exists() else []
    review_labels.write(review_labels.merge(existing, latest), review)
    counts = Counter(label.decision for label in latest)
    print(f"review: {len(latest)} labels ({', '.join(f'{name} {count}' for name, count in sorted(counts.items()))})")


if __name__ == "__main__":
    command(main)
