"""QaTa-COV19 (and MosMedData+) in the layout of LViT: masks of infections and a sentence for each.

    {Train,Val,Test}_Folder/img/<stem>.*          images
    {Train,Val,Test}_Folder/labelcol/*<stem>.*    masks, named mask_<stem>.png (MosMedData+: <stem>.png)
    {Train,Val,Test}_Folder/*.csv                 texts: Image (the mask's name) and Description (or text)

The file of `Train_Folder` may hold the texts of `Val_Folder` too, so texts are looked up in all of them. A sentence is
kept as it stands, spelling and spacing mistakes included. QaTa's left and right are the image's, not the patient's: of
1,664 sentences that name one side, 1,611 name the half of the image that holds the mask. QaTa's file names carry
BIMCV's subject (`sub-S09345`) and mostly the projection (`vp-ap`, `vp-pa`, `vp-ll`). Where a name has none, the view is
the option's: an assumption, for a few of QaTa's `covid_*` images are lateral.

MosMedData+ has slices; most names begin with the case (`Jun_coronacases_case8_...`, `Morozov_study_0295_...`), which is
taken for the patient, those of `bjorke_...` do not. Its published split parts slices of one case. A slice whose mask is
empty has no finding; its sentence is "No pulmonary infection, zero infected areas."
"""

import posixpath
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from pipelines.archives import list_files
from pipelines.config import parse
from pipelines.errors import Rejected, UserError, item_boundary
from pipelines.ingest import cells
from pipelines.ingest.record import SourceRecord, UnusableRow, check_words, view_of
from pipelines.ingest.tables import Listings, Row
from pipelines.records import Sides
from pipelines.storage import Root

FOLDERS = {"Train_Folder": "train", "Val_Folder": "validation", "Test_Folder": "test"}

_READERS: dict[str, Callable[[Any], Any]] = {
    column: partial(cells.text, column=column) for column in ("Image", "Description", "text")
}

# QaTa-COV19's subject; MosMedData+'s case of a public collection, or study.
_PATIENT = re.compile(r"sub-[^_]+|Jun_\w*?case\d+|Morozov_study_\d+")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of the adapter; the defaults are those of QaTa-COV19.

    Attributes:
        modality: Of all images.
        view: Of images whose name has no projection; null for slices.
        label: What the masks mark.
    """

    modality: str = "radiograph"
    view: str | None = "frontal"
    label: str = "pulmonary infection"

    def __post_init__(self) -> None:
        check_words(self.modality, self.view)


class Lvit:
    """One record an image; a text whose image is missing is a rejected row."""

    readers = _READERS

    def __init__(self, root: Root, options: dict[str, Any]) -> None:
        self._root = root
        self._options = parse(Options, options, "options")
        self.listings = Listings(root)
        if not any(list_files(root, f"{folder}/img") for folder in FOLDERS):
            raise UserError(f"{root} has no images in {', '.join(f'{folder}/img' for folder in FOLDERS)}")

    @property
    def sides(self) -> Sides | None:
        """QaTa-COV19's; of MosMedData+'s slices they were not measured."""
        return "image" if self._options.modality == "radiograph" else None

    def records(self) -> Iterator[SourceRecord | UnusableRow]:
        texts: dict[str, tuple[str, str | None]] = {}
        for item in self._rows():
            if isinstance(item, UnusableRow):
                yield item
                continue
            place, row = item
            try:
                with item_boundary("bad_row"):
                    key, text = self._text(row)
                if key in texts:
                    raise Rejected("repeated_text", f"first at {texts[key][0]}")
            except Rejected as error:
                yield UnusableRow(row=place, path=row["Image"], reason=error.reason, detail=error.detail)
            else:
                texts[key] = place, text
        for folder, split in FOLDERS.items():
            masks = {_key(name): name for name in list_files(self._root, f"{folder}/labelcol")}
            for name in list_files(self._root, f"{folder}/img"):
                key = _key(name)
                place, report = texts.pop(key, (name, None))
                if key in masks:
                    yield self._record(place, name, split, report, masks[key])
                else:
                    yield UnusableRow(row=place, path=name, reason="mask_missing_file", detail=f"{folder}/labelcol")
        for key, (place, _) in texts.items():
            yield UnusableRow(row=place, path=key, reason="missing_file", detail="a text without an image")

    def _text(self, row: dict[str, Any]) -> tuple[str, str | None]:
        """What a row's image is called, and what is said of it."""
        name = _READERS["Image"](row["Image"])
        if name is None:
            raise Rejected("missing_file_name", "Image is missing")
        column = "Description" if "Description" in row else "text"
        return _key(name), _READERS[column](row[column])

    def _record(self, row: str, name: str, split: str, report: str | None, mask: str) -> SourceRecord:
        stem = _key(name)
        subject = _PATIENT.match(stem)
        projection = re.search(r"_vp-([a-z]+)", stem)
        return SourceRecord(
            row=row,
            name=name,
            split=split,
            patient=subject.group() if subject else None,
            modality=self._options.modality,
            view=view_of(projection.group(1) if projection else self._options.view),
            report=report,
            mask=mask,
            mask_label=self._options.label,
        )

    def _rows(self) -> Iterator[Row | UnusableRow]:
        """Every row of every text file."""
        files = [name for folder in FOLDERS for name in list_files(self._root, folder) if name.endswith(".csv")]
        if not files:
            raise UserError(f"{self._root} has no .csv in {', '.join(FOLDERS)}: save the texts (.xlsx) as CSV")
        for name in files:
            for item in self.listings.rows(name):
                if not isinstance(item, UnusableRow) and not (
                    "Image" in item[1] and item[1].keys() & {"Description", "text"}
                ):
                    raise UserError(f"{self._root}: {name} needs the columns Image and Description (or text)")
                yield item


def _key(name: str) -> str:
    """What an image, its mask and its text have in common."""
    return posixpath.splitext(posixpath.basename(name))[0].removeprefix("mask_")
