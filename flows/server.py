"""The Prefect server that flows report to: the one of PREFECT_API_URL, or a temporary one on loopback."""

import atexit
import os
import subprocess
import sys
import time
import urllib.request

from pipelines.errors import UserError

# Where `make ui` has Prefect's server.
MAKE_UI = f"http://127.0.0.1:{os.environ.get('PREFECT_PORT', '4200')}/api"
# Runs the server until its own standard input ends, which it does with the flow, killed or not. It gets a session of
# its own, so that Ctrl-C on the terminal ends the flow, which then still has somebody to tell it.
_SERVE = """
import os, subprocess, sys, threading
command = ["-m", "uvicorn", "--app-dir", sys.argv[1], "--factory", "prefect.server.api.server:create_app"]
command += ["--host", "127.0.0.1", "--port", sys.argv[2], "--log-level", "error", "--lifespan", "on"]
server = subprocess.Popen([sys.executable, *command], stdin=subprocess.DEVNULL)
threading.Thread(target=lambda: os._exit(server.wait() or 1), daemon=True).start()
sys.stdin.read()
server.terminate()
server.wait()
"""


def configured_server() -> str | None:
    """The address in PREFECT_API_URL or in Prefect's own profile; None where there is neither."""
    from prefect.settings import PREFECT_API_URL

    return PREFECT_API_URL.value() or None


def use_server(address: str) -> None:
    """Report to this server from here on."""
    from prefect.context import refresh_global_settings_context

    os.environ["PREFECT_API_URL"] = address
    refresh_global_settings_context()


def start_server() -> None:
    """Start Prefect's temporary server, or see that the configured one answers; the temporary one ends with us.

    Raises:
        UserError: It is not ready in time, or does not answer.
    """
    from prefect.settings import PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS

    if address := configured_server():
        check_server(address)
        return
    import prefect
    from prefect.server.api.server import SubprocessASGIServer

    port = SubprocessASGIServer().find_available_port()
    settings = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
    server = subprocess.Popen(
        [sys.executable, "-c", _SERVE, str(prefect.__module_path__.parent), str(port)],
        env=os.environ | settings,
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    atexit.register(_end, server)
    seconds = PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS.value()
    address = f"http://127.0.0.1:{port}/api"
    _wait(server, address, seconds)
    use_server(address)


def _wait(server: subprocess.Popen[bytes], address: str, seconds: float) -> None:
    """Until the server answers."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if server.poll() is not None:
            raise UserError(f"Prefect's temporary server ended with {server.returncode}: run the command again")
        try:
            check_server(address)
        except UserError:
            time.sleep(0.1)
        else:
            return
    raise UserError(
        f"Prefect's temporary server was not ready after {seconds} s: set "
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS to more, or start a server with `make ui` and set "
        f"PREFECT_API_URL={MAKE_UI}"
    )


def _end(server: subprocess.Popen[bytes]) -> None:
    assert server.stdin is not None, "it was asked for"
    server.stdin.close()
    server.wait()


def check_server(api_url: str) -> None:
    """See that a server answers.

    Raises:
        UserError: None does.
    """
    try:
        urllib.request.urlopen(f"{api_url.rstrip('/')}/health", timeout=10).close()
    except (OSError, ValueError) as error:
        raise UserError(f"no Prefect server at {api_url} ({error}): start one with `make ui`") from None
