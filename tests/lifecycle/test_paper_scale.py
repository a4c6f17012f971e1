"""`flows.study --scale paper`: a published checkpoint of BiomedCLIP's shape is scored on a data set that is there."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

from pipelines.weights.open_clip import main as convert
from tests.lifecycle import study as small
from tests.tiny_biomedclip import make_biomedclip

pytestmark = [pytest.mark.lifecycle, pytest.mark.timeout(900)]

COLUMN = {"metric": "zero_shot/auc_macro", "unit": "percent"}
TABLE = {
    "paper": "A paper",
    "place": "Table 1",
    "title": "Zero-shot",
    "base": "params/pretraining.yaml",
    "trains_on": ["medregion_500k"],
    "columns": [{"name": "Shapes", "data": "shapes"} | COLUMN, {"name": "NLM-TB", "data": "nlm_tb"} | COLUMN],
    "rows": [
        {"name": "BiomedCLIP", "method": "pretrained", "weights": "biomedclip", "printed": [50.0, 60.0]},
        {"name": "CLIP", "method": "clip", "printed": [70.0, 80.0]},
    ],
}
SHAPES = {
    "name": "Shapes",
    "obtained": "the test",
    "licence": "Apache-2.0",
    "place": "data/raw/shapes",
    "adapter": "class_folders",
    "source": {"patient_ids": "public", "options": {"modality": "radiograph", "classes": {"mass": "mass", "no": None}}},
}


@pytest.fixture
def project(tmp_path: Path, repository: Path) -> Path:
    """A clone with one study, the settings of params/paper.yaml for two cores, and the checkpoint in its place."""
    folder = tmp_path / "project"
    small.clone(repository, folder)
    paper = yaml.safe_load((folder / "params/paper.yaml").read_text())
    # No models of the hub, which the real ones come from.
    paper |= {"proposals": {"proposers": []}, "captions": {"captioner": "findings", "prompts": "prompts/findings"}}
    paper |= {"shards": {"image_size": 32, "crop_size": 16}}
    paper["train"]["engine"] = {"threads": 1, "num_workers": 1, "use_gpu": False}
    (folder / "params/paper.yaml").write_text(yaml.safe_dump(paper, sort_keys=False))
    data = yaml.safe_load((folder / "studies/data.yaml").read_text())
    (folder / "studies/data.yaml").write_text(yaml.safe_dump(data | {"shapes": SHAPES}, sort_keys=False))
    (folder / "studies/try.yaml").write_text(yaml.safe_dump(TABLE, sort_keys=False))
    small.run("git", "add", "--all", cwd=folder)
    small.run("git", "commit", "--quiet", "--message", "A study at the scale paper", cwd=folder)
    make_biomedclip(tmp_path / "hub")
    convert(str(tmp_path / "hub"), str(folder / "data/weights/biomedclip"))
    return folder


def lay_shapes(folder: Path) -> None:
    """Images of noise, half of them with a bright square."""
    random = np.random.default_rng(0)
    for name in ("mass", "no"):
        (folder / name).mkdir(parents=True)
        for number in range(40):
            pixels = random.integers(0, 120, (32, 32), dtype=np.uint8)
            pixels[8:20, 8:20] += 120 if name == "mass" else 0
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


def make(project: Path, *more: str, fails: int = 0) -> str:
    return small.run(sys.executable, "-m", "flows.study", "try", "--scale", "paper", *more, cwd=project, fails=fails)


def test_a_published_checkpoint_is_scored_where_its_data_are(project: Path, tmp_path: Path) -> None:
    lay_shapes(tmp_path / "sets/shapes")
    output = make(project, "--raw", str(tmp_path / "sets"))
    ran = [line for line in output.splitlines() if line.startswith("Running stage 'train")]
    assert ran == ["Running stage 'train@pretrained_biomedclip':"]
    table = project / "data/studies/try-paper"
    cells = {(cell["row"], cell["column"]): cell for cell in json.loads((table / "table.json").read_text())["cells"]}
    ours = cells["BiomedCLIP", "Shapes"]
    scores = json.loads(
        (project / "workspaces/try-paper/data/evaluation/pretrained_biomedclip/metrics.json").read_text()
    )
    assert ours["ours"] == pytest.approx(100 * scores["tasks"]["zero_shot"]["metrics"]["auc_macro"]["value"])
    assert ours["difference"] == pytest.approx(ours["ours"] - 50)
    assert ours["chance"] == 50
    assert cells["BiomedCLIP", "NLM-TB"]["empty"].startswith(
        "NLM-TB (Shenzhen and Montgomery) is not in data/raw/nlm_tb"
    )
    assert cells["CLIP", "Shapes"]["empty"].startswith("MedRegion-500k is not in data/raw/medregion_500k")
    # What it was trained on nobody knows, and the page says so.
    assert "the images of data/weights/biomedclip, from which it started" in (table / "index.html").read_text()
    assert "Running stage" not in make(project)

    # Weights behind a link are not watched by DVC: a run with other ones is refused, and gives no old figures.
    weights = project / "data/weights/biomedclip/projections.safetensors"
    save_file({name: torch.zeros_like(one) for name, one in load_file(weights).items()}, weights, {"format": "pt"})
    assert "error: in workspaces/try-paper: train@pretrained_biomedclip: weights" in make(project, fails=1)
