"""A batch of images: opened, put before the plug-ins, and turned into rows of `PROPOSALS`.

It knows no result cache and no other batch, so that it works in this process, in a local process and in a Ray actor.
"""

import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from PIL import Image

from pipelines.errors import Rejected, UserError, disk_fault
from pipelines.masks import decode, largest_ious
from pipelines.proposals.candidates import MeasuredProposal, make_candidate, sort_and_limit, with_segment
from pipelines.proposals.config import ProposalsConfig
from pipelines.proposals.protocols import Proposer, Query, Segmenter, SourceAnnotation
from pipelines.raw_images import open_raw
from pipelines.records import ANNOTATIONS_PROPOSER, AnnotationRow, ProposalRow, SplitImageRow
from pipelines.registry import plugin
from pipelines.sources import Sources

Answers = dict[str, list[MeasuredProposal]]


@dataclass(frozen=True, kw_only=True)
class WorkItem:
    """One image and what its proposers need to know.

    Attributes:
        image: Its row.
        annotations: What its source annotated, in order.
        proposers: Which of the configured proposers run on it.
        phrases: For those that use phrases.
        own_phrases: The phrases hold more than the modality's.
        cached: Earlier answers by proposer, from the result cache. Under `annotations` they hold the source's
            annotations with the segmenter's masks in place of missing ones.
    """

    image: SplitImageRow
    annotations: list[AnnotationRow]
    proposers: tuple[str, ...]
    phrases: tuple[str, ...]
    own_phrases: bool
    cached: Answers = field(default_factory=dict)

    @property
    def is_annotated(self) -> bool:
        """Somebody looked at the image and marked what there is, or said that there is nothing."""
        return bool(self.annotations) or self.image.mask_path is not None or self.image.labels == ()


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result for one image.

    Attributes:
        rows: Rows of `PROPOSALS`.
        answers: New answers by proposer, for the result cache.
        failed: Reason; None where the image was read and every plug-in answered.
    """

    rows: list[ProposalRow] = field(default_factory=list)
    answers: Answers = field(default_factory=dict)
    failed: str | None = None


@dataclass(frozen=True, kw_only=True)
class _OpenedImage:
    """An image in memory; `annotations` have the source's own masks alone, `phrases` what it says of each."""

    item: WorkItem
    pixels: Image.Image
    annotations: list[MeasuredProposal]
    phrases: list[str | None]


