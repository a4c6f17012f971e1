"""What people's answers say: the precision of accepted regions and of captions, with exact intervals.

An item on which people disagree counts as unsure. An interval reaches from the lower limit with all unsure items wrong
to the upper limit with all of them correct, so that it holds whatever they are.

The items of a stratum are drawn without replacement, so that the number of correct ones is hypergeometric, hence
distributed as a sum of independent Bernoulli variables (Vatutin and Mikhailov, 1982); the sum over strata is one too.
Its tails are no heavier than those of the binomial distribution with the same mean (Hoeffding, On the distribution of
the number of successes in independent trials, 1956). So Clopper and Pearson's interval of the pooled counts covers the
mean of the strata's precisions, weighted by their parts of the sample. These parts differ from their parts of the study
by rounding and missing answers; the interval is widened by the most that this can make: the total variation distance of
the two. Overall figures use the proportional part of the sample alone, for which that distance is small.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from pipelines.audit import answers as answer_file
from pipelines.audit.answers import DECISIONS, Answer, Decision
from pipelines.audit.config import AuditConfig
from pipelines.audit.sample import WHATS, Item, Stratum, What, draw
from pipelines.records import CaptionRow, RegionRow, SplitImageRow

ALL = "all"  # the stratum of the figure over all strata


@dataclass(frozen=True, kw_only=True)
class AuditFigure:
    """Precision of the regions or captions of one stratum, or of all of them.

    Attributes:
        what: regions or captions.
        stratum: "<source>, <modality>", or `ALL`.
        population: Items of the study that it is about.
        sampled: Items in the sample; of `ALL` those of its proportional part, and so for what follows.
        n: Items with a current answer; 0: not audited.
        correct: Items that people found correct.
        wrong: Items that they found wrong.
        unsure: Items that they could not decide, or disagreed on.
        outdated: Items that changed since all of their answers.
        precision: correct / (correct + wrong), over all strata weighted by their sizes; None: nothing was decided.
        lowest: The same with `unsure` taken for wrong; None: n is 0.
        low: Lower end of the exact interval, `unsure` taken for wrong; None: n is 0.
        high: Upper end, `unsure` taken for correct; None: n is 0.
    """

    what: What
    stratum: str
    population: int
    sampled: int
    n: int
    correct: int
    wrong: int
    unsure: int
    outdated: int
    precision: float | None
    lowest: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How often two people agree.

    Attributes:
        what: regions or captions.
        reviewers: Their initials.
        n: Items that both answered, as they are now.
        agreed: Items with the same answer.
        kappa: Cohen's kappa; None: both gave one and the same answer throughout, for which it is not defined.
    """

    what: What
    reviewers: tuple[str, str]
    n: int
    agreed: int
    kappa: float | None


@dataclass(frozen=True, kw_only=True)
class Counts:
    """The answers of one stratum, or of a part of its sample.

    Attributes:
        population: Items of the study.
        yes: Items found correct.
        no: Items found wrong.
        unsure: Neither.
    """

    population: int
    yes: int
    no: int
    unsure: int

    @property
    def n(self) -> int:
        return self.yes + self.no + self.unsure


def audit_figures(
    answers: Path,
    images: Sequence[SplitImageRow],
    regions: Sequence[RegionRow],
    captions: Sequence[CaptionRow],
    settings: AuditConfig,
) -> list[AuditFigure]:
    """The figures of regions, then of captions: first over all strata (`ALL`), then of each stratum.

    Args:
        answers: File of the answers.
        images: All images of the study.
        regions: All regions of the study.
        captions: All captions of the study.
        settings: Section `audit` of params.yaml.

    Raises:
        UserError: The file is missing, or a line of it is no answer.
    """
    given = _by_item(answer_file.read(answers))
    sample = draw(images, regions, captions, settings)
    return [figure for what in WHATS for figure in _figures(what, sample[what], given, settings.confidence)]


def agreements(
    answers: Path,
    images: Sequence[SplitImageRow],
    regions: Sequence[RegionRow],
    captions: Sequence[CaptionRow],
    settings: AuditConfig,
) -> list[Agreement]:
    """Agreement of each two people on the items of the sample that both answered, as they are now.

    Takes and raises what `audit_figures` does.
    """
    given = _by_item(answer_file.read(answers))
    if not given:
        return []
    pairs: dict[tuple[What, str, str], list[tuple[Decision, Decision]]] = defaultdict(list)
    for what, strata in draw(images, regions, captions, settings).items():
        for item in (item for stratum in strata for item in stratum.items):
            current = sorted(_current(item, given), key=lambda answer: answer.reviewer)
            for one, other in combinations(current, 2):
                pairs[what, one.reviewer, other.reviewer].append((one.answer, other.answer))
    return [
        Agreement(
            what=what,
            reviewers=(one, other),
            n=len(both),
            agreed=sum(first == second for first, second in both),
            kappa=_kappa(both),
        )
        for (what, one, other), both in sorted(pairs.items())
    ]


