"""Precision and intervals, against formulas and values by hand, and the coverage of intervals, simulated."""

from dataclasses import replace

import numpy as np
import pytest

from pipelines.audit import answers as answer_file
from pipelines.audit.result import ALL, Counts, agreements, audit_figures, interval, pooled_interval
from pipelines.audit.sample import draw
from pipelines.errors import UserError
from tests.pipelines.audit.small_audit import SETTINGS, answer, caption, empty, image, region


class Study:
    """90 regions of one stratum and 10 of another; the sample of 10 is all of the 9 and 1, and 2 more of the second."""

    def __init__(self, folder):
        self.images = [image(n, modality="ct" if n < 90 else "mri") for n in range(100)]
        self.regions = [region(one) for one in self.images]
        self.captions = [caption(self.images[0])]
        self.file = empty(folder)

    def sampled(self, stratum):
        strata = draw(self.images, self.regions, self.captions, SETTINGS)["regions"]
        return next(one.items for one in strata if one.name == stratum)

    def answer(self, *answers):
        answer_file.write(answers, self.file)

    def figures(self):
        rows = audit_figures(self.file, self.images, self.regions, self.captions, SETTINGS)
        return {(row.what, row.stratum): row for row in rows}

    def agreements(self):
        return agreements(self.file, self.images, self.regions, self.captions, SETTINGS)


@pytest.fixture
def study(tmp_path):
    return Study(tmp_path)


def test_limits_are_those_of_clopper_and_pearson():
    # All of n correct: (1 - p)'s limit in closed form, 0.025^(1/n).
    assert interval(10, 0, 10, 0.95) == (pytest.approx(0.025**0.1), 1)
    assert interval(0, 0, 10, 0.95) == (0, pytest.approx(1 - 0.025**0.1))
    # R: binom.test(8, 10).
    assert interval(8, 0, 10, 0.95) == (pytest.approx(0.4439045), pytest.approx(0.9747893))
    # Unsure ones are wrong for the lower limit and correct for the upper one.
    assert interval(0, 10, 10, 0.95) == (0, 1)
    assert interval(8, 1, 10, 0.95) == (pytest.approx(0.4439045), pytest.approx(interval(9, 0, 10, 0.95)[1]))


def test_a_share_that_is_not_the_population_s_widens_the_interval():
    fair = [Counts(population=900, yes=9, no=0, unsure=0), Counts(population=100, yes=0, no=1, unsure=0)]
    low, high = interval(9, 0, 10, 0.95)
    assert pooled_interval(fair, 0.95) == (pytest.approx(low), pytest.approx(high))
    # Answers are 8 and 2 of 10, sizes 0.9 and 0.1: the distance is (0.1 + 0.1) / 2.
    skewed = [Counts(population=900, yes=7, no=1, unsure=0), Counts(population=100, yes=0, no=2, unsure=0)]
    low, high = interval(7, 0, 10, 0.95)
    assert pooled_interval(skewed, 0.95) == (pytest.approx(low - 0.1), pytest.approx(min(high + 0.1, 1)))
    # A stratum without an answer may hold anything.
    half = [Counts(population=50, yes=10, no=0, unsure=0), Counts(population=50, yes=0, no=0, unsure=0)]
    assert pooled_interval(half, 0.95) == (pytest.approx(0.025**0.1 - 0.5), 1)


def test_precision_of_strata_and_of_all_weighted_by_their_sizes(study):
    ct, mri = study.sampled("alpha, ct"), study.sampled("alpha, mri")
    study.answer(
        *(answer(item, given) for item, given in zip(ct, ["yes"] * 6 + ["no"] * 2 + ["unsure"], strict=True)),
        *(answer(item, given) for item, given in zip(mri, ["no", "yes", "yes"], strict=True)),
    )
    figures = study.figures()
    one = figures["regions", "alpha, ct"]
    assert (one.population, one.sampled, one.n, one.correct, one.wrong, one.unsure) == (90, 9, 9, 6, 2, 1)
    assert (one.precision, one.lowest) == (pytest.approx(6 / 8), pytest.approx(6 / 9))
    assert (one.low, one.high) == (pytest.approx(interval(6, 1, 9, 0.95)[0]), pytest.approx(interval(6, 1, 9, 0.95)[1]))
    other = figures["regions", "alpha, mri"]
    assert (other.sampled, other.n, other.correct, other.precision) == (3, 3, 2, pytest.approx(2 / 3))
    # The proportional part alone: 9 and the first 1. 90 images x 6/9 = 60 correct, x 2/9 = 20 wrong, x 1/9 = 10 unsure;
    # 10 images x 1/1 = 10 wrong.
    whole = figures["regions", ALL]
    assert (whole.population, whole.sampled, whole.n, whole.correct, whole.wrong, whole.unsure) == (
        100,
        10,
        10,
        6,
        3,
        1,
    )
    assert (whole.precision, whole.lowest) == (pytest.approx(60 / 90), pytest.approx(60 / 100))
    assert (whole.low, whole.high) == (
        pytest.approx(interval(6, 1, 10, 0.95)[0]),
        pytest.approx(interval(7, 0, 10, 0.95)[1]),
    )


