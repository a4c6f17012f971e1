"""The stage `captions` with the captioner `vllm` at real vLLM servers: real images, their regions, models of noise.

The checks of the answers are written again here, from the paper's rules, not taken from the code under test.
"""

import contextlib
import json
import re
import signal
import sqlite3
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.captions.config import CaptionsConfig
from pipelines.captions.stage import run as caption
from pipelines.config import load, parse
from pipelines.masks import decode
from pipelines.records import (
    CAPTIONS,
    REGIONS,
    SPLIT_IMAGES,
    CaptionRow,
    RegionRow,
    SplitImageRow,
)
from tests.processes import is_loopback, listening, tree
from tests.vllm.conftest import Ingested, Server

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

POSITIONS = {f"{side} {level}" for side in ("left", "center", "right") for level in ("upper", "middle", "lower")}
# One family captions all images, the others a third: enough for every outcome, and their servers take long to start.
ALL = "tiny-qwen2.5-vl"
EVERY = 3
# Cuts about half of the reports short, so that some images end rejected. Gemma's noise has more tokens for each word.
MAX_TOKENS = 350
MAX_TOKENS_GEMMA = 415


@dataclass(frozen=True, kw_only=True)
class Captioned:
    """Inputs and outputs of the stage.

    Attributes:
        images: The images.
        regions: The regions by their id.
        rows: The captions.
        cached: Values of the result cache.
        summary: The stage's summary.
    """

    images: list[SplitImageRow]
    regions: dict[str, RegionRow]
    rows: list[CaptionRow]
    cached: list[dict[str, Any]]
    summary: dict[str, Any]


