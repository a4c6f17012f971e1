"""Definitions of metrics: each metric of each built-in task has one, and they decide the order on a page."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.config import parse
from pipelines.evaluate.config import EvaluateConfig
from pipelines.evaluate.definitions import as_json, definition_of, headline, in_order
from pipelines.evaluate.guessing import bounds, standing
from pipelines.evaluate.stage import evaluate
from pipelines.registry import PLUGINS
from tests.pipelines.evaluate.small_world import WORDS, Grounder, image, region, tokenizer_of, write_shards
from tests.pipelines.evaluate.test_segmentation import LEFT, RIGHT, TOKENIZER, Reader

DEFINITIONS = [
    {"metric": "recall@k", "text": "Found among the first k."},
    {"metric": "dice", "text": "Overlap."},
    {"metric": "other/dice", "text": "Another overlap."},
]
TASKS: dict[str, dict[str, Any]] = {
    "retrieval": {"ks": [1, 2]},
    "region_retrieval": {"ks": [1, 2]},
    "grounding": {"by_class": True},
    "detection": {},
    "zero_shot": {"templates": ["{label}"], "negatives": ["no {label}"]},
    "laterality": {"sample": 10},
    "probe": {},
    "vqa": {"epochs": 2},
    "segmentation": {},
    "phrase_segmentation": {"rewordings": ["the {label}"]},
}
OF_MASKS = ["segmentation", "phrase_segmentation", "laterality"]


def results_of(folder: Path, images: list[dict[str, Any]], model: Any, tokenizer: Any, tasks: list[str]) -> Any:
    values = {"tasks": {task: TASKS[task] for task in tasks}, "batch_size": 4, "bootstrap": {"samples": 20, "seed": 0}}
    shards = write_shards(folder / "shards", images)
    config = parse(EvaluateConfig, values, "here")
    evaluate(config, "probe", model, tokenizer, "0" * 64, *shards, folder / "out", folder / "summaries")
    return json.loads((folder / "out" / "metrics.json").read_text())["tasks"]


def test_every_metric_of_every_built_in_task_is_defined_and_some_stand_for_it(tmp_path: Path) -> None:
    tokenizer = tokenizer_of([f"a finding called {word} spot no left upper" for word in WORDS])
    asked = [("Which is it?", "jade", "open"), ("Is it?", "yes", "closed")]
    images = [
        image(n, labels=[WORDS[n]] if n else [], regions=[region(n, label=WORDS[n])], questions=asked) for n in range(4)
    ]
    images += [image(n + 4, labels=[WORDS[n]] if n else [], split="train", questions=asked) for n in range(4)]
    tasks = [task for task in TASKS if task not in OF_MASKS]
    results = results_of(tmp_path / "words", images, Grounder(tokenizer), tokenizer, tasks)
    both = "Spot left. Spot right."
    targets = [
        image(0, target=[LEFT, RIGHT], report=both),
        image(1, target=[RIGHT], labels=["spot"], report="Spot right."),
    ]
    targets += [image(2, target=[LEFT], report=None, status="unannotated")]
    results |= results_of(tmp_path / "masks", targets, Reader(), TOKENIZER, OF_MASKS)
    assert results.keys() == PLUGINS["tasks"].keys()
    for task, result in results.items():
        assert result["status"] == "ok"
        assert [m for m in result["metrics"] if definition_of(m, result["definitions"]) is None] == []
        assert result["verdict"]["does"], task
        assert 0 < len(headline(result)) <= 3
    assert "laterality/suppression" in results["segmentation"]["metrics"]
    assert headline(results["retrieval"]) == ["i2t_recall@2", "t2i_recall@2"]
    assert in_order(results["grounding"]["metrics"], results["grounding"]["definitions"])[0] == "pointing"


def test_a_definition_is_found_by_the_name_by_k_and_behind_the_setting() -> None:
    assert definition_of("recall@10", DEFINITIONS) == "Found among the first k."
    assert definition_of("own/dice", DEFINITIONS) == "Overlap."
    assert definition_of("other/dice", DEFINITIONS) == "Another overlap."
    assert definition_of("median_rank", DEFINITIONS) is None


def test_only_definitions_of_metrics_that_are_there_are_kept_in_their_order() -> None:
    given = {entry["metric"]: entry["text"] for entry in DEFINITIONS}
    assert as_json(given, ["own/dice", "recall@1", "recall@5"]) == DEFINITIONS[:2]


def test_metrics_stand_in_the_order_of_their_definitions_and_numbers_as_numbers() -> None:
    of_all = [{"metric": "auc@k", "text": "By k images."}]
    assert in_order(["b", "auc@all", "auc@5", "auc@10"], of_all) == ["auc@5", "auc@10", "auc@all", "b"]
    assert definition_of("blend/auc@all", of_all) == "By k images."
    metrics = ["b", "own/dice", "recall@10", "empty/dice", "recall@1", "a", "recall@5"]
    ordered = ["recall@1", "recall@5", "recall@10", "empty/dice", "own/dice", "a", "b"]
    assert in_order(metrics, DEFINITIONS) == ordered
    assert in_order(["p@10", "p@9", "1p"], []) == ["1p", "p@9", "p@10"]


def test_without_a_headline_all_metrics_stand_for_a_task() -> None:
    result = {"metrics": {"dice": {}, "recall@5": {}, "recall@10": {}}, "definitions": DEFINITIONS, "verdict": {}}
    assert headline({**result, "verdict": {"headline": []}}) == ["recall@5", "recall@10", "dice"]
    assert headline({**result, "verdict": {"headline": ["dice", "recall@k", "absent"]}}) == ["dice", "recall@10"]


@pytest.mark.parametrize(
    ("metric", "low", "high", "expected"),
    [
        ("pointing", 0.51, 0.6, "better"),
        ("pointing", 0.5, 0.6, "alike"),
        ("pointing", 0.4, 0.5, "alike"),
        ("pointing", 0.4, 0.49, "worse"),
        ("median_rank", 0.4, 0.49, "better"),
        ("median_rank", 0.51, 0.6, "worse"),
        ("pointing", None, None, None),
    ],
)
def test_only_the_whole_interval_stands_beyond_a_bound(
    metric: str, low: float | None, high: float | None, expected: str | None
) -> None:
    assert standing(metric, {"low": low, "high": high}, 0.5) == expected


def test_bounds_are_chance_and_every_baseline_by_name() -> None:
    assert bounds({"chance": 0.1, "baselines": {"a": 0.2, "b": 0.3}}) == {"chance": 0.1, "a": 0.2, "b": 0.3}
    assert bounds({"chance": None, "baselines": {"a": 0.2}}) == {"a": 0.2}
