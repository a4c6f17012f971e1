"""Which served model is asked, and how its servers are reached."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Connection:
    """What whoever asks a served model is told of it; sections of params.yaml have these keys beside their own.

    Attributes:
        base_urls: Servers with the same model, such as http://127.0.0.1:8001/v1; the requests are spread over them.
        model: Name under which they serve it.
        revision: Of the model's weights; part of the cache key, so that answers of two revisions are told apart.
        concurrency: Maximum number of items under way at a time, over all servers.
        retries: How often one request is sent again after an error of the server or the network.
        timeout_s: Time limit of one request, seconds.
        max_answer_bytes: Largest body of a response; a longer one is not read to its end, and the item fails.
        backoff_s: Upper limit of the random wait before the first retry, seconds; it doubles with each.
        cooldown_s: How long a server that cannot be reached gets no request, seconds.
        outage_timeout_s: How long the run waits where no server can be reached before it gives up, seconds.
    """

    base_urls: list[str]
    model: str
    revision: str | None = None
    concurrency: int = 32
    retries: int = 6
    timeout_s: float = 300.0
    max_answer_bytes: int = 1_000_000
    backoff_s: float = 1.0
    cooldown_s: float = 30.0
    outage_timeout_s: float = 300.0

    def __post_init__(self) -> None:
        if not self.base_urls or not all(url.startswith(("http://", "https://")) for url in self.base_urls):
            raise ValueError("base_urls lists at least one address such as http://127.0.0.1:8001/v1")
        if len(set(self.base_urls)) < len(self.base_urls):
            raise ValueError("base_urls names a server twice")
        if self.concurrency < 1:
            raise ValueError(f"concurrency is {self.concurrency}: choose at least 1")
        for name in ("retries", "backoff_s", "cooldown_s", "outage_timeout_s"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}: it cannot be negative")
        if self.max_answer_bytes < 1000:
            raise ValueError(f"max_answer_bytes is {self.max_answer_bytes}: choose at least 1000")
        if self.timeout_s <= 0:
            raise ValueError("timeout_s must be positive")
