"""The captioner `vllm`: a vision-language model behind servers that speak OpenAI's protocol, such as vLLM.

Prompt files: `prompts.py`. What the model is asked for, and how the caption is put together: `schema.py`. What is sent
of the pixels: `pictures.py`. Faults of servers and networks: `client.py`. Kept answers and bad ones: `asking.py`.
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from typing import Any

from anyio.from_thread import start_blocking_portal

from pipelines.cache import ResultCache
from pipelines.captions.captioners.vllm.asking import Asking
from pipelines.captions.captioners.vllm.client import Client
from pipelines.captions.captioners.vllm.options import Options
from pipelines.captions.captioners.vllm.prompts import Prompts
from pipelines.captions.protocols import Answer, Item, Kind, Settings
from pipelines.config import parse

# Items that are read, scaled and waiting, for each that is asked about: enough to let slow answers be overtaken.
_LOOK_AHEAD = 4


class Vllm:
    """Asks an event loop in a thread of its own; the items are drawn in the caller's.

    Args:
        settings: What every captioner is built with.

    Raises:
        UserError: An option is wrong, or a prompt file is missing or no template.
    """

    sees_pixels = True

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._options = parse(Options, settings.options, "captions.options.vllm")
        self._prompts = Prompts(settings.prompts, settings.sizes)
        self._counts: dict[str, Any] = {}

    def describe(self, items: Iterable[Item]) -> Iterator[Answer]:
        """See `Captioner`.

        Raises:
            UserError: A prompt cannot be rendered, the servers refuse the settings, or none can be reached.
        """
        store = ResultCache(self._settings.store)
        client = Client(self._options)
        asking = Asking(self._settings, self._options, self._prompts, store, client)
        pending: deque[Future[Answer]] = deque()
        try:
            with start_blocking_portal() as portal, portal.wrap_async_context_manager(client):
                for item in items:
                    pending.append(portal.start_task_soon(asking.answer, item))
                    while len(pending) >= _LOOK_AHEAD * self._options.concurrency or (pending and pending[0].done()):
                        yield pending.popleft().result()
                while pending:
                    yield pending.popleft().result()
        finally:
            self._counts = _summarise(asking, client, store)
            store.close()

    def prompt_sha256(self, kind: Kind) -> str:
        return self._prompts.sha256(kind)

    def counts(self) -> dict[str, Any]:
        return self._counts


def _summarise(asking: Asking, client: Client, store: ResultCache) -> dict[str, Any]:
    """What the asking of this run came to; answers that were kept cost nothing again."""
    total: Counter[str] = Counter()
    for counts in asking.counts.values():
        total.update(counts)
    return {
        "asked": total["asked"],
        "reused": total["reused"],
        "requests": client.requests,
        "retries": client.retries,
        "corrupt_in_store": store.corrupt,
        "asking": {
            kind: {
                **{name: counts[name] for name in ("asked", "reused", "prompt_tokens", "completion_tokens")},
                "answers": counts["attempts"],
                "request_seconds": round(counts["milliseconds"] / 1000, 3),
            }
            for kind, counts in asking.counts.items()
        },
    }
