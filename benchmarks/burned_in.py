"""How well burned-in text is found and hidden, on radiology pictures with footers and on radiographs without.

Reads   VQA_RAD and QATA, folders of pictures as published (`VQA_RAD Image Folder`, `Test_Folder/img`), and
        burned_in_labels.csv beside this file: what 100 of VQA-RAD's pictures hold, as a person sees it
Writes  benchmarks/results/burned_in.csv; in WORK what was found in each picture, so that a run that stopped goes on
        there, and sheets of pictures to look at: before and after masking, and all alarms on QaTa
Run     python benchmarks/burned_in.py VQA_RAD QATA WORK [--partial]

The publisher writes its footer in the middle of the lowest 30 pixels. It counts as found where a box reaches into the
middle third of the width there, and as covered where boxes leave no column free of those from 35 to 65 % of the width.
An overlay counts as found where a box lies above, but not in the upper right corner, which has the watermark. Of QaTa
the 200 pictures with the smallest SHA-256 of their names are taken. Seconds are those of one thread of the processor,
not of the clock. With `--partial` no picture is looked at: the figures are those of the pictures that WORK has.
"""

import csv
import hashlib
import json
import statistics
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from header import header, last_commit
from PIL import Image, ImageDraw
from scipy.stats import binomtest

from pipelines.errors import Rejected
from pipelines.images import decode, painted_over
from pipelines.ingest.burned_in import BurnedInText
from pipelines.ingest.text_finder import TextFinder

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = ("set", "what", "pictures", "found", "fraction", "low", "high")
QATA_PICTURES = 200
FOOTER = 30  # pixels
WATERMARK = 0.55, 0.08  # right of and above these fractions of width and height
SHEET = 4, 3  # pictures across and down
SIDE = 420


def look(file: Path, finder: TextFinder) -> dict[str, Any]:
    """What is found in a picture, and what masking makes of it."""
    picture = decode(file.read_bytes())
    start = time.process_time()
    boxes = finder.boxes(picture)
    seconds = time.process_time() - start
    try:
        hidden = BurnedInText("mask", finder).examine(picture, False).hidden
    except Rejected as error:
        outcome, hidden = error.reason, ()
    else:
        outcome = "hidden" if hidden else "clean"
    return {
        "file": file.name,
        "size": picture.size,
        "boxes": boxes,
        "seconds": round(seconds, 3),
        "outcome": outcome,
        "hidden": hidden,
    }


def looked(files: Iterable[Path], work: Path, finder: TextFinder, is_partial: bool) -> Iterator[dict[str, Any]]:
    """`look` for each file, from WORK where an earlier run has it."""
    for file in files:
        kept = work / f"{file.stem}.json"
        if not kept.exists() and not is_partial:
            kept.write_text(json.dumps(look(file, finder)))
        if kept.exists():
            yield json.loads(kept.read_text())


def footer_boxes(found: dict[str, Any]) -> list[list[int]]:
    """Boxes where the footer stands."""
    width, height = found["size"]
    below = [box for box in found["boxes"] if (box[1] + box[3]) / 2 >= height - FOOTER]
    return [box for box in below if box[0] < 2 * width / 3 and box[2] > width / 3]


def is_covered(found: dict[str, Any]) -> bool:
    width = found["size"][0]
    columns = {x for x0, _, x1, _ in footer_boxes(found) for x in range(x0, x1)}
    return columns >= set(range(round(0.35 * width), round(0.65 * width)))


def has_other_box(found: dict[str, Any]) -> bool:
    width, height = found["size"]
    return any(
        (y0 + y1) / 2 < height - FOOTER and not ((x0 + x1) / 2 > WATERMARK[0] * width and y0 < WATERMARK[1] * height)
        for x0, y0, x1, y1 in found["boxes"]
    )


def row(set_: str, what: str, hits: list[bool]) -> dict[str, object]:
    """A fraction with its exact (Clopper-Pearson) interval of 95 %."""
    if not hits:
        return {"set": set_, "what": what, "pictures": 0, "found": 0}
    interval = binomtest(sum(hits), len(hits)).proportion_ci(method="exact")
    return {
        "set": set_,
        "what": what,
        "pictures": len(hits),
        "found": sum(hits),
        "fraction": round(sum(hits) / len(hits), 4),
        "low": round(interval.low, 4),
        "high": round(interval.high, 4),
    }


