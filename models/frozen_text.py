"""What a frozen text encoder makes of each caption, computed once and kept in a temporary file."""

import tempfile
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


class OncePerText:
    """Calls an encoder for texts that it has not seen, and reads the others back.

    The features lie in a file without a name, which goes with the process; memory holds the token numbers and a place
    for each caption.

    Args:
        encode: ids and mask (texts, length) -> (texts, length, width); its weights never change.
    """

    def __init__(self, encode: Callable[[Tensor, Tensor], Tensor]) -> None:
        self._encode = encode
        self._forget()

    def _forget(self) -> None:
        self._file: Any = None
        self._places: dict[bytes, tuple[int, int]] = {}

    def __getstate__(self) -> dict[str, Any]:
        # A copy of the model, for another process or an average of weights, begins with nothing.
        return {"_encode": self._encode}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._encode = state["_encode"]
        self._forget()

    @torch.no_grad()
    def __call__(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(texts, length, width); zeros at padding, which stands at the end."""
        texts = zip(ids, ids.cpu().numpy(), mask.sum(dim=1).tolist(), strict=True)
        found = pad_sequence([self._features(row[:n], key[:n].tobytes()) for row, key, n in texts], batch_first=True)
        missing = ids.shape[1] - found.shape[1]
        return torch.nn.functional.pad(found, (0, 0, 0, missing)).to(ids.device)

    def _features(self, ids: Tensor, key: bytes) -> Tensor:
        """One text without padding, (length,) -> (length, width) on the CPU."""
        if key not in self._places:
            # Alone: the last bits of a text in a batch depend on the others, and a run that goes on from a saved state
            # meets a text for the first time in another batch.
            self._keep(key, self._encode(ids[None], torch.ones_like(ids[None]))[0].cpu())
        place, size = self._places[key]
        self._file.seek(place)
        return torch.frombuffer(bytearray(self._file.read(size)), dtype=self._type).view(len(ids), -1)

    def _keep(self, key: bytes, features: Tensor) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the process
            self._type = features.dtype
        place = self._file.seek(0, 2)
        self._places[key] = place, self._file.write(features.contiguous().view(torch.uint8).numpy())
