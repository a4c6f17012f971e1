"""Losses over a matrix of similarities that is too large to be held: a block of its rows after the other.

Own rows x rows of all workers grow with the square of the global batch at a given number of workers. In blocks, what is
held beside the features grows with the batch alone.
"""

from collections.abc import Callable, Sequence

from torch import Tensor
from torch.utils.checkpoint import checkpoint

# Similarities that are held at once: 64 MiB of float32, and several times that with softmax, masks and gradient, which
# is little beside the activations of such a batch. 4,096 rows in one process are not cut, nor any batch of params.yaml:
# there nothing is computed twice. A cut costs one more forward pass of the loss.
SIMILARITIES = 2**24


def by_blocks(function: Callable[..., Tensor], rows: Sequence[Tensor], columns: int) -> list[Tensor]:
    """Call a function with all rows, or with a block of them after the other where their similarities are too many.

    Args:
        function: Takes a block of each of `rows`; looks at each row by itself. In blocks it is called again in the
            backward pass, instead of keeping what it computed.
        rows: Tensors with the same number of rows.
        columns: Similarities that the function holds of a row.

    Returns:
        What the function gave, block by block.
    """
    size = max(1, SIMILARITIES // max(1, columns))
    if len(rows[0]) <= size:
        return [function(*rows)]
    blocks = zip(*(tensor.split(size) for tensor in rows), strict=True)
    # No random numbers are drawn in a loss.
    return [checkpoint(function, *block, use_reentrant=False, preserve_rng_state=False) for block in blocks]
