"""Ranges of numbers in settings: what lies outside is refused in one line. NaN lies outside of every range."""


def at_least(least: int, **values: float | None) -> None:
    """Refuse values below `least`, by the names of their settings; None is no value.

    Raises:
        ValueError: One is below, or not a number.
    """
    for name, value in values.items():
        if value is not None and not value >= least:
            raise ValueError(f"{name} is {value}; give {least} or more")


def above_zero(**values: float | None) -> None:
    """Refuse values that are not above 0, by the names of their settings; None is no value.

    Raises:
        ValueError: One is 0 or below, or not a number.
    """
    for name, value in values.items():
        if value is not None and not value > 0:
            raise ValueError(f"{name} is {value}; give a number above 0")
