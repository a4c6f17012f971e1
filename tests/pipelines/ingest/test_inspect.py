"""`python -m pipelines.ingest.inspect`: the columns, what each value will mean, warnings, and the page."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from pipelines.errors import UserError
from pipelines.ingest.config import IngestConfig, SourceConfig
from pipelines.ingest.inspect.look import SourceLook, look, print_look, write_page

HEADER = "file_name,caption,labels,view,patient_id\n"


def source(tmp_path: Path, text: str, images: int, **settings: Any) -> IngestConfig:
    root = tmp_path / "root"
    root.mkdir()
    for number in range(images):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 30), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{number}.png")
    (root / "metadata.csv").write_text(text)
    here = SourceConfig(adapter="table", root=str(root), **settings)
    return IngestConfig(sources={"here": here}, max_pixels=10**6, max_failed_fraction=0.0, keys=str(tmp_path / "none"))


def seen(found: SourceLook) -> dict[str, tuple[bool | None, str | None, float, list[tuple[str, str | None]]]]:
    return {
        column.profile.name: (
            column.is_used,
            column.near,
            column.null_fraction,
            [(value.value, value.meaning) for value in column.values],
        )
        for column in found.columns
    }


def test_columns_with_what_each_value_will_mean(tmp_path: Path) -> None:
    rows = ["x,Normal,PA,7", "<b>y</b>,None,LL,7.0", "z,mass|nodule,PA,", ",3,above,anonymous"]
    text = HEADER + "".join(f"{number}.png,{row}\n" for number, row in enumerate(rows))
    found = look("here", source(tmp_path, text, 5), None)
    columns = seen(found)
    assert columns["caption"] == (False, "text", 0.25, [("<b>y</b>", None), ("x", None), ("z", None)])
    assert columns["labels"][3] == [
        ("3", "bad_labels: labels: one is a number or no word: name it in options.values"),
        ("None", "no finding"),
        ("Normal", "no finding"),
        ("mass|nodule", "mass, nodule"),
    ]
    assert columns["patient_id"][2:] == (0.5, [("7", None), ("7.0", "7"), ("anonymous", "null: nobody said")])
    assert [value.count for value in found.columns[3].values] == [2, 1, 1]
    assert (found.rows, found.patients, found.without_patient, found.without_text) == (4, 1, 1, 3)
    assert found.counts["labels"] == {"no finding": 2, "mass": 1, "nodule": 1}
    assert [(group.reason, group.count) for group in found.rejected] == [("bad_labels", 1)]
    # The fourth picture is named by a rejected row, the fifth by none.
    files = found.read.listed.files
    assert (files.listed, files.unlisted, files.first_unlisted) == (5, 1, ("4.png",))
    assert [sentence.partition(":")[0] for sentence in found.read.warnings] == [
        "columns not used",
        "no row has text",
        "image files under the root that no row names, which are not used",
    ]


def test_the_page_escapes_and_opens_without_a_network(tmp_path: Path) -> None:
    text = "file_name,text\n0.png,<script>alert(1)</script>\n1.png,two\n"
    write_page(tmp_path / "page.html", look("here", source(tmp_path, text, 2), None))
    page = (tmp_path / "page.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert page.count('src="data:image/jpeg;base64,') == 2
    assert "http://" not in page
    assert "https://" not in page


def test_a_look_opens_few_images_and_reads_all_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "file_name,text\n" + "".join(f"{number}.png,Text.\n" for number in range(6))
    found = look("here", source(tmp_path, text, 6, limit=4), 2)
    assert (found.rows, len(found.read.selected), len(found.pictures)) == (6, 2, 2)
    print_look(found)
    assert "here: 6 rows, 6 images listed, 2 opened" in capsys.readouterr().out


def test_a_source_of_which_nothing_is_left_is_shown_all_the_same(tmp_path: Path) -> None:
    found = look("here", source(tmp_path, "file_name,text\nx/0.png,a\n", 1), None)
    write_page(tmp_path / "page.html", found)
    assert "No image could be used" in (tmp_path / "page.html").read_text()
    assert [group.reason for group in found.rejected] == ["missing_file"]


def test_a_source_that_is_refused_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"metadata\.csv:2: a quote that opens"):
        look("here", source(tmp_path, 'file_name,text\n0.png,"a\n', 1), None)


@pytest.mark.parametrize("adapter", ["lvit", "covid_chestxray", "vqa_rad", "image_mask_folders"])
def test_every_row_and_file_of_the_real_sets_is_accounted_for(shared_data: Path, adapter: str) -> None:
    folder, options, rows, files = {
        "lvit": ("qata_cov19", {}, 8244, 2 * 8244 + 2),
        "covid_chestxray": ("covid_chestxray", {}, 474, 469 + 136 + 2),
        "vqa_rad": ("vqa_rad", {}, 2249, 315 + 1),
        "image_mask_folders": ("kvasir_seg", {"modality": "endoscopy", "label": "polyp"}, 1000, 2000),
    }[adapter]
    here = SourceConfig(adapter=adapter, root=str(shared_data / folder), options=options)
    config = IngestConfig(sources={"here": here}, max_pixels=10**7, max_failed_fraction=0.0)
    found = look("here", config, 3)
    account = found.read.listed.files
    unlisted = 1 if adapter == "vqa_rad" else 0
    assert (found.rows, account.listed + account.unlisted, account.unlisted) == (rows, files, unlisted)


@pytest.mark.slow
def test_the_command_writes_a_page_and_nothing_else(tmp_path: Path, repository: Path) -> None:
    config = source(tmp_path, "file_name,text\n0.png,a\n", 1)
    sources = {"here": {"adapter": "table", "root": config.sources["here"].root}}
    ingest = {"sources": sources, "max_pixels": 10**6, "max_failed_fraction": 0.0}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"ingest": ingest, "workers": {"processes": "all"}}))
    command = [sys.executable, "-m", "pipelines.ingest.inspect", "here"]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "! no row has a patient" in done.stdout
    assert [file.name for file in (tmp_path / "data").rglob("*") if file.is_file()] == ["here.html"]
