"""Remote files and their copies: the bound, what goes first, changes on the server, processes, http, refusals."""

import errno
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines import archives, copies, storage
from pipelines.copies import open_copy
from pipelines.errors import Rejected, TemporaryError, UserError
from pipelines.files import own_name
from pipelines.storage import RawCache, Remote, check_root, check_there, root_of
from tests.file_server import FileServer, serving
from tests.s3_server import BUCKET, S3Server

Forget = Callable[[], None]


@pytest.fixture
def put(s3: S3Server, tmp_path: Path, forget: Forget) -> Callable[[str, bytes], None]:
    """Writes an object below the test's own folder in the bucket."""
    return lambda name, data: s3.storage().pipe_file(f"{BUCKET}/{tmp_path.name}/{name}", data)


@pytest.fixture
def root(tmp_path: Path) -> Remote:
    """The test's own folder, with a cache of 1000 bytes."""
    return remote(tmp_path)


def remote(tmp_path: Path, limit: int = 1000) -> Remote:
    return Remote(f"s3://{BUCKET}/{tmp_path.name}", tmp_path / "copies", limit)


def read(root: Remote, name: str) -> bytes:
    with open_copy(root, name) as stream:
        return stream.read()


def kept(root: Remote) -> list[bytes]:
    return sorted(file.read_bytes() for file in root.cache.glob("*.copy"))


def test_a_file_is_fetched_once_and_read_from_its_copy(root: Remote, put: Any, s3: S3Server, forget: Forget) -> None:
    put("a", b"first")
    assert [read(root, "a"), read(root, "a")] == [b"first", b"first"]
    (copy,) = root.cache.glob("*.copy")
    # What lies there is read: only another version would be fetched.
    copy.write_bytes(b"other")
    assert read(root, "a") == b"other"
    assert copy.name.removesuffix(".copy").isalnum()  # no name of a file, which may be a patient's


def test_a_file_that_changed_on_the_server_is_fetched_anew(root: Remote, put: Any, forget: Forget) -> None:
    put("a", b"first")
    assert read(root, "a") == b"first"
    put("a", b"secnd")  # of the same size
    assert read(root, "a") == b"first"  # one process, one version
    forget()
    assert read(root, "a") == b"secnd"


def test_the_cache_stays_within_its_limit_and_what_was_used_longest_ago_goes(root: Remote, put: Any) -> None:
    for name in "abcde":
        put(name, name.encode() * 200)
    for name in "abcd":
        read(root, name)
        time.sleep(0.02)
    read(root, "a")
    assert len(kept(root)) == 4
    time.sleep(0.02)
    # With b there would be 1001 bytes.
    put("f", b"f" * 201)
    read(root, "f")
    assert kept(root) == [b"a" * 200, b"c" * 200, b"d" * 200, b"f" * 201]
    time.sleep(0.02)
    read(root, "e")
    assert kept(root) == [b"a" * 200, b"d" * 200, b"e" * 200, b"f" * 201]
    assert (root.cache / "total").read_text() == "801"


def test_a_file_larger_than_the_cache_is_refused(root: Remote, put: Any) -> None:
    put("a", b"a" * 1001)
    with pytest.raises(UserError, match=r"raise ingest\.raw_cache\.gigabytes \(1e-06\)$"):
        read(root, "a")
    assert kept(root) == []


def test_a_copy_is_read_to_its_end_after_it_was_deleted(root: Remote, put: Any) -> None:
    put("a", b"a" * 500)
    put("b", b"b" * 900)
    with open_copy(root, "a") as stream:
        read(root, "b")
        assert kept(root) == [b"b" * 900]
        assert stream.read() == b"a" * 500


