"""Counts what comes of a target's inputs, and keeps each input that breaks a promise."""

import contextlib
import hashlib
import io
import json
import resource
import time
import traceback
from pathlib import Path
from typing import Any

from .fuzz_targets import EXPECTED, Target

MAX_SECONDS = 2.0
MAX_BYTES = 2**30
# Each so many inputs one is run twice.
_REPEAT = 64


class Watch:
    """A target whose inputs are counted.

    Args:
        name: Of the target.
        target: The target.
        folder: Where findings are kept, and the counts as they grow: a crash of the process must not lose them.
    """

    def __init__(self, name: str, target: Target, folder: Path) -> None:
        self._name = name
        self._target = target
        self._folder = folder
        self._peak = _peak_bytes()
        self._written = 0.0
        self.counts: dict[str, Any] = {
            "inputs": 0,
            "refused": 0,
            "repeated": 0,
            "seconds": 0.0,
            "memory_mb": 0.0,
            "findings": {},
        }
        folder.mkdir(parents=True, exist_ok=True)

    def run(self, data: bytes) -> None:
        """One input; whatever comes of it is counted, nothing is raised."""
        self.counts["inputs"] += 1
        before = _peak_bytes()
        start = time.monotonic()
        outcome = self._outcome(data)
        seconds = time.monotonic() - start
        grown = _peak_bytes() - before
        self.counts["seconds"] = round(max(self.counts["seconds"], seconds), 3)
        self.counts["memory_mb"] = round(max(self.counts["memory_mb"], grown / 2**20), 1)
        if seconds > MAX_SECONDS:
            self._keep(data, "slow", f"{seconds:.1f} s")
        if grown > MAX_BYTES:
            self._keep(data, "large", f"{grown / 2**20:.0f} MB")
        if self.counts["inputs"] % _REPEAT == 0:
            self.counts["repeated"] += 1
            if self._outcome(data) != outcome:
                self._keep(data, "another result", "the same input gave two results")
        if time.monotonic() - self._written > 1:
            self.write()

    def write(self) -> None:
        """The counts so far, as `counts.json`."""
        self._written = time.monotonic()
        (self._folder / "counts.json").write_text(json.dumps(self.counts))

    def _outcome(self, data: bytes) -> str:
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                return repr(self._target(data))
        except EXPECTED as error:
            self.counts["refused"] += 1
            # Messages may name files, which are others each time.
            return type(error).__name__
        except BaseException as error:  # noqa: BLE001 - to find those that nobody thought of is what this is for
            place = _place(error)
            self._keep(data, f"{type(error).__name__} at {place}", "".join(traceback.format_exception(error))[-3000:])
            return f"{type(error).__name__} at {place}"

    def _keep(self, data: bytes, kind: str, detail: str) -> None:
        """The shortest input of each kind."""
        findings = self.counts["findings"]
        known = findings.get(kind)
        if known is not None and known["bytes"] <= len(data):
            known["times"] += 1
            return
        file = self._folder / f"finding-{hashlib.sha256(kind.encode()).hexdigest()[:12]}"
        file.write_bytes(data)
        file.with_suffix(".txt").write_text(f"{self._name}: {kind}\n{detail}\n", encoding="utf-8", errors="replace")
        times = 1 if known is None else known["times"] + 1
        findings[kind] = {"bytes": len(data), "times": times, "file": file.name}
        self.write()


def _place(error: BaseException) -> str:
    """The innermost line of the product in a traceback: what one mends."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/pipelines/" in frame.filename or "/models/" in frame.filename]
    frame = (own or frames)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
