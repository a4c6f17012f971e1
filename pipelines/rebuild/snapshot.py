"""A snapshot of the caption table that a rebuild starts from: DVC empties data/captions before the stage runs."""

import shutil
from pathlib import Path
from typing import Any

from models.verified import read_bytes
from pipelines.errors import UserError
from pipelines.files import atomic_folder, read_output, write_json
from pipelines.records import CAPTIONS, CaptionRow

CAPTION_TABLE = Path("data/captions/captions.parquet")
SNAPSHOT = Path("data/cache/rebuild/before")
PROMPTS = "params.yaml: captions.prompts"  # the input whose value is the prompts' folder


def require(project: Path) -> None:
    """
    Raises:
        UserError: There is neither a caption table nor the snapshot of an unfinished rebuild.
    """
    if not (project / CAPTION_TABLE).is_file() and not (project / SNAPSHOT).is_dir():
        raise UserError(
            f"{CAPTION_TABLE} not found, so there is nothing to compare with: `dvc checkout data/captions` brings the "
            "last one back, `python -m flows.reproduce caption_shards` makes the first"
        )


def save(project: Path, inputs: dict[str, Any]) -> bool:
    """Copy the caption table, unless an unfinished rebuild has: its snapshot is of the last complete table.

    Args:
        project: Folder of params.yaml, with data/.
        inputs: What the table was made from, by name: digests of files and folders, values of params.

    Returns:
        Whether there was a snapshot already.
    """
    if (project / SNAPSHOT).is_dir():
        return True
    require(project)
    with atomic_folder(project / SNAPSHOT) as folder:
        (folder / CAPTION_TABLE.name).write_bytes(read_bytes(project / CAPTION_TABLE))
        write_json(folder / "inputs.json", inputs)
    return False


def load(project: Path) -> tuple[list[CaptionRow], dict[str, Any]]:
    """The rows of the snapshot and their inputs, as `save` got them."""
    return CAPTIONS.read(project / SNAPSHOT / CAPTION_TABLE.name), read_output(project / SNAPSHOT / "inputs.json")


def delete(project: Path) -> None:
    """Delete the snapshot of a finished rebuild: the next one starts from the table that is there then."""
    shutil.rmtree(project / SNAPSHOT)


def changed_inputs(before: dict[str, Any], after: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Names of the inputs that changed, and of those among them that a changed prompt does not explain.

    A folder that holds the prompts changes with them, so it is not among the latter, whatever else in it changed.
    """
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    folders = [Path(inputs[PROMPTS]) for inputs in (before, after) if PROMPTS in inputs]
    others = [name for name in changed if not any(folder.is_relative_to(name) for folder in folders)]
    return changed, [name for name in others if name != PROMPTS]
