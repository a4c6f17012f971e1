"""Keep a study's scores and times: copy them from a finished `dvc repro` to benchmarks/results/.

Reads   data/report/comparison.csv, data/evaluation/*/validation/metrics.json and data/summaries/*.json of the study
Writes  benchmarks/results/<name>.csv (scores of the test split), <name>_validation.csv (of the validation split) and
        <name>_stages.csv (counts, seconds, peak memory), each with a header comment: command, commit, host
Run     python benchmarks/record.py NAME [STUDY]     STUDY: folder of the workspace, default this one
"""

import csv
import json
from pathlib import Path

from header import header, last_commit
from runs import append

from pipelines.files import atomic_path, read_summary
from pipelines.report import comparison
from pipelines.stage import command

RESULTS = Path(__file__).parent / "results"
COLUMNS = ("stage", "inputs", "ok", "rejected", "failed", "duplicates", "seconds", "items_per_second", "peak_memory_mb")


def main(name: str, study: str = ".") -> None:
    folder = Path(study)
    # The last commit that touched the code: a workspace has one of its own on top, with its params.
    head = header("make run", last_commit(folder, "dvc.yaml", "models", "pipelines"))
    scores = (folder / "data" / "report" / "comparison.csv").read_text(encoding="utf-8")
    with atomic_path(RESULTS / f"{name}.csv") as temporary:
        temporary.write_text(head + scores, encoding="utf-8")
    chosen_on = {
        file.parent.parent.name: json.loads(file.read_text())
        for file in sorted((folder / "data" / "evaluation").glob("*/validation/metrics.json"))
    }
    (RESULTS / f"{name}_validation.csv").unlink(missing_ok=True)
    rows = [{column: row[column] for column in comparison.COLUMNS} for row in comparison.score_rows(chosen_on)]
    append(RESULTS / f"{name}_validation.csv", rows, head)
    with atomic_path(RESULTS / f"{name}_stages.csv") as temporary, temporary.open("w", newline="") as stream:
        stream.write(head)
        writer = csv.DictWriter(stream, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        for file in sorted((folder / "data" / "summaries").glob("*.json"), key=lambda file: file.stat().st_mtime):
            writer.writerow(read_summary(file))
    print(f"wrote {RESULTS / name}.csv, {name}_validation.csv and {name}_stages.csv")


if __name__ == "__main__":
    command(main)
