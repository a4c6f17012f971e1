"""The texts that each image is segmented with."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.text import normalise
from pipelines.evaluate.evaluation_set import EvaluationImage
from pipelines.evaluate.segmentation.texts import shuffled, texts_by_setting, unchanged_texts


def image(
    report: str | None, *, oracle: bool = False, target: bool = True, truth: str = "", source: str = "a"
) -> EvaluationImage:
    return EvaluationImage("k", source, None, "ok", report, oracle, has_target=target, truth_text=truth)


def test_every_setting_has_the_images_with_such_a_text() -> None:
    images = [
        image("Left.", truth="spot left"),
        image("Right.", source="b"),
        image("Area of 3 percent, left.", oracle=True, truth="spot left"),
        image(None, truth="spot right"),
        image(None),
        image(" . "),
        image("Left.", target=False),
        image("Both.", source="b"),
    ]
    texts = texts_by_setting(images, 0)
    assert texts["own"] == {0: "Left.", 1: "Right.", 7: "Both."}
    # Source a has one text only.
    assert texts["shuffled"] == {1: "Both.", 7: "Right."}
    assert texts["empty"] == dict.fromkeys((0, 1, 2, 3, 4, 5, 7), "")
    assert texts["mask_derived"] == {2: "spot left", 3: "spot right"}
    assert [list(by_index) for by_index in texts.values()] == [sorted(by_index) for by_index in texts.values()]


@given(
    st.lists(st.tuples(st.sampled_from("pq"), st.sampled_from(("x", "X.", "y", "z"))), max_size=14), st.integers(0, 9)
)
def test_texts_are_exchanged_within_the_source_and_as_few_as_possible_are_unchanged(rows: list, seed: int) -> None:
    texts = {3 * n: text for n, (_, text) in enumerate(rows)}
    sources = {3 * n: source for n, (source, _) in enumerate(rows)}
    exchanged = shuffled(texts, sources, seed)
    unavoidable = 0
    for source in "pq":
        indices = [index for index in texts if sources[index] == source]
        largest = max(Counter(normalise(texts[index]) for index in indices).values(), default=0)
        if largest == len(indices):
            assert not exchanged.keys() & set(indices)
            continue
        assert Counter(exchanged[index] for index in indices) == Counter(texts[index] for index in indices)
        # The largest group can take no more texts than the others have.
        unavoidable += max(0, 2 * largest - len(indices))
    assert unchanged_texts(texts, exchanged) == unavoidable


def test_the_exchange_follows_the_seed() -> None:
    texts = {n: f"text {n}" for n in range(9)}
    sources = dict.fromkeys(texts, "a")
    first, again, other = (shuffled(texts, sources, seed) for seed in (0, 0, 1))
    assert first == again != other
    assert unchanged_texts(texts, first) == unchanged_texts(texts, other) == 0


@pytest.mark.parametrize("rows", [{}, {0: "one"}])
def test_fewer_than_two_texts_are_not_exchanged(rows: dict) -> None:
    assert shuffled(rows, dict.fromkeys(rows, "a"), 0) == {}
