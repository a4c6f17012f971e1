"""The pages that Prefect's artifacts link: what is served, and that nothing else of the workspace is."""

import http.client
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from flows.pages import Pages, main, pages_url
from pipelines.errors import UserError


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """That of a server of a workspace's data folder."""
    data = tmp_path / "data"
    for name in (
        "report/index.html",
        "report/figures/a.svg",
        "rebuild/index.html",
        "mlflow/mlflow.db",
        "review.jsonl",
        "studies/index.html",
        "studies/a-demo/rows/clip.html",
    ):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_text(name)
    server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *given: Pages(*given, directory=str(data)))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield int(server.server_address[1])
    server.shutdown()
    thread.join()
    server.server_close()


def ask(port: int, path: str, method: str = "GET", host: str | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, headers={} if host is None else {"Host": host})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def test_report_rebuild_page_and_studies_are_served(port: int) -> None:
    assert ask(port, "/report/index.html") == (200, "report/index.html")
    assert ask(port, "/report/index.html?run=1") == (200, "report/index.html")
    assert ask(port, "/rebuild/") == (200, "rebuild/index.html")
    # As the report names it, from where it lies.
    assert ask(port, "/report/../studies/index.html") == (200, "studies/index.html")
    assert ask(port, "/studies/a-demo/rows/clip.html") == (200, "studies/a-demo/rows/clip.html")
    assert ask(port, "/report/index.html", "HEAD") == (200, "")
    assert ask(port, "/")[0] == 302
    assert ask(port, "/report/index.html", host="localhost:6000")[0] == 200  # through a tunnel
    assert ask(port, "/report/index.html", host="LOCALHOST")[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/mlflow/mlflow.db",
        "/review.jsonl",
        "/report/../mlflow/mlflow.db",
        "/report/a%00b",
        "/report/%2e%2e/mlflow/mlflow.db",
        "/report/figures/",
        "/report/figures",
        "/studies/a-demo",
        "/../params.yaml",
        "//etc/passwd",
    ],
)
def test_nothing_else_is_served_and_no_folder_is_listed(port: int, path: str) -> None:
    status, text = ask(port, path)
    assert status in (301, 404)
    assert "a.svg" not in text
    assert "mlflow.db" not in text


def test_nothing_is_written_and_no_other_name_is_answered(port: int) -> None:
    assert ask(port, "/report/index.html", "PUT")[0] == 501
    assert ask(port, "/report/index.html", "POST")[0] == 501
    assert ask(port, "/report/index.html", host=f"elsewhere.example:{port}")[0] == 403


def test_a_port_that_is_taken_is_one_line(port: int) -> None:
    with pytest.raises(
        UserError, match=rf"127.0.0.1:{port} cannot be listened on \(.*\): name another port with PAGES_PORT"
    ):
        main("--port", str(port))


def test_the_address_is_that_of_the_makefile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PAGES_PORT", raising=False)
    assert pages_url() == "http://127.0.0.1:5080"
    monkeypatch.setenv("PAGES_PORT", "6080")
    assert pages_url() == "http://127.0.0.1:6080"
