"""Pictures and masks whose names say which belongs to which, such as Kvasir-SEG, ISIC and BUSI.

    <folder>/images/<stem>.*    pictures; <folder> is a split, or the root itself
    <folder>/masks/<stem>.*     masks

Other names of the folders and of the masks are options; pictures and masks may lie in one folder. A mask belongs to the
picture with the longest name that fits. Files that are neither are counted as unlisted.

Reason codes: mask_missing_file, several_masks (of one label, and their names differ in the suffix alone),
several_images (as pictures), mask_without_image.
"""

import posixpath
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from pipelines.archives import list_files, list_tree, locate
from pipelines.config import parse
from pipelines.errors import UserError
from pipelines.ingest.accounting import may_be_image
from pipelines.ingest.mask_names import MaskNames, stem_of
from pipelines.ingest.record import MarkedMask, SourceRecord, UnusableRow
from pipelines.ingest.split_folders import check_splits, split_folders
from pipelines.records import MODALITIES, SPLITS
from pipelines.storage import Root

_FOLDER = "{folder}"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of the adapter.

    Attributes:
        modality: Of all images.
        label: What the masks mark; null where nobody said.
        labels: Folder of `splits` -> what its masks mark, where that is not `label`.
        splits: Folder -> the split that it is; `.` is the root itself, null is no published split. By default all
            folders that are called by a word for a split, or else the root.
        images: Where the pictures lie; `{folder}` is a folder of `splits`.
        masks: Where the masks lie.
        mask_names: How a mask is called, with `{stem}` for its picture's name, `{n}` for a number and `*`; or label ->
            how its masks are called.
        several: What several masks of one picture and label are: `regions` of their own, or `parts` of one.
    """

    modality: str
    label: str | None = None
    labels: dict[str, str | None] = field(default_factory=dict)
    splits: dict[str, str | None] | None = None
    images: str = f"{_FOLDER}/images"
    masks: str = f"{_FOLDER}/masks"
    mask_names: str | dict[str, str] = "{stem}.*"
    several: Literal["regions", "parts"] = "regions"

    def __post_init__(self) -> None:
        if self.modality not in MODALITIES:
            raise ValueError(f"modality {self.modality!r}: choose from {', '.join(MODALITIES)}")
        splits = self.splits or {}
        check_splits(splits)
        if wrong := sorted(self.labels.keys() - splits.keys()):
            raise ValueError(f"labels: {', '.join(wrong)} is no folder of splits: {', '.join(splits) or 'it has none'}")
        if isinstance(self.mask_names, dict) and (self.label is not None or self.labels or not self.mask_names):
            raise ValueError("mask_names: labels stand there, or in label and labels, not in both")
        for name in ("images", "masks"):
            if getattr(self, name).count(_FOLDER) > 1:
                raise ValueError(f"{name}: {_FOLDER} stands there twice")
            if len(splits) > 1 and _FOLDER not in getattr(self, name):
                raise ValueError(f"{name}: without {_FOLDER} it is one folder, and splits has {len(splits)}")
        for label, pattern in self.patterns.items():
            try:
                MaskNames(pattern)
            except ValueError as error:
                raise ValueError(f"mask_names{'' if label is None else f'.{label}'}: {error}") from None

    @property
    def patterns(self) -> dict[str | None, str]:
        """How masks are called, by label; None where the picture's folder says the label."""
        names = self.mask_names
        listed: list[tuple[str | None, str]] = [(None, names)] if isinstance(names, str) else [*names.items()]
        return dict(listed)


