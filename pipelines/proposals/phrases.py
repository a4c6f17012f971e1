"""What a proposer that uses phrases looks for on an image.

The modality's list goes to every image. A training image adds its labels and the terms that its report contains (whole
words; a negated term too, for the detector sees for itself). Validation and test images never do: their labels and
reports are what methods are evaluated by, and a detector that knew them would have seen the answer.
"""

import re

from pipelines.proposals.config import ProposalsConfig
from pipelines.records import SplitImageRow


def phrases_of(image: SplitImageRow, config: ProposalsConfig) -> tuple[tuple[str, ...], bool]:
    """The phrases of one image, and whether they hold more than the modality's.

    Args:
        image: Its row.
        config: Phrases by modality, and terms.
    """
    general = _distinct(config.phrases.get(image.modality, []))
    if image.split != "train":
        return general, False
    own = [label for label in image.labels or [] if any(character.isalnum() for character in label)]
    reports = "\n".join((image.report or "", *image.other_reports))
    own += [term for term in config.terms if _mentions(reports, term)]
    phrases = _distinct([*general, *own])
    return phrases, len(phrases) > len(general)


def _mentions(report: str, term: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(term)}(?!\w)", report, re.IGNORECASE) is not None


def _distinct(phrases: list[str]) -> tuple[str, ...]:
    """Phrases in their order, of those that differ in case alone the first."""
    distinct: dict[str, str] = {}
    for phrase in phrases:
        distinct.setdefault(phrase.strip().lower(), phrase.strip())
    return tuple(distinct.values())
