"""A server that goes wrong costs no caption, and no memory."""

from pathlib import Path

import pytest
from fault_parts import caption_requests


@pytest.mark.slow
def test_every_caption_arrives_once(tmp_path: Path) -> None:
    row = caption_requests.trial(tmp_path, 0, 200)
    assert row.outcome == "ok", row
    assert row.equal_bytes
    assert "another model 1" in row.detail
