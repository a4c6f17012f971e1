"""A study's table: ours beside the printed figures, by hand."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from models.sizes import size_of
from models.verified import seal, verify_folder
from pipelines.files import write_summary
from pipelines.studies.definition import load_data_sets, load_study
from pipelines.studies.settings import DEMO, PAPER, params_of
from pipelines.studies.table import as_markdown, cells, write_table
from tests.pipelines.studies.test_definition import DATA, ROW, STUDY, written


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
    (tmp_path / "data/raw/here").mkdir(parents=True)
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
    lines = as_markdown(study, "one", DEMO, found).splitlines()
    assert "| | R@1 | AUC | R@9 |" in lines
    assert "| Ours | 25.00 (15.00 to 35.00) [50.5], -25.50 | (1) [0.9] | (2) |" in lines
    assert "| Theirs | (3) [40] | (3) | (3) |" in lines
    assert "(3) not implemented  " in lines
    assert "| *chance* | 1.00 |  |  |" in lines

    write_table(workspace / "out", study, "one", DEMO, found)
    verify_folder(workspace / "out")
    written_rows = list(csv.DictReader((workspace / "out/table.csv").open()))
    assert len(written_rows) == 9
    first = written_rows[0]
    assert (first["ours"], first["difference"], first["baselines"]) == ("25.0", "-25.5", "majority text 2.0")
    assert json.loads((workspace / "out/table.json").read_text())["scale"] == DEMO


def test_at_the_scale_of_the_paper_a_cell_is_of_its_columns_data_set(workspace: Path) -> None:
    study = load_study("one", written(workspace / "studies"))
    (workspace / "studies/data.yaml").write_text(yaml.safe_dump({"here": DATA["here"] | {"adapter": "table"}}))
    found = cells(study, PAPER, load_data_sets(workspace / "studies/data.yaml"), {}, workspace)
    assert found["Ours", "R@1"].ours == 50.0


def test_costs_are_those_of_the_model(workspace: Path, repository: Path) -> None:
    columns = [
        {"name": "Params", "metric": "efficiency/parameters", "unit": "millions"},
        {"name": "MACs", "metric": "efficiency/macs", "unit": "billions"},
        {"name": "FLOPs", "metric": "efficiency/flops", "unit": "billions"},
        {"name": "ms", "metric": "efficiency/latency", "unit": "milliseconds"},
        {"name": "h", "metric": "efficiency/seconds_to_dice@0.7", "unit": "hours"},
    ]
    rows = [{"name": name, "method": "unet", "printed": [1.0] * 5} for name in ("U-Net", "Again")]
    base = "params/segmentation.yaml"
    study = load_study("one", written(workspace / "studies", columns=columns, rows=rows, base=base))
    values = params_of(study, "one", DEMO, {}, repository)
    data = load_data_sets(workspace / "studies/data.yaml")
    found = cells(study, DEMO, data, values, workspace)
    assert found["U-Net", "ms"].empty == "not measured: the task segmentation did not run"
    assert found["U-Net", "h"].empty == "efficiency/seconds_to_dice@0.7 is not measured"
    write_summary(
        workspace / "data/summaries/evaluate-unet.json", {"timings": {"segmentation": {"latency_cpu_ms": 2.5}}}
    )
    found = cells(study, DEMO, data, values, workspace)
    assert found["Again", "ms"].ours == 2.5
    size = size_of("unet", values["train"]["methods"]["unet"], values["shards"])
    assert found["U-Net", "Params"].ours == pytest.approx(size["parameters_inference"] / 1e6)
    assert found["U-Net", "FLOPs"].ours == pytest.approx(2 * (found["U-Net", "MACs"].ours or 0), rel=1e-3)
