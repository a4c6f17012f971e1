"""The Prefect server that flows report to: the one of PREFECT_API_URL, or a temporary one on loopback."""

import atexit
import os
import secrets
import subprocess
import sys
import urllib.error
import urllib.request

from pipelines.errors import UserError

_OWNER = "MEDREGION_PREFECT_OWNER"
# Waits for its parent to end and ends the server, which Prefect leaves running where the parent is killed. It looks for
# some seconds: one that was just started does not bear its name yet.
_WATCH = """
import contextlib, sys, time
import psutil
sys.stdin.read()
end = time.monotonic() + 3
while time.monotonic() < end:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            is_server = "prefect.server.api.server:create_app" in process.cmdline()
            if is_server and process.environ().get(sys.argv[1]) == sys.argv[2]:
                process.terminate()
    time.sleep(0.2)
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
    _watch()
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


def _watch() -> None:
    """Start what ends the server, before the server: a kill may come at any moment."""
    # Each process that we start inherits it.
    os.environ[_OWNER] = secrets.token_hex(8)
    command = [sys.executable, "-c", _WATCH, _OWNER, os.environ[_OWNER]]
    watcher = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    # Where we end in good order, Prefect ends the server, before this, for the last that is registered goes first.
    atexit.register(watcher.terminate)


def check_server(api_url: str) -> None:
    """See that a server answers.

    Raises:
        UserError: None does.
    """
    try:
        urllib.request.urlopen(f"{api_url.rstrip('/')}/health", timeout=10).close()
    except (urllib.error.URLError, ValueError) as error:
        raise UserError(f"no Prefect server at {api_url} ({error}): start one with `make ui`") from None
