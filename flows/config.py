"""Params of the flows."""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """Section `serve` of params.yaml: the deployment in Prefect's UI.

    Attributes:
        api_url: Prefect's server; `make ui` starts one on loopback.
        name: Name of the deployment.
        cron: When the graph runs; null: only when somebody starts it.
        targets: Stages that a scheduled run brings up to date; empty: all.
    """

    api_url: str
    name: str
    cron: str | None
    targets: list[str] = field(default_factory=list)
