"""The files of this repository that a module runs: its own, those that it imports, and the data of their packages.

grimp reads the imports from the source, those inside functions included, and imports nothing itself. Imports under
`if TYPE_CHECKING` never run and do not count. Plug-ins are named in params.yaml, not in the source: whoever asks for a
closure names their modules too (see `pipelines.code.stage`).
"""

import ast
import importlib.util
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import grimp

from models.verified import sha256_file
from pipelines.code import PROJECT
from pipelines.code.packages import installed, package_of
from pipelines.errors import UserError
from pipelines.files import digest_of

PACKAGES = ("flows", "pipelines", "models")
# It says where a plug-in is found, never what it does: adding one must rerun nothing.
REGISTRY = "pipelines.registry"
DATA = ("*.j2", "*.css", "*.txt")


def closure(*modules: str) -> dict[str, str]:
    """The files that decide what some modules do.

    Args:
        modules: Names of modules inside `PACKAGES`, such as models.clip.model.

    Returns:
        Path relative to the project -> SHA-256, sorted by path.

    Raises:
        UserError: There is no such module.
    """
    names = closure_modules(*modules)
    files = [_file(name) for name in names]
    files += [file for name in names if _is_package(name) for file in _data_of(name)]
    return {file.relative_to(PROJECT).as_posix(): _sha256(file) for file in sorted(files)}


def closure_modules(*modules: str) -> set[str]:
    """The modules and all that they import, with the packages on the way, for Python runs their `__init__` first."""
    graph, known = _graph(), all_modules()
    reached: set[str] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module in reached or module == REGISTRY:
            continue
        if module not in known:
            raise UserError(f"{module} is no module of {', '.join(PACKAGES)}: see pipelines/registry.py")
        reached.add(module)
        waiting += graph.find_modules_directly_imported_by(module)
        if parent := module.rpartition(".")[0]:
            waiting.append(parent)
    return reached


@cache
def closure_digest(*modules: str) -> str:
    """One digest of the closure of some modules, as it is when a process first asks: part of keys and names of caches.

    A module outside `PACKAGES` counts with all files of the installed package that declares it as a plug-in, or with
    its own file where no package does.
    """
    own = [module for module in modules if module.partition(".")[0] in PACKAGES]
    return digest_of([closure(*own), {module: _outside(module) for module in modules if module not in own}])


def modules_imported_by(files: Iterable[Path]) -> set[str]:
    """Modules of `PACKAGES` that Python files from elsewhere import, such as those of an installed plug-in."""
    known = all_modules()
    found = set()
    for file in files:
        if file.suffix != ".py":
            continue
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found & known


def all_modules() -> set[str]:
    """Every module of `PACKAGES` that the import graph has."""
    return _graph().modules


def _outside(module: str) -> str:
    if package := package_of(module):
        return installed(package, module).sha256
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise UserError(f"{module} cannot be found: install the package that has it")
    return sha256_file(Path(spec.origin))


@cache
def _graph() -> grimp.ImportGraph:
    # A copy of the project may lack a package that nothing in it imports, and the one installed is not its own.
    there = [package for package in PACKAGES if (PROJECT / package).is_dir()]
    # Without a cache on disk: reading 250 modules anew takes less time than a cache could save.
    return grimp.build_graph(*there, exclude_type_checking_imports=True, cache_dir=None)


def _file(module: str) -> Path:
    base = PROJECT / module.replace(".", "/")
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


def _is_package(module: str) -> bool:
    return _file(module).name == "__init__.py"


@cache
def _data_of(package: str) -> tuple[Path, ...]:
    """Templates, prompts and styles of a package, in its folder and in folders of it that hold no module."""
    folder = _file(package).parent
    found = [file for pattern in DATA for file in folder.rglob(pattern)]
    return tuple(file for file in found if _owner(file.parent) == folder)


def _owner(folder: Path) -> Path:
    """The nearest folder, upwards, with modules: a lone `__init__.py` makes a folder of data importable, no more."""
    while not any(file.name != "__init__.py" for file in folder.glob("*.py")) and folder.parent != PROJECT:
        folder = folder.parent
    return folder


@cache
def _sha256(file: Path) -> str:
    return sha256_file(file)