def test_without_answers_nothing_is_claimed(study):
    figures = study.figures()
    strata = [(row.what, row.stratum) for row in figures.values()]
    assert strata[:3] == [("regions", ALL), ("regions", "alpha, ct"), ("regions", "alpha, mri")]
    assert strata[3:] == [("captions", ALL), ("captions", "alpha, ct")]
    for one in figures.values():
        assert (one.n, one.precision, one.lowest, one.low, one.high) == (0, None, None, None, None)
    assert study.agreements() == []


def test_only_unsure_answers_leave_the_precision_open(study):
    study.answer(*(answer(item, "unsure") for item in study.sampled("alpha, mri")))
    one = study.figures()["regions", "alpha, mri"]
    assert (one.n, one.unsure, one.precision, one.lowest, one.low, one.high) == (3, 3, None, 0, 0, 1)


def test_answers_about_what_changed_since_are_outdated_and_not_counted(study):
    items = study.sampled("alpha, mri")
    study.answer(answer(items[0], "yes"), answer(items[1], "no"), answer(items[1], "no", "CD"))
    changed = {items[0].region.region_id, items[1].region.region_id}
    moved = [replace(row, x0=row.x0 + 1) if row.region_id in changed else row for row in study.regions]
    study.regions = moved
    one = study.figures()["regions", "alpha, mri"]
    assert (one.n, one.outdated, one.precision) == (0, 2, None)
    study.answer(*answer_file.read(study.file), answer(study.sampled("alpha, mri")[0], "yes"))
    one = study.figures()["regions", "alpha, mri"]
    assert (one.n, one.outdated, one.correct) == (1, 1, 1)


def test_where_two_people_disagree_the_item_is_unsure_and_agreement_is_told(study):
    items = study.sampled("alpha, ct")[:4]
    pairs = (("yes", "yes"), ("yes", "no"), ("no", "no"), ("no", "no"))
    study.answer(
        *(answer(item, given) for item, (given, _) in zip(items, pairs, strict=True)),
        *(answer(item, given, "CD") for item, (_, given) in zip(items, pairs, strict=True)),
        answer(study.sampled("alpha, mri")[0], "yes", "EF"),
    )
    one = study.figures()["regions", "alpha, ct"]
    assert (one.n, one.correct, one.wrong, one.unsure) == (4, 1, 2, 1)
    # Observed 3/4; expected 1/2 x 1/4 + 1/2 x 3/4 = 1/2; kappa = (3/4 - 1/2) / (1 - 1/2).
    (agreement,) = study.agreements()
    assert (agreement.what, agreement.reviewers, agreement.n, agreement.agreed) == ("regions", ("AB", "CD"), 4, 3)
    assert agreement.kappa == pytest.approx(0.5)


def test_kappa_of_equal_answers_throughout_is_not_defined(study):
    items = study.sampled("alpha, ct")[:3]
    study.answer(*(answer(item, "yes", reviewer) for item in items for reviewer in ("AB", "CD")))
    (agreement,) = study.agreements()
    assert (agreement.n, agreement.agreed, agreement.kappa) == (3, 3, None)


@pytest.mark.parametrize("precisions", [(0.97, 0.5, 0.1), (0.6, 0.6, 0.6), (0.0, 1.0, 1.0), (0.9, 0.95, 0.2)])
def test_the_interval_over_all_strata_covers_the_truth_as_often_as_it_says(precisions):
    generator = np.random.default_rng(7)
    populations = np.array([600, 90, 30])
    correct = np.round(populations * precisions).astype(int)
    truth = correct.sum() / populations.sum()
    sizes = [50, 7, 3]  # of 720, 60 in proportion: 50, 7.5 and 2.5
    covered, runs = 0, 2000
    limits = {}
    for _ in range(runs):
        found = tuple(int(generator.hypergeometric(good, all_ - good, size)) for good, all_, size in
                      zip(correct, populations, sizes, strict=True))  # fmt: skip
        if found not in limits:
            strata = [
                Counts(population=int(all_), yes=yes, no=size - yes, unsure=0)
                for all_, yes, size in zip(populations, found, sizes, strict=True)
            ]
            limits[found] = pooled_interval(strata, 0.9)
        low, high = limits[found]
        covered += low <= truth <= high
    assert covered / runs >= 0.9


@pytest.mark.parametrize(
    ("line", "said"),
    [("{", "audit.jsonl:1: not JSON"), ('{"item": 1}', "audit.jsonl:1"),
     ('{"item": "region:0000000000000001-0", "shown": "x", "answer": "yes", "reviewer": "AB", "date": "2026-11-28"}',
      "is no SHA-256")],
)  # fmt: skip
def test_a_damaged_file_of_answers_is_one_line(study, line, said):
    study.file.write_text(line + "\n")
    with pytest.raises(UserError, match=said) as caught:
        study.figures()
    assert "\n" not in str(caught.value)
    study.file.unlink()
    with pytest.raises(UserError, match=r"audit\.answers"):
        study.figures()
