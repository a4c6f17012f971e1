"""Pictures with masks and prompts for them, as medvlsm publishes them for Kvasir-SEG, BKAI, ISIC, BUSI and others
(Poudel et al., arXiv:2308.07706): a JSON list a split.

    anns/{train,val,test}.json      [{img_name, mask_name, segment_id, bbox, prompts: {p0: ..., p9: ...}}, ...]
    images/<img_name>
    masks/<mask_name>

Choices:
- An image is one record, with the prompts of all its entries for a report. Where its entries have masks of their own,
  each is a region with its entries' prompts for a phrase; an image's only mask is that of everything in it, and an
  empty one says that there is no finding.
- `bbox` is (x0, y0, x1, y1) in pixels of the image as first published. It is checked and not used: the mask tells the
  same in the pixels of the image that is here.
- A blank prompt (p0 always is) is no report.
- The lists name PNG files where the data have JPEG: a name that is no file means the one file that differs from it in
  the suffix alone.
- An image that several splits list goes to the most protected one, see `pipelines/ingest/merge.py`.
- Masks are grey, as medvlsm takes them; one in colour (BKAI as first published) is rejected by the stage.

Reason codes: bad_row, bad_box, missing_prompt, repeated_entry, path_outside_root, unlisted_file; several_images and
several_masks, where several files differ from a listed name in the suffix alone.
"""

