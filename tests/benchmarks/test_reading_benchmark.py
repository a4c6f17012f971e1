"""benchmarks/reading.py at a small size: every reader gives every image, and rows that are there are kept."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

NAMES = ("reading",)
IMAGES = 12
# Others need packages that the project has not.
OURS = ("decode", "files", "random_access", "stream", "webdataset")


@pytest.fixture
def reading(scripts: tuple[ModuleType, ...]) -> ModuleType:
    return scripts[0]


def test_every_reader_gives_every_image(reading: ModuleType, tmp_path: Path) -> None:
    reading.build(tmp_path, IMAGES, OURS)
    for name in OURS:
        for place in reading.PLACES[name]:
            rate, microseconds = reading.measure(name, place, tmp_path, IMAGES)
            assert rate > 0
            assert microseconds > 0
    folder = tmp_path / "shards"
    pixels = [
        sorted(image.tobytes() for image, _ in reading.READERS[name](tmp_path / reading.FOLDERS[name], str(folder)))
        for name in ("decode", "random_access", "stream", "webdataset")
    ]
    assert all(one == pixels[0] for one in pixels)
    with pytest.raises(AssertionError, match="stream gave 12 of 13 images"):
        reading.measure("stream", "disk, warm", tmp_path, 13)
    with pytest.raises(SystemExit, match="holds 12 images, not 13"):
        reading.build(tmp_path, 13, OURS)


def test_rows_that_are_there_are_kept(
    reading: ModuleType, tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [(name, place) for name, places in reading.PLACES.items() for place in places if name != "decode"]
    text = "# command: x\nreader,where\n" + "".join(f'{name},"{place}"\n' for name, place in rows)
    output = tmp_path / "reading.csv"
    output.write_text(text)
    monkeypatch.chdir(repository)
    monkeypatch.setenv("PYTHONPATH", f"{repository}:{repository / 'benchmarks'}")
    options = [str(tmp_path / "work"), "--images", str(IMAGES), "--repeats", "1", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", ["reading.py", *options])
    reading.main()
    assert output.read_text().startswith(text)
    added = output.read_text().removeprefix(text).splitlines()
    assert len(added) == 1
    assert added[0].startswith("decode,memory,image,12,")
