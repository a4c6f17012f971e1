"""Requests a second of the captioner `vllm` beside those of vLLM's own benchmark client, at one server.

Reads   IMAGES, Kvasir-SEG as published, and CHECKPOINT, a folder with a model
Writes  benchmarks/results/captioning.csv, each row as it ends; what the file holds is not measured again
Run     python -m tests.tiny_qwen CHECKPOINT && python benchmarks/captioning.py IMAGES CHECKPOINT

Both sides take turns in sending the same requests, one for each region, with the same images, schema and sampling. Ours
is the captioner as the stage runs it: it reads, scales and encodes the images, checks the answers and writes them to a
result cache, empty at the start of each run. The reference, vllm.benchmarks.serve, has its payload ready before its
clock starts, and its answers come as streams. Prefix and image caches are off, so that no repeat is cheaper than the
first.
"""

import asyncio
import contextlib
import csv
import json
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from header import header, last_commit

from models.geometry import box_of_mask
from pipelines.cache import ResultCache
from pipelines.captions.captioners.vllm.captioner import Vllm
from pipelines.captions.captioners.vllm.options import Options
from pipelines.captions.captioners.vllm.prompts import Prompts
from pipelines.captions.captioners.vllm.request_loop import RequestLoop
from pipelines.captions.config import CaptionsConfig
from pipelines.captions.evidence import region_items
from pipelines.captions.protocols import RegionItem, Response, Settings
from pipelines.chat.budget import RequestBudget
from pipelines.chat.client import Client, PermanentError
from pipelines.config import load
from pipelines.ingest.config import IngestConfig, SourceConfig
from pipelines.ingest.stage import run as ingest
from pipelines.masks import decode
from pipelines.records import (
    ANNOTATIONS,
    ANNOTATIONS_PROPOSER,
    IMAGES,
    SPLIT_IMAGES,
    AnnotationRow,
    ImageRow,
    RegionRow,
    SplitImageRow,
)
from pipelines.sources import Sources
from pipelines.stage import command

logger = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "results" / "captioning.csv"
COLUMNS = ("concurrency", "client_requests_per_s", "reference_requests_per_s", "ratio")
CONCURRENCIES = (4, 8, 16, 32)
REPEATS = 6
REQUESTS = 96
PORT = 8017
MODEL = "benchmarked"
MAX_TOKENS = 512
REFERENCE = """
import argparse
from vllm.benchmarks.serve import add_cli_args, main
parser = argparse.ArgumentParser()
add_cli_args(parser)
main(parser.parse_args())
"""


@dataclass(frozen=True)
class Run:
    """One side's run: requests a second, and the tokens of all its requests and answers."""

    rate: float
    prompt_tokens: int
    completion_tokens: int


def main(images: str, checkpoint: str) -> None:
    done = _measured()
    missing = [concurrency for concurrency in CONCURRENCIES if concurrency not in done]
    if not missing:
        logger.info("%s is complete; delete it to measure again", RESULT)
        return
    with tempfile.TemporaryDirectory() as name, _server(Path(checkpoint)):
        folder = Path(name)
        items, sources = _items(Path(images), folder)
        _write_payload(items, _settings(sources, folder, concurrency=1), folder)
        _ours(items[:16], _settings(sources, folder, concurrency=8))
        for concurrency in missing:
            settings = _settings(sources, folder, concurrency)
            runs = [_pair(items, settings, folder, concurrency, ours_first=n % 2 == 0) for n in range(REPEATS)]
            _check_same_work(runs)
            ours, theirs = (statistics.median(run.rate for run in side) for side in zip(*runs, strict=True))
            row = (concurrency, round(ours, 3), round(theirs, 3), round(ours / theirs, 3))
            with RESULT.open("a", encoding="utf-8") as stream:
                stream.write(",".join(map(str, row)) + "\n")
            logger.info("%s from %s", dict(zip(COLUMNS, row, strict=True)), runs)


