"""One item from request to answer: the result cache first, then the model, again where its answer cannot be used."""

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass
from typing import Any

from pipelines.cache import ResultCache
from pipelines.captions.answer import ImageAnswer, RegionAnswer
from pipelines.captions.captioners.vllm.client import Client, Completion, PermanentError, TransientError
from pipelines.captions.captioners.vllm.options import Options
from pipelines.captions.captioners.vllm.prompts import Prompts, as_data
from pipelines.captions.captioners.vllm.request_images import RequestImages
from pipelines.captions.captioners.vllm.schema import read_answer, response_format
from pipelines.captions.geometry_check import measured_values, region_contradiction, summary_contradiction
from pipelines.captions.protocols import Answer, ImageItem, Item, NoAnswer, RegionItem, Response, Settings
from pipelines.errors import Rejected, disk_fault
from pipelines.files import digest_of
from pipelines.records import CaptionKind

# Part of every key in the result cache: raise it when code alone changes what is sent, pixels or conversation.
_VERSION = 1
_QUOTED_CHARACTERS = 2000
_RAW_CHARACTERS = 4000


@dataclass(frozen=True, kw_only=True)
class CaptionRequest:
    """What is sent about an item.

    Attributes:
        item: The item.
        system: Instructions.
        user: What is specific.
        response_format: The schema of the answer.
        key: Digest of everything that decides the answer.
    """

    item: Item
    system: str
    user: str
    response_format: dict[str, Any]
    key: str

    def messages(self, urls: list[str]) -> list[dict[str, Any]]:
        """Instructions, images, then what is specific: the longest common prefix with other requests."""
        images = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
        return [
            {"role": "system", "content": self.system},
            {"role": "user", "content": [*images, {"type": "text", "text": self.user}]},
        ]


class RequestLoop:
    """Answers items, at most `concurrency` of them at a time.

    Answers go to the result cache as soon as they are final, those that the server refused and rejected ones included;
    failed items do not, so that the next run tries them again.

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
        self._images = RequestImages(settings, options)
        self._slots = asyncio.Semaphore(options.concurrency)
        self._fixed = {"image": self._fixed_part("image"), "region": self._fixed_part("region")}
        self._instructions = {kind: f"{part['system']}\n{part['again']}" for kind, part in self._fixed.items()}
        self.counts: dict[str, Counter[str]] = {"image": Counter(), "region": Counter()}

    async def answer(self, item: Item) -> Answer:
        """The cached answer to an item, or a new one.

        Raises:
            UserError: See `Client` and `Prompts`.
        """
        counts = self.counts[item.kind]
        request, cached, urls = await asyncio.to_thread(self._prepare, item)
        if cached is not None:
            counts["reused"] += 1
            return cached
        if isinstance(urls, NoAnswer):
            return urls
        async with self._slots:
            counts["sent"] += 1
            outcome = await self._send_until_usable(request, urls)
            if isinstance(outcome, NoAnswer):
                return outcome
            self._cache.put(request.key, f"caption/{item.kind}", outcome)
        return self._read_outcome(item, outcome)

    def _prepare(self, item: Item) -> tuple[CaptionRequest, Response | None, list[str] | NoAnswer]:
        """The request with its cached answer, or else its images; for a thread, as it reads, scales and encodes."""
        request = self._request(item)
        outcome = self._cache.get(request.key)
        if outcome is not None:
            # An answer that today's rules reject was stored under earlier ones: it is requested again.
            with contextlib.suppress(Rejected):
                return request, self._read_outcome(item, outcome), []
        try:
            return request, None, self._images.urls(item)
        except Rejected as error:
            return request, None, NoAnswer(status="failed", reason=error.reason)
        except OSError as error:
            return request, None, NoAnswer(status="failed", reason=disk_fault(error))

    def _request(self, item: Item) -> CaptionRequest:
        image = item.image
        user = self._prompts.user(item, self._images.sent_size(image))
        answer_format = response_format(item)
        # Another name in here is another key, and all stored answers would be requested again.
        key_parts = {
            "fixed": self._fixed[item.kind],
            "image": [image.sha256, image.member, image.frame],
            "region": [item.box, item.mask] if isinstance(item, RegionItem) else None,
            "user": user,
            "schema": answer_format,
            "checks": measured_values(item, self._settings.sizes),
        }
        system = self._fixed[item.kind]["system"]
        return CaptionRequest(
            item=item, system=system, user=user, response_format=answer_format, key=digest_of(key_parts)
        )

    def _fixed_part(self, kind: CaptionKind) -> dict[str, Any]:
        """What decides the answers of a kind and is the same for all its items."""
        options = self._options
        crop = [options.crop_size, options.crop_margin] if kind == "region" else []
        return {
            "system": self._prompts.system(kind),
            "again": self._prompts.again(kind, "?"),
            "model": [options.model, options.revision],
            "sampling": [options.temperature, options.max_tokens, self._settings.seed],
            "attempts": options.attempts,
            "pixels": [options.image_size, *crop],
            "version": _VERSION,
        }

    async def _send_until_usable(self, request: CaptionRequest, urls: list[str]) -> dict[str, Any] | NoAnswer:
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
        answer: ImageAnswer | RegionAnswer | NoAnswer
        if outcome["reason"] is not None:
            answer = NoAnswer(status="rejected", reason=outcome["reason"], raw_answer=outcome["content"])
        else:
            answer = read_answer(item, outcome["content"], self._instructions[item.kind])
        return Response(answer=answer, attempts=outcome["attempts"])

    def _read(self, item: Item, completion: Completion) -> ImageAnswer | RegionAnswer:
        """The checked answer; `Rejected` where it was cut short or breaks schema or rules."""
        if completion.finish_reason == "length":
            raise Rejected("truncated_answer", "it was longer than allowed")
        if completion.finish_reason != "stop":
            raise Rejected("unfinished_answer", f"it ended with {completion.finish_reason}")
        return read_answer(item, completion.content, self._instructions[item.kind])
