"""The gates of promotion: each says whether the candidate passes, with the figures that it decides by.

All of them are evaluated, so that a refusal tells everything that is wrong at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.guessing import CEILING, CHANCE, NOT_BETTER, PUBLISHED, SERVED, bounds, less_is_better, standing
from pipelines.promotion.config import Floors
from pipelines.promotion.paired import difference, value_of
from pipelines.records import ItemRow

Figure = float | int | str | None


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What one gate said.

    Attributes:
        name: Short, and unique among the gates of a decision.
        passed: Whether the candidate passes it.
        text: For a person: what was compared, and by how much it passes or fails.
        figures: The numbers in the text.
    """

    name: str
    passed: bool
    text: str
    figures: Mapping[str, Figure] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """As the ledger has it, under its name."""
        return {"passed": self.passed, "text": self.text, "figures": dict(self.figures)}


def above_guessing(metric: str, score: Mapping[str, Any]) -> list[Gate]:
    """Whether the interval lies above chance and above each trivial baseline.

    What known facts of each image would give is no gate: a method has to find them out first.

    Args:
        metric: Of which more is better.
        score: `value`, `low`, `high`, `chance` and `baselines`, as in metrics.json.
    """
    known = {name: bound for name, bound in bounds(score).items() if not name.startswith(CEILING)}
    return [_above(metric, score, name, bound) for name, bound in known.items()]


def no_better_than_guessing(tasks: Mapping[str, Any]) -> list[str]:
    """`<task>/<metric>` with its figures, of every score whose interval does not lie above chance and all baselines.

    No gate asks for them: a champion of one metric may be worse than a trivial answer at what another measures.

    Args:
        tasks: `tasks` of metrics.json. Metrics of which less is better, and those of a served model or of a split that
            leaks, are left out.
    """
    found = []
    for task, result in tasks.items():
        for metric, score in result["metrics"].items():
            over = {
                name: bound for name, bound in bounds(score).items() if standing(metric, score, bound) in NOT_BETTER
            }
            left_out = "_own_" in metric or less_is_better(metric) or metric.startswith((SERVED, PUBLISHED))
            if over and not left_out:
                words = ", ".join(f"{name} {bound:.3f}" for name, bound in over.items())
                found.append(f"{task}/{metric} {score['value']:.3f} ({words})")
    return found


def _above(metric: str, score: Mapping[str, Any], of: str, bound: float) -> Gate:
    name = of if of == CHANCE else f"baseline {of}"
    low = score["low"]
    figures: dict[str, Figure] = {"value": score["value"], "low": low, "bound": bound}
    found = standing(metric, score, bound)
    if found is None:
        text = f"{score['value']} has no interval, being of one item or one text alone"
        return Gate(name=name, passed=False, text=text, figures=figures)
    passed = found == "better"
    where = "above" if passed else "not above"
    text = f"the interval begins at {low:.4f}, {where} {of} ({bound:.4f}): by {low - bound:+.4f}"
    return Gate(name=name, passed=passed, text=text, figures=figures)


def no_regression(
    candidate: Sequence[ItemRow],
    champion: Sequence[ItemRow] | None,
    metric: str,
    tolerance: float,
    bootstrap: Bootstrap,
) -> Gate:
    """Whether the candidate is no worse than the champion on the same items, by the interval of the difference.

    Args:
        candidate: Rows of the metric's task.
        champion: The champion's on the same split; None: there is no champion.
        metric: Name of the metric within its task.
        tolerance: How far below 0 the interval may begin.
        bootstrap: Resamples and seed.
    """
    name = "regression"
    if champion is None:
        return Gate(name=name, passed=True, text="there is no champion yet")
    found = difference(candidate, champion, metric, bootstrap)
    if found is None:
        # One that cannot be scored any more, for instance on a task that it lacks, holds nobody back.
        return Gate(name=name, passed=True, text=f"the champion has no {metric} on these items")
    score = found.score
    figures: dict[str, Figure] = {
        "difference": score.value,
        "low": score.low,
        "high": score.high,
        "tolerance": tolerance,
        "items": found.items,
        "left_out": found.left_out,
    }
    if score.low is None or score.high is None:
        return Gate(
            name=name, passed=False, text="the difference has no interval: one item or text in common", figures=figures
        )
    passed = score.low >= -tolerance
    text = (
        f"candidate less champion is {score.value:+.4f} ({score.low:+.4f} to {score.high:+.4f}) on {found.items} items "
        f"and may begin at {-tolerance:+.4f}: by {score.low + tolerance:+.4f}"
    )
    if found.left_out:
        text += f"; {found.left_out} items that one of them alone scored are left out"
    return Gate(name=name, passed=passed, text=text, figures=figures)


def floors(rows: Sequence[ItemRow], metric: str, least: Floors) -> list[Gate]:
    """Whether the score of all items, of each named source and of each named modality reaches its floor."""
    chosen: dict[str, tuple[Sequence[ItemRow], float]] = {}
    if least.all is not None:
        chosen["floor"] = rows, least.all
    for source, floor in least.sources.items():
        chosen[f"floor of source {source}"] = [row for row in rows if row.source == source], floor
    for modality, floor in least.modalities.items():
        chosen[f"floor of modality {modality}"] = [row for row in rows if row.modality == modality], floor
    return [_floor(name, value_of(part, metric), floor) for name, (part, floor) in chosen.items()]


def _floor(name: str, value: float | None, floor: float) -> Gate:
    figures: dict[str, Figure] = {"value": value, "floor": floor}
    if value is None:
        return Gate(name=name, passed=False, text=f"no test item is of it; the floor is {floor:.4f}", figures=figures)
    where = "at least" if value >= floor else "below"
    text = f"{value:.4f} is {where} {floor:.4f}: by {value - floor:+.4f}"
    return Gate(name=name, passed=value >= floor, text=text, figures=figures)
