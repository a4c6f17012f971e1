"""What a frozen text encoder makes of each caption, computed once and kept in a temporary file."""

import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


class OncePerText:
    """Calls an encoder for the texts of a batch that it has not seen, and reads the others back.

    The features lie in a file without a name, which goes with the process: memory holds a few bytes a caption.

    Args:
        encode: ids and mask (texts, length) -> (texts, length, width); its weights never change.
    """

    def __init__(self, encode: Callable[[Tensor, Tensor], Tensor]) -> None:
        self._encode = encode
        self._forget()

    def _forget(self) -> None:
        self._file: Any = None
        self._places: dict[bytes, tuple[int, tuple[int, int]]] = {}

    def __getstate__(self) -> dict[str, Any]:
        # A copy of the model, for another process or an average of weights, begins with nothing.
        return {"_encode": self._encode}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._encode = state["_encode"]
        self._forget()

    @torch.no_grad()
    def __call__(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(texts, length, width); zeros at padding."""
        lengths = mask.sum(dim=1).tolist()
        keys = [row[:length].cpu().numpy().tobytes() for row, length in zip(ids, lengths, strict=True)]
        new = [place for place, key in enumerate(keys) if key not in self._places]
        new = list({keys[place]: place for place in new}.values())
        if new:
            for place, features in zip(new, self._encode(ids[new], mask[new]), strict=True):
                self._keep(keys[place], features[: lengths[place]])
        found = pad_sequence(list(self._read(keys)), batch_first=True)
        missing = ids.shape[1] - found.shape[1]
        return torch.nn.functional.pad(found, (0, 0, 0, missing)).to(ids.device)

    def _keep(self, key: bytes, features: Tensor) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the process
        place = self._file.seek(0, 2)
        self._file.write(features.float().cpu().numpy().tobytes())
        self._places[key] = place, (features.shape[0], features.shape[1])

    def _read(self, keys: list[bytes]) -> Iterator[Tensor]:
        for key in keys:
            place, shape = self._places[key]
            self._file.seek(place)
            data = self._file.read(4 * shape[0] * shape[1])
            yield torch.from_numpy(np.frombuffer(data, dtype=np.float32).copy()).view(shape)
