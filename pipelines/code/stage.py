"""Writes the fingerprint of every stage: the code that decides its result.

Reads   flows/, pipelines/, models/, the keys of params.yaml that name plug-ins, the key for patient ids, and folders of
        weights and prompt files of tasks that params.yaml names;
        looks for the paths that dvc.yaml takes from params.yaml
Writes  data/code/<stage>.txt (see `pipelines.code.fingerprint`) for each stage of dvc.yaml, data/summaries/code.json
Alone   python -m pipelines.code; `python -m pipelines.code status` (or `make status`) prints what would rerun
"""

from pathlib import Path
from typing import Any

from pipelines.code.closure import PACKAGES, closure, modules_imported_by
from pipelines.code.config import CodeConfig, load_code
from pipelines.code.fingerprint import FOLDER, as_text, key_line, package_line, prompt_lines, read_line, weights_lines
from pipelines.code.packages import InstalledPackage, installed, package_files, package_of
from pipelines.code.paths import check_paths
from pipelines.errors import UserError
from pipelines.files import atomic_folder
from pipelines.keys import key_file
from pipelines.records import ANNOTATIONS_PROPOSER
from pipelines.registry import module_of
from pipelines.stage import SUMMARIES, Summary

Plugin = tuple[str, str]  # kind and name


def main(action: str = "write") -> None:
    if action == "status":
        from pipelines.code.status import print_status

        print_status()
    elif action == "write":
        config = load_code()
        check_paths(Path())
        run(config)
    else:
        raise UserError(f"'{action}' is no action: python -m pipelines.code, or python -m pipelines.code status")


def run(config: CodeConfig, output: Path = FOLDER, summaries: Path = SUMMARIES) -> dict[str, Any]:
    """Write all fingerprints.

    Returns:
        The summary, whose inputs are the stages.

    Raises:
        UserError: A plug-in is unknown, or it comes from an installed package that params do not name as it is.
    """
    summary = Summary("code")
    found = fingerprints(config)
    with atomic_folder(output) as folder:
        for stage, digests in found.items():
            (folder / f"{stage}.txt").write_text(as_text(digests), encoding="utf-8")
            summary.ok()
    summary.extra = {"files": len(set().union(*found.values()))}
    return summary.write(len(stage_plugins(config)), summaries)


def fingerprints(config: CodeConfig) -> dict[str, dict[str, str]]:
    """Stage -> the code that decides its result, each file's path with its digest.

    Raises:
        UserError: As in `run`.
    """
    stages = stage_plugins(config)
    # Once each: a look-up reads the entry points of all installed packages.
    modules = {plugin: module_of(*plugin) for plugin in {plugin for _, used in stages.values() for plugin in used}}
    found = {
        stage: _fingerprint(package, {plugin: modules[plugin] for plugin in used}, config.plugins)
        for stage, (package, used) in stages.items()
    }
    for name in config.confidential:
        found[f"ingest@{name}"] |= key_line(key_file(Path(config.keys)))
    found["phantom"] |= read_line(config.roots)
    for stage, folders in config.weights.items():
        found[stage] |= weights_lines(folders)
    prompts = prompt_lines(config.prompts)
    for name in config.methods:
        found[f"evaluate@{name}"] |= prompts
    return found


def stage_plugins(config: CodeConfig) -> dict[str, tuple[str, list[Plugin]]]:
    """Stage of dvc.yaml -> the package of its command, and the plug-ins that it uses."""
    tasks = [("tasks", name) for name in config.tasks]
    methods = {name: ("methods", used) for name, used in config.methods.items()}
    proposers = [("proposers", name) for name in (*config.proposers, ANNOTATIONS_PROPOSER)]
    return {
        "phantom": ("pipelines.phantom", []),
        **{f"ingest@{name}": ("pipelines.ingest", [("sources", used)]) for name, used in config.sources.items()},
        "split": ("pipelines.split", []),
        "proposals": ("pipelines.proposals", [*proposers, ("segmenters", config.segmenter)]),
        "regions": ("pipelines.regions", []),
        "captions": ("pipelines.captions", [("captioners", config.captioner)]),
        "image_shards": ("pipelines.shards", []),
        "caption_shards": ("pipelines.shards", []),
        **{f"train@{name}": ("pipelines.train", [method]) for name, method in methods.items()},
        **{f"evaluate@{name}": ("pipelines.evaluate", [method, *tasks]) for name, method in methods.items()},
        "report": ("pipelines.report", []),
    }


def _fingerprint(package: str, plugins: dict[Plugin, str], pinned: dict[str, InstalledPackage]) -> dict[str, str]:
    """The code of a stage: that of its command's package, and of its plug-ins with the modules that define them."""
    # `__main__` names its stage in a text, so that the import is inside the boundary of `pipelines.stage.command`.
    modules, packages = [f"{package}.__main__", f"{package}.stage"], {}
    for (kind, name), module in plugins.items():
        if module.partition(".")[0] in PACKAGES:
            modules.append(module)
            continue
        found = _checked(kind, name, module, pinned)
        packages[package_line(module, found)] = found.sha256
        modules += modules_imported_by(package_files(found.package, module)[1])
    return closure(*modules) | packages


def _checked(kind: str, name: str, module: str, pinned: dict[str, InstalledPackage]) -> InstalledPackage:
    """The installed package of a plug-in, which section `plugins` of params.yaml must name with version and digest."""
    package = package_of(module)
    assert package is not None, f"{module} came from an entry point"
    found = installed(package, module)
    if pinned.get(name) == found:
        return found
    # YAML would read 1.0 as a number.
    entry = f'{name}: {{package: {found.package}, version: "{found.version}", sha256: "{found.sha256}"}}'
    fault = "is not listed" if name not in pinned else "is not installed as it is listed"
    raise UserError(f"'{name}' of the {kind} {fault} in params.yaml; write under plugins: `{entry}`")
