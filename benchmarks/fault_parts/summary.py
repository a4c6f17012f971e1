"""faults_summary.md, made from the rows: a line for each kind with the figures asked for, and what went wrong."""

import re
from collections import defaultdict

Rows = list[dict[str, str]]

# Kind -> how many trials are asked for. Fuzzing counts its inputs, requests their items.
ASKED = {"kill": 150, "kill_flow": 50, "disk": 1, "flip": 320, "fuzz": 500_000, "requests": 20_000}
_COUNTED = {"fuzz": re.compile(r": (\d+) inputs"), "requests": re.compile(r"(\d+) items")}
_WORDS = {
    "kill": "SIGKILL of a stage, and the same command again",
    "kill_flow": "SIGKILL of `dvc repro`, rebuild, promote, tracking, and the same command again",
    "disk": "a full, read-only or forbidden disk, then a good one",
    "flip": "one bit of one file turned",
    "fuzz": "inputs for the readers, by atheris and hypothesis",
    "requests": "caption requests, 1 % of each fault, a server that comes back with another model",
}


def summary(rows: Rows, name: str) -> str:
    """The page of a results file called `name`."""
    of_kind: dict[str, Rows] = defaultdict(list)
    for row in rows:
        of_kind[row["kind"]].append(row)
    lines = [
        f"# Faults: what {name} holds",
        "",
        "Made from the rows by benchmarks/faults.py. `as promised` counts trials whose outcome is `ok`, `equal bytes`",
        "those from which no other result came than without the fault.",
        "",
        "| kind | what | asked for | done | trials | as promised | equal bytes | left-overs | seconds |",
        "|---|---|---|---|---|---|---|---|---|",
        *(_line(kind, of_kind.get(kind, [])) for kind in ASKED),
        "",
        *_not_as_promised(rows),
    ]
    return "\n".join(lines) + "\n"


def _line(kind: str, rows: Rows) -> str:
    done = len(rows)
    if kind in _COUNTED:
        found = (_COUNTED[kind].search(row["detail"]) for row in rows)
        done = sum(int(one.group(1)) for one in found if one)
    cells = [
        kind,
        _WORDS[kind],
        f"{ASKED[kind]:,}",
        f"{done:,}",
        str(len(rows)),
        str(sum(row["outcome"] == "ok" for row in rows)),
        str(sum(row["equal_bytes"] == "true" for row in rows)),
        str(sum(int(row["left_overs"]) for row in rows)),
        f"{sum(float(row['seconds']) for row in rows):.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def _not_as_promised(rows: Rows) -> list[str]:
    wrong = [row for row in rows if row["outcome"] not in ("ok", "ended before the kill")]
    if not wrong:
        return ["Every trial came out as promised."]
    table = ["Not as promised:", "", "| kind | stage | trial | outcome | detail |", "|---|---|---|---|---|"]
    for row in wrong:
        detail = row["detail"].replace("|", "\\|")[:160]
        table.append(f"| {row['kind']} | {row['stage']} | {row['trial']} | {row['outcome']} | {detail} |")
    return table
