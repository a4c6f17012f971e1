"""Which proposers run on which image, with which phrases, and under which key the result cache keeps their answers."""

from collections import defaultdict
from dataclasses import replace
from typing import Any

from pipelines.errors import UserError
from pipelines.files import digest_of
from pipelines.proposals.candidates import CANDIDATE_FORMAT
from pipelines.proposals.config import ProposalsConfig
from pipelines.proposals.phrases import phrases_of
from pipelines.proposals.runner import ProposalRunner, WorkItem
from pipelines.records import ANNOTATIONS_PROPOSER, AnnotationRow, SplitImageRow
from pipelines.registry import names, plugin


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


def plan(
    images: list[SplitImageRow], annotations: dict[str, list[AnnotationRow]], config: ProposalsConfig
) -> list[WorkItem]:
    """One work item for each image, alike images together, so that a batch holds images of one size and prompt.

    The order depends on the tables alone, never on what the result cache has.

    Args:
        images: All images.
        annotations: Their annotations by image_id.
        config: Settings of the stage.

    Raises:
        UserError: A proposer uses phrases and params have none for a modality.
    """
    users = [name for name in config.proposers if plugin("proposers", name).uses_phrases]
    if users:
        for modality in sorted({image.modality for image in images}):
            if not config.phrases.get(modality):
                raise UserError(f"proposals.phrases.{modality}: name what {', '.join(users)} should look for")
    items = []
    labelled: dict[str, int] = defaultdict(int)
    for image in sorted(images, key=lambda image: image.image_id):
        phrases, own_phrases = phrases_of(image, config)
        item = WorkItem(
            image=image,
            annotations=annotations.get(image.image_id, []),
            proposers=tuple(config.proposers),
            phrases=phrases,
            own_phrases=own_phrases,
        )
        if image.split == "train" and item.is_annotated:
            labelled[image.modality] += 1
            if labelled[image.modality] > config.labelled_images:
                item = replace(item, proposers=())
        items.append(item)
    return sorted(items, key=_likeness)


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


def _likeness(item: WorkItem) -> tuple[Any, ...]:
    image = item.image
    # Slices stand together, so that their volume is opened once.
    file = () if image.frame is None else (image.source, image.path, image.member or "")
    return image.modality, item.phrases, image.width, image.height, file, image.image_id
