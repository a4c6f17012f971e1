"""A study that is small but learns: its best method is above chance, and it is made in about a minute."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

# The metric that a handful of test images can show to be above chance.
METRIC = "retrieval/i2t_recall@10"


def params(file: Path, server: str) -> dict[str, Any]:
    """The repository's params.yaml, with sizes for a minute and runs kept on a server."""
    params = yaml.safe_load(file.read_text())
    params["phantom"] |= {"images": 300, "size": 64}
    params["split"]["fractions"] = {"train": 0.6, "validation": 0.2, "test": 0.2}
    params["workers"]["processes"] = 1
    params["proposals"]["labelled_images"] = 40
    params["shards"] |= {"image_size": 32, "crop_size": 16}
    params["train"]["methods"] = {name: params["train"]["methods"][name] for name in ("clip", "plan")}
    # CLIP as its paper has it, one phase: it tells images apart after seconds.
    clip = params["train"]["methods"]["clip"]
    clip["model"]["sentences"] = False
    clip["model"]["image_encoder"]["pooling"] = "mean"
    clip["model"]["image_encoder"]["architecture"]["patch_size"] = 8
    del clip["training"]["phase_order"]
    clip["training"]["phases"] = {"global": {"losses": ["report"], "schedule": "cosine"}}
    for method, epochs in (("clip", 12), ("plan", 3)):
        settings = params["train"]["methods"][method]
        settings["model"]["image_encoder"]["architecture"] |= {"image_size": 32, "num_hidden_layers": 1}
        settings["training"]["vocabulary_size"] = 300
        for phase in settings["training"]["phases"].values():
            phase |= {"epochs": epochs, "batch_size": 30, "learning_rate": 0.002, "warmup_steps": 5}
    params["evaluate"]["bootstrap"]["samples"] = 200
    params["tracking"] |= {"uri": server, "artifacts": None, "live_after": 0}
    params["promote"]["metric"] = METRIC
    return params


def clone(repository: Path, folder: Path) -> None:
    """A git clone of a checkout with what is not committed there yet; of its runs, which leave a dvc.lock, nothing."""
    subprocess.run(["git", "clone", "--quiet", str(repository), str(folder)], check=True)
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(listed, cwd=repository, capture_output=True, text=True, check=True)
    for name in filter(None, done.stdout.split("\0")):
        if (repository / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(repository / name, folder / name)
        else:
            (folder / name).unlink(missing_ok=True)
    (folder / "dvc.lock").unlink(missing_ok=True)
    for name, value in (("user.name", "Tester"), ("user.email", "tester@localhost")):
        subprocess.run(["git", "config", name, value], cwd=folder, check=True)


def copy(study: Path, folder: Path, name: str) -> Path:
    """A copy of a study that may be changed, with an experiment and a registered model of its own, all committed."""
    shutil.copytree(study, folder, symlinks=True)
    settings = yaml.safe_load((folder / "params.yaml").read_text())
    settings["tracking"] |= {"experiment": name, "model": name}
    (folder / "params.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    run(sys.executable, "-m", "pipelines.tracking", cwd=folder)
    run("git", "commit", "--quiet", "--all", "--message", "A registered model of its own", cwd=folder)
    return folder


def environment() -> dict[str, str]:
    """That of a shell in which the environment is active; modules are those of the working directory."""
    dropped = ("RAY_", "PREFECT_API", "MLFLOW_TRACKING", "PYTHONPATH")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return kept | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}", "PYTHONUNBUFFERED": "1"}


def run(*command: str | Path, cwd: Path, fails: int = 0) -> str:
    """What a command prints, standard output and error together; it must end with the exit code `fails`."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == fails, f"{command}: exit code {done.returncode}\n{done.stdout[-4000:]}"
    assert "Traceback" not in done.stdout, done.stdout[-4000:]
    return done.stdout
