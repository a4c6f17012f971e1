"""Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391): where in the image a mask, or the similarity with a phrase, lies.

`grad_cam` is for methods without a map of their own. The score, y^c of their eq. 1, is the cosine of the image's and
the phrase's embedding. The layer is the last one of the image encoder at which the positions still reach the embedding:

- what a convolutional backbone gives, or a transformer of whose tokens a mean (or an attention) is taken;
- where the class token is taken, nothing comes of the last layer's other tokens: then what it is last made of, which
  `models/token_layout.py` declares for each family: the normalised input of the last block, whose attention reads it.

`mask_grad_cam` is for methods that segment.
"""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from models.capabilities import DecodesMasks, EmbedsImages, EmbedsText
from models.data.batches import Images, Tokens
from models.method import Method
from models.token_layout import layout_of


@torch.enable_grad()
def grad_cam(model: Method, images: Images, tokens: Tokens) -> Tensor:
    """Maps of one phrase an image.

    Args:
        model: Offers EmbedsImages and EmbedsText, and has an `image_backbone`; in evaluation mode.
        images: (batch) images with their regions.
        tokens: (batch) phrases.

    Returns:
        (batch, rows, columns), 0 or more, over the visible crop of the image: max(0, sum_k alpha_k A_k), alpha_k
        being the mean over the positions of the cosine's gradient by feature A_k (eqs. 1 and 2). Where no position has
        a sum above 0, the sums less the lowest of them. A map of one position says nothing: the cosine does not change
        with an embedding's length, so that its gradient is orthogonal to the one position's feature.
    """
    backbone = model.image_backbone
    assert backbone is not None
    assert isinstance(model, EmbedsImages)
    assert isinstance(model, EmbedsText)
    layout = layout_of(backbone.config)
    attended = layout.attended_module(backbone)
    with _Output(backbone) as last, _Output(attended) if attended is not None else nullcontext() as before:
        cosine = (model.embed_images(images) * model.embed_text(tokens).detach()).sum(dim=-1)
    layers = [last.value] if before is None else [last.value, before.value]
    pairs = zip(layers, torch.autograd.grad(cosine.sum(), layers, materialize_grads=True), strict=True)
    grids = [[layout.grid(backbone.config, one) for one in pair] for pair in pairs]
    features, gradient = next((pair for pair in grids if pair[1].any()), grids[0])
    weights = gradient.mean(dim=(1, 2), keepdim=True)
    return _evidence((weights * features).sum(dim=-1)).detach()


@torch.enable_grad()
def mask_grad_cam(model: DecodesMasks, images: Images, tokens: Tokens) -> Tensor:
    """Where in the image a mask comes from (Seg-Grad-CAM, Vinogradova et al. 2020, arXiv:2002.11434).

    Args:
        model: In evaluation mode.
        images: (batch) images.
        tokens: (batch) texts.

    Returns:
        (batch, rows, columns) of `model.first_decoder`, 0 or more; alpha_k as in `grad_cam`. The score is the mean
        logit of the pixels that are predicted; of all pixels where none is.
    """
    with _Output(model.first_decoder) as layer:
        logits = model.logits(images, tokens)
    predicted = logits > 0
    scored = (predicted | ~predicted.any(dim=(1, 2), keepdim=True)).to(logits.dtype)
    score = (logits * scored).sum(dim=(1, 2)) / scored.sum(dim=(1, 2))
    (gradient,) = torch.autograd.grad(score.sum(), layer.value, materialize_grads=True)
    return _evidence((gradient.mean(dim=(2, 3), keepdim=True) * layer.value).sum(dim=1)).detach()


def _evidence(maps: Tensor) -> Tensor:
    """The positive part (their ReLU), which is 0 everywhere where every position speaks against the score.

    Such a map keeps the order of its positions: it is counted from its lowest value.
    """
    for_it = (maps > 0).flatten(1).any(dim=1).view(-1, 1, 1)
    return torch.where(for_it, maps.relu(), maps - maps.amin(dim=(1, 2), keepdim=True))


class _Output:
    """What a module gives within a `with` block when it is first called: later calls are for crops."""

    value: Tensor

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __enter__(self) -> "_Output":
        self.handle = self.module.register_forward_hook(self._keep)
        return self

    def __exit__(self, *_: object) -> None:
        self.handle.remove()

    def _keep(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if not hasattr(self, "value"):
            features: Tensor = output if isinstance(output, Tensor) else output.last_hidden_state
            # Behind frozen weights nothing has a gradient unless it is requested.
            self.value = features.requires_grad_()
