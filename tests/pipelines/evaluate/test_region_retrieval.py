"""Region to caption, and the choice of the adjective: by hand, against a slow count, and on real shards."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.config import parse
from pipelines.errors import UserError
from pipelines.evaluate.config import EvaluateConfig
from pipelines.evaluate.evaluation_set import TruthRegion
from pipelines.evaluate.stage import evaluate
from pipelines.evaluate.tasks.region_retrieval import chooses_first, frequent_adjective
from pipelines.evaluate.tasks.retrieval import ranks
from tests.pipelines.evaluate.small_world import (
    WORDS,
    Collapsed,
    ImagesOnly,
    Matcher,
    image,
    region,
    tokenizer_of,
    write_shards,
)

CHANCE = pytest.approx(1 / 6, abs=1e-6)


def score(folder: Path, images: list[dict], model: Any = None, ks: list[int] | None = None) -> tuple[dict, dict]:
    """The task's part of metrics.json, and the summary."""
    values = {"tasks": {"region_retrieval": {"ks": ks or [1, 2]}}, "batch_size": 3}
    config = parse(EvaluateConfig, {**values, "bootstrap": {"samples": 50, "seed": 0}}, "here")
    tokenizer = tokenizer_of([f"a finding called {word} spot left upper" for word in WORDS])
    shards = write_shards(folder / "shards", images)
    model = model or Matcher(tokenizer)
    summary = evaluate(config, "probe", model, tokenizer, "0" * 64, *shards, folder / "out", folder / "summaries")
    metrics = json.loads((folder / "out" / "metrics.json").read_text())
    return metrics["tasks"]["region_retrieval"] | {"digest": metrics["items_sha256"]}, summary


def test_ranks_by_hand_and_against_a_slow_count() -> None:
    # Query 0 is nearest to candidate 1; query 1 lies between 0 and 2, which tie.
    queries = np.array([[1, 0], [0, 1]], np.float32)
    candidates = np.array([[0.6, 0.8], [1, 0], [-0.6, 0.8]], np.float32)
    assert ranks(queries, candidates, np.array([0, 0]), np.arange(len(candidates))).tolist() == [2, 2]
    random = np.random.default_rng(0)
    queries, candidates = random.normal(size=(30, 4)), random.normal(size=(9, 4))
    own = random.integers(0, 9, 30)
    similarity = queries @ candidates.T
    expected = [1 + sum(row > row[mine]) for row, mine in zip(similarity, own, strict=True)]
    assert ranks(queries, candidates, own, np.arange(len(candidates))).tolist() == expected


def test_the_choice_by_hand() -> None:
    similarity = np.array([[0.5, 0.4, 0.3], [0.5, 0.6, 0.1], [0.5, 0.5, 0.1], [0.5, 0.5 - 1e-8, 0.1]])
    assert chooses_first(similarity).tolist() == [True, False, False, False]


def test_the_most_frequent_adjective_by_hand() -> None:
    def asked(adjective: str, *others: str) -> TruthRegion:
        texts = [f"{word} cyst left upper" for word in (adjective, *others)]
        return TruthRegion(
            number=0, term="cyst", caption=texts[0], negatives=tuple(texts[1:]), oracle=True, has_mask=True
        )

    # Without the region itself: round 2, oval 1 and flat 0 of the first; round 3, oval 0 of the oval one.
    regions = [asked("round", "oval", "flat")] * 3 + [asked("oval", "round", "flat")]
    assert frequent_adjective(regions) == 0.75
    # Two of each: one other round one against two oval ones.
    assert frequent_adjective([asked("round", "oval")] * 2 + [asked("oval", "round")] * 2) == 0.0


