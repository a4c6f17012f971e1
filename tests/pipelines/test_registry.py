"""Plug-ins by kind and name, those of other packages included: real entry points, read by a process of their own."""

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

from models.method import Method
from pipelines.errors import UserError
from pipelines.registry import PLUGINS, names, plugin

# What the stages use of each kind, beside the constructor; the values are the constructor's parameters.
SURFACE = {
    "sources": (("root", "options"), ("records",)),
    "proposers": (("options",), ("propose", "sees_annotations", "uses_phrases", "identity")),
    "segmenters": (("options",), ("segment", "identity")),
    "captioners": (("settings",), ("describe", "prompt_sha256", "counts", "sees_pixels")),
    "methods": (("config", "vocabulary_size"), ("Config", "losses", "forward")),
    "tasks": (("config",), ("Config", "needs", "run")),
}


def install(folder: Path, name: str, kind: str, entries: dict[str, str], code: str = "") -> None:
    """What pip leaves of a package with one module that declares plug-ins."""
    information = folder / f"{name}-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = "".join(f"{key} = {value}\n" for key, value in entries.items())
    (information / "entry_points.txt").write_text(f"[medregion.{kind}]\n{lines}")
    (folder / f"{name}.py").write_text(code)


def look_up(folder: Path, repository: Path, kind: str, name: str) -> subprocess.CompletedProcess[str]:
    """`plugin(kind, name)` where `folder` is on the path of installed packages."""
    code = (
        "import sys; from pipelines.errors import UserError; from pipelines.registry import plugin\n"
        f"try: print(plugin({kind!r}, {name!r}).__qualname__)\n"
        "except UserError as error: sys.exit(f'error: {error}')"
    )
    path = os.pathsep.join([str(folder), str(repository)])
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, known in PLUGINS.items() for name in known])
def test_every_registered_name_is_a_plug_in_of_its_kind(kind: str, name: str) -> None:
    found = plugin(kind, name)
    parameters, attributes = SURFACE[kind]
    assert tuple(inspect.signature(found).parameters) == parameters
    assert [attribute for attribute in attributes if not hasattr(found, attribute)] == []
    if kind == "methods":
        assert issubclass(found, Method)


@pytest.mark.parametrize("kind", PLUGINS)
def test_an_unknown_name_lists_the_valid_ones(kind: str) -> None:
    with pytest.raises(UserError) as caught:
        plugin(kind, "nothing")
    assert str(caught.value) == f"'nothing' is not one of the {kind}: choose from {', '.join(sorted(PLUGINS[kind]))}"


def test_an_unknown_kind_is_a_defect_of_the_caller() -> None:
    with pytest.raises(KeyError, match="source"):
        names("source")


def test_an_installed_package_adds_a_plug_in(tmp_path: Path, repository: Path) -> None:
    install(tmp_path, "theirs", "sources", {"theirs": "theirs:Reader"}, "class Reader:\n    pass\n")
    found = look_up(tmp_path, repository, "sources", "theirs")
    assert (found.returncode, found.stdout) == (0, "Reader\n"), found.stderr
    wrong = look_up(tmp_path, repository, "sources", "there")
    said, names_there = wrong.stderr.strip().split(": choose from ")
    assert said == "error: 'there' is not one of the sources"
    assert names_there.split(", ") == sorted([*names("sources"), "theirs"])


def test_a_name_of_ours_cannot_be_taken(tmp_path: Path, repository: Path) -> None:
    install(tmp_path, "theirs", "tasks", {"retrieval": "theirs:Task"}, "class Task:\n    pass\n")
    for name in ("retrieval", "zero_shot"):  # the kind as a whole is refused, not only the name
        found = look_up(tmp_path, repository, "tasks", name)
        assert found.returncode == 1
        assert found.stderr.strip() == (
            "error: two tasks are called 'retrieval' (pipelines.evaluate.tasks.retrieval:Retrieval and theirs:Task): "
            "rename or uninstall one"
        )
    other_kind = look_up(tmp_path, repository, "captioners", "findings")
    assert (other_kind.returncode, other_kind.stdout) == (0, "Findings\n"), other_kind.stderr


def test_two_packages_cannot_share_a_name(tmp_path: Path, repository: Path) -> None:
    for name in ("one", "two"):
        install(tmp_path, name, "proposers", {"boxes": f"{name}:Boxes"}, "class Boxes:\n    pass\n")
    found = look_up(tmp_path, repository, "proposers", "boxes")
    assert found.returncode == 1
    assert "error: two proposers are called 'boxes' (" in found.stderr
    assert "Traceback" not in found.stderr


def test_a_plug_in_is_imported_only_when_it_is_asked_for(tmp_path: Path, repository: Path) -> None:
    install(tmp_path, "broken", "segmenters", {"broken": "broken:Segmenter"}, "raise ImportError('needs a GPU')")
    found = look_up(tmp_path, repository, "segmenters", "threshold")
    assert (found.returncode, found.stdout) == (0, "Threshold\n"), found.stderr
    assert "ImportError: needs a GPU" in look_up(tmp_path, repository, "segmenters", "broken").stderr


@pytest.mark.parametrize(
    ("value", "code", "said"),
    [
        ("broken:Source", "1 / 0", "ZeroDivisionError: division by zero"),
        ("broken:Source", "raise SystemExit(0)", "SystemExit: 0"),
        ("broken:Source", "def x(:", "SyntaxError: "),
        ("broken:Missing", "", "AttributeError: "),
        ("broken", "", "AttributeError: "),
        ("no_such_module:Source", "", "ModuleNotFoundError: No module named 'no_such_module'"),
    ],
)
def test_a_plug_in_that_cannot_be_loaded_is_one_line(
    tmp_path: Path, repository: Path, value: str, code: str, said: str
) -> None:
    install(tmp_path, "broken", "sources", {"theirs": value}, code)
    done = look_up(tmp_path, repository, "sources", "theirs")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: 'theirs' of the sources, {value.partition(':')[0]}:")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
