"""What a method should segment: the function by hand, and `target.png` in the shards."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.data.format import META, ImageMeta, from_json
from models.data.shards import ShardSet
from models.geometry import fit_mask
from pipelines.masks import decode, encode
from pipelines.records import REGIONS, SPLIT_IMAGES
from pipelines.shards.target import target_of
from tests.pipelines.shards.test_shards_stage import members

HEIGHT, WIDTH = 6, 9


def image(labels: list[str] | None) -> dict[str, Any]:
    return {"labels": labels, "height": HEIGHT, "width": WIDTH}


def area(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[y0:y1, x0:x1] = True
    return mask


def region(mask: np.ndarray | None, label: str | None = "nodule", **changes: Any) -> dict[str, Any]:
    return {
        "mask": None if mask is None else encode(mask),
        "label": label,
        "review": None,
        "segmenter": None,
        **changes,
    }


ONE, TWO = area(0, 0, 3, 2), area(2, 1, 9, 6)


def test_all_findings_together_whatever_became_of_them() -> None:
    drawn = [region(ONE, status="accepted"), region(TWO, status="rejected", reason="too_small")]
    found = target_of(image(["nodule"]), drawn)
    assert found is not None
    assert (found == (ONE | TWO)).all()


def test_no_finding_is_an_empty_target_and_unknown_is_none() -> None:
    found = target_of(image([]), [])
    assert found is not None
    assert found.shape == (HEIGHT, WIDTH)
    assert not found.any()
    assert target_of(image(None), []) is None
    # Somebody named a finding and drew nothing.
    assert target_of(image(["nodule"]), []) is None


@pytest.mark.parametrize("other", [region(None), region(None, label=None), region(TWO, segmenter="threshold")])
def test_a_finding_with_only_a_box_leaves_no_target(other: dict[str, Any]) -> None:
    assert target_of(image(["nodule"]), [region(ONE), other]) is None


def test_anatomy_and_what_a_person_rejected_do_not_count() -> None:
    drawn = [region(ONE), region(TWO, label="left lung"), region(None, label="heart"), region(TWO, review="rejected")]
    found = target_of(image(["nodule"]), drawn)
    assert found is not None
    assert (found == ONE).all()
    # Anatomy on an image without a finding: the target is empty, not unknown.
    found = target_of(image([]), drawn[1:])
    assert found is not None
    assert not found.any()
    # Where all that was drawn was rejected, nobody says any more what is there.
    assert target_of(image(["nodule"]), drawn[3:]) is None


def test_without_labels_or_without_a_name_everything_drawn_counts() -> None:
    for labels, label in ((None, "left lung"), (["nodule"], None)):
        found = target_of(image(labels), [region(ONE), region(TWO, label=label)])
        assert found is not None
        assert (found == (ONE | TWO)).all()
    kept = target_of(image(None), [region(ONE, review="accepted")])
    assert kept is not None
    assert (kept == ONE).all()


def test_the_shards_hold_the_targets_in_the_geometry_of_the_pictures(workspace):
    """Of the workspace: regions 0 and 7 have a mask, the accepted region 1 of every third image only a box."""
    table = SPLIT_IMAGES.read(workspace.images)
    empty, unknown = table["image_id"][0], table["image_id"][3]
    rows = table.to_dict("records")
    for row in rows:
        row["labels"] = {empty: [], unknown: None}.get(row["image_id"], ["nodule"])
    SPLIT_IMAGES.write(SPLIT_IMAGES.frame(rows), workspace.images)
    regions = REGIONS.read(workspace.regions)
    # A proposer's region is no target, and neither image 0 nor image 3 has a region that anybody drew.
    regions = regions[~regions["image_id"].isin([empty, unknown])]
    proposed = {**regions.iloc[0].to_dict(), "image_id": unknown, "region_id": f"{unknown}-0", "n": 0}
    mask = np.zeros((table["height"][3], table["width"][3]), bool)
    mask[10:20, 5:25] = True
    proposed |= {"source": table["source"][3], "proposer": "saliency", "mask": encode(mask)}
    REGIONS.write(REGIONS.frame([*regions.to_dict("records"), proposed]), workspace.regions)
    workspace.run_images()
    workspace.write_captions("round")
    workspace.run_captions()
    found = members(workspace.image_shards)
    boxed = set(regions["image_id"][regions["mask"].isna()])
    expected = set(table["image_id"]) - boxed - {unknown}
    assert boxed
    for row in rows:
        stored = Image.open(io.BytesIO(found[f"{row['image_id']}.target.png"]))
        meta = from_json(ImageMeta, found[f"{row['image_id']}.{META}"], "meta")
        assert meta.has_target == (row["image_id"] in expected)
        if not meta.has_target:
            assert (stored.mode, stored.size, np.asarray(stored).any()) == ("L", (32, 32), False)
            continue
        whole = np.zeros((row["height"], row["width"]), bool)
        for code in regions["mask"][regions["image_id"] == row["image_id"]]:
            whole |= decode(code, row["height"], row["width"])
        assert stored.mode == "L"
        assert (np.asarray(stored) == np.asarray(fit_mask(whole, 32))).all()
        assert np.asarray(stored).any() == (row["image_id"] != empty)
    test = ShardSet(workspace.image_shards, workspace.caption_shards, "test")
    for sample in test.samples():
        stored = Image.open(io.BytesIO(found[f"{sample.key}.target.png"]))
        assert (sample.target == (np.asarray(stored) > 0)).all()
    assert 0 < sum(sample.meta.has_target for sample in test.samples(with_image=False)) < len(test)
