"""docs/extending.md describes all that the code has: the table adapter's columns and options, and the reason codes."""

import ast
import csv
import dataclasses
import importlib
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from pipelines.config import parse
from pipelines.ingest.record import SourceRecord
from pipelines.ingest.sources import dicom
from pipelines.ingest.sources.table import COLUMNS, Options, TableSource
from pipelines.registry import PLUGINS
from tests.docs.page import read_page
from tests.pipelines.test_images import dicom as dicom_file


@pytest.fixture(scope="module")
def text(repository: Path) -> str:
    return (repository / "docs" / "extending.md").read_text(encoding="utf-8")


def test_the_table_adapters_columns_and_options_are_described(text: str) -> None:
    names = [*COLUMNS, *(field.name for field in dataclasses.fields(Options))]
    assert [name for name in names if f"\n| `{name}` |" not in text] == []


def test_the_options_for_a_table_with_other_column_names_work(repository: Path, tmp_path: Path) -> None:
    sources = [block["ingest"]["sources"] for block in read_page(repository).params if "ingest" in block]
    (options,) = (block["clinic"]["options"] for block in sources if "clinic" in block)
    with (tmp_path / options["metadata"]).open("w", newline="") as stream:
        csv.writer(stream).writerows([["Path", "Report", "PatientID"], ["a.png", "Clear lungs.", "7"]])
    (record,) = TableSource(tmp_path, options).records()
    assert record == SourceRecord(
        row="studies.csv:2", name="a.png", report="Clear lungs.", patient="7", modality="radiograph"
    )


def test_every_adapter_is_described_and_the_options_of_published_sets_are_accepted(text: str) -> None:
    section = text.partition("## What the other adapters expect")[2].partition("\n## ")[0]
    described = set(re.findall(r"^\| `(\w+)`", section, re.MULTILINE))
    assert described == PLUGINS["sources"].keys() - {"table", "dicom"}
    sets = re.findall(r"^\|[^|]+\| `(\w+)` \|([^|]*)\|", section, re.MULTILINE)
    assert {"image_mask_folders", "class_folders", "coco", "slake", "vqa_rad"} <= {adapter for adapter, _ in sets}
    for adapter, cell in sets:
        module = importlib.import_module(PLUGINS["sources"][adapter].partition(":")[0])
        for options in re.findall(r"`(\{.*?\})`", cell):
            parse(module.Options, yaml.safe_load(options), adapter)


def test_the_dicom_adapters_options_are_described_and_its_example_works(
    repository: Path, tmp_path: Path, text: str
) -> None:
    section = text.partition("## The dicom adapter")[2]
    names = {field.name for field in dataclasses.fields(dicom.Options)}
    rows = [line.partition(" | ")[0] for line in section.splitlines() if line.startswith("| `")]
    assert names <= set(re.findall(r"`(\w+)`", " ".join(rows)))
    (options,) = (
        block["ingest"]["sources"]["chest_archive"]["options"]
        for block in read_page(repository).params
        if "chest_archive" in block.get("ingest", {}).get("sources", {})
    )
    table = tmp_path / options["table"]
    table.parent.mkdir()
    table.write_text("Accession #,Findings,Codes\n0815,Clear lungs.,Unremarkable study\n")
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    (tmp_path / "IM1").write_bytes(dicom_file(pixels, AccessionNumber="0815", Modality="OT"))
    (record,) = dicom.DicomFiles(tmp_path, options).records()
    assert record == SourceRecord(
        row="export/reports.csv:2", name="IM1", report="Clear lungs.", labels=(), modality="radiograph"
    )


def test_every_reason_code_of_the_code_is_on_the_page(repository: Path, text: str) -> None:
    listed = text.partition("## Reason codes")[2]
    codes = set()
    for file in (repository / "pipelines").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                codes |= set(filter(re.compile(r"[a-z0-9_]+").fullmatch, _literals(node)))
    assert {"truncated", "changed_since_ingest", "region_not_a_triple", "image_not_in_shards", "same_pixels"} < codes
    assert sorted(code for code in codes if f"`{code}`" not in listed) == []


def _literals(call: ast.Call) -> list[str]:
    """Texts in a call's argument `reason`, or in the first one of what takes a reason there."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    values = [keyword.value for keyword in call.keywords if keyword.arg == "reason"]
    if name in ("Rejected", "PydanticCustomError", "rejected", "failed", "duplicate"):
        values += call.args[:1]
    either = [(value.body, value.orelse) if isinstance(value, ast.IfExp) else (value,) for value in values]
    constants = [part for parts in either for part in parts if isinstance(part, ast.Constant)]
    return [part.value for part in constants if isinstance(part.value, str)]
