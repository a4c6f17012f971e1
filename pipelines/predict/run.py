"""Predictions of many images, a batch at a time: nothing of one batch stays for the next but its counts."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.data.shards import Sample
from models.geometry import Box
from models.prediction import THRESHOLD, PredictionError, Predictor
from pipelines.errors import Rejected, UserError, one_line, printable
from pipelines.predict.inputs import Fault, Input, fault_of, open_input
from pipelines.predict.names import picture_name
from pipelines.predict.output import Output
from pipelines.predict.pictures import heat_picture, heat_range, mask_picture, overlay
from pipelines.predict.regions import GivenRegions
from pipelines.predict.request import Request
from pipelines.stage import Summary

logger = logging.getLogger(__name__)

# A batch ends with so many pixels of original images, which are kept for the overlays.
_BATCH_PIXELS = 50_000_000

Vectors = NDArray[np.float32]


@dataclass(kw_only=True)
class _Entry:
    """An input on its way through a batch."""

    number: int
    item: Input
    fault: Fault | None
    image: Image.Image | None = None
    sample: Sample | None = None
    boxes: Sequence[Box] = ()


@dataclass
class _Results:
    """Embeddings of a batch, in the order of its images that could be opened."""

    images: Sequence[Vectors | None]
    regions: Sequence[Vectors | None]
    own_texts: dict[str, Vectors] = field(default_factory=dict)


def predict(
    predictor: Predictor,
    request: Request,
    regions: GivenRegions,
    items: Iterable[Input],
    output: Output,
    summary: Summary,
) -> int:
    """Write what was asked of every input, and count the inputs by their outcome.

    Args:
        predictor: The model.
        request: What was asked.
        regions: Of the images.
        items: The inputs, read one after the other.
        output: Where to.
        summary: Counts.

    Returns:
        The number of inputs.

    Raises:
        UserError: The weights of the model diverged.
    """
    numbers = count()
    if "text_embedding" in request.outputs:
        for text, vector in request.text_vectors.items():
            output.text(printable(text), vector)
    for batch in _batches(predictor, regions, items, numbers):
        opened = [entry for entry in batch if entry.fault is None]
        results = _embed(predictor, request, opened)
        _write_maps(predictor, request, opened, output)
        _write_rows(request, batch, results, output)
        for entry in batch:
            _count(summary, entry.fault)
    return next(numbers)


def _count(summary: Summary, fault: Fault | None) -> None:
    if fault is None:
        summary.ok()
    elif fault.status == "rejected":
        summary.rejected(fault.reason)
    else:
        summary.failed(fault.reason)


def _batches(
    predictor: Predictor, regions: GivenRegions, items: Iterable[Input], numbers: Iterator[int]
) -> Iterator[list[_Entry]]:
    batch: list[_Entry] = []
    pixels = 0
    for item in items:
        entry = _open(predictor, regions, next(numbers), item)
        batch.append(entry)
        pixels += entry.image.width * entry.image.height if entry.image else 0
        if len(batch) >= predictor.batch_size or pixels >= _BATCH_PIXELS:
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch


def _open(predictor: Predictor, regions: GivenRegions, number: int, item: Input) -> _Entry:
    if item.fault is not None:
        return _Entry(number=number, item=item, fault=item.fault)
    try:
        image = open_input(item)
        boxes = regions.of(item, image.width, image.height)
        sample = predictor.prepare(str(number), image, boxes)
    except PredictionError as error:
        return _Entry(number=number, item=item, fault=Fault(status="rejected", reason="bad_box", detail=str(error)))
    except (Rejected, OSError) as error:
        return _Entry(number=number, item=item, fault=fault_of(error))
    return _Entry(number=number, item=item, fault=None, image=image, sample=sample, boxes=boxes)


def _embed(predictor: Predictor, request: Request, entries: Sequence[_Entry]) -> _Results:
    samples = [entry.sample for entry in entries if entry.sample is not None]
    nothing: list[Vectors | None] = [None] * len(samples)
    own = list(dict.fromkeys(entry.item.text for entry in entries if entry.item.text))
    results = _Results(nothing, nothing)
    with _counted(entries):
        if samples and request.needs_images:
            results.images = list(predictor.embed_images(samples))
        if samples and "region_embeddings" in request.outputs:
            results.regions = predictor.embed_regions(samples)
        if own and request.embeds_texts:
            results.own_texts = dict(zip(own, predictor.embed_texts(own), strict=True))
    return results


@contextmanager
def _counted(entries: Sequence[_Entry]) -> Iterator[None]:
    """Whatever a computation raises becomes the outcome of the inputs that it was for: another run may succeed."""
    try:
        yield
    except PredictionError as error:
        raise UserError(str(error)) from None
    except Exception as error:
        logger.warning("%d predictions failed: %s", len(entries), one_line(error), exc_info=True)
        for entry in entries:
            entry.fault = Fault(status="failed", reason=type(error).__name__, detail=one_line(error))


def _write_maps(predictor: Predictor, request: Request, entries: Sequence[_Entry], output: Output) -> None:
    if "mask" in request.outputs:
        for asked, probability in _computed(predictor.masks, entries, request.mask_texts):
            name = picture_name(asked.entry.number, asked.entry.item, asked.suffix)
            file = output.picture("masks", name, mask_picture(probability > THRESHOLD))
            output.maps(asked.entry.number, asked.entry.item, asked.text, mask=file)
    if "heat_map" in request.outputs:
        for asked, heat_map in _computed(predictor.heat_maps, entries, request.texts_of):
            picture = heat_picture(heat_map)
            name = picture_name(asked.entry.number, asked.entry.item, asked.suffix)
            least, greatest = heat_range(heat_map)
            files = {
                "heat_map": output.picture("heat_maps", name, picture),
                "overlay": output.picture("overlays", name, overlay(asked.image, picture)),
            }
            output.maps(
                asked.entry.number, asked.entry.item, asked.text, heat_least=least, heat_greatest=greatest, **files
            )


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """A map that is to be computed: of which image, for which text, and what its files' names end in."""

    entry: _Entry
    image: Image.Image
    sample: Sample
    suffix: str
    text: str


