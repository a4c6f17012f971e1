"""Hashes all that a workspace keeps, and names what is damaged: outputs of the stages, their summaries, DVC's cache.

DVC compares times and sizes, not bytes, so that a file that a disk damaged is checked out of its cache again and again.
Every stage compares what it reads with what was written (`models.verified`); this command finds the rest, and the
object in the cache that a damaged output came from.

Reads       the outputs that dvc.yaml names, data/summaries, .dvc/cache/files/md5
Run alone   python -m pipelines.verify
"""

import hashlib
from pathlib import Path

from dvc.repo import Repo

from models.verified import SUMS, DamagedError, verify_folder
from pipelines.code.graph import dvc_boundary
from pipelines.errors import UserError
from pipelines.files import read_summary
from pipelines.stage import SUMMARIES, command, progress


def main() -> None:
    if not Path("dvc.yaml").is_file():
        raise UserError("dvc.yaml not found: run from the folder of the project or workspace that holds it")
    with dvc_boundary(), Repo() as repo:
        outputs = sorted(Path(out.fs_path) for out in repo.index.outs if out.use_cache)
        cache = Path(repo.cache.local.path)
    folders = [folder for folder in outputs if (folder / SUMS).is_file()]
    objects = sorted(cache.glob("??/*"))
    faults = [fault for folder in progress(folders, "outputs") if (fault := _output_fault(folder))]
    faults += [fault for file in sorted(SUMMARIES.glob("*.json")) if (fault := _summary_fault(file))]
    damaged = [file for file in progress(objects, "DVC's cache") if not _is_sound(file)]
    faults += [f"{file} has other bytes than its name says" for file in damaged]
    print(f"{len(folders)} folders of outputs and {len(objects)} objects of DVC's cache hashed, {len(faults)} damaged")
    for fault in faults:
        print(fault)
    if faults:
        raise UserError(
            "delete each file that is named above (of an output folder, the whole folder); then run "
            "`dvc repro`, which makes them anew"
        )


def _output_fault(folder: Path) -> str | None:
    try:
        verify_folder(folder)
    except DamagedError as error:
        return str(error).partition(": delete ")[0]
    return None


def _summary_fault(file: Path) -> str | None:
    try:
        read_summary(file)
    except UserError:
        return f"{file} has other content than was written"
    return None


def _is_sound(file: Path) -> bool:
    """Whether an object of DVC's cache has the MD5 that its name says; a folder's list is JSON beside that."""
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "md5").hexdigest()
    return digest == file.parent.name + file.name.removesuffix(".dir")


if __name__ == "__main__":
    command(main)
