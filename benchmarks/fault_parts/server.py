"""A server on loopback that speaks OpenAI's chat protocol and answers, byte for byte, as it is told."""

import asyncio
import json
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What goes back over the connection.

    Attributes:
        body: Of the response.
        status: Of HTTP.
        headers: More of them.
        sent: How many bytes of the body are sent before the connection is closed; None: all, and it stays open.
        repeat: How often the body is sent, one after the other.
        hang: Nothing is sent until the other side gives up.
        reset: The connection is reset instead.
    """

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    sent: int | None = None
    repeat: int = 1
    hang: bool = False
    reset: bool = False


Respond = Callable[[bytes], Reply]


class Server:
    """Answers POST by `respond`, which gets the request's body, and GET (the client's probe) with an empty list.

    Args:
        respond: Called in the server's thread; may be replaced at any time.
    """

    def __init__(self, respond: Respond) -> None:
        self.respond = respond
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self, task: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(task, self._loop).result()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._answer(reader, writer):
                pass
        except (OSError, EOFError):
            pass  # clients that went away are part of the trials
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; False when the connection is over."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        if head.startswith("get"):
            await _write(writer, Reply(body=b'{"object": "list", "data": []}'))
            return True
        length = int(head.partition("content-length:")[2].partition("\r\n")[0])
        reply = self.respond(await reader.readexactly(length))
        if reply.hang:
            await reader.read(1)
        elif reply.reset:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            await _write(writer, reply)
        return not (reply.hang or reply.reset or reply.sent is not None)


def completion(content: str, model: str = "toy") -> bytes:
    """The body of a sound answer."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    return json.dumps({"object": "chat.completion", "model": model, "choices": [choice], "usage": usage}).encode()


async def _write(writer: asyncio.StreamWriter, reply: Reply) -> None:
    length = len(reply.body) * reply.repeat
    headers = {"Content-Type": "application/json", "Content-Length": str(length)} | reply.headers
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"HTTP/1.1 {reply.status} -\r\n{lines}\r\n".encode())
    if reply.sent is not None:
        writer.write(reply.body[: reply.sent])
        await writer.drain()
        return
    for _ in range(reply.repeat):
        writer.write(reply.body)
        await writer.drain()
