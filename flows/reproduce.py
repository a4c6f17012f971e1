"""The DVC graph under Prefect: one task a stage, live logs, a table of counts a stage, scores, pictures and links.

dvc.yaml stays the only definition of the graph, and DVC the only cache: each task is `dvc repro --single-item <stage>`
in a process of its own, so that the files are those of a plain `dvc repro`. A stage that fails stops what depends on
it; the others still run. A stage that a network or a server stopped is tried again. Afterwards MLflow's runs are
brought up to date and `dvc status` must be clean. With changed settings the run is an experiment of DVC in a workspace
of its own (`flows.experiment`).

Reads: dvc.yaml, params.yaml, data/. Writes: what the stages write, the MLflow store, artifacts in Prefect.
Run alone: python -m flows.reproduce [--help]
"""

import argparse
from pathlib import Path

from prefect import flow, get_run_logger
from prefect.states import Completed, Failed, State

from flows.artifacts import publish_results
from flows.experiment import run_experiment
from flows.notify import tell_failure
from flows.one_run import one_run
from flows.parameters import Setting, check_settings, evaluations
from flows.server import start_server
from flows.stages import check_clean, failed_as, run_stages, track, unfinished
from pipelines.code.graph import Stage, read_graph
from pipelines.config import PARAMS
from pipelines.errors import UserError
from pipelines.stage import command


@flow(name="reproduce", log_prints=True, on_failure=[tell_failure], on_crashed=[tell_failure])
def reproduce(
    project: str = ".",
    targets: tuple[str, ...] = (),
    methods: tuple[str, ...] = (),
    settings: tuple[Setting, ...] = (),
    force: bool = False,
) -> State:
    """Bring the outputs of dvc.yaml up to date.

    Failures are returned as states, not raised: what went wrong is in the stage's log, not in a traceback.

    Args:
        project: Folder with dvc.yaml and params.yaml.
        targets: Stages to bring up to date, with all that they depend on; none: all.
        methods: Methods to train and evaluate, in place of targets or beside them.
        settings: Other values of params.yaml for this run alone, such as train.engine.seed=1. The run is then an
            experiment of DVC: its scores are shown, and nothing of this workspace changes.
        force: Run the stages even where nothing changed.
    """
    root = Path(project).resolve()
    try:
        wanted = [*targets, *evaluations(methods, root / PARAMS)]
        check_settings(settings, root / PARAMS)
        stages = read_graph(root, wanted)
    except UserError as error:
        return Failed(message=str(error))
    with one_run(root, "reproduce", get_run_logger().info):
        if settings:
            return run_experiment(root, wanted, settings, force)
        return _run(root, stages, force)


def _run(root: Path, stages: list[Stage], force: bool) -> State:
    states = run_stages(root, stages, force)
    if fault := unfinished(states):
        return Failed(message=fault)
    if (root / "data/checkpoints").is_dir() and not (tracked := track(str(root), return_state=True)).is_completed():
        return failed_as(tracked)
    status = check_clean(str(root), [stage.name for stage in stages], return_state=True)
    if not status.is_completed():
        return failed_as(status)
    publish_results(root, {name: state.result() for name, state in states.items()})
    return Completed(message=f"{len(stages)} stages are up to date")


def main(*arguments: str) -> None:
    parser = argparse.ArgumentParser("python -m flows.reproduce", description="Run the DVC graph under Prefect.")
    parser.add_argument("targets", nargs="*", help="stages to bring up to date, with all they depend on; none: all")
    parser.add_argument("--project", default=".", help="folder with dvc.yaml (default: this one)")
    parser.add_argument("--set", dest="settings", metavar="KEY=VALUE", action="append", default=[], help="run as an "
                        "experiment with another value of params.yaml; may be given several times")  # fmt: skip
    parser.add_argument("--force", action="store_true", help="run the stages even where nothing changed")
    options = parser.parse_args(arguments)
    root = Path(options.project)
    read_graph(root, options.targets)
    check_settings(options.settings, root / PARAMS)
    start_server()
    state = reproduce(
        options.project,
        targets=tuple(options.targets),
        settings=tuple(options.settings),
        force=options.force,
        return_state=True,
    )
    if not state.is_completed():
        raise UserError(f"{state.message}; the stages' own lines are above")


if __name__ == "__main__":
    command(main)
