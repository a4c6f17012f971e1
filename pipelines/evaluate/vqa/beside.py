"""The scores of a served model beside those of the method: the same questions about the same images.

It answers in free words, knows no answer of training and learns nothing. Its scores are those of no method: every
method of a study has the same ones beside it, and promotion takes none of them for a gate.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np

from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.evaluation_set import EvaluationSet
from pipelines.evaluate.guessing import SERVED
from pipelines.evaluate.metrics.bootstrap import Score, mean_score
from pipelines.evaluate.task import QUOTED, ItemScore, Result
from pipelines.evaluate.vqa.asked import AskedQuestion, majority_answers, places_by_metric
from pipelines.evaluate.vqa.config import Served
from pipelines.evaluate.vqa.matching import EXACT, FORMS, NORMALISED, is_right
from pipelines.evaluate.vqa.served import ServedAnswer, ask, budget_of_run
from pipelines.stage import progress


def beside_served(
    result: Result,
    test: EvaluationSet,
    asked: Sequence[AskedQuestion],
    learnt: Sequence[AskedQuestion],
    served: Served,
    bootstrap: Bootstrap,
) -> Result:
    """A result of `vqa` with the metrics `served/...`.

    Args:
        result: Of the method.
        test: The split; what it shows the method of each image, the served model is shown.
        asked: Its questions.
        learnt: The training questions, for the majority answer.
        served: Who is asked.
        bootstrap: Resamples and seed.

    Raises:
        UserError: As `pipelines.evaluate.vqa.served.ask`.
    """
    shown = test.shown_files([(one.index, one.question.question) for one in asked])
    answers = ask(served, progress(shown, "questions asked", total=len(asked)), budget_of_run(served.budget))
    pairs = [(answer.text, one.question.answer) for answer, one in zip(answers, asked, strict=True)]
    right = {match: np.array([is_right(*pair, match) for pair in pairs]) for match in FORMS}
    majority = {match: _majority_right(learnt, asked, match) for match in FORMS}

    def scores(indices: Sequence[int]) -> dict[str, Score]:
        return {
            f"{SERVED}{match}/{metric}": mean_score(
                right[match][places], float(majority[match][places].mean()), bootstrap
            )
            for match in FORMS
            for metric, places in places_by_metric(asked, indices).items()
        }

    by_source = {
        source: replace(
            group,
            metrics={
                **group.metrics,
                **scores([index for index, one in enumerate(asked) if one.image.source == source]),
            },
        )
        for source, group in result.by_source.items()
    }
    details = _details(served, answers)
    items: dict[str, int] = result.details["items"]
    of_served = {f"{SERVED}{match}/{metric}": count for match in FORMS for metric, count in items.items()}
    return replace(
        result,
        scores=replace(result.scores, metrics={**result.scores.metrics, **scores(range(len(asked)))}),
        by_source=by_source,
        details={**result.details, "items": {**items, **of_served}, "served": details},
        notes=[*result.notes, *_notes(served, details)],
        items=chain(result.items, _items(asked, answers, right)),
    )


def _majority_right(learnt: Sequence[AskedQuestion], asked: Sequence[AskedQuestion], match: str) -> np.ndarray:
    """(asked,) bool: where the majority answer of the type is right, by the rule that the model's answers go by."""
    majority = majority_answers(learnt, FORMS[match])
    questions = (one.question for one in asked)
    return np.array([is_right(majority.get(one.answer_type, ""), one.answer, match) for one in questions])


def _details(served: Served, answers: Sequence[ServedAnswer]) -> dict[str, Any]:
    """Who answered, and what came back, as JSON: the same whether answers were sent for or kept."""
    refused = Counter(answer.refused for answer in answers if answer.refused)
    return {
        "model": served.model,
        "revision": served.revision,
        "answers": sum(answer.has_words for answer in answers),
        "refused": dict(sorted(refused.items())),
        "empty": sum(not answer.has_words and not answer.refused for answer in answers),
        "cut": sum(answer.cut for answer in answers),
        "prompt_tokens": sum(answer.prompt_tokens for answer in answers),
        "completion_tokens": sum(answer.completion_tokens for answer in answers),
    }


def _notes(served: Served, details: Mapping[str, Any]) -> list[str]:
    revision = f" (revision {served.revision})" if served.revision else ""
    notes = [
        f"{SERVED}...: {served.model}{revision} answers the same questions about the same images as they lie in the "
        f"shards, each asked alone with {served.prompt}; it is no part of the method, and is not told whether a "
        "question is open or closed. Whether it was trained on these questions is not known here",
        f"{SERVED}{EXACT}: the answer is the source's letter by letter; {SERVED}{NORMALISED}: but for case, "
        "punctuation, articles and number words, and where the source says yes or no the first word counts; chance is "
        "the most frequent training answer of the type, compared in the same way",
    ]
    if cut := details["cut"]:
        notes.append(f"{SERVED}...: {cut} answers were cut after {served.max_tokens} tokens")
    if refused := details["refused"]:
        reasons = ", ".join(f"{reason} {count}" for reason, count in refused.items())
        notes.append(
            f"{SERVED}...: the server refused {sum(refused.values())} questions ({reasons}): no answer is right"
        )
    if empty := details["empty"]:
        notes.append(f"{SERVED}...: {empty} answers were empty: none is right")
    return notes


def _items(
    asked: Sequence[AskedQuestion], answers: Sequence[ServedAnswer], right: Mapping[str, np.ndarray]
) -> Iterator[ItemScore]:
    """Each question as an item of the metrics that it is counted in; the first of them has the answer."""
    for number, (one, answer) in enumerate(zip(asked, answers, strict=True)):
        question = one.question
        output: dict[str, Any] | None = {"answer": answer.text, "expected": question.answer[:QUOTED]}
        for match, values in right.items():
            for metric in ("accuracy", f"accuracy_{question.answer_type}"):
                yield ItemScore(
                    one.image,
                    f"{SERVED}{match}/{metric}",
                    float(values[number]),
                    item=question.question_id,
                    prompt=question.question,
                    output=output,
                )
                output = None
