"""Make a table of a paper: train and score its methods in a workspace of their own; write ours beside what is printed.

Reads: studies/<name>.yaml, studies/data.yaml, studies/weights.yaml, params.yaml with the study's base, at the scale
`paper` params/paper.yaml, the data sets and the published weights.
Writes: workspaces/<name>-<scale>, a workspace as of `make workspace`, in which DVC runs what changed, with the code of
the present commit; the folder data/studies/<name>-<scale>/ with table.md, table.csv, table.json, index.html and
pictures, also after a run in which a stage failed (one that is cut off leaves those of the run before it);
data/studies/index.html, which lists all of them; MLflow runs in the workspace's store.
Run alone: python -m flows.study [NAME] [--scale demo|paper] [--raw FOLDER] [--dry]
"""

import argparse
import sys
from pathlib import Path

from flows.one_run import one_run
from flows.study_workspace import SETTINGS, changed_here, left_out_code, make_workspace, update
from pipelines import params
from pipelines.code.paths import check_weights
from pipelines.dvc_lock import mend
from pipelines.dvc_process import dvc_process, may_pass_again
from pipelines.errors import UserError
from pipelines.stage import command
from pipelines.studies import counts, weights
from pipelines.studies.definition import DEMO, PAPER, SCALES, DataSet, Study, load_data_sets, load_study, study_names
from pipelines.studies.made import MadeTable
from pipelines.studies.settings import check, counts_images, missing, params_of, to_run, why_all_empty
from pipelines.studies.table import PAGE, as_markdown, cells

WORKSPACES, TABLES = Path("workspaces"), Path("data/studies")


def main(*arguments: str) -> None:
    parser = argparse.ArgumentParser("python -m flows.study", description="Make a table of a paper.")
    parser.add_argument("name", nargs="?", help=f"one of: {', '.join(study_names())}; without, --dry lists all")
    parser.add_argument("--scale", choices=SCALES, default=DEMO, help="demo: minutes on the procedural data set")
    parser.add_argument("--raw", type=Path, help="folder with the data sets, linked under data/raw of a new workspace")
    parser.add_argument("--dry", action="store_true", help="say what would run and what is missing, and run nothing")
    options = parser.parse_args(arguments)
    data = load_data_sets()
    if options.dry and options.raw is not None:
        raise UserError("--raw is for a run: --dry looks into the workspace, or below data/raw where there is none yet")
    if options.dry:
        for name in [options.name] if options.name else study_names():
            print(described(load_study(name), name, options.scale, data))
        return
    if options.name is None:
        raise UserError(f"name a study: {', '.join(study_names())}; or list them all with --dry")
    made = make_table(options.name, options.scale, options.raw)
    print(as_markdown(made.study, made.name, made.scale, made.code, made.found))
    print(f"table: {made.folder}\npage: {(made.folder / PAGE).resolve().as_uri()}")
    made.check()


def make_table(name: str, scale: str, raw: Path | None) -> MadeTable:
    """Run a study, and write its table and its pages, whatever became of its stages.

    Args:
        name: The study.
        scale: Demo or paper.
        raw: Folder whose entries a new workspace finds under its data/raw; None: none.

    Raises:
        UserError: There is no such study, or no workspace could be made of it.
    """
    # Here, as --dry needs none of MLflow and matplotlib.
    from flows.study_pages import track, write_with_pages

    study, data = load_study(name), load_data_sets()
    check(params_of(study, name, scale, {key: data[key] for key in study.data_sets if data[key].adapter}), name)
    workspace = WORKSPACES / f"{name}-{scale}"
    make_workspace(workspace, raw)
    # A run that works there keeps its code and its params until it ends.
    with one_run(workspace, f"study {name}", print):
        checkpoints = [row.weights for row in study.rows if row.weights is not None and scale == PAPER]
        for one in checkpoints:
            weights.link(one, workspace)
        without = [one for one in checkpoints if weights.missing(one, workspace) is not None]
        there = {key: one for key, one in data.items() if key in study.data_sets and missing(one, workspace) is None}
        values = params_of(study, name, scale, there, without=without)
        changed = changed_here(SETTINGS)
        commit = update(workspace, params.as_text(values))
        left_out = left_out_code(commit)
        mend(workspace)
        try:
            check_weights(workspace)
        except UserError as error:
            raise UserError(f"in {workspace}: {error}") from None
        entries = to_run(study, scale, data, workspace)
        stages = {entry: f"evaluate@{entry}" for entry in entries}
        if counts_images(study, scale, data, workspace):
            stages[counts.STAGE] = counts.STAGE
        code, passes_again = _repro(workspace, list(stages.values())) if stages else (0, False)
        # Behind a failed stage lies what earlier settings gave.
        stale = [of for of, stage in stages.items() if code and not _is_up_to_date(workspace, stage)]
        fault = f"a stage failed in {workspace} (exit code {code}): run the command again when it is mended"
        made = MadeTable(
            study=study,
            name=name,
            scale=scale,
            commit=commit,
            changed=changed,
            left_out=left_out,
            folder=TABLES / workspace.name,
            found=cells(study, scale, data, values, workspace, stale),
            fault=fault if code else None,
            passes_again=passes_again,
        )
        evaluated = [entry for entry in entries if entry not in stale]
        scored = write_with_pages(made, data, workspace, evaluated)
        track(workspace, made.folder, scored)
    return made


def described(study: Study, name: str, scale: str, data: dict[str, DataSet]) -> str:
    """A study's rows, and what is missing of it in its workspace, or here where it has none yet, for a person.

    Raises:
        UserError: No run could take its settings.
    """
    check(params_of(study, name, scale, {key: data[key] for key in study.data_sets if data[key].adapter}), name)
    workspace = WORKSPACES / f"{name}-{scale}"
    root = workspace if workspace.exists() else Path()
    lines = [f"{name}: {study.paper}, {study.place}: {study.title} (scale {scale})"]
    for row in study.rows:
        reasons = list(why_all_empty(study, row, scale, data, root).values())
        empty = dict.fromkeys(reason for reason in reasons if reason is not None)
        ours = row.method is not None or row.counts is not None
        state = f"{reasons.count(None)} of {len(reasons)} cells" if ours else "printed values alone"
        lines.append(f"  {row.name}: {state}" + (f" ({'; '.join(empty)})" if ours and empty else ""))
    for key in study.data_sets:
        if reason := missing(data[key], root):
            needed = " (not needed at the scale demo)" if scale == DEMO else ""
            lines.append(f"  missing data{needed}: {reason}")
    return "\n".join(lines)


def _is_up_to_date(workspace: Path, stage: str) -> bool:
    with dvc_process(workspace, ["status", "--json", "--with-deps", stage]) as process:
        assert process.stdout is not None
        return process.stdout.read().splitlines()[-1:] == ["{}"]


def _repro(workspace: Path, targets: list[str]) -> tuple[int, bool]:
    """Run stages and all that they depend on, those behind a failed one left out.

    Returns:
        The exit code, and whether a failed stage may pass the next time.
    """
    lines = []
    with dvc_process(workspace, ["repro", "--keep-going", *targets]) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", file=sys.stderr)
            lines.append(line)
    return process.returncode, may_pass_again(lines)


if __name__ == "__main__":
    command(main)
