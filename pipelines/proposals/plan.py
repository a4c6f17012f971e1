"""Which proposers run on which image, with which phrases, and under which key the result cache keeps their answers."""

from collections import defaultdict
from pathlib import Path
from typing import Any

from pipelines.errors import UserError
from pipelines.files import digest_of, sha256_file
from pipelines.proposals import candidates, overlap
from pipelines.proposals.annotator import Annotator, Task
from pipelines.proposals.config import ANNOTATIONS, ProposalsConfig
from pipelines.proposals.phrases import phrases_of
from pipelines.registry import names, plugin

# The modules beside the plug-ins that decide what a stored answer says.
_CODE = [sha256_file(Path(str(module.__file__))) for module in (candidates, overlap)]


def check_plugins(config: ProposalsConfig) -> None:
    """Refuse proposers that may not do what params ask of them, and options of plug-ins that do not exist.

    Raises:
        UserError: A name is unknown, or a proposer sees the annotations.
    """
    plugin("segmenters", config.segmenter)
    for name in config.proposers:
        if plugin("proposers", name).sees_annotations:
            raise UserError(
                f"proposals.proposers has '{name}', which reads the annotations that results are judged by: choose one "
                "that never sees them, such as saliency"
            )
    known = names("proposers").keys() | names("segmenters").keys()
    if unknown := sorted(config.options.keys() - known):
        raise UserError(f"proposals.options names no plug-in with {unknown}: choose from {', '.join(sorted(known))}")


def plan(images: list[dict[str, Any]], given: dict[str, list[dict[str, Any]]], config: ProposalsConfig) -> list[Task]:
    """One task an image, alike images together, so that a plug-in's batches hold images of one size and prompt.

    The order depends on the tables alone, never on what the store has.

    Args:
        images: Rows of `SPLIT_IMAGES`.
        given: Rows of `GIVEN_REGIONS` by image_id.
        config: Settings of the stage.

    Raises:
        UserError: A proposer uses phrases and params have none for a modality.
    """
    users = [name for name in config.proposers if plugin("proposers", name).uses_phrases]
    if users:
        for modality in sorted({image["modality"] for image in images}):
            if not config.phrases.get(modality):
                raise UserError(f"proposals.phrases.{modality}: name what {', '.join(users)} should look for")
    tasks = []
    labelled: dict[str, int] = defaultdict(int)
    for image in sorted(images, key=lambda image: image["image_id"]):
        drawn = given.get(image["image_id"], [])
        annotated = bool(drawn) or image["mask_path"] is not None or image["labels"] == []
        proposers = tuple(config.proposers)
        if image["split"] == "train" and annotated:
            labelled[image["modality"]] += 1
            if labelled[image["modality"]] > config.labelled_images:
                proposers = ()
        phrases, own = phrases_of(image, config)
        tasks.append(Task(image=image, given=drawn, proposers=proposers, phrases=phrases, own_phrases=own))
    return sorted(tasks, key=_alike)


class Keys:
    """The result cache's keys: digests of everything that decides an answer."""

    def __init__(self, annotator: Annotator) -> None:
        self._proposers = annotator.proposers
        self._identities = {name: proposer.identity for name, proposer in annotator.proposers.items()}
        self._common = [annotator.segmenter.identity, annotator.config.max_proposals, _CODE]

    def of(self, task: Task) -> dict[str, str]:
        """The key of each answer that may be needed for a task, by proposer."""
        keys = {}
        for name in (*task.proposers, ANNOTATIONS):
            image, proposer = task.image, self._proposers[name]
            boxes = any(row["x0"] is not None for row in task.given)
            # Annotations are read anew each time; only a segmenter's masks for boxes without one are worth keeping.
            if proposer.sees_annotations and not (boxes and image["split"] == "train"):
                continue
            keys[name] = digest_of(
                [
                    [image["sha256"], image["member"], image["frame"], image["modality"]],
                    self._identities[name],
                    task.phrases if proposer.uses_phrases else None,
                    repr(task.given) if proposer.sees_annotations else None,
                    self._common,
                ]
            )
        return keys


def _alike(task: Task) -> tuple[Any, ...]:
    image = task.image
    return image["modality"], task.phrases, image["width"], image["height"], image["image_id"]
