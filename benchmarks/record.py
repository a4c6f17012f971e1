"""Keep a study's scores and times: copy them from a finished `dvc repro` to benchmarks/results/.

Reads   data/report/comparison.csv and data/summaries/*.json of the study
Writes  benchmarks/results/<name>.csv (scores) and <name>_stages.csv (counts, seconds, peak memory), each with a header
        comment: command, commit, host
Run     python benchmarks/record.py NAME [STUDY]     STUDY: folder of the workspace, default this one
"""

import csv
import os
import platform
import subprocess
from pathlib import Path

from pipelines.files import atomic_path, read_json
from pipelines.stage import command

RESULTS = Path(__file__).parent / "results"
COLUMNS = ("stage", "inputs", "ok", "rejected", "failed", "duplicates", "seconds", "items_per_second", "peak_memory_mb")


def main(name: str, study: str = ".") -> None:
    folder = Path(study)
    header = _header(folder)
    scores = (folder / "data" / "report" / "comparison.csv").read_text(encoding="utf-8")
    with atomic_path(RESULTS / f"{name}.csv") as temporary:
        temporary.write_text(header + scores, encoding="utf-8")
    with atomic_path(RESULTS / f"{name}_stages.csv") as temporary, temporary.open("w", newline="") as stream:
        stream.write(header)
        writer = csv.DictWriter(stream, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        for file in sorted((folder / "data" / "summaries").glob("*.json"), key=lambda file: file.stat().st_mtime):
            writer.writerow(read_json(file))
    print(f"wrote {RESULTS / name}.csv and {RESULTS / name}_stages.csv")


def _header(folder: Path) -> str:
    # The last commit that touched the code: a workspace has one of its own on top, with its params.
    newest = ["git", "log", "-1", "--format=%H", "--", "dvc.yaml", "models", "pipelines"]
    commit = subprocess.run(newest, cwd=folder, capture_output=True, text=True, check=True)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    host = f"{os.cpu_count()} cores, {platform.machine()}, {memory:.0f} GiB, no GPU used"
    return f"# command: make run\n# commit: {commit.stdout.strip()}\n# host: {host}\n"


if __name__ == "__main__":
    command(main)
