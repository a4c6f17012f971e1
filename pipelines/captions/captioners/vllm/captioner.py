"""The captioner `vllm`: a vision-language model behind servers that speak OpenAI's protocol, such as vLLM.

Prompt files: `prompts.py`. The schema of the answers, and how the caption is put together: `schema.py`. The pixels that
are sent: `request_images.py`. Cached answers and bad ones: `request_loop.py`. What it will ask: `costs.py`. Errors of
servers and networks, and what a run may ask: `pipelines/chat/`.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from pipelines.cache import ResultCache
from pipelines.captions.captioners.vllm.caption_request import CaptionRequests, cache_kind
from pipelines.captions.captioners.vllm.costs import request_costs
from pipelines.captions.captioners.vllm.options import Options
from pipelines.captions.captioners.vllm.prompts import Prompts
from pipelines.captions.captioners.vllm.request_loop import RequestLoop
from pipelines.captions.protocols import Answer, Costs, Item, NotAsked, Settings
from pipelines.chat.budget import RequestBudget
from pipelines.chat.client import Client
from pipelines.chat.in_order import answers_in_order
from pipelines.config import parse
from pipelines.records import CaptionKind

logger = logging.getLogger(__name__)

_SECTION = "captions.options.vllm"


class Vllm:
    """Describes by what a served model answers.

    Args:
        settings: What every captioner is built with.

    Raises:
        UserError: An option is wrong, or a prompt file is missing or no template.
    """

    sees_pixels = True

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._options = parse(Options, settings.options, _SECTION)
        self._prompts = Prompts(settings.prompts, settings.sizes)
        self._budget = RequestBudget(settings.budget)
        self._counts: dict[str, Any] = {}

    def describe(self, items: Iterable[Item]) -> Iterator[Answer | NotAsked]:
        """See `Captioner`.

        Raises:
            UserError: A prompt cannot be rendered, the servers refuse the settings, or none can be reached.
        """
        cache = ResultCache(self._settings.cache)
        client = Client(self._options, self._budget, _SECTION)
        request_loop = RequestLoop(self._settings, self._options, self._prompts, cache, client)
        try:
            yield from answers_in_order(client, request_loop.answer, items, self._options.concurrency)
        finally:
            self._counts = _summarise(request_loop, client, cache)
            # A run that its budget ends has no summary.
            if rate := self._counts["requests_per_second"]:
                logger.info("%d requests in %.0f s, %.2f a second", client.requests, client.seconds, rate)
            cache.close()

    def keys(self, items: Iterable[Item]) -> Iterator[tuple[str, str]]:
        """See `KeepsAnswers`."""
        requests = CaptionRequests(self._settings, self._options, self._prompts)
        return ((requests.of(item).key, cache_kind(item)) for item in items)

    def costs(self, kept: Callable[[str], Any], model: Path | None) -> Costs:
        """See `SendsRequests`."""
        return request_costs(self._settings, self._options, self._prompts, kept, model)

    def prompt_sha256(self, kind: CaptionKind) -> str:
        return self._prompts.sha256(kind)

    def counts(self) -> dict[str, Any]:
        return self._counts


def _summarise(request_loop: RequestLoop, client: Client, cache: ResultCache) -> dict[str, Any]:
    """Counts of this run: items sent to the model and answers reused from the result cache, requests and tokens."""
    total: Counter[str] = Counter()
    for counts in request_loop.counts.values():
        total.update(counts)
    return {
        "sent": total["sent"],
        "reused": total["reused"],
        "requests": client.requests,
        "retries": client.retries,
        "requests_per_second": round(client.requests / client.seconds, 3) if client.seconds else None,
        **cache.counts(),
        "by_kind": {
            kind: {
                **{name: counts[name] for name in ("sent", "reused", "prompt_tokens", "completion_tokens")},
                "answers": counts["attempts"],
                "request_seconds": round(counts["milliseconds"] / 1000, 3),
            }
            for kind, counts in request_loop.counts.items()
        },
    }
