"""The gates on the data: nothing leaks into test, the dataset has its card, and the licences allow the use."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import pyarrow.parquet

from models.data.format import MANIFEST, ShardError, read_manifest
from models.verified import DamagedError, open_verified, verified_sha256
from pipelines.promotion.gates import Gate
from pipelines.promotion.licences import licence_faults
from pipelines.report.config import SourceTerms
from pipelines.shards.checks import table_digest

CARD = Path("data/report/dataset_card.md")
SPLIT = Path("data/split/images.parquet")
_IMAGES = Path("data/shards/images")


def data_gates(
    project: Path, trained_on: str | None, terms: Mapping[str, SourceTerms], use: str, licences: Mapping[str, list[str]]
) -> list[Gate]:
    """The gates `leaks`, `card` and `licences`.

    Args:
        project: Folder with data/.
        trained_on: SHA-256 of the manifest of the image shards that the candidate was trained on; None: it says none.
        terms: What params.yaml says of each source.
        use: What the model is for.
        licences: Use -> licences that allow it.
    """
    try:
        images = split_images(project / SPLIT)
    except (FileNotFoundError, DamagedError) as error:
        return [
            Gate(name="leaks", passed=False, text=_reason(error)),
            card_gate(project / CARD),
            Gate(name="licences", passed=False, text=f"which sources there are is not known: {_reason(error)}"),
        ]
    return [
        leak_gate(images, project, trained_on),
        card_gate(project / CARD),
        licence_gate(sorted(images["source"].unique()), terms, use, licences),
    ]


def _reason(error: Exception) -> str:
    return f"{error.filename} not found: run `dvc repro`" if isinstance(error, FileNotFoundError) else str(error)


def split_images(path: Path) -> pd.DataFrame:
    """The columns source, group, split and leak of the table `split images`."""
    with open_verified(path) as stream:
        return pyarrow.parquet.read_table(stream, columns=["source", "group", "split", "leak"]).to_pandas()


def leak_gate(images: pd.DataFrame, project: Path, trained_on: str | None) -> Gate:
    """Whether no group is in two splits, the shards are of this split, and the candidate was trained on these shards.

    Leaks of published splits that params allow pass, and are told.
    """
    name = "leaks"
    splits = images[~images["leak"]].groupby("group")["split"].nunique()
    leaking = int((splits > 1).sum())
    allowed = images[images["leak"]].groupby("source").size().to_dict()
    figures = {"leaking_groups": leaking, "allowed_images": int(sum(allowed.values()))}
    told = ", ".join(f"{source} {count}" for source, count in sorted(allowed.items()))
    told = f"; allowed leaks of published splits, in images: {told}" if told else ""
    if leaking:
        text = f"{leaking} groups are in more than one split{told}"
        return Gate(name=name, passed=False, text=text, figures=figures)
    try:
        same_split = read_manifest(project / _IMAGES).tables["images"] == table_digest(project / SPLIT)
        present = verified_sha256(project / _IMAGES / MANIFEST)
    except (ShardError, DamagedError) as error:
        return Gate(name=name, passed=False, text=str(error), figures=figures)
    if not same_split:
        text = f"{_IMAGES} was made from another {SPLIT} than the present one: run `dvc repro`"
        return Gate(name=name, passed=False, text=text, figures=figures)
    if trained_on != present:
        text = (
            "the candidate was trained on other image shards than the present ones, so that nothing shows which test "
            f"images it has seen: train it on these{told}"
        )
        return Gate(name=name, passed=False, text=text, figures=figures)
    return Gate(name=name, passed=True, text=f"no group is in two splits{told}", figures=figures)


def card_gate(card: Path) -> Gate:
    """Whether the dataset card is there, as it was written."""
    try:
        verified_sha256(card)
    except FileNotFoundError:
        return Gate(name="card", passed=False, text=f"there is no {CARD}: run `dvc repro report`")
    except DamagedError as error:
        return Gate(name="card", passed=False, text=str(error))
    return Gate(name="card", passed=True, text=f"{CARD} is there")


def licence_gate(
    sources: Sequence[str], terms: Mapping[str, SourceTerms], use: str, licences: Mapping[str, list[str]]
) -> Gate:
    """Whether the licence of every source is among those that allow the use; one that no use lists is unknown."""
    faults = licence_faults(sources, terms, use, licences)
    found = {source: terms[source].licence if source in terms else None for source in sources}
    allowed = ", ".join(f"{name} {licence}" for name, licence in found.items())
    text = "; ".join(faults.values()) or f"all allow the use {use}: {allowed}"
    return Gate(name="licences", passed=not faults, text=text, figures={"use": use, "refused": len(faults)})
