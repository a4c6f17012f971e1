"""What a served vision-language model answers to questions about images, each asked alone and once.

Answers lie in the result cache under the digest of all that is sent and of who answers. So another run, another method
and a run after an outage ask for what is missing alone, and a changed prompt asks for everything. What has no
words, being refused or empty, waits until all is known. Where that is most of the split the cause is a setting of the
server, which is in no key, and nothing of it is kept. Where it is most of what this run sent alone, the cause can be
either: a run that a kill cut off left the refusals for the next one. Then a question that was answered before is asked
again, and the refusals are kept if the server still answers that.
"""

import asyncio
import hashlib
import logging
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pipelines.cache import RESULT_CACHE, ResultCache
from pipelines.chat.budget import Budget, BudgetSpent, RequestBudget
from pipelines.chat.client import Client, PermanentError, TransientError
from pipelines.chat.in_order import answers_in_order
from pipelines.chat.message import as_data, jpeg_url
from pipelines.errors import TemporaryError, UserError
from pipelines.evaluate.task import QUOTED
from pipelines.evaluate.vqa.config import QUESTION, SECTION, Served
from pipelines.files import digest_of

logger = logging.getLogger(__name__)

# The likeliest token: an answer is no draw.
_TEMPERATURE = 0.0
# Part of every key in the result cache: raise it when code alone changes what is sent.
_VERSION = 1
_KIND = "vqa/answer"
_LEFT = "the budget was spent"


@dataclass(frozen=True, kw_only=True)
class ServedAnswer:
    """What a served model said.

    Attributes:
        text: Its words; '' where the server refused the request, or the model said nothing.
        refused: Of a refused one `http_<status>`.
        cut: It was longer than `max_tokens`.
        prompt_tokens: Of the request, as the server counted them.
        completion_tokens: Of the answer.
    """

    text: str
    refused: str | None = None
    cut: bool = False
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def has_words(self) -> bool:
        """Whether it is an answer: neither refused nor empty."""
        return bool(self.text.strip())


@dataclass(frozen=True, kw_only=True)
class _Request:
    key: str
    body: dict[str, Any]


@cache
def budget_of_run(budget: Budget) -> RequestBudget:
    """What is left of a budget: one for all that this process asks, which is a run."""
    return RequestBudget(budget)


def ask(
    served: Served, shown: Iterable[tuple[bytes, str]], budget: RequestBudget, results: Path = RESULT_CACHE
) -> list[ServedAnswer]:
    """The answer to each question, from the result cache or else from the servers.

    Args:
        served: Who is asked, and how.
        shown: JPEG file and question of each; pulled no further ahead than the servers need.
        budget: Every request is taken from it.
        results: File of the result cache.

    Raises:
        UserError: The servers refuse the settings, the budget is spent before each question has its answer, or most
            questions have none.
        TemporaryError: No server can be reached, or some questions got no answer after all retries.
    """
    keys: list[str] = []
    answered: list[_Request] = []
    known: dict[str, ServedAnswer] = {}
    received: dict[str, ServedAnswer] = {}
    faults: dict[str, str] = {}
    answers = ResultCache(results)
    client = Client(served, budget, SECTION)

    def unanswered() -> Iterator[_Request]:
        sent = set()
        for image, question in shown:
            request = _request(served, image, question)
            keys.append(request.key)
            if request.key in known or request.key in sent:
                continue
            kept = answers.get(request.key)
            if kept is None:
                sent.add(request.key)
                yield request
            else:
                known[request.key] = ServedAnswer(**kept)
                if known[request.key].has_words and not answered:
                    answered.append(request)

    sender = _Sender(client, answers, served.concurrency)
    try:
        for key, found in answers_in_order(client, sender.answer, unanswered(), served.concurrency):
            if isinstance(found, ServedAnswer):
                received[key] = found
            else:
                faults[key] = found
        known.update(received)
        asked = [known[key] for key in keys if key in known]
        failed = Counter(faults[key] for key in keys if key in faults)
        # A server that fails may answer yet, and then most has an answer.
        if failed.keys() <= {_LEFT}:
            _check_answered(asked, served, sender.refusal)
        if _mostly_answered(asked) and (_mostly_answered(received.values()) or _still_answers(answered, client)):
            answers.put_many((key, _KIND, asdict(one)) for key, one in received.items() if not one.has_words)
        _refuse(failed, len(keys), served.budget)
    finally:
        answers.close()
        logger.info("%s: %d questions, %d requests", SECTION, len(keys), client.requests)
    return asked


