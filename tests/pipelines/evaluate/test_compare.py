"""Two evaluations compared item by item from their kept rows, and one with its own control."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import UserError
from pipelines.evaluate import again, compare
from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.kept import kept_difference, read_kept
from pipelines.records import ITEMS, ItemRow
from tests.pipelines.evaluate.kept_world import IMAGES, run


def scores_of(task: dict[str, Any], source: str) -> dict[str, Any]:
    """The scores of a source, of metrics.json; of all items without one."""
    found: dict[str, Any] = (task["by_source"][source] if source else task)["metrics"]
    return found


def test_two_evaluations_are_compared_item_by_item(
    evaluations: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    compare.main(*map(str, evaluations), "--out", str(tmp_path / "both.csv"))
    printed = capsys.readouterr().out
    with (tmp_path / "both.csv").open() as file:
        found = {(row["task"], row["source"], row["metric"]): row for row in csv.DictReader(file)}
    first, second = (read_kept(str(folder)).results["tasks"] for folder in evaluations)
    for (task, source, metric), row in found.items():
        values = [scores_of(tasks[task], source)[metric]["value"] for tasks in (first, second)]
        assert [float(row["first"]), float(row["second"])] == values
        # All items are shared, so that the difference is that of the scores.
        assert float(row["difference"]) == pytest.approx(values[0] - values[1], abs=2e-6)
        if row["low"]:
            assert float(row["low"]) <= float(row["difference"]) <= float(row["high"])
        else:
            # Of a class with one phrase in a source there is no interval, nor of a mean with it.
            assert row["items"] == "1" or (source and metric.startswith("macro/"))
        assert row["left_out"] == "0"
        assert (f"{task}/{metric} ({source}) " if source else f"{task}/{metric} ") in printed
    for name in ("segmentation/own/dice_pooled", "retrieval/i2t_median_rank", "zero_shot/auc_macro", "vqa/accuracy"):
        task, _, metric = name.partition("/")
        assert {(task, source, metric) for source in ("", "one", "two")} <= found.keys()
    assert sum(float(row["low"] or 0) < float(row["high"] or 0) for row in found.values()) > 90
    compare.main(str(evaluations[0]), str(evaluations[0]), "--out", str(tmp_path / "same.csv"))
    with (tmp_path / "same.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["difference"] for row in rows} == {"0.0"}
    assert {(row["low"], row["high"]) for row in rows if row["low"] or not row["source"]} == {("0.0", "0.0")}


def test_a_difference_from_what_finds_nothing_has_the_interval_of_the_score(
    evaluations: tuple[Path, Path], rows: list[ItemRow]
) -> None:
    """The paired bootstrap draws what the score's own draws: images, and different texts, which images share."""
    of_task = [row for row in rows if row.task == "retrieval"]
    nothing = [replace(row, value=100.0) for row in of_task]
    metrics, narrow = read_kept(str(evaluations[0])).results["tasks"]["retrieval"]["metrics"], 0
    for metric, score in metrics.items():
        if "recall" not in metric:
            continue
        found = kept_difference(of_task, nothing, metric, Bootstrap(samples=20, seed=0))
        assert found is not None
        assert (found.score.value, found.score.low, found.score.high) == (score["value"], score["low"], score["high"])
        narrow += score["low"] < score["high"]
    assert narrow > 4


def test_a_mean_over_classes_less_nothing_has_the_interval_of_the_score(rows: list[ItemRow], evaluations: Any) -> None:
    """Phrases are drawn within each class, and there is no interval where a class has one."""
    of_task = [row for row in rows if row.task == "grounding"]
    nothing = [replace(row, value=0.0) for row in of_task]
    score = read_kept(str(evaluations[0])).results["tasks"]["grounding"]["metrics"]["macro/cnr_signed"]
    found = kept_difference(of_task, nothing, "macro/cnr_signed", Bootstrap(samples=20, seed=0))
    assert found is not None
    # metrics.json and the rows have six decimals.
    assert score["low"] < score["high"]
    bounds = [found.score.value, found.score.low, found.score.high]
    assert bounds == pytest.approx([score["value"], score["low"], score["high"]], abs=2e-6)
    one = next(row for row in of_task if row.metric == "alpha/cnr_signed")
    few = [row for row in of_task if row.metric != "alpha/cnr_signed" or row is one]
    found = kept_difference(few, nothing, "macro/cnr_signed", Bootstrap(samples=20, seed=0))
    assert found is not None
    assert (found.score.low, found.score.high) == (None, None)


def test_the_control_is_compared_with_its_method(
    evaluations: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    compare.main(str(evaluations[0]), "image-blind", "--out", str(tmp_path / "blind.csv"))
    tasks = read_kept(str(evaluations[0])).results["tasks"]
    with (tmp_path / "blind.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["task"] for row in rows} == {row["task"] for row in rows if row["source"] == "one"} == set(tasks)
    for row in rows:
        score = scores_of(tasks[row["task"]], row["source"])[row["metric"]]
        beside = score["value"] - score["baselines"]["image-blind"]
        assert float(row["difference"]) == pytest.approx(beside, abs=2e-6)
    assert "retrieval/t2i_recall@1" in capsys.readouterr().out


def test_what_cannot_be_compared_is_one_line(evaluations: tuple[Path, Path], tmp_path: Path) -> None:
    first = str(evaluations[0])
    other = run(tmp_path, 1, IMAGES[:-1], scores_only=True, tasks={"retrieval": {"ks": [1]}})
    with pytest.raises(UserError, match=r"were not scored on the same items \(items_sha256 "):
        compare.main(first, str(other))
    with pytest.raises(UserError, match=r"not scored on the same items \(split test and validation\)"):
        compare.main(first, str(evaluations[0] / "validation"))
    with pytest.raises(UserError, match=r"nowhere holds no metrics.json: name a folder of an evaluation, or a method"):
        compare.main(first, "nowhere")
    with pytest.raises(UserError, match=r"nowhere holds no metrics.json"):
        again.main("nowhere")
    with pytest.raises(UserError, match=r"has no image-blind control: set evaluate.image_blind"):
        compare.main(str(evaluations[1]), "image-blind")


def test_what_was_drawn_with_another_seed_is_not_compared(tmp_path: Path) -> None:
    """Else a model would differ from itself: the texts of other images that masks are asked with are drawn."""
    folders = [
        run(
            tmp_path / str(seed),
            1,
            IMAGES,
            scores_only=True,
            tasks={"segmentation": {}},
            bootstrap={"samples": 20, "seed": seed},
        )
        for seed in (0, 1)
    ]
    asked = [
        {row.item: row.prompt for row in ITEMS.read(folder / "items.parquet") if row.metric == "shuffled/dice"}
        for folder in folders
    ]
    assert asked[0].keys() == asked[1].keys()
    assert asked[0] != asked[1]
    with pytest.raises(UserError, match=r"were not scored on the same items \(items_sha256 "):
        compare.main(*map(str, folders))
