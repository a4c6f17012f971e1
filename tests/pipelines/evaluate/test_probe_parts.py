"""Parts of the task `probe`: problems, draws, heads by hand and against scikit-learn, and the interval over draws."""

from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.evaluation_set import EvaluationImage
from pipelines.evaluate.metrics.bootstrap import mean_score
from pipelines.evaluate.probe.answers import Answers, SourceAnswers, rightness, source_answers
from pipelines.evaluate.probe.draws import draw_orders, shots_of
from pipelines.evaluate.probe.heads import BlendHead, LinearHead, class_texts, unit
from pipelines.evaluate.probe.problems import Problem, SourceProblems, source_problems
from pipelines.evaluate.probe.scores import guesses, probe_scores
from pipelines.evaluate.source_classes import classes_by_source
from pipelines.evaluate.training_embeddings import TrainingEmbeddings
from pipelines.evaluate.zero_shot.prompts import ClassPrompts

BOOTSTRAP = Bootstrap(samples=400, seed=0)
Labels = tuple[str, ...] | None


def problems_of(
    test: Sequence[tuple[str, Labels]],
    training: Sequence[tuple[str, Labels]],
    validation: Sequence[tuple[str, Labels]] = (),
) -> list[SourceProblems]:
    images = [EvaluationImage(str(number), *one, "ok", None, False) for number, one in enumerate(test)]
    sources, labels = ([one[place] for one in training] for place in (0, 1))
    keys = [f"t{number}" for number in range(len(training))]
    embeddings = TrainingEmbeddings(keys, sources, labels, np.empty((len(training), 1)))
    return source_problems(images, embeddings, classes_by_source([*test, *training, *validation]))


def exclusive(training: Sequence[int], truth: Sequence[int], classes: Sequence[str] = "abc") -> Problem:
    return Problem("one", tuple(classes), tuple(range(len(classes))), True, np.array(training), np.array(truth))


def test_labels_that_exclude_one_another_are_one_problem_with_no_finding_as_a_class() -> None:
    (source,) = problems_of(
        [("one", ("b",)), ("one", None), ("one", ("No Finding",)), ("other", None)],
        [("one", ("a",)), ("two", ("x", "y")), ("one", ()), ("one", None), ("one", ("b",))],
    )
    assert (source.training_rows.tolist(), source.test_rows.tolist()) == ([0, 2, 4], [0, 2])
    (problem,) = source.problems
    assert problem.classes == ("No Finding", "a", "b")
    assert (problem.findings, problem.exclusive) == ((1, 2), True)
    assert (problem.training.tolist(), problem.truth.tolist()) == ([1, 0, 2], [2, 0])
    assert problem.known("all") == [0, 1, 2]
    assert problem.skipped(1) == {1: "no test image has it"}
    assert problem.known(2) == []


def test_labels_that_exclude_one_another_do_so_on_all_splits() -> None:
    one, none = ("one", ("a",)), ("one", ())
    (source,) = problems_of([one, none], [one, none], [("one", ("a", "b"))])
    assert [(problem.classes, problem.exclusive) for problem in source.problems] == [
        (("without a", "a"), False),
        (("without b", "b"), False),
    ]


@pytest.mark.parametrize("where", ["training", "test"])
def test_one_image_with_two_labels_makes_each_finding_a_problem_of_its_own(where: str) -> None:
    both, one, none = ("one", ("a", "b")), ("one", ("a",)), ("one", ())
    test = [both, one, none] if where == "test" else [one, one, none]
    training = [one, none, one] if where == "test" else [both, none, one]
    (source,) = problems_of(test, training)
    first, second = source.problems
    assert (first.classes, second.classes) == (("without a", "a"), ("without b", "b"))
    assert (first.findings, first.exclusive) == ((1,), False)
    assert first.training.tolist() == [1, 0, 1]
    assert first.truth.tolist() == [1, 1, 0]
    assert second.truth.tolist() == ([1, 0, 0] if where == "test" else [0, 0, 0])
    assert first.skipped(1) == {}
    # Two images have it and one lacks it.
    assert first.skipped(2) == {1: "too few training images lack it"}
    assert first.skipped(3) == {1: "too few training images have it"}
    assert second.skipped(1) == {1: "too few training images have it" if where == "test" else "no test image has it"}


