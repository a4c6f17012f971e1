"""Compare two evaluations of the same items pairwise, from the rows that they keep, without a model.

Each shared score is compared on the items that both have: the difference, and its 95 % interval by the paired
bootstrap. `image-blind` in the place of the second is the first one's own control, in which it sees other images.

Reads: metrics.json and items.parquet of both folders.
Writes: the CSV that --out names.
Run alone: python -m pipelines.evaluate.compare A B [--out FILE.csv] (folders, or methods that are evaluated)
"""

import argparse
import csv
import io
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pipelines.errors import UserError
from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.guessing import IMAGE_BLIND
from pipelines.evaluate.kept import KeptEvaluation, kept_difference, kept_scores, read_kept, score_name
from pipelines.files import write_text
from pipelines.stage import command

# As params.yaml has it: with 1,000 resamples the percentiles hardly depend on the seed.
_BOOTSTRAP = Bootstrap(samples=1000, seed=0)
_SAME = ("split", "items_sha256")


@dataclass(frozen=True, kw_only=True)
class ComparedScore:
    """A score of two evaluations; a row of the CSV.

    Attributes:
        task: Of the score.
        metric: Its name within the task.
        source: Of its items; None: all of them together.
        first: Value in the first one's metrics.json.
        second: In the second one's.
        difference: First less second, on the items of both.
        low: 2.5th percentile of its resamples; None where there are fewer than two items, or texts as queries.
        high: 97.5th percentile.
        items: Items of both.
        left_out: Items of one of them alone.
    """

    task: str
    metric: str
    source: str | None
    first: float
    second: float
    difference: float
    low: float | None
    high: float | None
    items: int
    left_out: int

    @property
    def name(self) -> str:
        return score_name(self.task, self.metric, self.source)


def compared(first: KeptEvaluation, second: KeptEvaluation) -> Iterator[ComparedScore]:
    """The scores that both have and that follow from kept rows.

    Raises:
        UserError: The two are not of the same items.
    """
    for name in _SAME:
        one, other = first.results[name], second.results[name]
        if one != other:
            raise UserError(
                f"{first.folder} and {second.folder} were not scored on the same items ({name} {one[:16]} and "
                f"{other[:16]}): evaluate both on one study, by the same params.yaml (evaluate)"
            )
    others = {(scores.task, scores.source): scores for scores in kept_scores(second)}
    for ours in kept_scores(first):
        theirs = others.get((ours.task, ours.source))
        for metric, score in ours.metrics.items():
            if theirs is None or metric not in theirs.metrics:
                continue
            found = kept_difference(ours.rows, theirs.rows, metric, _BOOTSTRAP)
            if found is not None:
                yield ComparedScore(
                    task=ours.task,
                    metric=metric,
                    source=ours.source,
                    first=score["value"],
                    second=theirs.metrics[metric]["value"],
                    difference=found.score.value,
                    low=found.score.low,
                    high=found.score.high,
                    items=found.items,
                    left_out=found.left_out,
                )


def blind_control(evaluation: KeptEvaluation) -> KeptEvaluation:
    """The image-blind control of an evaluation, as far as rows keep it: values of items, and no answers.

    Raises:
        UserError: It has none.
    """
    rows = {
        task: [replace(row, value=value, output=None) for row in of_task if (value := row.image_blind) is not None]
        for task, of_task in evaluation.rows.items()
    }
    if not any(rows.values()):
        raise UserError(f"{evaluation.folder} has no image-blind control: set evaluate.image_blind, and evaluate again")
    tasks = {
        task: {
            "metrics": _of_control(result["metrics"]),
            "by_source": {
                source: {"metrics": _of_control(scores["metrics"])} for source, scores in result["by_source"].items()
            },
        }
        for task, result in evaluation.results["tasks"].items()
    }
    return KeptEvaluation(folder=evaluation.folder, results={**evaluation.results, "tasks": tasks}, rows=rows)


def _of_control(metrics: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """The control's scores beside some scores; of `label_auc` and the like there are none."""
    return {
        name: {"value": score["baselines"][IMAGE_BLIND]}
        for name, score in metrics.items()
        if IMAGE_BLIND in score["baselines"]
    }


def as_csv(rows: list[ComparedScore]) -> str:
    """One line a score, six decimals."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(ComparedScore.__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue()


def main(*arguments: str) -> None:
    parser = argparse.ArgumentParser(
        "python -m pipelines.evaluate.compare", description="Compare two evaluations of the same items, item by item."
    )
    parser.add_argument("first", metavar="A", help="folder of an evaluation, or a method that is evaluated")
    parser.add_argument("second", metavar="B", help=f"the same, or {IMAGE_BLIND}: the control of the first")
    parser.add_argument("--out", type=Path, help="CSV file to write")
    options = parser.parse_args(arguments)
    first = read_kept(options.first)
    second = blind_control(first) if options.second == IMAGE_BLIND else read_kept(options.second)
    rows = list(compared(first, second))
    if not rows:
        raise UserError(f"{options.first} and {options.second} share no score that follows from kept rows")
    width = max(len(row.name) for row in rows)
    print(
        f"{'score':<{width}} {'first':>9} {'second':>9} {'difference':>10} {'95 % interval':>20} {'items':>6} left out"
    )
    for row in rows:
        interval = "none" if row.low is None or row.high is None else f"{row.low:.4f} to {row.high:.4f}"
        print(
            f"{row.name:<{width}} {row.first:>9.4f} {row.second:>9.4f} {row.difference:>10.4f} "
            f"{interval:>20} {row.items:>6} {row.left_out:>8}"
        )
    if options.out is not None:
        write_text(options.out, as_csv(rows))


if __name__ == "__main__":
    command(main)
