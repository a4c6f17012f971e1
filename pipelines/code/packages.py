"""Plug-ins of installed packages: which package one comes from, and a digest of what is installed of it."""

import importlib.metadata
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from pipelines.files import sha256_files


@dataclass(frozen=True, kw_only=True)
class InstalledPackage:
    """A package as it is installed; in section `plugins` of params.yaml, as it should be.

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
    for distribution in importlib.metadata.distributions():
        for entry in distribution.entry_points:
            if entry.group.startswith("medregion.") and entry.module == module:
                return distribution.name
    return None


def installed(package: str, module: str) -> InstalledPackage:
    """What is installed of a package now.

    Args:
        package: Name of the distribution.
        module: One of its modules.

    Raises:
        importlib.metadata.PackageNotFoundError: It is not installed.
    """
    distribution = importlib.metadata.distribution(package)
    root, files = package_files(package, module)
    return InstalledPackage(package=distribution.name, version=distribution.version, sha256=sha256_files(root, files))


def package_files(package: str, module: str) -> tuple[Path, list[Path]]:
    """The folder in which a package is installed, and its files there.

    An editable install lists none of its files, and a package that was copied into place has no list: there, the
    files of the top-level package that holds `module` stand for them.
    """
    distribution = importlib.metadata.distribution(package)
    root = Path(str(distribution.locate_file("")))
    files = [root / name for file in distribution.files or () if _decides(Path(name := str(file)))]
    top = module.partition(".")[0]
    if not any(file.relative_to(root).parts[0] in (top, f"{top}.py") for file in files):
        return _files_of(top)
    return root, [file for file in files if file.is_file()]


def _decides(file: Path) -> bool:
    # Scripts stand as ../../../bin/name and begin with the interpreter's path, which differs between environments.
    metadata = file.parts[0] == ".." or file.parts[0].endswith((".dist-info", ".egg-info", ".pth"))
    return not metadata and not file.name.startswith("__editable__") and file.suffix != ".pyc"


def _files_of(top: str) -> tuple[Path, list[Path]]:
    # Finding a top-level module imports nothing.
    spec = importlib.util.find_spec(top)
    if spec is None:
        raise importlib.metadata.PackageNotFoundError(top)
    if spec.submodule_search_locations is None:
        file = Path(str(spec.origin))
        return file.parent, [file]
    folder = Path(next(iter(spec.submodule_search_locations)))
    found = (file for file in folder.rglob("*") if file.is_file() and _decides(file.relative_to(folder.parent)))
    return folder.parent, list(found)
