"""Raw data, params and results in DVC: a version with other images, the way back, a colleague, and an experiment."""

import json
import re
import shutil
import sys
import tarfile
from pathlib import Path

import numpy as np
import pandas
import pytest
import yaml
from PIL import Image

from models.verified import sha256_file
from tests.lifecycle import study as small
from tests.lifecycle.study import run

# The first test of a worker makes the study, too.
pytestmark = [pytest.mark.lifecycle, pytest.mark.timeout(900)]

RAW = "data/raw/mine"
IMAGES = 48
# All of the training split.
CHANGED = (5, 16, 27)
EPOCHS = "train.methods.clip.training.phases.global.epochs"


def picture(file: Path, seed: int) -> None:
    """Noise of a few pixels, scaled up: no two are near-duplicates."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 6), dtype=np.uint8)
    Image.fromarray(noise).resize((48, 48), Image.Resampling.BICUBIC).save(file)


def write_source(folder: Path) -> None:
    """Images of as many patients, with a published split: dealt out, those near the ends of a split may move."""
    (folder / "scans").mkdir(parents=True)
    rows = ["file_name,text,patient_id,modality,labels,split"]
    for number in range(IMAGES):
        picture(folder / "scans" / f"{number}.png", number)
        finding, split = ("line", "spot")[number % 2], ("train", "train", "train", "validation", "test")[number % 5]
        rows.append(f"scans/{number}.png,Picture {number} shows a {finding}.,P{number},other,{finding},{split}")
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")


@pytest.fixture(scope="module")
def versioned(tmp_path_factory: pytest.TempPathFactory, repository: Path, mlflow_server: str) -> Path:
    """A study of one folder that `dvc add` versions, run and tagged `first`; no test changes it."""
    folder = tmp_path_factory.mktemp("versions") / "study"
    small.clone(repository, folder)
    params = small.params(folder / "params.yaml", mlflow_server)
    params["ingest"]["sources"] = {"mine": {"adapter": "table", "root": RAW, "patient_ids": "public"}}
    params["shards"]["samples_per_shard"] = 6
    params["train"]["methods"] = {"clip": params["train"]["methods"]["clip"]}
    training = params["train"]["methods"]["clip"]["training"]
    for phase in training["phases"].values():
        phase |= {"epochs": 1, "batch_size": 4, "warmup_steps": 1}
    params["tracking"] |= {"experiment": "versions", "model": "versions"}
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    write_source(folder / RAW)
    run("dvc", "add", RAW, cwd=folder)
    run("dvc", "repro", cwd=folder)
    commit(folder, "first")
    return folder


def commit(folder: Path, tag: str) -> None:
    run("git", "add", "--all", cwd=folder)
    run("git", "commit", "--quiet", "--message", tag, cwd=folder)
    run("git", "tag", tag, cwd=folder)


@pytest.fixture
def work(versioned: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(versioned, tmp_path / "study", symlinks=True))


def digests(folder: Path) -> dict[str, str]:
    """All that DVC keeps but what holds timings."""
    files = [file for file in (folder / "data").rglob("*") if file.is_file()]
    left_out = {"summaries", "report", "logs", "cache", "mlflow", "tmp"}
    names = {file.relative_to(folder): file for file in files}
    return {name.as_posix(): sha256_file(file) for name, file in names.items() if name.parts[1] not in left_out}


def rows(folder: Path, table: str) -> dict[str, str]:
    """Image -> its rows of a table, as text."""
    frame = pandas.read_parquet(folder / "data" / table)
    return {image: repr(of_image.to_dict("records")) for image, of_image in frame.groupby("image_id")}


def samples(folder: Path) -> dict[tuple[str, str, str], dict[str, bytes]]:
    """Family, split and key of each sample -> its members' bytes."""
    found: dict[tuple[str, str, str], dict[str, bytes]] = {}
    for file in sorted((folder / "data/shards").rglob("*.tar")):
        with tarfile.open(file) as tar:
            for member in tar:
                key, _, extension = member.name.partition(".")
                place = (*file.relative_to(folder / "data/shards").parts[:2], key)
                stream = tar.extractfile(member)
                assert stream is not None
                found.setdefault(place, {})[extension] = stream.read()
    return found


def test_the_phantom_of_a_study_that_does_not_read_it_is_not_drawn(versioned: Path) -> None:
    assert [file.name for file in (versioned / "data/raw/phantom").iterdir()] == ["SHA256SUMS"]
    assert json.loads((versioned / "data/summaries/phantom.json").read_text())["inputs"] == 0


