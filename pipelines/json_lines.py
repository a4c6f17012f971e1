"""Decisions of people, which git keeps: a JSON object on each line, checked against its dataclass."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from pipelines.config import parse
from pipelines.errors import Rejected, UserError, item_boundary
from pipelines.files import write_text

T = TypeVar("T")


def read_lines(kind: type[T], path: Path) -> list[T]:
    """The rows of a file, in its order.

    Raises:
        UserError: A line is no row of this kind; the message names its number.
    """
    rows = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            with item_boundary():
                values = json.loads(line)
        except Rejected as error:
            raise UserError(f"{path}:{number}: not JSON ({error.detail})") from None
        rows.append(parse(kind, values, f"{path}:{number}"))
    return rows


def write_lines(rows: Iterable[Any], path: Path) -> None:
    """Write rows, which are dataclasses, in the given order."""
    write_text(path, "".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows))
