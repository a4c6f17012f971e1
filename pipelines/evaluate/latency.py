"""The time of one answer: of a mask, or of the embeddings of an image and a text."""

import copy
import statistics
import time

import torch

from models.capabilities import EmbedsImages, EmbedsText, SegmentsFromText
from models.data.batches import Images, Tokens
from models.encoders import encoding_anew
from models.inference import answer
from models.method import Method
from models.text_encoder import TextEncoder
from pipelines.evaluate.evaluation_set import EvaluationSet

# What summaries call it, and what it is of where no task measures it.
LATENCY, EMBEDDING = "latency_cpu_ms", "embedding"
WARM_UP, RUNS = 3, 20


@torch.inference_mode()
def latency(model: Method, images: Images, tokens: Tokens) -> float:
    """Milliseconds of an answer on the CPU, the text encoder included: median of `RUNS` after `WARM_UP`."""
    times = []
    for _ in range(WARM_UP + RUNS):
        clear_text_cache(model)
        start = time.perf_counter()
        with encoding_anew(model):
            answer(model, images, tokens)
        times.append(time.perf_counter() - start)
    return round(1000 * statistics.median(times[WARM_UP:]), 3)


def embedding_latency(test: EvaluationSet) -> float | None:
    """Milliseconds of embedding the first image that has a report, with its regions, and the report (`latency`).

    None: the method segments, or does not embed both; or no image has a report.
    """
    model = test.model
    if model.offers(SegmentsFromText) or not (model.offers(EmbedsImages) and model.offers(EmbedsText)):
        return None
    reports = ((index, image.report) for index, image in enumerate(test.images) if image.report is not None)
    index, report = next(reports, (None, ""))
    return None if index is None else latency(model, *test.inputs(test.samples([index])[index], report))


def clear_text_cache(model: Method) -> None:
    """A frozen encoder caches the features of each text; without the cache a known text costs what a new one does."""
    for part in model.modules():
        if isinstance(part, TextEncoder) and part.cache is not None:
            part.cache = copy.copy(part.cache)
