"""The median rank that guesses have: what is expected of it where candidates stand in a random order.

Equal texts have one embedding. So from images to texts a guess puts the different texts, each with all of its copies,
in an order of its own for each image; from texts to images it puts the images in an order of its own for each different
text. The median over the queries is that of all ranks together: no median of what each text has by itself.
"""

from functools import lru_cache

import numpy as np

# Ranks that are drawn: their medians' mean is right to about a thousandth of the pool, whatever its size.
_RANKS = 1 << 18
_FEWEST = 16
_SEED = 0


def median_rank_of_texts(groups: np.ndarray, *, own: bool = False) -> float:
    """Expected median, over the images, of the rank of their text in a random order of the different texts.

    Exact where all texts have the same number of copies, as an order and its reverse are as likely; else the mean over
    2^18 / n simulated guesses, 16 at least, with a fixed seed.

    Args:
        groups: (n,) equal numbers for equal texts.
        own: Whether the image's own copy alone is right, which stands behind the equal ones.
    """
    _, copies = np.unique(groups, return_counts=True)
    sizes, alike = np.unique(copies, return_counts=True)
    behind = sizes - 1 if own else np.zeros_like(sizes)
    if len(sizes) == 1:
        return float(1 + behind[0] + sizes[0] * (alike[0] - 1) / 2)
    return _of_texts(tuple(sizes.tolist()), tuple(alike.tolist()), tuple(behind.tolist()))


# The image-blind control asks for the same again.
@lru_cache(maxsize=64)
def _of_texts(sizes: tuple[int, ...], alike: tuple[int, ...], behind: tuple[int, ...]) -> float:
    """Of `alike` texts with `sizes` copies each, of which so many stand before the right one."""
    random = np.random.default_rng(_SEED)
    guesses = _guesses(sum(size * number for size, number in zip(sizes, alike, strict=True)))
    ranks = []
    for own, number, equal in zip(sizes, alike, behind, strict=True):
        # A place in the order, from 0 to 1: each other text is before it with this probability, independently.
        places = random.random((guesses, own * number))
        before = sum(
            size * random.binomial(others - (size == own), places) for size, others in zip(sizes, alike, strict=True)
        )
        ranks.append(1 + equal + before)
    return float(np.median(np.concatenate(ranks, axis=1), axis=1).mean())


def median_rank_of_images(groups: np.ndarray, *, own: bool = False) -> float:
    """Expected median, over the texts, of the rank of their best right image in a random order of the images.

    Exact where one image is right, as an order and its reverse are as likely; else simulated as `median_rank_of_texts`.

    Args:
        groups: (n,) equal numbers for equal texts, which have one order.
        own: Whether the text's own image alone is right.
    """
    _, copies = np.unique(groups, return_counts=True)
    if own or len(copies) == len(groups):
        return (len(groups) + 1) / 2
    return _of_images(tuple(np.sort(copies).tolist()))


@lru_cache(maxsize=64)
def _of_images(copies: tuple[int, ...]) -> float:
    """Of different texts with so many images each."""
    random = np.random.default_rng(_SEED)
    pool = sum(copies)
    ranks = []
    for size in sorted(set(copies)):
        # Beyond rank r with probability C(n - size, r) / C(n, r), which is a product of r factors.
        left = np.arange(pool, size, -1)
        beyond = np.concatenate([[1.0], ((left - size) / left).cumprod()])
        ranks.append(np.searchsorted(-beyond, -random.random((_guesses(pool), copies.count(size)))))
    return float(np.median(np.repeat(np.concatenate(ranks, axis=1), copies, axis=1), axis=1).mean())


def _guesses(pool: int) -> int:
    return max(_FEWEST, _RANKS // pool)
