"""The head that answers questions: what counts as equal, what is in reach, and what it learns, the same each time."""

import math

import pytest
import torch
from torch import Tensor

from models.answering import (
    UNKNOWN,
    Examples,
    HeadSettings,
    Vocabulary,
    best_epoch,
    normalise_answer,
    train_head,
)

SETTINGS = HeadSettings(hidden=32, epochs=60, learning_rate=0.01)


@pytest.mark.parametrize(
    ("answer", "normalised"),
    [
        ("Yes", "yes"),
        (" The Left  Lung. ", "left lung"),
        ("x-ray", "x ray"),
        ("an axial T2-weighted MRI", "axial t2 weighted mri"),
        ("2.5 cm", "2.5 cm"),
        ("Diffuse, bilateral", "diffuse bilateral"),
        ("theatre", "theatre"),
        ("Ödem", "ödem"),
        ("A", "a"),
        ("A.", "a"),
        ("(A)", "a"),
        ("The", "the"),
        ("B.", "b"),
        ("+", "+"),
        ("(+).", "+"),
        ("−", "-"),
        ("++", "++"),
        ("?", "?"),
        # A minus, a decimal point and a comma of thousands are part of a number; a range and a list are not.
        ("-5", "-5"),
        ("(−5 HU)", "-5 hu"),
        ("3-5 cm", "3 5 cm"),
        ("- 5 cm", "5 cm"),
        (".5 cm", "0.5 cm"),
        ("-.5", "-0.5"),
        ("No.5", "no 5"),
        ("10,000", "10000"),
        ("1,234,567.5 cells.", "1234567.5 cells"),
        ("C3,400", "c3 400"),
        ("0,125", "0 125"),
        ("3, 400", "3 400"),
        # So are less and more than one, and a sign behind a word; a hyphen is not.
        ("> 5", ">5"),
        (">5", ">5"),
        ("size <= -2.5", "size ≤-2.5"),
        ("a < b", "< b"),
        ("CD3+", "cd3+"),
        ("CD3-, CD4+", "cd3- cd4+"),
        ("CD3- T cells", "cd3- t cells"),
        ("ER-", "er-"),
        ("A-.", "a-"),
        ("2- to 3-cm", "2- to 3 cm"),
        ("left- and right-sided", "left and right sided"),
        ("Yes - there is", "yes there is"),
        ("Yes- there is", "yes there is"),
        ("L4-L5", "l4 l5"),
        # A sign that stands apart, in brackets or behind a colon is one of the word before it.
        ("Gram +", "gram+"),
        ("Gram -", "gram-"),
        ("Gram –.", "gram-"),
        ("A +", "a+"),
        ("A -", "a-"),
        ("Rh+", "rh+"),
        ("Rh -", "rh-"),
        ("CD3(+)", "cd3+"),
        ("CD3(-)", "cd3-"),
        ("CD3 ( - ) T cells", "cd3- t cells"),
        ("CD3⁺", "cd3+"),
        ("CD3⁻", "cd3-"),
        ("HER2 (+)", "her2+"),
        ("HER2 (+++)", "her2+++"),
        ("HER2 (2+)", "her2 2+"),
        ("HER2 (neu): -", "her2 neu-"),
        ("HER2 +/-", "her2 ±"),
        ("gram_+", "gram+"),
        ("gram +ve", "gram+ve"),
        ("Gram-ve cocci", "gram-ve cocci"),
        ("gram (-ve)", "gram-ve"),
        ("gram (+) ve", "gram+ve"),
        ("gram - ve", "gram-ve"),
        ("+ve", "+ve"),
        ("-ve", "-ve"),
        ("Gram +, Rh -", "gram+ rh-"),
        ("Gram + cocci", "gram+ cocci"),
        ("Gram - cocci", "gram cocci"),
        ("Gram positive", "gram positive"),
        ("gram-negative", "gram negative"),
        ("shift +5", "shift 5"),
        ("t - shaped", "t shaped"),
        ("T - weighted, x-ray", "t weighted x ray"),
        ("5 ± 2 mm", "5 ± 2 mm"),
        ("5±2", "5 ± 2"),
        ("BP ↑", "bp ↑"),
        ("↓BP", "↓ bp"),
        ("right>left", "right > left"),
        ("right < left", "right < left"),
        # A comma between groups of three digits is of one number; a list has a space.
        ("100,200", "100200"),
        ("100, 200", "100 200"),
        ("10,20", "10 20"),
        ("1,0000", "1 0000"),
        ("1,000,50", "1 000 50"),
        ("1,000mm", "1000 mm"),
        ("1,000 mm", "1000 mm"),
        ("5mm", "5 mm"),
        ("grade 1a", "grade 1a"),
        ("5", "5"),
        ("none", "none"),
    ],
)
def test_answers_are_equal_but_for_case_punctuation_and_articles(answer: str, normalised: str) -> None:
    assert normalise_answer(answer) == normalised
    assert normalise_answer(normalised) == normalised


