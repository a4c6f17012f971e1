"""Left and right on the page: the convention of each source, and region captions beside reports, counted by hand."""

from dataclasses import replace

import pytest

from pipelines.files import write_summary
from pipelines.records import CAPTIONS, SPLIT_IMAGES
from pipelines.report.inputs import Tables
from pipelines.report.sides import sides_facts
from tests.pipelines.report.test_report_stage import Page


def test_conventions_and_captions_that_name_the_other_side_are_shown(workspace):
    data = workspace.root / "data"
    images = SPLIT_IMAGES.read(data / "split/images.parquet")
    SPLIT_IMAGES.write(
        data / "split/images.parquet",
        [
            replace(row, report="Left lung.", view="frontal", sides="image" if row.source == "alpha" else None)
            for row in images
        ],
    )
    votes = {"alpha": {"patient": 1, "image": 39}, "beta": {"patient": 2, "image": 3}}
    sides = {
        source: {"frontal": {"sides": "image" if source == "alpha" else None, "declared": False, "votes": count}}
        for source, count in votes.items()
    }
    zero = dict.fromkeys(("inputs", "ok", "rejected", "failed", "duplicates"), 0)
    timings = {"seconds": 0.0, "items_per_second": 0.0, "peak_memory_mb": 0.0}
    write_summary(data / "summaries/split.json", {"stage": "split", **zero, "reasons": {}, **timings, "sides": sides})
    captions = CAPTIONS.read(data / "captions/captions.parquet")
    marks = iter(["same", "same", "same", "opposite", "center"])
    CAPTIONS.write(
        data / "captions/captions.parquet",
        [
            replace(row, report_side=next(marks, None)) if (row.kind, row.source) == ("region", "alpha") else row
            for row in captions
        ],
    )
    workspace.run()
    text = Page(workspace.read("index.html")).text
    assert "alpha frontal 8 the image's 39 of 40 votes agree" in text
    convention = "as captions.modalities says the modality's convention; votes: patient 2, image 3"
    assert f"beta frontal 8 {convention}" in text
    assert "alpha proposals 3 1 1 75.0 %" in text


@pytest.mark.parametrize(
    ("votes", "reason"),
    [
        ({"patient": 38, "image": 2}, "declared by the source; 2 of 40 votes agree"),
        ({"patient": 0, "image": 0}, "declared by the source; no votes"),
    ],
)
def test_votes_against_a_declaration_are_not_counted_for_it(workspace, votes, reason):
    images = SPLIT_IMAGES.read(workspace.root / "data/split/images.parquet")
    images = [replace(row, sides="image") for row in images if row.source == "alpha"]
    tables = Tables(images=images, questions=[], near_duplicates=[], regions=[], captions=[], rejected=[])
    told = {"alpha": {"unknown": {"sides": "image", "declared": True, "votes": votes}}}
    (row,) = sides_facts(tables, [{"sides": told}]).conventions
    assert (row.images, row.sides, row.reason) == (8, "image", reason)


def test_without_reports_nothing_is_said_of_sides(workspace):
    workspace.run()
    assert "Left and right" not in workspace.read("index.html")