def _computed(
    compute: Callable[[Iterable[tuple[Sample, str]]], Iterator[NDArray[np.float32]]],
    entries: Sequence[_Entry],
    texts: Callable[[str | None], dict[str, str]],
) -> Iterator[tuple[_Asked, NDArray[np.float32]]]:
    """Each map with what it is of; where the computation fails, all that is left of the batch fails."""
    asked = [
        _Asked(entry=entry, image=entry.image, sample=entry.sample, suffix=suffix, text=text)
        for entry in entries
        if entry.fault is None and entry.image is not None and entry.sample is not None
        for suffix, text in texts(entry.item.text).items()
    ]
    maps = compute((one.sample, one.text) for one in asked)
    for number, one in enumerate(asked):
        found = None
        with _counted([later.entry for later in asked[number:]]):
            found = next(maps)
        if found is None:
            return
        yield one, found


def _write_rows(request: Request, batch: Sequence[_Entry], results: _Results, output: Output) -> None:
    embeddings = iter(zip(results.images, results.regions, strict=True))
    for entry in batch:
        image, regions = next(embeddings) if entry.sample is not None else (None, None)
        size = {} if entry.image is None else {"width": entry.image.width, "height": entry.image.height}
        if entry.fault is not None:
            output.image(entry.number, entry.item, entry.fault, **size)
            continue
        kept = image if "image_embedding" in request.outputs else None
        output.image(entry.number, entry.item, None, **size, image_embedding=kept)
        if image is not None:
            _write_scores(request, entry, None, image, results.own_texts, output)
        for number, (box, vector) in enumerate(zip(entry.boxes, regions if regions is not None else (), strict=False)):
            output.region(entry.number, entry.item, number, box, vector)
            _write_scores(request, entry, number, vector, results.own_texts, output)


def _write_scores(
    request: Request, entry: _Entry, region: int | None, vector: Vectors, own_texts: dict[str, Vectors], output: Output
) -> None:
    if "similarity" not in request.outputs:
        return
    own = entry.item.text
    kinds = {
        "own_text": {own: own_texts[own]} if own in own_texts else {},
        "text": request.text_vectors,
        "label": request.label_vectors,
    }
    for kind, vectors in kinds.items():
        scores = [float(vector @ other) for other in vectors.values()]
        output.scores(entry.number, entry.item, kind, [printable(text) for text in vectors], scores, region)
