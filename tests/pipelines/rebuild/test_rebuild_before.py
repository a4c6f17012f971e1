"""The table that is kept aside, and what it was made from."""

from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import UserError
from pipelines.rebuild import before
from pipelines.rebuild.before import PROMPTS, changed_inputs
from pipelines.records import CAPTIONS

INPUTS: dict[str, Any] = {PROMPTS: "code/prompts/one", "code": "a", "code/prompts/one": "b", "regions.parquet": "c"}


def write(project: Path, report: str) -> None:
    same = {"item_id": "0" * 16, "image_id": "0" * 16, "source": "alpha", "kind": "image", "status": "ok"}
    made = {"oracle": False, "captioner": "findings", "prompt_sha256": "ab" * 32}
    CAPTIONS.write(CAPTIONS.frame([{**same, **made, "report": report}]), project / before.CAPTION_TABLE)


def test_the_first_table_is_kept_until_the_rebuild_is_finished(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing to compare with"):
        before.keep(tmp_path, {})
    write(tmp_path, "first")
    assert not before.keep(tmp_path, INPUTS)
    write(tmp_path, "second")
    assert before.keep(tmp_path, {})
    (tmp_path / before.CAPTION_TABLE).unlink()
    before.require(tmp_path)
    table, inputs = before.read(tmp_path)
    assert (table["report"].tolist(), inputs) == (["first"], INPUTS)
    write(tmp_path, "third")
    before.forget(tmp_path)
    assert not before.keep(tmp_path, {})
    assert before.read(tmp_path)[0]["report"].tolist() == ["third"]


def test_inputs_that_a_prompt_does_not_explain_are_named() -> None:
    assert changed_inputs(INPUTS, INPUTS) == ([], [])
    # The prompts, and the folder that holds them.
    assert changed_inputs(INPUTS, {**INPUTS, "code": "x", "code/prompts/one": "y"})[1] == []
    other = {name: value for name, value in INPUTS.items() if name != "code/prompts/one"}
    # Another folder of prompts: two names for it, one gone, and the param.
    moved = {**other, PROMPTS: "code/prompts/two", "code/prompts/two": "b"}
    assert changed_inputs(INPUTS, moved) == (["code/prompts/one", "code/prompts/two", PROMPTS], [])
    changed = {**INPUTS, "regions.parquet": "x", "params.yaml: captions.seed": 1}
    assert changed_inputs(INPUTS, changed)[1] == ["params.yaml: captions.seed", "regions.parquet"]
    # Nobody knows what the table before was made from.
    assert changed_inputs({}, INPUTS)[1] == ["regions.parquet"]
