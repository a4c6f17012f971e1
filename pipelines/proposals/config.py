"""Settings of the stage `proposals`."""

from dataclasses import dataclass, field
from typing import Any

from pipelines.records import ANNOTATIONS_PROPOSER, MODALITIES


@dataclass(frozen=True, kw_only=True)
class ProposalsConfig:
    """Section `proposals` of params.yaml.

    Attributes:
        proposers: Plug-ins that never see the source's annotations. `annotations` always runs beside them, and alone
            where none is named: enough for methods that learn from outlines alone.
        segmenter: Gives the masks that the proposers leave out.
        labelled_images: Most annotated training images per modality on which the proposers run, to fit the joint score.
            They are the first by image_id, which is a hash; the others get their annotations alone.
        max_proposals: Proposals of one proposer for one image that are used, best score first; the rest is kept without
            a mask.
        phrases: What to look for, by modality.
        terms: Words of reports to look for on a training image whose report has them.
        batch_size: Images that a plug-in gets at once.
        gpus_per_worker: GPUs of each worker (section `workers`); fractions share one.
        max_failed_fraction: Largest fraction of the images that may fail before the stage does.
        options: Settings of the plug-ins, by their names.
    """

    proposers: list[str]
    segmenter: str
    labelled_images: int
    max_proposals: int
    phrases: dict[str, list[str]]
    terms: list[str]
    batch_size: int
    gpus_per_worker: float
    max_failed_fraction: float
    options: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(set(self.proposers)) < len(self.proposers):
            raise ValueError(f"proposers is {self.proposers}: name each once")
        if ANNOTATIONS_PROPOSER in self.proposers:
            raise ValueError(f"proposers: remove '{ANNOTATIONS_PROPOSER}', it always runs beside the others")
        for name in ("max_proposals", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: choose at least 1")
        for name in ("labelled_images", "gpus_per_worker"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}: choose at least 0")
        if not 0 <= self.max_failed_fraction <= 1:
            raise ValueError(f"max_failed_fraction is {self.max_failed_fraction}: choose a number from 0 to 1")
        if unknown := sorted(self.phrases.keys() - set(MODALITIES)):
            raise ValueError(f"phrases: {unknown} is no modality: choose from {', '.join(MODALITIES)}")
        for phrase in (*self.terms, *(phrase for phrases in self.phrases.values() for phrase in phrases)):
            if not any(character.isalnum() for character in phrase):
                raise ValueError(f"phrases and terms: {phrase!r} names nothing, remove it")
