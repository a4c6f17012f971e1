"""Whose left and right the reports mean: declared, voted, or left to the convention."""

import logging
from typing import Any

import numpy as np
import pytest
from split_workspace import Workspace, image_row, picture, png

from pipelines.masks import encode
from pipelines.records import AnnotationRow, SplitImageRow
from pipelines.split.sides import SideVotes

WIDTH, HEIGHT = 20, 10
ZERO = "0" * 64


def image(number: int, report: str | None, **columns: Any) -> SplitImageRow:
    values = {"source": "toy", "view": "frontal", "split": "train", "modality": "radiograph"}
    image_id = f"{number:016x}"
    return SplitImageRow(
        image_id=image_id,
        path="x.png",
        sha256=ZERO,
        pixel_sha256=ZERO,
        perceptual_hash=ZERO,
        width=WIDTH,
        height=HEIGHT,
        split_conflict=False,
        report=report,
        rows=1,
        group=image_id,
        leak=False,
        **values | columns,
    )


def outlined(number: int, *columns: slice, n: int = 0, **changes: Any) -> AnnotationRow:
    """An annotated mask that fills some columns of the image."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    for part in columns:
        mask[2:8, part] = True
    return AnnotationRow(image_id=f"{number:016x}", source="toy", n=n, mask=encode(mask), **changes)


def boxed(number: int, x0: float, x1: float) -> AnnotationRow:
    return AnnotationRow(image_id=f"{number:016x}", source="toy", n=0, x0=x0, y0=1.0, x1=x1, y1=5.0)


LEFT, RIGHT = slice(2, 6), slice(13, 18)


def decided(
    images: list[SplitImageRow], annotations: list[AnnotationRow]
) -> tuple[list[str | None], dict[str, dict[str, Any]]]:
    """The sides of each image after all training images have voted, and the summary."""
    votes = SideVotes()
    for row in images:
        if row.split == "train":
            votes.add(row, [annotation for annotation in annotations if annotation.image_id == row.image_id])
    return [votes.decide(row) for row in images], votes.told()


def told(images: list[SplitImageRow], annotations: list[AnnotationRow], view: str = "frontal") -> dict[str, Any]:
    """The summary of one view, after a look that the rows say the same."""
    sides, summary = decided(images, annotations)
    of_view = {side for row, side in zip(images, sides, strict=True) if (row.view or "unknown") == view}
    assert of_view == {summary["toy"][view]["sides"]}
    return summary["toy"][view]


@pytest.mark.parametrize(
    ("same", "other", "sides"),
    # At least 20 votes, of which 80 % agree.
    [(20, 0, "image"), (0, 20, "patient"), (19, 0, None), (16, 4, "image"), (4, 16, "patient"), (23, 7, None)],
)
def test_enough_votes_that_agree_decide(same: int, other: int, sides: str | None) -> None:
    images = [image(n, "A left nodule.") for n in range(same + other)]
    annotations = [outlined(n, LEFT if n < same else RIGHT) for n in range(same + other)]
    expected = {"sides": sides, "declared": False, "votes": {"patient": other, "image": same}}
    assert told(images, annotations) == expected


def test_votes_come_from_training_reports_of_one_side_beside_findings_in_one_half() -> None:
    images = [
        image(0, "Right lung.", labels=("cyst",)),
        image(1, "Left lung."),
        image(2, "Left lung."),
        image(3, "Right lung."),
        image(4, "Left lung, and right lung."),
        image(5, None),
        image(6, "Left lung."),
        image(7, "Left lung.", split="validation"),
        image(8, "Left lung.", split="test"),
        image(9, "Left lung."),
        image(10, "Left lung."),
        image(11, "Left lung."),
    ]
    annotations = [
        # A vote for the image's sides: the region on the left is none of the labels, so that it is no finding.
        outlined(0, RIGHT, label="cyst"),
        outlined(0, LEFT, n=1, label="heart"),
        # For the patient's: it crosses the middle, but its centroid is on the right; two components on one side.
        outlined(1, slice(8, 18)),
        outlined(2, slice(11, 13), slice(15, 18)),
        # For the image's, by a box alone.
        boxed(3, 9.0, 18.0),
        # None: no side or two in the report, findings in both halves, held out, or without an annotation (10).
        boxed(11, 0.0, 20.0),
        outlined(4, LEFT),
        outlined(5, LEFT),
        outlined(6, LEFT),
        outlined(6, RIGHT, n=1),
        outlined(7, LEFT),
        outlined(8, LEFT),
        outlined(9, LEFT, RIGHT),
    ]
    assert told(images, annotations)["votes"] == {"patient": 2, "image": 2}


def test_every_source_and_view_votes_for_itself() -> None:
    views = ("frontal", None, "lateral")
    images = [image(n, "A left nodule.", view=views[n % 3]) for n in range(60)]
    annotations = [outlined(n, RIGHT if n % 3 == 0 else LEFT) for n in range(59)]
    _, summary = decided([*images, image(60, "A left nodule.", source="other")], annotations)
    assert {view: found["sides"] for view, found in summary["toy"].items()} == {
        "frontal": "patient",
        "unknown": "image",
        "lateral": None,  # 19 votes
    }
    assert summary["other"]["frontal"] == {"sides": None, "declared": False, "votes": {"patient": 0, "image": 0}}


def test_what_a_source_declares_counts_and_votes_against_it_are_told(caplog: pytest.LogCaptureFixture) -> None:
    images = [image(n, "A left nodule.", sides="patient") for n in range(20)]
    side_view = [image(20, "A left nodule.", sides="patient", view="lateral")]
    annotations = [outlined(n, RIGHT) for n in range(20)]
    with caplog.at_level(logging.WARNING):
        sides, summary = decided([*images, *side_view], annotations)
    # Seen from the side, nothing is on the patient's left of the picture.
    assert sides == ["patient"] * 20 + [None]
    assert summary["toy"]["frontal"] == {"sides": "patient", "declared": True, "votes": {"patient": 20, "image": 0}}
    assert not caplog.messages
    with caplog.at_level(logging.WARNING):
        assert told(images, [outlined(n, LEFT) for n in range(20)])["sides"] == "patient"
    (message,) = caplog.messages
    assert "declared as the patient's, but its training reports use the image's" in message


def test_the_stage_writes_the_column_and_counts_the_votes(workspace: Workspace) -> None:
    rows = [
        image_row("web", png(picture(n)), view="frontal", split="train", report="Opacity, right lung.")
        for n in range(20)
    ]
    mask = np.zeros((96, 96), bool)
    mask[30:50, 60:80] = True
    regions = [{"image_id": row["image_id"], "source": "web", "n": 0, "mask": encode(mask)} for row in rows]
    held_out = image_row("web", png(picture(20)), view="frontal", split="test", report="Opacity, left lung.")
    workspace.ingest("web", [*rows, held_out], regions)
    workspace.ingest("declared", [image_row("declared", png(picture(30)), sides="patient")])
    summary = workspace.split()
    assert summary["sides"] == {
        "declared": {"unknown": {"sides": "patient", "declared": True, "votes": {"patient": 0, "image": 0}}},
        "web": {"frontal": {"sides": "image", "declared": False, "votes": {"patient": 0, "image": 20}}},
    }
    images = workspace.images
    assert set(images.loc[images["source"] == "web", "sides"]) == {"image"}
    assert images.loc[images["source"] == "declared", "sides"].tolist() == ["patient"]
