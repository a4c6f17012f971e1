"""The snapshot of the caption table, and its inputs."""

from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import UserError
from pipelines.rebuild import snapshot
from pipelines.rebuild.snapshot import PROMPTS, changed_inputs
from pipelines.records import CAPTIONS, CaptionRow

INPUTS: dict[str, Any] = {PROMPTS: "code/prompts/one", "code": "a", "code/prompts/one": "b", "regions.parquet": "c"}


def write(project: Path, report: str) -> None:
    row = CaptionRow(
        item_id="0" * 16,
        image_id="0" * 16,
        source="alpha",
        kind="image",
        status="ok",
        report=report,
        oracle=False,
        captioner="findings",
        prompt_sha256="ab" * 32,
    )
    CAPTIONS.write(project / snapshot.CAPTION_TABLE, [row])


def test_first_table_stays_in_the_snapshot_until_the_rebuild_is_finished(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing to compare with"):
        snapshot.save(tmp_path, {})
    write(tmp_path, "first")
    assert not snapshot.save(tmp_path, INPUTS)
    write(tmp_path, "second")
    assert snapshot.save(tmp_path, {})
    (tmp_path / snapshot.CAPTION_TABLE).unlink()
    snapshot.require(tmp_path)
    rows, inputs = snapshot.load(tmp_path)
    assert ([row.report for row in rows], inputs) == (["first"], INPUTS)
    write(tmp_path, "third")
    snapshot.delete(tmp_path)
    assert not snapshot.save(tmp_path, {})
    assert [row.report for row in snapshot.load(tmp_path)[0]] == ["third"]


def test_inputs_that_a_prompt_does_not_explain_are_named() -> None:
    assert changed_inputs(INPUTS, INPUTS) == ([], [])
    # The prompts, and the folder that holds them.
    assert changed_inputs(INPUTS, {**INPUTS, "code": "x", "code/prompts/one": "y"})[1] == []
    other = {name: value for name, value in INPUTS.items() if name != "code/prompts/one"}
    # Another folder of prompts: two names for it, one removed, and the param.
    moved = {**other, PROMPTS: "code/prompts/two", "code/prompts/two": "b"}
    assert changed_inputs(INPUTS, moved) == (["code/prompts/one", "code/prompts/two", PROMPTS], [])
    changed = {**INPUTS, "regions.parquet": "x", "params.yaml: captions.seed": 1}
    assert changed_inputs(INPUTS, changed)[1] == ["params.yaml: captions.seed", "regions.parquet"]
    # The inputs of the table before are unknown.
    assert changed_inputs({}, INPUTS)[1] == ["regions.parquet"]
