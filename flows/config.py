"""Params of the flows."""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class PromoteConfig:
    """Section `promote` of params.yaml: the gates that a candidate must pass.

    Attributes:
        metric: `<task>/<metric>` of metrics.json, such as retrieval/i2t_recall@1; greater must be better.
        minimum: The least value that is promoted at all.
        tolerance: How far below the champion's value on the same test items a candidate may lie; 0: not at all.
    """

    metric: str
    minimum: float
    tolerance: float

    def __post_init__(self) -> None:
        if "/" not in self.metric:
            raise ValueError("metric must be <task>/<metric>, such as retrieval/i2t_recall@1")
        if self.metric.endswith("median_rank"):
            raise ValueError("metric is a rank, where less is better: name a recall or an AUC")
        if self.tolerance < 0:
            raise ValueError("tolerance must be at least 0")


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
