"""A batch of images: opened, put before the plug-ins, and turned into rows of `PROPOSALS`.

It knows no store and no other batch, so that it works in this process and in a Ray actor alike.
"""

import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from pipelines.errors import Rejected, UserError, disk_fault
from pipelines.images import open_image
from pipelines.proposals.candidates import Candidate, awaits_mask, best_first, candidate, set_segment
from pipelines.proposals.config import ANNOTATIONS, ProposalsConfig
from pipelines.proposals.given import read_given
from pipelines.proposals.overlap import box_of_row, truth_ious
from pipelines.proposals.protocols import Proposer, Query, Segmenter
from pipelines.registry import plugin

Answers = dict[str, list[Candidate]]


@dataclass(frozen=True, kw_only=True)
class Task:
    """One image and what is asked about it.

    Attributes:
        image: Row of `SPLIT_IMAGES`.
        given: Its rows of `GIVEN_REGIONS`.
        proposers: Which of the configured proposers run on it.
        phrases: For those that use phrases.
        own_phrases: The phrases hold more than the modality's.
        stored: Earlier answers by proposer, from the result cache. Under `annotations` they hold what the source drew
            with the segmenter's masks in place of missing ones.
    """

    image: dict[str, Any]
    given: list[dict[str, Any]]
    proposers: tuple[str, ...]
    phrases: tuple[str, ...]
    own_phrases: bool
    stored: Answers = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one image.

    Attributes:
        rows: Rows of `PROPOSALS`.
        fresh: New answers by proposer, to be stored.
        failed: Reason; None where the image was read and every plug-in answered.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    fresh: Answers = field(default_factory=dict)
    failed: str | None = None


@dataclass(frozen=True, kw_only=True)
class _Opened:
    """An image in memory.

    Attributes:
        drawn: What the source drew, in its order; the source's own masks alone.
        annotated: Somebody looked at the image and drew what there is, or said that there is nothing.
    """

    task: Task
    pixels: Image.Image
    drawn: list[Candidate]
    annotated: bool


