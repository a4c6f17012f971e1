"""The examples of docs/extending.md, run as they stand there: in a copy of the project, and from a package."""

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from models import checkpoint
from pipelines.config import parse
from pipelines.errors import UserError
from pipelines.evaluate.config import EvaluateConfig
from pipelines.evaluate.stage import evaluate
from pipelines.ingest.config import IngestConfig
from pipelines.ingest.stage import run as ingest
from pipelines.records import CAPTIONS, IMAGES, REGIONS, REJECTED, SPLIT_IMAGES
from pipelines.registry import PLUGINS
from tests.docs.page import Page, read_page
from tests.fingerprints import write_fingerprint
from tests.pipelines.evaluate.small_world import WORDS, Collapsed, Matcher, image, tokenizer_of, write_shards
from tests.rows import values_of

STAGES = (
    ("ingest", "chest_xray"),
    ("split",),
    ("proposals",),
    ("regions",),
    ("captions",),
    ("shards", "images"),
    ("shards", "captions"),
    ("train", "cyclip"),
    ("evaluate", "cyclip"),
)
RUN = """
import importlib
for name, *arguments in {stages}:
    importlib.import_module(f"pipelines.{{name}}.stage").main(*arguments)
"""


@pytest.fixture(scope="module")
def page(repository: Path) -> Page:
    return read_page(repository)


def merged(values: dict[str, Any], *others: dict[str, Any]) -> dict[str, Any]:
    result = dict(values)
    for other in others:
        for key, value in other.items():
            old = result.get(key)
            result[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def make_images(root: Path) -> None:
    """36 images of two classes, one of them with a bright spot; three that cannot be used."""
    random = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 2), ("test", 4)):
        for number in range(2 * count):
            sick = number % 2 == 1
            values = random.integers(0, 120, (16, 16)).repeat(4, axis=0).repeat(4, axis=1).astype(np.uint8)
            values[24:40, 24:40] += 130 * sick
            # Two images of each patient, in one split.
            patient = f"{'person' if sick else 'IM-0'}{['train', 'val', 'test'].index(split)}{number // 4}"
            file = root / split / f"{patient}-{number}_{'PNEUMONIA' if sick else 'NORMAL'}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(file)
    Image.fromarray(values).save(root / "train" / "scan_NORMAL.png")
    Image.fromarray(values).save(root / "train" / "IM-0998-1_OTHER.png")
    (root / "test" / "IM-0999-1_NORMAL.png").write_text("no image")


def params(page: Page, repository: Path, **train: Any) -> dict[str, Any]:
    """The params that ship, with those of the page; one process and few resamples, to be quick."""
    ours = yaml.safe_load((repository / "params.yaml").read_text(encoding="utf-8"))
    quick = {
        "workers": {"processes": 1},
        "train": {"engine": {"num_workers": 0, "threads": 1}},
        "evaluate": {"bootstrap": {"samples": 50}},
    }
    values = merged(ours, *page.params, quick)
    values["ingest"]["sources"] = {"chest_xray": values["ingest"]["sources"]["chest_xray"]}
    return values


