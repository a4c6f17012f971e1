"""Days, as people write them into files: 2026-11-28."""

import datetime


def is_day(text: str) -> bool:
    """Whether a text is a day of the calendar, in the one form that sorts as it is."""
    try:
        return datetime.date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
