"""A study's table: ours beside the printed figures, by hand."""

import csv
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from models.sizes import size_of
from models.verified import seal, verify_folder
from pipelines.config import parse
from pipelines.files import write_summary
from pipelines.records import ITEMS, SPLIT_IMAGES, SPLIT_QUESTIONS, ItemRow, QuestionRow
from pipelines.studies.definition import DEMO, PAPER, Column, load_data_sets, load_study
from pipelines.studies.settings import params_of
from pipelines.studies.table import Cell, as_markdown, cells, write_table
from tests.pipelines.audit.small_audit import image
from tests.pipelines.studies.test_definition import DATA, ROW, STUDY, lay, written

CODE = "commit 0123456789"


def score(value: float, **more: Any) -> dict[str, Any]:
    return {"value": value, "low": value - 0.1, "high": value + 0.1, "chance": 0.01, "baselines": {}} | more


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Results of one method: 0.25 on all test images, 0.5 on those of one source."""
    of_source = {"items": 4, "pool": 4, "metrics": {"i2t_recall@1": score(0.5)}}
    retrieval = {
        "status": "ok",
        "reason": None,
        "metrics": {"i2t_recall@1": score(0.25, baselines={"majority text": 0.02})},
        "by_source": {"here": of_source},
    }
    skipped = {"status": "skipped", "reason": "no labels", "metrics": {}, "by_source": {}}
    folder = tmp_path / "data/evaluation/clip"
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps({"tasks": {"retrieval": retrieval, "zero_shot": skipped}}))
    seal(folder)
    lay(tmp_path / "data/raw/here")
    (tmp_path / "studies").mkdir()
    return tmp_path


def test_each_cell_has_a_figure_or_the_reason_why_not(workspace: Path) -> None:
    columns = [
        STUDY["columns"][0],
        {"name": "AUC", "metric": "zero_shot/auc_macro", "unit": "ratio"},
        {"name": "R@9", "metric": "retrieval/i2t_recall@9", "unit": "percent"},
    ]
    rows = [{**ROW, "printed": [50.5, 0.9, None]}, {"name": "Theirs", "printed": [40.0, None, None]}]
    rows.append({"name": "Later", "method": "siglip"})
    study = load_study("one", written(workspace / "studies", columns=columns, rows=rows))
    found = cells(study, DEMO, load_data_sets(workspace / "studies/data.yaml"), {}, workspace)
    ours = found["Ours", "R@1"]
    assert (ours.ours, ours.low, ours.high, ours.chance) == pytest.approx((25.0, 15.0, 35.0, 1.0))
    assert (ours.printed, ours.difference, ours.baselines) == (50.5, -25.5, {"majority text": 2.0})
    assert {key: cell.empty for key, cell in found.items() if cell.ours is None} == {
        ("Ours", "AUC"): "zero_shot skipped: no labels",
        ("Ours", "R@9"): "retrieval has no i2t_recall@9 here",
        ("Theirs", "R@1"): "not implemented",
        ("Theirs", "AUC"): "not implemented",
        ("Theirs", "R@9"): "not implemented",
        ("Later", "R@1"): "not run yet",
        ("Later", "AUC"): "not run yet",
        ("Later", "R@9"): "not run yet",
    }
    lines = as_markdown(study, "one", DEMO, CODE, found).splitlines()
    assert "| | R@1 (percent) | AUC | R@9 (percent) |" in lines
    assert "| Ours | 25.00 (15.00 to 35.00) [50.5], -25.50 | (1) [0.9] | (2) |" in lines
    assert "| Theirs | (3) [40] | (3) | (3) |" in lines
    assert "(3) not implemented  " in lines
    assert "| *chance* | 1.00 |  |  |" in lines

    write_table(workspace / "out", study, "one", DEMO, CODE, found)
    verify_folder(workspace / "out")
    written_rows = list(csv.DictReader((workspace / "out/table.csv").open()))
    assert len(written_rows) == 9
    first = written_rows[0]
    assert (first["ours"], first["difference"], first["baselines"]) == ("25.0", "-25.5", "majority text 2.0")
    facts = json.loads((workspace / "out/table.json").read_text())
    assert (facts["scale"], facts["code"]) == (DEMO, CODE)
    assert "Study one at the scale demo, by commit 0123456789." in lines


def test_at_the_scale_of_the_paper_a_cell_is_of_its_columns_data_set(workspace: Path) -> None:
    study = load_study("one", written(workspace / "studies"))
    (workspace / "studies/data.yaml").write_text(yaml.safe_dump({"here": DATA["here"] | {"adapter": "table"}}))
    found = cells(study, PAPER, load_data_sets(workspace / "studies/data.yaml"), {}, workspace)
    assert found["Ours", "R@1"].ours == 50.0


def test_scores_of_one_source_are_no_other_ones(workspace: Path) -> None:
    """Where all items are of one source, metrics.json has no scores by source: they are those of all."""
    columns = [
        {**STUDY["columns"][0], "name": name, "data": key} for name, key in (("Here", "here"), ("There", "there"))
    ]
    study = load_study("one", written(workspace / "studies", columns=STUDY["columns"]))
    data_sets = {key: DATA["here"] | {"adapter": "table", "place": f"data/raw/{key}"} for key in ("here", "there")}
    (workspace / "studies/data.yaml").write_text(yaml.safe_dump(data_sets))
    lay(workspace / "data/raw/there")
    study = replace(study, columns=[parse(Column, column, "column") for column in columns])
    folder = workspace / "data/evaluation/clip"
    retrieval = {"status": "ok", "reason": None, "metrics": {"i2t_recall@1": score(0.25)}, "by_source": {}}
    (folder / "metrics.json").write_text(json.dumps({"tasks": {"retrieval": retrieval}}))
    row = ItemRow(
        image_id=f"{1:016x}", source="there", task="retrieval", metric="rank", item="1", modality="other", value=1.0
    )
    ITEMS.write(folder / "items.parquet", [row])
    seal(folder)

    def shown_at(scale: str) -> list[Any]:
        found = cells(study, scale, load_data_sets(workspace / "studies/data.yaml"), {}, workspace)
        return shown(found["Ours", column.name] for column in study.columns)

    assert shown_at(PAPER) == ["retrieval has no item, or too few, of here", 25.0]
    assert shown_at(DEMO) == [25.0, 25.0]


def test_what_differs_is_that_of_the_scale(workspace: Path) -> None:
    changes = {"differs": ["Always."], "differs_at": {"demo": ["Small."], "paper": ["Large."]}}
    study = load_study("one", written(workspace / "studies", **changes))
    found = cells(study, DEMO, load_data_sets(workspace / "studies/data.yaml"), {}, workspace)
    sentences = [
        [line for line in as_markdown(study, "one", scale, CODE, found).splitlines() if line.startswith("- ")]
        for scale in (DEMO, PAPER)
    ]
    assert sentences == [["- Always.", "- Small."], ["- Always.", "- Large."]]


def test_an_encoder_of_unknown_size_costs_its_own_cells_alone(workspace: Path, repository: Path) -> None:
    columns = [
        STUDY["columns"][0],
        {"name": "Params", "metric": "efficiency/parameters", "unit": "millions"},
        {"name": "ms", "metric": "efficiency/latency", "unit": "milliseconds"},
    ]
    rows = [{"name": "Ours", "method": "clip"}]
    study = load_study("one", written(workspace / "studies", columns=columns, rows=rows))
    values = params_of(study, "one", DEMO, {}, repository)
    encoder = {"pretrained": "somebody/unknown", "revision": "main", "pooling": "mean"}
    values["train"]["methods"]["clip"]["model"]["text_encoder"] = encoder
    data = load_data_sets(workspace / "studies/data.yaml")
    found = cells(study, DEMO, data, values, workspace)
    assert found["Ours", "ms"].empty == "not measured: no image with a report was embedded"
    write_summary(workspace / "data/summaries/evaluate-clip.json", {"timings": {"embedding": {"latency_cpu_ms": 2.5}}})
    found = cells(study, DEMO, data, values, workspace)
    assert found["Ours", "R@1"].ours == 25.0
    assert found["Ours", "ms"].ours == 2.5
    assert "'somebody/unknown' has no architecture here" in (found["Ours", "Params"].empty or "")


def test_a_published_checkpoint_has_no_costs(workspace: Path, repository: Path) -> None:
    rows = [
        {"name": name, **of}
        for name, of in (("Ours", {"method": "clip"}), ("Theirs", {"method": "pretrained", "weights": "clip"}))
    ]
    columns = [{"name": "Params", "metric": "efficiency/parameters", "unit": "millions", "data": "here"}]
    study = load_study("one", written(workspace / "studies", columns=columns, rows=rows))
    data = {"here": load_data_sets(workspace / "studies/data.yaml")["here"]}

    def said(scale: str) -> str | None:
        values = params_of(study, "one", scale, data, repository)
        return cells(study, scale, data, values, workspace)["Theirs", "Params"].empty

    assert said(DEMO) == "published weights are scored at the scale paper alone"
    assert said(PAPER) == "the size of published weights is not counted"


def test_costs_are_those_of_the_model(workspace: Path, repository: Path) -> None:
    columns = [
        {"name": "Params", "metric": "efficiency/parameters", "unit": "millions"},
        {"name": "MACs", "metric": "efficiency/macs", "unit": "billions"},
        {"name": "FLOPs", "metric": "efficiency/flops", "unit": "billions"},
        {"name": "ms", "metric": "efficiency/latency", "unit": "milliseconds"},
        {"name": "h", "metric": "efficiency/seconds_to_dice@0.7", "unit": "hours"},
        {"name": "MB", "metric": "efficiency/memory", "unit": "megabytes"},
        {"name": "Training MB", "metric": "efficiency/training_memory", "unit": "megabytes"},
    ]
    rows = [{"name": name, "method": "unet", "printed": [1.0] * 7} for name in ("U-Net", "Again")]
    base = "params/segmentation.yaml"
    study = load_study("one", written(workspace / "studies", columns=columns, rows=rows, base=base))
    values = params_of(study, "one", DEMO, {}, repository)
    data = load_data_sets(workspace / "studies/data.yaml")
    found = cells(study, DEMO, data, values, workspace)
    assert found["U-Net", "ms"].empty == "not measured: the task segmentation did not run"
    assert found["U-Net", "h"].empty == "not trained yet, or in fewer than two steps"
    assert found["U-Net", "Training MB"].empty == "not trained yet"
    write_summary(
        workspace / "data/summaries/evaluate-unet.json", {"timings": {"segmentation": {"latency_cpu_ms": 2.5}}}
    )
    write_summary(workspace / "data/summaries/train-unet.json", {"worker_peak_memory_mb": 512.5})
    found = cells(study, DEMO, data, values, workspace)
    assert found["Again", "ms"].ours == 2.5
    # The summary is in units of 2**20 bytes.
    assert found["Again", "Training MB"].ours == pytest.approx(512.5 * 1.048576)
    size = size_of("unet", values["train"]["methods"]["unet"], values["shards"])
    assert found["U-Net", "Params"].ours == pytest.approx(size["parameters_inference"] / 1e6)
    assert found["U-Net", "MB"].ours == pytest.approx(size["bytes_inference"] / 1e6)
    assert found["U-Net", "FLOPs"].ours == pytest.approx(2 * (found["U-Net", "MACs"].ours or 0), rel=1e-3)


def shown(of: Iterable[Cell]) -> list[Any]:
    """The figure of each cell, or why it has none."""
    return [cell.empty if cell.ours is None else cell.ours for cell in of]


def trained(workspace: Path, dices: list[float], **summary: Any) -> None:
    """A training of epochs of ten steps, each ending with a Dice of validation images."""
    folder = workspace / "data/checkpoints/unet"
    folder.mkdir(parents=True)
    points = [
        {"step": 10 * number, "phase": "segmentation", "loss": 1.0, "terms": {}, "scores": {"dice": dice}}
        for number, dice in enumerate(dices, start=1)
    ]
    (folder / "curve.json").write_text(json.dumps({"validation": points}))
    seal(folder)
    write_summary(workspace / "data/summaries/train-unet.json", {"samples_per_second": 40.0, **summary})


@pytest.mark.parametrize(
    ("dices", "expected"),
    [
        # The second epoch ends after 20 batches of 16, at 40 images a second.
        ([0.5, 0.7, 0.6], 8.0),
        ([0.9], 4.0),
        ([0.5, 0.6123], "the Dice of validation images stayed below 0.7 (highest 0.612)"),
    ],
)
def test_seconds_until_a_dice_on_validation_images(
    workspace: Path, repository: Path, dices: list[float], expected: float | str
) -> None:
    columns = [{"name": "s", "metric": "efficiency/seconds_to_dice@0.7", "unit": "seconds"}]
    rows = [{"name": "U-Net", "method": "unet", "printed": [1.0]}]
    study = load_study(
        "one", written(workspace / "studies", columns=columns, rows=rows, base="params/segmentation.yaml")
    )
    values = params_of(study, "one", DEMO, {}, repository)
    assert values["train"]["methods"]["unet"]["training"]["phases"]["segmentation"]["batch_size"] == 16
    data = load_data_sets(workspace / "studies/data.yaml")
    trained(workspace, dices)
    (cell,) = cells(study, DEMO, data, values, workspace).values()
    assert expected in (cell.ours, cell.empty)
    (cell,) = cells(study, DEMO, data, values, workspace, ["unet"]).values()
    assert (cell.ours, cell.empty) == (None, "not run yet")


def test_the_mean_of_columns(workspace: Path) -> None:
    columns = [
        STUDY["columns"][0],
        {"name": "R@9", "metric": "retrieval/i2t_recall@9", "unit": "percent"},
        {"name": "Twice", "mean_of": ["R@1", "R@1"], "unit": "percent"},
        {"name": "Both", "mean_of": ["R@1", "R@9"], "unit": "percent"},
        {"name": "Chain", "mean_of": ["Twice", "R@1"], "unit": "percent"},
    ]
    rows = [{**ROW, "printed": [None, None, 30.0, 20.0, None]}]
    study = load_study("one", written(workspace / "studies", columns=columns, rows=rows))
    found = cells(study, DEMO, load_data_sets(workspace / "studies/data.yaml"), {}, workspace)
    mean = found["Ours", "Twice"]
    assert (mean.ours, mean.low, mean.chance, mean.difference) == (25.0, None, 1.0, -5.0)
    assert mean.baselines == {"majority text": 2.0}
    assert (found["Ours", "Both"].ours, found["Ours", "Both"].printed) == (None, 20.0)
    assert found["Ours", "Both"].empty == "a mean of columns of which R@9 has no figure"
    assert found["Ours", "Chain"].ours == 25.0
    write_table(workspace / "out", study, "one", DEMO, CODE, found)
    rows_written = list(csv.DictReader((workspace / "out/table.csv").open()))
    assert [row["metric"] for row in rows_written][2:4] == ["mean of R@1, R@1", "mean of R@1, R@9"]


def test_images_and_questions_are_counted_by_source_split_and_kind(workspace: Path) -> None:
    columns = [{"name": name, "metric": f"counts/{name}", "unit": "count"} for name in ("train", "test", "total")]
    kinds = {
        "Here": {"data": "here"},
        "Endoscopy": {"data": "here", "modality": "endoscopy"},
        "Fundus": {"data": "here", "modality": "fundus"},
        "Questions": {"data": "here", "of": "questions"},
    }
    rows = [{"name": name, "counts": counted, "printed": [1.0, None, 3.0]} for name, counted in kinds.items()]
    rows.append({"name": "Bones"})
    study = load_study("one", written(workspace / "studies", columns=columns, rows=rows))
    (workspace / "studies/data.yaml").write_text(yaml.safe_dump({"here": DATA["here"] | {"adapter": "table"}}))
    data = load_data_sets(workspace / "studies/data.yaml")
    before = cells(study, DEMO, data, {}, workspace)
    assert {cell.empty for (row, _), cell in before.items() if row != "Bones"} == {"not run yet"}

    images = [
        image(number, source=source, split=split, modality=modality)
        for number, (source, split, modality) in enumerate(
            [("here", "train", "endoscopy"), ("here", "test", "ct"), ("here", "train", "ct"), ("there", "train", "ct")]
        )
    ]
    asked = [(0, "here"), (0, "here"), (1, "here"), (3, "there")]
    questions = [
        QuestionRow(
            image_id=images[number].image_id,
            source=source,
            question_id=str(n),
            question="Is it?",
            answer="yes",
            answer_type="closed",
        )
        for n, (number, source) in enumerate(asked)
    ]
    folder = workspace / "data/split"
    folder.mkdir(parents=True)
    SPLIT_IMAGES.write(folder / "images.parquet", images)
    SPLIT_QUESTIONS.write(folder / "questions.parquet", questions)
    seal(folder)

    def counts(scale: str, row: str) -> list[Any]:
        found = cells(study, scale, data, {}, workspace)
        return shown(found[row, column.name] for column in study.columns)

    assert counts(PAPER, "Here") == [2.0, 1.0, 3.0]
    assert counts(DEMO, "Here") == [3.0, 1.0, 4.0]
    assert counts(PAPER, "Endoscopy") == [1.0, 0.0, 1.0]
    assert counts(PAPER, "Fundus") == ["there are no images of the kind fundus here"] * 3
    assert counts(PAPER, "Questions") == [2.0, 1.0, 3.0]
    assert counts(PAPER, "Bones") == ["we have no count of this"] * 3
    stale = cells(study, PAPER, data, {}, workspace, ["split"])
    assert stale["Here", "total"].empty == "not run yet"


def test_words_that_the_iterations_leave(workspace: Path, repository: Path) -> None:
    columns = [{"name": str(n), "metric": f"words/left@{n}", "unit": "count"} for n in range(5)]
    rows = [
        {"name": "eg.1", "method": "plan", "words": 41, "printed": [41, 28, 18, 13, None]},
        {"name": "half", "method": "plan", "words": 4, "settings": {"model": {"keep_ratio": 0.5}}},
        {"name": "none", "method": "plan"},
        {"name": "other", "method": "clip", "words": 4},
    ]
    study = load_study("one", written(workspace / "studies", columns=columns, rows=rows))
    values = params_of(study, "one", DEMO, {}, repository)
    found = cells(study, DEMO, load_data_sets(workspace / "studies/data.yaml"), values, workspace)

    def row(name: str) -> list[Any]:
        return shown(found[name, str(n)] for n in range(5))

    # 0.7 of 41 is 28.7, of 29 is 20.3, of 20 is 14; the method has three iterations.
    assert row("eg.1") == [41, 29, 20, 14, "the method has 3 iterations"]
    assert row("half")[:4] == [4, 2, 1, 1]
    assert row("none") == ["the row names no text"] * 5
    assert row("other") == ["clip chooses no words"] * 5
    assert found["eg.1", "1"].difference == 1
