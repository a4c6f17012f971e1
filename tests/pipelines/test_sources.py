"""`load_sources`: roots and the pixel limit of params.yaml, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.errors import UserError
from pipelines.sources import Sources, load_sources


def write_params(folder: Path, ingest: dict[str, Any]) -> Path:
    file = folder / "params.yaml"
    file.write_text(yaml.safe_dump({"ingest": ingest}, sort_keys=False))
    return file


def test_roots_keep_the_order_of_params_and_other_keys_are_not_read(tmp_path: Path) -> None:
    ingest = {
        "sources": {
            "scans": {"adapter": "table", "root": "data/raw/scans", "licence": "CC0-1.0"},
            "archive": {"adapter": "lvit", "root": "/mnt/archive.zip", "a_setting_of_tomorrow": 1},
        },
        "max_pixels": 10_000,
        "max_failed_fraction": 0.0,
    }
    sources = load_sources(write_params(tmp_path, ingest))
    assert sources == Sources(
        roots={"scans": Path("data/raw/scans"), "archive": Path("/mnt/archive.zip")}, max_pixels=10_000
    )
    assert list(sources.roots) == ["scans", "archive"]


@pytest.mark.parametrize(
    ("ingest", "message"),
    [
        ({"max_pixels": 1}, r"ingest\.sources: missing"),
        ({"sources": {}}, r"ingest\.max_pixels: missing"),
        ({"sources": ["scans"], "max_pixels": 1}, r"ingest\.sources holds \['scans'\]"),
        ({"sources": {"scans": {"adapter": "table"}}, "max_pixels": 1}, r"ingest\.sources\.scans\.root: missing"),
        ({"sources": {"scans": "data/raw"}, "max_pixels": 1}, r"ingest\.sources\.scans\.root: missing"),
        ({"sources": {}, "max_pixels": 0}, "max_pixels lies between 1 and 100000000"),
        ({"sources": {}, "max_pixels": 100_000_001}, "max_pixels lies between 1 and 100000000"),
        ({"sources": {}, "max_pixels": "many"}, r"ingest\.max_pixels: .*integer"),
    ],
)
def test_missing_or_wrong_values_are_refused_and_named(tmp_path: Path, ingest: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_sources(write_params(tmp_path, ingest))
