"""The figure of the task: of each label the best, the median and the worst pair, prediction over target."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from models.data.pairs import pair_mask
from pipelines.evaluate.evaluation_set import EvaluationSet
from pipelines.evaluate.phrase_segmentation.measure import METHOD, PairResult
from pipelines.evaluate.segmentation.figure import overlay, wrapped
from pipelines.evaluate.segmentation.masks import predicted_masks, without_padding

# Rows of the figure: the labels with the most pairs.
_LABELS = 4


def examples(results: Sequence[PairResult]) -> list[dict[str, PairResult]]:
    """Best, median and worst of each of the labels with the most pairs, or of the sentences where there is no label."""
    by_label: dict[str, list[PairResult]] = {}
    for result in results:
        by_label.setdefault("" if result.asked.pair.is_sentence else result.asked.pair.label, []).append(result)
    if len(by_label) > 1:
        by_label.pop("", None)
    most = sorted(by_label, key=lambda label: (-len(by_label[label]), label))[:_LABELS]
    rows = []
    for label in most:
        order = sorted(by_label[label], key=lambda result: result.values[METHOD]["dice"])
        rows.append({"best": order[-1], "median": order[(len(order) - 1) // 2], "worst": order[0]})
    return rows


def figure(test: EvaluationSet, results: Sequence[PairResult]) -> Figure:
    """A row for each label, a column for best, median and worst: true positives, false negatives, false positives."""
    rows = examples(results)
    shown = [result for row in rows for result in row.values()]
    texts: dict[int, dict[str, str]] = {}
    for result in sorted(shown, key=lambda result: result.asked.index):
        texts.setdefault(result.asked.index, {})[result.asked.prompt] = result.asked.prompt
    predictions = {index: (sample, masks) for index, sample, masks in predicted_masks(test, texts)}
    drawing = Figure(figsize=(7.2, 0.6 + 2.6 * len(rows)), layout="constrained")
    axes = drawing.subplots(len(rows), 3, squeeze=False)
    for plots, row in zip(axes, rows, strict=True):
        for plot, (name, result) in zip(plots, row.items(), strict=True):
            sample, masks = predictions[result.asked.index]
            target = without_padding(sample, pair_mask(sample, result.asked.pair))
            plot.imshow(overlay(without_padding(sample, sample.image), masks[result.asked.prompt], target))
            title = f"{name}: Dice {result.values[METHOD]['dice']:.3f}\n{wrapped(result.asked.prompt)}"
            plot.set_title(title, fontsize=7)
            plot.set_axis_off()
    drawing.supxlabel("green: true positive, red: false negative, blue: false positive", fontsize=8)
    return drawing
