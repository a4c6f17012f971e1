"""A decision of the ledger as a person reads it: on the version's page in MLflow, and in the table of `--history`."""

from collections.abc import Mapping, Sequence
from typing import Any

_COLUMNS = ("when", "who", "decision", "version", "method", "value", "interval", "refused by")


def verdict_of(entry: Mapping[str, Any], judged: Mapping[str, Any]) -> tuple[dict[str, str], str]:
    """Short facts by name, and the same as Markdown.

    Args:
        entry: The decision.
        judged: The last decision in which the version's gates were asked: for a rollback an earlier one.
    """
    gates: Mapping[str, Mapping[str, Any]] = judged["gates"]
    facts = {"outcome": entry["action"], "when": entry["time"], "metric": judged["metric"]}
    if judged is not entry:
        facts["judged"] = f"{judged['action']} {judged['time']}"
    facts |= {f"gate.{name}": f"{_outcome(gate)}: {gate['text']}" for name, gate in gates.items()}
    lines = [f"{entry['action']} {entry['time']} by {entry['who']}: {judged['metric']} = {_value(judged)} on test."]
    if judged is not entry:
        lines += ["", f"Its gates are those of when it was {judged['action']}, {judged['time']}."]
    if gates:
        lines += ["", "| gate | outcome | figures |", "|---|---|---|"]
        lines += [f"| {name} | {_outcome(gate)} | {_cell(gate['text'])} |" for name, gate in gates.items()]
    return facts, "\n".join(lines)


def _outcome(gate: Mapping[str, Any]) -> str:
    return "passed" if gate["passed"] else "refused"


def _value(entry: Mapping[str, Any]) -> str:
    value = entry["score"].get("value")
    return "" if value is None else f"{value:.4f}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def history(entries: Sequence[Mapping[str, Any]]) -> str:
    """A table with a line for each decision, the first one at the top."""
    rows = [_COLUMNS, *(_row(entry) for entry in entries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _row(entry: Mapping[str, Any]) -> tuple[str, ...]:
    score = entry["score"]
    interval = "" if score.get("low") is None else f"{score['low']:.4f} to {score['high']:.4f}"
    refused = ", ".join(name for name, gate in entry["gates"].items() if not gate["passed"])
    return (
        entry["time"],
        entry["who"],
        entry["action"],
        entry["version"],
        entry["method"],
        _value(entry),
        interval,
        refused,
    )
