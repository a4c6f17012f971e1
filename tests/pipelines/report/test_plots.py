"""The curves that `dvc plots` draws, compared with values worked out by hand."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from sklearn.metrics import roc_curve

from models.verified import record, seal
from pipelines.evaluate.scores import write_scores
from pipelines.records import ITEMS, ItemRow
from pipelines.report.inputs import Paths
from pipelines.report.plots import (
    AXES,
    FEW_SHOT,
    FEW_SHOT_AXES,
    POINTS,
    distributions,
    few_shot_curves,
    recall_curves,
    roc_curves,
    write_plots,
)


def item(task: str, metric: str, value: float, name: str = "0", **changes: Any) -> ItemRow:
    return ItemRow(
        image_id="0" * 16,
        task=task,
        metric=metric,
        item=name,
        value=value,
        **{"source": "mine", "modality": "ct"} | changes,
    )


def test_recall_is_that_of_the_ranks_and_chance_that_of_the_scores() -> None:
    items = [item("retrieval", "i2t_rank", rank, str(n)) for n, rank in enumerate([1, 2, 2, 5])]
    metrics = {
        "i2t_recall@1": {"chance": 0.1},
        "i2t_recall@3": {"chance": 0.3},
        "i2t_own_recall@9": {"chance": 0.9},
        "t2i_recall@3": {"chance": 0.4},
    }
    own, chance = recall_curves(items, metrics)
    assert own == ("image to text", "image to text", [(1, 0.25), (2, 0.75), (3, 0.75)])
    assert chance == ("image to text", "chance", [(1, 0.1), (3, 0.3)])


def test_roc_is_that_of_scikit_learn_with_ties() -> None:
    generator = np.random.default_rng(0)
    values, truth = generator.integers(0, 20, 60).astype(float), generator.integers(0, 2, 60)
    items = [
        item("zero_shot", "cosine_difference", value, str(n), label="nodule", truth=int(has))
        for n, (value, has) in enumerate(zip(values, truth, strict=True))
    ]
    # A finding that every image has, and one of another source.
    items += [item("zero_shot", "cosine_difference", 0.1, str(n), label="all", truth=1) for n in range(3)]
    curve, chance = roc_curves(items)
    expected = roc_curve(truth, values, drop_intermediate=False)[:2]
    assert curve[:2] == ("mine", "nodule")
    np.testing.assert_allclose(np.array(curve[2]).T, expected)
    assert chance == ("mine", "chance", [(0.0, 0.0), (1.0, 1.0)])


def test_scores_of_two_kinds_of_one_finding_are_two_curves() -> None:
    items = [
        item("zero_shot", metric, value, str(n), label="mass", truth=n)
        for metric, values in (("log_probability", (0.9, 0.1)), ("cosine_difference", (0.2, 0.6)))
        for n, value in enumerate(values)
    ]
    curves = {series: points for _, series, points in roc_curves(items) if series != "chance"}
    assert curves == {
        "mass, cosine_difference": [(0.0, 0.0), (0.0, 1.0), (1.0, 1.0)],
        "mass, log_probability": [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0)],
    }


def test_a_distribution_says_which_fraction_scores_at_least_as_high() -> None:
    items = [item("segmentation", "report/dice", value, str(n)) for n, value in enumerate([0.5, 0.9, 0.5, 0.1])]
    assert list(distributions(items)) == [("dice", "report", [(0.1, 1.0), (0.5, 0.75), (0.5, 0.5), (0.9, 0.25)])]


def study(folder: Path, methods: dict[str, list[ItemRow]]) -> Paths:
    """The files that training and evaluation leave."""
    for method, items in methods.items():
        evaluation, checkpoint = folder / "evaluation" / method, folder / "checkpoints" / method
        evaluation.mkdir(parents=True)
        checkpoint.mkdir(parents=True)
        ITEMS.write(evaluation / "items.parquet", items)
        scores = {"recall@1": {"value": 0.5, "chance": 0.1}, "t2i_own_recall@1": {"value": 0.4, "chance": 0.1}}
        tasks = {name: {"metrics": scores} for name in dict.fromkeys(row.task for row in items)}
        (evaluation / "metrics.json").write_text(json.dumps({"tasks": tasks | {"skipped": {"metrics": {}}}}))
        seal(evaluation)
        steps = [{"step": step, "loss": 1 / step} for step in range(1, 1001)]
        (checkpoint / "curve.json").write_text(json.dumps({"steps": steps, "validation": steps[::100]}))
        record(checkpoint / "curve.json")
    return Paths(data=folder, params=folder / "params.yaml")


def test_a_file_for_each_plot_with_the_curves_of_all_methods(tmp_path: Path, repository: Path) -> None:
    grounding = [item("grounding", "pointing", n / 500, str(n)) for n in range(501)]
    ranks = [item("region_retrieval", "rank", 1.0)]
    paths = study(tmp_path, {"plan": grounding + ranks, "clip": ranks})
    write_plots(paths, ["plan", "clip", "untrained"], tmp_path / "plots")
    rows = {name: list(csv.DictReader((tmp_path / "plots" / f"{name}.csv").open())) for name in AXES}
    assert {name: list(dict.fromkeys(row["method"] for row in found)) for name, found in rows.items()} == {
        "training": ["plan", "clip"],
        "recall": ["plan", "clip"],
        "roc": [],
        "grounding": ["plan"],
        "segmentation": [],
    }
    assert len(rows["grounding"]) == POINTS
    assert (rows["grounding"][0]["score"], rows["grounding"][-1]["score"]) == ("0.0", "1.0")
    training = [row for row in rows["training"] if (row["method"], row["series"]) == ("clip", "training")]
    assert (len(training), training[0]["step"], training[-1]["step"]) == (POINTS, "1", "1000")
    first = {file.name: file.read_bytes() for file in (tmp_path / "plots").iterdir()}
    write_plots(paths, ["plan", "clip", "untrained"], tmp_path / "plots")
    assert {file.name: file.read_bytes() for file in (tmp_path / "plots").iterdir()} == first

    # dvc.yaml draws each of them, by a template that is there.
    drawn = yaml.safe_load((repository / "dvc.yaml").read_text())["plots"]
    plots = {file: settings for entry in drawn for file, settings in entry.items()}
    assert {f"data/plots/{name}.csv": axes for name, axes in AXES.items()} == {
        file: (settings["x"], settings["y"]) for file, settings in plots.items()
    }
    for settings in plots.values():
        assert "<DVC_METRIC_DATA>" in (repository / ".dvc/plots" / f"{settings['template']}.json").read_text()


def test_scores_are_the_values_alone_and_empty_for_a_split_without_images(tmp_path: Path) -> None:
    study(tmp_path, {"clip": [item("region_retrieval", "rank", 1.0)]})
    write_scores(tmp_path / "evaluation" / "clip", tmp_path / "scores")
    written = {file.parent.name: json.loads(file.read_text()) for file in (tmp_path / "scores").rglob("clip.json")}
    assert written == {"test": {"region_retrieval": {"recall@1": 0.5}}, "validation": {}}


def test_few_shot_scores_are_a_file_where_the_task_ran(tmp_path: Path, repository: Path) -> None:
    metrics = {f"auc@{k}": {"value": value, "chance": 0.5} for k, value in (("1", 0.6), ("5", 0.7), ("all", 0.9))}
    score, chance = few_shot_curves(metrics)
    assert score == ("auc", "auc", [("1", 0.6), ("5", 0.7), ("all", 0.9)])
    assert chance == ("auc", "chance", [("1", 0.5), ("5", 0.5), ("all", 0.5)])

    paths = study(tmp_path, {"clip": []})
    write_plots(paths, ["clip"], tmp_path / "plots")
    assert sorted(file.stem for file in (tmp_path / "plots").glob("*.csv")) == sorted(AXES)
    folder = tmp_path / "evaluation/clip"
    (folder / "metrics.json").write_text(json.dumps({"tasks": {"probe": {"metrics": metrics}}}))
    seal(folder)
    write_plots(paths, ["clip"], tmp_path / "plots")
    rows = list(csv.DictReader((tmp_path / "plots" / f"{FEW_SHOT}.csv").open()))
    assert [(row["series"], *(row[axis] for axis in FEW_SHOT_AXES)) for row in rows] == [
        ("auc", "1", "0.6"), ("auc", "5", "0.7"), ("auc", "all", "0.9"),
        ("chance", "1", "0.5"), ("chance", "5", "0.5"), ("chance", "all", "0.5"),
    ]  # fmt: skip
    assert "<DVC_METRIC_DATA>" in (repository / ".dvc/plots/shots.json").read_text()
