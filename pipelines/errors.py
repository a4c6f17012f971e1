"""The two ways in which an input can be wrong: the user's settings, or one item of the data."""


class UserError(Exception):
    """A mistake that the user can mend. Its text is one line that says what to change.

    `pipelines.stage.command` prints it without a traceback and exits with 1.
    """


class Rejected(Exception):
    """One item that can never be used as it is; it is counted under its reason code and the run goes on.

    Args:
        reason: A short snake_case code, the same for every item with this fault.
        detail: What exactly was wrong with this item, for a person.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


def disk_fault(error: OSError) -> str:
    """The reason of an item that failed because of the disk, not the data: another run may succeed."""
    return f"{type(error).__name__}: {error.strerror}"
