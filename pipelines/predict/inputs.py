"""What a command line names, image by image: files, folders, archives and tables, each slice of a volume.

Reason codes of `Rejected`: those of `pipelines.archives` and `pipelines.images`; blank_image, as in ingest;
linked_folder; in tables bad_row, bad_value, bad_text and missing_file_name.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from pipelines.archives import is_archive, list_members, locate
from pipelines.cuts import Cut
from pipelines.errors import Rejected, UserError, disk_fault, printable
from pipelines.images import frame_count, is_blank, picture
from pipelines.ingest import cells
from pipelines.ingest.columns import near_name
from pipelines.ingest.record import UnusableRow
from pipelines.ingest.tables import SUFFIXES, Listings
from pipelines.opened import open_file
from pipelines.sources import MAX_PIXELS


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Why an input gives no prediction.

    Attributes:
        status: `rejected` (it can never be used) or `failed` (another run may succeed).
        reason: Short code, or what the disk or the computation says.
        detail: For a person.
    """

    status: str
    reason: str
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Input:
    """One image that is to be predicted.

    Attributes:
        file_name: As the user named it, or as it lies below the folder that the user named.
        member: Its name inside an archive.
        frame: Slice or frame from 0; None where the file has one alone.
        root: Folder or archive below which the file lies.
        path: Relative to the root; '' where the root is the archive.
        text: What the table says about it.
        fault: Why it cannot be opened, where that is known.
    """

    file_name: str
    member: str | None = None
    frame: int | None = None
    root: Path
    path: str
    text: str | None = None
    fault: Fault | None = None

    @property
    def place(self) -> tuple[Path, str | None]:
        """The file itself and the member: what regions are matched by."""
        return (self.root / self.path if self.path else self.root).resolve(), self.member


def find_inputs(names: Sequence[str], frame: int | None) -> Iterator[Input]:
    """Every image that some names stand for, in the order of the names; folders are sorted.

    Args:
        names: Files, folders, archives and tables.
        frame: The slice or frame to take of files that have several; None: all.

    Raises:
        UserError: Nothing has such a name, or a table cannot be read.
    """
    for name in names:
        for item in _of_name(name):
            yield from _frames(item, frame)


def check_names(names: Sequence[str]) -> None:
    """Refuse names of nothing before a model is loaded."""
    if missing := [name for name in names if not os.path.exists(name)]:
        raise UserError(f"{printable(missing[0])} not found: name files, folders, archives or tables of images")


def is_table(name: str) -> bool:
    """Whether a name is that of a table, whose rows name the images."""
    return name.lower().endswith(SUFFIXES) and not os.path.isdir(name)


def open_input(item: Input) -> Image.Image:
    """The image: mode 'L' or 'RGB'.

    Raises:
        Rejected: It cannot be used.
        OSError: The disk failed.
    """
    image = picture(open_file(item.root, item.path, item.member), Cut(frame=item.frame), MAX_PIXELS)
    if is_blank(image):
        raise Rejected("blank_image", "all pixels have one value, or next to it")
    return image


def _of_name(name: str) -> Iterator[Input]:
    path = Path(name)
    if path.is_dir():
        yield from _of_folder(name, path.resolve())
        return
    if is_table(name):
        yield from _of_table(path)
        return
    file = path.resolve()
    yield from _of_file(Input(file_name=printable(name), root=file.parent, path=file.name))


def _of_folder(name: str, root: Path) -> Iterator[Input]:
    for folder, folders, files in os.walk(root):
        folders.sort()
        for entry in sorted([*files, *(one for one in folders if os.path.islink(os.path.join(folder, one)))]):
            path = os.path.relpath(os.path.join(folder, entry), root)
            item = Input(file_name=printable(os.path.join(name, path)), root=root, path=path)
            if entry in folders:
                yield replace(item, fault=Fault(status="rejected", reason="linked_folder", detail="name its target"))
            else:
                yield from _of_file(item)


def _of_file(item: Input) -> Iterator[Input]:
    """The file itself, or what an archive holds."""
    if not is_archive(item.path):
        yield item
        return
    try:
        members = list_members(item.root, item.path)
    except (Rejected, OSError) as error:
        yield replace(item, fault=fault_of(error))
        return
    for member in members:
        yield replace(item, member=member)


def _of_table(path: Path) -> Iterator[Input]:
    """The rows of a table: `file_name` relative to its folder, and perhaps `frame` and `text`."""
    table, root = Listings(path.resolve().parent), path.resolve().parent
    for row in table.rows(path.name):
        if isinstance(row, UnusableRow):
            fault = Fault(status="rejected", reason=row.reason, detail=row.detail)
            yield Input(file_name=printable(row.row), root=root, path="", fault=fault)
            continue
        place, values = row
        if "file_name" not in values:
            _refuse_columns(path, values)
        yield _of_row(path, root, place, values)


def _refuse_columns(path: Path, values: dict[str, Any]) -> None:
    near = next((column for column in values if near_name(str(column)) == "file_name"), None)
    hint = f"rename '{near}'" if near else f"it has {', '.join(map(str, values))}"
    raise UserError(f"{path} has no column file_name, which names each row's image: {hint}")


def _of_row(path: Path, root: Path, place: str, values: dict[str, Any]) -> Input:
    named = Input(file_name=printable(place), root=root, path="")
    try:
        name = cells.text(values["file_name"], "file_name", null_words=False)
        if name is None:
            raise Rejected("missing_file_name", "the row names no image")
        named = replace(named, file_name=printable(str(path.parent / name)))
        file, member = locate(root, name)
        text = cells.text(values.get("text"), "text")
        frame = cells.whole(values.get("frame"), "frame")
    except Rejected as error:
        return replace(named, fault=fault_of(error))
    shown = named.file_name.removesuffix(f"/{member}") if member is not None else named.file_name
    return replace(named, file_name=shown, path=file, member=member, text=text, frame=frame)


def _frames(item: Input, frame: int | None) -> Iterator[Input]:
    if item.fault is not None or item.frame is not None:
        yield item
        return
    try:
        count = frame_count(item.root, item.path, item.member)
    except (Rejected, OSError) as error:
        yield replace(item, fault=fault_of(error))
        return
    if count == 1:
        yield item
        return
    for number in range(count) if frame is None else [frame]:
        yield replace(item, frame=number)


def fault_of(error: Rejected | OSError) -> Fault:
    if isinstance(error, Rejected):
        return Fault(status="rejected", reason=error.reason, detail=printable(error.detail))
    return Fault(status="failed", reason=disk_fault(error))
