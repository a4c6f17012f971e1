"""What a method should segment: the function by hand, and `target.png` in the shards."""

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.data.format import META, ImageMeta, from_json
from models.data.shards import ShardSet
from models.geometry import fit_mask
from pipelines.masks import decode, encode
from pipelines.records import REGIONS, SPLIT_IMAGES, RegionRow, SplitImageRow
from pipelines.shards.target import segmentation_target
from tests.pipelines.shards.conftest import region_row, split_image_row
from tests.pipelines.shards.test_shards_stage import members
from tests.rows import by_image

HEIGHT, WIDTH = 6, 9


def image(labels: tuple[str, ...] | None) -> SplitImageRow:
    return replace(split_image_row("0" * 16, "one", "a.png", WIDTH, HEIGHT, "train"), labels=labels)


def area(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[y0:y1, x0:x1] = True
    return mask


ONE, TWO = area(0, 0, 3, 2), area(2, 1, 9, 6)


def region(mask: np.ndarray | None, label: str | None = "nodule", **changes: Any) -> RegionRow:
    outline, code = (ONE, None) if mask is None else (mask, encode(mask))
    return region_row("0" * 16, "one", 0, "input", outline, label=label, mask=code, **changes)


def test_all_findings_together_whatever_became_of_them() -> None:
    drawn = [region(ONE, status="accepted"), region(TWO, status="rejected", reason="too_small")]
    found = segmentation_target(image(("nodule",)), drawn)
    assert found is not None
    assert (found == (ONE | TWO)).all()


def test_no_finding_is_an_empty_target_and_unknown_is_none() -> None:
    found = segmentation_target(image(()), [])
    assert found is not None
    assert found.shape == (HEIGHT, WIDTH)
    assert not found.any()
    assert segmentation_target(image(None), []) is None
    # Somebody named a finding and drew nothing.
    assert segmentation_target(image(("nodule",)), []) is None


@pytest.mark.parametrize("other", [region(None), region(None, label=None), region(TWO, segmenter="threshold")])
def test_a_finding_with_only_a_box_leaves_no_target(other: RegionRow) -> None:
    assert segmentation_target(image(("nodule",)), [region(ONE), other]) is None


def test_anatomy_and_what_a_person_rejected_do_not_count() -> None:
    drawn = [region(ONE), region(TWO, label="left lung"), region(None, label="heart"), region(TWO, review="rejected")]
    found = segmentation_target(image(("nodule",)), drawn)
    assert found is not None
    assert (found == ONE).all()
    # Anatomy on an image without a finding: the target is empty, not unknown.
    found = segmentation_target(image(()), drawn[1:])
    assert found is not None
    assert not found.any()
    # Where all that was drawn was rejected, nobody says any more what is there.
    assert segmentation_target(image(("nodule",)), drawn[3:]) is None


def test_without_labels_or_without_a_name_everything_drawn_counts() -> None:
    for labels, label in ((None, "left lung"), (("nodule",), None)):
        found = segmentation_target(image(labels), [region(ONE), region(TWO, label=label)])
        assert found is not None
        assert (found == (ONE | TWO)).all()
    kept = segmentation_target(image(None), [region(ONE, review="accepted")])
    assert kept is not None
    assert (kept == ONE).all()


def test_the_shards_hold_the_targets_in_the_geometry_of_the_pictures(workspace):
    """Of the workspace: regions 0 and 7 have a mask, the accepted region 1 of every third image only a box."""
    rows = SPLIT_IMAGES.read(workspace.images)
    empty, unknown = rows[0], rows[3]
    labels = {empty.image_id: (), unknown.image_id: None}
    rows = [replace(row, labels=labels.get(row.image_id, ("nodule",))) for row in rows]
    SPLIT_IMAGES.write(workspace.images, rows)
    # A proposer's region is no target, and neither image 0 nor image 3 has a region that anybody annotated.
    regions = [region for region in REGIONS.read(workspace.regions) if region.image_id not in labels]
    mask = np.zeros((unknown.height, unknown.width), bool)
    mask[10:20, 5:25] = True
    proposed = region_row(unknown.image_id, unknown.source, 0, "input", mask, proposer="saliency")
    REGIONS.write(workspace.regions, by_image([*regions, proposed]))
    workspace.run_images()
    workspace.write_captions("round")
    workspace.run_captions()
    found = members(workspace.image_shards)
    boxed = {region.image_id for region in regions if region.mask is None}
    expected = {row.image_id for row in rows} - boxed - {unknown.image_id}
    assert boxed
    for row in rows:
        stored = Image.open(io.BytesIO(found[f"{row.image_id}.target.png"]))
        meta = from_json(ImageMeta, found[f"{row.image_id}.{META}"], "meta")
        assert meta.has_target == (row.image_id in expected)
        if not meta.has_target:
            assert (stored.mode, stored.size, np.asarray(stored).any()) == ("L", (32, 32), False)
            continue
        whole = np.zeros((row.height, row.width), bool)
        for region in regions:
            if region.image_id == row.image_id:
                whole |= decode(region.mask, row.height, row.width)
        assert stored.mode == "L"
        assert (np.asarray(stored) == np.asarray(fit_mask(whole, 32))).all()
        assert np.asarray(stored).any() == (row.image_id != empty.image_id)
    test = ShardSet(workspace.image_shards, workspace.caption_shards, "test")
    for sample in test.samples():
        stored = Image.open(io.BytesIO(found[f"{sample.key}.target.png"]))
        assert (sample.target == (np.asarray(stored) > 0)).all()
    assert 0 < sum(sample.meta.has_target for sample in test.samples(with_image=False)) < len(test)
