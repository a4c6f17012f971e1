"""Samples from whole tars, one after the other, of both families at once: webdataset's pipeline over our tars.

For storage on which single samples cannot be read: object stores, web servers, disks that seek. Each tar is compared
with its manifest before a sample of it is used (`models/data/fetch.py`), the next one is fetched meanwhile, and the two
tars of a shard are joined by key. So a tar that was cut, changed or cannot be reached is an error and never a shorter
stream. What comes is in stored order; `models/training/stream.py` shuffles.
"""

import io
import tarfile
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from webdataset import DataPipeline
from webdataset.tariterators import group_by_keys, tar_file_expander

from models.data.fetch import fetch
from models.data.format import EXTENSIONS, ShardError, ShardFile
from models.data.shards import Sample, ShardSet, joined


@dataclass(frozen=True, slots=True)
class RawSample:
    """A sample whose members are bytes.

    Attributes:
        number: Of the split, in stored order.
        key: The image_id.
        members: Of both families, by family and extension.
        tars: Where the two families' members came from.
    """

    number: int
    key: str
    members: dict[str, dict[str, bytes]]
    tars: tuple[str, str]

    def sample(self) -> Sample:
        """The sample as `ShardSet.sample` gives it."""
        return joined(self.key, self.members["images"], self.members["captions"], self.tars, with_image=True)


@dataclass
class Fetched:
    """What was fetched so far: shards, and the bytes of their tars."""

    shards: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class TarStream:
    """The tars of a split, and where they are.

    Attributes:
        split: What the manifests say of it.
        location: Folder or URL that holds a folder for each family; None: the split's own folders.
    """

    split: ShardSet
    location: str | None = None
    fetched: Fetched = field(default_factory=Fetched, compare=False)

    def samples(self, shards: Sequence[int]) -> Iterator[RawSample]:
        """All samples of some shards, in this order.

        Args:
            shards: Numbers of the split's shards; each is fetched once the one before it is read.

        Raises:
            ShardError: A tar is missing or damaged, or holds other samples than its manifest says.
            ConnectionError: It cannot be reached.
        """
        # A list would be taken for the stages themselves.
        return iter(DataPipeline(partial(iter, shards), self._in_turn, self._opened))

    def place(self, family: str) -> str:
        """Folder or URL of a family."""
        own: dict[str, Path] = {"images": self.split.images, "captions": self.split.captions}
        return str(own[family]) if self.location is None else f"{self.location}/{family}"

    def _in_turn(self, shards: Iterable[int]) -> Iterator[tuple[int, tuple[bytes, ...]]]:
        """The tars of each shard. While those of one are used, a thread fetches the next."""
        pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="fetch")
        asked: deque[tuple[int, Future[tuple[bytes, ...]]]] = deque()
        try:
            for shard in shards:
                asked.append((shard, pool.submit(self._fetch, shard)))
                if len(asked) > 1:
                    yield self._counted(*asked.popleft())
            while asked:
                yield self._counted(*asked.popleft())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _counted(self, shard: int, future: Future[tuple[bytes, ...]]) -> tuple[int, tuple[bytes, ...]]:
        tars = future.result()
        self.fetched.shards += 1
        self.fetched.bytes += sum(map(len, tars))
        return shard, tars

    def _fetch(self, shard: int) -> tuple[bytes, ...]:
        return tuple(fetch(self.place(family), tar) for family, tar in self._tars(shard))

    def _tars(self, shard: int) -> Iterable[tuple[str, ShardFile]]:
        return zip(EXTENSIONS, self.split.pairs[shard], strict=True)

    def _opened(self, shards: Iterable[tuple[int, tuple[bytes, ...]]]) -> Iterator[RawSample]:
        """Their samples, the members of both families joined by key."""
        for shard, tars in shards:
            urls = tuple(f"{self.place(family)}/{tar.file}" for family, tar in self._tars(shard))
            images, captions = (
                _members(data, url, family, tar)
                for data, url, (family, tar) in zip(tars, urls, self._tars(shard), strict=True)
            )
            # The members are copies.
            del tars
            if list(images) != list(captions):
                raise ShardError(f"{urls[1]} has other samples than {urls[0]}: run `dvc repro`")
            for number, key in enumerate(images, start=self.split.starts[shard]):
                both = {"images": images[key], "captions": captions[key]}
                yield RawSample(number, key, both, (urls[0], urls[1]))


def _members(data: bytes, url: str, family: str, tar: ShardFile) -> dict[str, dict[str, bytes]]:
    """The members of a tar's samples by extension, by key in stored order."""
    try:
        found = list(group_by_keys(tar_file_expander([{"url": url, "stream": io.BytesIO(data)}], eof_value=None)))
    except (ValueError, tarfile.TarError) as error:
        # webdataset adds other values to the words, and the stream's address.
        reason = str(error.args[0]).split(" @ ")[0]
        raise ShardError(f"{url} is damaged ({reason}): run `dvc repro`") from None
    extensions = EXTENSIONS[family]
    samples = {}
    for sample in found:
        members = {name: value for name, value in sample.items() if not name.startswith("__")}
        if members.keys() != set(extensions):
            raise ShardError(f"{url} holds the members {sorted(members)} of {sample['__key__']}: run `dvc repro`")
        samples[sample["__key__"]] = {extension: members[extension] for extension in extensions}
    if len(samples) != tar.samples:
        raise ShardError(f"{url} holds {len(samples)} samples, its manifest says {tar.samples}: run `dvc repro`")
    return samples
