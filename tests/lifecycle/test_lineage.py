"""`flows.lineage` in a study whose runs are on a server: all as it was, then a changed prompt, then back."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.lifecycle.study import run

# The first test of a worker makes the study, too.
pytestmark = [pytest.mark.lifecycle, pytest.mark.timeout(900)]


def stages(project: Path) -> dict[str, dict[str, Any]]:
    # Messages on standard error come before it.
    text = run(sys.executable, "-m", "flows.lineage", "1", "--json", cwd=project)
    found = json.loads(text[text.index("{\n") :])
    assert (found["fault"], found["checkpoint"]["fault"]) == (None, None)
    return {stage["stage"]: stage for stage in found["stages"]}


def not_the_same(found: dict[str, dict[str, Any]]) -> dict[str, list[str]]:
    files = {
        name: [file["path"] for file in stage["files"] if file["state"] != "same"] for name, stage in found.items()
    }
    return {name: paths for name, paths in files.items() if paths or not found[name]["same"]}


def test_a_changed_prompt_and_its_captions_are_named(fresh_study: Path) -> None:
    found = stages(fresh_study)
    assert not_the_same(found) == {}
    assert {"split", "proposals", "regions", "captions", "caption_shards", "image_shards"} <= set(found)
    assert found["ingest@phantom"]["licence"] == "Apache-2.0"
    assert found["captions"]["files"][0]["then"]["rows"]["captions"] > 300

    prompt = fresh_study / "prompts/findings/region.txt"
    # Each row has the digest of the prompts that decided it, so that any change of them shows in the table.
    prompt.write_text(prompt.read_text() + "\n")
    run("dvc", "repro", "captions", cwd=fresh_study)
    found = stages(fresh_study)
    assert not_the_same(found) == {"captions": ["data/captions", "prompts/findings"]}
    table, prompts = found["captions"]["files"]
    assert table["then"]["sha256"] != table["now"]["sha256"]
    assert (table["cached"], prompts["members"]) == (True, {"region.txt": "changed"})

    text = run(sys.executable, "-m", "flows.lineage", "1", cwd=fresh_study)
    assert "prompts/findings (not made by a stage) changed" in text

    run("git", "checkout", "--quiet", ".", cwd=fresh_study)
    run("dvc", "checkout", cwd=fresh_study)
    assert not_the_same(stages(fresh_study)) == {}
