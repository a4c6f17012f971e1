"""Where the sources' files are and how large an image may be: what the stages after `ingest` need of that section.

They read it here, so that a new setting of `ingest` does not make DVC run them again.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from models.urls import is_url
from pipelines.config import PARAMS, load_section, parse
from pipelines.errors import UserError
from pipelines.storage import RawCache, Remote, Root, check_root, root_of

# Pixels of the largest image that any stage decodes. It does not stand in `pipelines.images`, whose decoders take a
# quarter of a second to import, for stages that decode nothing read the sources too.
MAX_PIXELS = 100_000_000
# Where the stage `phantom` draws, if a source reads it.
PHANTOM = Path("data/raw/phantom")


@dataclass(frozen=True, kw_only=True)
class Sources:
    """The sources' files.

    Attributes:
        roots: Folder or archive of each source, here or on storage, by the name that the tables give it.
        max_pixels: An image of more pixels (width times height) is not decoded.
    """

    roots: dict[str, Root]
    max_pixels: int

    def __post_init__(self) -> None:
        if not 1 <= self.max_pixels <= MAX_PIXELS:
            raise ValueError(f"max_pixels lies between 1 and {MAX_PIXELS}")

    def under(self, project: Path) -> "Sources":
        """The same, for whoever runs in another folder than the project's."""
        roots: dict[str, Root] = {
            name: replace(root, cache=project / root.cache) if isinstance(root, Remote) else project / root
            for name, root in self.roots.items()
        }
        return replace(self, roots=roots)


def load_sources(path: Path = PARAMS) -> Sources:
    """The sources that the section `ingest` of params.yaml names.

    Raises:
        UserError: The section is missing, a source has no root, or a value has the wrong type.
    """
    section, where = load_section("ingest", path), f"{path}: ingest"
    for key in ("sources", "max_pixels"):
        if key not in section:
            raise UserError(f"{where}.{key}: missing; see the params.yaml that ships with the project")
    if not isinstance(section["sources"], dict):
        raise UserError(f"{where}.sources holds {section['sources']!r}; it should hold a section for each source")
    cache = parse(RawCache, section.get("raw_cache", {}), f"{where}.raw_cache")
    roots: dict[str, Root] = {}
    for name, source in section["sources"].items():
        if not isinstance(source, dict) or not isinstance(source.get("root"), str):
            raise UserError(f"{where}.sources.{name}.root: missing; name the source's folder or archive")
        try:
            check_root(source["root"])
        except ValueError as error:
            raise UserError(f"{where}.sources.{name}: {error}") from None
        roots[name] = root_of(source["root"], cache)
    found = parse(Sources, {"roots": {}, "max_pixels": section["max_pixels"]}, where)
    return replace(found, roots=roots)


def reads(roots: Iterable[str | Root], folder: Path) -> bool:
    """Whether files of a folder belong to a source: a root is the folder, lies in it, or it lies in a root."""
    wanted = Path(os.path.abspath(folder))
    found = (Path(os.path.abspath(root)) for root in map(str, roots) if not is_url(root))
    return any(root.is_relative_to(wanted) or wanted.is_relative_to(root) for root in found)
