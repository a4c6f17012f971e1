"""Offer the flow `reproduce` as a deployment: parameters, a schedule and a button in Prefect's UI.

The process stays in the foreground and carries out the runs; when it stops, its schedule is paused.

Reads: params.yaml (serve). Needs: a Prefect server (`make ui`).
Run alone: python -m flows.serve
"""

import os
import urllib.error
import urllib.request
from pathlib import Path

from flows.config import ServeConfig
from pipelines.code.graph import read_graph
from pipelines.config import load
from pipelines.errors import UserError
from pipelines.stage import command


def main() -> None:
    config = load(ServeConfig, "serve")
    read_graph(Path(), config.targets)
    _check_server(config.api_url)
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


def _check_server(api_url: str) -> None:
    try:
        urllib.request.urlopen(f"{api_url.rstrip('/')}/health", timeout=10).close()
    except (urllib.error.URLError, ValueError) as error:
        raise UserError(f"no Prefect server at {api_url} ({error}): start one with `make ui`") from None


if __name__ == "__main__":
    command(main)
