"""After a prompt change: captions and caption shards anew, and what changed, side by side.

A snapshot of the caption table is saved, the stages run through DVC as in `flows.reproduce` (stages before them are
brought up to date too), and both tables are compared. A rebuild that fails or is killed leaves its snapshot, and the
next one compares with that. Training, evaluation and report stay as they are.

Reads: dvc.yaml, dvc.lock, params.yaml, data/. Writes: what the stages write, data/rebuild/index.html, artifacts.
Run alone: python -m flows.rebuild [--help]
"""

import argparse
from pathlib import Path
from typing import Annotated, Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_link_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, Failed, State
from pydantic import Field

from flows.notify import tell_failure
from flows.one_run import one_run
from flows.pages import pages_url
from flows.server import start_server
from flows.stages import RAN, check_clean, failed_as, run_stages, unfinished
from pipelines.captions.config import CaptionsConfig
from pipelines.code.graph import Stage, read_graph
from pipelines.config import load
from pipelines.dvc_stages import locked_stages
from pipelines.errors import UserError
from pipelines.files import read_summary
from pipelines.rebuild import snapshot
from pipelines.rebuild.compare import Comparison, choose, compare
from pipelines.rebuild.examples import change_examples
from pipelines.rebuild.page import Rebuild, write_page
from pipelines.rebuild.prompts import changes_since_commit, digests
from pipelines.records import CAPTIONS
from pipelines.report.pages import flat
from pipelines.sources import load_sources
from pipelines.stage import command

CAPTIONS_STAGE = Stage("captions", ())
LAST_STAGE = "caption_shards"
PAGE = Path("data/rebuild/index.html")


@flow(name="rebuild", log_prints=True, on_failure=[tell_failure], on_crashed=[tell_failure])
def rebuild(project: str = ".", examples: Annotated[int, Field(ge=0, le=1000)] = 24) -> State:
    """Rebuild captions and caption shards, and publish what changed.

    Args:
        project: Folder with dvc.yaml and params.yaml.
        examples: Changed items shown on the page, at most.
    """
    root = Path(project).resolve()
    with one_run(root, "rebuild", get_run_logger().info):
        return _rebuild(root, examples)


def _rebuild(root: Path, examples: int) -> State:
    try:
        stages = read_graph(root, [LAST_STAGE])
        resumed = snapshot.save(root, _inputs(root))
    except UserError as error:
        return Failed(message=str(error))
    states = run_stages(root, stages, force=False)
    if fault := unfinished(states):
        return Failed(message=f"{fault}; the captions from before are in {snapshot.SNAPSHOT} for the next rebuild")
    status = check_clean(str(root), [stage.name for stage in stages], return_state=True)
    if not status.is_completed():
        return failed_as(status)
    ran = states[CAPTIONS_STAGE.name].result() == RAN
    return Completed(message=publish(str(root), ran, resumed, examples))


@task(name="publish", task_run_name="publish", cache_policy=NO_CACHE)
def publish(project: str, ran: bool, resumed: bool, examples: int) -> str:
    """Compare, write the page and the artifacts, and delete the snapshot; what changed, in one line."""
    root = Path(project)
    captions = load(CaptionsConfig, "captions", root / "params.yaml")
    sources = load_sources(root / "params.yaml")
    old, inputs = snapshot.load(root)
    new = CAPTIONS.read(root / snapshot.CAPTION_TABLE)
    comparison = compare(old, new)
    made = _made(root, ran, resumed, inputs)
    write_page(
        root / PAGE,
        made,
        comparison,
        digests(old, new),
        changes_since_commit(root, captions.prompts),
        change_examples(choose(comparison.changes, examples), old, new, root, sources),
    )
    line = _line(comparison)
    create_table_artifact(key="rebuild", table=_table(made, comparison), description=line)
    link = f"{pages_url()}/rebuild/index.html"
    create_link_artifact(key="rebuild-page", link=link, link_text="What changed", description=link)
    snapshot.delete(root)
    return line


def _made(root: Path, ran: bool, resumed: bool, before: dict[str, Any]) -> Rebuild:
    summary = read_summary(root / CAPTIONS_STAGE.summary)
    changed, others = snapshot.changed_inputs(before, _inputs(root))
    # DVC restores the summary with the outputs: its counts are of the run that made them.
    sent, reused = (summary.get(name) if ran else 0 for name in ("sent", "reused"))
    return Rebuild(ran=ran, sent=sent, reused=reused, inputs=changed, others=others, resumed=resumed)


def _inputs(root: Path) -> dict[str, Any]:
    """The inputs of the present captions by name, from dvc.lock."""
    locked = locked_stages(root).get(CAPTIONS_STAGE.name, {})
    inputs = {dependency["path"]: dependency.get("md5") for dependency in locked.get("deps", [])}
    for file, values in locked.get("params", {}).items():
        inputs |= {f"{file}: {key}": value for key, value in flat(values, ".").items()}
    return inputs


def _line(comparison: Comparison) -> str:
    totals = comparison.totals
    if not comparison.changes:
        return f"nothing changed: all {totals['after']} captions are the same"
    counts = ", ".join(f"{totals[name]} {name}" for name in ("changed", "unchanged", "added", "removed"))
    return f"captions rebuilt: {counts}; trained models and report still use the captions from before: `dvc repro`"


def _table(made: Rebuild, comparison: Comparison) -> list[dict[str, Any]]:
    answers = {"sent": made.sent, "reused": made.reused}
    counts = {name: "not counted" if count is None else count for name, count in answers.items()}
    fields = {f"changed: {field}": count for field, count in comparison.fields.items()}
    return [{"what": name, "value": value} for name, value in (counts | comparison.totals | fields).items()]


def main(*arguments: str) -> None:
    parser = argparse.ArgumentParser("python -m flows.rebuild", description="Rebuild the captions; show what changed.")
    parser.add_argument("--project", default=".", help="folder with dvc.yaml (default: this one)")
    parser.add_argument("--examples", type=int, default=24, help="changed items shown on the page (default: 24)")
    options = parser.parse_args(arguments)
    root = Path(options.project)
    read_graph(root, [LAST_STAGE])
    snapshot.require(root)
    start_server()
    state = rebuild(options.project, options.examples, return_state=True)
    if not state.is_completed():
        raise UserError(f"{state.message}; the stages' own lines are above")
    print(f"{state.message}\npage: {(root / PAGE).resolve().as_uri()}")


if __name__ == "__main__":
    command(main)