class Annotator:
    """Asks the plug-ins, which are built once.

    Args:
        config: Settings of the stage; the names in it are known to the registry.
        roots: Folder or archive of each source.
    """

    def __init__(self, config: ProposalsConfig, roots: dict[str, Path]) -> None:
        self.config = config
        self.roots = roots
        self.proposers: dict[str, Proposer] = {
            name: plugin("proposers", name)(config.options.get(name, {})) for name in (*config.proposers, ANNOTATIONS)
        }
        self.segmenter: Segmenter = plugin("segmenters", config.segmenter)(config.options.get(config.segmenter, {}))

    def __call__(self, tasks: Sequence[Task]) -> list[Outcome]:
        """One outcome a task, in their order."""
        outcomes: dict[int, Outcome] = {}
        opened: dict[int, _Opened] = {}
        for place, task in enumerate(tasks):
            try:
                opened[place] = self._open(task)
            except Rejected as error:
                outcomes[place] = Outcome(failed=error.reason)
            except OSError as error:
                outcomes[place] = Outcome(failed=disk_fault(error))
        outcomes.update(zip(opened, self._answer(list(opened.values())), strict=True))
        return [outcomes[place] for place in range(len(tasks))]

    def _open(self, task: Task) -> _Opened:
        image = task.image
        root = self.roots[image["source"]]
        pixels = open_image(root, image["path"], image["member"], image["frame"])
        if pixels.size != (image["width"], image["height"]):
            raise Rejected("size_changed", f"{pixels.width} x {pixels.height} pixels")
        given = read_given(root, image, task.given)
        query = Query(modality=image["modality"], given=given)
        (proposals,) = self.proposers[ANNOTATIONS].propose([pixels], [query])
        drawn = [candidate(proposal, *pixels.size) for proposal in proposals]
        return _Opened(task=task, pixels=pixels, drawn=drawn, annotated=bool(given) or image["labels"] == [])

    def _answer(self, opened: list[_Opened]) -> Iterator[Outcome]:
        """Ask about all images at once; where that fails, image by image, so that only those at fault fail."""
        try:
            fresh = self._ask(opened)
        except UserError:
            raise
        except Exception as error:  # noqa: BLE001 - a model may raise anything, and one image must not end a long run
            fault = _reason(error)
            if len(opened) == 1:
                traceback.print_exc(file=sys.stderr)
        else:
            for item, answers in zip(opened, fresh, strict=True):
                yield Outcome(rows=self._rows(item, answers), fresh=answers)
            return
        # Behind the handler, where the traceback no longer holds the failed batch's tensors.
        if len(opened) == 1:
            yield Outcome(failed=fault)
        else:
            for item in opened:
                yield from self._answer([item])

    def _ask(self, opened: list[_Opened]) -> list[Answers]:
        """What the store did not have: answers by proposer, an image each, with masks."""
        fresh: list[Answers] = [{} for _ in opened]
        for name in self.config.proposers:
            proposer = self.proposers[name]
            asked = [
                place
                for place, item in enumerate(opened)
                if name in item.task.proposers and name not in item.task.stored
            ]
            if not asked:
                continue
            queries = [
                Query(
                    modality=opened[place].task.image["modality"],
                    phrases=opened[place].task.phrases if proposer.uses_phrases else (),
                )
                for place in asked
            ]
            answers = proposer.propose([opened[place].pixels for place in asked], queries)
            for place, proposals in zip(asked, answers, strict=True):
                size = opened[place].pixels.size
                found = (candidate(proposal, *size) for proposal in proposals)
                fresh[place][name] = best_first(found, self.config.max_proposals)
        for item, new in zip(opened, fresh, strict=True):
            # Truth is never given a mask that nobody drew; on training images a method may see, and needs, one.
            may_see = item.task.image["split"] == "train" and ANNOTATIONS not in item.task.stored
            if may_see and any(awaits_mask(found) for found in item.drawn):
                new[ANNOTATIONS] = [dict(found) for found in item.drawn]
        self._segment(opened, fresh)
        return fresh

    def _segment(self, opened: list[_Opened], fresh: list[Answers]) -> None:
        """Masks for all new candidates without one."""
        waiting = [
            (item.pixels, missing)
            for item, answers in zip(opened, fresh, strict=True)
            if (missing := [found for candidates in answers.values() for found in candidates if awaits_mask(found)])
        ]
        if not waiting:
            return
        boxes = [[box_of_row(found) for found in missing] for _, missing in waiting]
        answers = self.segmenter.segment([pixels for pixels, _ in waiting], boxes)
        for (pixels, missing), segments in zip(waiting, answers, strict=True):
            for found, segment in zip(missing, segments, strict=True):
                set_segment(found, segment, self.config.segmenter, *pixels.size)

    def _rows(self, item: _Opened, fresh: Answers) -> list[dict[str, Any]]:
        """All candidates of an image: each proposer's, best first, then what the source drew, in its order."""
        task, image = item.task, item.task.image
        answers = {ANNOTATIONS: item.drawn, **task.stored, **fresh}
        rows: list[dict[str, Any]] = []
        for name in (*task.proposers, ANNOTATIONS):
            proposer, found = self.proposers[name], answers[name]
            if name == ANNOTATIONS:
                ious: Sequence[float | None] = [1.0] * len(found)
            elif item.annotated:
                ious = truth_ious(found, item.drawn, image["height"], image["width"]).tolist()
            else:
                ious = [None] * len(found)
            rows += [
                {
                    **columns,
                    "image_id": image["image_id"],
                    "source": image["source"],
                    "n": len(rows) + place,
                    "proposer": name,
                    "sees_annotations": proposer.sees_annotations,
                    "own_phrases": proposer.uses_phrases and task.own_phrases,
                    "truth_iou": iou,
                }
                for place, (columns, iou) in enumerate(zip(found, ious, strict=True))
            ]
        return rows


def _reason(error: Exception) -> str:
    if isinstance(error, Rejected):
        return error.reason
    # torch's error for a full GPU, named so that a run without models need not import torch.
    if type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError):
        return "out_of_memory"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
