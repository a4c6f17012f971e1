"""Stage `shards`: the dataset as WebDataset tars, one family for pixels and one for texts.

Reads: data/split/images.parquet, data/regions/regions.parquet and the sources' own image files (`images`);
    data/captions/captions.parquet, data/split/questions.parquet and data/shards/images/ (`captions`).
Writes: data/shards/images/, data/shards/captions/ (tars, and manifest.json last), links to the tars for the next run in
    data/cache/tars/,
    data/summaries/image_shards.json, data/summaries/caption_shards.json.
Run alone: `python -m pipelines.shards images`, then `python -m pipelines.shards captions`.

docs/architecture.md, "Shards", has the format. The same tables, pixels and settings give the same bytes.
"""

from pathlib import Path

from pipelines import config
from pipelines.code.fingerprint import fingerprint_digest
from pipelines.errors import UserError
from pipelines.files import digest_of
from pipelines.formats.libraries import library_versions
from pipelines.shards import captions, images
from pipelines.shards.config import ShardsConfig
from pipelines.shards.earlier import EARLIER_TARS, EarlierTars
from pipelines.sources import load_sources
from pipelines.workers.config import load_workers

SPLIT_TABLE = Path("data/split/images.parquet")
QUESTION_TABLE = Path("data/split/questions.parquet")
REGION_TABLE = Path("data/regions/regions.parquet")
CAPTION_TABLE = Path("data/captions/captions.parquet")
IMAGE_SHARDS = Path("data/shards/images")
CAPTION_SHARDS = Path("data/shards/captions")


def main(family: str) -> None:
    if family == "images":
        settings = config.load(ShardsConfig, "shards")
        tables = (SPLIT_TABLE, REGION_TABLE)
        earlier = _earlier("image_shards")
        images.run(settings, load_sources(), *tables, IMAGE_SHARDS, workers=load_workers(), earlier=earlier)
    elif family == "captions":
        earlier = _earlier("caption_shards")
        captions.run(CAPTION_TABLE, QUESTION_TABLE, IMAGE_SHARDS, CAPTION_SHARDS, earlier=earlier)
    else:
        raise UserError(f"'{family}' is no family of shards: choose images or captions")


def _earlier(stage: str) -> EarlierTars | None:
    """What the run before left; None where nothing says which code that was."""
    code = fingerprint_digest(stage)
    if code is None:
        return None
    # Tars of two encoders in one data set would be nobody's wish.
    return EarlierTars(EARLIER_TARS / stage, digest_of([code, library_versions()]))
