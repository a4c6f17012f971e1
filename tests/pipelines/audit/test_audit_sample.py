"""Which regions and captions are drawn, how many of each stratum, and what a change of an item does."""

from collections import Counter
from dataclasses import replace

import pytest

from pipelines.audit.sample import Item, allocate, draw
from tests.pipelines.audit.small_audit import SETTINGS, caption, image, region


def names(sample, what="regions"):
    return [item.name for stratum in sample[what] for item in stratum.items]


@pytest.mark.parametrize(
    ("populations", "size", "expected"),
    [
        # Of 7, 4.9, 1.4 and 0.7: the whole parts are 4, 1 and 0, and the largest remainders 0.9 and 0.7 get the rest.
        ({"a": 70, "b": 20, "c": 10}, 7, {"a": 5, "b": 1, "c": 1}),
        ({"a": 3, "b": 2}, 10, {"a": 3, "b": 2}),
        ({"b": 1, "a": 1}, 1, {"a": 1, "b": 0}),
        ({}, 5, {}),
    ],
)
def test_a_sample_is_dealt_out_in_proportion(populations, size, expected):
    assert allocate(populations, size) == expected


def test_small_strata_get_more_than_their_share():
    images = [image(n, "alpha" if n < 90 else "beta", "ct" if n < 95 else "mri") for n in range(97)]
    sample = draw(images, [region(one) for one in images], [], SETTINGS)["regions"]
    # Of 10: 9.28, 0.52 and 0.21, so 9, 1 and 0; at least 3 of each, but there are only 2 of the last.
    assert [(one.name, one.population, len(one.proportional), len(one.further)) for one in sample] == [
        ("alpha, ct", 90, 9, 0),
        ("beta, ct", 5, 1, 2),
        ("beta, mri", 2, 0, 2),
    ]


def test_only_what_the_pipeline_made_is_drawn():
    one, other = image(1), image(2, split="test")
    regions = [
        region(one, 0),
        region(one, 1, proposer="annotations"),
        region(one, 2, status="rejected", reason="too_small"),
        region(other, 0, role="truth", proposer="annotations"),
        region(one, 3, proposer="review"),
    ]
    captions = [
        caption(one),
        caption(regions[1]),
        caption(other, oracle=True),
        caption(regions[0], status="rejected", reason="wrong_schema"),
        caption(regions[3], status="no_finding", region_caption=None),
    ]
    sample = draw([one, other], regions, captions, SETTINGS)
    assert names(sample) == ["region:0000000000000001-0"]
    assert sorted(names(sample, "captions")) == ["caption:0000000000000001", "caption:0000000000000001-1"]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ({"summary": "S", "report": "R", "region_caption": "No Finding"}, "S"),
        ({"summary": None, "report": "R"}, "R"),
        ({"summary": None, "region_caption": "No Finding", "status": "no_finding"}, "No Finding"),
    ],
)
def test_of_an_image_the_summary_is_judged_else_the_report(texts, expected):
    sample = draw([image(1)], [], [caption(image(1), **texts)], SETTINGS)
    assert [item.text for item in sample["captions"][0].items] == [expected]


def test_every_item_is_drawn_equally_often():
    images = [image(n) for n in range(20)]
    regions = [region(one) for one in images]
    drawn = Counter()
    for seed in range(400):
        drawn.update(names(draw(images, regions, [], replace(SETTINGS, seed=seed, regions=5))))
    # Binomial: 400 draws of probability 1/4 have mean 100 and standard deviation 8.66.
    assert len(drawn) == 20
    assert all(100 - 4 * 8.66 < count < 100 + 4 * 8.66 for count in drawn.values())


def test_a_sample_keeps_its_items_where_others_come_and_go():
    images = [image(n) for n in range(40)]
    regions = [region(one) for one in images]
    before = names(draw(images, regions, [], SETTINGS))
    gone = before[4]
    after = names(draw(images, [row for row in regions if f"region:{row.region_id}" != gone], [], SETTINGS))
    assert after[:-1] == [name for name in before if name != gone]
    larger = names(draw(images, regions, [], replace(SETTINGS, regions=15)))
    assert larger[:10] == before
    assert names(draw(list(reversed(images)), list(reversed(regions)), [], SETTINGS)) == before


def test_the_digest_is_of_what_is_shown_and_of_nothing_else():
    def shown(picture, outlined, text):
        return Item(what="captions", image=picture, region=outlined, text=text).shown

    picture = image(1)
    outlined = region(picture)
    digest = shown(picture, outlined, "T")
    changed = [
        shown(replace(picture, pixel_sha256="e" * 64), outlined, "T"),
        shown(picture, replace(outlined, x1=31.0), "T"),
        shown(picture, replace(outlined, mask="abc"), "T"),
        shown(picture, outlined, "U"),
        shown(picture, None, "T"),
    ]
    assert digest not in changed
    assert len(set(changed)) == 5
    # What is not on the page: where the file lies, labels, scores.
    unseen = replace(outlined, label="cyst", score=0.1, probability=None, certified=True)
    assert shown(replace(picture, path="elsewhere", patient="p"), unseen, "T") == digest
