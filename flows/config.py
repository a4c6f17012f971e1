"""Params of the flows."""

from dataclasses import dataclass

# The deployments of `flows.serve` that can have a schedule; it offers studies, too, which have to be named.
DEPLOYMENTS = ("reproduce", "rebuild", "evaluate", "promote")


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """Section `serve` of params.yaml: the deployments in Prefect's UI.

    Attributes:
        name: Name of the deployments, such as `reproduce/<name>`; each study on one server has its own.
        schedules: Deployment -> cron (UTC); null: only when somebody starts it.
        active: Whether schedules run as soon as they are served, without being switched on in the UI.
        notify: `<type>/<name>` of a notification block in Prefect's store, told of failed runs and new champions; null:
            nobody is told.
    """

    name: str
    schedules: dict[str, str | None]
    active: bool
    notify: str | None = None

    def __post_init__(self) -> None:
        unknown = sorted(set(self.schedules) - set(DEPLOYMENTS))
        if unknown:
            raise ValueError(f"schedules has no deployment '{unknown[0]}': choose from {', '.join(DEPLOYMENTS)}")
        if self.notify is not None and self.notify.count("/") != 1:
            raise ValueError(f"notify is '{self.notify}': write <type>/<name> of a block, such as slack-webhook/team")