def _still_answers(answered: Sequence[_Request], client: Client) -> bool:
    """Whether the servers have words again for some of what they had words for before; the kept answers stay."""

    async def has_words(request: _Request) -> bool:
        try:
            return bool((await client.complete(request.body)).content.strip())
        except (BudgetSpent, TransientError, PermanentError):
            return False

    return any(answers_in_order(client, has_words, answered, concurrency=1))


class _Sender:
    """Sends requests, at most some at a time; an answer with words is in the result cache as soon as it is there.

    Attributes:
        refusal: What the server said of the first request that it refused.
    """

    def __init__(self, client: Client, answers: ResultCache, concurrency: int) -> None:
        self._client = client
        self._answers = answers
        self._slots = asyncio.Semaphore(concurrency)
        self.refusal = ""

    async def answer(self, request: _Request) -> tuple[str, ServedAnswer | str]:
        """The request's key, and the answer or why there is none."""
        async with self._slots:
            try:
                completion = await self._client.complete(request.body)
            except BudgetSpent:
                return request.key, _LEFT
            except TransientError as error:
                return request.key, error.reason
            except PermanentError as error:
                found = ServedAnswer(text="", refused=error.reason)
                self.refusal = self.refusal or error.body
            else:
                found = ServedAnswer(
                    text=completion.content[:QUOTED],
                    cut=completion.finish_reason == "length",
                    prompt_tokens=completion.prompt_tokens,
                    completion_tokens=completion.completion_tokens,
                )
            if found.has_words:
                self._answers.put(request.key, _KIND, asdict(found))
        return request.key, found


def _request(served: Served, image: bytes, question: str) -> _Request:
    """What is sent about a question: the image first, so that questions about one image share what they begin with."""
    text = served.text.replace(QUESTION, as_data(question))
    # Another name in here is another key, and all stored answers would be requested again.
    key_parts = {
        "image": hashlib.sha256(image).hexdigest(),
        "text": text,
        "model": [served.model, served.revision],
        "sampling": [_TEMPERATURE, served.max_tokens],
        "version": _VERSION,
    }
    parts = [{"type": "image_url", "image_url": {"url": jpeg_url(image)}}, {"type": "text", "text": text}]
    body = {
        "model": served.model,
        "messages": [{"role": "user", "content": parts}],
        "temperature": _TEMPERATURE,
        "max_tokens": served.max_tokens,
    }
    return _Request(key=digest_of(key_parts), body=body)


def _refuse(faults: Counter[str], questions: int, budget: Budget) -> None:
    """End a run in which questions have no answer: a score of the others would pass for one of all."""
    left = faults.pop(_LEFT, 0)
    failed = ", ".join(f"{reason} {count}" for reason, count in faults.most_common())
    if left:
        again = f" (and {faults.total()} failed: {failed})" if failed else ""
        raise UserError(
            f"{SECTION}: the budget of this run ({budget}) is spent and {left} of {questions} questions are "
            f"left{again}, so nothing is evaluated; all answers are in the result cache. Run the command again, which "
            "asks for the rest with the budget anew, or change the budget first"
        )
    if failed:
        raise TemporaryError(
            f"{SECTION}: {faults.total()} of {questions} questions got no answer ({failed}); the others are in the "
            "result cache: run the command again, which asks for the rest, and look at the server's log"
        )


def _mostly_answered(asked: Collection[ServedAnswer]) -> bool:
    return 2 * sum(answer.has_words for answer in asked) >= len(asked)


def _check_answered(asked: Collection[ServedAnswer], served: Served, refusal: str) -> None:
    """End a run in which most questions have no answer: the score would be one of the server's settings."""
    if _mostly_answered(asked):
        return
    missing = Counter(answer.refused or "empty" for answer in asked if not answer.has_words)
    reasons = ", ".join(f"{reason} {count}" for reason, count in missing.most_common())
    said = f"; the server says: {refusal[:200]}" if refusal else ""
    raise UserError(
        f"{SECTION}: {served.model} answers {len(asked) - missing.total()} of {len(asked)} questions "
        f"({reasons}{said}), so nothing is evaluated: mend the flags of the server (images of a prompt, length of the "
        f"context), or raise max_tokens (now {served.max_tokens}) of a model that thinks before it answers, and run "
        "the command again"
    )
