"""Tars from paths and URLs, and every way in which one cannot be had."""

import dataclasses
import importlib.util
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.data import fetch as fetching
from models.data.fetch import check_same_manifest, fetch
from models.data.format import ShardError, ShardFile, read_manifest
from models.urls import check_location
from tests.file_server import FileServer, serving

FILE = "train/000001.tar"


@pytest.fixture
def folder(shards: Path, tmp_path: Path) -> Path:
    """A copy of the images' shards that a test may damage."""
    return Path(shutil.copytree(shards / "images", tmp_path / "images"))


@pytest.fixture
def server(folder: Path) -> Iterator[FileServer]:
    with serving(folder) as found:
        yield found


def tar(folder: Path) -> ShardFile:
    return read_manifest(folder).splits["train"].shards[1]


def test_a_path_and_urls_give_the_bytes_of_the_file(folder: Path, server: FileServer) -> None:
    expected = (folder / FILE).read_bytes()
    for location in (str(folder), server.url, f"file://{folder}", f"simplecache::file://{folder}"):
        assert fetch(location, tar(folder)) == expected
    assert server.asked == [f"/{FILE}"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-1], r"000001\.tar has \d+ bytes, its manifest says \d+: "),
        (lambda data: b"", r"000001\.tar has 0 bytes, its manifest says \d+: "),
        (lambda data: data + b"\0" * 10_000, r"000001\.tar has more bytes, its manifest says \d+: "),
        (lambda data: data[:600] + b"!" + data[601:], r"000001\.tar has other bytes than its manifest says: "),
        (None, r"000001\.tar "),
    ],
)
@pytest.mark.parametrize("place", ["path", "file", "http"])
def test_a_tar_that_is_not_the_one_that_was_written_is_refused(
    folder: Path, server: FileServer, place: str, change, message: str
) -> None:
    location = {"path": str(folder), "file": f"file://{folder}", "http": server.url}[place]
    expected = tar(folder)
    if change is None:
        (folder / FILE).unlink()
        message += "cannot be read: HTTP 404 File not found" if place == "http" else "is missing: "
    else:
        (folder / FILE).write_bytes(change((folder / FILE).read_bytes()))
        message += "delete .*images and run `dvc repro`" if place == "path" else "copy the shards there again"
    with pytest.raises(ShardError, match=message):
        fetch(location, expected)


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_server_that_refuses_is_a_mistake(folder: Path, server: FileServer, status: int) -> None:
    server.status[FILE] = status
    with pytest.raises(ShardError, match=rf"000001\.tar cannot be read: HTTP {status}"):
        fetch(server.url, tar(folder))


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_is_busy_may_answer_later(folder: Path, server: FileServer, status: int) -> None:
    server.status[FILE] = status
    with pytest.raises(ConnectionError, match=rf"000001\.tar: HTTP {status}"):
        fetch(server.url, tar(folder))


def test_a_connection_that_ends_early_is_a_fault_of_the_network(folder: Path, server: FileServer) -> None:
    expected = tar(folder)
    server.cut[FILE] = 5000
    with pytest.raises(
        ConnectionError, match=rf"000001\.tar: the connection ended {expected.bytes - 5000} bytes early"
    ):
        fetch(server.url, expected)


def test_a_server_that_is_not_there_or_never_answers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        location = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with pytest.raises(ConnectionError, match=r"000001\.tar: .*refused"):
            fetch(location, tar(folder))
        listening.listen()
        monkeypatch.setattr(fetching, "TIMEOUT_S", 0.2)
        with pytest.raises(ConnectionError, match=r"000001\.tar: .*timed out"):
            fetch(location, tar(folder))


def test_storage_that_nothing_here_reads_is_one_line(folder: Path) -> None:
    with pytest.raises(ShardError, match=r"^nowhere://bucket/train/000001\.tar cannot be read: Protocol not known"):
        fetch("nowhere://bucket", tar(folder))
    if importlib.util.find_spec("s3fs") is None:
        with pytest.raises(ShardError, match=r"s3://bucket/train/000001\.tar cannot be read: Install s3fs"):
            fetch("s3://bucket", tar(folder))


@pytest.mark.parametrize(
    "location",
    ["https://user:secret@host/shards", "https://token@host/shards", "s3://key:secret@bucket/shards"],
)
def test_a_url_with_a_login_is_refused_and_not_repeated(location: str) -> None:
    with pytest.raises(ValueError, match=r"^the URL holds a login: remove it") as error:
        check_location(location)
    assert not {"secret", "token"} & set(str(error.value).split())


def test_a_url_must_be_that_of_a_folder() -> None:
    with pytest.raises(ValueError, match="query or fragment"):
        check_location("https://host/shards?signature=1")
    for location in ("https://host/shards", "s3://bucket/shards", "abfs://container@account/shards", "/mnt/a?b#c"):
        check_location(location)


def test_the_shards_elsewhere_must_be_those_of_here(folder: Path, server: FileServer, shards: Path) -> None:
    check_same_manifest(shards / "images", server.url)
    text = (folder / "manifest.json").read_text()
    for changed in (text.replace('"samples": 8', '"samples": 7', 1), text + " "):
        (folder / "manifest.json").write_text(changed)
        with pytest.raises(ShardError, match=rf"^{server.url} holds other shards than .*images: copy .*images there"):
            check_same_manifest(shards / "images", server.url)
    (folder / "manifest.json").unlink()
    with pytest.raises(ShardError, match=r"manifest\.json cannot be read: HTTP 404"):
        check_same_manifest(shards / "images", server.url)


def test_no_more_than_a_byte_too_many_is_read(folder: Path) -> None:
    expected = dataclasses.replace(tar(folder), bytes=600)
    with pytest.raises(ShardError, match=r"has more bytes, its manifest says 600"):
        fetch(str(folder), expected)
