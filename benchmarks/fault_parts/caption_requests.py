"""Captions from a server that goes wrong: each answer arrives once, and the client stays as small as it was.

Of the requests, 1 % each meet: an error 500, an error 503, no answer in time, a connection that is reset, a body that
is cut, a body of garbage, one of 20 MB, an answer that is no JSON. In the middle the server comes back with another
model. The client runs until no item has failed, as a person would run the stage again; when it ends with one line, the
server is put right and the client runs again.

Run     python -m fault_parts.caption_requests URL ITEMS FOLDER, which is the client's process
"""

import dataclasses
import json
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

from pipelines.captions.answer import RegionAnswer
from pipelines.captions.captioners.vllm.captioner import Vllm
from pipelines.captions.config import Sizes
from pipelines.captions.protocols import NoAnswer, Response, Settings
from pipelines.errors import UserError

from .answers import OPTIONS, WORDS, region_item
from .server import Reply, Server, completion
from .trials import Row
from .workspace import ROOT

MODEL, OTHER_MODEL = "toy", "another"
SHARE = 0.01
FAULTS: dict[str, Reply] = {
    "error 500": Reply(status=500, body=b"{}"),
    "error 503": Reply(status=503, body=b"{}"),
    "no answer": Reply(hang=True),
    "reset": Reply(reset=True),
    "cut": Reply(body=completion("x" * 400), sent=100),
    "garbage": Reply(body=bytes(range(256)) * 4),
    "oversized": Reply(body=b" " * 2**20, repeat=20),
    "not JSON": Reply(body=completion("I am sorry, but {")),
}
_ADJECTIVES = ("round", "oval", "flat", "raised", "smooth", "nodular")
_NUMBER = re.compile(rb"finding (\d+)x")
CONCURRENCY = 16
_MAX_RUNS = 12
_SAMPLES_EVERY = 100


def caption(number: int) -> str:
    """What the right model says of an item."""
    return f"{_ADJECTIVES[number % len(_ADJECTIVES)]} | finding {number}x | center middle"


class FaultyServer:
    """The server of a trial.

    Attributes:
        sent: Sound answers of the right model that were sent, by item.
        faults: How often each fault was met.
    """

    def __init__(self, items: int, seed: int) -> None:
        self.sent: Counter[int] = Counter()
        self.faults: Counter[str] = Counter()
        self._asked: Counter[int] = Counter()
        self._seed = seed
        self._lock = threading.Lock()
        self._change_at = items // 2
        self._requests = 0
        self.model = MODEL
        self._server = Server(self._respond)
        self.url = self._server.url

    def close(self) -> None:
        self._server.close()

    def put_right(self) -> None:
        """Serve the right model again, as a person would after the client's line."""
        self.model = MODEL

    def _respond(self, body: bytes) -> Reply:
        found = _NUMBER.search(body)
        assert found is not None
        number = int(found.group(1))
        with self._lock:
            self._requests += 1
            if self._requests == self._change_at:
                self.model = OTHER_MODEL
                self.faults["another model"] += 1
            self._asked[number] += 1
            drawn = random.Random(f"{self._seed} {number} {self._asked[number]}").random()
            which = int(drawn / SHARE)
            if which < len(FAULTS):
                name = list(FAULTS)[which]
                self.faults[name] += 1
                return FAULTS[name]
            if self.model == MODEL:
                self.sent[number] += 1
        adjective = _ADJECTIVES[number % len(_ADJECTIVES)] if self.model == MODEL else "spiculated"
        others = [word for word in (*_ADJECTIVES, "lobulated") if word != adjective][:5]
        words = WORDS | {"adjective": adjective, "alternative_adjectives": others}
        del words["term"]
        return Reply(body=completion(json.dumps(words), self.model))


