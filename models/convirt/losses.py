"""ConVIRT's weighted contrast."""

from torch import Tensor

from models.losses import info_nce


def weighted_info_nce(
    images: Tensor, texts: Tensor, temperature: float, image_to_text: float, *, keys: Tensor | None = None
) -> Tensor:
    """Both directions of InfoNCE with unequal weights (Zhang et al. 2020, eqs. 2-4).

    Args:
        images: (rows, dimensions), of length 1.
        texts: (rows, dimensions), of length 1; row i matches row i of `images`.
        temperature: tau.
        image_to_text: lambda.
        keys: See `info_nce`.

    Returns:
        Mean over the rows of all workers.
    """
    forward = info_nce(images, texts, temperature, keys=keys, symmetric=False)
    backward = info_nce(texts, images, temperature, keys=keys, symmetric=False)
    return image_to_text * forward + (1 - image_to_text) * backward
