"""What every stage shares: the command line, the counts that must add up, progress, and `summary.json`."""

import importlib
import inspect
import logging
import os
import select
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sized
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from models.memory import peak_memory_mb
from models.verified import DamagedError
from pipelines.boundary import defect_line, disk_line, network_line
from pipelines.code.fingerprint import check as check_fingerprint
from pipelines.code.fingerprint import stage_name
from pipelines.errors import TRY_AGAIN, TemporaryError, UserError
from pipelines.files import sweep, write_summary
from pipelines.logs import configure_logging

logger = logging.getLogger(__name__)

DATA = Path("data")
SUMMARIES = DATA / "summaries"

T = TypeVar("T")


def command(main: Callable[..., None] | str) -> None:
    """Run a stage from the command line: its positional arguments come from `sys.argv`.

    A stage of dvc.yaml whose code is not that of its fingerprint is refused (see `pipelines.code.fingerprint`).
    A `UserError` or `DamagedError` becomes one line on standard error and exit code 1, and so does a disk that is full,
    read-only or forbidden; a `TemporaryError`, and a network or server that failed elsewhere, becomes one line and exit
    code `TRY_AGAIN`; anything else is a defect, whose traceback goes to a log file (`pipelines.boundary`).

    Args:
        main: The function, or the module whose `main` it is, imported here: torch's import alone fails on a full disk.
    """
    # Started by a script's `&`, Python ignores Ctrl-C, and so would all that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Flows and service managers end a command so; it deletes its temporary files and ends what it started.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + signal.SIGTERM))
    configure_logging()
    module = main if isinstance(main, str) else main.__module__
    try:
        run: Callable[..., None] = importlib.import_module(main).main if isinstance(main, str) else main
        try:
            inspect.signature(run).bind(*sys.argv[1:])
        except TypeError:
            parameters = inspect.signature(run).parameters.values()
            words = [one.name.upper() if one.default is one.empty else f"[{one.name.upper()}]" for one in parameters]
            raise UserError(" ".join([f"usage: python -m {_typed_name(module)}", *words])) from None
        sweep(DATA)
        if (stage := stage_name(module, sys.argv[1:])) is not None:
            check_fingerprint(stage)
        run(*sys.argv[1:])
        sys.stdout.flush()
    except (UserError, DamagedError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(TRY_AGAIN if isinstance(error, TemporaryError) else 1) from None
    except KeyboardInterrupt:
        # As a shell says it: 128 + SIGINT.
        raise SystemExit(130) from None
    except Exception as error:  # noqa: BLE001 - the last resort of every command
        if isinstance(error, BrokenPipeError) and _reader_is_gone():
            raise SystemExit(128 + signal.SIGPIPE) from None
        if (line := network_line(error)) is not None:
            print(f"error: {line}", file=sys.stderr)
            raise SystemExit(TRY_AGAIN) from None
        name = stage_name(module, sys.argv[1:]) or _typed_name(module)
        line = disk_line(error) or defect_line(error, name.rpartition("/")[2].removeprefix("pipelines."))
        print(f"error: {line}", file=sys.stderr)
        raise SystemExit(1) from None


def _reader_is_gone() -> bool:
    """Whether what read standard output, such as `head`, has ended; then what is left for it is dropped."""
    output = select.poll()
    output.register(sys.stdout.fileno(), 0)
    if not any(event & select.POLLERR for _, event in output.poll(0)):
        return False
    # Python flushes once more when it ends, and would say so on standard error.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def _typed_name(module: str) -> str:
    """What one types after `python -m`: a module that is run is called __main__, a stage is run by its package."""
    spec = sys.modules["__main__"].__spec__
    return spec.name.removesuffix(".__main__") if spec else module.removesuffix(".stage")


class Summary:
    """Counts of one stage run. Inputs = ok + rejected + failed + duplicates is checked when it is written.

    Args:
        stage: Name of the stage; the summary is written to `data/summaries/<stage>.json`.
    """

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.inputs = 0
        self.counts: Counter[str] = Counter()
        self.reasons: dict[str, Counter[str]] = {"rejected": Counter(), "failed": Counter(), "duplicates": Counter()}
        self.extra: dict[str, Any] = {}
        self._start = time.monotonic()

    def ok(self, count: int = 1) -> None:
        self.inputs += count
        self.counts["ok"] += count

    def rejected(self, reason: str, count: int = 1) -> None:
        self._not_ok("rejected", reason, count)

    def failed(self, reason: str, count: int = 1) -> None:
        self._not_ok("failed", reason, count)

    def duplicate(self, reason: str, count: int = 1) -> None:
        self._not_ok("duplicates", reason, count)

    def _not_ok(self, outcome: str, reason: str, count: int) -> None:
        self.inputs += count
        self.counts[outcome] += count
        self.reasons[outcome][reason] += count

    def limit_failures(self, largest_fraction: float) -> None:
        """Stop the stage when more than `largest_fraction` (0 to 1) of its inputs failed."""
        if self.inputs and self.counts["failed"] / self.inputs > largest_fraction:
            reasons = ", ".join(f"{reason} {count}" for reason, count in self.reasons["failed"].most_common(3))
            raise UserError(
                f"{self.stage}: {self.counts['failed']} of {self.inputs} items failed ({reasons}), more than "
                f"the fraction {largest_fraction} that params.yaml allows; mend the cause or raise max_failed_fraction"
            )

    def write(self, inputs: int, folder: Path = SUMMARIES) -> dict[str, Any]:
        """Check that every one of `inputs` items was counted once, and write the summary.

        Args:
            inputs: Number of items the stage was given, counted by the caller independently of the outcomes.
        """
        if self.inputs != inputs:
            raise AssertionError(f"{self.stage}: {inputs} inputs but {self.inputs} outcomes: {dict(self.counts)}")
        seconds = time.monotonic() - self._start
        summary = {
            "stage": self.stage,
            "inputs": inputs,
            **{outcome: self.counts[outcome] for outcome in ("ok", "rejected", "failed", "duplicates")},
            "reasons": {outcome: dict(sorted(reasons.items())) for outcome, reasons in self.reasons.items() if reasons},
            "seconds": round(seconds, 3),
            "items_per_second": round(inputs / seconds, 2) if seconds > 0 else 0.0,
            "peak_memory_mb": round(peak_memory_mb(), 1),
            **self.extra,
        }
        write_summary(folder / f"{self.stage}.json", summary)
        counts = ", ".join(f"{key} {summary[key]}" for key in ("inputs", "ok", "rejected", "failed"))
        logger.info("%s: %s", self.stage, counts)
        return summary


def progress(items: Iterable[T], label: str, total: int | None = None) -> Generator[T, None, None]:
    """Iterate with a bar on a terminal, or a line every ten seconds where there is none (logs, Prefect)."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    console = Console(stderr=True)
    if console.is_terminal:
        columns = (TextColumn(label), BarColumn(), TaskProgressColumn(show_speed=True), MofNCompleteColumn())
        with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
            yield from bar.track(items, total=total)
        return
    start = last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last >= 10:
            last = now
            rate = done / (now - start)
            rest = f" of {total}, {(total - done) / rate:.0f} s left" if total else ""
            logger.info("%s: %d%s (%.1f/s)", label, done, rest, rate)
