"""Audit by people: a random sample as a sheet, and its answers back.

    python -m pipelines.audit export FOLDER    writes audit.html (opens without a network) and audit.csv, the same sheet
    python -m pipelines.audit read FILE        adds the answers of a sheet to the file that `audit.answers` names

Both read params.yaml and the tables of images, regions and captions of a finished study; the export also the sources'
image files. Nothing but the stage `report` reads the answers.
"""

import datetime
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pipelines.audit import answers as answer_file
from pipelines.audit import sheet
from pipelines.audit.answers import DECISIONS, Answer
from pipelines.audit.config import AuditConfig
from pipelines.audit.page import PageItem, page, page_items
from pipelines.audit.sample import WHATS, Item, What, draw
from pipelines.captions.config import CaptionsConfig
from pipelines.config import load
from pipelines.errors import UserError
from pipelines.files import write_text
from pipelines.records import CAPTIONS, REGIONS, SPLIT_IMAGES
from pipelines.sources import Sources, load_sources
from pipelines.stage import command

_TABLES = (
    Path("data/split/images.parquet"),
    Path("data/regions/regions.parquet"),
    Path("data/captions/captions.parquet"),
)


def main(action: str, path: str) -> None:
    if action not in ("export", "read"):
        raise UserError(f"'{action}' is neither export nor read")
    settings = load(AuditConfig, "audit")
    images, regions, captions = SPLIT_IMAGES.read(_TABLES[0]), REGIONS.read(_TABLES[1]), CAPTIONS.read(_TABLES[2])
    sample = draw(images, regions, captions, settings)
    items = {what: [item for stratum in sample[what] for item in stratum.items] for what in WHATS}
    if action == "export":
        export(items, settings.seed, load_sources(), load(CaptionsConfig, "captions"), Path(path))
        return
    known = {image.image_id for image in images}
    read_sheet(Path(path), items, known, Path(settings.answers), datetime.date.today())


def export(items: dict[What, list[Item]], seed: int, sources: Sources, captions: CaptionsConfig, folder: Path) -> None:
    """Write the sheet: regions first, then captions, each in random order, so that who stops early has a sample too."""
    shown, left_out = page_items(items, seed, sources, captions)
    if not shown:
        raise UserError("there is nothing to audit: no accepted region of a proposer and no caption that can be shown")
    write_text(folder / "audit.html", page(shown))
    sheet.write(folder / "audit.csv", [one.item for one in shown], [one.question for one in shown])
    reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(left_out.items()))
    print(
        f"audit: {_told(shown)} in {folder}/audit.html{f'; images that cannot be opened: {reasons}' if reasons else ''}"
    )


def _told(shown: Sequence[PageItem]) -> str:
    counts = Counter(one.item.what for one in shown)
    return " and ".join(f"{counts[what]} {what}" for what in WHATS)


def read_sheet(file: Path, items: dict[What, list[Item]], images: set[str], path: Path, today: datetime.date) -> None:
    """Add the answers of a sheet to the existing ones, and print what came of it.

    Args:
        file: The sheet.
        items: The sample as it is now.
        images: Ids of all images of the study.
        path: The file of answers.
        today: The day that answers without a date were given.

    Raises:
        UserError: The sheet is wrong, or not of this study; nothing is added then.
    """
    found = sheet.read(file, today)
    for row, answer in zip(found.rows, found.answers, strict=True):
        if answer.item.partition(":")[2].partition("-")[0] not in images:
            raise UserError(
                f"{file}: row {row}, column item: {answer.item} is of no image of this study; read the sheet in the "
                "study that exported it, or delete the row"
            )
    if not found.answers:
        raise UserError(f"{file}: no row has an answer ({found.unanswered} without)")
    existing = answer_file.read(path) if path.exists() else []
    merged = answer_file.merge(existing, found.answers)
    older = len(found.answers) - len(set(merged) & set(found.answers))
    answer_file.write(merged, path)
    shown = {item.name: item.shown for group in items.values() for item in group}
    outdated = sum(shown.get(answer.item) != answer.shown for answer in found.answers)
    current = {answer.item for answer in merged if shown.get(answer.item) == answer.shown}
    print(
        f"audit: {len(found.answers)} answers ({_counted(found.answers)}); not used: {outdated} outdated (what they "
        f"are about changed, or left the sample), {older} older than answers that are there; {found.unanswered} rows "
        f"without an answer; {len(current)} of the {len(shown)} items of the sample are answered; next: "
        "dvc repro report"
    )


def _counted(answers: Sequence[Answer]) -> str:
    counts = Counter(answer.answer for answer in answers)
    return ", ".join(f"{decision} {counts[decision]}" for decision in DECISIONS)


if __name__ == "__main__":
    command(main)
