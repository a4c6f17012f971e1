"""The scores of pairs and of labels that images lack: means of the method's answers beside chance and the baselines."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.evaluation_set import EvaluationImage
from pipelines.evaluate.metrics.bootstrap import Score, bootstrap_score, mean_score
from pipelines.evaluate.metrics.lesion_sizes import Limits, by_size
from pipelines.evaluate.metrics.macro import macro_mean
from pipelines.evaluate.metrics.segmentation import EVERY_PIXEL
from pipelines.evaluate.phrase_segmentation.measure import (
    EMPTY_TEXT,
    METHOD,
    AbsenceResult,
    Measured,
    PairResult,
)
from pipelines.evaluate.segmentation.kept import COUNTS
from pipelines.evaluate.task import ItemScore

SENTENCE, EMPTY, REWORDED, ABSENT = "sentence", "empty", "reworded", "absent"

# Metric, value, prompt of the mask, and the mask where no row before this one has it.
_Row = tuple[str, float, str | None, dict[str, Any] | None]


def pair_scores(results: Sequence[PairResult], limits: Limits | None, bootstrap: Bootstrap) -> dict[str, Score]:
    """Every metric of the pairs: of labels by themselves, and of sentences as `sentence/<metric>`.

    Args:
        results: Of labels and sentences.
        limits: Of sizes; None where there is no label.
        bootstrap: Pairs are resampled.
    """
    labels = [result for result in results if not result.asked.pair.is_sentence]
    sentences = [result for result in results if result.asked.pair.is_sentence]
    scores: dict[str, Score] = {}
    if labels:
        scores |= _means(labels, bootstrap) | _macro(labels, bootstrap)
        scores |= {f"{EMPTY}/{metric}": score for metric, score in _of_empty_text(labels, bootstrap).items()}
        scores |= _reworded(labels, bootstrap)
    if labels and limits is not None:
        for size, places in by_size([result.area for result in labels], limits).items():
            scores[f"{size}/dice"] = _means([labels[place] for place in places], bootstrap)["dice"]
    return scores | {f"{SENTENCE}/{metric}": score for metric, score in _means(sentences, bootstrap).items()}


def _values(results: Sequence[PairResult], answer: str, metric: str) -> NDArray[np.float64]:
    return np.array([result.values[answer][metric] for result in results])


def _baselines(results: Sequence[PairResult]) -> list[str]:
    """The answers that stand beside the method's, of those that all pairs have."""
    return [name for name in results[0].values if name not in (METHOD, EVERY_PIXEL)]


def _means(results: Sequence[PairResult], bootstrap: Bootstrap) -> dict[str, Score]:
    if not results:
        return {}
    return {
        metric: mean_score(
            _values(results, METHOD, metric),
            float(_values(results, EVERY_PIXEL, metric).mean()),
            bootstrap,
            {name: float(_values(results, name, metric).mean()) for name in _baselines(results)},
        )
        for metric in results[0].values[METHOD]
    }


def _macro(results: Sequence[PairResult], bootstrap: Bootstrap) -> dict[str, Score]:
    """`macro_<metric>`: the mean over the labels of the mean over their pairs; labels without a pair are left out."""
    names = sorted({result.asked.pair.label for result in results})
    numbers = np.array([names.index(result.asked.pair.label) for result in results])

    def of(answer: str, metric: str) -> NDArray[np.float64]:
        return np.stack([_values(results, answer, metric), numbers], axis=-1)

    scores = {}
    for metric in results[0].values[METHOD]:
        items = of(METHOD, metric)
        score = bootstrap_score(
            [len(results)],
            lambda drawn, items=items: macro_mean(items[drawn]),
            float(macro_mean(items)),
            float(macro_mean(of(EVERY_PIXEL, metric))),
            bootstrap,
        )
        baselines = {name: round(float(macro_mean(of(name, metric))), 6) for name in _baselines(results)}
        scores[f"macro_{metric}"] = replace(score, baselines=baselines)
    return scores


def _of_empty_text(results: Sequence[PairResult], bootstrap: Bootstrap) -> dict[str, Score]:
    """The scores of the mask that the method gives without a text."""
    return {
        metric: mean_score(
            _values(results, EMPTY_TEXT, metric), float(_values(results, EVERY_PIXEL, metric).mean()), bootstrap
        )
        for metric in ("dice", "iou")
    }


def _reworded(results: Sequence[PairResult], bootstrap: Bootstrap) -> dict[str, Score]:
    """Means over the rewordings of each pair; nothing where none is asked."""
    if not results[0].reworded:
        return {}
    dices = np.array([np.mean(result.reworded) for result in results])
    agreement = np.array([np.mean(result.agreement) for result in results])
    every, empty = (float(_values(results, answer, "dice").mean()) for answer in (EVERY_PIXEL, EMPTY_TEXT))
    return {
        f"{REWORDED}/dice": mean_score(dices, every, bootstrap, {EMPTY_TEXT: empty}),
        # What ignores the text agrees with itself.
        f"{REWORDED}/agreement": mean_score(agreement, 1.0, bootstrap),
    }


