"""What speaks for a region: it decides the colour in which pages show it."""

from typing import Literal

from pipelines.records import ANNOTATIONS_PROPOSER, RegionRow

# certified: the guarantee of risk control covers it. given: the source annotated it, or a reviewer accepted or drew it.
# accepted: a score above a threshold, without a guarantee. truth: an annotation, for scores only.
Evidence = Literal["certified", "given", "accepted", "truth", "rejected"]


def evidence(region: RegionRow) -> Evidence:
    """What speaks for the region; rejected and failed ones have nothing for them."""
    if region.status != "accepted":
        return "rejected"
    if region.role == "truth":
        return "truth"
    if region.certified:
        return "certified"
    return "given" if region.proposer == ANNOTATIONS_PROPOSER or region.review is not None else "accepted"