def run(folder: Path, path: list[Path], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def project(page: Page, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages with the page's files, registry lines and params, after a run of the stages."""
    project = tmp_path_factory.mktemp("project")
    for folder in ("pipelines", "models", "prompts"):
        shutil.copytree(repository / folder, project / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in page.files.items():
        file = project / name
        assert not file.exists(), f"{name} is in the repository already"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    registry = project / "pipelines" / "registry.py"
    text = registry.read_text(encoding="utf-8")
    for kind, lines in page.registry.items():
        assert f'    "{kind}": {{\n' in text
        text = text.replace(f'    "{kind}": {{\n', f'    "{kind}": {{\n' + "".join(f"        {line}" for line in lines))
    registry.write_text(text, encoding="utf-8")
    (project / "params.yaml").write_text(yaml.safe_dump(params(page, repository)), encoding="utf-8")
    (project / "data").mkdir()
    (project / "data" / "review.jsonl").touch()
    (project / "data" / "audit.jsonl").touch()
    make_images(project / "data" / "raw" / "chest_xray")
    (project / "run.py").write_text(RUN.format(stages=STAGES), encoding="utf-8")
    done = run(project, [project], "run.py")
    assert done.returncode == 0, done.stderr
    return project


def summary(project: Path, stage: str) -> dict[str, Any]:
    return json.loads((project / "data" / "summaries" / f"{stage}.json").read_text(encoding="utf-8"))


def test_every_kind_has_an_example_with_one_registry_line(page: Page) -> None:
    assert {kind: len(lines) for kind, lines in page.registry.items()} == dict.fromkeys(PLUGINS, 1)
    for lines in page.registry.values():
        module = lines[0].split('"')[3].partition(":")[0]
        assert f"{module.replace('.', '/')}.py" in page.files


def test_the_source_takes_split_patient_and_label_from_folders_and_names(project: Path) -> None:
    counts = summary(project, "ingest-chest_xray")
    assert (counts["inputs"], counts["ok"], counts["failed"]) == (39, 36, 0)
    assert counts["reasons"] == {"rejected": {"no_patient_in_name": 1, "unlisted_class": 1, "unsupported_type": 1}}
    folder = project / "data" / "ingest" / "chest_xray"
    images = {row["path"]: row for row in values_of(IMAGES, folder / "images.parquet")}
    sick, well = images["train/person00-1_PNEUMONIA.png"], images["val/IM-010-0_NORMAL.png"]
    assert (sick["labels"], sick["split"], sick["modality"]) == (["pneumonia"], "train", "radiograph")
    assert (well["labels"], well["split"]) == ([], "validation")
    assert sick["patient"] == images["train/person00-3_PNEUMONIA.png"]["patient"]
    assert len({row["patient"] for row in images.values()}) == 2 * (6 + 1 + 2)
    rejected = values_of(REJECTED, folder / "rejected.parquet")
    names = ["train/IM-0998-1_OTHER.png", "train/scan_NORMAL.png", "test/IM-0999-1_NORMAL.png"]
    assert [row["path"] for row in rejected] == names
    splits = [row.split for row in SPLIT_IMAGES.read(project / "data" / "split" / "images.parquet")]
    assert {name: splits.count(name) for name in set(splits)} == {"train": 24, "validation": 4, "test": 8}


def test_the_proposer_and_the_segmenter_give_one_ellipse_in_the_middle(project: Path) -> None:
    regions = REGIONS.read(project / "data" / "regions" / "regions.parquet")
    # None on the 12 training images whose source says that there is no finding.
    assert len(regions) == 24
    for row in regions:
        assert (row.proposer, row.segmenter, row.status) == ("center", "ellipse", "accepted")
        assert row.box == (16, 16, 48, 48)
        assert row.area == pytest.approx(math.pi * 16**2, rel=0.02)


def test_the_captioner_describes_from_labels_and_geometry(project: Path) -> None:
    captions = values_of(CAPTIONS, project / "data" / "captions" / "captions.parquet")
    images = [(row["status"], row["report"]) for row in captions if row["kind"] == "image"]
    assert images.count(("ok", "chest radiograph with pneumonia.")) == 18
    assert images.count(("no_finding", "chest radiograph without findings.")) == 18
    regions = [row for row in captions if row["kind"] == "region"]
    assert [row["status"] for row in regions].count("no_finding") == 6
    (described,) = {(row["region_caption"], *row["negatives"]) for row in regions if row["status"] == "ok"}
    others = ("crescent", "elongated", "irregular", "lobulated", "oval")
    assert described == tuple(f"{word} | region | center middle" for word in ("round", *others))


def test_the_method_trains_and_the_task_scores_it(project: Path) -> None:
    trained = summary(project, "train-cyclip")
    assert (trained["inputs"], trained["ok"], trained["steps"]) == (24, 24, 6)  # 24 / 8 batches, two epochs
    assert checkpoint.read_config(project / "data" / "checkpoints" / "cyclip")["method"] == "cyclip"
    tasks = json.loads((project / "data" / "evaluation" / "cyclip" / "metrics.json").read_text())["tasks"]
    result = tasks["label_precision"]
    assert (result["status"], result["items"], result["excluded"]) == ("ok", 8, {})
    assert result["metrics"]["precision@5"]["chance"] == 0.5
    assert result["metrics"]["precision@5"]["value"] in (0.2, 0.4, 0.6, 0.8)  # 4 of 8 images have it, 5 are counted
    assert tasks["retrieval"]["status"] == "ok"


@pytest.fixture
def outside(page: Page, tmp_path: Path) -> Path:
    """What pip leaves of a package with the page's source and its entry point."""
    folder = tmp_path / "site-packages"
    ((group, entries),) = page.entry_points.items()
    ((name, value),) = entries.items()
    install(folder, value.partition(":")[0], page.files["pipelines/ingest/sources/class_in_name.py"])
    (folder / "my_package-1.0.dist-info" / "entry_points.txt").write_text(f"[{group}]\n{name} = {value}\n")
    return folder


def install(folder: Path, module: str, code: str) -> None:
    package = module.partition(".")[0]
    file = folder / f"{module.replace('.', '/')}.py"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(code, encoding="utf-8")
    information = folder / f"{package}-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")


def test_a_source_of_another_package_needs_no_change_here(
    page: Page, repository: Path, outside: Path, tmp_path: Path
) -> None:
    study = tmp_path / "study"
    make_images(study / "data" / "raw" / "chest_xray")
    (study / "params.yaml").write_text(yaml.safe_dump(params(page, repository)), encoding="utf-8")
    write_fingerprint(study, "ingest@chest_xray", "pipelines.ingest")
    done = run(study, [repository], "-m", "pipelines.ingest", "chest_xray")
    assert done.returncode == 1
    assert "error: ingest.sources.chest_xray: 'class_in_name' is not one of the sources: choose from" in done.stderr
    done = run(study, [outside, repository], "-m", "pipelines.ingest", "chest_xray")
    assert done.returncode == 0, done.stderr
    assert summary(study, "ingest-chest_xray")["ok"] == 36


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class": {}}, "options.class: unknown key; did you mean 'classes'?"),
        ({"modality": "x-ray"}, "options: modality 'x-ray': choose from"),
        ({}, "has no files in train, val, test"),
        ({"patient": "("}, "options.patient: "),
    ],
)
def test_mistakes_in_the_sources_options_are_one_line(
    page: Page,
    repository: Path,
    outside: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Any,
    message: str,
) -> None:
    monkeypatch.syspath_prepend(outside)
    values = params(page, repository)["ingest"]
    source = values["sources"]["chest_xray"]
    values["sources"] = {"chest_xray": {**source, "root": str(tmp_path), "options": source["options"] | change}}
    with pytest.raises(UserError) as caught:
        ingest("chest_xray", parse(IngestConfig, values, "ingest"), tmp_path / "out", tmp_path / "summaries")
    assert str(caught.value).startswith("ingest.sources.chest_xray: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_task_gives_the_score_worked_out_by_hand(
    page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "outside_task", page.files["pipelines/evaluate/tasks/label_precision.py"])
    entry_points = "[medregion.tasks]\nlabel_precision = outside_task:LabelPrecision\n"
    (tmp_path / "outside_task-1.0.dist-info" / "entry_points.txt").write_text(entry_points)
    monkeypatch.syspath_prepend(tmp_path)

    first, second = WORDS[:2]
    labels = [[first], [second], [], [], None, [first]]
    folders = write_shards(tmp_path / "shards", [image(n, labels=of_image) for n, of_image in enumerate(labels)])
    tokenizer = tokenizer_of([f"a finding called {word} no" for word in WORDS])
    tasks = {"label_precision": {"template": "a finding called {label}", "k": 2}}
    config = parse(EvaluateConfig, {"tasks": tasks, "batch_size": 4, "bootstrap": {"samples": 50, "seed": 0}}, "here")
    values = {}
    for model in (Matcher(tokenizer), Collapsed()):
        output = tmp_path / type(model).__name__
        evaluate(config, "probe", model, tokenizer, "0" * 64, *folders, output, tmp_path / "summaries")
        result = json.loads((output / "metrics.json").read_text())["tasks"]["label_precision"]
        assert (result["status"], result["items"], result["excluded"]) == ("ok", 5, {"no_labels": 1})
        values[type(model).__name__] = result["metrics"]["precision@2"]
    # Matcher ranks the word's own image first; the four others tie, and those without the finding come first of these.
    assert values["Matcher"]["value"] == 0.5
    assert values["Collapsed"]["value"] == 0.0
    assert values["Matcher"]["chance"] == pytest.approx((2 / 5 + 1 / 5) / 2)
    assert values["Matcher"]["low"] <= 0.5 <= values["Matcher"]["high"]
