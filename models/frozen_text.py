"""Features of a frozen text encoder, computed once for each text and kept in a temporary file."""

import tempfile
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


class TextFeatureCache:
    """Encodes a text the first time that it comes, and reads its features back afterwards.

    The features lie in a file without a name, which the system deletes with the process; memory holds the token numbers
    and the offset of each text.

    Args:
        encode: ids and mask (texts, length) -> (texts, length, width); its weights never change.
        least: Positions of each text whose features are kept, though they be padding.
    """

    def __init__(self, encode: Callable[[Tensor, Tensor], Tensor], least: int = 0) -> None:
        self._encode, self._least = encode, least
        self._clear()

    def _clear(self) -> None:
        self._file: Any = None
        self._offsets: dict[bytes, tuple[int, int]] = {}

    def __getstate__(self) -> dict[str, Any]:
        # A copy of the model, for another process or an average of weights, begins with nothing.
        return {"_encode": self._encode, "_least": self._least}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._encode, self._least = state["_encode"], state["_least"]
        self._clear()

    @torch.no_grad()
    def __call__(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(texts, length, width); zeros at padding behind the first `least`; padding stands at the end."""
        texts = zip(ids, mask, ids.cpu().numpy(), mask.sum(dim=1).tolist(), strict=True)
        features = pad_sequence(
            [self._features(row, inside, key[:n].tobytes(), max(n, self._least)) for row, inside, key, n in texts],
            batch_first=True,
        )
        missing = ids.shape[1] - features.shape[1]
        return torch.nn.functional.pad(features, (0, 0, 0, missing)).to(ids.device)

    def _features(self, ids: Tensor, mask: Tensor, key: bytes, length: int) -> Tensor:
        """The first positions of one text: (length, width) on the CPU."""
        if key not in self._offsets:
            # Alone: the last bits of a text in a batch depend on the others, and a run that continues from a saved
            # state meets a text for the first time in another batch.
            self._keep(key, self._encode(ids[None, :length], mask[None, :length])[0].cpu())
        offset, size = self._offsets[key]
        self._file.seek(offset)
        return torch.frombuffer(bytearray(self._file.read(size)), dtype=self._type).view(length, -1)

    def _keep(self, key: bytes, features: Tensor) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the process
            self._type = features.dtype
        offset = self._file.seek(0, 2)
        self._offsets[key] = offset, self._file.write(features.contiguous().view(torch.uint8).numpy())
