"""What people's answers say: the precision of accepted regions and of captions, with exact intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipelines.audit.config import AuditConfig
from pipelines.records import CaptionRow, RegionRow, SplitImageRow

ALL = "all"  # the stratum of the figure over all strata


@dataclass(frozen=True, kw_only=True)
class AuditFigure:
    """Precision of the regions or captions of one stratum, or of all of them.

    Attributes:
        what: regions or captions.
        stratum: "<source>, <modality>", or `ALL`.
        population: Items of the study that it is about.
        sampled: Items in the sample.
        n: Items with a current answer that counts; 0: not audited.
        correct: Items that people found correct.
        wrong: Items that they found wrong.
        unsure: Items that they could not decide, or disagreed on.
        outdated: Items whose answers are all about what they were before they changed.
        precision: correct / (correct + wrong), over all strata weighted by their sizes; None: nothing was decided.
        lowest: The same with `unsure` taken for wrong; None: n is 0.
        low: Lower end of the exact interval, `unsure` taken for wrong; None: n is 0.
        high: Upper end, `unsure` taken for correct; None: n is 0.
    """

    what: Literal["regions", "captions"]
    stratum: str
    population: int
    sampled: int
    n: int
    correct: int
    wrong: int
    unsure: int
    outdated: int
    precision: float | None
    lowest: float | None
    low: float | None
    high: float | None


def audit_figures(
    answers: Path,
    images: Sequence[SplitImageRow],
    regions: Sequence[RegionRow],
    captions: Sequence[CaptionRow],
    settings: AuditConfig,
) -> list[AuditFigure]:
    """The figures of regions, then of captions: first over all strata (`ALL`), then of each stratum.

    Args:
        answers: File of the answers.
        images: All images of the study.
        regions: All regions of the study.
        captions: All captions of the study.
        settings: Section `audit` of params.yaml.

    Raises:
        UserError: The file is missing, or a line of it is no answer.
    """
    raise NotImplementedError
