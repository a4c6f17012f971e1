"""The caption table that a rebuild starts from, kept aside: DVC empties data/captions before the stage runs."""

import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from pipelines.errors import UserError
from pipelines.files import atomic_folder, read_json, write_json
from pipelines.records import CAPTIONS

CAPTION_TABLE = Path("data/captions/captions.parquet")
BEFORE = Path("data/cache/rebuild/before")
PROMPTS = "params.yaml: captions.prompts"  # the name of the input that names the prompts' folder


def require(project: Path) -> None:
    """
    Raises:
        UserError: There is neither a caption table nor one that an unfinished rebuild has kept.
    """
    if not (project / CAPTION_TABLE).is_file() and not (project / BEFORE).is_dir():
        raise UserError(
            f"{CAPTION_TABLE} not found, so there is nothing to compare with: `dvc checkout data/captions` brings the "
            "last one back, `python -m flows.reproduce caption_shards` makes the first"
        )


def keep(project: Path, inputs: dict[str, Any]) -> bool:
    """Copy the caption table aside, unless an unfinished rebuild has: its table is the one that people last saw whole.

    Args:
        project: Folder of params.yaml, with data/.
        inputs: What the table was made from, by name: digests of files and folders, values of params.

    Returns:
        Whether there was one already.
    """
    if (project / BEFORE).is_dir():
        return True
    require(project)
    with atomic_folder(project / BEFORE) as folder:
        shutil.copyfile(project / CAPTION_TABLE, folder / CAPTION_TABLE.name)
        write_json(folder / "inputs.json", inputs)
    return False


def read(project: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The table and its inputs, as `keep` got them."""
    return CAPTIONS.read(project / BEFORE / CAPTION_TABLE.name), read_json(project / BEFORE / "inputs.json")


def forget(project: Path) -> None:
    """The rebuild is finished: the next one starts from the table that is there then."""
    shutil.rmtree(project / BEFORE)


def changed_inputs(before: dict[str, Any], after: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Names of the inputs that are not what they were, and of those of them that a changed prompt does not explain.

    A folder that holds the prompts changes with them, so it is not among the second, whatever else in it changed.
    """
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    folders = [Path(inputs[PROMPTS]) for inputs in (before, after) if PROMPTS in inputs]
    others = [name for name in changed if not any(folder.is_relative_to(name) for folder in folders)]
    return changed, [name for name in others if name != PROMPTS]
