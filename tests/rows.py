"""Rows of tables as plain values, to compare with what a test writes down by hand."""

import dataclasses
from pathlib import Path
from typing import Any

from pipelines.tables import Table


def values_of(table: Table, path: Path) -> list[dict[str, Any]]:
    """The rows of a file as dictionaries, tuples as lists."""
    return [
        {name: list(value) if isinstance(value, tuple) else value for name, value in dataclasses.asdict(row).items()}
        for row in table.read(path)
    ]
