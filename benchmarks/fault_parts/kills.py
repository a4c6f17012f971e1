"""Kills: a command is ended by SIGKILL, and the same command runs again as if nothing had been.

Nothing is cleaned between the two. Afterwards the outputs must be those of a run that nobody killed, byte for byte, and
nothing else may lie there. A kill comes when the command has changed the n-th file (drawn between the first and as many
as an undisturbed run changes), or at a time drawn from the undisturbed run's.
"""

import json
import os
import random
import shlex
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from .trials import Row
from .workspace import STAGES, Stage, copy, difference, digests, paths, run, start

_MAKING = threading.Lock()
# Kinds of rows whose command ended before it could be killed.
UNHURT = {"kill": "unhurt", "kill_flow": "unhurt_flow"}
# Of killing a command that may end before.
_TRIES = 3

Prepare = Callable[[Path], None]


@dataclass(frozen=True)
class Killed:
    """A command that is killed.

    Attributes:
        kind: kill, or kill_flow for a command that runs more than one stage or writes to MLflow.
        name: What rows call it.
        command: The command.
        prepare: What makes work for it in a copy of a finished study.
    """

    kind: str
    name: str
    command: list[str]
    prepare: Prepare


@dataclass(frozen=True)
class Undisturbed:
    """What a command does where nobody kills it."""

    digests: dict[str, str]
    paths: set[str]
    seconds: float
    changes: int


def stage_kills(stages: tuple[Stage, ...] = STAGES) -> list[Killed]:
    """Each stage, once with an empty output folder, as DVC runs it, and once over the output of an earlier run."""
    found = []
    for stage in stages:
        found.append(Killed("kill", stage.name, stage.command, _without(stage.output)))
        found.append(Killed("kill", f"{stage.name} over an old output", stage.command, lambda _: None))
    return found


# `flows.promote`; a refusal is as good an end as any, for the study is too small to show what a method learned.
_PROMOTE = """
from contextlib import suppress
from flows.promote import main
from pipelines.errors import UserError
with suppress(UserError):
    main()
"""


def flow_kills() -> list[Killed]:
    """Commands that run several stages, and those that write to MLflow; the study must be one of DVC's (`with_dvc`)."""

    def repro(target: str) -> list[str]:
        # As `make run` does: the first command mends what a kill within DVC's own write left.
        python = shlex.quote(sys.executable)
        return ["sh", "-c", f"{python} -m pipelines.dvc_lock && exec {python} -m dvc repro {target}"]

    return [
        Killed("kill_flow", "tracking", [sys.executable, "-m", "pipelines.tracking"], _without("data/mlflow")),
        Killed("kill_flow", "promote", [sys.executable, "-c", _PROMOTE], _without("data/mlflow")),
        Killed("kill_flow", "rebuild", [sys.executable, "-m", "flows.rebuild"], _other_prompt),
        Killed("kill_flow", "repro caption_shards", repro("caption_shards"), _other_prompt),
        Killed("kill_flow", "repro evaluate@clip", repro("evaluate@clip"), _other_prompt),
    ]


def with_dvc(study: Path, to: Path) -> Path:
    """A copy of a finished study as a repository of git and DVC, its outputs committed to DVC's cache."""
    dvc = [sys.executable, "-m", "dvc"]
    with _MAKING:
        if not (to / "dvc.lock").exists():
            copy(study, to)
            for command in (["git", "init", "-q", "."], [*dvc, "init", "-q"], [*dvc, "commit", "--force", "--quiet"]):
                _checked(to, command)
    return to


def undisturbed(killed: Killed, study: Path, scratch: Path) -> Undisturbed:
    """Run the command to its end in a copy; kept beside the study, for it is the same each time."""
    kept = study.parent / "expected" / f"{killed.name.replace('/', '-')}.json"
    with _MAKING:
        if not kept.exists():
            kept.parent.mkdir(exist_ok=True)
            kept.write_text(json.dumps(_observed(killed, study, scratch)))
    values = json.loads(kept.read_text())
    return Undisturbed(values["digests"], set(values["paths"]), values["seconds"], values["changes"])


def _observed(killed: Killed, study: Path, scratch: Path) -> dict[str, Any]:
    here = copy(study, scratch / "undisturbed")
    killed.prepare(here)
    changes, begun = _Changes(here), time.monotonic()
    process = start(here, killed.command)
    while process.poll() is None:
        changes.look()
    seconds = time.monotonic() - begun
    text, _ = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"{killed.name}: {text}")
    found = {"digests": digests(here), "paths": sorted(paths(here)), "seconds": seconds, "changes": changes.count}
    shutil.rmtree(here)
    return found


