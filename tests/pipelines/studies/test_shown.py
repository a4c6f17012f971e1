"""Which images a study shows follows from the images alone."""

from typing import Any

from pipelines.evaluate.evaluation_set import EvaluationImage, TruthRegion
from pipelines.studies.shown import POOL, choose


def truth(term: str, caption: str) -> TruthRegion:
    return TruthRegion(
        number=0,
        region_id="r",
        adjective="round",
        term=term,
        position="left",
        caption=caption,
        negatives=(),
        oracle=True,
    )


def shown(number: int, report: str | None, **more: Any) -> EvaluationImage:
    """An image whose key falls as its number rises: stored order and order of image_id differ."""
    values = {"source": "one", "labels": None, "status": "ok", "report": report, "oracle": False} | more
    return EvaluationImage(key=f"{1000 - number:016x}", **values)


def test_the_kinds_come_in_turn_in_the_order_of_image_id() -> None:
    images = [
        shown(0, "report 0", regions=(truth("cyst", "a cyst"),), annotated=1, has_target=True),
        *(
            shown(
                n,
                f"report {n}",
                regions=(truth("mass", f"mass {n}"), truth("cyst", "other")),
                annotated=2,
                has_target=True,
            )
            for n in range(1, 9)
        ),
        shown(9, "report 9", has_target=True),
        shown(10, None),
    ]
    found = choose(images)
    # By image_id the last comes first; the one cyst that is an image's first phrase comes in its turn.
    assert [(phrase.index, phrase.text) for phrase in found.phrases] == [
        (8, "mass 8"), (0, "a cyst"), (7, "mass 7"), (6, "mass 6"), (5, "mass 5"), (4, "mass 4")
    ]  # fmt: skip
    # With a target and an own text: the one without findings in its turn.
    assert (list(found.masks), found.setting) == ([9, 8, 7, 6, 5, 4], "own")
    assert found.masks[9] == "report 9"
    assert list(found.queries) == [9, 8, 7, 6]
    assert list(found.reports) == [9, 8, 7]
    assert len(found.pool) == 10
    assert found.images == {0, 4, 5, 6, 7, 8, 9}


def test_sources_take_turns_and_equal_texts_stand_once() -> None:
    images = [shown(n, "The same." if n % 2 else "the SAME", source="one" if n else "two") for n in range(6)]
    found = choose(images)
    assert list(found.queries) == [5, 0, 4, 3]
    assert found.pool == ["The same."]
    assert found.phrases == []
    assert (found.masks, found.setting) == ({}, None)


def test_no_more_texts_are_ranked_than_a_page_needs() -> None:
    found = choose([shown(n, f"report {n}") for n in range(POOL + 5)])
    assert len(found.pool) == POOL
    assert set(found.queries.values()) <= set(found.pool)