@pytest.fixture(scope="module")
def captioned(
    server: Server, ingested: Ingested, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Captioned:
    """The images and regions that a server gets, and the stage's table of captions."""
    folder = tmp_path_factory.mktemp("captions")
    images = ingested.images[:: 1 if server.checkpoint.name == ALL else EVERY]
    ids = {image.image_id for image in images}
    regions = [region for region in ingested.regions if region.image_id in ids]
    SPLIT_IMAGES.write(folder / "images.parquet", images)
    REGIONS.write(folder / "regions.parquet", regions)
    shipped = load(CaptionsConfig, "captions", repository / "params.yaml")
    captions = parse(
        CaptionsConfig,
        {
            "captioner": "vllm",
            "prompts": repository / "prompts" / "vllm",
            "seed": 0,
            "sizes": {"medium": shipped.sizes.medium, "large": shipped.sizes.large},
            "modalities": {
                name: {"name": modality.name, "side": modality.side} for name, modality in shipped.modalities.items()
            },
            "max_failed_fraction": 0.0,
            "options": {
                "vllm": {
                    "base_urls": [f"{server.url}/v1"],
                    "model": server.checkpoint.name,
                    "temperature": 1.0,
                    "max_tokens": MAX_TOKENS_GEMMA if server.checkpoint.name == "tiny-gemma-3" else MAX_TOKENS,
                    "image_size": 224,
                    "crop_size": 112,
                    "concurrency": 16,
                    "attempts": 3,
                }
            },
        },
        "captions",
    )
    summary = caption(
        captions,
        ingested.sources,
        folder / "images.parquet",
        folder / "regions.parquet",
        folder / "captions.parquet",
        folder,
        folder / "results.sqlite",
    )
    rows = CAPTIONS.read(folder / "captions.parquet")
    with contextlib.closing(sqlite3.connect(folder / "results.sqlite")) as database:
        cached = [json.loads(value) for (value,) in database.execute("SELECT value FROM items")]
    regions_by_id = {row.region_id: row for row in regions}
    return Captioned(images=images, regions=regions_by_id, rows=rows, cached=cached, summary=summary)


def test_every_item_ends_ok_or_rejected_with_a_reason(captioned: Captioned) -> None:
    images = {image.image_id for image in captioned.images}
    assert len(images) >= 60 / EVERY
    assert len(captioned.regions) >= 50 / EVERY
    assert sorted(row.item_id for row in captioned.rows) == sorted(images | captioned.regions.keys())
    outcomes = {"ok": 0, "rejected": 0}
    for row in captioned.rows:
        assert row.attempts in (1, 2, 3)
        if row.status == "rejected":
            assert re.fullmatch(r"[a-z0-9_]+", row.reason)
            assert row.raw_answer
            assert row.attempts == 3
        else:
            assert row.status in ("ok", "no_finding")
            assert row.reason is None
        outcomes["rejected" if row.status == "rejected" else "ok"] += 1
    summary = captioned.summary
    assert (summary["inputs"], summary["failed"]) == (len(captioned.rows), 0)
    assert {name: summary[name] for name in outcomes} == outcomes
    assert sum(summary["reasons"].get("rejected", {}).values()) == outcomes["rejected"]


def test_some_answers_are_cut_short_and_requested_again(captioned: Captioned) -> None:
    """Without any, the test above would say little of what is rejected."""
    assert captioned.summary["reasons"]["rejected"]["truncated_answer"] > 0
    assert any(row.status == "ok" and row.attempts > 1 for row in captioned.rows)


def test_cached_answers_that_were_not_cut_short_fit_the_schema(captioned: Captioned) -> None:
    """Those too that break a rule which no schema can express; vLLM refused none of the requests."""
    assert len(captioned.cached) == len(captioned.rows)
    reasons = [value["reason"] for value in captioned.cached]
    assert reasons.count(None) == captioned.summary["ok"] > 0
    assert not any(reason and reason.startswith("http_") for reason in reasons)
    whole = [json.loads(value["content"]) for value in captioned.cached if value["reason"] != "truncated_answer"]
    for answer in whole:
        if "summary_caption" in answer:
            assert answer.keys() == {"summary_caption", "detailed_report"}
        else:
            assert answer.keys() - {"term"} == {"adjective", "position", "size", "alternative_adjectives"}
            assert answer["position"] in POSITIONS
            assert answer["size"] in ("small", "medium", "large")
            assert len(answer.pop("alternative_adjectives")) == 5
        assert all(isinstance(text, str) and text for text in answer.values())


def test_at_least_a_fifth_of_the_answers_is_accepted(captioned: Captioned) -> None:
    for kind in ("image", "region"):
        statuses = [row.status for row in captioned.rows if row.kind == kind]
        assert sum(status != "rejected" for status in statuses) >= 0.2 * len(statuses), kind


def test_accepted_image_answers_keep_the_rules(captioned: Captioned) -> None:
    accepted = [row for row in captioned.rows if row.kind == "image" and row.status != "rejected"]
    assert accepted
    for row in accepted:
        words = len(row.summary.split(" "))
        assert re.fullmatch(r"[^.,;!?\n]+\.", row.summary), row.summary
        assert words <= 15
        assert ("summary_too_short" in (row.warnings or [])) == (words < 10)
        assert row.report.strip()


def test_accepted_region_answers_keep_the_rules_and_the_sources_term(captioned: Captioned) -> None:
    accepted = [row for row in captioned.rows if row.kind == "region" and row.status == "ok"]
    assert accepted
    for row in accepted:
        adjective, term, position = row.region_caption.split(" | ")
        assert [adjective, term, position] == [row.adjective, row.term, row.position]
        assert position in POSITIONS
        negatives = [negative.split(" | ") for negative in row.negatives]
        assert [negative[1:] for negative in negatives] == [[term, position]] * 5
        assert len({adjective, *(negative[0] for negative in negatives)}) == 6
        label = captioned.regions[row.item_id].label
        assert label is None or term == label


def test_position_that_the_mask_does_not_support_is_marked(captioned: Captioned) -> None:
    """An unmarked claim names a third with a quarter of the region's pixels, or the one that holds its centre."""
    images = {image.image_id: image for image in captioned.images}
    accepted = [row for row in captioned.rows if row.kind == "region" and row.status == "ok"]
    unsupported = 0
    for row in accepted:
        image = images[row.image_id]
        mask = decode(captioned.regions[row.item_id].mask, image.height, image.width)
        # QaTa-COV19's reports mean the image's sides, and so do its captions.
        patient_sides = image.view == "frontal" if image.sides is None else image.sides == "patient"
        names = ["right", "center", "left"] if patient_sides else ["left", "center", "right"]
        side, level = row.position.split()
        supported = holds(mask, 1, names.index(side)) and holds(mask, 0, ["upper", "middle", "lower"].index(level))
        if row.contradiction is None:
            assert supported, row
        unsupported += not supported
    assert unsupported > 0, "noise names wrong positions; a test without any proves nothing"


def holds(mask: np.ndarray, axis: int, third: int) -> bool:
    """A third of the image along an axis, counted from 0, holds a quarter of the mask's pixels or its centre."""
    positions = (np.nonzero(mask)[axis] + 0.5) / mask.shape[axis]
    low, high = third / 3, (third + 1) / 3
    centred = low <= positions.mean() <= high
    # A pixel on a third's edge counts for one side here and may count for the other there.
    return bool(centred or ((positions >= low) & (positions < high)).mean() >= 0.24)


def test_server_reuses_the_instructions(captioned: Captioned, server: Server) -> None:
    """They come first, so that every request shares them: vLLM counts the tokens that it did not compute again."""
    with urllib.request.urlopen(f"{server.url}/metrics") as answer:
        metrics = answer.read().decode()
    counts = [
        float(re.findall(rf"^vllm:prefix_cache_{name}_total{{.*}} (\S+)$", metrics, re.MULTILINE)[0])
        for name in ("hits", "queries")
    ]
    assert counts[0] >= 0.2 * counts[1]


def test_server_and_engine_listen_on_loopback(server: Server) -> None:
    found = listening(tree(server.process))
    assert int(server.url.rpartition(":")[2]) in {port for _, _, port in found}
    assert [one for one in found if not is_loopback(one[1])] == []


def test_stop_leaves_no_process(server: Server) -> None:
    """The last test here, for it ends the server."""
    assert server.stop(signal.SIGTERM) == []
    assert server.process.returncode == 0
