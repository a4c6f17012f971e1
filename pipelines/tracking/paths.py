"""Runs are shown to others: no path of this machine goes into them, and no password of an address."""

import re
from pathlib import PurePosixPath
from typing import Any

# A whole value that is an absolute path, one from the home folder, or the address of a file or of an sqlite database.
_ABSOLUTE = re.compile(r"(?P<scheme>file://|sqlite:///)?(?P<path>(?:/|~[^/]*/).*)", re.DOTALL)

_LOGIN = re.compile(r"(?<=://)[^/@\s]+@")


def without_machine_paths(value: Any) -> Any:
    """Values as YAML and JSON hold them: of an absolute path the last name, of an address all but the login."""
    if isinstance(value, dict):
        return {key: without_machine_paths(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_machine_paths(inner) for inner in value]
    if not isinstance(value, str):
        return value
    found = _ABSOLUTE.fullmatch(value)
    if found is None:
        return _LOGIN.sub("", value)
    return f"{found['scheme'] or ''}{PurePosixPath(found['path']).name or '/'}"
