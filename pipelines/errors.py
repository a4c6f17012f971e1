"""The two ways in which an input can be wrong: the user's settings, or one item of the data."""

import difflib
import errno
import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from models.verified import DamagedError

logger = logging.getLogger(__name__)

# What the operating system says when the disk, the rights on it or its limits are at fault. Libraries raise `OSError`
# for bytes that they cannot read too, without such a number.
_DISK = {
    *(errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT),
    *(errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EBUSY, errno.EAGAIN, errno.EINTR, errno.ENODEV),
    *(errno.ENXIO, errno.ENOTCONN, errno.ETIMEDOUT),
}
_CUT_OFF = ("truncated", "ended before", "expected", "not enough", "end of file", "eof", "unexpected end")


class UserError(Exception):
    """A mistake that the user can mend. Its text is one line that says what to change.

    `pipelines.stage.command` prints it without a traceback and exits with 1.
    """


class TemporaryError(UserError):
    """A fault of a network or a server: the same command may pass a little later, with nothing changed.

    `pipelines.stage.command` exits with `TRY_AGAIN`, so that whoever runs commands, such as a flow, can tell it from a
    mistake, which would fail again.
    """


# EX_TEMPFAIL of <sysexits.h>: "temporary failure; the user is invited to retry".
TRY_AGAIN = 75


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


def did_you_mean(name: str, known: Iterable[str], otherwise: str) -> str:
    """What a message says of an unknown name: the known one that is nearest, or `otherwise` where none is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean '{near[0]}'?" if near else otherwise


def is_disk_fault(error: BaseException) -> bool:
    """Whether the disk failed and not the data: another run may succeed."""
    return isinstance(error, OSError) and error.errno in _DISK


def disk_fault(error: OSError) -> str:
    """The reason of an item that failed because of the disk, not the data: another run may succeed."""
    return f"{type(error).__name__}: {error.strerror}"


@contextmanager
def item_boundary(reason: str | None = None, place: str = "") -> Iterator[None]:
    """Around the reading of one file, row or archive member: whatever a reader raises there becomes `Rejected`.

    Readers of foreign bytes raise anything, so this is the one place that catches everything. `Rejected`, `UserError`,
    `DamagedError` and faults of the disk pass through; so do interrupts.

    Args:
        reason: Reason code; None: `truncated` where the reader says so, else `corrupt`.
        place: What the detail starts with, such as the member's name.
    """
    try:
        yield
    except (Rejected, UserError, DamagedError):
        raise
    except Exception as error:
        if is_disk_fault(error):
            raise
        logger.debug("an item is rejected", exc_info=True)
        detail = one_line(error)
        short = isinstance(error, EOFError) or any(word in detail.lower() for word in _CUT_OFF)
        code = reason or ("truncated" if short else "corrupt")
        raise Rejected(code, f"{place}: {detail}" if place else detail) from None


def one_line(error: BaseException) -> str:
    """An error's own words in at most 200 characters that every file can hold; its class where it has none."""
    # An object's address differs from run to run.
    text = re.sub(r" at 0x[0-9a-f]+", "", " ".join(str(error).split()))[:200]
    return printable(text) or type(error).__name__


def printable(text: str) -> str:
    """Text with an escape such as `\\udc80` for what no UTF-8 file can hold."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def text_fault(text: str) -> str | None:
    """Why no table or file can hold a text as it is; None where it can.

    JSON's and YAML's `\\ud800`, and file names of undecodable bytes, bring half surrogate pairs; no UTF-8 has them
    (RFC 3629).
    """
    if "\0" in text:
        return "NUL in the text"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "half a surrogate pair or undecodable bytes in the text"
    return None
