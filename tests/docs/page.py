"""The fenced blocks of docs/extending.md."""

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml


@dataclass
class Page:
    """What the blocks hold.

    Attributes:
        files: Path in the repository -> its text.
        registry: Plug-in kind -> the lines to add.
        params: Each yaml block, parsed.
        entry_points: Group -> name -> value, from the toml block.
    """

    files: dict[str, str] = field(default_factory=dict)
    registry: dict[str, list[str]] = field(default_factory=dict)
    params: list[dict[str, Any]] = field(default_factory=list)
    entry_points: dict[str, dict[str, str]] = field(default_factory=dict)


def read_page(repository: Path) -> Page:
    text = (repository / "docs" / "extending.md").read_text(encoding="utf-8")
    page = Page()
    for match in re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        language, body = match.groups()
        if language == "yaml":
            page.params.append(yaml.safe_load(body))
        elif language == "toml":
            page.entry_points |= tomllib.loads(body)["project"]["entry-points"]
        elif named := re.match(r"# (\S+\.py)\n", body):
            page.files[named.group(1)] = body
        else:
            kind = re.findall(r"`pipelines/registry\.py`, under `(\w+)`:", text[: match.start()])[-1]
            page.registry.setdefault(kind, []).append(body)
    return page
