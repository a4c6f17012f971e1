"""What the commands that serve on loopback share: the address, a port that is free, an end with their parent."""

import ctypes
import signal
import socket

from pipelines.errors import UserError

HOST = "127.0.0.1"
_PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>


def check_port(port: int, setting: str) -> None:
    """Refuse a port that cannot be listened on, before a model is loaded.

    Args:
        port: On loopback.
        setting: The variable of the Makefile that names another one.

    Raises:
        UserError: It is taken, or no port.
    """
    try:
        with socket.socket() as probe:
            # As the servers do: a port that was closed a moment ago is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
    except (OSError, OverflowError) as error:
        raise UserError(
            f"{HOST}:{port} cannot be listened on ({error}): name another port with {setting}=..."
        ) from None


def end_with_parent() -> None:
    """Have the kernel send SIGTERM to this process when the one that started it, such as make, ends, killed or not."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
