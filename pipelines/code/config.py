"""What params.yaml says about plug-ins: which ones the stages use, and from which installed packages they may come."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.code.packages import InstalledPackage
from pipelines.config import PARAMS, load_params, parse
from pipelines.errors import UserError
from pipelines.prompt_files import prompt_files
from pipelines.weights import stage_folders


@dataclass(frozen=True, kw_only=True)
class CodeConfig:
    """Every plug-in that params.yaml names.

    Attributes:
        sources: Source -> its adapter.
        proposers: Those of `proposals.proposers`.
        segmenter: That of `proposals.segmenter`.
        captioner: That of `captions.captioner`.
        methods: Key of `train.methods` -> its plug-in.
        tasks: Keys of `evaluate.tasks`.
        plugins: Section `plugins`: plug-in of an installed package -> the package as it should be installed.
        confidential: Sources whose patient ids are hashed with the key.
        keys: Folder of that key.
        roots: Where the sources' files are.
        weights: Stage -> folders here that params name as weights it starts from; ids of a hub are pinned in params.
        prompts: Files of prompts that options of tasks name.
    """

    sources: dict[str, str]
    proposers: list[str]
    segmenter: str
    captioner: str
    methods: dict[str, str]
    tasks: list[str]
    plugins: dict[str, InstalledPackage] = field(default_factory=dict)
    confidential: list[str] = field(default_factory=list)
    keys: str = "keys"
    roots: list[str] = field(default_factory=list)
    weights: dict[str, list[str]] = field(default_factory=dict)
    prompts: list[str] = field(default_factory=list)


def load_code(path: Path = PARAMS) -> CodeConfig:
    """The plug-ins that a params file names; the other keys of its sections are for the stages to check.

    Raises:
        UserError: The file is missing or not valid YAML, or one of these keys is.
    """
    params = load_params(path)
    sources = _at(params, path, "ingest", "sources", kind=dict)
    tasks = _at(params, path, "evaluate", "tasks", kind=dict)
    values = {
        "sources": {name: _at(params, path, "ingest", "sources", name, "adapter") for name in sources},
        "proposers": _at(params, path, "proposals", "proposers", kind=list),
        "segmenter": _at(params, path, "proposals", "segmenter"),
        "captioner": _at(params, path, "captions", "captioner"),
        "methods": {
            name: (isinstance(entry, dict) and entry.get("method")) or name
            for name, entry in _at(params, path, "train", "methods", kind=dict).items()
        },
        "tasks": list(tasks),
        "plugins": params.get("plugins") or {},
        "confidential": [name for name, source in sources.items() if source.get("patient_ids") != "public"],
        "keys": params["ingest"].get("keys", "keys"),
        "roots": [str(source.get("root", "")) for source in sources.values()],
        "weights": stage_folders(params),
        "prompts": sorted(set(prompt_files(tasks))),
    }
    return parse(CodeConfig, values, str(path))


def _at(params: dict[str, Any], path: Path, *keys: str, kind: type = str) -> Any:
    value: Any = params
    for number, key in enumerate(keys, start=1):
        if not isinstance(value, dict) or key not in value:
            raise UserError(f"{path} has no {'.'.join(keys[:number])}: see the params.yaml that ships with the project")
        value = value[key]
    if not isinstance(value, kind):
        names: dict[type, str] = {str: "a name", list: "a list of names", dict: "keys with values"}
        raise UserError(f"{path}: {'.'.join(keys)} holds {value!r}; it should hold {names[kind]}")
    return value
