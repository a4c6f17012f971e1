"""Region to caption, and the choice of the adjective: by hand, and on real shards."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.config import parse
from pipelines.errors import UserError
from pipelines.evaluate.config import EvaluateConfig
from pipelines.evaluate.evaluation_set import TruthRegion
from pipelines.evaluate.stage import evaluate
from pipelines.evaluate.tasks.region_retrieval import frequent_adjective
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


def test_the_most_frequent_adjective_by_hand() -> None:
    def truth_region(adjective: str, *others: str) -> TruthRegion:
        texts = [f"{word} cyst left upper" for word in (adjective, *others)]
        return TruthRegion(
            number=0,
            region_id="k-0",
            adjective=adjective,
            term="cyst",
            position="left upper",
            caption=texts[0],
            negatives=tuple(texts[1:]),
            oracle=True,
        )

    # Without the region itself: round 2, oval 1 and flat 0 of the first; round 3, oval 0 of the oval one.
    regions = [truth_region("round", "oval", "flat")] * 3 + [truth_region("oval", "round", "flat")]
    assert frequent_adjective(regions) == 0.75
    # Two of each: one other round one against two oval ones.
    assert frequent_adjective([truth_region("round", "oval")] * 2 + [truth_region("oval", "round")] * 2) == 0.0


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
    result, summary = score(tmp_path, images, ks=[1, 2, 5])
    assert (result["status"], result["items"], result["pool"]) == ("ok", 4, 3)
    assert result["excluded"] == {"no_region_caption": 1, "no_truth_region": 2}
    metrics = result["metrics"]
    assert set(metrics) == {"recall@1", "recall@2", "adjective_accuracy"}
    # The region of image 1 has cosine 0 with all three captions: ties, so its rank is 3.
    assert [metrics[f"recall@{k}"]["value"] for k in (1, 2)] == [0.75, 0.75]
    assert [metrics[f"recall@{k}"]["chance"] for k in (1, 2)] == pytest.approx([1 / 3, 2 / 3], abs=1e-6)
    assert metrics["adjective_accuracy"]["value"] == 0.75
    assert metrics["adjective_accuracy"]["chance"] == CHANCE
    assert metrics["recall@1"]["low"] <= 0.75 <= metrics["recall@1"]["high"]
    assert result["details"] == {"oracle": 4, "frequent_adjective": 0.0}
    assert any("4 of 4 regions" in note and "oracle" in note for note in result["notes"])
    assert any("left out for k in [5]" in note for note in result["notes"])
    assert any("a crop is new to it" in note for note in result["notes"])
    assert (summary["inputs"], summary["ok"]) == (6, 3)
    assert summary["reasons"]["rejected"] == {"no_region_caption": 1, "no_truth_region": 2}


def test_each_source_is_scored_among_its_own_captions(tmp_path: Path) -> None:
    images = [image(n, source="one" if n < 2 else "two", regions=[region(n + 1)]) for n in range(5)]
    result, _ = score(tmp_path, images)
    assert result["pool"] == 5
    assert {name: (part["items"], part["pool"]) for name, part in result["by_source"].items()} == {
        "one": (2, 2),
        "two": (3, 3),
    }
    assert result["by_source"]["one"]["metrics"]["recall@1"]["chance"] == 0.5


def test_a_collapsed_method_scores_nothing(tmp_path: Path) -> None:
    result, _ = score(tmp_path, [image(n, regions=[region(n)]) for n in range(6)], Collapsed(), ks=[1, 5, 6])
    assert {name: value["value"] for name, value in result["metrics"].items()} == {
        "recall@1": 0,
        "recall@5": 0,
        "recall@6": 1,
        "adjective_accuracy": 0,
    }


def test_diverged_weights_missing_capabilities_and_nothing_to_score(tmp_path: Path) -> None:
    images = [image(n, regions=[region(n)]) for n in range(3)]
    result, summary = score(tmp_path / "nan", images, Collapsed(float("nan")))
    assert result["status"] == "failed"
    assert summary["reasons"]["failed"] == {"embedding_not_finite": 3}
    result, _ = score(tmp_path / "images", images, ImagesOnly())
    assert result["reason"] == "the method does not offer EmbedsRegions, EmbedsText"
    result, _ = score(tmp_path / "none", [image(0)])
    assert (result["status"], result["reason"]) == ("skipped", "no annotated test region has a caption")


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