def test_an_archive_is_read_on_after_its_copy_was_deleted(root: Remote, put: Any, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("one", b"1" * 100)
        archive.writestr("two", b"2" * 100)
    put("x.zip", (tmp_path / "x.zip").read_bytes())
    put("b", b"b" * 900)
    assert archives.list_all_files(root) == ["b", "x.zip/one", "x.zip/two"]
    assert archives.read_bytes(root, "x.zip", "one") == b"1" * 100
    read(root, "b")
    assert kept(root) == [b"b" * 900]
    assert archives.read_bytes(root, "x.zip", "two") == b"2" * 100


def test_the_cache_is_counted_anew_where_its_count_is_lost(root: Remote, put: Any) -> None:
    put("a", b"a" * 600)
    put("b", b"b" * 600)
    read(root, "a")
    (root.cache / "total").write_text("damaged")
    read(root, "b")
    assert kept(root) == [b"b" * 600]


def test_what_a_killed_process_left_is_deleted_and_no_longer_counted(root: Remote, put: Any) -> None:
    for name in "ab":
        put(name, name.encode() * 700)
    program = (
        "import os, signal\nfrom pathlib import Path\nfrom pipelines import copies, storage\n"
        f"root = storage.Remote({root.url!r}, Path({str(root.cache)!r}), {root.limit})\n"
        "copies.version_now = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "copies.version = lambda *_: storage.Version(700, 'tag')\n"
        "copies.open_copy(root, 'a')\n"
    )
    killed = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True)
    assert killed.returncode == -9, killed.stderr
    left = {file.suffix for file in root.cache.glob("*~*")}
    assert left == {".arriving", ""} or len(left) == 2  # its note, and a part under a name of its own
    assert kept(root) == []
    assert read(root, "b") == b"b" * 700
    assert [*root.cache.glob("*~*")] == []
    assert (root.cache / "total").read_text() == "700"


@pytest.mark.slow
def test_a_copy_waits_while_the_cache_is_full_of_what_arrives(root: Remote, put: Any) -> None:
    put("a", b"a" * 700)
    root.cache.mkdir()
    note = root.cache / f"{own_name('x')}.arriving"
    note.write_bytes(b"x" * 400)
    program = (
        "from pathlib import Path\nfrom pipelines import copies, storage\n"
        f"root = storage.Remote({root.url!r}, Path({str(root.cache)!r}), {root.limit})\n"
        "print(len(copies.open_copy(root, 'a').read()))\n"
    )
    reader = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    with pytest.raises(subprocess.TimeoutExpired):
        reader.wait(4)
    assert kept(root) == []
    note.unlink()
    (root.cache / "total").unlink()
    assert reader.communicate(timeout=20)[0] == "700\n"


@pytest.mark.slow
def test_many_processes_fetch_a_file_once(root: Remote, put: Any, tmp_path: Path) -> None:
    put("a", b"a" * 900)
    program = (
        "from pathlib import Path\nfrom pipelines import copies, storage\nasked = []\n"
        f"root = storage.Remote({root.url!r}, Path({str(root.cache)!r}), {root.limit})\n"
        "fetch = copies._room\n"
        "def room(*arguments):\n    asked.append(1)\n    return fetch(*arguments)\n"
        "copies._room = room\n"
        "print(len(copies.open_copy(root, 'a').read()), len(asked))\n"
    )
    readers = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = sorted(reader.communicate(timeout=60)[0].strip() for reader in readers)
    assert said == ["900 0", "900 0", "900 1"]


