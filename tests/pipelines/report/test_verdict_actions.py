"""What a finding asks for is there: the commands can be run, and the settings stand in params.yaml."""

import importlib.util
import re
from pathlib import Path

import pytest
import yaml

from pipelines.ingest.sources.table import Options
from pipelines.registry import plugin
from pipelines.report.verdict.sources import WITH_MODALITY

ROOT = Path(__file__).parents[3]
TEXTS = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "pipelines/report/verdict").glob("*.py")}
SETTING = re.compile(r"(?<![\w/.])(?:split|regions|proposals|captions)\.(?!parquet|get|reason)[a-z_]+(?:\.[a-z_]+)*")


def test_every_command_is_a_module() -> None:
    modules = {name for text in TEXTS.values() for name in re.findall(r"python -m ([\w.]+)", text)}
    assert {"pipelines.ingest.inspect", "pipelines.audit", "pipelines.regions.review", "flows.rebuild"} == modules
    assert all(importlib.util.find_spec(name) for name in modules)


def test_every_setting_stands_in_params() -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    strings = [line for text in TEXTS.values() for line in text.splitlines() if '"' in line and "import" not in line]
    settings = {
        name for line in strings for quoted in re.findall(r'"([^"]*)"', line) for name in SETTING.findall(quoted)
    }
    assert "regions.risk_control.target_precision" in settings
    for name in settings - {"split.fractions"}:
        value = params
        for key in name.split("."):
            assert key in value, name
            value = value[key]
    assert set(params["split"]["fractions"]) == {"train", "validation", "test"}
    for method in params["train"]["methods"].values():
        assert {"phases", "max_length", "gradient_clip"} <= method["training"].keys()


@pytest.mark.parametrize("adapter", WITH_MODALITY)
def test_the_option_modality_is_there(adapter: str) -> None:
    module = importlib.import_module(plugin("sources", adapter).__module__)
    assert "modality" in module.Options.__dataclass_fields__


def test_the_options_of_tables_are_there() -> None:
    assert {"columns", "label_columns", "values"} <= Options.__dataclass_fields__.keys()