def test_a_finding_that_all_test_images_have_is_named() -> None:
    ((problem,),) = (source.problems for source in problems_of([("one", ("a",))], [("one", ("a",)), ("one", ())]))
    assert problem.skipped("all") == {1: "all test images have it"}
    assert problem.told_in_test == []


def test_shots_depend_on_keys_and_seed_alone_and_fewer_are_among_more() -> None:
    keys = [f"{number:016x}" for number in range(40)]
    classes = np.arange(40) % 3
    orders = draw_orders(keys, seed=7, draws=5)
    drawn = {k: [{keys[row] for row in shots_of(classes, order, [0, 1, 2], k)} for order in orders] for k in (1, 5)}
    for one, five in zip(drawn[1], drawn[5], strict=True):
        assert one < five
        assert (len(one), len(five)) == (3, 15)
    assert len({frozenset(one) for one in drawn[5]}) == 5
    # In another order, and with images of another class between them.
    turned = list(reversed(range(40)))
    others = [*(keys[row] for row in turned), "ffff", "eeee"]
    of_others = np.array([*classes[turned], 3, 3])
    for order, expected in zip(draw_orders(others, seed=7, draws=5), drawn[5], strict=True):
        assert {others[row] for row in shots_of(of_others, order, [0, 1, 2], 5)} == expected
    assert draw_orders(keys, seed=8, draws=5).tolist() != orders.tolist()
    assert shots_of(classes, orders[0], [0, 2], "all").tolist() == [row for row in range(40) if row % 3 != 1]


def test_every_image_is_as_likely_a_shot_as_any_other() -> None:
    first = draw_orders([f"{number:016x}" for number in range(10)], seed=0, draws=2000)[:, 0]
    counts = np.bincount(first, minlength=10)
    # 200 expected; five standard deviations of a binomial are 67.
    assert counts.min() > 133
    assert counts.max() < 267


def test_nearest_prototype_and_blend_by_hand() -> None:
    training = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    tested = np.array([[0.0, 1.0], [-0.6, 0.8]])
    texts = np.array([[-1.0, 0.0], [0.0, 1.0]])
    problem = exclusive([0, 0, 1], [0, 1], "ab")
    head = BlendHead(training, tested, lambda _: texts)
    shots = np.arange(3)
    # Prototypes (1, 1) / sqrt 2 and (-1, 0): cosines sqrt 1/2 and 0; 0.2 sqrt 1/2 and 0.6.
    root = np.sqrt(0.5)
    expected = np.array([root, 0.2 * root - 0.6])
    np.testing.assert_allclose(head.scores(problem, shots, [0, 1], 0.0), np.stack([expected, -expected], 1), atol=1e-6)
    # Texts alone: cosines 0 and 1; 0.6 and 0.8.
    np.testing.assert_allclose(head.scores(problem, shots, [0, 1], 1.0)[:, 0], [-1.0, -0.2], atol=1e-6)
    # Half of each: (root - 1, root) and (-1, 1), made of length 1.
    halves = [np.array([root - 1, root]), np.array([-1.0, 1.0])]
    cosines = np.stack([tested @ half / np.linalg.norm(half) for half in halves], axis=1)
    np.testing.assert_allclose(head.scores(problem, shots, [0, 1], 0.5)[:, 0], cosines[:, 0] - cosines[:, 1], atol=1e-6)


def test_a_class_without_a_finding_has_the_prompts_that_deny_the_findings() -> None:
    vectors = {"a": [1.0, 0.0], "b": [0.6, 0.8], "no a": [-1.0, 0.0], "no b": [0.0, -1.0]}
    prompts = ClassPrompts(templates=["{label}"], negatives=["no {label}"])

    def embed(texts: Sequence[str]) -> np.ndarray:
        return np.array([vectors[text] for text in texts])

    problem = Problem("one", ("a", "b", "No Finding"), (0, 1), True, np.array([0]), np.array([0]))
    expected = [[1, 0], [0.6, 0.8], [-np.sqrt(0.5), -np.sqrt(0.5)]]
    np.testing.assert_allclose(class_texts(embed, problem, prompts), expected)
    problem = Problem("one", ("without b", "b"), (1,), False, np.array([0]), np.array([0]))
    np.testing.assert_allclose(class_texts(embed, problem, prompts), [[0, -1], [0.6, 0.8]])