def test_a_file_that_changes_while_it_is_read_is_fetched_again(
    root: Remote, put: Any, forget: Forget, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("a", b"0")
    ask, left = storage.ask, 2

    def busy(root: Remote, question: Any) -> Any:
        nonlocal left
        is_fetched = "get_file" in question.__code__.co_names
        answer = ask(root, question)
        if is_fetched and left:
            left -= 1
            put("a", b"new, %d" % left)
        return answer

    monkeypatch.setattr(copies, "ask", busy)
    assert read(root, "a") == b"new, 0"
    assert kept(root) == [b"new, 0"]
    forget()
    left = 10
    put("a", b"10")
    with pytest.raises(OSError, match="changed on the storage") as error:
        read(root, "a")
    assert (error.value.errno, left) == (errno.EAGAIN, 7)


def test_a_name_that_vanished_is_missing(root: Remote, put: Any, s3: S3Server, forget: Forget) -> None:
    put("a", b"a")
    put("folder/b", b"b")
    assert storage.names(root) == ("a", "folder/b")
    s3.storage().rm_file(f"{BUCKET}/{root.name}/a")
    for name in ("a", "folder", "none"):
        with pytest.raises(Rejected) as error:
            archives.read_bytes(root, name)
        assert error.value.reason == "missing_file"


def test_names_in_folders(root: Remote, put: Any) -> None:
    for name in ("b.png", "a.png", "in/c.png", "in/deep/d.png", "in/"):
        put(name, b"" if name == "in/" else b"x")
    assert archives.list_files(root) == ["a.png", "b.png"]
    assert archives.list_files(root, "in") == ["in/c.png"]
    assert archives.list_files(root, "none") == archives.list_files(root, "a.png") == []
    assert archives.list_tree(root, ".") == ["a.png", "b.png", "in/c.png", "in/deep/d.png"]
    assert archives.list_tree(root, "in") == ["in/c.png", "in/deep/d.png"]
    assert [archives.has_file(root, name) for name in ("a.png", "in/c.png", "in", "c.png")] == [
        True,
        True,
        False,
        False,
    ]
    with pytest.raises(Rejected, match="path_outside_root"):
        archives.has_file(root, "../other/a.png")


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[tuple[FileServer, Remote]]:
    """`raw.zip` with two members on a web server."""
    (tmp_path / "site").mkdir()
    with zipfile.ZipFile(tmp_path / "site" / "raw.zip", "w") as packed:
        packed.writestr("a/one.txt", b"one")
        packed.writestr("two.txt", b"two")
    with serving(tmp_path / "site") as server:
        yield server, Remote(f"{server.url}/raw.zip", tmp_path / "copies", 10**6)


def test_an_archive_on_a_web_server(archive: tuple[FileServer, Remote], forget: Forget) -> None:
    server, root = archive
    check_there(root)
    assert archives.list_all_files(root) == ["a/one.txt", "two.txt"]
    assert archives.locate(root, "two.txt") == ("", "two.txt")
    assert archives.read_bytes(root, "", "two.txt") == b"two"
    assert archives.read_bytes(root, "", "a/one.txt") == b"one"
    assert server.asked == ["/raw.zip"]  # its bytes went over the line once


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (404, UserError, "is not there"),
        (403, UserError, "may not be read with these credentials"),
        (503, TemporaryError, r"the storage does not answer \(ClientResponseError\)"),
    ],
)
def test_what_a_web_server_answers(
    status: int,
    kind: type[Exception],
    said: str,
    archive: tuple[FileServer, Remote],
    forget: Forget,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(storage, "WAITS_S", (0.01,))
    server, root = archive
    server.status["raw.zip"] = status
    with pytest.raises(kind, match=said):
        check_there(root)


def test_a_connection_that_ends_early_leaves_nothing(
    archive: tuple[FileServer, Remote], forget: Forget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "WAITS_S", (0.01,))
    server, root = archive
    storage.version(root, "")
    server.cut["raw.zip"] = 50
    with pytest.raises(TemporaryError, match="does not answer"):
        open_copy(root, "")
    assert [file.name for file in root.cache.iterdir() if not file.name.startswith("lock")] == ["total"]
    assert (root.cache / "total").read_text() == "0"
    server.cut.clear()
    assert archives.read_bytes(root, "", "two.txt") == b"two"


def test_a_server_that_is_down_is_told_in_one_line(
    tmp_path: Path, forget: Forget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "WAITS_S", (0.01,))
    root = Remote("http://127.0.0.1:9/raw.zip", tmp_path / "copies", 1000)
    with pytest.raises(TemporaryError, match=r"^http://127\.0\.0\.1:9/raw\.zip: the storage does not answer \(\w+\)"):
        check_there(root)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("https://me:secret@host/a.zip", "holds a login"),
        ("s3://key:secret@bucket/raw", "holds a login"),
        ("s3://secret@bucket/raw", "holds a login"),
        ("https://host/a.zip?X-Amz-Signature=secret", "query or fragment"),
        ("https://host/folder", "https lists no folders: name an archive"),
        ("gs://bucket/raw", "gs is no storage that can be read: choose from s3, http, https"),
        ("s3:///raw", "names no bucket"),
    ],
)
def test_urls_that_are_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"^root: .*{said}") as error:
        check_root(text)
    assert "secret" not in str(error.value)


def test_paths_stay_paths(tmp_path: Path) -> None:
    for text in ("data/raw/scans", "/mnt/a.zip", f"{tmp_path}"):
        check_root(text)
        assert root_of(text, RawCache()) == Path(text)
    assert root_of("s3://bucket/raw/", RawCache(folder="x", gigabytes=0.5)) == Remote(
        "s3://bucket/raw", Path("x"), 500_000_000
    )
    with pytest.raises(ValueError, match="larger than 0"):
        RawCache(gigabytes=0)
