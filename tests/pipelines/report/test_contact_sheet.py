"""The contact sheet: images in turns, outlines in the colour of what speaks for them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.records import REGIONS
from pipelines.report.contact_sheet import CELL, GAP, KINDS, LINE, WIDTH, draw_entry, write_contact_sheet
from pipelines.report.evidence import evidence
from pipelines.report.page_images import ImageEntry, open_page_image, overlay
from pipelines.sources import load_sources
from tests.pipelines.report.conftest import Workspace


def entries(workspace: Workspace) -> list[ImageEntry]:
    sources = load_sources(workspace.root / "params.yaml")
    regions = REGIONS.read(workspace.root / "data/regions/regions.parquet")
    return [
        ImageEntry(
            image=image,
            page_image=open_page_image(image, sources),
            overlays=[overlay(region, image) for region in regions if region.image_id == image.image_id],
            caption=None,
        )
        for image in workspace.images
    ]


def has_colour(picture: Image.Image, colour: str) -> bool:
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return bool((np.asarray(picture) == wanted).all(axis=-1).any())


def test_the_sheet_has_eight_images_in_rows_of_four(workspace: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "gallery.png"
    write_contact_sheet(path, entries(workspace))
    with Image.open(path) as sheet:
        assert sheet.size == (WIDTH, 2 * (CELL + LINE + GAP) + GAP + LINE)
        assert 1150 <= WIDTH <= 1250
    first = path.read_bytes()
    write_contact_sheet(path, entries(workspace))
    assert path.read_bytes() == first


def test_a_sheet_without_any_image_says_so(workspace: Workspace, tmp_path: Path) -> None:
    write_contact_sheet(tmp_path / "none.png", [])
    unread = [replace(entry, page_image=replace(entry.page_image, jpeg=None)) for entry in entries(workspace)]
    write_contact_sheet(tmp_path / "unread.png", unread)
    assert (tmp_path / "none.png").read_bytes() == (tmp_path / "unread.png").read_bytes()
    with Image.open(tmp_path / "none.png") as sheet:
        assert np.asarray(sheet)[: 2 * LINE].std() > 0  # a line of words


@pytest.mark.parametrize("number", [0, 6])
def test_outlines_have_the_colour_of_what_speaks_for_them(workspace: Workspace, number: int) -> None:
    entry = entries(workspace)[number]
    kinds = {one.kind for one in entry.overlays}
    # Of image 0 a reviewer accepted the region; image 6 is of the test split, where it is certified.
    assert kinds == {"given" if number == 0 else "certified", "truth", "rejected"}
    picture = draw_entry(entry)
    assert max(picture.size) == CELL
    drawn = {kind for kind, (colour, _) in KINDS.items() if has_colour(picture, colour)}
    assert drawn <= kinds - {"rejected"}
    assert drawn & {"given", "certified"}


def test_what_speaks_for_a_region(workspace: Workspace) -> None:
    region = entries(workspace)[2].overlays[0].region
    assert evidence(region) == "accepted"
    assert evidence(replace(region, certified=True)) == "certified"
    assert evidence(replace(region, proposer="annotations")) == "given"
    assert evidence(replace(region, review="accepted")) == "given"
    assert evidence(replace(region, role="truth")) == "truth"
    assert evidence(replace(region, certified=True, status="rejected", reason="too_small")) == "rejected"
