"""A stage's fingerprint: the files of code that decide its result, each with its digest, and the check of them.

`data/code/<stage>.txt` has a line `path: sha256` for each file of this repository, the path relative to the project,
and a line `module @ package==version: sha256` for each installed package whose plug-in params.yaml names. That of a
source with confidential patient ids has a line `patient key <path>: sha256` too, the path as params.yaml gives it, with
the word `absent` for a key that is not there; that of the phantom a line `read by a source: yes` or `no`; that of a
stage which starts from weights in a folder a line `weights <folder>: sha256`; that of a stage `evaluate` a line
`prompt file <path>: sha256` for each that a task names. DVC compares the file; the stage itself hashes its lines again
when it starts, so that outputs are never stored under code that did not make them.
"""

import difflib
import importlib.metadata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from models.verified import read_bytes, sha256_file, verified_sha256
from pipelines.code import PROJECT
from pipelines.code.packages import InstalledPackage, installed
from pipelines.config import PARAMS
from pipelines.errors import UserError
from pipelines.keys import ABSENT, key_digest, missing_key
from pipelines.prompt_files import prompt_digests
from pipelines.sources import PHANTOM, load_sources, reads
from pipelines.storage import Root
from pipelines.weights import weights_sha256

KEY = "patient key "
READ = "read by a source"
WEIGHTS = "weights "
PROMPTS = "prompt file "

FOLDER = Path("data/code")

# The commands that are stages of dvc.yaml -> their names there.
STAGES = {
    ("phantom",): "phantom",
    ("ingest", "*"): "ingest@*",
    ("split",): "split",
    ("proposals",): "proposals",
    ("regions",): "regions",
    ("captions",): "captions",
    ("shards", "images"): "image_shards",
    ("shards", "captions"): "caption_shards",
    ("train", "*"): "train@*",
    ("evaluate", "*"): "evaluate@*",
    ("report",): "report",
}


def stage_name(module: str, arguments: Sequence[str]) -> str | None:
    """The stage of dvc.yaml that a command is: `pipelines.ingest.stage` with `phantom` is ingest@phantom.

    Returns:
        None for a command that is no stage.
    """
    package, _, name = module.partition(".")
    if package != "pipelines" or not name.endswith(".stage"):
        return None
    command = (name.removesuffix(".stage"), *arguments)
    stage = STAGES.get(command) or STAGES.get((*command[:1], *("*" for _ in arguments)))
    return stage and stage.replace("*", "@".join(arguments))


def as_text(digests: Mapping[str, str]) -> str:
    """The fingerprint file's content."""
    return "".join(f"{name}: {digests[name]}\n" for name in sorted(digests))


def from_text(text: str) -> dict[str, str]:
    """What `as_text` was given."""
    pairs = (line.rpartition(": ") for line in text.splitlines())
    return {name: digest for name, _, digest in pairs}


def package_line(module: str, package: InstalledPackage) -> str:
    """Under which name a package stands in a fingerprint; `module` is one of its plug-ins' modules."""
    return f"{module.partition('.')[0]} @ {package.package}=={package.version}"


def key_line(file: Path) -> dict[str, str]:
    """The line of a fingerprint that holds the digest of the key for patient ids."""
    return {f"{KEY}{file.as_posix()}": key_digest(file)}


def read_line(roots: Iterable[str | Root]) -> dict[str, str]:
    """The line of the phantom's fingerprint that holds whether a source reads it, given the sources' roots."""
    return {READ: "yes" if reads(roots, PHANTOM) else "no"}


def weights_lines(folders: Iterable[str]) -> dict[str, str]:
    """The lines of a fingerprint that hold the digests of weights, given their folders."""
    return {f"{WEIGHTS}{folder}": weights_sha256(Path(folder)) for folder in folders}


def prompt_lines(files: Iterable[str]) -> dict[str, str]:
    """The lines of a fingerprint that hold the digests of prompt files.

    Raises:
        UserError: One of them is not there.
    """
    return {f"{PROMPTS}{file}": digest for file, digest in prompt_digests(files).items()}


def check(stage: str, folder: Path = FOLDER) -> None:
    """Refuse to run a stage whose code is not what its fingerprint says.

    Raises:
        UserError: A file has changed or is gone, or there is no fingerprint.
        DamagedError: The fingerprint is not the one that was written.
    """
    file = folder / f"{stage}.txt"
    if not file.is_file():
        # In a folder that is no project the stage's own message says so.
        if not PARAMS.is_file():
            return
        known = sorted(path.stem for path in folder.glob("*.txt"))
        near = difflib.get_close_matches(stage, known, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise UserError(
            f"{file} not found{hint}: where params.yaml names {stage}, run `dvc repro code`, which lists its code"
        )
    recorded = from_text(read_bytes(file).decode())
    if changed := [name for name, digest in recorded.items() if digest_now(name) != digest]:
        if changed[0].startswith(KEY) and digest_now(changed[0]) == ABSENT:
            raise UserError(f"{stage}: {missing_key(Path(changed[0].removeprefix(KEY)))}")
        # DVC watches data/weights, but neither links in it nor other folders.
        again = " --force --single-item" if changed[0].startswith(WEIGHTS) else ""
        others = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise UserError(f"{stage}: {changed[0]}{others} changed since `dvc repro code`: run `dvc repro{again} code`")


def fingerprint_digest(stage: str, folder: Path = FOLDER) -> str | None:
    """SHA-256 of a stage's fingerprint, for what one run keeps for the next; None where there is none."""
    file = folder / f"{stage}.txt"
    return verified_sha256(file) if file.is_file() else None


def digest_now(name: str) -> str | None:
    """What stands behind a line's name now; None where there is no such file or package."""
    if name.startswith(KEY):
        return key_digest(Path(name.removeprefix(KEY)))
    if name == READ:
        return read_line(load_sources().roots.values())[READ]
    if name.startswith(WEIGHTS):
        folder = Path(name.removeprefix(WEIGHTS))
        return weights_sha256(folder) if folder.is_dir() else None
    if name.startswith(PROMPTS):
        file = Path(name.removeprefix(PROMPTS))
        return sha256_file(file) if file.is_file() else None
    module, at, package = name.partition(" @ ")
    if not at:
        path = PROJECT / name
        return sha256_file(path) if path.is_file() else None
    package, _, version = package.partition("==")
    try:
        now = installed(package, module)
    except importlib.metadata.PackageNotFoundError:
        return None
    return now.sha256 if now.version == version else None
