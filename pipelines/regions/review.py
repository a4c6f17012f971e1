"""People's review of regions: out to Label Studio or COCO tools, and back as verdicts.

    python -m pipelines.regions.review export FOLDER    writes label_studio.json, label_studio.xml and coco.json
    python -m pipelines.regions.review import FILE      adds the verdicts of an export of either tool

Reads data/split/images.parquet and data/regions/regions.parquet. Shown are the accepted regions that proposers found.
The exports hold image ids, paths relative to the source's root, boxes, masks and labels: no report, no patient.
Verdicts are added to the file that `regions.review` in params.yaml names; a later word on a box replaces the former.
"""

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from pipelines.config import load
from pipelines.errors import UserError
from pipelines.files import write_json, write_text
from pipelines.records import REGIONS, SPLIT_IMAGES, rows_of
from pipelines.regions import coco_json, label_studio, verdicts
from pipelines.regions.config import RegionsConfig
from pipelines.stage import command


def main(action: str, path: str) -> None:
    if action == "export":
        export(Path("data/split/images.parquet"), Path("data/regions/regions.parquet"), Path(path))
        return
    if action != "import":
        raise UserError(f"'{action}' is neither export nor import")
    bring_in(Path(path), load(RegionsConfig, "regions").review)


def export(split: Path, regions: Path, folder: Path) -> None:
    """Write the accepted regions of proposers for review, in both formats."""
    shown: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows_of(REGIONS.read(regions).sort_values(["image_id", "n"])):
        if row["role"] == "input" and row["status"] == "accepted" and row["proposer"] not in ("annotations", "review"):
            shown[row["image_id"]].append(row)
    images = [row for row in rows_of(SPLIT_IMAGES.read(split)) if row["image_id"] in shown]
    write_json(folder / "label_studio.json", label_studio.tasks(images, shown))
    write_text(folder / "label_studio.xml", label_studio.LABELLING)
    write_json(folder / "coco.json", coco_json.dataset(images, shown))
    print(f"review: {sum(map(len, shown.values()))} regions of {len(images)} images in {folder}")


def bring_in(file: Path, review: Path) -> None:
    """Add the verdicts of a Label Studio (a list) or COCO (an object) export to those that are there.

    Raises:
        UserError: The file is neither.
    """
    try:
        exported = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{file} cannot be read as JSON: {error}") from None
    try:
        read = label_studio.verdicts_of if isinstance(exported, list) else coco_json.verdicts_of
        said = read(exported)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{file} is neither a Label Studio nor a COCO export of ours: {error!r}") from None
    former = verdicts.read(review) if review.exists() else []
    verdicts.write(verdicts.merge(former, said), review)
    counts = Counter(verdict.verdict for verdict in said)
    print(f"review: {len(said)} verdicts ({', '.join(f'{word} {count}' for word, count in sorted(counts.items()))})")


if __name__ == "__main__":
    command(main)
