"""Requests to OpenAI-compatible servers: spread, retried after transient errors, given up after permanent ones.

- 408, 425, 429, 5xx, timeouts and broken connections are transient: the request is sent again after a random wait that
  doubles ("full jitter", M. Brooker, Exponential backoff and jitter, AWS Architecture Blog, 2015), or what Retry-After
  asks for if that is longer. After the last retry the item fails, and the next run tries it again.
- Where no server can be reached the run waits up to `outage_timeout_s`, then ends with one line.
- 401, 403, 404 and redirections concern every request alike: they end the run with one line.
- Any other status is permanent for the item.
- A response is read up to `max_answer_bytes`, and never unpacked: a longer or compressed one fails the item.
- An answer of another model than the one requested ends the run: those of two models would be mixed under one key.
"""

import asyncio
import email.utils
import json
import os
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NoReturn

import aiohttp
import tenacity

from pipelines.chat.budget import RequestBudget
from pipelines.chat.connection import Connection
from pipelines.chat.servers import Server, Servers
from pipelines.errors import TemporaryError, UserError

API_KEY = "MEDREGION_VLLM_API_KEY"

_TRANSIENT = {408, 425, 429}
_PROXY = {502, 503, 504}
_MAX_WAIT_S = 60.0
_PROBE_S = 5.0
_BODY_CHARACTERS = 2000


