"""A web server on loopback that gives a folder's files, and the faults that it is told to have."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any


@dataclass
class FileServer:
    """A running server.

    Attributes:
        url: Of the folder.
        status: End of a path -> the status that is answered in the file's place.
        cut: End of a path -> after how many bytes of the file the connection is closed.
        asked: The paths that were asked for.
    """

    url: str = ""
    status: dict[str, int] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


@contextmanager
def serving(folder: Path) -> Iterator[FileServer]:
    """Serve a folder until the end of the block."""
    server = FileServer()

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(folder))

        def do_GET(self) -> None:
            server.asked.append(self.path)
            if status := next((code for end, code in server.status.items() if self.path.endswith(end)), None):
                self.send_error(status)
                return
            kept = next((size for end, size in server.cut.items() if self.path.endswith(end)), None)
            if kept is None:
                super().do_GET()
                return
            data = Path(self.translate_path(self.path)).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[:kept])

        def end_headers(self) -> None:
            file = Path(self.translate_path(self.path))
            if file.is_file():
                self.send_header("ETag", f'"{hashlib.md5(file.read_bytes()).hexdigest()}"')
            super().end_headers()

        def do_HEAD(self) -> None:
            if status := next((code for end, code in server.status.items() if self.path.endswith(end)), None):
                self.send_error(status)
            else:
                super().do_HEAD()

        def log_message(self, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        server.url = f"http://127.0.0.1:{listening.server_port}"
        thread = Thread(target=listening.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            listening.shutdown()
            thread.join()
