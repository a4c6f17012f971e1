"""Properties of the split over random tables, against a slow grouping written another way."""

import hashlib
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from split_workspace import Workspace

from pipelines.records import SPLITS
from pipelines.split.config import Fractions

FRACTIONS = Fractions(train=0.6, validation=0.2, test=0.2)


def row(
    source: str, number: int, look: int, patient: int | None, study: int | None, file: int, split: str | None
) -> dict[str, Any]:
    """A row without a file: `look` decides hash, thumbnail and pixels, so that equal looks are the same picture."""
    sha256 = hashlib.sha256(f"{source} {number}".encode()).hexdigest()
    shown = hashlib.sha256(f"look {look}".encode()).hexdigest()
    return {
        "image_id": sha256[:16],
        "source": source,
        "path": f"{file or f'own {number}'}.nii",
        "frame": number,
        "sha256": sha256,
        "pixel_sha256": hashlib.sha256(f"{sha256 if look % 2 else look}".encode()).hexdigest(),
        "perceptual_hash": shown,
        "thumbnail": np.random.default_rng(look).integers(0, 256, 1024, dtype=np.uint8).tobytes(),
        "width": 64,
        "height": 64,
        "modality": "other",
        "patient": None if patient is None else f"patient {patient}",
        "study": None if study is None else f"patient {study}",
        "split": split,
        "split_conflict": False,
        "rows": 1,
    }


@st.composite
def tables(draw: Callable, source: str, first_look: int = 0) -> list[dict[str, Any]]:
    rows = draw(
        st.lists(
            st.tuples(
                st.integers(first_look, first_look + 30),
                st.one_of(st.none(), st.integers(0, 8)),
                st.one_of(st.none(), st.none(), st.integers(0, 8)),
                st.sampled_from([0, 0, 0, 0, 1, 2, 3]),
                st.sampled_from([None, None, None, *SPLITS]),
            ),
            min_size=1,
            max_size=25,
        )
    )
    return [row(source, number, *values) for number, values in enumerate(rows)]


def closure(rows: list[dict[str, Any]]) -> list[set[str]]:
    """Groups by merging sets until nothing changes."""
    keys = [
        {("look", r["perceptual_hash"]), ("file", r["source"], r["path"])}
        | ({("patient", r["source"], r["patient"])} if r["patient"] else set())
        | ({("study", r["study"])} if r["study"] else set())
        for r in rows
    ]
    groups = [({r["image_id"]}, key) for r, key in zip(rows, keys, strict=True)]
    merged: list[tuple[set, set]] = []
    while groups:
        ids, key = groups.pop()
        touching = [group for group in groups if group[1] & key]
        if touching:
            groups = [group for group in groups if not group[1] & key]
            groups.append((ids.union(*(g[0] for g in touching)), key.union(*(g[1] for g in touching))))
        else:
            merged.append((ids, key))
    return [ids for ids, _ in merged]


def split(sources: dict[str, list[dict[str, Any]]], seed: int) -> tuple[dict[str, tuple[str, str, bool]], dict]:
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        for name, rows in sources.items():
            workspace.ingest(name, rows)
        summary = workspace.split(seed=seed, fractions=FRACTIONS, allow_leaks=list(sources))
        images = workspace.images
        return {i.Index: (i.split, i.group, i.leak) for i in images.itertuples()}, summary


@settings(max_examples=6, deadline=None)
@given(tables("one"), tables("other"), st.integers(0, 5), st.randoms())
def test_groups_hold_together(one: list, other: list, seed: int, random: Any) -> None:
    rows = one + other
    result, summary = split({"one": one, "other": other}, seed)
    assert summary["inputs"] == len(rows) == len(result)
    given_split = {r["image_id"]: r["split"] for r in rows}
    for ids in closure(rows):
        assert len({result[image_id][1] for image_id in ids}) == 1
        published = {given_split[image_id] for image_id in ids} - {None}
        used = {result[image_id][0] for image_id in ids}
        assert used == published if published else len(used) == 1
        assert {result[image_id][2] for image_id in ids} == {len(published) > 1}
        assert all(given_split[image_id] in (None, result[image_id][0]) for image_id in ids)
    assert len({group for _, group, _ in result.values()}) == len(closure(rows))

    shuffled = {"one": random.sample(one, len(one)), "other": random.sample(other, len(other))}
    assert split(shuffled, seed)[0] == result


@settings(max_examples=3, deadline=None)
@given(tables("one"), tables("other", first_look=100), st.integers(0, 5))
def test_another_source_moves_nothing_that_it_does_not_touch(one: list, other: list, seed: int) -> None:
    # A study is one in all sources: a shared one is a touch.
    other = [{**r, "study": r["study"] and f"other {r['study']}"} for r in other]
    alone, _ = split({"one": one}, seed)
    together, _ = split({"one": one, "other": other}, seed)
    assert {image_id: together[image_id] for image_id in alone} == alone
    reversed_order, _ = split({"other": other, "one": one}, seed)
    assert reversed_order == together


@settings(max_examples=4, deadline=None)
@given(tables("one"), st.integers(0, 5))
def test_fractions_are_met_up_to_the_size_of_a_group(rows: list, seed: int) -> None:
    free = [{**r, "split": None} for r in rows]
    result, summary = split({"one": free}, seed)
    largest = max(Counter(group for _, group, _ in result.values()).values())
    for name, share in (("train", 0.6), ("validation", 0.2), ("test", 0.2)):
        # Each of a split's two borders is off by half of a group at most.
        assert abs(summary["images"]["one"][name] - share * len(free)) <= largest + 1e-9