class TransientError(Exception):
    """A request failed that may succeed later.

    Attributes:
        reason: Reason code.
        answered: The server itself answered; else it may be down.
        retry_after: Seconds to wait that the server asks for.
        is_retried: In this run too; else only the next run sends the request again.
    """

    def __init__(self, reason: str, answered: bool, retry_after: float = 0.0, is_retried: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.answered = answered
        self.retry_after = retry_after
        self.is_retried = is_retried


class PermanentError(Exception):
    """A request that this server will never answer.

    Attributes:
        reason: `http_<status>`.
        body: Beginning of the response's body.
    """

    def __init__(self, reason: str, body: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.body = body


@dataclass(frozen=True, kw_only=True)
class Completion:
    """One answer of the model.

    Attributes:
        content: Its text.
        finish_reason: Why it ended: `stop`, or `length` where max_tokens cut it.
        prompt_tokens: Tokens of the request.
        completion_tokens: Tokens of the answer.
        seconds: From sending to the last byte.
    """

    content: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    seconds: float


class Client:
    """An asynchronous context manager; one pool of connections for all requests.

    The key comes from the environment variable MEDREGION_VLLM_API_KEY and goes into the header alone.

    Args:
        connection: Model and servers.
        budget: Every request is taken from it, those that are sent again too.
        section: Keys of params.yaml that lead to the connection, for error messages.

    Attributes:
        requests: Requests that were sent.
        retries: Those of them that were sent again.
        seconds: From sending the first one to the end of the last.
    """

    def __init__(self, connection: Connection, budget: RequestBudget, section: str) -> None:
        self._connection = connection
        self.budget = budget
        self._section = section
        self._servers = Servers(connection.base_urls, connection.cooldown_s)
        self._key = os.environ.get(API_KEY, "")
        self._probing = asyncio.Lock()
        self._outages = 0
        self.requests = 0
        self.retries = 0
        self.seconds = 0.0
        self._start = 0.0

    async def __aenter__(self) -> "Client":
        # vLLM closes idle connections after 5 s; a connection that is let go earlier is never found closed.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=3),
            timeout=aiohttp.ClientTimeout(total=self._connection.timeout_s, sock_connect=10),
            headers={
                "Accept-Encoding": "identity",
                **({"Authorization": f"Bearer {self._key}"} if self._key else {}),
            },
            auto_decompress=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def complete(self, request: dict[str, Any]) -> Completion:
        """Send one request for a chat completion.

        Raises:
            BudgetSpent: No request may be sent any more.
            TransientError: Another run may succeed.
            PermanentError: No other run will succeed.
            UserError: The settings are wrong, or no server can be reached.
        """
        body = json.dumps(request).encode()
        jitter = tenacity.wait_random_exponential(multiplier=self._connection.backoff_s, max=_MAX_WAIT_S)
        while True:
            retrying = tenacity.AsyncRetrying(
                retry=tenacity.retry_if_exception(lambda error: isinstance(error, TransientError) and error.is_retried),
                stop=tenacity.stop_after_attempt(1 + self._connection.retries),
                wait=lambda state: max(jitter(state), _transient_error(state).retry_after),
                before_sleep=self._count_retry,
                reraise=True,
            )
            try:
                return await retrying(self._send, body)
            except TransientError as error:
                if error.answered or not await self._wait_for_a_server():
                    raise
            self.retries += 1

    def _count_retry(self, _: tenacity.RetryCallState) -> None:
        self.retries += 1

    async def _send(self, body: bytes) -> Completion:
        self.budget.take()
        server = self._servers.choose()
        server.in_flight += 1
        server.sent += 1
        self.requests += 1
        start = time.monotonic()
        self._start = self._start or start
        try:
            async with self._session.post(
                f"{server.url}/chat/completions",
                data=body,
                headers={"Content-Type": "application/json"},
                allow_redirects=False,
            ) as response:
                text = await _read_text(response, self._connection.max_answer_bytes)
        except (aiohttp.ClientError, OSError) as error:
            self._servers.cool_down(server)
            reason = "timeout" if isinstance(error, TimeoutError) else "connection_lost"
            raise TransientError(reason, answered=False) from None
        finally:
            server.in_flight -= 1
            self.seconds = time.monotonic() - self._start
        if response.status in _PROXY:
            self._servers.cool_down(server)
        else:
            server.reachable = True
        if response.status != 200:
            self._raise(server, response, text)
        return self._completion(server, text, time.monotonic() - start)

    def _completion(self, server: Server, text: str, seconds: float) -> Completion:
        """The answer in a response.

        Raises:
            TransientError: It is none.
            UserError: It is of another model.
        """
        try:
            values = json.loads(text)
            model, completion = str(values["model"]), _completion(values, seconds)
        except Exception:  # noqa: BLE001 - a server may send anything, and no response may end the stage
            raise TransientError("not_a_completion", answered=True) from None
        if model != self._connection.model:
            raise UserError(
                f"{server.url} answers as the model '{_clean(model)[:100]}', requested is '{self._connection.model}': "
                f"start the server with that model, or change {self._section}.model; the answers so far are in "
                "the result cache"
            )
        return completion

    def _raise(self, server: Server, response: aiohttp.ClientResponse, text: str) -> NoReturn:
        status = response.status
        if status in _TRANSIENT or status >= 500:
            wait = min(_retry_after(response.headers.get("Retry-After", "")), self._connection.outage_timeout_s)
            raise TransientError(f"http_{status}", answered=status not in _PROXY, retry_after=wait)
        message = " ".join((text.replace(self._key, "***") if self._key else text).split())
        if status < 400 or status in (401, 403, 404):
            raise UserError(
                f"{server.url} answers {status} ({message[:200]}): set {API_KEY}, or mend base_urls and model "
                f"in {self._section}"
            )
        raise PermanentError(f"http_{status}", message[:_BODY_CHARACTERS])

    async def _wait_for_a_server(self) -> bool:
        """Wait while no server can be reached.

        Returns:
            False where a server could be reached at once, so that the error was the request's; True when one has come
            back.

        Raises:
            TemporaryError: None came back in `outage_timeout_s`.
        """
        start = time.monotonic()
        outages = self._outages
        async with self._probing:
            while not any(await asyncio.gather(*(self._is_reachable(server) for server in self._servers.all))):
                self._outages += 1
                if time.monotonic() - start > self._connection.outage_timeout_s:
                    urls = ", ".join(server.url for server in self._servers.all)
                    raise TemporaryError(
                        f"no answer from {urls} for {self._connection.outage_timeout_s:g} s: start the server or mend "
                        f"base_urls in {self._section}; the answers so far are in the result cache"
                    )
                await asyncio.sleep(min(1.0, self._connection.outage_timeout_s / 10))
        return self._outages > outages

    async def _is_reachable(self, server: Server) -> bool:
        try:
            timeout = aiohttp.ClientTimeout(total=_PROBE_S)
            async with self._session.get(f"{server.url}/models", timeout=timeout) as response:
                return response.status < 500
        except (aiohttp.ClientError, OSError):
            return False


async def _read_text(response: aiohttp.ClientResponse, max_bytes: int) -> str:
    """The body of a response; of one that is no answer, its beginning.

    Raises:
        TransientError: It is longer than `max_bytes`, or compressed, so that nobody knows how long it is.
    """
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        response.close()
        raise TransientError("compressed_answer", answered=True, is_retried=False)
    body = bytearray()
    async for chunk in response.content.iter_chunked(2**16):
        body += chunk
        if len(body) > max_bytes:
            response.close()
            if response.status == 200:
                raise TransientError("answer_too_large", answered=True, is_retried=False)
            break
    return body.decode(errors="replace")


def _completion(values: dict[str, Any], seconds: float) -> Completion:
    choice, usage = values["choices"][0], values.get("usage") or {}
    return Completion(
        content=_clean(str(choice["message"].get("content") or "")),
        finish_reason=str(choice.get("finish_reason")),
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
        seconds=seconds,
    )


def _clean(text: str) -> str:
    """Text that UTF-8 can hold: half a surrogate pair, which JSON may spell, becomes replacement characters."""
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def _count(value: Any) -> int:
    """A number of tokens; 0 where the server sent none that can be true."""
    return value if isinstance(value, int) and 0 <= value < 2**31 else 0


def _transient_error(state: tenacity.RetryCallState) -> TransientError:
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, TransientError)
    return error


def _retry_after(value: str) -> float:
    """Seconds of a Retry-After header (RFC 9110, 10.2.3): a number or a date; 0 where it is neither."""
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0.0
