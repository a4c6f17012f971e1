"""Rules of the house that no linter knows: one name for one thing, and every folder of code is a package."""

import ast
from collections import defaultdict
from pathlib import Path

PACKAGES = ("flows", "pipelines", "models")
SHARED_NAMES = {"Config", "Options"}


def modules(repository: Path) -> list[Path]:
    return [file for package in PACKAGES for file in sorted((repository / package).rglob("*.py"))]


def test_a_class_name_stands_for_one_class(repository: Path) -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for file in modules(repository):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and node.name not in SHARED_NAMES:
                places[node.name].append(file.relative_to(repository).as_posix())
    assert {name: files for name, files in places.items() if len(files) > 1} == {}


def test_no_test_imports_ray_before_its_settings(repository: Path) -> None:
    """Ray reads whether it asks for a token when it is imported, and pytest imports all files of tests first."""
    early = {"ray", "pipelines.train.elastic", "pipelines.train.loopback"}
    found = [
        f"{file}: {name}"
        for file in (repository / "tests").rglob("*.py")
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        for name in imported(node)
        if name in early or name.startswith("ray.")
    ]
    assert not found


def imported(node: ast.stmt) -> list[str]:
    """The modules that an import names."""
    if isinstance(node, ast.ImportFrom):
        return [str(node.module)]
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else []


def test_a_folder_with_code_is_a_package(repository: Path) -> None:
    folders = {file.parent for file in modules(repository)}
    assert [folder for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []
