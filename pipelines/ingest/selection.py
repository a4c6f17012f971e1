"""Which images of a source are read, and in which order."""

import hashlib
from collections import Counter
from typing import Any

from pipelines.ingest.listed import ImageName, RowsOfImage
from pipelines.ingest.merge import most_protected
from pipelines.ingest.record import SourceRecord


def select(listed: RowsOfImage, limit: int | dict[str, int] | None) -> list[ImageName]:
    """The images that `limit` leaves, in the order of the listing: those with the smallest hashes of their names."""
    limits: dict[Any, int] = {None: limit} if isinstance(limit, int) else limit or {}
    taken: Counter[str | None] = Counter()
    chosen = set()
    for image in sorted(listed, key=_hash_of_name):
        split = None if isinstance(limit, int) else _split(listed[image])
        if split not in limits or taken[split] < limits[split]:
            taken[split] += 1
            chosen.add(image)
    return [image for image in listed if image in chosen]


def _hash_of_name(image: ImageName) -> bytes:
    name, cut = image
    return hashlib.sha256("\0".join(map(str, (name, *cut.key))).encode()).digest()


def file_by_file(images: list[ImageName]) -> list[ImageName]:
    """The images of one file together, so that it is opened once; files in the order of the listing."""
    first = {name: place for place, (name, _) in reversed(list(enumerate(images)))}
    return sorted(images, key=lambda image: first[image[0]])


def _split(records: list[SourceRecord]) -> str | None:
    return most_protected(record.split for record in records)


def by_split(listed: RowsOfImage, images: list[ImageName]) -> dict[str, int]:
    """How many images the source has in each split; those in none under `none`."""
    return dict(sorted(Counter(_split(listed[image]) or "none" for image in images).items()))