@pytest.mark.parametrize(
    "finding",
    [
        "Gram {}",
        "Gram{}",
        "CD3({})",
        "CD3 ( {} )",
        "HER2: {}",
        "gram {}ve",
        "gram({}) ve",
        "{}ve",
        "A {}",
        "Rh {} mother",
    ],
)
def test_opposite_findings_are_two_answers_however_the_sign_stands(finding: str) -> None:
    assert normalise_answer(finding.format("+")) != normalise_answer(finding.format("-"))
    for sign, other in (("-", "−"), ("-", "–"), ("-", "⁻"), ("+", "⁺"), ("+", "＋")):
        assert normalise_answer(finding.format(sign)) == normalise_answer(finding.format(other))


def test_a_vocabulary_holds_each_answer_once_and_knows_which_type_has_it() -> None:
    vocabulary = Vocabulary.of(["Yes", "no", "left", "the left.", "yes"], ["closed", "closed", "open", "open", "open"])
    assert vocabulary.answers == ("left", "no", "yes")
    assert {kind: mask.tolist() for kind, mask in vocabulary.of_type.items()} == {
        "closed": [False, True, True],
        "open": [True, False, True],
    }
    types = ["closed", "open", "closed", "open", "other"]
    assert vocabulary.allowed(types)[-1].tolist() == [False, False, False]
    # Of a closed question `left` is out of reach, and of another type everything.
    asked = ["YES", "Left", "left", "right", "yes"]
    assert vocabulary.numbers(asked, types).tolist() == [2, 0, UNKNOWN, UNKNOWN, UNKNOWN]


def test_the_letters_of_a_choice_are_one_answer_each_however_they_are_written() -> None:
    letters = ["A", "A.", "(a)", "B", "B.", "(b)"]
    assert Vocabulary.of(letters, ["closed"] * len(letters)).answers == ("a", "b")


def directions(count: int, dimensions: int = 8) -> Tensor:
    """(count, dimensions): different unit vectors."""
    return torch.eye(dimensions)[:count]


def scene(repeats: int = 6, seed: int = 1) -> Examples:
    """Questions 0 and 1 (closed) ask of images 0 and 1 whether they are this one; question 2 (open) asks which it is.

    Answers: 0 first, 1 no, 2 second, 3 yes; no two embeddings are equal to the last digit.
    """
    random = torch.Generator().manual_seed(seed)
    rows = [(image, question) for image in (0, 1) for question in (0, 1, 2)] * repeats
    images, questions = (torch.tensor(column) for column in zip(*rows, strict=True))
    is_open = questions == 2
    answers = torch.where(is_open, images * 2, torch.where(images == questions, 3, 1))
    allowed = torch.where(is_open[:, None], torch.tensor([True, False, True, False]), torch.tensor([False, True] * 2))
    noise = 1e-5 * torch.randn(2, len(rows), 8, generator=random)
    return Examples(
        images=torch.nn.functional.normalize(directions(2)[images] + noise[0], dim=1),
        questions=torch.nn.functional.normalize(directions(3)[questions] + noise[1], dim=1),
        allowed=allowed,
        answers=answers,
    )


