"""With which texts each image is segmented."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.text import normalise
from pipelines.evaluate.evaluation_set import Item
from pipelines.evaluate.segmentation.texts import kept, shuffled, texts_of


def item(report: str | None, *, oracle: bool = False, target: bool = True, truth: str = "", source: str = "a") -> Item:
    return Item("k", source, None, "ok", report, oracle, has_target=target, truth_text=truth)


def test_every_setting_takes_the_images_that_it_can() -> None:
    items = [
        item("Left.", truth="spot left"),
        item("Right.", source="b"),
        item("Area of 3 percent, left.", oracle=True, truth="spot left"),
        item(None, truth="spot right"),
        item(None),
        item(" . "),
        item("Left.", target=False),
        item("Both.", source="b"),
    ]
    found = texts_of(items, 0)
    assert found["given"] == {0: "Left.", 1: "Right.", 7: "Both."}
    # Source a has one text only.
    assert found["shuffled"] == {1: "Both.", 7: "Right."}
    assert found["none"] == dict.fromkeys((0, 1, 2, 3, 4, 5, 7), "")
    assert found["from_mask"] == {2: "spot left", 3: "spot right"}
    assert [list(texts) for texts in found.values()] == [sorted(texts) for texts in found.values()]


@given(
    st.lists(st.tuples(st.sampled_from("pq"), st.sampled_from(("x", "X.", "y", "z"))), max_size=14), st.integers(0, 9)
)
def test_texts_are_exchanged_within_the_source_and_no_more_are_kept_than_must_be(rows: list, seed: int) -> None:
    texts = {3 * n: text for n, (_, text) in enumerate(rows)}
    sources = {3 * n: source for n, (source, _) in enumerate(rows)}
    found = shuffled(texts, sources, seed)
    must = 0
    for source in "pq":
        mine = [place for place in texts if sources[place] == source]
        largest = max(Counter(normalise(texts[place]) for place in mine).values(), default=0)
        if largest == len(mine):
            assert not found.keys() & set(mine)
            continue
        assert Counter(found[place] for place in mine) == Counter(texts[place] for place in mine)
        # The largest group can take no more texts than the others have.
        must += max(0, 2 * largest - len(mine))
    assert kept(texts, found) == must


def test_the_exchange_follows_the_seed() -> None:
    texts = {n: f"text {n}" for n in range(9)}
    sources = dict.fromkeys(texts, "a")
    first, again, other = (shuffled(texts, sources, seed) for seed in (0, 0, 1))
    assert first == again != other
    assert kept(texts, first) == kept(texts, other) == 0


@pytest.mark.parametrize("rows", [{}, {0: "one"}])
def test_nothing_to_exchange(rows: dict) -> None:
    assert shuffled(rows, dict.fromkeys(rows, "a"), 0) == {}
