"""Which server gets the next request."""

import time
from dataclasses import dataclass


@dataclass(eq=False)
class Server:
    """One address.

    Attributes:
        url: Base URL.
        in_flight: Requests under way.
        sent: Requests in all.
        reachable: The last request did not fail on the way.
        cooldown_until: Before this time, of the monotonic clock, an unreachable server gets no request.
    """

    url: str
    in_flight: int = 0
    sent: int = 0
    reachable: bool = True
    cooldown_until: float = 0.0


class Servers:
    """Gives each request to the server with the fewest under way, and of equals to the one that had fewest in all.

    A server that fails gets no request during its cooldown, then a single one: if that succeeds, the server is back.
    Where all servers are in their cooldown the least busy gets the request.

    Args:
        urls: Base URLs.
        cooldown_s: How long a server gets no request after a failure, seconds.
    """

    def __init__(self, urls: list[str], cooldown_s: float) -> None:
        self.all = [Server(url.rstrip("/")) for url in urls]
        self._cooldown_s = cooldown_s

    def choose(self) -> Server:
        now = time.monotonic()
        ready = [
            server for server in self.all if server.reachable or (now >= server.cooldown_until and not server.in_flight)
        ]
        return min(ready or self.all, key=lambda server: (server.in_flight, server.sent))

    def cool_down(self, server: Server) -> None:
        server.reachable = False
        server.cooldown_until = time.monotonic() + self._cooldown_s
