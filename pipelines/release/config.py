"""The section `release` of params.yaml."""

import re
from dataclasses import dataclass, field

from pipelines.days import is_day

# What Croissant asks of a version, and what a folder, a tag and a citation can hold.
_VERSION = re.compile(r"\d+\.\d+\.\d+")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, kw_only=True)
class ReleaseConfig:
    """How a release is called, and for which use it is passed on.

    Attributes:
        name: Of the data set.
        version: MAJOR.MINOR.PATCH; raise it with every release that others get.
        use: A key of `promote.licences`; sources whose licence does not allow it are left out.
        creators: Organisations that made it.
        url: Of the page where it can be found; null: none.
        published: The day, YYYY-MM-DD; null: not said. No clock is read, so that a release can be made again.
    """

    name: str
    version: str
    use: str
    creators: list[str] = field(default_factory=list)
    url: str | None = None
    published: str | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError("name is made of letters, digits, '.', '_' and '-'")
        if not _VERSION.fullmatch(self.version):
            raise ValueError("version is MAJOR.MINOR.PATCH, such as 1.0.0")
        if self.url is not None and not self.url.startswith(("https://", "http://")):
            raise ValueError("url begins with https:// or http://")
        if any(re.search(r"[\x00-\x1f{}\\]", creator) for creator in self.creators):
            raise ValueError("creators are names in one line, without braces and backslashes")
        if self.published is not None and not is_day(self.published):
            raise ValueError("published is YYYY-MM-DD in quotes, such as '2026-11-28'")