def trial(work: Path, number: int, items: int) -> Row:
    """All items, from an empty result cache on."""
    folder = work / f"requests-{number}"
    folder.mkdir(parents=True)
    server = FaultyServer(items, number)
    begun = time.monotonic()
    command = [sys.executable, "-m", "fault_parts.caption_requests", server.url, str(items), str(folder)]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "benchmarks")])
    faults: list[str] = []
    environment = os.environ | {"PYTHONPATH": paths}
    try:
        while len(faults) < _MAX_RUNS:
            done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
            if done.returncode == 0:
                break
            server.put_right()
            faults.append(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit {done.returncode}")
    finally:
        server.close()
    return _row(folder, server, items, number, faults, time.monotonic() - begun)


def _row(folder: Path, server: FaultyServer, items: int, number: int, faults: list[str], seconds: float) -> Row:
    result = folder / "captions.json"
    captions: dict[str, str] = json.loads(result.read_text()) if result.exists() else {}
    wrong = [item for item in range(items) if captions.get(str(item)) != caption(item)]
    # What was on its way when a run ended with a line is asked for again.
    doubled = sum(times > 1 for times in server.sent.values())
    allowed = len(faults) * CONCURRENCY
    memory, handles = _growth(folder)
    unclear = [line for line in faults if not line.startswith(("error: ", "again: "))]
    checks = {
        f"{len(wrong)} lost or other": bool(wrong),
        f"{doubled} doubled": doubled > allowed,
        f"{memory:.0f} MB more": memory > 32,
        f"{handles} more open files": handles > 8,
        f"no clear line: {unclear[:1]}": bool(unclear),
    }
    failed = [text for text, bad in checks.items() if bad]
    met = ", ".join(f"{name} {count}" for name, count in sorted(server.faults.items()))
    detail = (
        f"{items} items, {len(faults) + 1} runs; {met}; {doubled} answered twice; from the second to the last fifth "
    )
    detail += f"{memory:+.0f} MB, {handles:+d} open files"
    return Row(
        kind="requests",
        stage="captions",
        trial=number,
        outcome="; ".join(failed) or "ok",
        equal_bytes=not wrong,
        left_overs=max(0, handles) if handles > 8 else 0,
        seconds=seconds,
        detail=f"{detail}; {'; '.join(faults[:2])}",
    )


def _growth(folder: Path) -> tuple[float, int]:
    """MB and open files that the client has more at the end of its longest run than near its beginning."""
    longest: list[tuple[float, int]] = max(
        (json.loads(file.read_text()) for file in folder.glob("samples-*.json")), key=len, default=[]
    )
    if len(longest) < 10:
        return 0.0, 0
    fifth = len(longest) // 5
    early, late = (np.median(np.array(part), axis=0) for part in (longest[fifth : 2 * fifth], longest[-fifth:]))
    return float(late[0] - early[0]), int(late[1] - early[1])


def main(url: str, items: str, folder: str) -> None:
    here = Path(folder)
    picture = here / "a.png"
    if not picture.exists():
        pixels = np.random.default_rng(0).integers(0, 255, (30, 40), dtype=np.uint8)
        Image.fromarray(pixels).save(picture)
    sizes = Sizes(medium=0.02, large=0.05)
    options = OPTIONS | {"base_urls": [url], "model": MODEL, "concurrency": CONCURRENCY, "attempts": 3}
    options |= {"retries": 4, "timeout_s": 2.0, "outage_timeout_s": 5.0}
    settings = Settings(
        prompts=ROOT / "prompts/vllm",
        seed=0,
        options=options,
        sizes=sizes,
        roots={"toy": here},
        max_pixels=10**6,
        cache=here / "cache.sqlite",
    )
    item = region_item(picture, sizes)

    def all_items() -> Iterator[Any]:
        for number in range(int(items)):
            yield dataclasses.replace(item, region_id=f"{item.image.image_id}-{number}", label=f"finding {number}x")

    found, failed, samples = {}, Counter[str](), []
    process = psutil.Process()
    try:
        for number, answer in enumerate(Vllm(settings).describe(all_items())):
            inner = answer.answer if isinstance(answer, Response) else answer
            if isinstance(inner, RegionAnswer):
                found[number] = inner.region_extraction.replace("|", " | ")
            elif isinstance(inner, NoAnswer):
                failed[inner.status] += 1
            if number % _SAMPLES_EVERY == 0:
                samples.append((process.memory_info().rss / 2**20, process.num_fds()))
    except UserError as error:
        sys.exit(f"error: {error}")
    finally:
        (here / f"samples-{time.time_ns()}.json").write_text(json.dumps(samples))
    (here / "captions.json").write_text(json.dumps(found))
    if failed["failed"]:
        sys.exit(f"again: {failed['failed']} items failed")


if __name__ == "__main__":
    main(*sys.argv[1:])