import functools
import posixpath
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pipelines.archives import list_files, list_tree, locate
from pipelines.config import parse
from pipelines.errors import Rejected, item_boundary
from pipelines.ingest import cells
from pipelines.ingest.details import kind_of
from pipelines.ingest.mask_names import stem_of
from pipelines.ingest.record import Region, SourceRecord, UnusableRow, check_words, view_of
from pipelines.ingest.tables import Listings
from pipelines.records import SPLITS
from pipelines.storage import Root


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of the adapter.

    Attributes:
        modality: Of all images.
        label: What the masks mark.
        annotations: Split -> its JSON file.
        images: Folder of the images.
        masks: Folder of the masks.
        prompt: Which of an entry's prompts is the report; of a list of them, the first.
        view: Of all images; null for all but radiographs.
    """

    modality: str
    label: str
    annotations: dict[str, str] = field(
        default_factory=lambda: {"train": "anns/train.json", "validation": "anns/val.json", "test": "anns/test.json"}
    )
    images: str = "images"
    masks: str = "masks"
    prompt: str = "p6"
    view: str | None = None

    def __post_init__(self) -> None:
        check_words(self.modality, self.view)
        if wrong := sorted(self.annotations.keys() - set(SPLITS)):
            raise ValueError(f"annotations: {', '.join(wrong)} is no split: choose from {', '.join(SPLITS)}")


@dataclass(frozen=True, kw_only=True)
class _PromptEntry:
    """One entry of a list.

    Attributes:
        place: Where it stands, such as `anns/train.json:17`, counted from 0.
        image: The image's file.
        mask: The mask's file.
        segment: Its segment_id as text.
        prompt: What is said of it; '' where that is nothing.
    """

    place: str
    image: str
    mask: str
    segment: str
    prompt: str


class PromptJson:
    """One record an image and split; an image that no list names is a rejected row."""

    def __init__(self, root: Root, options: dict[str, Any]) -> None:
        self._root = root
        self._options = parse(Options, options, "options")
        self.listings = Listings(root)

    def records(self) -> Iterator[SourceRecord | UnusableRow]:
        unlisted = set(list_files(self._root, posixpath.normpath(self._options.images)))
        for split, name in self._options.annotations.items():
            images: dict[str, dict[tuple[str, str], _PromptEntry]] = {}
            items = self.listings.json_list(name, "entries", ": see options.annotations")
            for number, item in enumerate(items):
                place, listed = f"{name}:{number}", _text(item, "img_name")
                if listed is not None:
                    unlisted.difference_update(self._files(self._options.images, listed))
                try:
                    with item_boundary("bad_row"):
                        entry = self._entry(place, item)
                    entries_of_image = images.setdefault(entry.image, {})
                    key = entry.mask, entry.segment
                    if key in entries_of_image:
                        raise Rejected("repeated_entry", f"first at {entries_of_image[key].place}")
                    entries_of_image[key] = entry
                except Rejected as error:
                    yield UnusableRow(row=place, reason=error.reason, detail=error.detail, path=listed)
            for entries in images.values():
                yield self._record(split, list(entries.values()))
        for image in sorted(unlisted):
            yield UnusableRow(row=image, path=image, reason="unlisted_file", detail="no list names it")

    def _record(self, split: str, entries: list[_PromptEntry]) -> SourceRecord:
        """An image from all that a split's list says of it."""
        label = self._options.label
        masks = list(dict.fromkeys(entry.mask for entry in entries))
        marked: dict[str, Any] = {"mask": masks[0], "mask_label": label}
        if len(masks) > 1:
            regions = tuple(
                Region(label=label, mask=mask, phrase=_joined(entry for entry in entries if entry.mask == mask))
                for mask in masks
            )
            marked = {"labels": (label,), "regions": regions}
        return SourceRecord(
            row=entries[0].place,
            name=entries[0].image,
            split=split,
            modality=self._options.modality,
            view=view_of(self._options.view),
            report=_joined(entries),
            **marked,
        )

    def _entry(self, place: str, item: Any) -> _PromptEntry:
        image, mask = (_text(item, key) for key in ("img_name", "mask_name"))
        if not image or not mask:
            raise Rejected("bad_row", "not an object with img_name and mask_name")
        box = item.get("bbox")
        if box is not None and not _is_box(box):
            raise Rejected("bad_box", f"bbox is {kind_of(box)}, not four numbers x0, y0, x1, y1")
        return _PromptEntry(
            place=place,
            image=self._file(self._options.images, image, "several_images"),
            mask=self._file(self._options.masks, mask, "several_masks"),
            segment=str(item.get("segment_id")),
            prompt=self._prompt(item.get("prompts")),
        )

    def _prompt(self, prompts: Any) -> str:
        prompt = prompts.get(self._options.prompt) if isinstance(prompts, dict) else None
        if isinstance(prompt, list):
            prompt = prompt[0] if prompt else None
        if not isinstance(prompt, str):
            raise Rejected("missing_prompt", f"prompts has no text {self._options.prompt}")
        return (cells.text(prompt, f"prompts: {self._options.prompt}") or "").strip()

    def _file(self, folder: str, name: str, several: str) -> str:
        """Relative to the root; what leads out of it is refused here, before names are compared."""
        locate(self._root, posixpath.join(folder, name))
        files = self._files(folder, name)
        if len(files) > 1:
            raise Rejected(several, f"{len(files)} files differ from the listed name in the suffix alone")
        return files[0]

    def _files(self, folder: str, name: str) -> list[str]:
        """The file of a listed name, or else those that differ from it in the suffix; itself where there is none."""
        joined = posixpath.normpath(posixpath.join(folder, name))
        found = self._by_stem.get(_without_suffix(joined), [])
        return [joined] if joined in found or not found else found

    @functools.cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        """The files of images and masks by their names without suffix."""
        found = defaultdict(list)
        for folder in sorted({self._options.images, self._options.masks}):
            for name in list_tree(self._root, folder or "."):
                found[_without_suffix(name)].append(name)
        return found


def _without_suffix(name: str) -> str:
    return posixpath.join(posixpath.dirname(name), stem_of(name))


def _joined(entries: Iterable[_PromptEntry]) -> str | None:
    """The different prompts of some entries; None where they say nothing."""
    return ". ".join(dict.fromkeys(entry.prompt for entry in entries if entry.prompt)) or None


def _is_box(value: Any) -> bool:
    if not isinstance(value, list) or len(value) != 4:
        return False
    return all(map(cells.is_number, value)) and value[0] <= value[2] and value[1] <= value[3]


def _text(item: Any, key: str) -> str | None:
    value = item.get(key) if isinstance(item, dict) else None
    return value if isinstance(value, str) else None
