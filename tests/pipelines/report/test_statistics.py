"""Counts of the pictures against values by hand, and the pictures themselves with texts that would break them."""

import base64
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest

from pipelines.report.inputs import Paths, read_tables
from pipelines.report.pictures import SHOWN_SOURCES, pictures, short
from pipelines.report.statistics import GRID, MAX_TEXTS, covered, source_statistics, together, words_of

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def tables(workspace):
    return read_tables(Paths(data=workspace.root / "data", params=workspace.root / "params.yaml"), [])


def svg(picture):
    return base64.b64decode(picture.uri.removeprefix("data:image/svg+xml;base64,"))


def texts_of(picture):
    return ["".join(element.itertext()) for element in ElementTree.fromstring(svg(picture)).iter(f"{SVG}text")]


def test_images_are_counted_by_modality_finding_and_what_nobody_said(tables):
    labels = {0: ("nodule", "cyst"), 2: ("nodule",), 4: (), 6: None}
    images = [
        replace(row, labels=labels.get(n), modality="mri" if n in (2, 6) else "ct", width=60 + n)
        for n, row in enumerate(tables.images)
    ]
    alpha, beta = source_statistics(replace(tables, images=images), ["alpha", "beta"])
    assert (alpha.images, alpha.modalities) == (8, {"ct": 6, "mri": 2})
    assert alpha.labels == {"nodule": 2, "cyst": 1}
    # Images 0, 2 have findings, 4 none; of 6 and of the four others of alpha nobody said.
    assert {name: dict(counts) for name, counts in alpha.outcomes.items()} == {
        "ct": {"finding": 1, "no finding": 1, "unknown": 4},
        "mri": {"finding": 1, "unknown": 1},
    }
    assert list(alpha.longer_sides) == [60, 62, 64, 66, 68, 70, 72, 74]
    whole = together([alpha, beta])
    assert (whole.images, whole.outcome("unknown"), len(whole.longer_sides)) == (16, 13, 16)
    assert whole.modalities == {"ct": 14, "mri": 2}


def test_regions_are_the_accepted_ones_that_a_method_may_see(tables):
    (alpha,) = source_statistics(tables, ["alpha"])
    # Of each image three: accepted, truth, rejected. Boxes of x 30 to 50 of 60, y 10 to 20 of 40.
    assert alpha.regions == {"ct": 8}
    assert list(alpha.area_fractions) == [200 / 2400] * 8
    expected = np.zeros((GRID, GRID), dtype=int)
    expected[GRID // 4 : GRID // 2, GRID // 2 : 27] = 8  # 50/60 of 32 is 26.7
    assert np.array_equal(alpha.positions["ct"], expected)


def test_cells_are_counted_where_a_box_covers_them_at_least_in_part():
    cell = 1 / GRID
    boxes = np.array([[0, 0, 1, 1], [0, 0, cell, cell], [1 - cell / 2, 0.5, 1, 0.5 + cell], [0.3, 0.2, 0.4, 0.7]])
    expected = np.ones((GRID, GRID), dtype=int)
    expected[0, 0] += 1
    expected[GRID // 2, GRID - 1] += 1
    # 0.3 and 0.4 of 32 are 9.6 and 12.8; 0.2 and 0.7 are 6.4 and 22.4.
    expected[6:23, 9:13] += 1
    assert np.array_equal(covered(boxes), expected)


def test_words_are_counted_once_an_image():
    assert words_of("A nodule, the Nodule in the image; no x2 cyst") == {"nodule", "cyst"}
    assert words_of("Läsion links; x" + "y" * 30) == {"läsion", "links"} | words_of("x" + "y" * 30)


def test_words_of_many_texts_are_those_of_a_sample(tables):
    row = replace(tables.captions[0], report=None, summary="nodule")
    assert (row.kind, row.source) == ("image", "alpha")
    (alpha,) = source_statistics(replace(tables, captions=[row] * (MAX_TEXTS + 3)), ["alpha"])
    assert (alpha.texts, alpha.left_out, alpha.words) == (MAX_TEXTS, 3, {"nodule": MAX_TEXTS})
    assert "(a sample; 3 more have one)" in pictures([alpha])[-1].caption


def test_titles_captions_and_figures_of_the_pictures(tables):
    images = [replace(row, labels=("nodule",) if n < 4 else ()) for n, row in enumerate(tables.images)]
    one = pictures(source_statistics(replace(tables, images=images), ["alpha"]))
    assert [picture.title for picture in one] == [
        "Distribution", "Findings", "Positions", "Sizes", "Word picture", "Words"
    ]  # fmt: skip
    assert "8 images by modality" in one[0].caption
    assert {"ct 8", "finding 2", "no finding 6", "unknown 0"} <= set(texts_of(one[0]))
    assert {"nodule", "(no finding)", "(unknown)", "2", "6"} <= set(texts_of(one[1]))
    assert "8 accepted regions" in one[2].caption
    assert "of 6 images with a text" in one[5].caption  # the captions of two images have none
    two = pictures(source_statistics(replace(tables, images=images), ["alpha", "beta"]))
    assert [picture.title for picture in two][1] == "Modalities"
    assert {"alpha", "beta"} <= set(texts_of(two[1]))
    assert pictures([]) == []


def test_texts_of_the_data_are_drawn_as_they_are(tables):
    names = ("$\\frac{1}", "$a_b$", "<b>&\"'", "bad\x01\x0bcontrol", "x" * 300, "结节", "a\nb")
    images = [replace(row, labels=names, source="$s_1$" if row.source == "alpha" else "<t>") for row in tables.images]
    moved = replace(
        tables,
        images=images,
        regions=[replace(row, source="$s_1$" if row.source == "alpha" else "<t>") for row in tables.regions],
        captions=[],
    )
    drawn = pictures(source_statistics(moved, ["$s_1$", "<t>"]))
    texts = texts_of(next(picture for picture in drawn if picture.title == "Findings"))
    assert {short(name) for name in names} <= set(texts)
    assert {"$\\frac{1}", "$a_b$", "<b>&\"'", "bad  control", "x" * 21 + "…", "a b", "$s_1$", "<t>"} <= set(texts)
    assert "Word picture" not in [picture.title for picture in drawn]


def test_sources_beyond_the_shown_ones_are_named_and_count_together(tables):
    names = [f"s{n}" for n in range(len(tables.images))]
    owner = {row.image_id: name for row, name in zip(tables.images, names, strict=True)}
    moved = replace(
        tables,
        images=[replace(row, source=owner[row.image_id]) for row in tables.images],
        regions=[replace(row, source=owner[row.image_id]) for row in tables.regions],
        captions=[replace(row, source=owner[row.image_id]) for row in tables.captions],
    )
    drawn = pictures(source_statistics(moved, names))
    assert len(names) == 16
    modalities = next(picture for picture in drawn if picture.title == "Modalities")
    assert set(names[:SHOWN_SOURCES]) <= set(texts_of(modalities))
    assert not set(names[SHOWN_SOURCES:]) & set(texts_of(modalities))
    assert "of 16 images" in modalities.caption
    for name in names[SHOWN_SOURCES:]:
        assert f" {name}" in modalities.caption


def test_an_image_without_regions_and_texts_has_pictures_too(tables):
    bare = replace(tables, images=tables.images[:1], regions=[], captions=[])
    drawn = pictures(source_statistics(bare, ["alpha"]))
    assert [picture.title for picture in drawn] == ["Distribution", "Findings", "Sizes"]
    assert "none" in texts_of(drawn[2])
