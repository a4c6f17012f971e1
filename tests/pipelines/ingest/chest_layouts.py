"""Small copies of the chest radiographs' layouts, and what their adapters make of them."""

from pathlib import Path
from typing import Any

from pipelines.ingest.inspect.look import SourceLook, look
from pipelines.ingest.record import SourceRecord
from pipelines.registry import plugin
from tests.pipelines.ingest import layouts


def save(path: Path, seed: int, width: int = 40, height: int = 30) -> None:
    """A picture that no other seed has, in the format of its suffix."""
    layouts.save(path, layouts.grey(seed, height, width))


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def rows(adapter: str, root: Path, **options: Any) -> tuple[list[SourceRecord], list[tuple[str, str]]]:
    """The records of a folder, which must be those of a zip file of it too, and rejected rows with their codes."""
    source = plugin("sources", adapter)
    layouts.same_from_a_zip(source, root, options, root.parent / f"{root.name}.zip")
    return layouts.sorted_out(source(root, options))


def ingest(tmp_path: Path, adapter: str, root: Path, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Summary and tables of the stage."""
    return layouts.ingest(tmp_path, adapter, root, options)


def looked(adapter: str, root: Path, **options: Any) -> SourceLook:
    """What `python -m pipelines.ingest.inspect` finds."""
    return look(adapter, layouts.config(adapter, root, options, adapter), None)
