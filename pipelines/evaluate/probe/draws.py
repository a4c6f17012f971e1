"""Which training images a head of the task `probe` learns from: the shots that each draw takes of each class.

In each draw the images stand in an order by a digest of the image's key, the seed and the draw's number, and the shots
of a class are its first images. So all methods learn from the same shots, those of one shot are among those of five,
and an image that comes into the training split changes one shot of a class at most.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

from pipelines.evaluate.probe.problems import ALL, Numbers, Shots


def draw_orders(keys: Sequence[str], seed: int, draws: int) -> Numbers:
    """(draws, images): the images' indices in the order of each draw.

    Args:
        keys: Of the images; one at least.
        seed: Of the draws.
        draws: How many.
    """
    digests = (
        hashlib.blake2b(f"{seed} {draw} {key}".encode(), digest_size=8).digest()
        for draw in range(draws)
        for key in keys
    )
    numbers = np.frombuffer(b"".join(digests), dtype="<u8").reshape(draws, len(keys))
    return np.argsort(numbers, axis=1, kind="stable")


def shots_of(classes: Numbers, order: Numbers, known: Sequence[int], shots: Shots) -> Numbers:
    """The shots of one draw, as indices that ascend.

    Args:
        classes: (images,) number of each image's class.
        order: (images,) of `draw_orders`.
        known: The classes that are drawn from; each has so many images.
        shots: Of each class.
    """
    if shots == ALL:
        return np.flatnonzero(np.isin(classes, known))
    of_order = classes[order]
    return np.sort(np.concatenate([order[of_order == number][: int(shots)] for number in known]))
