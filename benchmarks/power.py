"""What a number of seeds can see: the power of Student's t test of paired differences by seed, two-sided, level 0.05.

Both benchmarks of trained variants plan with it, and say with it what an order that is not resolved leaves open.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import scipy.optimize
import scipy.stats

LEVEL, POWER = 0.05, 0.8

# More seeds than any benchmark here can pay for.
MOST_SEEDS = 1000


def power(effect: float, deviation: float, seeds: int) -> float:
    """Probability that the test finds a true mean difference.

    Args:
        effect: The true mean of the differences.
        deviation: Their standard deviation, above 0.
        seeds: Differences; at least 2.
    """
    degrees = seeds - 1
    critical = scipy.stats.t.ppf(1 - LEVEL / 2, degrees)
    # The statistic has the noncentral t distribution (Cohen 1988, 2.3.3).
    shift = abs(effect) * seeds**0.5 / deviation
    statistic = scipy.stats.nct(degrees, shift)
    # Beyond a shift of 5 the wrong side has less than 1e-6, and scipy gives NaN for some of it.
    return float(statistic.sf(critical) + (statistic.cdf(-critical) if shift < 5 else 0.0))


def detectable(deviation: float, seeds: int) -> float:
    """The true mean difference that the test finds with a probability of 0.8; 0 where the differences are all equal."""
    if deviation == 0:
        return 0.0
    # In units of the deviation: with 2 seeds 11.5, with more less.
    return deviation * float(scipy.optimize.brentq(lambda effect: power(effect, 1.0, seeds) - POWER, 1e-3, 20))


def seeds_needed(effect: float, deviation: float) -> int | None:
    """The fewest seeds that find a true mean difference with a probability of 0.8; None above `MOST_SEEDS`."""
    enough = (seeds for seeds in range(2, MOST_SEEDS + 1) if power(effect, deviation, seeds) >= POWER)
    return next(enough, None)


def pooled_deviation(differences: Sequence[Sequence[float]]) -> tuple[float, int]:
    """Standard deviation within pairs of variants, and its degrees of freedom.

    Args:
        differences: Of each pair of variants, the differences by seed; pairs with fewer than 2 count for nothing.

    Raises:
        ValueError: No pair has 2 differences.
    """
    usable = [np.asarray(values, dtype=float) for values in differences if len(values) > 1]
    if not usable:
        raise ValueError("no two variants have two seeds in common")
    degrees = sum(len(values) - 1 for values in usable)
    squares = sum(float(((values - values.mean()) ** 2).sum()) for values in usable)
    return (squares / degrees) ** 0.5, degrees


def table(differences: Mapping[str, Sequence[Sequence[float]]], seeds: Sequence[int]) -> list[str]:
    """Lines of Markdown: for each metric the pooled deviation, and the effect that each number of seeds can see.

    Args:
        differences: By metric, as in `pooled_deviation`; a metric without two seeds is left out.
        seeds: Numbers of seeds.
    """
    lines = [
        "| metric | pairs | degrees of freedom | standard deviation | "
        + " | ".join(f"seen with {count} seeds" for count in seeds)
        + " |",
        "|---" * (len(seeds) + 4) + "|",
    ]
    for metric, pairs in differences.items():
        usable = [values for values in pairs if len(values) > 1]
        if not usable:
            continue
        deviation, degrees = pooled_deviation(usable)
        seen = " | ".join(f"{detectable(deviation, count):.3f}" for count in seeds)
        lines.append(f"| {metric} | {len(usable)} | {degrees} | {deviation:.4f} | {seen} |")
    return lines