def _measured() -> set[int]:
    """The concurrencies that the file holds; a file with a header is begun where there is none."""
    if RESULT.exists():
        lines = [line for line in RESULT.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
        return {int(row["concurrency"]) for row in csv.DictReader(lines)}
    RESULT.write_text(
        header("python benchmarks/captioning.py <kvasir_seg> <checkpoint of tests.tiny_qwen>", last_commit(ROOT))
        + f"# each figure: median of {REPEATS} interleaved repeats of {REQUESTS} requests; all on one host\n"
        + ",".join(COLUMNS)
        + "\n",
        encoding="utf-8",
    )
    return set()


@contextlib.contextmanager
def _server(checkpoint: Path) -> Iterator[None]:
    flags = ["--port", str(PORT), "--served-model-name", MODEL, "--max-model-len", "4096"]
    caches = ["--no-enable-prefix-caching", "--mm-processor-cache-gb", "0"]
    script = [ROOT / "scripts" / "vllm", "serve", "--model", checkpoint]
    process = subprocess.Popen([*script, *flags, *caches], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            logger.info("%s", line.rstrip())
            if line.startswith("serving"):
                break
        else:
            raise SystemExit(process.wait())
        yield
    finally:
        process.terminate()
        process.wait()


def _items(images: Path, folder: Path) -> tuple[list[RegionItem], Sources]:
    """One annotated region of each of `REQUESTS` images."""
    options = {"modality": "endoscopy", "label": "polyp"}
    source = SourceConfig(
        adapter="image_mask_folders", root=str(images), limit=REQUESTS, patient_ids="public", options=options
    )
    config = IngestConfig(sources={"kvasir_seg": source}, max_pixels=100_000_000, max_failed_fraction=0.0)
    ingest("kvasir_seg", config, folder / "tables", folder)
    annotations = {row.image_id: row for row in ANNOTATIONS.read(folder / "tables" / "annotations.parquet")}
    captions = load(CaptionsConfig, "captions", ROOT / "params.yaml")
    items = []
    for row in IMAGES.read(folder / "tables" / "images.parquet"):
        image = _training_image(row)
        items += region_items(image, [_region(image, annotations[image.image_id])], captions)
    return items, Sources(roots=config.roots(), max_pixels=config.max_pixels)


def _training_image(row: ImageRow) -> SplitImageRow:
    common = {name: getattr(row, name) for name in SPLIT_IMAGES.columns if hasattr(row, name)}
    return SplitImageRow(**(common | {"split": "train", "group": row.image_id, "leak": False}))


def _region(image: SplitImageRow, annotation: AnnotationRow) -> RegionRow:
    """The annotation as an accepted region."""
    assert annotation.mask is not None
    mask = decode(annotation.mask, image.height, image.width)
    x0, y0, x1, y1 = box_of_mask(mask)
    return RegionRow(
        region_id=f"{image.image_id}-0",
        image_id=image.image_id,
        source=image.source,
        n=0,
        role="input",
        proposer=ANNOTATIONS_PROPOSER,
        label="polyp",
        x0=x0,
        y0=y0,
        x1=x1,
        y1=y1,
        mask=annotation.mask,
        area=int(mask.sum()),
        area_fraction=float(mask.mean()),
        score=1.0,
        certified=False,
        status="accepted",
    )


def _settings(sources: Sources, folder: Path, concurrency: int) -> Settings:
    options = {
        "base_urls": [f"http://127.0.0.1:{PORT}/v1"],
        "model": MODEL,
        "temperature": 0.0,
        "max_tokens": MAX_TOKENS,
        "image_size": 336,
        "crop_size": 168,
        "concurrency": concurrency,
        "attempts": 1,
    }
    return Settings(
        prompts=ROOT / "prompts" / "vllm",
        seed=0,
        options=options,
        sizes=load(CaptionsConfig, "captions", ROOT / "params.yaml").sizes,
        roots=sources.roots,
        max_pixels=sources.max_pixels,
        cache=folder / "results.sqlite",
    )


def _ours(items: list[RegionItem], settings: Settings) -> Run:
    """A run of the captioner."""
    for file in settings.cache.parent.glob(f"{settings.cache.name}*"):
        file.unlink()
    captioner = Vllm(settings)
    start = time.perf_counter()
    answers = list(captioner.describe(items))
    seconds = time.perf_counter() - start
    counts = captioner.counts()
    requests, regions = counts["requests"], counts["by_kind"]["region"]
    assert all(isinstance(answer, Response) for answer in answers), "a request failed"
    assert requests == len(items), f"{requests} requests for {len(items)} items"
    return Run(requests / seconds, regions["prompt_tokens"], regions["completion_tokens"])


def _pair(
    items: list[RegionItem], settings: Settings, folder: Path, concurrency: int, ours_first: bool
) -> tuple[Run, Run]:
    """A run of each side; they take turns in going first."""
    if ours_first:
        return _ours(items, settings), _theirs(folder, concurrency)
    theirs = _theirs(folder, concurrency)
    return _ours(items, settings), theirs


class _Recorder(Client):
    """Records the requests that it should send."""

    async def complete(self, request: dict[str, Any]) -> Any:
        self.recorded = request
        raise PermanentError("recorded", "")


def _write_payload(items: list[RegionItem], settings: Settings, folder: Path) -> None:
    """The captioner's own requests as a data set of the reference: user messages and common fields."""
    options = Options(**settings.options)
    recorder = _Recorder(options, RequestBudget(settings.budget), "options")
    cache = ResultCache(folder / "recorded.sqlite")

    async def record() -> list[dict[str, Any]]:
        request_loop = RequestLoop(settings, options, Prompts(settings.prompts, settings.sizes), cache, recorder)
        requests = []
        for item in items:
            await request_loop.answer(item)
            requests.append(recorder.recorded)
        return requests

    requests = asyncio.run(record())
    cache.close()
    with (folder / "payload.jsonl").open("w", encoding="utf-8") as stream:
        for request in requests:
            system, user = request["messages"]
            # The reference sends no system message: the instructions open the user's.
            stream.write(
                json.dumps({"content": [{"type": "text", "text": system["content"]}, *user["content"]]}) + "\n"
            )
    # Seeds differ from item to item, and at temperature 0 decide nothing.
    common = {"response_format": requests[0]["response_format"], "seed": 0}
    assert all(request["response_format"] == common["response_format"] for request in requests)
    (folder / "common.json").write_text(json.dumps(common), encoding="utf-8")


def _theirs(folder: Path, concurrency: int) -> Run:
    """A run of the reference."""
    flags = {
        "--backend": "openai-chat",
        "--base-url": f"http://127.0.0.1:{PORT}",
        "--endpoint": "/v1/chat/completions",
        "--model": MODEL,
        "--dataset-name": "custom_image",
        "--dataset-path": str(folder / "payload.jsonl"),
        "--num-prompts": str(REQUESTS),
        "--num-warmups": "2",
        "--max-concurrency": str(concurrency),
        "--custom-output-len": str(MAX_TOKENS),
        "--temperature": "0",
        "--extra-body": (folder / "common.json").read_text(encoding="utf-8"),
        "--result-dir": str(folder),
        "--result-filename": "reference.json",
    }
    switches = [
        "--enable-multimodal-chat",
        "--disable-shuffle",
        "--skip-tokenizer-init",
        "--disable-tqdm",
        "--save-result",
    ]
    arguments = [word for pair in flags.items() for word in pair]
    python = ROOT / ".vllm" / "bin" / "python"
    finished = subprocess.run([python, "-c", REFERENCE, *arguments, *switches], capture_output=True, text=True)
    if finished.returncode != 0:
        sys.exit(f"the reference failed:\n{finished.stdout[-2000:]}{finished.stderr[-2000:]}")
    result = json.loads((folder / "reference.json").read_text(encoding="utf-8"))
    assert (result["completed"], result["failed"]) == (REQUESTS, 0), result
    return Run(result["request_throughput"], result["total_input_tokens"], result["total_output_tokens"])


def _check_same_work(runs: list[tuple[Run, Run]]) -> None:
    for ours, theirs in runs:
        for name in ("prompt_tokens", "completion_tokens"):
            ratio = getattr(ours, name) / getattr(theirs, name)
            assert 0.95 < ratio < 1.05, f"{name} of the two sides differ: {ours}, {theirs}"


if __name__ == "__main__":
    command(main)
