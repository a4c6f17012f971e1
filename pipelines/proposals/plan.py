"""Which proposers run on which image, with which phrases, and under which key the result cache keeps their answers."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.columns import Numbers, SortedValues
from pipelines.errors import UserError
from pipelines.files import digest_of
from pipelines.proposals.candidates import CANDIDATE_FORMAT
from pipelines.proposals.config import ProposalsConfig
from pipelines.proposals.phrases import phrases_of
from pipelines.proposals.runner import ProposalRunner, WorkItem
from pipelines.records import ANNOTATIONS_PROPOSER, AnnotationRow, SplitImageRow
from pipelines.registry import names, plugin
from pipelines.spill import Spill


def check_plugins(config: ProposalsConfig) -> None:
    """Refuse proposers that may not do what params ask of them, and options of plug-ins that do not exist.

    Raises:
        UserError: A name is unknown, or a proposer sees the annotations.
    """
    plugin("segmenters", config.segmenter)
    for name in config.proposers:
        if plugin("proposers", name).sees_annotations:
            raise UserError(
                f"proposals.proposers has '{name}', which reads the annotations that results are evaluated by: choose "
                "one that never sees them, such as saliency"
            )
    known = names("proposers").keys() | names("segmenters").keys()
    if unknown := sorted(config.options.keys() - known):
        raise UserError(f"proposals.options names no plug-in with {unknown}: choose from {', '.join(sorted(known))}")


class WorkPlan:
    """The work items of all images, which wait on the disk: one an image, alike images together.

    So a batch holds images of one size and prompt. The order depends on the tables alone, never on what the result
    cache has.

    Attributes:
        order: Which image each item is of: its index in the order of the ids.
        sources: Names of their sources.
    """

    def __init__(self, items: Spill[WorkItem], order: NDArray[np.int64], sources: frozenset[str]) -> None:
        self._items = items
        self.order = order
        self.sources = sources

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[WorkItem]:
        return (self._items[int(index)] for index in self.order)


def plan(
    images: Iterable[tuple[SplitImageRow, list[AnnotationRow]]], config: ProposalsConfig, folder: Path
) -> WorkPlan:
    """The work items.

    Args:
        images: All images in the order of their ids, each with its annotations.
        config: Settings of the stage.
        folder: Where the items wait.

    Raises:
        UserError: A proposer uses phrases and params have none for a modality.
    """
    items: Spill[WorkItem] = Spill(folder)
    likeness = _Likeness()
    sources: set[str] = set()
    modalities: set[str] = set()
    labelled: Counter[str] = Counter()
    for image, annotations in images:
        item = _item(image, annotations, config)
        if image.split == "train" and item.is_annotated:
            labelled[image.modality] += 1
            if labelled[image.modality] > config.labelled_images:
                item = replace(item, proposers=())
        items.add(item)
        likeness.add(item)
        sources.add(image.source)
        modalities.add(image.modality)
    users = [name for name in config.proposers if plugin("proposers", name).uses_phrases]
    for modality in sorted(modalities) if users else ():
        if not config.phrases.get(modality):
            raise UserError(f"proposals.phrases.{modality}: name what {', '.join(users)} should look for")
    return WorkPlan(items, likeness.order(), frozenset(sources))


def _item(image: SplitImageRow, annotations: list[AnnotationRow], config: ProposalsConfig) -> WorkItem:
    phrases, own_phrases = phrases_of(image, config)
    return WorkItem(
        image=image,
        annotations=sorted(annotations, key=lambda row: row.n),
        proposers=tuple(config.proposers),
        phrases=phrases,
        own_phrases=own_phrases,
    )


class Keys:
    """The result cache's keys: digests of everything that decides an answer."""

    def __init__(self, runner: ProposalRunner) -> None:
        self._proposers = runner.proposers
        self._identities = {name: proposer.identity for name, proposer in runner.proposers.items()}
        self._common = [runner.segmenter.identity, runner.config.max_proposals, CANDIDATE_FORMAT]

    def of(self, item: WorkItem) -> dict[str, str]:
        """The key of each answer that may be needed for an item, by proposer."""
        keys = {}
        for name in (*item.proposers, ANNOTATIONS_PROPOSER):
            image, proposer = item.image, self._proposers[name]
            has_boxes = any(row.box is not None for row in item.annotations)
            # Annotations are read anew each time; only a segmenter's masks for boxes without one are worth keeping.
            if proposer.sees_annotations and not (has_boxes and image.split == "train"):
                continue
            annotations = [[row.label, row.adjective, row.box, row.mask] for row in item.annotations]
            keys[name] = digest_of(
                [
                    [*image.pixel_key, image.modality],
                    self._identities[name],
                    item.phrases if proposer.uses_phrases else None,
                    annotations if proposer.sees_annotations else None,
                    self._common,
                ]
            )
        return keys


class _Likeness:
    """What puts alike images together: modality, phrases, size, and the file of a volume's slices."""

    def __init__(self) -> None:
        self._modalities, self._phrases = SortedValues[str](), SortedValues[tuple[str, ...]]()
        self._sizes = Numbers(width="i", height="i")
        self._files = SortedValues[tuple[str, ...]]()

    def add(self, item: WorkItem) -> None:
        image = item.image
        self._modalities.append(image.modality)
        self._phrases.append(item.phrases)
        self._sizes.append(width=image.width, height=image.height)
        # Slices stand together, so that their volume is opened once.
        self._files.append(() if image.frame is None else (image.source, image.path, image.member or ""))

    def order(self) -> NDArray[np.int64]:
        """Indices of the items, alike ones together; the former comes first among equals."""
        _, modalities = self._modalities.finish()
        _, phrases = self._phrases.finish()
        _, files = self._files.finish()
        sizes = self._sizes.arrays()
        return np.lexsort((files, sizes["height"], sizes["width"], phrases, modalities))
