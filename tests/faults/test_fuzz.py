"""Changed inputs of every reader: refused, or read; nothing else comes out of one."""

from pathlib import Path

import pytest
from fault_parts import fuzz
from fault_parts.fuzz_targets import Targets
from fault_parts.fuzz_watch import Watch
from fault_parts.properties import inputs, run, scratch_folder

from pipelines.errors import Rejected

INPUTS = 50


@pytest.fixture(scope="module")
def targets(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Targets:
    return Targets(repository, tmp_path_factory.mktemp("fuzz"))


@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_no_input_gets_through_a_boundary(targets: Targets, tmp_path: Path, name: str) -> None:
    watch = Watch(name, targets.target(name), tmp_path)
    run(watch, inputs(name, targets.seeds(name)), INPUTS, 60, 0)
    assert watch.counts["inputs"] >= INPUTS / 2
    assert watch.counts["findings"] == {}


def test_sound_inputs_are_read(targets: Targets, tmp_path: Path) -> None:
    for name in ("images", "masks", "volumes", "dicom", "archives", "tables", "run_lengths", "reviews"):
        watch = Watch(name, targets.target(name), tmp_path / name)
        for data in targets.seeds(name):
            watch.run(data)
        assert (name, watch.counts["refused"], watch.counts["findings"]) == (name, 0, {})


def test_what_is_a_finding(tmp_path: Path) -> None:
    given = []

    def target(data: bytes) -> int:
        given.append(data)
        if data == b"refused":
            raise Rejected("corrupt", "")
        if data.startswith(b"bad"):
            raise KeyError(data)
        return len(given) if data == b"changes" else len(data)

    watch = Watch("toy", target, tmp_path)
    for data in [b"sound", b"refused", b"bad one", b"bad"]:
        watch.run(data)
    for _ in range(64):
        watch.run(b"changes")
    assert (watch.counts["inputs"], watch.counts["refused"], watch.counts["repeated"]) == (68, 1, 1)
    (error, changed) = sorted(watch.counts["findings"], key=lambda kind: "another" in kind)
    assert error.startswith("KeyError at test_fuzz.py:")
    assert (tmp_path / watch.counts["findings"][error]["file"]).read_bytes() == b"bad"  # the shorter one
    assert changed == "another result"


def test_scratch_folder_is_there() -> None:
    assert scratch_folder() is None or Path(str(scratch_folder())).is_dir()
