"""Images with boxes, outlines and sentences in COCO's JSON (Lin et al., arXiv:1405.0312; cocodataset.org, data format).

    {images: [{id, file_name, width, height}, ...],
     annotations: [{image_id, category_id, bbox, segmentation, iscrowd}, or {image_id, caption}, ...],
     categories: [{id, name}, ...]}

Choices:
- A box is (x, y, width, height). A segmentation is a list of polygons, or a run-length code, compressed or not, with
  its size (height, width), which has to be that of the image. A crowd (`iscrowd`) is a region like any other.
- Categories are the image's labels, but for those of `anatomy`, which are regions alone. A category for normal (`No
  finding`) says that there is none, and is no region. Images without annotations: nobody said, unless `unannotated`
  says that there is no finding.
- A segmentation without a pixel, and an annotation without box and segmentation, are no region and are counted as left
  out; their category is a label. Anything else that is wrong with an annotation rejects its image.
- Each caption is a report of its image; further captions are rows of their own.
- Several files may be about the same images: their rows are merged.

Reason codes: bad_row, bad_value, bad_box, bad_rle, bad_polygon, bad_labels, too_many_pixels, unnamed_category,
annotation_without_row, repeated_entry; left out: null_box, empty_region_mask.
"""

import posixpath
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from models.geometry import Box
from pipelines.config import parse
from pipelines.errors import Rejected, UserError, item_boundary
from pipelines.ingest import cells
from pipelines.ingest.details import kind_of
from pipelines.ingest.record import Region, SourceRecord, UnusableRow, check_words, view_of
from pipelines.ingest.tables import Listings
from pipelines.masks import bounding_box, encode_polygons, encode_runs, normal_code
from pipelines.records import SPLITS
from pipelines.sources import MAX_PIXELS
from pipelines.storage import Root


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of the adapter.

    Attributes:
        annotations: JSON file, or a list of them; or split -> its file or files.
        modality: Of all images.
        view: Of all images; null for all but radiographs.
        images: Folder of the images, or split -> folder; by default that of the JSON file.
        anatomy: Categories that are no findings: regions, and no labels of images.
        unannotated: What an image without annotations is: unknown, or no_finding.
    """

    annotations: str | list[str] | dict[str, str | list[str]]
    modality: str
    view: str | None = None
    images: str | dict[str, str] | None = None
    anatomy: list[str] = field(default_factory=list)
    unannotated: Literal["unknown", "no_finding"] = "unknown"

    def __post_init__(self) -> None:
        check_words(self.modality, self.view)
        for name in ("annotations", "images"):
            value = getattr(self, name)
            if isinstance(value, dict) and (wrong := sorted(value.keys() - set(SPLITS))):
                raise ValueError(f"{name}: {', '.join(wrong)} is no split: choose from {', '.join(SPLITS)}")
        if isinstance(self.images, dict) and self.images.keys() != {split for split, _ in self.files}:
            raise ValueError("images: it names a folder for each split of annotations, and for no other")

    @property
    def files(self) -> list[tuple[str | None, str]]:
        """(split, file) of each file."""
        if isinstance(self.annotations, dict):
            return [(split, name) for split, names in self.annotations.items() for name in _list(names)]
        return [(None, name) for name in _list(self.annotations)]


class Coco:
    """One record an image, and one for each further caption."""

    def __init__(self, root: Root, options: dict[str, Any]) -> None:
        self._root = root
        self._options = parse(Options, options, "options")
        self.listings = Listings(root)

    @property
    def readers(self) -> dict[str, Callable[[Any], Any]]:
        """What a value of each key means, for `pipelines.ingest.inspect`."""
        return {
            **dict.fromkeys(("id", "image_id", "category_id", "file_name", "name", "width", "height"), _as_it_is),
            "caption": lambda cell: cells.text(cell, "caption"),
            "bbox": _box,
            "segmentation": _kind_of_segmentation,
        }

    def records(self) -> Iterator[SourceRecord | UnusableRow]:
        named: set[str] = set()
        for split, name in self._options.files:
            yield from self._file(split, name, named)
        if missing := sorted(set(self._options.anatomy) - named):
            raise UserError(f"options.anatomy: no file has the category {missing[0]}: choose from {', '.join(named)}")

    def _file(self, split: str | None, name: str, named: set[str]) -> Iterator[SourceRecord | UnusableRow]:
        needed = ("images", "annotations")
        lists = self.listings.json_lists(name, needed, ("categories",), ": see options.annotations")
        categories = self._categories(name, lists["categories"])  # none in a file of captions
        named.update(categories.values())
        annotations: dict[Any, list[tuple[str, Any]]] = defaultdict(list)
        for number, annotation in enumerate(lists["annotations"]):
            place = f"{name}:annotations:{number}"
            key = _key(annotation, "image_id")
            if key is None:
                yield UnusableRow(row=place, reason="bad_row", detail="not an object with image_id")
            else:
                annotations[key].append((place, annotation))
        seen = set()
        for number, image in enumerate(lists["images"]):
            place, key = f"{name}:images:{number}", _key(image, "id")
            file: Any = image.get("file_name") if isinstance(image, dict) else None
            path = posixpath.normpath(posixpath.join(self._folder(split, name), file)) if _is_text(file) else None
            try:
                with item_boundary("bad_row"):
                    if key is None or path is None:
                        raise Rejected("bad_row", "not an object with id and file_name")
                    if key in seen:
                        raise Rejected("repeated_entry", "another image of the file has this id")
                    seen.add(key)
                    records = self._records(place, path, split, image, annotations[key], categories)
            except Rejected as error:
                yield UnusableRow(row=place, path=path, reason=error.reason, detail=error.detail)
            else:
                yield from records
        for key, places in annotations.items():
            for place, _ in places if key not in seen else ():
                yield UnusableRow(
                    row=place, reason="annotation_without_row", detail="images does not list its image_id"
                )

    def _categories(self, name: str, items: list[Any]) -> dict[Any, str]:
        """Name of each category by id."""
        found: dict[Any, Any] = {_key(item, "id"): item.get("name") for item in items if isinstance(item, dict)}
        if None in found or len(found) < len(items) or not all(map(_is_text, found.values())):
            raise UserError(
                f"{self._root}: {name}: categories should be a list of objects with an id (whole number or "
                "text) of its own and a name each"
            )
        return {key: label.strip() for key, label in found.items()}

    def _folder(self, split: str | None, name: str) -> str:
        images = self._options.images
        if isinstance(images, dict):
            return images[str(split)]
        return posixpath.dirname(name) if images is None else images

    def _records(
        self,
        place: str,
        path: str,
        split: str | None,
        image: dict[str, Any],
        annotations: list[tuple[str, Any]],
        categories: dict[Any, str],
    ) -> list[SourceRecord]:
        """An image with all that its file says of it."""
        captions = [
            (place, caption)
            for place, annotation in annotations
            if (caption := cells.text(annotation.get("caption"), "caption")) is not None
        ]
        marked = [annotation for _, annotation in annotations if "caption" not in annotation]
        labels: dict[str, None] = {}
        regions, left_out, is_normal = [], [], False
        size = _size(image) if marked else None
        for annotation in marked:
            label = None if annotation.get("category_id") is None else categories.get(_key(annotation, "category_id"))
            if label is None and annotation.get("category_id") is not None:
                raise Rejected("unnamed_category", "category_id is none of the file's categories")
            if cells.is_normal(label):
                is_normal = True
                continue
            if label is not None and label not in self._options.anatomy:
                labels[label] = None
            box, rle = _box(annotation.get("bbox")), _code(annotation.get("segmentation"), size)
            if rle is not None and bounding_box(rle[0], rle[1][1], rle[1][0])[2] == 0:
                left_out.append("empty_region_mask")
            elif box is None and rle is None:
                left_out.append("null_box")
            else:
                code, code_size = (None, None) if rle is None else rle
                regions.append(Region(label=label, box=box, box_size=size, rle=code, rle_size=code_size))
        if is_normal and labels:
            raise Rejected("bad_labels", f"a category for normal beside {len(labels)} others")
        # A file of captions does not say that nothing was found.
        says_none = is_normal or (not marked and bool(categories) and self._options.unannotated == "no_finding")
        common: dict[str, Any] = {
            "name": path,
            "split": split,
            "modality": self._options.modality,
            "view": view_of(self._options.view),
        }
        first = SourceRecord(
            row=place,
            report=captions[0][1] if captions else None,
            labels=tuple(labels) or (() if says_none else None),
            regions=tuple(regions),
            left_out=tuple(left_out),
            **common,
        )
        return [first, *(SourceRecord(row=row, report=caption, **common) for row, caption in captions[1:])]


def _as_it_is(value: Any) -> Any:
    return value


def _kind_of_segmentation(value: Any) -> str | None:
    if value is None or value == []:
        return None
    return "a run-length code" if isinstance(value, dict) else f"{len(value)} polygons"


def _list(names: str | list[str]) -> list[str]:
    return [names] if isinstance(names, str) else names


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _key(item: Any, name: str) -> int | str | None:
    """An id, which may be a number or a text."""
    value = item.get(name) if isinstance(item, dict) else None
    return value if isinstance(value, int | str) and not isinstance(value, bool) else None


def _size(image: dict[str, Any]) -> tuple[int, int] | None:
    """(width, height) that the file gives of an image; None where it gives none."""
    if image.get("width") is None and image.get("height") is None:
        return None
    width, height = (cells.whole(image.get(edge), edge) or 0 for edge in ("width", "height"))
    if not 0 < width * height <= MAX_PIXELS:
        raise Rejected("too_many_pixels" if width * height else "bad_value", f"width x height is {width} x {height}")
    return width, height


def _box(value: Any) -> Box | None:
    if value is None or value == [] or (isinstance(value, list) and None in value):
        return None
    if not isinstance(value, list) or len(value) != 4 or not all(map(cells.is_number, value)):
        raise Rejected("bad_box", f"bbox is {kind_of(value)}, not four numbers x, y, width, height")
    x, y, width, height = map(float, value)
    return x, y, x + width, y + height


def _code(value: Any, size: tuple[int, int] | None) -> tuple[str, tuple[int, int]] | None:
    """The run-length code of a segmentation, and (width, height) of its mask; None where there is none."""
    if value is None or value == []:
        return None
    if isinstance(value, dict):
        return _run_length_code(value)
    if size is None:
        raise Rejected("bad_polygon", "segmentation: polygons of an image without width and height")
    polygons = value if isinstance(value, list) else []
    if not polygons or not all(isinstance(one, list) and all(map(cells.is_number, one)) for one in polygons):
        raise Rejected("bad_polygon", "segmentation is neither a list of lists of numbers nor a run-length code")
    try:
        return encode_polygons(polygons, size[1], size[0]), size
    except ValueError as error:
        raise Rejected("bad_polygon", f"segmentation: {error}") from None


def _run_length_code(value: dict[str, Any]) -> tuple[str, tuple[int, int]]:
    size, counts = value.get("size"), value.get("counts")
    if not isinstance(size, list) or len(size) != 2 or not all(type(edge) is int and edge > 0 for edge in size):
        raise Rejected("bad_rle", "segmentation: size is not two whole numbers, height and width")
    height, width = size
    if height * width > MAX_PIXELS:
        raise Rejected("too_many_pixels", f"segmentation: size is {height} x {width}")
    try:
        if isinstance(counts, str):
            return normal_code(counts, height, width), (width, height)
        return encode_runs(counts if isinstance(counts, list) else [], height, width), (width, height)
    except ValueError as error:
        raise Rejected("bad_rle", f"segmentation: {error}") from None
