"""The values of a method's scores by themselves, as DVC's metrics: `dvc metrics show`, `dvc exp show`."""

from pathlib import Path
from typing import Any

from pipelines.files import read_output, write_json


def write_scores(evaluation: Path, output: Path) -> None:
    """Write `<split>/<method>.json` for each split: `{task: {metric: value}}`, without intervals and chance, and
    without the variants `_own_`, which differ from the others where texts repeat alone.

    A file for each split, so that experiments can be compared on the validation split without a look at the test split.

    Args:
        evaluation: Folder of the method's evaluation, called after it. A split that it does not have gets no scores.
        output: Folder of the splits' folders.
    """
    for split, folder in (("test", evaluation), ("validation", evaluation / "validation")):
        file = folder / "metrics.json"
        tasks = read_output(file)["tasks"] if file.is_file() else {}
        scores = {name: _values(task) for name, task in tasks.items() if task["metrics"]}
        write_json(output / split / f"{evaluation.name}.json", scores)


def _values(task: dict[str, Any]) -> dict[str, float]:
    return {metric: score["value"] for metric, score in task["metrics"].items() if "_own_" not in metric}
