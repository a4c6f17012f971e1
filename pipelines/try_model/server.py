"""The page's server: Streamlit on loopback, which serves the page and nothing else."""

import logging
import socket
from dataclasses import dataclass
from pathlib import Path

from pipelines.boundary import defect_line
from pipelines.errors import UserError
from pipelines.try_model.about import About
from pipelines.try_model.model import TriedModel
from pipelines.try_model.uploads import MAX_MEGABYTES

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"
PAGE = Path(__file__).with_name("page.py")


@dataclass(frozen=True, kw_only=True)
class Tried:
    """What the page shows."""

    model: TriedModel
    about: About


# Streamlit runs the script of the page anew for each person and change, in threads of this process.
_tried: list[Tried] = []


def show(shown: Tried) -> None:
    """What every page of this process shows from now on."""
    _tried[:] = [shown]


def tried() -> Tried:
    """What the pages of this process show."""
    return _tried[0]


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


def serve(shown: Tried, port: int) -> None:
    """Serve the page until Ctrl-C or SIGTERM.

    Raises:
        UserError: Streamlit is not installed.
    """
    try:
        from streamlit.web.server.starlette.starlette_app import App
    except ImportError:
        raise UserError("streamlit is not installed, which shows the page: pip install 'medregion[try]'") from None
    show(shown)
    App(PAGE, on_script_error=_say).run(
        config={
            "server.address": HOST,
            "server.port": port,
            "server.allowedHosts": [HOST, "localhost"],
            "server.headless": True,
            "server.maxUploadSize": MAX_MEGABYTES,
            # Seconds for which images and answers of a page that was closed are kept.
            "server.disconnectedSessionTTL": 10,
            "server.fileWatcherType": "none",
            "server.enableStaticServing": False,
            "server.enableAgentApi": False,
            "browser.gatherUsageStats": False,
            "client.showErrorDetails": "none",
            "client.toolbarMode": "minimal",
            "client.allowedOrigins": [],
            "logger.hideWelcomeMessage": True,
            "runner.magicEnabled": False,
        }
    )


def _say(error: Exception) -> bool:
    """A defect in the script of the page: one line there, the traceback in the log."""
    from pipelines.try_model.page import say

    say(defect_line(error, "try_model"))
    return True
