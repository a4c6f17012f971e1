"""Boxes, overlaps and candidates against values worked out by hand."""

import json
import math

import numpy as np
import pytest

from models.geometry import Box, Mask, box_ious, suppress
from pipelines.masks import decode, largest_ious
from pipelines.proposals.candidates import MeasuredProposal, clip, make_candidate, sort_and_limit, with_segment
from pipelines.proposals.protocols import Proposal, Segment

SQUARE = (2.0, 2.0, 6.0, 6.0)


@pytest.mark.parametrize(
    ("box", "reason"),
    [((math.nan, 0, 5, 5), "box_not_finite"), ((0, 0, math.inf, 5), "box_not_finite"), ((5, 5, 5, 9), "box_outside"),
     ((9, 5, 5, 9), "box_outside"), ((-9, 0, 0, 9), "box_outside"), ((-3, 2, 4, 99), None)],
)  # fmt: skip
def test_clip(box: tuple[float, float, float, float], reason: str | None) -> None:
    clipped, clip_reason = clip(box, 10, 20)
    assert clip_reason == reason
    assert 0 <= clipped[0] <= clipped[2] <= 10
    assert 0 <= clipped[1] <= clipped[3] <= 20
    if reason is None:
        assert clipped == (0, 2, 4, 20)


def test_box_ious() -> None:
    ious = box_ious([SQUARE, (0, 0, 0, 0)], [SQUARE, (4, 2, 8, 6), (6, 6, 9, 9), (0, 0, 0, 0)])
    assert ious == pytest.approx(np.array([[1, 8 / 24, 0, 0], [0, 0, 0, 0]]))
    assert box_ious([], [SQUARE]).shape == (0, 1)


def test_suppress_keeps_the_best_and_breaks_ties_by_the_box() -> None:
    boxes = [(0, 0, 4, 4), (0, 0, 4, 5), (10, 0, 14, 4), (0, 0, 4, 3)]
    assert suppress(boxes, [0.5, 0.9, 0.9, 0.1], 0.7) == [1, 2, 3]  # the first has 16/20 with the best
    assert suppress(boxes, [0.5, 0.9, 0.9, 0.1], 0.8) == [1, 2, 0, 3]
    assert suppress(boxes[::-1], [0.9] * 4, 0.1) == [0, 1]
    assert suppress([], [], 0.5) == []


def region(box: Box, mask: Mask | None = None) -> MeasuredProposal:
    proposal = Proposal(box=box, score=0.5, mask=mask)
    return make_candidate(proposal, 10, 8)


def test_largest_ious_compare_masks_where_both_have_one_else_boxes() -> None:
    half, other = np.zeros((8, 10), dtype=bool), np.zeros((8, 10), dtype=bool)
    half[2:6, 2:4] = True  # the left half of the square
    other[2:6, 3:6] = True
    candidates = [region(SQUARE, half), region(SQUARE), region((0, 0, 1, 1))]
    assert largest_ious(candidates, [region(SQUARE, other)], 8, 10) == pytest.approx([4 / 16, 1, 0])
    assert largest_ious(candidates, [region((2, 2, 6, 4))], 8, 10) == pytest.approx([0.5, 0.5, 0])
    assert largest_ious(candidates, [region((7, 7, 8, 8), half), region((2, 2, 6, 4))], 8, 10)[0] == 1
    assert largest_ious(candidates, [], 8, 10).tolist() == [0, 0, 0]
    assert largest_ious([], [region(SQUARE, half)], 8, 10).shape == (0,)


def test_mask_of_a_proposal_is_measured() -> None:
    mask = np.zeros((8, 10), dtype=bool)
    mask[2:6, 2:4] = True
    candidate = make_candidate(Proposal(box=SQUARE, score=0.5, mask=mask), 10, 8)
    assert candidate.mask is not None
    assert np.array_equal(decode(candidate.mask, 8, 10), mask)
    assert (candidate.area, candidate.area_fraction, candidate.box_agreement) == (8, 0.1, 0.5)
    with pytest.raises(ValueError, match="a mask of 10 x 8 pixels for an image of 8 x 10"):
        make_candidate(Proposal(box=SQUARE, score=0.5, mask=mask), 8, 10)


def test_empty_mask_leaves_the_box() -> None:
    empty = Segment(mask=np.zeros((8, 10), dtype=bool), quality=math.nan, stability=1.5)
    candidate = with_segment(make_candidate(Proposal(box=SQUARE, score=0.5), 10, 8), empty, "threshold", 10, 8)
    assert (candidate.mask, candidate.area, candidate.segmenter) == (None, 16, "threshold")
    assert (candidate.mask_quality, candidate.mask_stability, candidate.box_agreement) == (0, 1, None)


def test_best_candidates_first_and_unusable_ones_do_not_count() -> None:
    scores = (0.2, 0.9, math.nan, 0.5, 0.7)
    candidates = [make_candidate(Proposal(box=SQUARE, score=score), 10, 8) for score in scores]
    assert [(candidate.score, candidate.reason) for candidate in sort_and_limit(candidates, 2)] == [
        (0.9, None),
        (0.7, None),
        (0.5, "beyond_max_proposals"),
        (0.2, "beyond_max_proposals"),
        (0, "score_not_finite"),
    ]


def test_scores_outside_0_to_1_are_cut() -> None:
    scores = [make_candidate(Proposal(box=SQUARE, score=score), 10, 8).score for score in (-1, 7)]
    assert scores == [0, 1]


def test_a_candidate_comes_back_from_json_as_it_was() -> None:
    mask = np.zeros((8, 10), dtype=bool)
    mask[2:6, 2:4] = True
    candidate = region((1.5, 2.0, 6.0, 6.0), mask)
    assert MeasuredProposal.from_json(json.loads(json.dumps(candidate.to_json()))) == candidate
