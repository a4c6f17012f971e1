"""Tars of the run before, taken over where nothing that decides their bytes has changed.

DVC deletes the output of a stage before it runs. So each tar has a second name, a hard link in a folder outside DVC,
made of what it was made from and of its own digest; the folder holds those of the last run. The shards themselves say
nothing of the code: a run of other code that gives the same bytes gives the same manifest, and training does not run
again.
"""

import hashlib
import logging
import os
from collections.abc import Iterable
from pathlib import Path

from models.data.format import ManifestSplit, ShardFile
from models.data.tars import KeptTar
from models.verified import sha256_file

logger = logging.getLogger(__name__)

EARLIER_TARS = Path("data/cache/tars")


class EarlierTars:
    """The tars of a family as the run before left them, and those of this run for the next one.

    Args:
        folder: Of the links; where the disk has no hard links, or is another one, it stays empty.
        code: Digest of the code of the stage.
    """

    def __init__(self, folder: Path, code: str) -> None:
        self._folder, self._code = folder, code
        self._inputs: dict[str, tuple[str, int]] = {}
        self._taken = 0
        names = (path.stem.partition("-") for path in folder.glob("*-*.tar"))
        self._known = {inputs: sha256 for inputs, _, sha256 in names}

    def find(self, split: str, file: str, keys: list[str], regions: int, decides: Iterable[bytes]) -> KeptTar | None:
        """The tar that the run before made of the same; None: it is to be written.

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
        sha256 = self._known.get(inputs)
        if sha256 is None:
            return None
        path = self._path(inputs, sha256)
        try:
            if sha256_file(path) != sha256:
                return None
        except OSError:  # it went away, or cannot be read: it is written anew
            return None
        self._taken += 1
        return KeptTar(split=split, file=file, keys=keys, regions=regions, path=path, sha256=sha256)

    def keep(self, output: Path, splits: Iterable[ManifestSplit]) -> dict[str, int]:
        """Link what this run wrote in the place of what the run before did, and count it.

        A tar that lacks a sample is not kept: the next run tries it again.

        Args:
            output: The family's folder.
            splits: What its manifest says.
        """
        tars = [tar for split in splits for tar in split.shards]
        try:
            self._keep(output, tars)
        except OSError as error:  # the shards are whole: the next run writes more of them than it would have to
            logger.warning("%s cannot be kept for the next run (%s)", self._folder, error.strerror)
        return {"written": len(tars) - self._taken, "taken_over": self._taken}

    def _keep(self, output: Path, tars: Iterable[ShardFile]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        kept = set()
        for tar in tars:
            inputs, samples = self._inputs[tar.file]
            if tar.samples == samples:
                kept.add(self._path(inputs, tar.sha256))
                _link(output / tar.file, self._path(inputs, tar.sha256))
        for path in self._folder.iterdir():
            if path not in kept:
                path.unlink()

    def _path(self, inputs: str, sha256: str) -> Path:
        return self._folder / f"{inputs}-{sha256}.tar"


def _link(path: Path, name: Path) -> None:
    try:
        name.unlink(missing_ok=True)
        os.link(path, name)
    except OSError:
        pass  # A copy would cost as much disk as the shards: the next run writes the tar again.
