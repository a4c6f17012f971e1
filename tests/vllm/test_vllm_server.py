"""The stage `captions` with the captioner `vllm` at a real vLLM server: real images, their regions, a model of noise.

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

from models.geometry import box_of_mask
from pipelines.captions.config import CaptionsConfig
from pipelines.captions.stage import run as caption
from pipelines.config import load, parse
from pipelines.ingest.config import IngestConfig, SourceConfig
from pipelines.ingest.stage import run as ingest
from pipelines.masks import decode
from pipelines.records import (
    ANNOTATIONS,
    ANNOTATIONS_PROPOSER,
    CAPTIONS,
    REGIONS,
    SPLIT_IMAGES,
    AnnotationRow,
    CaptionRow,
    RegionRow,
    SplitImageRow,
)
from pipelines.sources import Sources
from pipelines.split.config import SplitConfig
from pipelines.split.stage import run as split
from tests.processes import is_loopback, listening, tree
from tests.vllm.conftest import Server

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

POSITIONS = {f"{side} {level}" for side in ("left", "center", "right") for level in ("upper", "middle", "lower")}
PER_SPLIT = 12


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
    server: Server, shared_data: Path, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Captioned:
    """Images of every split of two data sets, their annotated regions, and the stage's table of captions."""
    folder = tmp_path_factory.mktemp("captions")
    limit = {"train": PER_SPLIT, "validation": PER_SPLIT, "test": PER_SPLIT}
    sources = {
        "kvasir_seg": SourceConfig(
            adapter="image_mask_folders",
            root=str(shared_data / "kvasir_seg"),
            limit=limit,
            options={"modality": "endoscopy", "label": "polyp"},
        ),
        "qata_cov19": SourceConfig(
            adapter="lvit", root=str(shared_data / "qata_cov19"), limit=limit, patient_ids="public"
        ),
    }
    config = IngestConfig(sources=sources, max_pixels=100_000_000, max_failed_fraction=0.0)
    for name in sources:
        ingest(name, config, folder / "ingest" / name, folder)
    split_config = parse(SplitConfig, SPLIT | {"allow_leaks": list(sources)}, "split")
    split(split_config, list(sources), folder / "ingest", folder / "split", folder)
    images = SPLIT_IMAGES.read(folder / "split" / "images.parquet")
    annotations = ANNOTATIONS.read(folder / "split" / "annotations.parquet")
    regions = [region for image in images for region in annotated_regions(image, annotations)]
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
                    "model": "tiny-qwen2.5-vl",
                    "temperature": 1.0,
                    "max_tokens": 350,  # cuts about half of the reports short, so that some images end rejected
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
        Sources(roots=config.roots(), max_pixels=config.max_pixels),
        folder / "split" / "images.parquet",
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


SPLIT = {
    "seed": 0,
    "fractions": {"train": 0.7, "validation": 0.08, "test": 0.22},
    "near_duplicates": {"max_distance": 48, "min_correlation": 0.93},
}


def annotated_regions(image: SplitImageRow, annotations: list[AnnotationRow]) -> list[RegionRow]:
    """The image's annotations as regions; those of every third image count as proposed and have no label."""
    proposed = int(image.image_id, 16) % 3 == 0
    rows = []
    for annotation in annotations:
        if annotation.image_id != image.image_id:
            continue
        assert annotation.mask is not None
        mask = decode(annotation.mask, image.height, image.width)
        x0, y0, x1, y1 = box_of_mask(mask)
        rows.append(
            RegionRow(
                region_id=f"{image.image_id}-{annotation.n}",
                image_id=image.image_id,
                source=image.source,
                n=annotation.n,
                role="input",
                proposer="saliency" if proposed else ANNOTATIONS_PROPOSER,
                label=None if proposed else annotation.label,
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
        )
    return rows


def test_every_item_ends_ok_or_rejected_with_a_reason(captioned: Captioned) -> None:
    images = {image.image_id for image in captioned.images}
    assert len(images) >= 60
    assert len(captioned.regions) >= 50
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


def test_cached_answers_that_were_accepted_fit_the_schema(captioned: Captioned) -> None:
    assert len(captioned.cached) == len(captioned.rows)
    accepted = [json.loads(value["content"]) for value in captioned.cached if value["reason"] is None]
    assert len(accepted) == captioned.summary["ok"]
    for answer in accepted:
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
