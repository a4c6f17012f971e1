"""The captioner `vllm` on one region, and a server that answers with any bytes."""

import contextlib
import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from anyio.from_thread import start_blocking_portal
from PIL import Image

from pipelines.cache import ResultCache
from pipelines.captions.captioners.vllm.captioner import Vllm
from pipelines.captions.captioners.vllm.options import Options
from pipelines.captions.captioners.vllm.prompts import Prompts
from pipelines.captions.captioners.vllm.request_loop import RequestLoop
from pipelines.captions.config import CaptionsConfig, Modality, Sizes
from pipelines.captions.evidence import region_items
from pipelines.captions.protocols import RegionItem, Settings
from pipelines.captions.rows import RowBuilder
from pipelines.chat.budget import RequestBudget
from pipelines.chat.client import Client
from pipelines.config import parse
from pipelines.records import CAPTIONS, MODALITIES, RegionRow, SplitImageRow

from .server import Reply, Server, completion

OPTIONS: dict[str, Any] = {
    "model": "toy",
    "concurrency": 1,
    "attempts": 1,
    "retries": 0,
    "image_size": 32,
    "crop_size": 32,
    "backoff_s": 0.001,
    "cooldown_s": 0.001,
}
# A sound answer for a region.
WORDS: dict[str, Any] = {
    "adjective": "round",
    "term": "polyp",
    "position": "center middle",
    "size": "large",
    "alternative_adjectives": ["oval", "flat", "raised", "smooth", "nodular"],
}


class Answers:
    """The captioner `vllm` with one region to describe, and a server that answers with the input."""

    def __init__(self, root: Path, scratch: Path) -> None:
        folder = scratch / f"answers-{os.getpid()}"
        folder.mkdir()
        pixels = np.random.default_rng(0).integers(0, 255, (30, 40), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "a.png")
        self._reply = Reply()
        server = Server(lambda _: self._reply)
        sizes = Sizes(medium=0.02, large=0.05)
        settings = Settings(
            prompts=root / "prompts/vllm",
            seed=0,
            options=OPTIONS | {"base_urls": [server.url], "timeout_s": 1.0, "outage_timeout_s": 0.1},
            sizes=sizes,
            roots={"toy": folder},
            max_pixels=10**6,
            cache=folder / "cache.sqlite",
        )
        self._rows = RowBuilder("vllm", Vllm(settings), sizes)
        self._item = region_item(folder / "a.png", sizes)
        self._table = folder / "captions.parquet"
        options = parse(Options, settings.options, "options")
        client = Client(options, RequestBudget(settings.budget), "options")
        # As in `Vllm.describe`, but with one loop and one connection for all inputs: that is fifty times as fast.
        stack = contextlib.ExitStack()
        self._portal = stack.enter_context(start_blocking_portal())
        stack.enter_context(self._portal.wrap_async_context_manager(client))
        prompts, cache = Prompts(settings.prompts, sizes), ResultCache(settings.cache)
        self._loop = RequestLoop(settings, options, prompts, cache, client)
        self._stack = stack

    def describe(self, data: bytes, number: int) -> Any:
        kind, rest = data[:1], data[1:]
        text = rest.decode("utf-8", errors="surrogateescape")
        if kind == b"c":
            self._reply = Reply(body=completion(text))
        elif kind == b"t":
            self._reply = Reply(body=completion(json.dumps(WORDS | {"term": text})))
        else:
            self._reply = Reply(body=rest)
        # A box that is another by less than a pixel is another key: the cache must not answer.
        x0, y0, x1, y1 = self._item.box
        item = dataclasses.replace(self._item, box=(x0 + number * 1e-9, y0, x1, y1))
        row = self._rows.described(item, self._portal.call(self._loop.answer, item))
        CAPTIONS.write(self._table, [row])
        return self._table.read_bytes()


def region_item(file: Path, sizes: Sizes) -> RegionItem:
    """One region in the middle of an image, for which the source has no name."""
    data = file.read_bytes()
    with Image.open(file) as image:
        width, height = image.size
    digest = hashlib.sha256(data).hexdigest()
    row = SplitImageRow(
        image_id=digest[:16],
        source="toy",
        path=file.name,
        sha256=digest,
        pixel_sha256=digest,
        perceptual_hash=digest,
        width=width,
        height=height,
        modality="radiograph",
        split_conflict=False,
        rows=1,
        group=digest[:16],
        split="train",
        leak=False,
    )
    x0, y0, x1, y1 = width / 4, height / 4, 3 * width / 4, 3 * height / 4
    region = RegionRow(
        region_id=f"{digest[:16]}-0",
        image_id=digest[:16],
        source="toy",
        n=0,
        role="input",
        proposer="saliency",
        x0=x0,
        y0=y0,
        x1=x1,
        y1=y1,
        area=int((x1 - x0) * (y1 - y0)),
        area_fraction=0.25,
        score=1.0,
        certified=False,
        status="accepted",
    )
    modalities: dict[str, Modality] = {name: Modality(name=name, side="image") for name in MODALITIES}
    config = CaptionsConfig(
        captioner="vllm", prompts=file, seed=0, sizes=sizes, modalities=modalities, max_failed_fraction=0.0
    )
    return region_items(row, [region], config)[0]
