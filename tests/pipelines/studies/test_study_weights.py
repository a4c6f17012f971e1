"""Rows that score published checkpoints: what they need, and whose folder a workspace reads."""

import shutil
from pathlib import Path

import pytest
import yaml

from pipelines.studies.definition import DEMO, PAPER, load_data_sets, load_study
from pipelines.studies.settings import params_of, to_run, why_all_empty, why_empty
from pipelines.studies.weights import Weights, link
from tests.pipelines.studies.test_definition import DATA, NAMES, ROW, STUDY, WEIGHTS, lay, loaded_study, written


def test_published_weights_need_their_folder_and_the_data_that_they_are_scored_on(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [ROW, {"name": "Published CLIP", "method": "pretrained", "weights": "clip"}]
    columns = [STUDY["columns"][0], {"name": "Parameters", "metric": "efficiency/parameters", "unit": "millions"}]
    folder = written(tmp_path, rows=rows, columns=columns, trains_on=["far"])
    both = {key: DATA["here"] | {"adapter": "table", "place": f"data/raw/{key}"} for key in ("here", "far")}
    (folder / "data.yaml").write_text(yaml.safe_dump(both))
    study, data = load_study("one", folder), load_data_sets(folder / "data.yaml")
    trained, published = study.rows
    assert (published.entry, published.weights) == ("pretrained_published_clip", Weights(**WEIGHTS["clip"]))

    # Nothing of it at the scale demo.
    alone = "published weights are scored at the scale paper alone"
    assert set(why_all_empty(study, published, DEMO, data).values()) == {alone}
    assert to_run(study, DEMO, data) == ["clip"]
    assert list(params_of(study, "one", DEMO, data, repository)["train"]["methods"]) == ["clip"]

    methods = params_of(study, "one", PAPER, data, repository)["train"]["methods"]
    assert methods["clip"]["training"]["sources"] == ["far"]
    assert methods["pretrained_published_clip"] == {
        "method": "pretrained",
        "model": {"pretrained": "data/weights/clip"},
        "training": {"phases": {}, "max_length": 77},
    }
    # Where they are not there, params are others than where they are: stages then read them.
    lacking = params_of(study, "one", PAPER, data, repository, [Weights(**WEIGHTS["clip"])])
    assert list(lacking["train"]["methods"]) == ["clip"]
    not_counted = "the size of published weights is not counted"
    (checkout := tmp_path / "checkout").mkdir()
    monkeypatch.chdir(checkout)
    workspace = tmp_path / "workspace"
    lay(workspace / "data/raw/here")

    def reasons() -> list[str | None]:
        return list(why_all_empty(study, published, PAPER, data, workspace).values())

    assert reasons() == ["CLIP is not in data/weights/clip: its authors", not_counted]
    link(Weights(**WEIGHTS["clip"]), workspace)
    assert not (workspace / "data/weights").exists()
    # A folder that is empty is no checkpoint.
    (checkout / "data/weights/clip").mkdir(parents=True)
    assert reasons() == ["CLIP is not in data/weights/clip: its authors", not_counted]
    (checkout / "data/weights/clip/config.json").write_text("{}")
    # Weights of this checkout are those of its workspaces.
    assert reasons() == [None, not_counted]
    link(Weights(**WEIGHTS["clip"]), workspace)
    place = workspace / "data/weights/clip"
    assert place.resolve() == checkout / "data/weights/clip"
    assert to_run(study, PAPER, data, workspace) == ["pretrained_published_clip"]
    assert "data/raw/far" in str(why_empty(study, trained, study.columns[0], PAPER, data, workspace))
    (workspace / "data/raw/here/metadata.csv").unlink()
    assert reasons()[0] == "Here is not in data/raw/here: the authors"
    # Those of the workspace itself stay, and are those that are read.
    place.unlink()
    place.mkdir()
    link(Weights(**WEIGHTS["clip"]), workspace)
    assert not place.is_symlink()
    assert reasons()[0] == f"CLIP is not in {place}: its authors"
    # A link to what was moved away is made anew, or goes.
    place.rmdir()
    for there in (True, False):
        place.symlink_to(tmp_path / "gone")
        link(Weights(**WEIGHTS["clip"]), workspace)
        assert place.exists() is there
        place.unlink(missing_ok=True)
        shutil.rmtree(checkout / "data/weights/clip", ignore_errors=True)
    assert not place.is_symlink()


def test_the_checkpoints_of_the_studies_are_those_that_the_methods_page_tells_how_to_make(repository: Path) -> None:
    page = (repository / "docs/methods.md").read_text()
    named = {row.weights for name in NAMES for row in loaded_study(name, repository).rows if row.weights}
    assert {one.name for one in named} == {"BiomedCLIP", "PubMedCLIP"}
    for one in named:
        assert f"- **{one.name}**" in page
        assert one.place in page
        assert f"max_length: {one.max_length}" in page
