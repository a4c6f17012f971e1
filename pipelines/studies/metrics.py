"""Which metrics a column of a study may name."""

import difflib

from pipelines.errors import did_you_mean
from pipelines.evaluate.definitions import definition_of
from pipelines.registry import names, plugin
from pipelines.studies import costs, counts, words


def why_unknown(metric: str) -> str | None:
    """Why there is no such metric, in one line for a person; None: there is one, or no task has a name like its own.

    Args:
        metric: `<task>/<metric>`.
    """
    task, _, name = metric.partition("/")
    if task == costs.TASK:
        known, is_known = list(costs.METRICS), costs.is_metric(name)
    elif task == counts.TASK:
        known, is_known = list(counts.METRICS), name in counts.METRICS
    elif task == words.TASK:
        known, is_known = ["left@k"], words.is_metric(name)
    elif task in names("tasks"):
        definitions = [{"metric": of, "text": text} for of, text in plugin("tasks", task).definitions.items()]
        known, is_known = [one["metric"] for one in definitions], definition_of(name, definitions) is not None
    else:
        near = difflib.get_close_matches(task, [costs.TASK, counts.TASK, words.TASK, *names("tasks")], n=1, cutoff=0.8)
        return f"there is no task '{task}': did you mean '{near[0]}'?" if near else None
    if is_known:
        return None
    hint = did_you_mean(name, known, f"it has {', '.join(known)}")
    return f"'{task}' has no metric '{name}': {hint}"
