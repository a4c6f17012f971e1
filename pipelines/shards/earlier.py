"""Tars of the run before, taken over where nothing that decides their bytes has changed.

DVC keeps the output of the shards' stages until they replace it (`persist` in dvc.yaml). The result cache says which
tar came from which inputs, so that the shards themselves say nothing of the code: a run of other code that gives the
same bytes gives the same manifest, and training does not run again.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from models.data.format import ManifestSplit
from models.data.tars import KeptTar
from models.verified import SUMS, DamagedError, read_digests, sha256_file
from pipelines.cache import ResultCache

_KIND = "tar"


class EarlierTars:
    """The tars of a family as the run before left them, and those of this run for the next one.

    Args:
        output: The family's folder.
        cache: The result cache.
        code: Digest of the code of the stage.
    """

    def __init__(self, output: Path, cache: Path, code: str) -> None:
        self._code = code
        self._cache = ResultCache(cache)
        self._inputs: dict[str, tuple[str, int]] = {}
        self._taken = 0
        try:
            digests = read_digests(output) if (output / SUMS).is_file() else {}
        except DamagedError:  # all tars are made anew
            digests = {}
        self._files = {digest: output / name for name, digest in digests.items()}

    def find(self, split: str, file: str, keys: list[str], regions: int, decides: Iterable[bytes]) -> KeptTar | None:
        """The tar that an earlier run made of the same; None: it is to be written.

        Args:
            split: Of the tar.
            file: Where it is to lie, relative to the family's folder.
            keys: Of its samples.
            regions: That they describe.
            decides: Everything that decides its bytes but the code.
        """
        digest = hashlib.sha256(self._code.encode())
        for part in decides:
            digest.update(hashlib.sha256(part).digest())
        inputs = digest.hexdigest()
        self._inputs[file] = inputs, len(keys)
        sha256: str | None = self._cache.get(inputs)
        if sha256 is None or not self._is_there(sha256):
            return None
        self._taken += 1
        return KeptTar(split=split, file=file, keys=keys, regions=regions, path=self._files[sha256], sha256=sha256)

    def _is_there(self, sha256: str) -> bool:
        path = self._files.get(sha256)
        return path is not None and path.is_file() and sha256_file(path) == sha256

    def keep(self, splits: Iterable[ManifestSplit]) -> dict[str, int]:
        """Note what this run wrote, and count it. A tar that lacks a sample is tried again by the next run."""
        tars = [tar for split in splits for tar in split.shards]
        for tar in tars:
            inputs, samples = self._inputs[tar.file]
            if tar.samples == samples:
                self._cache.put(inputs, _KIND, tar.sha256)
        self._cache.close()
        return {"written": len(tars) - self._taken, "taken_over": self._taken}
