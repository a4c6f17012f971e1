"""A study's pages: what stands in them, that nothing is markup, and that nothing is loaded."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from models.verified import seal, verify_folder
from pipelines.config import parse
from pipelines.studies.definition import Study, load_data_sets
from pipelines.studies.made import MadeTable
from pipelines.studies.page import Shelf, not_known_of, study_files, write_index
from pipelines.studies.pictures import RetrievalExample, StudyPicture
from pipelines.studies.settings import DEMO, PAPER
from pipelines.studies.table import Cell, write_table
from tests.pipelines.studies.test_definition import STUDY, written

CHANGES: dict[str, Any] = {
    "title": "Two <i>scores</i>",
    "rows": [
        {"name": "Ours <b>", "method": "clip", "printed": [50.0, 3.0], "note": "A <note>."},
        {"name": "Theirs", "printed": [40.0, None]},
    ],
    "print_errors": ["An <error>."],
}


def made(folder: Path, scale: str = DEMO, study: dict[str, Any] | None = None) -> MadeTable:
    found = {
        ("Ours <b>", "R@1"): Cell(
            ours=25.0, low=15.0, high=35.0, chance=1.0, baselines={"majority <text>": 2.0}, printed=50.0
        ),
        ("Ours <b>", "Parameters"): Cell(printed=3.0, empty="no task <parrots>"),
        ("Theirs", "R@1"): Cell(printed=40.0, empty="not implemented"),
        ("Theirs", "Parameters"): Cell(printed=None, empty="not implemented"),
    }
    return MadeTable(
        study=parse(Study, study or STUDY | CHANGES, "here"),
        name="one",
        scale=scale,
        commit="0123456789abcdef",
        changed=[],
        left_out=[],
        folder=folder / f"one-{scale}",
        found=found,
        fault=None,
        passes_again=False,
    )


def shelf() -> Shelf:
    return Shelf(
        pictures=[
            StudyPicture(file="masks.png", title="Masks <1>", caption="Images <2>", data=b"png"),
            StudyPicture(file="roc.svg", title="ROC", caption="", reason="no <finding>"),
        ],
        examples=[
            RetrievalExample(
                uri="data:image/jpeg;base64,AA==", own="own <text>", nearest={"A <m>": [("own <text>", True)]}
            )
        ],
        rule="A rule.",
        figures={"clip": {"retrieval": b"<svg/>"}},
        plots={"roc.csv": "method\n"},
        not_known={"clip": ["the images of a <hub>"]},
    )


def test_the_page_has_all_of_the_table_and_nothing_of_it_is_markup(tmp_path: Path) -> None:
    data = load_data_sets(written(tmp_path) / "data.yaml")
    files = study_files(made(tmp_path), data, tmp_path, shelf())
    assert sorted(files) == [
        "index.html",
        "pictures/masks.png",
        "pictures/retrieved.html",
        "plots/roc.csv",
        "rows/clip.html",
    ]
    assert files["pictures/masks.png"] == b"png"
    page = files["index.html"].decode()
    text = " ".join(re.sub(r"<[^>]+>", " ", page.partition("<body>")[2]).split())
    for words in (
        "25.00 15.00 to 35.00 chance 1.00 majority &lt;text&gt; 2.00 printed 50, difference -25.00",
        "none 1 printed 3",
        "none 2 printed 40",
        "1 no task &lt;parrots&gt; 2 not implemented",
        "A &lt;note&gt;.",
        "An &lt;error&gt;.",
        "Two &lt;i&gt;scores&lt;/i&gt;",
        "Here Here: no adapter reads it",
        "Masks &lt;1&gt; Images &lt;2&gt;",
        "ROC: no &lt;finding&gt;",
        "listed nowhere. Ours &lt;b&gt; : the images of a &lt;hub&gt; Known errors",
        "Scale demo",
        "by commit 0123456789.",
    ):
        assert words in text, words
    assert '<a href="rows/clip.html">Ours &lt;b&gt;</a>' in page
    assert "<mark>own &lt;text&gt;</mark>" in page
    assert "are not made" not in text
    for file, content in files.items():
        if file.endswith(".html"):
            check_closed(content.decode())


def test_a_table_names_the_settings_that_are_in_no_commit(tmp_path: Path) -> None:
    table = replace(made(tmp_path), changed=["studies/one.yaml", "params.yaml"], left_out=["models/method.py"])
    said = (
        "commit 0123456789, with changes that are not committed: studies/one.yaml, params.yaml; trained and scored "
        "without changes that are not committed: models/method.py"
    )
    assert table.code == said
    data = load_data_sets(written(tmp_path) / "data.yaml")
    assert f"by {said}." in study_files(table, data, tmp_path, Shelf())["index.html"].decode()


def check_closed(page: str) -> None:
    """Nothing is loaded: pictures are in the page, and links lead to files of the same folder."""
    assert "default-src 'none'; img-src data:" in page
    assert all(source.startswith("data:") for source in re.findall(r'\bsrc="([^"]*)"', page))
    assert not [link for link in re.findall(r'\bhref="([^"]*)"', page) if "//" in link or link.startswith("/")]
    assert "<script" not in page
    for raw in ("Ours <b>", "<note>", "<error>", "<parrots>", "<finding>", "<m>", "<text>", "<hub>"):
        assert raw not in page


def test_before_the_pictures_are_made_the_page_says_so(tmp_path: Path) -> None:
    data = load_data_sets(written(tmp_path) / "data.yaml")
    table = made(tmp_path, PAPER, STUDY | CHANGES)
    files = study_files(table, data, tmp_path, Shelf(pending=True))
    assert list(files) == ["index.html"]
    assert "The pictures are not made" in files["index.html"].decode()
    assert "Scale demo" not in files["index.html"].decode()


def test_the_published_weights_that_checkpoints_started_from_are_not_known(tmp_path: Path) -> None:
    for name, weights in (("bert", {"some/bert": "unknown", "some/vit": "natural images"}), ("scratch", {})):
        folder = tmp_path / "data/checkpoints" / name
        folder.mkdir(parents=True)
        (folder / "curve.json").write_text(json.dumps({"weights": weights}))
        seal(folder)
    assert not_known_of(tmp_path, ["bert", "scratch"]) == {
        "bert": [
            "the images of some/bert, from which it started; its publisher says: unknown",
            "the images of some/vit, from which it started; its publisher says: natural images",
        ]
    }
    files = study_files(made(tmp_path), load_data_sets(written(tmp_path) / "data.yaml"), tmp_path, Shelf())
    assert "Not known" not in files["index.html"].decode()


def test_the_list_has_every_study_that_has_a_table(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    table = made(tmp_path)
    write_table(table.folder, table.study, "001_table3", DEMO, table.code, table.found, {"rows/clip.html": b"<p>"})
    verify_folder(table.folder)
    (tmp_path / "later-demo").mkdir()
    (tmp_path / "later-demo/table.json").write_text(json.dumps({"study": "later <x>", "scale": "demo", "cells": []}))
    seal(tmp_path / "later-demo")
    (tmp_path / "broken-demo").mkdir()
    (tmp_path / "broken-demo/table.json").write_text("{")
    write_index(tmp_path)
    page = (tmp_path / "index.html").read_text()
    check_closed(page)
    rows = [" ".join(re.sub(r"<[^>]+>", " ", row).split()) for row in re.findall(r"<tr>.*?</tr>", page, re.DOTALL)][1:]
    assert rows == [
        "broken-demo its table is damaged: run the study again",
        "later &lt;x&gt; demo not in studies/ 0 of 0 0",
        "001_table3 demo RegionMed-CLIP, arXiv 2508.05244v1 (withdrawn in 2025), Table 3 Image-text retrieval 1 of 4 3",
    ]
    assert re.findall(r'href="([^"]*)"', page) == [f"{name}-demo/index.html" for name in ("broken", "later", "one")]


def test_a_list_without_studies(tmp_path: Path) -> None:
    write_index(tmp_path)
    assert "No study has a table yet." in (tmp_path / "index.html").read_text()


@pytest.mark.slow
def test_a_browser_shows_the_page_without_a_network_and_a_row_leads_to_its_plots(
    page: Page, beyond_loopback: list[str], tmp_path: Path
) -> None:
    table = made(tmp_path)
    data = load_data_sets(written(tmp_path) / "data.yaml")
    circle = b'<svg xmlns="http://www.w3.org/2000/svg" width="40" height="40"><circle r="20"/></svg>'
    beside = study_files(table, data, tmp_path, replace(shelf(), figures={"clip": {"retrieval": circle}}))
    write_table(table.folder, table.study, table.name, table.scale, table.code, table.found, beside)
    page.goto((table.folder / "index.html").as_uri())
    expect(page.locator("h1")).to_have_text("Two <i>scores</i>")
    page.get_by_role("link", name="Ours <b>").click()
    expect(page.locator("h1")).to_have_text("Ours <b>")
    assert page.locator("img").evaluate("image => image.naturalWidth") == 40
    assert beyond_loopback == []