def test_of_tied_classes_each_counts_a_fraction_and_an_unknown_class_is_wrong() -> None:
    scores = np.array([[0.5, 0.5], [0.2, 0.1], [0.1, 0.2], [0.3, 0.1]])
    assert rightness(scores, [0, 2], np.array([0, 2, 2, 1])).tolist() == [0.5, 0.0, 1.0, 0.0]


def test_guesses_by_hand() -> None:
    chance, majority, prior = guesses(exclusive([0, 0, 0, 1, 2], [0, 1, 1, 2]), [0, 1])
    assert chance.tolist() == [0.5, 0.5, 0.5, 0.0]
    assert majority.tolist() == [1, 0, 0, 0]
    assert prior.tolist() == [0.6, 0.2, 0.2, 0.2]


def features(seed: int, count: int, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of length 1 in a narrow cone, with the classes in three of their twelve dimensions."""
    random = np.random.default_rng(seed)
    truth = np.arange(count) % classes
    values = 0.3 * random.normal(size=(count, 12)) + 0.25 * np.eye(12)[truth]
    values[:, -1] += 5
    return unit(values).astype(np.float32), truth


def answers_of(
    training: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray], shots: Sequence, keys: Sequence[str]
) -> SourceAnswers:
    problem = exclusive(training[1], test[1])
    source = SourceProblems("one", np.arange(len(training[1])), np.arange(len(test[1])), (problem,))
    heads = [LinearHead(training[0], test[0]), BlendHead(training[0], test[0], lambda _: np.eye(12)[:3])]
    given = {"linear": {str(k): 10.0 for k in shots}, "blend": {str(k): 0.25 for k in shots}}
    return source_answers(source, heads, shots, draw_orders(keys, 0, 5), given)


def test_auc_and_accuracy_are_those_of_scikit_learn() -> None:
    training, test = features(0, 90), features(1, 60)
    keys = [f"{number:016x}" for number in range(90)]
    source = answers_of(training, test, [5, "all"], keys)
    found = probe_scores([source], [("linear", 5), ("linear", "all")], BOOTSTRAP)
    centred = training[0].astype(float) - training[0].mean(axis=0, dtype=float)
    spread = np.sqrt((centred**2).sum(axis=1).mean())
    tested = (test[0].astype(float) - training[0].mean(axis=0, dtype=float)) / spread
    expected: dict[str, list] = {"auc_macro@5": [], "accuracy@5": [], "auc_macro@all": [], "accuracy@all": []}
    orders = draw_orders(keys, 0, 5)
    for k, draws in ((5, orders), ("all", orders[:1])):
        for order in draws:
            rows = shots_of(training[1], order, [0, 1, 2], k)
            model = LogisticRegression(C=10.0, max_iter=1000).fit(centred[rows] / spread, training[1][rows])
            probabilities = model.predict_proba(tested)
            expected[f"auc_macro@{k}"].append(roc_auc_score(test[1], probabilities, multi_class="ovr"))
            expected[f"accuracy@{k}"].append(model.score(tested, test[1]))
    for name, values in expected.items():
        assert found[name].score.value == pytest.approx(np.mean(values), abs=1e-6), name
    assert 0.6 < found["auc_macro@5"].score.value < found["auc_macro@all"].score.value < 1
    assert found["accuracy@5"].deviation == pytest.approx(np.std(expected["accuracy@5"], ddof=1), abs=1e-6)
    assert found["accuracy@all"].deviation is None


def test_scores_do_not_depend_on_the_order_of_images_nor_on_a_rotation_of_the_features() -> None:
    training, test = features(0, 60), features(1, 45)
    keys = [f"{number:016x}" for number in range(60)]
    settings = [(head, k) for head in ("linear", "blend") for k in (1, 5, "all")]
    before = probe_scores([answers_of(training, test, [1, 5, "all"], keys)], settings, BOOTSTRAP)
    turn = np.random.default_rng(5).permutation(60)
    turned = (training[0][turn], training[1][turn])
    moved = answers_of(turned, test, [1, 5, "all"], [keys[row] for row in turn])
    after = probe_scores([moved], settings, BOOTSTRAP)
    assert {name: one.score.value for name, one in before.items()} == pytest.approx(
        {name: one.score.value for name, one in after.items()}, abs=2e-3
    )
    rotation = np.linalg.qr(np.random.default_rng(6).normal(size=(12, 12)))[0]
    rotated = [(vectors @ rotation, truth) for vectors, truth in (training, test)]
    after = probe_scores([answers_of(*rotated, [1, 5, "all"], keys)], settings[:3], BOOTSTRAP)
    assert {name: before[name].score.value for name in after} == pytest.approx(
        {name: one.score.value for name, one in after.items()}, abs=2e-3
    )


def test_a_binary_score_of_texts_alone_is_that_of_zero_shot() -> None:
    (training, truth), (tested, _) = features(0, 20, 2), features(1, 10, 2)
    absence, presence = unit(np.random.default_rng(2).normal(size=(2, 12)))
    problem = Problem("one", ("without x", "x"), (1,), False, truth, truth[:10])
    head = BlendHead(training, tested, lambda _: np.stack([absence, presence]))
    found = head.scores(problem, np.arange(20), [0, 1], 1.0)[:, 1]
    np.testing.assert_allclose(found, tested @ (presence - absence), atol=2e-6)


def drawn_answers(right: np.ndarray) -> SourceAnswers:
    """Of one source with the given (draws, images)."""
    problem = exclusive([0, 1], [0] * right.shape[1], "ab")
    of = SourceProblems("one", np.arange(2), np.arange(right.shape[1]), (problem,))
    found = Answers(problem, (0, 1), {}, right.astype(np.float32))
    return SourceAnswers(of, {("linear", 1): [found]}, {}, [])


def interval(right: np.ndarray, samples: int = 4000) -> tuple[float, float]:
    found = probe_scores([drawn_answers(right)], [("linear", 1)], Bootstrap(samples=samples, seed=0))
    assert list(found) == ["accuracy@1"]
    return found["accuracy@1"].score.bounds


def test_the_interval_covers_both_the_draws_and_the_images() -> None:
    random = np.random.default_rng(4)
    of_draws, of_images = 0.5 + 0.3 * random.normal(size=20), random.normal(size=50)
    draws_alone, images_alone = np.repeat(of_draws[:, None], 50, 1), np.repeat(of_images[None], 20, 0)
    widths = [high - low for low, high in map(interval, (draws_alone, images_alone, draws_alone + images_alone))]
    # A mean of n has a standard error of s / sqrt n; the factors are independent, so that their variances add up.
    assert widths[0] == pytest.approx(2 * 1.96 * of_draws.std() / np.sqrt(20), rel=0.08)
    assert widths[1] == pytest.approx(2 * 1.96 * of_images.std() / np.sqrt(50), rel=0.08)
    assert widths[2] == pytest.approx(np.hypot(*widths[:2]), rel=0.08)


def test_of_one_draw_the_interval_is_that_of_the_images() -> None:
    right = (np.arange(30) % 3 == 0).astype(float)
    found = probe_scores([drawn_answers(right[None])], [("linear", 1)], BOOTSTRAP)["accuracy@1"].score
    expected = mean_score(right, 0.5, BOOTSTRAP)
    assert (found.value, found.low, found.high) == (expected.value, expected.low, expected.high)
    assert (found.chance, found.baselines) == (0.5, {"majority class": 1.0, "prior of the labels": 0.5})


def test_validation_chooses_the_option_with_the_highest_auc_and_of_equal_ones_the_first() -> None:
    training, test = features(0, 60), features(1, 45)
    problem = exclusive(training[1], test[1])
    source = SourceProblems("one", np.arange(60), np.arange(45), (problem,))
    orders = draw_orders([str(number) for number in range(60)], 0, 5)
    # Texts that point to the classes' own dimensions help one shot; those of other classes harm.
    right, wrong = np.eye(12)[:3], np.eye(12)[[1, 2, 0]]
    chosen = {
        name: source_answers(source, [BlendHead(training[0], test[0], lambda _, t=texts: t)], [1], orders, None).chosen
        for name, texts in (("right", right), ("wrong", wrong))
    }
    assert chosen["right"]["blend"]["1"] > 0
    assert chosen["wrong"] == {"blend": {"1": 0.0}}
    equal = np.ones((60, 4), dtype=np.float32) / 2
    found = source_answers(source, [LinearHead(equal, equal[:45])], ["all"], orders, None)
    assert found.chosen == {"linear": {"all": 0.1}}


def test_a_head_that_did_not_converge_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.evaluate.probe.heads._STEPS", 1)
    training, test = features(0, 60), features(1, 45)
    head = LinearHead(training[0], test[0])
    head.scores(exclusive(training[1], test[1]), np.arange(60), [0, 1, 2], 100.0)
    assert (head.fitted, head.unfinished) == (1, 1)
