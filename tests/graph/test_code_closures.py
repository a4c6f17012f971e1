"""The import graph of the packages: it holds every module, each has a use, and an edit reruns what it reaches."""

import dataclasses
import re
from pathlib import Path

import pytest
import yaml

from pipelines.code.closure import PACKAGES, all_modules, closure_modules
from pipelines.code.config import CodeConfig, load_code
from pipelines.code.stage import fingerprints, stage_plugins
from pipelines.registry import PLUGINS, module_of

CONTRASTIVE = {"clip", "convirt", "gloria", "mgca", "plan", "prior", "regionmed_clip"}
WITH_WORDS = {"gloria", "lvit", "mgca", "plan"}
WITH_UNET_BLOCKS = {"lvit", "reclmis", "unet"}


@pytest.fixture(scope="module")
def everything(repository: Path) -> CodeConfig:
    """Params that name every plug-in of ours."""
    return dataclasses.replace(
        load_code(repository / "params.yaml"),
        sources={name: name for name in PLUGINS["sources"]},
        proposers=[name for name in PLUGINS["proposers"] if name != "annotations"],
        methods={name: name for name in PLUGINS["methods"]},
        tasks=list(PLUGINS["tasks"]),
    )


@pytest.fixture(scope="module")
def fingerprints_of_all(everything: CodeConfig) -> dict[str, dict[str, str]]:
    return fingerprints(everything)


def folders(repository: Path) -> list[Path]:
    found = [folder for package in PACKAGES for folder in (repository / package).rglob("*") if folder.is_dir()]
    return [folder for folder in found if folder.name != "__pycache__"]


def test_every_folder_is_a_package(repository: Path) -> None:
    without = [folder for folder in folders(repository) if not (folder / "__init__.py").is_file()]
    assert without == []


def test_every_module_is_in_the_import_graph(repository: Path) -> None:
    files = [file.relative_to(repository) for package in PACKAGES for file in (repository / package).rglob("*.py")]
    assert {".".join(file.with_suffix("").parts).removesuffix(".__init__") for file in files} == all_modules()


def test_every_module_is_reached_from_a_stage_or_something_that_people_run_or_read(
    repository: Path, everything: CodeConfig
) -> None:
    plugins = [module_of(kind, name) for kind, known in PLUGINS.items() for name in known]
    stages = {package for package, _ in stage_plugins(everything).values()}
    commands = [f"{package}.{module}" for package in stages for module in ("__main__", "stage")]
    held = closure_modules(*plugins, *commands, *named(repository))
    # A lone __init__ makes a folder of templates a package.
    assert {module for module in all_modules() - held if not module.endswith(".templates")} <= {"pipelines.registry"}


def named(repository: Path) -> set[str]:
    """Modules that a test, a page, the Makefile or a script names, as a module or as a file."""
    texts = [repository / "Makefile", repository / "README.md", *(repository / "scripts").iterdir()]
    texts += [*(repository / "docs").glob("*.md"), *(repository / "benchmarks").glob("*.py")]
    texts += (repository / "tests").rglob("*.py")
    known, found = all_modules(), set()
    for file in texts:
        for match in re.finditer(r"\b(?:flows|pipelines|models)(?:[./]\w+)+", file.read_text(encoding="utf-8")):
            name = match.group().removesuffix(".py").replace("/", ".")
            found |= {name, f"{name}.__main__", name.rpartition(".")[0]} & known
    return found


def test_how_runs_are_shown_decides_no_stage(fingerprints_of_all: dict[str, dict[str, str]]) -> None:
    assert {file for files in fingerprints_of_all.values() for file in files if "tracking" in file} == set()


@pytest.mark.parametrize(
    ("file", "stages"),
    [
        ("models/losses.py", {f"{stage}@{name}" for stage in ("train", "evaluate") for name in CONTRASTIVE}),
        ("models/words.py", {f"{stage}@{name}" for stage in ("train", "evaluate") for name in WITH_WORDS}),
        (
            "models/segmentation/blocks.py",
            {f"{stage}@{name}" for stage in ("train", "evaluate") for name in WITH_UNET_BLOCKS},
        ),
        ("models/unet/model.py", {"train@unet", "evaluate@unet"}),
        ("pipelines/captions/captioners/findings.py", {"captions"}),
        ("pipelines/captions/captioners/vllm/request_loop.py", set()),
        ("pipelines/chat/client.py", {f"evaluate@{name}" for name in PLUGINS["methods"]}),
        ("pipelines/ingest/sources/vqa_rad.py", {"ingest@vqa_rad"}),
        ("pipelines/proposals/segmenters/medsam.py", set()),
        ("pipelines/report/templates/style.css", {"report"}),
        ("pipelines/registry.py", set()),
    ],
)
def test_the_stages_whose_fingerprint_holds_a_file(
    fingerprints_of_all: dict[str, dict[str, str]], file: str, stages: set[str]
) -> None:
    assert {stage for stage, digests in fingerprints_of_all.items() if file in digests} == stages


def test_dvc_yaml_lists_few_modules(repository: Path) -> None:
    stages = yaml.safe_load((repository / "dvc.yaml").read_text())["stages"].values()
    listed = [path for stage in stages for path in stage.get("do", stage)["deps"] if path.split("/")[0] in PACKAGES]
    assert len(listed) <= 40
