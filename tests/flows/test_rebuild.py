"""The flow on a small real graph: the project's own stages for captions and shards, a real Prefect server."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL

from flows.rebuild import PAGE, main, rebuild
from models.verified import sha256_file
from pipelines.errors import UserError
from pipelines.masks import encode
from pipelines.rebuild.snapshot import CAPTION_TABLE, SNAPSHOT
from pipelines.records import (
    ANNOTATIONS_PROPOSER,
    CAPTIONS,
    REGIONS,
    SPLIT_IMAGES,
    SPLIT_QUESTIONS,
    CaptionRow,
    RegionRow,
    SplitImageRow,
)
from tests.conftest import dvc
from tests.fingerprints import write_fingerprint
from tests.rows import by_image

# Half-way, DVC has emptied data/captions and the stage has not written it: there a file `kill` ends the flow.
GRAPH = """
stages:
  image_shards:
    cmd: python -m pipelines.shards images
    deps: [data/split/images.parquet, data/regions/regions.parquet]
    params: [shards]
    outs: [data/shards/images]
  captions:
    cmd: "if [ -e kill ]; then kill -9 $(cat kill); exit 1; fi; python -m pipelines.captions"
    deps: [data/split/images.parquet, data/regions/regions.parquet, prompts]
    params: [captions]
    outs: [data/captions]
    metrics: [data/summaries/captions.json]
  caption_shards:
    cmd: python -m pipelines.shards captions
    deps: [data/captions/captions.parquet, data/shards/images/manifest.json]
    outs: [data/shards/captions]
  report:
    cmd: exit 1
    deps: [data/shards/captions]
    outs: [data/report]
