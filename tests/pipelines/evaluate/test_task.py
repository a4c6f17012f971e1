"""What all tasks share: scores by source, and the notes."""

from collections.abc import Sequence

from pipelines.evaluate.task import GroupScores, recall_note, score_by_source


def count(indices: Sequence[int]) -> GroupScores:
    return GroupScores(items=len(indices), pool=sum(indices))


def test_items_of_each_source_are_scored_by_themselves() -> None:
    assert score_by_source(["b", "a", "b", "c"], count) == {
        "a": GroupScores(items=1, pool=1),
        "b": GroupScores(items=2, pool=2),
        "c": GroupScores(items=1, pool=3),
    }


def test_sources_with_fewer_items_than_needed_are_left_out() -> None:
    assert list(score_by_source(["b", "a", "b"], count, min_items=2)) == ["b"]


def test_one_source_alone_has_no_scores_by_source() -> None:
    assert score_by_source(["a", "a"], count) == {}


def test_only_a_k_larger_than_the_pool_is_noted() -> None:
    assert recall_note([1, 3], 3, "captions") == []
    assert recall_note([1, 4], 3, "captions") == ["recall@k is left out for k in [4]: the pool holds 3 captions"]
