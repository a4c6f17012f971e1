"""Plug-ins of installed packages: which package one comes from, and a digest of what is installed of it."""

import importlib.metadata
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from pipelines.files import sha256_files


@dataclass(frozen=True, kw_only=True)
class InstalledPackage:
    """What is installed of a package that declares plug-ins.

    Attributes:
        package: Name of the distribution, as pip shows it.
        version: Its version.
        sha256: Digest over the names and bytes of its files, without its metadata and compiled Python.
    """

    package: str
    version: str
    sha256: str


def package_of(module: str) -> str | None:
    """Name of the distribution whose entry points `medregion.<kind>` lead to a module; None where there is none."""
    for entry in importlib.metadata.entry_points():
        if entry.group.startswith("medregion.") and entry.module == module and entry.dist is not None:
            return entry.dist.name
    return None


def installed(package: str, module: str) -> InstalledPackage:
    """A package as it is installed now.

    Args:
        package: Name of the distribution.
        module: One of its modules. An editable install lists none of its files, nor does a package that was copied
            into place: there, what lies beside this module in its top-level package stands for them.

    Raises:
        importlib.metadata.PackageNotFoundError: It is not installed.
    """
    distribution = importlib.metadata.distribution(package)
    root = Path(str(distribution.locate_file("")))
    files = [root / str(file) for file in distribution.files or () if _decides(Path(str(file)))]
    top = module.partition(".")[0]
    if not any(file.relative_to(root).parts[0] in (top, f"{top}.py") for file in files):
        root, files = _files_of(top)
    return InstalledPackage(
        package=distribution.name,
        version=distribution.version,
        sha256=sha256_files(root, [file for file in files if file.is_file()]),
    )


def _decides(file: Path) -> bool:
    # Scripts lie outside, as ../../../bin/name, with the interpreter's path in their first line.
    metadata = file.parts[0].endswith((".dist-info", ".egg-info", ".pth", "..")) or file.name.startswith("__editable__")
    return not metadata and file.suffix != ".pyc"


def _files_of(top: str) -> tuple[Path, list[Path]]:
    """Folder and files of a top-level module or package, found without importing it."""
    spec = importlib.util.find_spec(top)
    if spec is None:
        raise importlib.metadata.PackageNotFoundError(top)
    if spec.submodule_search_locations is None:
        file = Path(str(spec.origin))
        return file.parent, [file]
    folder = Path(next(iter(spec.submodule_search_locations)))
    return folder.parent, [file for file in folder.rglob("*") if _decides(file.relative_to(folder.parent))]