def test_three_changed_images_change_what_they_touch_and_the_tag_brings_the_bytes_back(work: Path) -> None:
    before, first_rows, first_samples = digests(work), rows(work, "ingest/mine/images.parquet"), samples(work)
    first_captions, first_split = rows(work, "captions/captions.parquet"), rows(work, "split/images.parquet")
    assert len(first_rows) == IMAGES
    for number in CHANGED:
        picture(work / RAW / "scans" / f"{number}.png", 1000 + number)
    assert set(json.loads(run("dvc", "status", "--json", cwd=work))) == {f"{RAW}.dvc", "ingest@mine"}
    run("dvc", "add", RAW, cwd=work)
    ran = set(re.findall(r"^Running stage '(.+)':$", run("dvc", "repro", cwd=work), re.MULTILINE))
    assert not ran & {"code", "phantom"}

    for table, old in (
        ("ingest/mine/images.parquet", first_rows),
        ("split/images.parquet", first_split),
        ("captions/captions.parquet", first_captions),
    ):
        new = rows(work, table)
        assert (len(old.keys() - new.keys()), len(new.keys() - old.keys())) == (3, 3), table
        assert {image: new[image] for image in old.keys() & new.keys()} == {
            image: old[image] for image in old.keys() & new.keys()
        }, table
    new_samples = samples(work)
    common = first_samples.keys() & new_samples.keys()
    # An image and its captions are a sample of each family.
    assert len(first_samples) == len(new_samples) == 2 * IMAGES
    assert len(first_samples.keys() - common) == len(new_samples.keys() - common) == 2 * len(CHANGED)
    assert all(first_samples[place] == new_samples[place] for place in common)
    # Tars of splits without a changed image keep their bytes.
    after = digests(work)
    tars = {name for name in before if name.endswith(".tar") and "/train/" not in name}
    assert tars
    assert {name: after[name] for name in tars} == {name: before[name] for name in tars}
    for family in ("image", "caption"):
        counts = json.loads((work / f"data/summaries/{family}_shards.json").read_text())["tars"]
        assert counts["taken_over"] >= len(tars) / 2
        assert counts["written"]
    commit(work, "second")

    run("git", "checkout", "--quiet", "first", cwd=work)
    run("dvc", "checkout", cwd=work)
    assert digests(work) == before
    assert "up to date" in run("dvc", "status", cwd=work)
    run("git", "checkout", "--quiet", "second", cwd=work)
    run("dvc", "checkout", cwd=work)
    assert digests(work) == after


def test_a_colleague_pulls_equal_bytes_and_makes_the_run(work: Path, tmp_path: Path) -> None:
    run("dvc", "remote", "add", "--default", "storage", tmp_path / "remote", cwd=work)
    run("git", "commit", "--quiet", "--all", "--message", "A remote", cwd=work)
    run("dvc", "push", cwd=work)
    run("git", "clone", "--quiet", work, tmp_path / "colleague", cwd=tmp_path)
    colleague = tmp_path / "colleague"
    # What is not pulled yet is told by our line, not by DVC's.
    line = f"error: params.yaml: ingest.sources.mine.root: {RAW} is not here, only its pointer for DVC"
    assert line in run(sys.executable, "-m", "pipelines.code", "status", cwd=colleague, fails=True)
    run("dvc", "pull", cwd=colleague)
    assert digests(colleague) == digests(work)
    assert "up to date" in run("dvc", "status", cwd=colleague)
    assert "Running stage" not in run("dvc", "repro", cwd=colleague)
    # In an experiment of their own; that of the study has the run that training made.
    params = yaml.safe_load((colleague / "params.yaml").read_text())
    params["tracking"] |= {"experiment": "colleague", "model": "colleague"}
    (colleague / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    assert "runs_made 1" in run(sys.executable, "-m", "pipelines.tracking", cwd=colleague)
    assert "runs_made 0" in run(sys.executable, "-m", "pipelines.tracking", cwd=work)


def test_an_experiment_tells_what_changed_in_quality(work: Path) -> None:
    run("dvc", "exp", "run", "--name", "longer", "-S", f"{EPOCHS}=6", cwd=work)
    difference = {"params.yaml": {EPOCHS: {"old": 1, "new": 6, "diff": 5}}}
    assert json.loads(run("dvc", "params", "diff", "--json", cwd=work)) == difference
    metrics = json.loads(run("dvc", "metrics", "diff", "--json", cwd=work))
    changed = metrics.get("diff", metrics)
    # Scores of the method that was trained, and no seconds and counts.
    assert set(changed) <= {"data/scores/test/clip.json", "data/scores/validation/clip.json"}
    assert any("zero_shot.auc_macro" in values for values in changed.values())

    shown = run("dvc", "exp", "show", "--csv", "--only-changed", cwd=work).splitlines()
    header = next(line for line in shown if line.startswith("Experiment,"))
    assert EPOCHS in header
    assert "data/scores/validation/clip.json:" in header or "retrieval." in header
    assert "seconds" not in header

    page = Path(
        run("dvc", "plots", "diff", "HEAD", "workspace", cwd=work).strip().splitlines()[-1].removeprefix("file://")
    )
    html = page.read_text()
    for title in ("Loss of training", "Retrieval on the test split", "ROC of each finding"):
        assert title in html
    assert {rev for rev in ("HEAD", "workspace") if f'"rev": "{rev}"' in html} == {"HEAD", "workspace"}
    # The page says so where vega cannot be loaded.
    assert "which cannot be reached" in html
