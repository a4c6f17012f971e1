"""One item from question to answer: the result cache first, then the model, again where its answer cannot be used."""

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass
from typing import Any

from pipelines.cache import ResultCache
from pipelines.captions.answer import ImageAnswer, RegionAnswer
from pipelines.captions.captioners.vllm.client import Client, Completion, Fault, Refused
from pipelines.captions.captioners.vllm.options import Options
from pipelines.captions.captioners.vllm.pictures import Pictures
from pipelines.captions.captioners.vllm.prompts import Prompts, as_data
from pipelines.captions.captioners.vllm.schema import read_answer, response_format
from pipelines.captions.geometry_check import facts, region_contradiction, summary_contradiction
from pipelines.captions.protocols import Answer, Asked, ImageItem, Item, Kind, Refusal, RegionItem, Settings
from pipelines.errors import Rejected, disk_fault
from pipelines.files import digest_of

# Part of every key in the result cache: raise it when code alone changes what is sent, pixels or conversation.
_VERSION = 1
_QUOTED_CHARACTERS = 2000
_RAW_CHARACTERS = 4000


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked about an item.

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
        """Instructions, pictures, then what is specific: the longest common prefix with other questions."""
        pictures = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
        return [
            {"role": "system", "content": self.system},
            {"role": "user", "content": [*pictures, {"type": "text", "text": self.user}]},
        ]


