"""From what is planned to rows: by a captioner that sends requests as a stream, by any other in batches of images."""

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from pipelines.cache import RESULT_CACHE
from pipelines.captions.config import CaptionsConfig
from pipelines.captions.plan import ImageAndRegions, entries
from pipelines.captions.protocols import Captioner, Item, NoAnswer, NotAsked, SendsRequests, Settings
from pipelines.captions.rows import RowBuilder
from pipelines.errors import UserError
from pipelines.records import CaptionRow
from pipelines.registry import names, plugin
from pipelines.sources import Sources
from pipelines.workers.crew import Lost


def captioner_of(config: CaptionsConfig, sources: Sources, cache: Path = RESULT_CACHE) -> Captioner:
    """The captioner that the settings name.

    Raises:
        UserError: It is unknown, its options or prompts are wrong, or there is a budget that it does not keep.
    """
    if unknown := config.options.keys() - names("captioners").keys():
        raise UserError(
            f"captions.options: {sorted(unknown)} is no captioner: choose from {', '.join(names('captioners'))}"
        )
    settings = Settings(
        prompts=config.prompts,
        seed=config.seed,
        options=config.options.get(config.captioner, {}),
        sizes=config.sizes,
        roots=sources.roots,
        max_pixels=sources.max_pixels,
        cache=cache,
        budget=config.budget,
    )
    captioner: Captioner = plugin("captioners", config.captioner)(settings)
    if str(config.budget) and not isinstance(captioner, SendsRequests):
        raise UserError(
            f"captions.budget ({config.budget}): the captioner '{config.captioner}' keeps none: set its keys to null, "
            "or choose a captioner that sends requests"
        )
    return captioner


class Describer:
    """Makes the rows of images with a captioner of its own.

    Args:
        config: Settings of the stage.
        sources: Where the images are, and how large one may be.
        cache: File of the result cache.
    """

    def __init__(self, config: CaptionsConfig, sources: Sources, cache: Path) -> None:
        self._config = config
        self.captioner = captioner_of(config, sources, cache)
        self._builder = RowBuilder(config.captioner, self.captioner, config.sizes)

    def __call__(self, pairs: Sequence[ImageAndRegions]) -> list[list[CaptionRow]]:
        """The rows of each image, its own and those of its regions."""
        return [list(rows) for _, rows in groupby(self.rows(pairs), key=attrgetter("image_id"))]

    def planned(self, pairs: Iterable[ImageAndRegions]) -> Iterator[CaptionRow | Item]:
        """For each row: the item that the captioner describes, or the row itself where it needs no answer."""
        return entries(pairs, self._config, self._builder, self.captioner.sees_pixels)

    def rows(self, pairs: Iterable[ImageAndRegions]) -> Generator[CaptionRow, None, None]:
        """Rows of `CAPTIONS` in their final order.

        The captioner pulls the items from a generator, so that it may work on several at a time. Rows that need no
        answer wait in `pending` beside the items, so that every row comes out in its place.

        Raises:
            UserError: The budget was spent before every item had its answer; after the last row, so that whoever writes
                them has no whole table.
        """
        pending: deque[CaptionRow | Item] = deque()

        def items() -> Iterator[Item]:
            for entry in self.planned(pairs):
                pending.append(entry)
                if not isinstance(entry, CaptionRow):
                    yield entry

        given = left = failed = 0
        for answer in self.captioner.describe(items()):
            given += 1
            while isinstance(entry := pending.popleft(), CaptionRow):
                yield entry
            if isinstance(answer, NotAsked):
                left += 1
                continue
            row = self._builder.described(entry, answer)
            failed += row.status == "failed"
            yield row
        if left:
            again = f" (and {failed} failed, which are asked again)" if failed else ""
            raise UserError(
                f"captions: the budget of this run ({self._config.budget}) is spent and {left} of {given} items are "
                f"left{again}, so no table is written; all answers are in the result cache. Run `dvc repro captions` "
                "again, which asks for the rest with the budget anew, or change captions.budget first"
            )
        for entry in pending:
            assert isinstance(entry, CaptionRow), (
                f"captioner {self._config.captioner} gave no answer for {entry.item_id}"
            )
            yield entry

    def lost(self, pair: ImageAndRegions, lost: Lost) -> Iterator[CaptionRow]:
        """The rows of an image that ended its worker: whatever needs an answer failed."""
        for entry in self.planned([pair]):
            if isinstance(entry, CaptionRow):
                yield entry
            else:
                yield self._builder.described(entry, NoAnswer(status="failed", reason=lost.reason))
