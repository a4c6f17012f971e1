"""The contact sheet: the gallery's first images with their outlines as one PNG file, where a page cannot be shown."""

from collections.abc import Iterable
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from pipelines.files import atomic_path
from pipelines.report.evidence import Evidence
from pipelines.report.page_images import ImageEntry
from pipelines.report.selection import in_turns

COLUMNS, ROWS = 4, 2
CELL, GAP, LINE = 294, 8, 24  # pixels: side of a picture, between two, height of the line below it
WIDTH = COLUMNS * CELL + (COLUMNS + 1) * GAP
# Colours are those of style.css; later ones are drawn first, and so lie below. Rejected regions are left out.
KINDS: dict[Evidence, tuple[str, str]] = {
    "certified": ("#4be08a", "certified"),
    "given": ("#38c6f4", "by the source or a reviewer"),
    "accepted": ("#e8eef4", "accepted, no guarantee"),
    "truth": ("#ffc94d", "truth, for scores only"),
}
PAPER, INK = "#14171a", "#e4e6e8"


def write_contact_sheet(path: Path, entries: Iterable[ImageEntry]) -> None:
    """Write the PNG file; without an image that opens, a sheet that says so.

    Args:
        path: The file.
        entries: Of all sources; the first ones of each are shown, the sources in turn.
    """
    shown = [entry for entry in entries if entry.page_image.jpeg is not None]
    shown = in_turns(shown, lambda entry: entry.image.source)[: COLUMNS * ROWS]
    rows = max(1, -(-len(shown) // COLUMNS))
    sheet = Image.new("RGB", (WIDTH, rows * (CELL + LINE + GAP) + GAP + LINE), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    if not shown:
        draw.text((GAP, GAP), "no image of the gallery could be opened, or none was asked for", INK, font)
    for number, entry in enumerate(shown):
        row, column = divmod(number, COLUMNS)
        left, top = GAP + column * (CELL + GAP), GAP + row * (CELL + LINE + GAP)
        picture = draw_entry(entry)
        sheet.paste(picture, (left + (CELL - picture.width) // 2, top + (CELL - picture.height) // 2))
        draw.text((left, top + CELL + 4), _fitted(entry, draw, font), INK, font)
    end = float(GAP)
    for colour, words in KINDS.values():
        draw.text((end, sheet.height - LINE), words, colour, font)
        end += draw.textlength(words, font) + 4 * GAP
    with atomic_path(path) as temporary:
        # The least compression: the best took 2 s, for a sheet of the phantom that is 23 % smaller.
        sheet.save(temporary, "PNG", compress_level=1)


def draw_entry(entry: ImageEntry) -> Image.Image:
    """The picture of an image, at most `CELL` pixels wide and high, with the outlines of its regions."""
    picture = entry.page_image.pixels()
    scale = CELL / max(picture.size)
    picture = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
    draw = ImageDraw.Draw(picture)
    across, down = picture.width / entry.image.width, picture.height / entry.image.height
    for kind, (colour, _) in reversed(KINDS.items()):
        rings = (ring for overlay in entry.overlays if overlay.kind == kind for ring in overlay.rings)
        for ring in rings:
            points = [(x * across, y * down) for x, y in ring]
            draw.line([*points, *points[:2]], colour, 2, joint="curve")
    return picture


def _fitted(entry: ImageEntry, draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Source, modality and split in one line of at most `CELL` pixels."""
    text = f"{entry.image.source}, {entry.image.modality}, {entry.image.split}"
    while draw.textlength(text, font) > CELL:
        text = text.removesuffix("…")[:-1] + "…"
    return text
