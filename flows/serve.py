"""Offer the flows as deployments: parameters, schedules and buttons in Prefect's UI.

One process serves reproduce, rebuild, evaluate, promote and study, stays in the foreground, and carries out one run at
a time; the others wait. When it stops, the run that works is cancelled and the schedules are paused.

Reads: params.yaml (serve), dvc.yaml. Needs: a Prefect server (`make ui`), the one of PREFECT_API_URL.
Run alone: python -m flows.serve
"""

from pathlib import Path
from typing import Any

from flows.config import ServeConfig
from flows.server import MAKE_UI, check_server, configured_server, use_server
from pipelines.code.graph import read_graph
from pipelines.config import load, method_names
from pipelines.errors import UserError
from pipelines.stage import command
from pipelines.studies.definition import STUDIES, study_names

TAG = "medregion"


def main() -> None:
    config = load(ServeConfig, "serve")
    address = configured_server() or MAKE_UI
    check_server(address)
    use_server(address)
    from prefect import serve

    try:
        offered = deployments(config, Path())
        # DVC lets one run at a time change a workspace.
        serve(*offered, limit=1)
    except ValueError as error:
        raise UserError(f"params.yaml: serve: {' '.join(str(error).split())}") from None


def deployments(config: ServeConfig, project: Path) -> list[Any]:
    """One for each flow, with the names of the workspace's stages, methods and studies as choices.

    Raises:
        UserError: The graph or params.yaml cannot be used.
        ValueError: A cron is none.
    """
    from prefect.deployments.runner import EntrypointType, RunnerDeployment
    from prefect.schedules import Cron

    from flows.evaluate_flow import evaluate
    from flows.parameters import add_choices
    from flows.promote_flow import promote
    from flows.rebuild import rebuild
    from flows.reproduce import reproduce
    from flows.study_flow import study

    stages, methods = read_graph(project), method_names()
    made = []
    for flow in (reproduce, rebuild, evaluate, promote, study):
        cron = config.schedules.get(flow.name)
        deployment = RunnerDeployment.from_flow(
            flow,
            config.name,
            schedules=[] if cron is None else [Cron(cron, active=config.active)],
            paused=False,
            tags=list(dict.fromkeys((TAG, config.name))),
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
        # Prefect takes the schema from the flow's types, which cannot know what a workspace's params.yaml names.
        add_choices(deployment._parameter_openapi_schema.properties, stages, methods, study_names(project / STUDIES))
        made.append(deployment)
    return made


if __name__ == "__main__":
    command(main)
