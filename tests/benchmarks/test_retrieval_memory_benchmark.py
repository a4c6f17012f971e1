"""benchmarks/retrieval_memory.py: the whole task runs on vectors, and scores what they were made to be."""

from types import ModuleType

import numpy as np

NAMES = ("retrieval_memory",)


def test_a_row_is_of_the_whole_task(scripts: tuple[ModuleType, ...]) -> None:
    (script,) = scripts
    row = script.measure(300)
    assert (row["items"], row["different_texts"]) == (300, 270)
    # Of this process, which other tests have used before.
    assert row["within_2_gib"] == (row["peak_memory_mb"] <= 2048)
    # Ranks in six variants, of which one has a row for each different text; six precisions.
    assert row["rows_of_items"] == 5 * 300 + 270 + 6 * 300
    assert row["i2t_recall@10"] > 0.5
    assert 0.2 < row["i2t_precision@10"] < 1
    assert 0 < row["held_memory_mb"] <= row["peak_memory_mb"]
    test = script.VectorSet(30)
    np.testing.assert_allclose(np.linalg.norm(test.image_embeddings, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(test.embed_texts(["Text 26.", "Text 3."]), axis=1), 1, rtol=1e-5)
