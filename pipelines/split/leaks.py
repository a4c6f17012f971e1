"""The gate against leaks: published splits that part one patient or one image."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.errors import UserError
from pipelines.records import SPLITS
from pipelines.split.assign import mixed_groups
from pipelines.split.rows import image_id

SHOWN = 2  # leaking groups that the error message names, of each combination of sources


def in_several_splits(claims: pd.DataFrame) -> NDArray[np.uint64]:
    """Images that one source, or two sources between them, publish in several splits."""
    of_images = claims[~claims["of_question"]]
    return mixed_groups(of_images.assign(group=of_images["image"]))


def refuse_leaks(claims: pd.DataFrame, sources: Sequence[str], allowed: Sequence[str], pairs: Path) -> None:
    """Fail where the published splits of the sources that are not allowed to leak contradict each other.

    Args:
        claims: As of `pipelines.split.assign.claims_of`.
        sources: Names of the sources.
        allowed: Those that may leak.
        pairs: The table of near-duplicates, for the message.

    Raises:
        UserError: They do; the message names some images.
    """
    claims = claims[~claims["source"].isin([sources.index(name) for name in allowed])]
    leaks = mixed_groups(claims)
    if not len(leaks):
        return
    claims = claims[claims["group"].isin(leaks)]
    claims = claims.assign(
        image_id=claims["image"].map(image_id),
        source=[sources[place] for place in claims["source"]],
        split=np.array([*SPLITS, None], dtype=object)[claims["split"]],
    )
    alike: dict[str, list[str]] = {}
    for _, group in claims.groupby("group"):
        alike.setdefault(" and ".join(sorted(group["source"].unique())), []).append(_leak_text(group))
    found = "; ".join(f"{len(texts)} in {where}, such as {', '.join(texts[:SHOWN])}" for where, texts in alike.items())
    raise UserError(
        f"split: leaks (one patient or one image in more than one published split): {len(leaks)}, {found}. "
        "To keep the published splits and have the leaks counted, add the sources that may leak to split.allow_leaks; "
        f"{pairs} lists the near-duplicates"
    )


def _leak_text(group: pd.DataFrame) -> str:
    """One image for each published split of a leaking group."""
    if group["split_conflict"].any():
        first = group[group["split_conflict"]].sort_values("image_id", kind="stable").iloc[0]
        return f"{first['image_id']} ({first['source']} lists it in several splits)"
    ends = group.sort_values(["split", "source", "image_id"]).drop_duplicates("split")
    return " with ".join(f"{end.image_id} ({end.source} {end.split})" for end in ends.itertuples())
