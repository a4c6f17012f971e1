"""Files and archive members under a source's root, and every way in which they can be wrong."""

import io
import os
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.archives import (
    MAX_BYTES,
    has_file,
    list_all_files,
    list_files,
    list_tree,
    locate,
    open_stream,
    read_bytes,
)
from pipelines.errors import Rejected


def write_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def refusal(root: Path, name: str) -> str:
    with pytest.raises(Rejected) as caught:
        read_bytes(root, *locate(root, name))
    return caught.value.reason


WRITERS = {"a.zip": write_zip, "a.tar": write_tar, "a.tar.gz": write_tar, "a.tgz": write_tar}


@pytest.mark.parametrize("file", WRITERS)
def test_members_are_read_in_any_order_from_a_folder_and_from_an_archive_root(tmp_path: Path, file: str) -> None:
    members = {f"x/{n}.bin": bytes([n]) * (n + 1) for n in range(20)}
    archive = WRITERS[file](tmp_path / file, {"./x/": b"", **members} if file == "a.zip" else members)
    for name in reversed(members):
        assert locate(tmp_path, f"{file}/{name}") == (file, name)
        assert read_bytes(tmp_path, file, name) == members[name]
        assert locate(archive, name) == ("", name)
        assert read_bytes(archive, "", name) == members[name]
    assert list_files(archive, "x") == sorted(members)
    assert list_files(archive) == []


def test_a_folder_whose_name_ends_like_an_archive_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "old.zip").mkdir()
    (tmp_path / "old.zip" / "a.png").write_bytes(b"x")
    assert locate(tmp_path, "old.zip/a.png") == ("old.zip/a.png", None)
    assert read_bytes(tmp_path, "old.zip/a.png") == b"x"


