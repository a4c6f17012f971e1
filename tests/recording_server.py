"""A server on loopback that speaks OpenAI's chat protocol, records its requests and fails by script."""

import hashlib
import http.client
import json
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_NOUNS = ("opacity", "nodule", "polyp", "mass", "effusion", "lesion", "cyst", "ulcer")
_ADJECTIVES = ("round", "oval", "irregular", "raised", "flat", "nodular", "smooth", "lobulated", "spiculated")


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request for a completion.

    Attributes:
        kind: image or region, from the schema's name; text where no schema is asked for.
        content_sha256: Digest of the instructions and the first user message, images included.
        repeats: How many earlier requests had the same content.
        number: Index among all requests, from 0.
        body: All of it.
        headers: Names in lower case.
    """

    kind: str
    content_sha256: str
    repeats: int
    number: int
    body: dict[str, Any]
    headers: dict[str, str]

    @property
    def text(self) -> str:
        """What is specific to the item."""
        user = next(message for message in self.body["messages"] if message["role"] == "user")
        return user["content"][-1]["text"]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """How an answer goes wrong.

    Attributes:
        words: Put into the answer's JSON.
        content: Instead of the answer's JSON; what is asked for without a schema needs one.
        model: That it says it is, instead of the requested one.
        body: Instead of the whole completion.
        finish_reason: Of the completion.
        status: HTTP status; any but 200 has no completion.
        headers: More headers.
        hang: No answer before the server closes.
        reset: The connection is reset.
        die: From now on the server accepts no connection.
    """

    words: dict[str, Any] | None = None
    content: str | None = None
    model: str | None = None
    body: bytes | None = None
    finish_reason: str = "stop"
    status: int = 200
    headers: dict[str, str] | None = None
    hang: bool = False
    reset: bool = False
    die: bool = False


Script = Callable[[Request], Fault | None]


class RecordingServer:
    """Answers every request with the same valid JSON each time, unless the script says otherwise.

    Attributes:
        script: What goes wrong with a request.
        delay: Seconds before each answer.
        max_under_way: Largest number of requests under way at a time.
        dead: It answers nothing any more, like a killed process.
    """

    def __init__(self) -> None:
        self.script: Script = lambda _: None
        self.delay = 0.0
        self.max_under_way = 0
        self.dead = False
        self._requests: list[Request] = []
        self._connections = 0
        self._under_way = 0
        self._lock = threading.Condition()
        self._closing = threading.Event()
        self._http = _Http(("127.0.0.1", 0), _Handler)
        self._http.owner = self
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def requests(self) -> list[Request]:
        """All requests, in order of arrival. Their client has ended: all that it sent is read first, even if killed."""
        if not (self.dead or self._closing.is_set()):
            # Connections are accepted in order: with this one's answer, those before it are known.
            last = http.client.HTTPConnection("127.0.0.1", self._http.server_port, timeout=30)
            last.request("GET", "/", headers={"Connection": "close"})
            last.getresponse().read()
            last.close()
        with self._lock:
            read = self._lock.wait_for(lambda: self._connections == self._under_way, 30)
            assert read, f"{self._connections - self._under_way} connections of a client are open"
            return self._requests

    def count(self) -> Counter[str]:
        """Requests by kind."""
        return Counter(request.kind for request in self.requests)

    def forget(self) -> None:
        self.requests.clear()

    def close(self) -> None:
        self._closing.set()
        self._http.shutdown()
        self._http.server_close()

    def record(self, body: dict[str, Any], headers: dict[str, str]) -> Request:
        content_sha256 = hashlib.sha256(json.dumps(body["messages"][:2], sort_keys=True).encode()).hexdigest()
        with self._lock:
            request = Request(
                kind=body["response_format"]["json_schema"]["name"] if "response_format" in body else "text",
                content_sha256=content_sha256,
                repeats=sum(other.content_sha256 == content_sha256 for other in self._requests),
                number=len(self._requests),
                body=body,
                headers=headers,
            )
            self._requests.append(request)
        return request

    @contextmanager
    def under_way(self) -> Iterator[None]:
        with self._lock:
            self._under_way += 1
            self.max_under_way = max(self.max_under_way, self._under_way)
            self._lock.notify_all()
        try:
            time.sleep(self.delay)
            yield
        finally:
            with self._lock:
                self._under_way -= 1
                self._lock.notify_all()

    def connected(self, change: int) -> None:
        """One connection more or less."""
        with self._lock:
            self._connections += change
            self._lock.notify_all()

    def hang(self) -> None:
        self._closing.wait(60)

    def die(self) -> None:
        """Accept no connection any more, and reset those that are open at their next request."""
        self.dead = True
        self._http.socket.close()


class _Http(ThreadingHTTPServer):
    owner: RecordingServer
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def process_request(self, request: Any, client_address: Any) -> None:
        self.owner.connected(1)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        self.owner.connected(-1)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that went away are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Http

    def do_GET(self) -> None:
        if self.server.owner.dead:
            return self._reset()
        self._send(200, b'{"object": "list", "data": []}', {})

    def do_POST(self) -> None:
        owner = self.server.owner
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if owner.dead:
            return self._reset()
        request = owner.record(body, {name.lower(): value for name, value in self.headers.items()})
        fault = owner.script(request) or Fault()
        with owner.under_way():
            if fault.die:
                owner.die()
            if fault.hang:
                owner.hang()
            if fault.hang or fault.reset or fault.die:
                self._reset()
            elif fault.status != 200:
                self._send(fault.status, f'{{"error": "status {fault.status}"}}'.encode(), fault.headers or {})
            else:
                self._send(200, _completion(request, fault) if fault.body is None else fault.body, fault.headers or {})

    def log_message(self, *_: Any) -> None:
        """Silent."""

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json", "Content-Length": str(len(data))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


def _completion(request: Request, fault: Fault) -> bytes:
    content = json.dumps(_words(request) | (fault.words or {})) if fault.content is None else fault.content
    if fault.finish_reason == "length":
        content = content[: len(content) // 2]
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": fault.finish_reason}
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    model = fault.model or request.body["model"]
    return json.dumps({"object": "chat.completion", "model": model, "choices": [choice], "usage": usage}).encode()


def _words(request: Request) -> dict[str, Any]:
    """Valid for the request's schema, and the same for the same content."""
    seed = int(request.content_sha256[:12], 16)
    noun, first = _NOUNS[seed % len(_NOUNS)], seed % len(_ADJECTIVES)
    adjectives = [*_ADJECTIVES[first:], *_ADJECTIVES[:first]]
    if request.kind == "image":
        sentence = f"The picture shows one {adjectives[0]} {noun} next to tissue that looks quite normal."
        return {"summary_caption": sentence, "detailed_report": f"There is one {noun}. Number {seed}."}
    words = {
        "adjective": adjectives[0],
        "term": noun,
        "position": "center middle",
        "size": "large",
        "alternative_adjectives": adjectives[1:6],
    }
    return {name: words[name] for name in request.body["response_format"]["json_schema"]["schema"]["properties"]}
