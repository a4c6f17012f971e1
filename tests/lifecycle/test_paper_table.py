"""`flows.study`: a table of two rows of ours is made, then made again with another setting of one, and a wrong one."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow.tracking import MlflowClient

from models.verified import verify_folder
from tests.lifecycle import study as small

pytestmark = [pytest.mark.lifecycle, pytest.mark.timeout(900)]

ONE_EPOCH = {"training": {"phases": {"global": {"epochs": 1}}}}
TABLE = {
    "paper": "A paper",
    "place": "Table 1",
    "title": "Retrieval",
    "base": "params/small.yaml",
    "columns": [{"name": "R@10", "metric": "retrieval/i2t_recall@10", "unit": "percent"}],
    "rows": [
        {"name": "CLIP", "method": "clip", "printed": [80.0]},
        {"name": "CLIP, one epoch", "method": "clip", "settings": ONE_EPOCH, "printed": [70.0]},
        {"name": "Theirs", "printed": [90.0]},
    ],
}


@pytest.fixture
def project(tmp_path: Path, repository: Path) -> Path:
    """A clone with one small study."""
    folder = tmp_path / "project"
    small.clone(repository, folder)
    settings = small.params(folder / "params.yaml", "sqlite:///data/mlflow/mlflow.db")
    settings["tracking"]["live_after"] = 60
    settings["train"]["methods"].pop("plan")
    (folder / "params.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    (folder / "params/small.yaml").write_text("{}\n")
    demo = yaml.safe_load((folder / "studies/scales/demo.yaml").read_text())
    (folder / "studies/scales/demo.yaml").write_text(yaml.safe_dump({**demo, "phantom": {"images": 150}}))
    (folder / "studies/try.yaml").write_text(yaml.safe_dump(TABLE, sort_keys=False))
    small.run("git", "add", "--all", cwd=folder)
    small.run("git", "commit", "--quiet", "--message", "A small study", cwd=folder)
    return folder


def make(project: Path, *more: str) -> tuple[str, dict[str, Any]]:
    """What the command prints, and the cells of the table by row."""
    output = small.run(sys.executable, "-m", "flows.study", "try", *more, cwd=project)
    found = json.loads((project / "data/studies/try-demo/table.json").read_text())
    return output, {cell["row"]: cell for cell in found["cells"]}


def test_a_table_is_made_and_made_again_at_the_price_of_what_changed(project: Path) -> None:
    params = (project / "params.yaml").read_bytes()
    output, first = make(project)
    assert {"Running stage 'train@clip':", "Running stage 'train@clip_clip_one_epoch':"} <= set(output.splitlines())
    assert first["CLIP"]["ours"] > first["CLIP"]["chance"] > 0
    assert first["CLIP"]["difference"] == pytest.approx(first["CLIP"]["ours"] - 80)
    assert first["CLIP, one epoch"]["ours"] is not None
    assert (first["Theirs"]["ours"], first["Theirs"]["printed"], first["Theirs"]["empty"]) == (
        None,
        90,
        "not implemented",
    )
    assert "| CLIP | " in output
    assert (project / "params.yaml").read_bytes() == params
    assert small.run("git", "status", "--porcelain", cwd=project) == ""
    own = yaml.safe_load((project / "workspaces/try-demo/params.yaml").read_text())
    assert (own["phantom"]["images"], list(own["train"]["methods"])) == (150, ["clip", "clip_clip_one_epoch"])

    # The page with pictures of both, and the pictures with the runs of both.
    folder = project / "data/studies/try-demo"
    verify_folder(folder)
    page = (folder / "index.html").read_text()
    assert '<a href="rows/clip_clip_one_epoch.html">CLIP, one epoch</a>' in page
    assert "pictures are not made" not in page
    made = {file.name for file in (folder / "pictures").iterdir()}
    assert {"heat_maps.png", "retrieved.html"} <= made
    client = MlflowClient(f"sqlite:///{project}/workspaces/try-demo/data/mlflow/mlflow.db")
    experiment = client.get_experiment_by_name("study-try-demo")
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 2
    for run in runs:
        logged = client.list_artifacts(run.info.run_id, "study")
        assert {Path(file.path).name for file in logged} == made

    table = yaml.safe_load((project / "studies/try.yaml").read_text())
    table["rows"][1]["settings"]["training"]["phases"]["global"]["epochs"] = 2
    (project / "studies/try.yaml").write_text(yaml.safe_dump(table))
    output, changed = make(project)
    ran = [line for line in output.splitlines() if line.startswith("Running stage")]
    stages = ("code", "train@clip_clip_one_epoch", "evaluate@clip_clip_one_epoch")
    assert ran == [f"Running stage '{stage}':" for stage in stages]
    assert "is cached - skipping run" not in output
    assert changed["CLIP"] == first["CLIP"]

    # A failed row leaves the others their figures.
    table["rows"][1]["settings"]["training"]["phases"]["global"]["batch_size"] = 10_000
    (project / "studies/try.yaml").write_text(yaml.safe_dump(table))
    output = small.run(sys.executable, "-m", "flows.study", "try", cwd=project, fails=1)
    assert "error: a stage failed in workspaces/try-demo" in output
    cells = json.loads((project / "data/studies/try-demo/table.json").read_text())["cells"]
    assert [(cell["row"], cell["empty"]) for cell in cells] == [
        ("CLIP", None),
        ("CLIP, one epoch", "not run yet"),
        ("Theirs", "not implemented"),
    ]
