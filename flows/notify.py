"""Who is told: of a run that failed, and of a new champion.

The channel is a notification block in Prefect's store, where its secret stays; params hold its name alone. A new
champion is an event of Prefect's, too, on which automations can act.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.config import ServeConfig
from flows.server import check_server, configured_server
from pipelines.config import PARAMS, load, load_params
from pipelines.errors import UserError, one_line

logger = logging.getLogger(__name__)

CHAMPION_CHANGED = "medregion.champion.changed"


def tell_failure(flow: Any, flow_run: Any, state: Any) -> None:
    """A hook of Prefect's, for runs that failed or crashed."""
    from prefect.utilities.urls import url_for

    project = Path(flow_run.parameters.get("project", "."))
    page = url_for("flow-run", obj_id=flow_run.id)
    notify(project, f"{flow.name} {state.name.lower()}: {flow_run.name}", f"{state.message}\n{page}")


def tell_champion(project: Path, model: str, moved: Mapping[str, Any], text: str) -> None:
    """Say that the alias `champion` was moved; without a Prefect server nobody is told, and none is started.

    Args:
        project: The workspace, whose params name the channel.
        model: The registered model.
        moved: The ledger's entry.
        text: The decision in one line.
    """
    address = configured_server()
    if address is None:
        return
    try:
        check_server(address)
    except UserError as error:
        logger.warning("nobody was told of the new champion: %s", error)
        return
    _emit(model, moved)
    notify(project, f"{model}: {moved['action']}", text)


def _emit(model: str, moved: Mapping[str, Any]) -> None:
    from prefect.events import emit_event
    from prefect.events.worker import EventsWorker

    kept = ("action", "version", "method", "metric", "score", "champion")
    emit_event(
        CHAMPION_CHANGED,
        resource={"prefect.resource.id": f"mlflow.model.{model}", "prefect.resource.name": model},
        payload={name: moved[name] for name in kept},
    )
    # A command ends right afterwards, and would end the thread that sends.
    EventsWorker.instance().wait_until_empty()


def notify(project: Path, subject: str, body: str) -> None:
    """Send a message by the block of `serve.notify`; one that cannot be sent is a warning, and fails nothing."""
    params = project / PARAMS
    if not params.is_file() or "serve" not in load_params(params):
        return
    name = load(ServeConfig, "serve", params).notify
    if name is None:
        return
    # The import makes the types of notification blocks known.
    from prefect.blocks.core import Block

    try:
        block: Any = Block.load(name)
        block.notify(body, subject)
    except Exception as error:  # noqa: BLE001 - a channel of any kind must not fail what it tells of
        logger.warning("serve.notify: %s told nobody (%s): %s", name, one_line(error), subject)