class Asking:
    """Answers items, at most `concurrency` of them at a time.

    Answers are kept in the result cache as soon as they are final, refusals and rejected ones among them; failed items
    are not, so that the next run asks about them.

    Args:
        settings: As the captioner has them.
        options: The captioner's own.
        prompts: The prompt files.
        store: Kept answers.
        client: Way to the servers.
    """

    def __init__(
        self, settings: Settings, options: Options, prompts: Prompts, store: ResultCache, client: Client
    ) -> None:
        self._settings = settings
        self._options = options
        self._prompts = prompts
        self._store = store
        self._client = client
        self._pictures = Pictures(settings, options)
        self._slots = asyncio.Semaphore(options.concurrency)
        self._fixed = {"image": self._fixed_part("image"), "region": self._fixed_part("region")}
        self.counts: dict[str, Counter[str]] = {"image": Counter(), "region": Counter()}

    async def answer(self, item: Item) -> Answer:
        """The kept answer to an item, or a new one.

        Raises:
            UserError: See `Client` and `Prompts`.
        """
        counts = self.counts[item.kind]
        question, kept, urls = await asyncio.to_thread(self._prepare, item)
        if kept is not None:
            counts["reused"] += 1
            return kept
        if isinstance(urls, Refusal):
            return urls
        async with self._slots:
            counts["asked"] += 1
            outcome = await self._ask(question, urls)
            if isinstance(outcome, Refusal):
                return outcome
            self._store.put(question.key, f"caption/{item.kind}", outcome)
        return self._read_outcome(item, outcome)

    def _prepare(self, item: Item) -> tuple[Question, Asked | None, list[str] | Refusal]:
        """The question with its kept answer, or else its pictures; for a thread, as it reads, scales and encodes."""
        question = self._question(item)
        outcome = self._store.get(question.key)
        if outcome is not None:
            # An answer that today's rules refuse was kept under earlier ones: it is asked for again.
            with contextlib.suppress(Rejected):
                return question, self._read_outcome(item, outcome), []
        try:
            return question, None, self._pictures.urls(item)
        except Rejected as fault:
            return question, None, Refusal(status="failed", reason=fault.reason)
        except OSError as error:
            return question, None, Refusal(status="failed", reason=disk_fault(error))

    def _question(self, item: Item) -> Question:
        row = item.image
        user = self._prompts.user(item, self._pictures.sent_size(row))
        shape = response_format(item)
        decides = {
            "fixed": self._fixed[item.kind],
            "image": [row["sha256"], row["member"], row["frame"]],
            "region": [item.box, item.mask] if isinstance(item, RegionItem) else None,
            "user": user,
            "schema": shape,
            "checks": facts(item, self._settings.sizes),
        }
        system = self._fixed[item.kind]["system"]
        return Question(item=item, system=system, user=user, response_format=shape, key=digest_of(decides))

    def _fixed_part(self, kind: Kind) -> dict[str, Any]:
        """What decides the answers of a kind and is the same for all its items."""
        options = self._options
        cut_out = [options.crop_size, options.crop_margin] if kind == "region" else []
        return {
            "system": self._prompts.system(kind),
            "again": self._prompts.again(kind, "?"),
            "model": [options.model, options.revision],
            "sampling": [options.temperature, options.max_tokens, self._settings.seed],
            "attempts": options.attempts,
            "pixels": [options.image_size, *cut_out],
            "version": _VERSION,
        }

    async def _ask(self, question: Question, urls: list[str]) -> dict[str, Any] | Refusal:
        """Ask until an answer can be used; a value for the store, or the reason why another run should ask.

        An answer that keeps the schema and the rules but contradicts the geometry is asked again too, and stands where
        nothing better comes.
        """
        item, options = question.item, self._options
        messages = talk = question.messages(urls)
        usable: str | None = None
        reason, content = "", ""
        spent: Counter[str] = Counter()
        for attempt in range(options.attempts):
            request = {
                "model": options.model,
                "messages": talk,
                "response_format": question.response_format,
                "temperature": options.temperature,
                "max_tokens": options.max_tokens,
                # Its own for each item and attempt: with one for all, equal odds give all items the same words.
                "seed": (int(question.key[:8], 16) + attempt) % 2**31,
            }
            try:
                completion = await self._client.complete(request)
            except Fault as fault:
                return Refusal(status="failed", reason=fault.reason)
            except Refused as refused:
                reason, content = refused.reason, refused.body
                spent["attempts"] += 1
                break
            self._spend(item, completion, spent)
            content = completion.content
            try:
                fault_found = self._contradiction(item, _read(item, completion))
            except Rejected as fault:
                reason, said = fault.reason, str(fault)
            else:
                usable = content
                if fault_found is None:
                    break
                said = f"{fault_found}: this is not where the region lies or how large it is"
            retort = {"role": "user", "content": self._prompts.again(item.kind, said)}
            quote = as_data(content)[:_QUOTED_CHARACTERS] or "(nothing)"
            talk = [*messages, {"role": "assistant", "content": quote}, retort]
        if usable is not None:
            return {"content": usable, "reason": None, **spent}
        return {"content": content[:_RAW_CHARACTERS], "reason": reason, **spent}

    def _spend(self, item: Item, completion: Completion, spent: Counter[str]) -> None:
        bill = {
            "attempts": 1,
            "prompt_tokens": completion.prompt_tokens,
            "completion_tokens": completion.completion_tokens,
            "milliseconds": round(1000 * completion.seconds),
        }
        spent.update(bill)
        self.counts[item.kind].update(bill)

    def _contradiction(self, item: Item, answer: ImageAnswer | RegionAnswer) -> str | None:
        if isinstance(item, ImageItem):
            assert isinstance(answer, ImageAnswer)
            return summary_contradiction(item, answer)
        assert isinstance(answer, RegionAnswer)
        return region_contradiction(item, answer, self._settings.sizes)

    def _read_outcome(self, item: Item, outcome: dict[str, Any]) -> Asked:
        answer: ImageAnswer | RegionAnswer | Refusal
        if outcome["reason"] is not None:
            answer = Refusal(status="rejected", reason=outcome["reason"], raw_answer=outcome["content"])
        else:
            answer = read_answer(item, outcome["content"])
        return Asked(answer=answer, attempts=outcome["attempts"])


def _read(item: Item, completion: Completion) -> ImageAnswer | RegionAnswer:
    """The checked answer; `Rejected` where it was cut short or breaks schema or rules."""
    if completion.finish_reason == "length":
        raise Rejected("truncated_answer", "it was longer than allowed")
    if completion.finish_reason != "stop":
        raise Rejected("unfinished_answer", f"it ended with {completion.finish_reason}")
    return read_answer(item, completion.content)