class ImageMaskFolders:
    """One record an image; an image without a mask, or a mask without an image, is a rejected row."""

    def __init__(self, root: Root, options: dict[str, Any]) -> None:
        self._root = root
        self._options = parse(Options, options, "options")
        self._names = {label: MaskNames(pattern) for label, pattern in self._options.patterns.items()}

    def records(self) -> Iterator[SourceRecord | UnusableRow]:
        for folder, split in self._splits().items():
            yield from self._folder(folder, split)

    def _splits(self) -> dict[str, str | None]:
        if self._options.splits is not None:
            return self._options.splits
        before, placeholder, after = self._options.images.partition(_FOLDER)
        if placeholder:
            where = re.compile(f"{re.escape(before)}([^/]+){re.escape(after)}")
            folders = {posixpath.dirname(name) for name in list_tree(self._root, ".")}
            found = split_folders(match.group(1) for folder in folders if (match := where.fullmatch(folder)))
            if found:
                return dict(sorted(found.items(), key=lambda one: SPLITS.index(one[1])))
            if not list_files(self._root, self._place(self._options.images, ".")):
                where_not = ", ".join(self._options.images.replace(_FOLDER, word) for word in (*SPLITS, "."))
                raise UserError(f"{self._root} has no images in {where_not}: name its folders in options.splits")
        return {".": None}

    def _place(self, folders: str, folder: str) -> str:
        locate(self._root, folders.replace(_FOLDER, folder))  # refuses what leads out of the root
        place = posixpath.normpath(folders.replace(_FOLDER, folder))
        return "" if place == "." else place

    def _folder(self, folder: str, split: str | None) -> Iterator[SourceRecord | UnusableRow]:
        images_in, masks_in = (self._place(place, folder) for place in (self._options.images, self._options.masks))
        within = f"{masks_in}/" if masks_in else ""
        names = [name for name in list_tree(self._root, masks_in or ".") if may_be_image(name)]
        masks = [name for name in names if any(one.fits(name.removeprefix(within)) for one in self._names.values())]
        images: dict[str, list[str]] = defaultdict(list)
        for name in sorted({*list_files(self._root, images_in)} - {*masks}):
            if may_be_image(name):
                images[stem_of(name)].append(name)
        if not images:
            said = "name its folders in options.splits"
            said = f"{said} and its masks in options.mask_names" if masks and images_in == masks_in else said
            raise UserError(f"{self._root} has no images in {images_in or '.'}: {said}")
        found: dict[str, dict[str | None, list[str]]] = defaultdict(lambda: defaultdict(list))
        unmatched = []
        for name in masks:
            named = {label: one.picture(name.removeprefix(within), images) for label, one in self._names.items()}
            owners = {label: stem for label, stem in named.items() if stem is not None}
            if len(owners) > 1:
                labels = " and ".join(map(str, owners))
                raise UserError(f"{self._root}: the names of {labels} fit one file: narrow options.mask_names")
            for label, stem in owners.items():
                found[stem][label].append(name)
            if not owners:
                unmatched.append(name)
        for stem, of_stem in images.items():
            yield from self._images(folder, split, of_stem, found[stem])
        for name in unmatched:
            yield UnusableRow(row=name, path=name, reason="mask_without_image", detail=f"none in {images_in or '.'}")

    def _images(
        self, folder: str, split: str | None, images: list[str], masks: dict[str | None, list[str]]
    ) -> Iterator[SourceRecord | UnusableRow]:
        """The pictures of one name, which should be one, with their masks by label."""
        count = sum(map(len, masks.values()))
        reason = "mask_missing_file" if not masks else "several_images" if len(images) > 1 else None
        if any(len({posixpath.splitext(name)[0] for name in names}) < len(names) for names in masks.values()):
            reason = "several_masks"
        if reason is not None:
            for name in images:
                yield UnusableRow(row=name, path=name, reason=reason, detail=f"{count} masks")
            return
        marked = []
        for label in self._names:
            named = self._options.labels.get(folder, self._options.label) if label is None else label
            files = masks.get(label, [])
            together = [tuple(files)] if self._options.several == "parts" or not files else [(name,) for name in files]
            marked += [MarkedMask(label=named, files=names) for names in together]
        yield SourceRecord(
            row=images[0], name=images[0], split=split, modality=self._options.modality, masks=tuple(marked)
        )
