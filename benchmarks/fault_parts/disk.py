"""Disks that are full, read-only or forbidden: a stage ends with one line, and runs as ever on a good one.

The ways: `file_size_limit` (no file may grow beyond some bytes, as on a full disk or over a quota); `full_data` and
`full_cache` (the folder is a file system with next to nothing left); `read_only` (mounted so); `forbidden` (without
permission to write). Mounts are made in a namespace of their own and end with it; where that is not allowed, the ways
that need one are left out (`ways`).
"""

import ctypes
import functools
import os
import random
import resource
import shlex
import shutil
import subprocess
import time
from pathlib import Path

from .trials import Row
from .workspace import STAGES, Done, Stage, copy, difference, digests, paths, run

_MOUNTED = ("full_data", "full_cache", "read_only")
WAYS = ("file_size_limit", "forbidden", *_MOUNTED)

_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 24, 1, 2
_PAGE = 4096


@functools.cache
def namespace() -> tuple[str, ...] | None:
    """The command that allows mounts to what runs behind it; None where none does."""
    for words in (("unshare", "--mount"), ("unshare", "--mount", "--map-root-user")):
        mount = [*words, "sh", "-c", "mount -t tmpfs none /mnt"]
        if shutil.which("unshare") and subprocess.run(mount, capture_output=True).returncode == 0:
            return words
    return None


def ways() -> tuple[str, ...]:
    """Those that can be tried here."""
    return WAYS if namespace() is not None else tuple(way for way in WAYS if way not in _MOUNTED)


def trial(way: str, stage: Stage, study: Path, scratch: Path, number: int) -> Row:
    """A stage on a bad disk, and once more on a good one."""
    drawn = random.Random(f"{way} {stage.name} {number}")
    begun = time.monotonic()
    here = copy(study, scratch / "disk")
    shutil.rmtree(here / stage.output)
    share = drawn.choice((0.0, 0.5))
    if way in _MOUNTED:
        first, second = _mounted(way, stage, study, here, share)
    else:
        first = _forbidden(here, stage) if way == "forbidden" else _limited(here, stage, int(share * 1000))
        second = run(here, stage.command)
    before, after = digests(study), digests(here)
    other = difference(before, {name: after[name] for name in before.keys() & after.keys()})
    left = sorted(paths(here) - paths(study))
    outcome, detail = "ok", first.text.strip()[-200:]
    if first.code == 0:
        detail = "no effect: the stage wrote less"
    elif first.problem:
        outcome, detail = "no clear line", f"{first.problem}; {detail}"
    if outcome == "ok" and second.code != 0:
        outcome, detail = "failed again", second.text.strip()[-200:]
    elif outcome == "ok" and other:
        outcome, detail = "other bytes", ", ".join(other)
    elif outcome == "ok" and left:
        outcome, detail = "left over", ", ".join(left)
    shutil.rmtree(here)
    return Row(
        kind="disk",
        stage=f"{stage.name}, {way}",
        trial=number,
        outcome=outcome,
        equal_bytes=not other,
        left_overs=len(left),
        seconds=time.monotonic() - begun,
        detail=detail,
    )


def _limited(here: Path, stage: Stage, size: int) -> Done:
    # Python ignores SIGXFSZ, so that a write beyond the limit fails like one on a full disk.
    return run(here, stage.command, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)))


def _forbidden(here: Path, stage: Stage) -> Done:
    """Run without permission to write to any folder of data/; a superuser's leave to do so all the same is taken."""
    folders = [here / "data", *(path for path in (here / "data").rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        return run(here, stage.command, preexec_fn=_drop_override)
    finally:
        for folder in folders:
            folder.chmod(0o755)


def _drop_override() -> None:
    if os.geteuid() == 0:
        for capability in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
            ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, capability)


def _mounted(way: str, stage: Stage, study: Path, here: Path, share: float) -> tuple[Done, Done]:
    """Run a stage in a namespace where a folder is full or read-only, then once more when it is not.

    Args:
        way: Of `_MOUNTED`.
        stage: The stage.
        study: With the stage's output, whose size tells how much would have been needed.
        here: The copy.
        share: How much of that there is room for.
    """
    folder = here / ("data/cache" if way == "full_cache" else "data")
    folder.mkdir(exist_ok=True)
    command = shlex.join(stage.command)
    if way == "read_only":
        spoil, mend = "mount --bind {0} {0} && mount -o remount,ro,bind {0}", "mount -o remount,rw,bind {0}"
    else:
        room = 0 if way == "full_cache" else int(share * _pages(study / stage.output))
        spoil = f"mount -t tmpfs -o size={(_pages(folder) + room) * _PAGE} none {{1}} && cp -a {{0}}/. {{1}} && "
        spoil += "mount --move {1} {0}"
        mend = "mount -o remount,size=1g {0}"
    side = here / "side"
    side.mkdir()
    script = "; ".join(
        [
            f"({spoil}) || exit 99",
            f"{command} > first.txt 2>&1",
            "echo $? > first.code",
            mend,
            f"{command} > second.txt 2>&1",
            "echo $? > second.code",
            "cp -a {0} {2}",
        ]
    ).format(shlex.quote(str(folder)), shlex.quote(str(side)), shlex.quote(f"{here}/after"))
    # The terminal's files lie outside of the folder, beside it.
    words = namespace()
    assert words is not None
    done = run(here, [*words, "sh", "-c", script])
    if done.code != 0:
        raise RuntimeError(f"{way}: {done.text}")
    results = [
        Done(int((here / f"{name}.code").read_text()), (here / f"{name}.txt").read_text(errors="replace"), 0.0)
        for name in ("first", "second")
    ]
    shutil.rmtree(folder)
    (here / "after").rename(folder)
    side.rmdir()
    for name in ("first", "second"):
        for suffix in ("txt", "code"):
            (here / f"{name}.{suffix}").unlink()
    return results[0], results[1]


def _pages(folder: Path) -> int:
    """What a folder takes on a tmpfs: whole pages for each file, and its own root."""
    return 1 + sum(-(-file.lstat().st_size // _PAGE) for file in folder.rglob("*") if file.is_file())


def stages(way: str) -> tuple[Stage, ...]:
    """Those that meet it: only some write to the cache."""
    return tuple(stage for stage in STAGES if way != "full_cache" or stage.name in ("proposals", "train"))
