"""Left and right on the page: the convention of each source, and region captions beside reports, counted by hand."""

from dataclasses import replace

from pipelines.files import write_summary
from pipelines.records import CAPTIONS, SPLIT_IMAGES
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
    assert "alpha frontal 8 image's 39 of 40 votes agree" in text
    assert (
        "beta frontal 8 as captions.modalities says the modality's; 3 of 5 votes agree, too few or too divided" in text
    )
    assert "alpha proposals 3 1 1 75.0 %" in text


def test_without_reports_nothing_is_said_of_sides(workspace):
    workspace.run()
    assert "Left and right" not in workspace.read("index.html")
