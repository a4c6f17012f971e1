"""Where a study's main workspace is while an experiment of DVC runs in a folder of its own."""

from pathlib import Path

# `dvc exp run --temp` works in .dvc/tmp/exps/standalone/<name>, `--queue` in .dvc/tmp/exps/<name>; both are deleted
# when the experiment ends.
_EXPERIMENTS = (".dvc", "tmp", "exps")


def main_workspace(project: Path) -> Path:
    """The workspace that an experiment's folder belongs to; any other folder is its own. Absolute."""
    project = project.resolve()
    for folder in project.parents:
        if folder.parts[-3:] == _EXPERIMENTS:
            return folder.parents[2]
    return project
