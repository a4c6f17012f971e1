"""Numbers in sentences."""

from collections.abc import Mapping, Sequence


def counted(number: int, one: str, many: str | None = None) -> str:
    """`1 image`, `1,100 images`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def listed(counts: Mapping[str, int], most: int = 4) -> str:
    """`missing file 10, bad value 5`, the most frequent first; of more than `most` kinds the others in one number.

    Args:
        counts: Name or reason code -> how many.
        most: Kinds that are named.
    """
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    words = [f"{name.replace('_', ' ')} {count:,}" for name, count in ordered[:most]]
    rest = ordered[most:]
    if rest:
        words.append(f"{counted(len(rest), 'other kind')} {sum(count for _, count in rest):,}")
    return ", ".join(words)


def percent(part: float, whole: float = 1) -> str:
    """`43 %`; what is not nothing and not all is never rounded to it."""
    share = 100 * part / whole
    if 0 < share < 1:
        return "less than 1 %"
    return "more than 99 %" if 99 < share < 100 else f"{share:.0f} %"


def joined(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *before, last = words
    return f"{', '.join(before)} and {last}" if before else last
