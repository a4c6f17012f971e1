"""How the name of a mask's file is made of its picture's, and which picture a mask belongs to."""

import posixpath
import re
from collections.abc import Collection, Iterator

_PLACEHOLDER = re.compile(r"\{[^{}]*\}|[{}]|\*")
_NAMED = {"{n}": r"\d+", "*": r"[^/]*"}
_ANY_SUFFIX = r"(?:\.nii\.gz|\.[^./]*)?"


def stem_of(name: str) -> str:
    """A file's name without its folder and suffix."""
    base = posixpath.basename(name)
    return base[: -len(".nii.gz")] if base.lower().endswith(".nii.gz") else posixpath.splitext(base)[0]


class MaskNames:
    """A pattern such as `{stem}_mask*.png`.

    Args:
        pattern: Name of a mask's file, with folders where masks lie deeper. `{stem}` is the picture's name without its
            suffix, `{n}` a number, `*` anything but `/`, and `.*` at the end any suffix.

    Raises:
        ValueError: It does not hold `{stem}` once, or it holds another placeholder.
    """

    def __init__(self, pattern: str) -> None:
        known = ("{stem}", *_NAMED)
        if wrong := sorted(set(_PLACEHOLDER.findall(pattern)) - set(known)):
            raise ValueError(f"{pattern!r} holds {', '.join(wrong)}: choose from {', '.join(known)}")
        before, stem, after = pattern.partition("{stem}")
        if not stem or "{stem}" in after:
            raise ValueError(f"{pattern!r}: a mask's name holds the picture's name, {{stem}}, once")
        self._before, self._after = _regex(before), _regex(after)
        # With a fixed beginning there is one place where the picture's name can stand.
        self._start = None if _PLACEHOLDER.search(before) else len(before)

    def fits(self, name: str) -> bool:
        """Whether a file is a mask of some picture."""
        return any(True for _ in self._stems(name))

    def picture(self, name: str, stems: Collection[str]) -> str | None:
        """Which of some pictures a mask belongs to: that with the longest name that fits; None where none does."""
        return max((stem for stem in self._stems(name) if stem in stems), key=len, default=None)

    def _stems(self, name: str) -> Iterator[str]:
        """What the picture of a mask may be called."""
        for start in range(len(name)) if self._start is None else (self._start,):
            if not self._before.fullmatch(name, 0, start):
                continue
            for end in range(start + 1, len(name) + 1):
                if name[end - 1] == "/":
                    break
                if self._after.fullmatch(name, end):
                    yield name[start:end]


def _regex(text: str) -> re.Pattern[str]:
    text, any_suffix = (text[:-2], _ANY_SUFFIX) if text.endswith(".*") else (text, "")
    parts, end = [], 0
    for found in _PLACEHOLDER.finditer(text):
        parts += [re.escape(text[end : found.start()]), _NAMED[found.group()]]
        end = found.end()
    return re.compile("".join([*parts, re.escape(text[end:]), any_suffix]))