def labelled() -> dict[str, dict[str, str]]:
    lines = (ROOT / "benchmarks" / "burned_in_labels.csv").read_text().splitlines()
    return {label["file"]: label for label in csv.DictReader(line for line in lines if not line.startswith("#"))}


def rows(vqa_rad: list[dict[str, Any]], qata: list[dict[str, Any]]) -> Iterator[dict[str, object]]:
    labels = labelled()
    yield row("vqa_rad", "any text (all have some)", [bool(found["boxes"]) for found in vqa_rad])
    for kind in ("clear", "small", "unreadable"):
        of_kind = [found for found in vqa_rad if labels[found["file"]]["footer"] == kind]
        yield row("vqa_rad", f"footer, {kind}: found", [bool(footer_boxes(found)) for found in of_kind])
        yield row("vqa_rad", f"footer, {kind}: covered", list(map(is_covered, of_kind)))
    readable = [found for found in vqa_rad if labels[found["file"]]["footer"] != "unreadable"]
    yield row("vqa_rad", "footer, clear or small: found", [bool(footer_boxes(found)) for found in readable])
    yield row("vqa_rad", "footer, clear or small: covered", list(map(is_covered, readable)))
    overlays = [found for found in vqa_rad if labels[found["file"]]["overlay"] == "text"]
    yield row("vqa_rad", "text of scanner or viewer: found", list(map(has_other_box, overlays)))
    masked = [found for found in vqa_rad if found["boxes"]]
    yield row("vqa_rad", "still text after masking: rejected", [found["outcome"] != "hidden" for found in masked])
    yield row("qata_cov19", "alarms", [bool(found["boxes"]) for found in qata])
    masked = [found for found in qata if found["boxes"]]
    yield row("qata_cov19", "still text after masking: rejected", [found["outcome"] != "hidden" for found in masked])


def sheets(name: str, pictures: list[tuple[str, Image.Image]], work: Path) -> None:
    """Write pictures with their captions as `<name>-<number>.png`."""
    across, down = SHEET
    for start in range(0, len(pictures), across * down):
        sheet = Image.new("RGB", (across * SIDE, down * (SIDE + 16)), "blue")
        for place, (caption, picture) in enumerate(pictures[start : start + across * down]):
            x, y = place % across * SIDE, place // across * (SIDE + 16)
            shown = picture.convert("RGB")
            shown.thumbnail((SIDE - 4, SIDE - 4))
            sheet.paste(shown, (x, y + 14))
            ImageDraw.Draw(sheet).text((x, y), caption, fill="yellow")
        sheet.save(work / f"{name}-{start // (across * down)}.png")


def outlined(picture: Image.Image, boxes: list[list[int]]) -> Image.Image:
    shown = picture.convert("RGB")
    for box in boxes:
        ImageDraw.Draw(shown).rectangle(tuple(box), outline="red")
    return shown


def main(vqa_rad: Path, qata: Path, work: Path, is_partial: bool) -> None:
    work.mkdir(parents=True, exist_ok=True)
    finder = TextFinder(work / "results.sqlite")
    files = [vqa_rad / name for name in labelled()]
    by_hash = sorted(qata.iterdir(), key=lambda file: hashlib.sha256(file.name.encode()).hexdigest())
    found = list(looked(files, work, finder, is_partial))
    others = list(looked(by_hash[:QATA_PICTURES], work, finder, is_partial))
    seconds = [statistics.median(one["seconds"] for one in some) for some in (found, others)]
    with (ROOT / "benchmarks" / "results" / "burned_in.csv").open("w", newline="") as file:
        file.write(header("python benchmarks/burned_in.py <VQA-RAD's pictures> <QaTa's> <work>", last_commit(ROOT)))
        file.write(
            f"# seconds of one core for a picture, median: VQA-RAD {seconds[0]:.2f}, QaTa-COV19 {seconds[1]:.2f}\n"
        )
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows(found, others))
    masked = [(one, decode((vqa_rad / one["file"]).read_bytes())) for one in found]
    sheets("before", [(one["file"], outlined(picture, one["boxes"])) for one, picture in masked], work)
    after = [(one["outcome"], painted_over(picture, list(map(tuple, one["hidden"])))) for one, picture in masked]
    sheets("after", after, work)
    alarms = [one for one in others if one["boxes"]]
    sheets(
        "alarms",
        [(one["file"][:40], outlined(decode((qata / one["file"]).read_bytes()), one["boxes"])) for one in alarms],
        work,
    )


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]), is_partial="--partial" in sys.argv)