@pytest.mark.parametrize("name", ["../secret", "a/../../secret", "/etc/passwd", "", "a\0b", ".."])
def test_names_that_lead_out_of_the_root(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_bytes(b"x")
    (tmp_path / "root").mkdir()
    assert refusal(tmp_path / "root", name) == "path_outside_root"


@given(st.text(alphabet="./a~\\", min_size=1, max_size=12))
def test_no_name_reaches_a_file_outside_the_root(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    base = tmp_path_factory.getbasetemp() / "fixed"
    (base / "root" / "a").mkdir(parents=True, exist_ok=True)
    (base / "a").write_bytes(b"outside") if not (base / "a").exists() else None
    with pytest.raises(Rejected):
        read_bytes(base / "root", *locate(base / "root", name))
    with pytest.raises(Rejected):
        read_bytes(base / "root", name)


def test_links_out_of_the_root_are_refused_and_a_linked_root_is_not(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "in.png").write_bytes(b"in")
    (tmp_path / "out.png").write_bytes(b"out")
    (root / "link.png").symlink_to(tmp_path / "out.png")
    (root / "folder").symlink_to(tmp_path)
    (tmp_path / "linked").symlink_to(root)
    assert refusal(root, "link.png") == "path_outside_root"
    assert refusal(root, "folder/out.png") == "path_outside_root"
    assert read_bytes(tmp_path / "linked", "in.png") == b"in"


def test_what_is_no_ordinary_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.png").touch()
    os.mkfifo(tmp_path / "pipe.png")
    with (tmp_path / "huge.png").open("wb") as stream:
        stream.truncate(MAX_BYTES + 1)
    (tmp_path / "circle.png").symlink_to("circle.png")
    assert refusal(tmp_path, "circle.png") == "path_outside_root"
    assert refusal(tmp_path, "a report that landed in the wrong column " * 20) == "missing_file"
    assert refusal(tmp_path, "x" * 300 + ".zip/a.png") == "missing_file"
    assert refusal(tmp_path, "none.png") == "missing_file"
    assert refusal(tmp_path, "folder") == "missing_file"
    assert refusal(tmp_path, "pipe.png") == "missing_file"
    assert refusal(tmp_path, "empty.png") == "empty_file"
    assert refusal(tmp_path, "huge.png") == "file_too_large"


def test_a_failing_disk_is_no_fault_of_the_data() -> None:
    with pytest.raises(OSError, match="Input/output error"):
        read_bytes(Path("/proc/self"), "mem")


def test_members_that_cannot_be_read(tmp_path: Path) -> None:
    write_zip(tmp_path / "a.zip", {"a.png": b"x", "empty.png": b""})
    write_tar(tmp_path / "a.tar", {"a.png": b"x"})
    assert refusal(tmp_path, "a.zip/b.png") == "missing_member"
    assert refusal(tmp_path, "a.tar/b.png") == "missing_member"
    assert refusal(tmp_path, "a.zip/empty.png") == "empty_file"
    (tmp_path / "text.zip").write_text("no archive at all")
    (tmp_path / "text.tar").write_text("no archive at all")
    assert refusal(tmp_path, "text.zip/a.png") == "corrupt"
    assert refusal(tmp_path, "text.tar/a.png") == "corrupt"
    (tmp_path / "file.rar").write_text("an archive of another kind")
    assert refusal(tmp_path / "file.rar", "a.png") == "unsupported_type"


def test_links_in_archives_are_never_followed(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, kind in (
            ("soft.png", tarfile.SYMTYPE),
            ("hard.png", tarfile.LNKTYPE),
            ("pipe.png", tarfile.FIFOTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive_zip:
        link = zipfile.ZipInfo("soft.png")
        link.external_attr = 0o120777 << 16
        archive_zip.writestr(link, "/etc/passwd")
    for name in ("a.tar/soft.png", "a.tar/hard.png", "a.tar/pipe.png", "a.zip/soft.png"):
        assert refusal(tmp_path, name) == "link_member"


def forge_zip(path: Path, size: int | None = None, flags: int = 0) -> None:
    """Overwrite the uncompressed size or set flag bits in the central directory's only entry."""
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"PK\x01\x02")
    if size is not None:
        struct.pack_into("<I", data, entry + 24, size)
    struct.pack_into("<H", data, entry + 8, struct.unpack_from("<H", data, entry + 8)[0] | flags)
    path.write_bytes(data)


def test_zip_bombs_lies_and_passwords(tmp_path: Path) -> None:
    zeros = {"a.png": bytes(4_000_000)}
    forge_zip(write_zip(tmp_path / "says_huge.zip", zeros), size=MAX_BYTES + 1)
    forge_zip(write_zip(tmp_path / "says_small.zip", zeros), size=1000)
    forge_zip(write_zip(tmp_path / "locked.zip", zeros), flags=1)
    assert refusal(tmp_path, "says_huge.zip/a.png") == "file_too_large"
    assert refusal(tmp_path, "says_small.zip/a.png") == "corrupt"
    assert refusal(tmp_path, "locked.zip/a.png") == "encrypted"


def test_a_tar_cut_short(tmp_path: Path) -> None:
    data = os.urandom(30_000)
    for name in ("a.tar", "a.tar.gz"):
        (tmp_path / name[1:]).mkdir()
        whole = write_tar(tmp_path / name[1:] / name, {"a.png": data}).read_bytes()
        (tmp_path / name).write_bytes(whole[:10_000])
        assert refusal(tmp_path, f"{name}/a.png") in ("corrupt", "truncated")


@given(st.integers(0, 399), st.integers(0, 255), st.sampled_from(["a.zip", "a.tar", "a.tar.gz"]))
def test_damaged_archives_give_the_bytes_or_a_reason(
    tmp_path_factory: pytest.TempPathFactory, place: int, value: int, file: str
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    data = bytearray(WRITERS[file](folder / f"whole_{file}", {"a.png": b"abc" * 30, "b.png": b"xyz" * 30}).read_bytes())
    data[place % len(data)] = value
    (folder / file).write_bytes(data)
    reasons = {
        *("corrupt", "truncated", "missing_member", "encrypted", "file_too_large", "unsupported_type"),
        *("link_member", "empty_file"),
    }
    for member in ("a.png", "b.png"):
        assert reason_or_none(folder, file, member) in {None, *reasons}


def reason_or_none(root: Path, path: str, member: str) -> str | None:
    try:
        read_bytes(root, path, member)
    except Rejected as error:
        return error.reason
    return None


def test_an_archive_that_changes_is_read_anew(tmp_path: Path) -> None:
    write_zip(tmp_path / "a.zip", {"a.png": b"first"})
    assert read_bytes(tmp_path, "a.zip", "a.png") == b"first"
    write_zip(tmp_path / "a.zip", {"a.png": b"second one"})
    assert read_bytes(tmp_path, "a.zip", "a.png") == b"second one"


def test_a_tree_is_listed_wherever_it_lies(tmp_path: Path) -> None:
    members = {"x/a/1.dcm": b"1", "x/2.dcm": b"2", "xy/3.dcm": b"3"}
    for name, data in members.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    write_zip(tmp_path / "in.zip", members)
    assert list_tree(tmp_path, "x") == ["x/2.dcm", "x/a/1.dcm"]
    assert list_tree(tmp_path / "in.zip", "x") == ["x/2.dcm", "x/a/1.dcm"]
    assert list_tree(tmp_path, "in.zip/x") == ["in.zip/x/2.dcm", "in.zip/x/a/1.dcm"]
    assert list_tree(tmp_path, "in.zip") == ["in.zip/x/2.dcm", "in.zip/x/a/1.dcm", "in.zip/xy/3.dcm"]
    assert list_tree(tmp_path, ".") == ["in.zip", "x/2.dcm", "x/a/1.dcm", "xy/3.dcm"]
    assert list_tree(tmp_path, "z") == list_tree(tmp_path / "in.zip", "z") == []
    with pytest.raises(Rejected, match="path_outside_root"):
        list_tree(tmp_path, "../x")


@pytest.mark.parametrize("archive", WRITERS)
def test_has_file(tmp_path: Path, archive: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(b"1")
    file = WRITERS[archive](tmp_path / archive, {"a/1.png": b"1"})
    names = [
        "a/1.png",
        f"{archive}/a/1.png",
        f"{archive}/./a/1.png",
        "a",
        "a/2.png",
        f"{archive}/a",
        f"{archive}/2.png",
    ]
    assert [has_file(tmp_path, name) for name in names] == [True] * 3 + [False] * 4
    assert [has_file(file, name) for name in ("a/1.png", "1.png")] == [True, False]


def test_a_tree_is_listed_with_what_its_archives_hold(tmp_path: Path) -> None:
    for name in ("b/c/deep", "b/x.png", "a"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    with zipfile.ZipFile(tmp_path / "b" / "more.zip", "w") as packed:
        packed.writestr("in/1", b"one")
        packed.writestr("in/", b"")
    (tmp_path / "broken.zip").write_bytes(b"no archive")
    assert list_all_files(tmp_path) == ["a", "b/c/deep", "b/more.zip/in/1", "b/x.png", "broken.zip"]
    assert list_all_files(tmp_path / "b" / "more.zip") == ["in/1"]
    (tmp_path / "link").symlink_to("/")  # a folder outside is not entered
    assert len(list_all_files(tmp_path)) == 5
    for name, content in (("b/x.png", b"b/x.png"), ("b/more.zip/in/1", b"one")):
        with open_stream(tmp_path, *locate(tmp_path, name)) as stream:
            assert stream.read() == content
    (tmp_path / "out").symlink_to("/etc/passwd")
    with pytest.raises(Rejected, match="path_outside_root"), open_stream(tmp_path, "out"):
        pass
