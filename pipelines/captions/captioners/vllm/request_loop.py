"""One item from request to answer: the result cache first, then the model, again where its answer cannot be used."""

import asyncio
import contextlib
from collections import Counter
from typing import Any

from pipelines.cache import ResultCache
from pipelines.captions.answer import ImageAnswer, RegionAnswer
from pipelines.captions.captioners.vllm.caption_request import CaptionRequest, CaptionRequests, cache_kind
from pipelines.captions.captioners.vllm.options import Options
from pipelines.captions.captioners.vllm.prompts import Prompts
from pipelines.captions.captioners.vllm.request_images import RequestImages
from pipelines.captions.captioners.vllm.schema import read_answer
from pipelines.captions.geometry_check import region_contradiction, summary_contradiction
from pipelines.captions.protocols import Answer, ImageItem, Item, NoAnswer, NotAsked, Response, Settings
from pipelines.chat.budget import BudgetSpent
from pipelines.chat.client import Client, Completion, PermanentError, TransientError
from pipelines.chat.message import as_data
from pipelines.errors import Rejected, disk_fault

_QUOTED_CHARACTERS = 2000
_RAW_CHARACTERS = 4000


class RequestLoop:
    """Answers items, at most `concurrency` of them at a time.

    Answers go to the result cache as soon as they are final, those that the server refused and rejected ones included;
    failed items do not, so that the next run tries them again. Nor does an item that was to be requested again when the
    budget was spent: the next run begins it anew, as a run without a budget would.

    Args:
        settings: As the captioner has them.
        options: The captioner's own.
        prompts: The prompt files.
        cache: Answers of this run and of those before.
        client: Way to the servers.
    """

    def __init__(
        self, settings: Settings, options: Options, prompts: Prompts, cache: ResultCache, client: Client
    ) -> None:
        self._settings = settings
        self._options = options
        self._prompts = prompts
        self._cache = cache
        self._client = client
        self._requests = CaptionRequests(settings, options, prompts)
        self._images = RequestImages(settings, options)
        self._slots = asyncio.Semaphore(options.concurrency)
        self.counts: dict[str, Counter[str]] = {"image": Counter(), "region": Counter()}

    async def answer(self, item: Item) -> Answer | NotAsked:
        """The cached answer to an item, or a new one; `NotAsked` where there is none and the budget is spent.

        Raises:
            UserError: See `Client` and `Prompts`.
        """
        counts = self.counts[item.kind]
        request, cached, urls = await asyncio.to_thread(self._prepare, item)
        if cached is not None:
            counts["reused"] += 1
            return cached
        if isinstance(urls, NoAnswer | NotAsked):
            return urls
        async with self._slots:
            if self._client.budget.is_spent:
                return NotAsked()
            counts["sent"] += 1
            outcome = await self._send_until_usable(request, urls)
            if isinstance(outcome, NoAnswer | NotAsked):
                return outcome
            self._cache.put(request.key, cache_kind(item), outcome)
        return self._read_outcome(item, outcome)

    def _prepare(self, item: Item) -> tuple[CaptionRequest, Response | None, list[str] | NoAnswer | NotAsked]:
        """The request with its cached answer, or else its images; for a thread, as it reads, scales and encodes."""
        request = self._requests.of(item)
        outcome = self._cache.get(request.key)
        if outcome is not None:
            # An answer that today's rules reject was stored under earlier ones: it is requested again.
            with contextlib.suppress(Rejected):
                return request, self._read_outcome(item, outcome), []
        if self._client.budget.is_spent:
            return request, None, NotAsked()
        try:
            return request, None, self._images.urls(item)
        except Rejected as error:
            return request, None, NoAnswer(status="failed", reason=error.reason)
        except OSError as error:
            return request, None, NoAnswer(status="failed", reason=disk_fault(error))

    async def _send_until_usable(
        self, request: CaptionRequest, urls: list[str]
    ) -> dict[str, Any] | NoAnswer | NotAsked:
        """Send until an answer can be used; a value for the cache, or the reason why another run should try again.

        An answer that keeps the schema and the rules but contradicts the geometry is requested again too, and is used
        where no better one comes.
        """
        item, options = request.item, self._options
        messages = conversation = request.messages(urls)
        usable: str | None = None
        reason, content = "", ""
        usage: Counter[str] = Counter()
        for attempt in range(options.attempts):
            body = {
                "model": options.model,
                "messages": conversation,
                "response_format": request.response_format,
                "temperature": options.temperature,
                "max_tokens": options.max_tokens,
                # Its own for each item and attempt: with one for all, equal odds give all items the same words.
                "seed": (int(request.key[:8], 16) + attempt) % 2**31,
            }
            try:
                completion = await self._client.complete(body)
            except BudgetSpent:
                return NotAsked()
            except TransientError as error:
                return NoAnswer(status="failed", reason=error.reason)
            except PermanentError as error:
                reason, content = error.reason, error.body
                usage["attempts"] += 1
                break
            self._add_usage(item, completion, usage)
            content = completion.content
            try:
                contradiction = self._contradiction(item, self._read(item, completion))
            except Rejected as error:
                reason, complaint = error.reason, str(error)
            else:
                usable = content
                if contradiction is None:
                    break
                complaint = f"{contradiction}: this is not where the region lies or how large it is"
            correction = {"role": "user", "content": self._prompts.again(item.kind, complaint)}
            quote = as_data(content)[:_QUOTED_CHARACTERS] or "(nothing)"
            conversation = [*messages, {"role": "assistant", "content": quote}, correction]
        if usable is not None:
            return {"content": usable, "reason": None, **usage}
        return {"content": content[:_RAW_CHARACTERS], "reason": reason, **usage}

    def _add_usage(self, item: Item, completion: Completion, usage: Counter[str]) -> None:
        counts = {
            "attempts": 1,
            "prompt_tokens": completion.prompt_tokens,
            "completion_tokens": completion.completion_tokens,
            "milliseconds": round(1000 * completion.seconds),
        }
        usage.update(counts)
        self.counts[item.kind].update(counts)

    def _contradiction(self, item: Item, answer: ImageAnswer | RegionAnswer) -> str | None:
        if isinstance(item, ImageItem):
            assert isinstance(answer, ImageAnswer)
            return summary_contradiction(item, answer)
        assert isinstance(answer, RegionAnswer)
        return region_contradiction(item, answer, self._settings.sizes)

    def _read_outcome(self, item: Item, outcome: dict[str, Any]) -> Response:
        return read_outcome(item, outcome, self._requests.instructions[item.kind])

    def _read(self, item: Item, completion: Completion) -> ImageAnswer | RegionAnswer:
        """The checked answer; `Rejected` where it was cut short or breaks schema or rules."""
        if completion.finish_reason == "length":
            raise Rejected("truncated_answer", "it was longer than allowed")
        if completion.finish_reason != "stop":
            raise Rejected("unfinished_answer", f"it ended with {completion.finish_reason}")
        return read_answer(item, completion.content, self._requests.instructions[item.kind])


def read_outcome(item: Item, outcome: dict[str, Any], instructions: str) -> Response:
    """What a value of the result cache says of an item.

    Args:
        item: What was asked about.
        outcome: The value.
        instructions: What the prompt says to every item of the kind.

    Raises:
        Rejected: Today's rules refuse the answer, so that it is requested again.
    """
    answer: ImageAnswer | RegionAnswer | NoAnswer
    if outcome["reason"] is not None:
        answer = NoAnswer(status="rejected", reason=outcome["reason"], raw_answer=outcome["content"])
    else:
        answer = read_answer(item, outcome["content"], instructions)
    return Response(answer=answer, attempts=outcome["attempts"])