def test_it_learns_what_needs_image_and_question_together_and_without_the_image_guesses() -> None:
    training, others = scene(), scene(repeats=4, seed=2)
    head = train_head(training, SETTINGS, 60)
    assert head.accuracy(others) == 1
    assert head.answer(others).tolist() == others.answers.tolist()
    # Each question has both answers equally often: of six one half is right, whatever is said.
    blind = train_head(training.without_images(), SETTINGS, 60)
    same = others.without_images()
    assert blind.accuracy(same) == pytest.approx(0.5, abs=0.25)


def test_an_answer_of_another_type_is_never_given() -> None:
    training = scene()
    head = train_head(training, SETTINGS, 1)
    given = head.answer(training)
    assert training.allowed[torch.arange(len(training)), given].all()
    swapped = Examples(training.images, training.questions, ~training.allowed, training.answers)
    assert (~training.allowed)[torch.arange(len(training)), head.answer(swapped)].all()
    assert head.accuracy(swapped) == 0
    logits = head(training)
    assert torch.isneginf(logits[~training.allowed]).all()
    assert torch.isfinite(logits[training.allowed]).all()


def test_a_question_whose_answer_or_type_is_unknown_is_answered_wrongly() -> None:
    training = scene()
    head = train_head(training, SETTINGS, 5)
    unknown = Examples(
        training.images, training.questions, torch.zeros_like(training.allowed), torch.full_like(training.answers, -1)
    )
    assert head.answer(unknown).tolist() == [UNKNOWN] * len(training)
    assert head.accuracy(unknown) == 0


def test_equal_inputs_and_settings_give_equal_heads_and_leave_torch_as_it_was() -> None:
    training = scene()
    torch.manual_seed(5)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    first = train_head(training, SETTINGS, 3)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    torch.rand(7)
    second = train_head(training, SETTINGS, 3)
    assert all(torch.equal(one, other) for one, other in zip(first.parameters(), second.parameters(), strict=True))
    third = train_head(training, HeadSettings(hidden=32, learning_rate=0.01, seed=1), 3)
    assert not torch.equal(first.first.weight, third.first.weight)


def test_the_best_epoch_gives_its_head_again_and_is_the_first_of_equals() -> None:
    training, validation = scene(), scene(repeats=2, seed=3)
    epoch, head = best_epoch(training, validation, SETTINGS)
    again = train_head(training, SETTINGS, epoch)
    assert all(torch.equal(one, other) for one, other in zip(head.parameters(), again.parameters(), strict=True))
    accuracies = [train_head(training, SETTINGS, count).accuracy(validation) for count in range(1, epoch + 2)]
    assert accuracies[epoch - 1] == max(accuracies) == head.accuracy(validation)
    assert all(value < accuracies[epoch - 1] for value in accuracies[: epoch - 1])


def test_the_order_of_the_questions_that_are_asked_changes_no_answer() -> None:
    training = scene()
    head = train_head(training, SETTINGS, 2)
    order = torch.randperm(len(training), generator=torch.Generator().manual_seed(0))
    assert torch.equal(head.answer(training)[order], head.answer(training.at(order)))


def test_embeddings_that_are_all_equal_give_the_most_frequent_answer_of_the_type() -> None:
    """Rounding in the last digits tells nothing: the head falls back on how frequent answers are."""
    training = scene(repeats=10)
    frequent = training.at(torch.cat([torch.arange(60), (training.answers == 1).nonzero().flatten()]))
    noise = 1e-8 * torch.randn(len(frequent), 8, generator=torch.Generator().manual_seed(3))
    same = torch.full((len(frequent), 8), 8**-0.5) + noise
    collapsed = Examples(same, same, frequent.allowed, frequent.answers)
    given = train_head(collapsed, SETTINGS, 60).answer(collapsed)
    closed = collapsed.allowed[:, 1]
    assert set(given[closed].tolist()) == {1}
    assert len(set(given[~closed].tolist())) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden": 0}, "hidden is 0; give 1 or more"),
        ({"epochs": 0}, "epochs is 0; give 1 or more"),
        ({"seed": -1}, "seed is -1; give 0 or more"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0; give a number above 0"),
        ({"learning_rate": math.nan}, "learning_rate is nan"),
        ({"learning_rate": math.inf}, "learning_rate is inf"),
    ],
)
def test_settings_that_would_train_nothing_are_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HeadSettings(**change)  # type: ignore[arg-type]