def trial(killed: Killed, study: Path, scratch: Path, number: int) -> Row:
    """One kill and one more run."""
    expected = undisturbed(killed, study, scratch)
    drawn = random.Random(f"{killed.name} {number}")
    begun = time.monotonic()
    at_change = drawn.randint(1, max(expected.changes, 1)) if number % 3 else None
    at_time = drawn.uniform(0.4, 1.0) * expected.seconds
    here, when, was_killed = scratch / "killed", "", False
    for _ in range(_TRIES):
        copy(study, here)
        killed.prepare(here)
        when, was_killed = _kill(here, killed.command, at_change, at_time)
        if was_killed:
            break
        # It was faster than the undisturbed run.
        at_change, at_time = at_change and max(at_change // 2, 1), at_time * 0.7
    processes = _end_processes(here)
    after = run(here, killed.command)
    now = digests(here)
    other = difference(expected.digests, {name: now[name] for name in expected.digests.keys() & now.keys()})
    left = sorted(paths(here) - expected.paths) + processes + _end_processes(here)
    left += sorted(str(path.relative_to(here)) for path in (here / "data/tmp").glob("*"))
    outcome, detail = "ok", when
    if after.code != 0:
        outcome, detail = "failed again", f"{when}; {after.text.strip()[-200:]}"
    elif other:
        outcome, detail = "other bytes", f"{when}; {', '.join(other)}"
    elif left:
        outcome, detail = "left over", f"{when}; {', '.join(left)}"
    elif not was_killed:
        outcome = "ended before the kill"
    shutil.rmtree(here)
    return Row(
        kind=killed.kind if was_killed else UNHURT[killed.kind],
        stage=killed.name,
        trial=number,
        outcome=outcome,
        equal_bytes=not other,
        left_overs=len(left),
        seconds=time.monotonic() - begun,
        detail=detail,
    )


def _kill(here: Path, command: list[str], at_change: int | None, at_time: float) -> tuple[str, bool]:
    """Kill a command's process group at a change or at a time; when that was, and whether it was still running."""
    changes, begun = _Changes(here), time.monotonic()
    process = start(here, command)
    while process.poll() is None:
        changes.look()
        seconds = time.monotonic() - begun
        if changes.count >= at_change if at_change is not None else seconds >= at_time:
            break
    was_killed = process.poll() is None
    if was_killed:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    when = f"killed after {time.monotonic() - begun:.2f} s, {changes.count} changes, the last {changes.last or 'none'}"
    # It may have ended by itself between the look and the kill.
    return when, was_killed and process.returncode == -signal.SIGKILL


class _Changes:
    """Counts files and folders that appear, vanish or grow, as often as one can look."""

    def __init__(self, study: Path) -> None:
        self._folders = [study / "data", study / ".dvc/cache", study / ".dvc/tmp"]
        self._study = study
        self._seen = self._sizes()
        self.count = 0
        self.last = ""

    def look(self) -> None:
        now = self._sizes()
        if now != self._seen:
            changed = [name for name in now.keys() | self._seen.keys() if now.get(name) != self._seen.get(name)]
            self.count += 1
            self.last = os.path.relpath(min(changed), self._study)
            self._seen = now
        time.sleep(0.001)

    def _sizes(self) -> dict[str, int]:
        found: dict[str, int] = {}
        waiting = [str(folder) for folder in self._folders]
        while waiting:
            try:
                with os.scandir(waiting.pop()) as entries:
                    for entry in entries:
                        is_folder = entry.is_dir(follow_symlinks=False)
                        found[entry.path] = 0 if is_folder else entry.stat(follow_symlinks=False).st_size
                        if is_folder:
                            waiting.append(entry.path)
            except OSError:
                continue  # it went away between two looks
        return found


def _end_processes(here: Path) -> list[str]:
    """End what a killed command left running in a study; what that was. It gets 10 s to go by itself."""
    end = time.monotonic() + 10
    while running := [one for one in psutil.process_iter(["cwd", "cmdline"]) if one.info["cwd"] == str(here)]:
        if time.monotonic() > end:
            for process in running:
                process.kill()
            return [f"process {' '.join(process.info['cmdline'] or [])[-80:]}" for process in running]
        time.sleep(0.1)
    return []


def _without(output: str) -> Prepare:
    def prepare(study: Path) -> None:
        shutil.rmtree(study / output, ignore_errors=True)

    return prepare


def _other_prompt(study: Path) -> None:
    file = study / "prompts/findings/region.txt"
    file.write_text(file.read_text(encoding="utf-8").replace("{{ adjective }}", "{{ adjective }} {{ size }}"))


def _checked(study: Path, command: list[str]) -> None:
    done = run(study, command)
    if done.code != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.text}")
