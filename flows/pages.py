"""The report, the page of the last rebuild and those of studies, for a browser on this machine.

Prefect's page links them, and a browser follows no link from a server to a file. Nothing else of the workspace is
served, no folder is listed, and only GET and HEAD are answered.

Reads: data/report/, data/rebuild/, data/studies/. Writes: nothing.
Run alone: python -m flows.pages [--port 5080]
"""

import argparse
import os
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from pipelines.serving import HOST, check_port
from pipelines.stage import command

FOLDERS = ("report", "rebuild", "studies")
_NAMES = {HOST, "localhost"}


def pages_url() -> str:
    """Where `make ui` serves the pages."""
    return f"http://{HOST}:{os.environ.get('PAGES_PORT', '5080')}"


class Pages(SimpleHTTPRequestHandler):
    """Files below `data/report`, `data/rebuild` and `data/studies`; everything else is not found."""

    def send_head(self) -> Any:
        # A page elsewhere could give its own name this address, and then read what is here.
        if self.headers.get("Host", "").partition(":")[0].lower() not in _NAMES:
            return self.send_error(HTTPStatus.FORBIDDEN, "ask for 127.0.0.1 or localhost")
        if self.path == "/":
            self.send_response(HTTPStatus.FOUND)
            self.send_header("Location", "/report/index.html")
            self.end_headers()
            return None
        if "%00" in self.path:
            return self.send_error(HTTPStatus.NOT_FOUND)
        # As the base class resolves it: without a query, unquoted, `..` left out.
        parts = Path(self.translate_path(self.path)).relative_to(self.directory).parts
        if not parts or parts[0] not in FOLDERS:
            return self.send_error(HTTPStatus.NOT_FOUND)
        return super().send_head()

    def list_directory(self, path: Any) -> None:
        self.send_error(HTTPStatus.NOT_FOUND)

    def end_headers(self) -> None:
        # The next run replaces the files under the same names.
        self.send_header("Cache-Control", "no-cache")
        self.send_header("X-Content-Type-Options", "nosniff")
        super().end_headers()

    def copyfile(self, source: Any, outputfile: Any) -> None:
        try:
            super().copyfile(source, outputfile)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def log_message(self, format: str, *values: Any) -> None:
        """Nothing: whoever looks at a page sees what came."""


def main(*arguments: str) -> None:
    parser = argparse.ArgumentParser("python -m flows.pages", description="Serve the report and other pages.")
    parser.add_argument("--port", type=int, default=5080)
    options = parser.parse_args(arguments)
    directory = str(Path("data").resolve())
    check_port(options.port, "PAGES_PORT")
    ThreadingHTTPServer((HOST, options.port), lambda *given: Pages(*given, directory=directory)).serve_forever()


if __name__ == "__main__":
    command(main)
