"""Scores as metrics, as a table and in words; the report's files; what a promotion says of a version."""

import json
from pathlib import Path
from typing import Any

import pytest

from models.verified import seal
from pipelines.tracking import scores
from pipelines.tracking.description import scores_in_short
from pipelines.tracking.files import report_of
from pipelines.tracking.store import connect
from pipelines.tracking.sync import sync
from pipelines.tracking.versions import find_version, record_verdict
from tests.pipelines.tracking.conftest import CONFIG
from tests.pipelines.tracking.test_follow import digest_of, runs


def score(value: float, low: float | None, high: float | None, chance: float, **more: Any) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "chance": chance, **more}


def results(split: str = "test") -> dict[str, Any]:
    recall = {"recall@1": score(0.5, 0.4, 0.6, 0.1), "median_rank": score(3.0, 2.0, 4.0, 5.0)}
    dice = {"own/dice": score(0.7, None, None, 0.2, baselines={"all": 0.3, "centre": 0.25})}
    return {
        "split": split,
        "tasks": {
            "retrieval": {
                "items": 20,
                "metrics": recall,
                "by_source": {"a": {"items": 12, "metrics": {"recall@1": score(0.25, 0.05, 0.5, 0.1)}}},
                "details": {},
                "definitions": [{"metric": "recall@k", "text": "a"}, {"metric": "median_rank", "text": "b"}],
            },
            "segmentation": {"items": 9, "metrics": dice, "by_source": {}, "details": {"items": {"own": 7}}},
        },
    }


def test_a_score_is_one_metric_and_one_row() -> None:
    assert scores.metrics(results()) == {
        "retrieval/recall_at_1": 0.5,
        "retrieval/median_rank": 3.0,
        "segmentation/own/dice": 0.7,
    }
    assert set(scores.metrics(results("validation"))) == {
        "validation/retrieval/recall_at_1",
        "validation/retrieval/median_rank",
        "validation/segmentation/own/dice",
    }
    table = json.loads(scores.table(list(scores.rows(results()))))
    assert table["columns"] == list(scores.COLUMNS)
    assert table["data"] == [
        ["test", "retrieval", "recall@1", 0.5, 0.4, 0.6, 0.1, "better", "", 20, "all"],
        ["test", "retrieval", "median_rank", 3.0, 2.0, 4.0, 5.0, "better", "", 20, "all"],
        ["test", "retrieval", "recall@1", 0.25, 0.05, 0.5, 0.1, "like chance", "", 12, "a"],
        ["test", "segmentation", "own/dice", 0.7, None, None, 0.2, "", "all 0.3, centre 0.25", 7, "all"],
    ]


@pytest.mark.parametrize(
    ("metric", "low", "high", "said"),
    [
        ("auc", 0.51, 0.6, "better"),
        ("auc", 0.4, 0.49, "worse"),
        ("auc", 0.5, 0.6, "like chance"),
        ("rank", 0.51, 0.6, "worse"),
    ],
)
def test_chance_is_left_only_by_the_whole_interval(metric: str, low: float, high: float, said: str) -> None:
    assert scores.against_chance(metric, score((low + high) / 2, low, high, 0.5)) == said


def test_the_first_score_of_a_task_in_words() -> None:
    assert scores_in_short(list(scores.rows(results()))) == {
        "retrieval": "recall@1 0.5 (0.4 to 0.6); chance 0.1",
        "segmentation": "own/dice 0.7; chance 0.2, all 0.3, centre 0.25",
    }


def write_report(project: Path, value: float) -> None:
    folder = project / "data/report"
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"clip,retrieval,recall@1,{value}", "clip,retrieval,median_rank,3.0", "clip,segmentation,own/dice,0.7"]
    text = "\n".join(["method,task,metric,value", *lines, "other,retrieval,recall@1,0.9"])
    (folder / "comparison.csv").write_text(text)
    (folder / "dataset_card.md").write_text("# A card\n")
    seal(folder)


def test_the_report_is_kept_where_it_is_of_these_scores(tmp_path: Path) -> None:
    rows = [*scores.rows(results()), *scores.rows(results("validation"))]
    assert report_of(tmp_path, "clip", rows) == {}
    write_report(tmp_path, 0.5)
    assert set(report_of(tmp_path, "clip", rows)) == {"dataset_card.md", "comparison.csv"}
    assert report_of(tmp_path, "other", rows) == {}
    write_report(tmp_path, 0.4)
    assert report_of(tmp_path, "clip", rows) == {}
    (tmp_path / "data/report/dataset_card.md").write_text("changed")
    assert report_of(tmp_path, "clip", rows) == {}


def test_a_version_says_what_it_is_and_what_the_last_promotion_said(project: Path) -> None:
    sync(CONFIG, project)
    client, digest = connect(CONFIG, project), digest_of(project)
    version = find_version(client, "test", digest)
    assert version is not None
    (run,) = runs(project)
    value = json.loads((project / "data/evaluation/clip/metrics.json").read_text())["tasks"]["retrieval"]["metrics"]
    first = "i2t_recall@1"
    assert version.tags["score.retrieval"].startswith(f"{first} {value[first]['value']:.3g} (")
    assert digest in version.description
    assert "| retrieval" in version.description
    assert f"/runs/{run.info.run_id}" in version.description

    for verdict, text in (
        ({"outcome": "refused", "chance": "0.5 against 0.4"}, "First."),
        ({"outcome": "ok"}, "Last."),
    ):
        record_verdict(client, "test", version.version, verdict, text)
    judged = client.get_model_version("test", version.version)
    assert {name: one for name, one in judged.tags.items() if name.startswith("verdict.")} == {"verdict.outcome": "ok"}
    assert judged.description == f"{version.description}\n\n## Promotion\n\nLast.\n"

    # Another evaluation changes the scores and leaves the verdict.
    write_report(project, 0.5)
    metrics = project / "data/evaluation/clip/metrics.json"
    changed = json.loads(metrics.read_text())
    changed["tasks"]["retrieval"]["metrics"][first]["value"] = 0.123
    metrics.write_text(json.dumps(changed))
    seal(metrics.parent)
    assert sync(CONFIG, project)["evaluations_logged"] == 1
    after = client.get_model_version("test", version.version)
    assert after.tags["score.retrieval"].startswith(f"{first} 0.123")
    assert "0.123" in after.description
    assert after.description.endswith("\n\n## Promotion\n\nLast.\n")
