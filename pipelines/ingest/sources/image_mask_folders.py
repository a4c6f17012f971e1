"""Folders of images beside folders of masks with the same names, such as Kvasir-SEG.

<folder>/images/<stem>.*    images
<folder>/masks/<stem>.*     masks
"""

import posixpath
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.archives import list_files
from pipelines.config import parse
from pipelines.errors import UserError
from pipelines.ingest.record import SourceRecord, UnusableRow
from pipelines.records import MODALITIES, SPLITS


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of the adapter.

    Attributes:
        modality: Of all images.
        label: What the masks mark; null where nobody said.
        splits: Folder -> the split that it is; `.` is the root itself, null is no published split.
    """

    modality: str
    label: str | None = None
    splits: dict[str, str | None] = field(default_factory=lambda: {split: split for split in SPLITS})

    def __post_init__(self) -> None:
        if self.modality not in MODALITIES:
            raise ValueError(f"modality {self.modality!r}: choose from {', '.join(MODALITIES)}")
        if wrong := sorted({str(split) for split in self.splits.values()} - {*SPLITS, "None"}):
            raise ValueError(f"splits: {', '.join(wrong)} is no split: choose from {', '.join(SPLITS)} or null")


class ImageMaskFolders:
    """One record an image; an image without exactly one mask, or a mask without an image, is a rejected row."""

    def __init__(self, root: Path, options: dict[str, Any]) -> None:
        self._root = root
        self._options = parse(Options, options, "options")

    def records(self) -> Iterator[SourceRecord | UnusableRow]:
        for folder, split in self._options.splits.items():
            images, masks = (self._by_stem(posixpath.normpath(f"{folder}/{kind}")) for kind in ("images", "masks"))
            if not images:
                raise UserError(f"{self._root} has no images in {folder}/images: name its folders in options.splits")
            for stem, names in images.items():
                found = masks.pop(stem, [])
                if len(names) == 1 and len(found) == 1:
                    yield SourceRecord(
                        row=names[0],
                        name=names[0],
                        split=split,
                        modality=self._options.modality,
                        mask=found[0],
                        mask_label=self._options.label,
                    )
                    continue
                reason = "mask_missing_file" if not found else "several_masks"
                for name in names:
                    yield UnusableRow(row=name, path=name, reason=reason, detail=f"{len(found)} masks")
            for name in sorted(name for names in masks.values() for name in names):
                yield UnusableRow(row=name, path=name, reason="mask_without_image", detail=f"none in {folder}/images")

    def _by_stem(self, folder: str) -> dict[str, list[str]]:
        found = defaultdict(list)
        for name in list_files(self._root, folder):
            found[posixpath.splitext(posixpath.basename(name))[0]].append(name)
        return found