def absence_scores(results: Sequence[AbsenceResult], bootstrap: Bootstrap) -> dict[str, Score]:
    """`absent/specificity` and `absent/pixel_specificity`; nothing where no label is known to be absent.

    Their chance is that of `every pixel`, the constant answer that is the best one where the label is there.
    """
    if not results:
        return {}
    left_out = {name: np.array([result.left_out[name] for result in results]) for name in results[0].left_out}
    nothing = {name: fractions == 1 for name, fractions in left_out.items()}
    values = {"specificity": nothing, "pixel_specificity": left_out}
    return {
        f"{ABSENT}/{metric}": mean_score(
            of_answers[METHOD],
            float(of_answers[EVERY_PIXEL].mean()),
            bootstrap,
            {name: float(of.mean()) for name, of in of_answers.items() if name not in (METHOD, EVERY_PIXEL)},
        )
        for metric, of_answers in values.items()
    }


def details(
    results: Sequence[PairResult], absences: Sequence[AbsenceResult], rewordings: Sequence[str]
) -> dict[str, Any]:
    """`labels`: the means of each label by itself; `rewordings`: of each template, as JSON."""
    by_label: dict[str, list[PairResult]] = {}
    for result in results:
        if not result.asked.pair.is_sentence:
            by_label.setdefault(result.asked.pair.label, []).append(result)
    lacking: dict[str, list[bool]] = {}
    for absence in absences:
        lacking.setdefault(absence.asked.label, []).append(absence.left_out[METHOD] == 1)
    labels = {
        label: {
            "pairs": len(same),
            **{metric: _rounded(_values(same, METHOD, metric)) for metric in same[0].values[METHOD]},
            **{f"dice of {name}": _rounded(_values(same, name, "dice")) for name in same[0].values if name != METHOD},
            **({"absent": len(lacking[label]), "specificity": _rounded(lacking[label])} if label in lacking else {}),
        }
        for label, same in sorted(by_label.items())
    }
    asked = [result for of_label in by_label.values() for result in of_label]
    reworded = [
        {
            "template": template,
            "dice": _rounded([result.reworded[number] for result in asked]),
            "agreement": _rounded([result.agreement[number] for result in asked]),
        }
        for number, template in enumerate(rewordings)
        if asked
    ]
    return {"labels": labels, "rewordings": reworded}


def _rounded(values: Any) -> float:
    return round(float(np.mean(values)), 6)


def item_scores(images: Sequence[EvaluationImage], measured: Measured, limits: Limits | None) -> Iterator[ItemScore]:
    """The values behind the scores; the first row of a mask has it, with its counts of pixels."""
    labels = [result for result in measured.pairs if not result.asked.pair.is_sentence]
    sizes = {} if limits is None else by_size([result.area for result in labels], limits)
    size_of = {id(labels[place]): size for size, places in sizes.items() for place in places}
    for result in measured.pairs:
        pair = result.asked.pair
        image, item = images[result.asked.index], f"{images[result.asked.index].key} {pair.text}"
        size = None if pair.is_sentence else size_of[id(result)]
        for metric, value, prompt, output in _pair_rows(measured, result, size):
            yield ItemScore(image, metric, value, item=item, label=pair.label or None, prompt=prompt, output=output)
    for absence in measured.absences:
        asked, fraction = absence.asked, absence.left_out[METHOD]
        image, item = images[asked.index], f"{images[asked.index].key} {asked.label}"
        output = _kept(measured, asked.index, asked.prompt) or None
        rows = (("specificity", float(fraction == 1), output), ("pixel_specificity", fraction, None))
        for metric, value, answer in rows:
            name = f"{ABSENT}/{metric}"
            yield ItemScore(image, name, value, item=item, label=asked.label, prompt=asked.prompt, output=answer)


def _pair_rows(measured: Measured, result: PairResult, size: str | None) -> Iterator[_Row]:
    """The rows of a pair; `size` is that of a label's mask, None for a sentence."""
    index, prompt = result.asked.index, result.asked.prompt
    output: dict[str, Any] | None
    output = dict(zip(COUNTS, result.counts, strict=True)) | _kept(measured, index, prompt)
    for metric, value in result.values[METHOD].items():
        yield f"{SENTENCE}/{metric}" if size is None else metric, value, prompt, output
        output = None
    if size is None:
        return
    without_text = result.values[EMPTY_TEXT]
    yield f"{EMPTY}/dice", without_text["dice"], "", _kept(measured, index, "") or None
    yield f"{EMPTY}/iou", without_text["iou"], "", None
    yield f"{size}/dice", result.values[METHOD]["dice"], prompt, None
    if result.reworded:
        # Of several prompts.
        yield f"{REWORDED}/dice", float(np.mean(result.reworded)), None, None
        yield f"{REWORDED}/agreement", float(np.mean(result.agreement)), None, None


def _kept(measured: Measured, index: int, text: str) -> dict[str, Any]:
    """The mask of an image for a text, as JSON; {} where nobody keeps it."""
    return {} if measured.masks is None else measured.masks.of(index, text)
