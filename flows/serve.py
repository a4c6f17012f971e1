"""Offer the flow `reproduce` as a deployment: parameters, a schedule and a button in Prefect's UI.

The process stays in the foreground and carries out the runs; when it stops, its schedule is paused.

Reads: params.yaml (serve). Needs: a Prefect server (`make ui`).
Run alone: python -m flows.serve
"""

import os
from pathlib import Path

from flows.config import ServeConfig
from flows.server import check_server
from pipelines.code.graph import read_graph
from pipelines.config import load
from pipelines.errors import UserError
from pipelines.stage import command


def main() -> None:
    config = load(ServeConfig, "serve")
    read_graph(Path(), config.targets)
    check_server(config.api_url)
    # Prefect reads its server's address when it is imported.
    os.environ["PREFECT_API_URL"] = config.api_url
    from flows.reproduce import reproduce

    try:
        reproduce.serve(
            name=config.name,
            cron=config.cron,
            parameters={"project": str(Path().resolve()), "targets": config.targets, "force": False},
            description="Brings the outputs of dvc.yaml up to date.",
            # DVC lets one run at a time change a project.
            limit=1,
        )
    except ValueError as error:
        raise UserError(f"params.yaml: serve: {' '.join(str(error).split())}") from None


if __name__ == "__main__":
    command(main)