"""
SHARDS = Path("data/shards/captions/manifest.json")
REGION = Path("prompts/region.txt")
FIELDS = ("region_caption", "adjective", "negatives")


@pytest.fixture(autouse=True)
def _code(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The stages run in the project's folder with the code of this checkout.
    monkeypatch.setenv("PYTHONPATH", str(repository))


@pytest.fixture
def project(dvc_project: Callable[[str], Path], repository: Path) -> Path:
    """Four images of two sources, each with a region that its source named."""
    folder = dvc_project(GRAPH)
    shutil.copytree(repository / "prompts/findings", folder / "prompts")
    (folder / "keys").mkdir()
    params = yaml.safe_load((repository / "params.yaml").read_text())
    params["captions"] |= {"captioner": "findings", "prompts": "prompts"}
    sources = {name: {"adapter": "table", "root": f"data/raw/{name}"} for name in ("alpha", "beta")}
    params["ingest"] |= {"sources": sources}
    (folder / "params.yaml").write_text(
        yaml.safe_dump({key: params[key] for key in ("ingest", "captions", "shards", "workers")})
    )
    mask = np.zeros((40, 60), dtype=bool)
    mask[5:15, 5:20] = True
    images, regions = [], []
    for number in range(4):
        source = ("alpha", "beta")[number % 2]
        path = folder / "data/raw" / source / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((40, 60), 50 * number, dtype=np.uint8)).save(path)
        sha = sha256_file(path)
        images.append(
            SplitImageRow(
                image_id=sha[:16],
                source=source,
                path=path.name,
                sha256=sha,
                pixel_sha256=sha,
                perceptual_hash=sha,
                width=60,
                height=40,
                modality="ct",
                split_conflict=False,
                labels=("nodule",),
                rows=1,
                group=sha[:16],
                split="train",
                leak=False,
            )
        )
        regions.append(
            RegionRow(
                region_id=f"{sha[:16]}-0",
                image_id=sha[:16],
                source=source,
                n=0,
                role="input",
                proposer=ANNOTATIONS_PROPOSER,
                label="nodule",
                x0=5.0,
                y0=5.0,
                x1=20.0,
                y1=15.0,
                mask=encode(mask),
                area=150,
                area_fraction=150 / 2400,
                score=1.0,
                certified=False,
                status="accepted",
            )
        )
    for stage in ("image_shards", "captions", "caption_shards"):
        write_fingerprint(folder, stage, "pipelines.captions" if stage == "captions" else "pipelines.shards")
    SPLIT_IMAGES.write(folder / "data/split/images.parquet", by_image(images))
    SPLIT_QUESTIONS.write(folder / "data/split/questions.parquet", [])
    REGIONS.write(folder / "data/regions/regions.parquet", by_image(regions))
    return folder


def captions(project: Path) -> dict[str, CaptionRow]:
    return {row.item_id: row for row in CAPTIONS.read(project / CAPTION_TABLE)}


def published(state: Any) -> dict[str, Any]:
    async def read() -> dict[str, Any]:
        async with get_client() as client:
            flow_run = state.state_details.flow_run_id
            return {one.key: one.data for one in await client.read_artifacts() if one.flow_run_id == flow_run}

    return asyncio.run(read())


def counts(state: Any) -> dict[str, Any]:
    return {row["what"]: row["value"] for row in json.loads(published(state)["rebuild"])}


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_server")
def test_changed_prompt_kill_revert_and_broken_prompt_are_compared_with_the_first_table(
    project: Path, capsys: pytest.CaptureFixture
) -> None:
    dvc(project, "repro", "caption_shards")
    first, shards, table = captions(project), sha256_file(project / SHARDS), sha256_file(project / CAPTION_TABLE)
    images = {path: path.stat().st_mtime_ns for path in (project / "data/shards/images").rglob("*")}
    original = (project / REGION).read_text()
    (project / REGION).write_text(original.replace("{{ adjective }}", "{{ size }} {{ adjective }}"))

    # Killed while the stage ran: the table is missing, the snapshot is there.
    server = {**os.environ, "PREFECT_API_URL": PREFECT_API_URL.value()}
    # The shell writes its own id, then becomes the flow.
    killed = ["sh", "-c", f"echo $$ > kill; exec {sys.executable} -m flows.rebuild"]
    done = subprocess.run(killed, cwd=project, env=server, capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (project / CAPTION_TABLE).exists()
    assert sha256_file(project / SNAPSHOT / CAPTION_TABLE.name) == table
    (project / "kill").unlink()

    # The next one compares with the table before the first, and only regions differ from it.
    state = rebuild(str(project), return_state=True)
    assert state.is_completed(), state.message
    after = captions(project)
    assert after.keys() == first.keys()
    for item, row in after.items():
        changed = {name for name in CAPTIONS.columns if getattr(row, name) != getattr(first[item], name)}
        assert changed == ({*FIELDS, "prompt_sha256"} if row.kind == "region" else set())
    assert "captions rebuilt: 4 changed, 4 unchanged, 0 added, 0 removed" in state.message
    shown = counts(state)
    assert {name: shown[name] for name in shown if name not in ("sent", "reused")} == {
        "before": 8,
        "after": 8,
        "unchanged": 4,
        "changed": 4,
        "added": 0,
        "removed": 0,
        **{f"changed: {field}": 4 for field in FIELDS},
    }
    summary = json.loads((project / "data/summaries/captions.json").read_text())
    assert shown["sent"] == summary.get("sent", "not counted")
    assert "http://127.0.0.1:5080/rebuild/index.html" in published(state)["rebuild-page"]
    page = (project / PAGE).read_text()
    assert "an earlier rebuild that did not finish" in page
    assert "Inputs of the stage captions that changed: prompts." in page
    assert "Not only the prompts" not in page
    assert page.count('<figure class="card">') == 4
    assert sha256_file(project / SHARDS) != shards
    assert {path: path.stat().st_mtime_ns for path in images} == images
    assert not (project / SNAPSHOT).exists()
    assert not (project / "data/report").exists()

    # Back: DVC still has the first table, and nothing is sent.
    (project / REGION).write_text(original)
    state = rebuild(str(project), return_state=True)
    assert state.is_completed(), state.message
    assert sha256_file(project / CAPTION_TABLE) == table
    assert sha256_file(project / SHARDS) == shards
    assert (counts(state)["sent"], counts(state)["changed"]) == (0, 4)
    assert "did not run: DVC had its outputs" in (project / PAGE).read_text()

    # A prompt that is no template fails; with the original one everything is the same again.
    (project / REGION).write_text("{{ adjective")
    with pytest.raises(UserError, match=r"failed: captions; not run, .*: caption_shards; the captions .* are in data"):
        main("--project", str(project))
    assert sha256_file(project / SNAPSHOT / CAPTION_TABLE.name) == table
    (project / REGION).write_text(original)
    main("--project", str(project), "--examples", "0")
    assert "nothing changed: all 8 captions are the same" in capsys.readouterr().out


def test_missing_captions_or_stage_is_one_line(project: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(UserError, match=r"captions.parquet not found, so there is nothing to compare with: [^\n]*$"):
        main("--project", str(project))
    (project / "dvc.yaml").write_text("stages: {}\n")
    with pytest.raises(UserError, match="no stage 'caption_shards'"):
        main("--project", str(project))
    with pytest.raises(SystemExit):
        main("--help")
    assert "--examples" in capsys.readouterr().out
