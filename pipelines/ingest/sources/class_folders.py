"""Images in a folder for each class, as sets for image classification are published.

    <class>/<file>                 at any depth: the class is the folder that holds the files
    <class>/images/<file>          what else lies in the class, such as masks, is not read
    <split>/.../<class>/<file>     <split> is called by a word for a split

By default the name of a folder is the label; `Normal` and the like say that there is no finding. With `classes`, a
folder that is not in it is a class that nobody asked for.

Reason codes: unlisted_class, unknown_split (some classes lie in folders of splits and this one does not),
no_patient_in_name.
"""

import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pipelines.archives import list_tree
from pipelines.config import parse
from pipelines.errors import Rejected, UserError
from pipelines.ingest import cells, warning_texts
from pipelines.ingest.accounting import may_be_image
from pipelines.ingest.record import SourceRecord, UnusableRow, check_words, view_of
from pipelines.ingest.split_folders import check_splits, split_folders
from pipelines.storage import Root

_IMAGES = "images"  # a folder in that of a class
_SHOWN = 30  # classes in the warning


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of the adapter.

    Attributes:
        modality: Of all images.
        view: Of all images; null for all but radiographs.
        classes: Folder of a class, its name or its path below the root or split -> label; null where it means that
            there is no finding. By default each folder's name is its label.
        splits: Folder -> the split that it is, or null for none; others are not read. By default all that are called by
            a word for a split; `{}`: none is.
        patient: Regular expression; what it matches at the start of a file's name is the patient's id.
    """

    modality: str
    view: str | None = None
    classes: dict[str, str | None] | None = None
    splits: dict[str, str | None] | None = None
    patient: re.Pattern[str] | None = None

    def __post_init__(self) -> None:
        check_words(self.modality, self.view)
        check_splits(self.splits or {})


@dataclass(frozen=True, kw_only=True)
class _ClassFolder:
    """A folder with images of one class.

    Attributes:
        path: Of the class, from the root or from the folder of its split.
        split: As the source publishes it.
        is_outside: It lies in no folder of a split, and others do.
        files: Names of the images.
    """

    path: str
    split: str | None
    is_outside: bool
    files: list[str]

    @property
    def name(self) -> str:
        return posixpath.basename(self.path)


class ClassFolders:
    """One record for each image.

    Attributes:
        warnings: The labels that follow from names of folders, where params do not say what they mean.
    """

    def __init__(self, root: Root, options: dict[str, Any]) -> None:
        self._root = root
        self._options = parse(Options, options, "options")
        self.warnings: list[str] = []

    def records(self) -> Iterator[SourceRecord | UnusableRow]:
        folders = self._folders()
        labels = self._labels(folders)
        for folder in folders:
            label = labels.get(folder.path, labels.get(folder.name, ...))
            for name in folder.files:
                if folder.is_outside:
                    yield UnusableRow(
                        row=name, path=name, reason="unknown_split", detail="in no folder of a split, and others are"
                    )
                elif label is ...:
                    yield UnusableRow(row=name, path=name, reason="unlisted_class", detail="not in options.classes")
                else:
                    yield self._record(name, folder.split, label)

    def _record(self, name: str, split: str | None, labels: Any) -> SourceRecord | UnusableRow:
        patient = None
        if self._options.patient is not None:
            match = self._options.patient.match(posixpath.basename(name))
            if match is None or not match.group():
                return UnusableRow(row=name, path=name, reason="no_patient_in_name", detail="see options.patient")
            patient = match.group()
        return SourceRecord(
            row=name,
            name=name,
            split=split,
            patient=patient,
            modality=self._options.modality,
            view=view_of(self._options.view),
            labels=labels,
        )

    def _labels(self, folders: list[_ClassFolder]) -> dict[str, tuple[str, ...] | None]:
        """What images are labelled with, by the name or path of their folder."""
        if self._options.classes is not None:
            wanted = {posixpath.normpath(key): label for key, label in self._options.classes.items()}
            there = {name for folder in folders for name in (folder.path, folder.name)}
            if missing := [key for key in wanted if key not in there]:
                raise UserError(f"{self._root} has no images in a folder {missing[0]}: see options.classes")
            return {key: () if label is None or cells.is_normal(label) else (label,) for key, label in wanted.items()}
        names = sorted({folder.name for folder in folders if not folder.is_outside})
        try:
            labels = {name: cells.words([name], "a folder") for name in names}
        except Rejected:
            raise UserError(f"{self._root}: a folder's name is a number and no word: see options.classes") from None
        meant = [f"{name} (no finding)" if labels[name] == () else name for name in names]
        more = f" and {len(meant) - _SHOWN} more" if len(meant) > _SHOWN else ""
        self.warnings = [f"{warning_texts.FOLDER_LABELS}{', '.join(meant[:_SHOWN])}{more}"]
        return labels

    def _folders(self) -> list[_ClassFolder]:
        files: dict[str, list[str]] = defaultdict(list)
        for name in list_tree(self._root, "."):
            if may_be_image(name) and posixpath.dirname(name):
                files[posixpath.dirname(name)].append(name)
        classes = {folder: _class_of(folder) for folder in files}
        with_images = {path for folder, path in classes.items() if path != folder}
        for folder in list(files):
            # Beside <class>/images lie masks and the like.
            if any(folder.startswith(f"{path}/") and classes[folder] != path for path in with_images):
                del files[folder]
        splits = self._splits([classes[folder] for folder in files])
        found = []
        for folder, names in sorted(files.items()):
            path = classes[folder]
            above = [place for place in splits if path.startswith(f"{place}/")]
            if not above and self._options.splits:
                continue
            inside = path.removeprefix(f"{max(above, key=len)}/") if above else path
            split = splits[max(above, key=len)] if above else None
            found.append(_ClassFolder(path=inside, split=split, is_outside=bool(splits) and not above, files=names))
        if not found:
            raise UserError(f"{self._root} has no images in folders for each class: see options.splits")
        return found

    def _splits(self, classes: Iterable[str]) -> dict[str, str | None]:
        """Path of each folder that is a split -> the split."""
        if self._options.splits is not None:
            return {posixpath.normpath(folder): split for folder, split in self._options.splits.items()}
        above: dict[str, str] = {}  # path -> name
        for path in classes:
            *parents, name = path.split("/")
            if split_folders([name]):
                said = f"{self._root}: images of no class lie in a folder {name}, a word for a split"
                raise UserError(f"{said}: name their class, or say in options.splits which folders are splits")
            above.update({"/".join(parents[: depth + 1]): parent for depth, parent in enumerate(parents)})
        words = split_folders(above.values())
        return {path: words[name] for path, name in above.items() if name in words}


def _class_of(folder: str) -> str:
    """The folder of the class whose images lie in this one."""
    parent, name = posixpath.split(folder)
    return parent if name.lower() == _IMAGES and parent else folder