def test_scores_and_counts_of_a_method_that_knows_the_answers(tmp_path: Path) -> None:
    images = [
        image(0, regions=[region(1), region(2), region(3, role="input")]),
        # The crop shows 4 and the caption says 3: nothing is right.
        image(1, regions=[region(4, adjective=WORDS[3], negatives=region(3)["negatives"])]),
        # Equal captions are one candidate.
        image(2, regions=[region(1), region(5, status="failed")]),
        image(3),
        image(4, regions=[region(6, status="rejected")]),
        image(5, regions=[region(7, role="input")]),
    ]
    found, summary = score(tmp_path, images, ks=[1, 2, 5])
    assert (found["status"], found["items"], found["pool"]) == ("ok", 4, 3)
    assert found["excluded"] == {"no_region_caption": 1, "no_truth_region": 2}
    metrics = found["metrics"]
    assert set(metrics) == {"recall@1", "recall@2", "adjective_accuracy"}
    # The region of image 1 has cosine 0 with all three captions: ties, so its rank is 3.
    assert [metrics[f"recall@{k}"]["value"] for k in (1, 2)] == [0.75, 0.75]
    assert [metrics[f"recall@{k}"]["chance"] for k in (1, 2)] == pytest.approx([1 / 3, 2 / 3], abs=1e-6)
    assert metrics["adjective_accuracy"]["value"] == 0.75
    assert metrics["adjective_accuracy"]["chance"] == CHANCE
    assert metrics["recall@1"]["low"] <= 0.75 <= metrics["recall@1"]["high"]
    assert found["details"] == {"oracle": 4, "frequent_adjective": 0.0}
    assert any("4 of 4 regions" in note and "oracle" in note for note in found["notes"])
    assert any("[5] left out" in note for note in found["notes"])
    assert any("a crop is new to it" in note for note in found["notes"])
    assert (summary["inputs"], summary["ok"]) == (6, 3)
    assert summary["reasons"]["rejected"] == {"no_region_caption": 1, "no_truth_region": 2}


def test_each_source_is_scored_among_its_own_captions(tmp_path: Path) -> None:
    images = [image(n, source="one" if n < 2 else "two", regions=[region(n + 1)]) for n in range(5)]
    found, _ = score(tmp_path, images)
    assert found["pool"] == 5
    assert {name: (part["items"], part["pool"]) for name, part in found["by_source"].items()} == {
        "one": (2, 2),
        "two": (3, 3),
    }
    assert found["by_source"]["one"]["metrics"]["recall@1"]["chance"] == 0.5


def test_a_collapsed_method_scores_nothing(tmp_path: Path) -> None:
    found, _ = score(tmp_path, [image(n, regions=[region(n)]) for n in range(6)], Collapsed(), ks=[1, 5, 6])
    assert {name: value["value"] for name, value in found["metrics"].items()} == {
        "recall@1": 0,
        "recall@5": 0,
        "recall@6": 1,
        "adjective_accuracy": 0,
    }


def test_diverged_weights_missing_capabilities_and_nothing_to_score(tmp_path: Path) -> None:
    images = [image(n, regions=[region(n)]) for n in range(3)]
    found, summary = score(tmp_path / "nan", images, Collapsed(float("nan")))
    assert found["status"] == "failed"
    assert summary["reasons"]["failed"] == {"embedding_not_finite": 3}
    found, _ = score(tmp_path / "images", images, ImagesOnly())
    assert found["reason"] == "the method does not offer EmbedsRegions, EmbedsText"
    found, _ = score(tmp_path / "none", [image(0)])
    assert (found["status"], found["reason"]) == ("skipped", "no annotated test region has a caption")


def test_the_items_digest_follows_the_regions(tmp_path: Path) -> None:
    changes: list[dict[str, Any]] = [
        {},
        {},
        {"adjective": "jade"},
        {"position": "right upper"},
        {"negatives": region(2)["negatives"]},
        {"status": "failed"},
        {"mask": False},
    ]
    digests = [
        score(tmp_path / str(n), [image(0, regions=[region(1), region(2)]), image(1, regions=[region(1, **change)])])[
            0
        ]["digest"]
        for n, change in enumerate(changes)
    ]
    assert digests[0] == digests[1]
    assert len(set(digests)) == len(changes) - 1


def test_a_mistake_in_the_options_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="ks must hold numbers of at least 1"):
        score(tmp_path, [image(0, regions=[region(0)])], ks=[0])
