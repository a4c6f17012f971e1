"""Make the table of an evaluation again from the rows that it keeps, without the model, and compare the two.

Reads: metrics.json and items.parquet of an evaluation's folder.
Prints: each score with what its rows give: equal, differs, or not kept where the rows do not hold what it follows from.
Run alone: python -m pipelines.evaluate.again FOLDER (or the name of a method that is evaluated)
"""

from collections.abc import Iterator
from dataclasses import dataclass

from pipelines.errors import UserError
from pipelines.evaluate.kept import KeptEvaluation, kept_scores, read_kept, recomputed, score_name
from pipelines.stage import command

EQUAL, DIFFERS, NOT_KEPT = "equal", "differs", "not kept"
# metrics.json has six decimals.
_ROUNDING = 1e-6


@dataclass(frozen=True, kw_only=True)
class ScoreAgain:
    """A score of metrics.json and what the rows give.

    Attributes:
        name: Of the score: `<task>/<metric>`, and the source of its items where it is of one alone.
        value: In metrics.json.
        again: From the rows; None where they do not hold what it follows from.
    """

    name: str
    value: float
    again: float | None

    @property
    def outcome(self) -> str:
        if self.again is None:
            return NOT_KEPT
        return EQUAL if abs(self.again - self.value) <= _ROUNDING else DIFFERS


def scores_again(evaluation: KeptEvaluation) -> Iterator[ScoreAgain]:
    """Every score, of all items together and of those of each source."""
    for scores in kept_scores(evaluation):
        for metric, score in scores.metrics.items():
            again = recomputed(scores.rows, metric)
            yield ScoreAgain(name=score_name(scores.task, metric, scores.source), value=score["value"], again=again)


def main(name: str) -> None:
    scores = list(scores_again(read_kept(name)))
    for one in scores:
        again = "" if one.again is None else f" {one.again:.6f}"
        print(f"{one.name} {one.value:.6f}{again} {one.outcome}")
    outcomes = [one.outcome for one in scores]
    print(", ".join(f"{outcome} {outcomes.count(outcome)}" for outcome in (EQUAL, DIFFERS, NOT_KEPT)))
    if differing := [one.name for one in scores if one.outcome == DIFFERS]:
        raise UserError(f"the rows give other values of {', '.join(differing)}: run `dvc repro` to evaluate again")


if __name__ == "__main__":
    command(main)
