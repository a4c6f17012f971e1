"""The page's server: Streamlit on loopback, which serves the page and nothing else."""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.boundary import defect_line
from pipelines.errors import UserError
from pipelines.serving import HOST
from pipelines.try_model.about import About
from pipelines.try_model.model import TriedModel
from pipelines.try_model.uploads import MAX_MEGABYTES

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
    # Ctrl-C is how it ends.
    with contextlib.suppress(KeyboardInterrupt):
        App(PAGE, on_script_error=_say).run(config=_config(port))


def _config(port: int) -> dict[str, Any]:
    """Streamlit's settings, which count more than those of its files and environment."""
    return {
        "server.address": HOST,
        "server.port": port,
        "server.allowedHosts": [HOST, "localhost"],
        "server.headless": True,
        "server.maxUploadSize": MAX_MEGABYTES,
        # Seconds for which images and answers of a page that was closed are kept at least, as it may come back.
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


def _say(error: Exception) -> bool:
    """A defect in the script of the page: one line there, the traceback in the log."""
    from pipelines.try_model.page import say

    say(defect_line(error, "try_model"))
    return True
