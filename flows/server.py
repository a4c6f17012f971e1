"""The Prefect server that flows report to: the one of PREFECT_API_URL, or a temporary one on loopback."""

import subprocess
import sys
import urllib.error
import urllib.request

from pipelines.errors import UserError

# Waits for its parent to end, killed or not, and ends the server, which Prefect leaves running where it is killed.
_WATCH = """
import contextlib, os, signal, sys
server = os.pidfd_open(int(sys.argv[1]))
sys.stdin.read()
with contextlib.suppress(ProcessLookupError):
    signal.pidfd_send_signal(server, signal.SIGTERM)
"""


def start_server() -> None:
    """Start Prefect's temporary server, or see that the configured one answers; the temporary one ends with us.

    Raises:
        UserError: It is not ready in time, or does not answer.
    """
    from prefect.server.api.server import SubprocessASGIServer
    from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS

    if address := PREFECT_API_URL.value():
        check_server(address)
        return
    # Prefect's clients ask for this one object, so that they find the server that runs.
    server = SubprocessASGIServer()
    try:
        server.start()
    except RuntimeError:
        raise UserError(
            "Prefect's temporary server was not ready after "
            f"{PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS.value()} s: set "
            "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS to more, or start a server with `make ui` and set "
            "PREFECT_API_URL=http://127.0.0.1:4200/api"
        ) from None
    assert server.server_process is not None, "it was started"
    command = [sys.executable, "-c", _WATCH, str(server.server_process.pid)]
    subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)


def check_server(api_url: str) -> None:
    """See that a server answers.

    Raises:
        UserError: None does.
    """
    try:
        urllib.request.urlopen(f"{api_url.rstrip('/')}/health", timeout=10).close()
    except (urllib.error.URLError, ValueError) as error:
        raise UserError(f"no Prefect server at {api_url} ({error}): start one with `make ui`") from None
