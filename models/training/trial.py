"""A first batch, before anything is trained: settings and data that do not fit are refused at once.

Otherwise a text that is longer than the encoder's positions, or crops that it cannot take, would end a run in the
middle, or its evaluation after hours.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from models.capabilities import EmbedsImages, EmbedsRegions, EmbedsText, GroundsPhrases, SegmentsFromText
from models.data.batches import Tokenise, Tokens, input_regions, stack_images
from models.data.shards import Sample
from models.method import Method
from models.training.config import TrainingConfig

# What shapes and sizes that do not fit end in, in torch and in the plug-ins.
_MISFITS = (RuntimeError, ValueError, IndexError, KeyError, AssertionError, ZeroDivisionError, TypeError)
# Rounding of float32 in vectors of length 1: embeddings that differ by no more are the same.
_ROUNDING = 3e-7


def try_out(model: Method, samples: Sequence[tuple[Sample, str]], tokenise: Tokenise, config: TrainingConfig) -> None:
    """Compute the losses of each phase, and what evaluation will ask for, of a few images; nothing is kept.

    Args:
        model: As it was built; statistics of its BatchNorm layers move.
        samples: Training samples, with their pixels, and a text of each; two or more, the longest text among them.
            Without phases there may be fewer, and then nothing is computed: what is not trained needs none.
        tokenise: Texts to tokens.
        config: The phases.

    Raises:
        ValueError: Something does not fit, or an encoder gives all texts, or all images, the same embedding.
    """
    if len(samples) < 2 and not config.phases:
        return
    training = model.training
    images = [sample for sample, _ in samples]
    with torch.random.fork_rng([]), torch.no_grad():
        model.train()
        if config.phases:
            batch = _fits("reading", model.collate(tokenise, config.augmentation, 0), images, 0)
        for name, phase in config.phases.items():
            _fits(f"phase '{name}'", model, batch, phase.losses)
        model.eval()
        _try_evaluation(model, images, tokenise([text for _, text in samples]))
    model.train(training)


def _try_evaluation(model: Method, samples: Sequence[Sample], tokens: Tokens) -> None:
    images = stack_images(samples, [input_regions(sample, model.max_regions) for sample in samples])
    # A capability's methods are there where it is offered.
    asked: Any = model
    if model.offers(EmbedsText):
        _differ("texts", tokens.ids, _fits("embed_text", asked.embed_text, tokens))
    if model.offers(EmbedsImages):
        _differ("images", images.pixels, _fits("embed_images", asked.embed_images, images))
    described = [sample for sample in samples if sample.meta.regions]
    if model.offers(EmbedsRegions) and described:
        _fits("embed_regions", asked.embed_regions, stack_images(described, [[0]] * len(described)))
    if model.offers(GroundsPhrases):
        _fits("ground", asked.ground, images, tokens)
    if model.offers(SegmentsFromText):
        _fits("segment", asked.segment, images, tokens)


def _fits(what: str, compute: Callable[..., Any], *inputs: Any) -> Any:
    try:
        return compute(*inputs)
    except _MISFITS as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"the model does not fit the first training images ({what}): {reason}") from error


def _differ(what: str, inputs: Tensor, embeddings: Tensor) -> None:
    """An encoder whose output stands for nothing that it reads would be trained in silence."""
    different = len(torch.unique(inputs.flatten(1), dim=0))
    spread = (embeddings - embeddings[:1]).abs().max()
    if different > 1 and spread <= _ROUNDING:
        raise ValueError(f"all {what} have the same embedding before training: choose another pooling of the encoder")
