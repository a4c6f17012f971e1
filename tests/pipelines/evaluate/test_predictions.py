"""Which texts stand nearest to an image."""

import numpy as np

from pipelines.evaluate.predictions import _highest


def test_the_highest_values_stand_in_the_order_of_a_stable_sort() -> None:
    random = np.random.default_rng(0)
    for size in (1, 3, 5, 6, 40):
        for alike in (2, 4, 1000):
            values = (random.integers(0, alike, size) / alike).astype(np.float32)
            assert _highest(values, 5) == np.argsort(-values, kind="stable")[:5].tolist()