def interval(correct: int, unsure: int, n: int, confidence: float) -> tuple[float, float]:
    """Clopper and Pearson's limits of a binomial proportion, whatever the unsure ones are."""
    # Here, for only a study with an audit needs it.
    from scipy.stats import binomtest

    low, high = (
        binomtest(count, n).proportion_ci(confidence_level=confidence, method="exact")
        for count in (correct, correct + unsure)
    )
    return float(low.low), float(high.high)


def pooled_interval(strata: Sequence[Counts], confidence: float) -> tuple[float, float]:
    """Limits of the precision over all strata, weighted by their sizes; at least one item has an answer."""
    n = sum(counts.n for counts in strata)
    total = sum(counts.population for counts in strata)
    low, high = interval(sum(counts.yes for counts in strata), sum(counts.unsure for counts in strata), n, confidence)
    distance = sum(abs(counts.n / n - counts.population / total) for counts in strata) / 2
    return max(low - distance, 0.0), min(high + distance, 1.0)


def _figures(
    what: What, strata: Sequence[Stratum], given: dict[str, list[Answer]], confidence: float
) -> list[AuditFigure]:
    parts = [_counts(stratum, stratum.proportional, given) for stratum in strata]
    overall = _figure(
        what, ALL, parts, [item for stratum in strata for item in stratum.proportional], given, confidence
    )
    return [
        overall,
        *(
            _figure(what, stratum.name, [_counts(stratum, stratum.items, given)], stratum.items, given, confidence)
            for stratum in strata
        ),
    ]


def _figure(
    what: What,
    name: str,
    parts: Sequence[Counts],
    items: Sequence[Item],
    given: dict[str, list[Answer]],
    confidence: float,
) -> AuditFigure:
    n = sum(part.n for part in parts)
    low, high = pooled_interval(parts, confidence) if n else (None, None)
    weight = {"yes": _weighted(parts, "yes"), "no": _weighted(parts, "no"), "unsure": _weighted(parts, "unsure")}
    decided = weight["yes"] + weight["no"]
    return AuditFigure(
        what=what,
        stratum=name,
        population=sum(part.population for part in parts),
        sampled=len(items),
        n=n,
        correct=sum(part.yes for part in parts),
        wrong=sum(part.no for part in parts),
        unsure=sum(part.unsure for part in parts),
        outdated=sum(item.name in given and not _current(item, given) for item in items),
        precision=weight["yes"] / decided if decided else None,
        lowest=weight["yes"] / sum(weight.values()) if n else None,
        low=low,
        high=high,
    )


def _weighted(parts: Iterable[Counts], decision: Decision) -> float:
    """How many items of the study the answers of one kind stand for."""
    return sum(part.population * getattr(part, decision) / part.n for part in parts if part.n)


def _counts(stratum: Stratum, items: Iterable[Item], given: dict[str, list[Answer]]) -> Counts:
    decisions: Counter[Decision] = Counter()
    for item in items:
        # Whoever is right of two that disagree, the interval covers it as it does for one that is unsure.
        found = {answer.answer for answer in _current(item, given)}
        if found:
            decisions[found.pop() if len(found) == 1 else "unsure"] += 1
    return Counts(population=stratum.population, yes=decisions["yes"], no=decisions["no"], unsure=decisions["unsure"])


def _current(item: Item, given: dict[str, list[Answer]]) -> list[Answer]:
    """The answers about an item as it is now."""
    found = given.get(item.name, [])
    return [answer for answer in found if answer.shown == item.shown] if found else []


def _by_item(answers: Iterable[Answer]) -> dict[str, list[Answer]]:
    found: dict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        found[answer.item].append(answer)
    return dict(found)


def _kappa(pairs: Sequence[tuple[Decision, Decision]]) -> float | None:
    from sklearn.metrics import cohen_kappa_score

    if len({answer for pair in pairs for answer in pair}) == 1:
        return None
    first, second = zip(*pairs, strict=True)
    return float(cohen_kappa_score(first, second, labels=list(DECISIONS)))
