"""A release in the hands of others: the snippets of its own README, `datasets`, mlcroissant."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import mlcroissant
import pytest

from pipelines.release.release import write_release
from tests.pipelines.release.conftest import OPEN, Study


@pytest.fixture
def out(study: Study, tmp_path: Path) -> Path:
    study.change("release", creators=["The house"], url="https://example.org/small", published="2026-11-28")
    write_release(study.root, tmp_path / "out")
    return tmp_path / "out"


def run(script: str, folder: Path, tmp_path: Path) -> str:
    """What a script prints; `datasets` reads HF_HOME when it is imported, and must not reach for the network."""
    settings = {"HF_HOME": str(tmp_path / "hugging-face"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env=os.environ | settings,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_snippets_of_the_readme_run(study: Study, out: Path, tmp_path: Path) -> None:
    snippets = re.findall(r"```python\n(.*?)```", (out / "README.md").read_text(), re.DOTALL)
    assert len(snippets) == 4
    lines = run("\n".join(snippets), out, tmp_path).splitlines()
    train = sorted((row for row in study.of(OPEN) if row.split == "train"), key=lambda row: row.image_id)
    size = f"({train[0].width}, {train[0].height})"
    assert lines[0] == f"{size} other {list(train[0].labels)} round summary"
    assert lines[1] == "input nodule [5.0, 10.0, 25.0, 20.0] round | nodule | left upper 200"
    assert f"(32, 32) {list(train[0].labels)} round summary" in lines
    assert f"images/train/{train[0].image_id}.png [5.0, 10.0, 20.0, 10.0] round | nodule | left upper" in lines
    assert lines[-1] == f"{size} b'round summary'"


def test_the_image_folder_loads_with_one_type_for_each_column(study: Study, out: Path, tmp_path: Path) -> None:
    script = """
import json
from datasets import load_dataset
data = load_dataset("imagefolder", data_dir="images")
print(json.dumps({split: [{**row, "image": row["image"].size} for row in rows] for split, rows in data.items()}))
"""
    found = json.loads(run(script, out, tmp_path).splitlines()[-1])
    assert {split: len(rows) for split, rows in found.items()} == {"train": 3, "validation": 1, "test": 2}
    by_id = {row["image_id"]: row for rows in found.values() for row in rows}
    for row in study.of(OPEN):
        listed = by_id[row.image_id]
        assert (listed["image"], listed["view"]) == ([row.width, row.height], row.view or "")
        assert (listed["labels_known"], listed["labels"]) == (row.labels is not None, "; ".join(row.labels or ()))


def test_croissant_is_valid_without_a_warning(out: Path) -> None:
    data = mlcroissant.Dataset(out / "croissant.json")
    assert not data.metadata.ctx.issues.errors
    assert not data.metadata.ctx.issues.warnings
    assert data.metadata.license == ["CC-BY-4.0"]
    said = data.metadata.to_json()
    fields = {name.removeprefix("rai:") for name in said if name.startswith("rai:")}
    assert {"dataCollection", "dataBiases", "personalSensitiveInformation", "dataLimitations"} <= fields
    assert len(fields) == 16
    records = list(data.records("test"))
    assert len(records) == 2
    assert [region["test/regions/role"] for region in records[0]["test/regions"]] == [b"input", b"truth"]
    assert records[0]["test/regions"][0]["test/regions/box"] == [5.0, 10.0, 25.0, 20.0]
