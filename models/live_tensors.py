"""The memory of the tensors that a computation needs, counted rather than measured."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary


class LiveTensors(TorchDispatchMode):
    """Counts the bytes of the tensors that the computation within it reads and makes.

    What it is given counts throughout, once an operator has read it: weights and buffers, an embedding table as a
    whole, and inputs. What it makes counts as long as it is there. Views share the memory of their tensor. Fake tensors
    count as real ones. What an operator takes for itself while it runs is not seen. With gradients enabled,
    all that the backward pass needs stays there.
    """

    def __init__(self) -> None:
        super().__init__()
        self._given, self._made = WeakIdKeyDictionary(), WeakIdKeyDictionary()
        self._most_made = 0

    @property
    def peak(self) -> int:
        """Bytes at most, of what is given and of what was made by then; ask while the former is there."""
        return sum(self._given.values()) + self._most_made

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for storage in _storages((args, kwargs)):
            if storage not in self._made:
                self._given[storage] = storage.nbytes()
        result = operator(*args, **(kwargs or {}))
        for storage in _storages(result):
            if storage not in self._given:
                self._made[storage] = storage.nbytes()
        self._most_made = max(self._most_made, sum(self._made.values()))
        return result


def _storages(values: Any) -> Iterator[torch.UntypedStorage]:
    return (value.untyped_storage() for value in tree_leaves(values) if isinstance(value, Tensor))