class ProposalRunner:
    """Runs the plug-ins, which are built once.

    Args:
        config: Settings of the stage; the names in it are known to the registry.
        sources: Where the images are, and how large one may be.
    """

    def __init__(self, config: ProposalsConfig, sources: Sources) -> None:
        self.config = config
        self.sources = sources
        self.proposers: dict[str, Proposer] = {
            name: plugin("proposers", name)(config.options.get(name, {}))
            for name in (*config.proposers, ANNOTATIONS_PROPOSER)
        }
        self.segmenter: Segmenter = plugin("segmenters", config.segmenter)(config.options.get(config.segmenter, {}))

    def __call__(self, items: Sequence[WorkItem]) -> list[Outcome]:
        """One outcome for each item, in their order."""
        outcomes: dict[int, Outcome] = {}
        opened: dict[int, _OpenedImage] = {}
        for index, item in enumerate(items):
            try:
                opened[index] = self._open(item)
            except Rejected as error:
                outcomes[index] = Outcome(failed=error.reason)
            except OSError as error:
                outcomes[index] = Outcome(failed=disk_fault(error))
        outcomes.update(zip(opened, self._outcomes(list(opened.values())), strict=True))
        return [outcomes[index] for index in range(len(items))]

    def _open(self, item: WorkItem) -> _OpenedImage:
        image = item.image
        pixels = open_raw(self.sources, image)
        annotations = [
            SourceAnnotation(
                label=row.label,
                adjective=row.adjective,
                phrase=row.phrase,
                box=row.box,
                mask=None if row.mask is None else decode(row.mask, image.height, image.width),
            )
            for row in item.annotations
        ]
        query = Query(modality=image.modality, annotations=annotations)
        (found,) = self.proposers[ANNOTATIONS_PROPOSER].propose([pixels], [query])
        proposals = list(found)
        return _OpenedImage(
            item=item,
            pixels=pixels,
            annotations=[make_candidate(proposal, *pixels.size) for proposal in proposals],
            # Beside the candidates and not in them: the result cache, which recipes pass on, holds no text of a source.
            phrases=[proposal.phrase for proposal in proposals],
        )

    def _outcomes(self, opened: list[_OpenedImage]) -> Iterator[Outcome]:
        """Run all images at once; where that fails, image by image, so that only those at fault fail."""
        try:
            answers = self._run(opened)
        except UserError:
            raise
        except Exception as error:  # noqa: BLE001 - a model may raise anything, and one image must not end a long run
            fault = _reason(error)
            if len(opened) == 1:
                traceback.print_exc(file=sys.stderr)
        else:
            for image, of_image in zip(opened, answers, strict=True):
                yield Outcome(rows=self._rows(image, of_image), answers=of_image)
            return
        # Behind the handler, where the traceback no longer holds the failed batch's tensors.
        if len(opened) == 1:
            yield Outcome(failed=fault)
        else:
            for image in opened:
                yield from self._outcomes([image])

    def _run(self, opened: list[_OpenedImage]) -> list[Answers]:
        """For each image the answers that the result cache did not have, by proposer, with masks."""
        answers: list[Answers] = [{} for _ in opened]
        for name in self.config.proposers:
            proposer = self.proposers[name]
            indices = [
                index
                for index, image in enumerate(opened)
                if name in image.item.proposers and name not in image.item.cached
            ]
            if not indices:
                continue
            queries = [
                Query(
                    modality=opened[index].item.image.modality,
                    phrases=opened[index].item.phrases if proposer.uses_phrases else (),
                )
                for index in indices
            ]
            results = proposer.propose([opened[index].pixels for index in indices], queries)
            for index, proposals in zip(indices, results, strict=True):
                size = opened[index].pixels.size
                candidates = (make_candidate(proposal, *size) for proposal in proposals)
                answers[index][name] = sort_and_limit(candidates, self.config.max_proposals)
        for image, of_image in zip(opened, answers, strict=True):
            # A true region never gets a mask that nobody drew; on training images a method may see, and needs, one.
            may_see = image.item.image.split == "train" and ANNOTATIONS_PROPOSER not in image.item.cached
            if may_see and any(candidate.needs_mask for candidate in image.annotations):
                of_image[ANNOTATIONS_PROPOSER] = list(image.annotations)
        self._segment(opened, answers)
        return answers

    def _segment(self, opened: list[_OpenedImage], answers: list[Answers]) -> None:
        """Put masks into all new candidates without one."""
        waiting = [
            (image.pixels, missing)
            for image, of_image in zip(opened, answers, strict=True)
            if (missing := _without_mask(of_image))
        ]
        if not waiting:
            return
        boxes = [[candidates[index].box for candidates, index in missing] for _, missing in waiting]
        results = self.segmenter.segment([pixels for pixels, _ in waiting], boxes)
        for (pixels, missing), segments in zip(waiting, results, strict=True):
            for (candidates, index), segment in zip(missing, segments, strict=True):
                candidates[index] = with_segment(candidates[index], segment, self.config.segmenter, *pixels.size)

    def _rows(self, opened: _OpenedImage, answers: Answers) -> list[ProposalRow]:
        """All candidates of an image: each proposer's, best first, then the source's annotations, in their order."""
        item, image = opened.item, opened.item.image
        all_answers = {ANNOTATIONS_PROPOSER: opened.annotations, **item.cached, **answers}
        rows: list[ProposalRow] = []
        for name in (*item.proposers, ANNOTATIONS_PROPOSER):
            proposer, candidates = self.proposers[name], all_answers[name]
            ious: Sequence[float | None] = [None] * len(candidates)
            phrases: Sequence[str | None] = [None] * len(candidates)
            if name == ANNOTATIONS_PROPOSER:
                ious, phrases = [1.0] * len(candidates), opened.phrases
            elif item.is_annotated:
                ious = largest_ious(candidates, opened.annotations, image.height, image.width).tolist()
            own_phrases = proposer.uses_phrases and item.own_phrases
            for candidate, iou, phrase in zip(candidates, ious, phrases, strict=True):
                columns = candidate.to_json()
                rows.append(
                    ProposalRow(
                        image_id=image.image_id,
                        source=image.source,
                        n=len(rows),
                        proposer=name,
                        sees_annotations=proposer.sees_annotations,
                        own_phrases=own_phrases,
                        phrase=phrase,
                        truth_iou=iou,
                        **dict(zip(("x0", "y0", "x1", "y1"), columns.pop("box"), strict=True)),
                        **columns,
                    )
                )
        return rows


def _without_mask(answers: Answers) -> list[tuple[list[MeasuredProposal], int]]:
    """Where the candidates without a mask stand: their list and index."""
    return [
        (candidates, index)
        for candidates in answers.values()
        for index, candidate in enumerate(candidates)
        if candidate.needs_mask
    ]


def _reason(error: Exception) -> str:
    if isinstance(error, Rejected):
        return error.reason
    # torch's error for a full GPU, named so that a run without models need not import torch.
    if type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError):
        return "out_of_memory"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
