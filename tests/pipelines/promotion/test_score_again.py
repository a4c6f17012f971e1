"""A version is scored again by what lies in the project, wherever the command runs."""

from pathlib import Path

import pytest
import yaml

from models.encoders import ImageEncoder
from pipelines.cache import FEATURE_CACHE
from pipelines.config import load
from pipelines.evaluate.config import EvaluateConfig
from pipelines.evaluate.scoring import load_model
from pipelines.promotion.candidates import score_again
from tests.pipelines.evaluate.small_world import image, save_clip, write_shards
from tests.pipelines.promotion.promotion_world import write_params

FILE = "prompts/zero_shot/mine.yaml"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One whose findings have prompts in a file, and beside it the working folder, where other words are in it."""
    here, project = tmp_path / "here", tmp_path / "project"
    for folder, word in ((here, "beta"), (project, "alpha")):
        (folder / FILE).parent.mkdir(parents=True)
        (folder / FILE).write_text(yaml.safe_dump({"prompts": {"alpha": [f"a finding called {word}"]}}))
    options = {"templates": ["{label}"], "negatives": ["no {label}"], "prompts": FILE}
    write_params(project, train={"methods": {"clip": {}}}, evaluate={"tasks": {"zero_shot": options}})
    write_shards(project / "data/shards", [image(number, labels=["alpha"][number:]) for number in range(3)])
    save_clip(project / "data/checkpoints/clip", seed=0)
    monkeypatch.chdir(here)
    return project


def test_the_prompts_are_those_of_the_project(project: Path) -> None:
    config = load(EvaluateConfig, "evaluate", project / "params.yaml")
    scored = score_again(project / "data/checkpoints/clip", config, project, "zero_shot")
    assert {row.prompt for row in scored.rows} == {"a finding called alpha\n\nno alpha"}


def test_features_are_kept_in_the_project(project: Path) -> None:
    model = load_model("clip", project / "data/checkpoints/clip", project).model
    folders = [part.features_folder for part in model.modules() if isinstance(part, ImageEncoder)]
    assert folders == [project / FEATURE_CACHE]
