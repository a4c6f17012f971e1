"""Settings of the stage `captions`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pipelines.chat.budget import Budget
from pipelines.records import MODALITIES


@dataclass(frozen=True, kw_only=True)
class Modality:
    """How images of one modality are spoken of.

    Attributes:
        name: What a caption calls such an image, at most four words. Say `chest radiograph` only where all are.
        side: Whose left and right positions name: `image`, or `patient`, which takes effect on frontal views alone
            (the patient faces the viewer, so that his left is the image's right). Lateral and unknown views keep the
            image's sides. Where a source's own convention is known (column `sides`), that one holds instead.
    """

    name: str
    side: Literal["image", "patient"]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Area fractions (0 to 1) that separate small from medium and medium from large regions."""

    medium: float
    large: float

    def __post_init__(self) -> None:
        if not 0 < self.medium < self.large < 1:
            raise ValueError("choose fractions with 0 < medium < large < 1")


@dataclass(frozen=True, kw_only=True)
class CaptionsConfig:
    """Section `captions` of params.yaml.

    Attributes:
        captioner: Plug-in that writes the texts.
        prompts: Folder of the captioner's prompt files.
        seed: Decides whatever the captioner draws at random, such as the adjectives of negatives or a model's samples.
        sizes: What counts as medium and large.
        modalities: One entry for each of `pipelines.records.MODALITIES`.
        max_failed_fraction: Largest fraction of items (0 to 1) that may fail before the stage does.
        budget: Where a run stops asking, for a captioner that sends requests.
        options: Settings of the captioners, by their names.
    """

    captioner: str
    prompts: Path
    seed: int
    sizes: Sizes
    modalities: dict[str, Modality]
    max_failed_fraction: float
    budget: Budget = field(default_factory=Budget)
    options: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if missing := [name for name in MODALITIES if name not in self.modalities]:
            raise ValueError(f"modalities lacks {', '.join(missing)}: give each a name and a side")
        if unknown := sorted(self.modalities.keys() - set(MODALITIES)):
            raise ValueError(f"modalities has no {', '.join(unknown)}: valid are {', '.join(MODALITIES)}")
        if not 0 <= self.max_failed_fraction <= 1:
            raise ValueError(f"max_failed_fraction is {self.max_failed_fraction}: choose a number from 0 to 1")
