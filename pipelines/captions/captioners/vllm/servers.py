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
        rests_until: Before this time, of the monotonic clock, an unreachable server gets nothing.
    """

    url: str
    in_flight: int = 0
    sent: int = 0
    reachable: bool = True
    rests_until: float = 0.0


class Servers:
    """Gives each request to the server with the fewest under way, and of equals to that which had fewest in all.

    A server that fails is set aside for a while and then gets a single request: if that succeeds it is back. Where all
    are set aside there is no better choice than the least busy.

    Args:
        urls: Base URLs.
        set_aside_s: How long a server rests after a failure, seconds.
    """

    def __init__(self, urls: list[str], set_aside_s: float) -> None:
        self.all = [Server(url.rstrip("/")) for url in urls]
        self._set_aside_s = set_aside_s

    def choose(self) -> Server:
        now = time.monotonic()
        ready = [one for one in self.all if one.reachable or (now >= one.rests_until and not one.in_flight)]
        return min(ready or self.all, key=lambda server: (server.in_flight, server.sent))

    def set_aside(self, server: Server) -> None:
        server.reachable = False
        server.rests_until = time.monotonic() + self._set_aside_s
