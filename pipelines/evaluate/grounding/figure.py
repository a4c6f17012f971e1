"""The figure of the task: best, median and worst phrase, with all that is drawn in its image."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pipelines.evaluate.evaluation_set import EvaluationSet
from pipelines.evaluate.grounding.measure import METHOD, PhraseResult, drawn_in
from pipelines.evaluate.metrics.localisation import upsample
from pipelines.evaluate.segmentation.figure import wrapped

COLOURS = {"meant by the phrase": "#ff5fd2", "another annotated region": "#57d8ff", "look-alike": "#ffa51f"}
_LETTERS = 34  # of a line, as wide as an image


def figure(test: EvaluationSet, results: Sequence[PhraseResult]) -> Figure:
    """The phrases with the highest, the middle and the lowest signed ratio: image with masks, and heatmap."""
    order = sorted(results, key=lambda result: result.maps[METHOD].cnr)
    examples = {"best": order[-1], "median": order[(len(order) - 1) // 2], "worst": order[0]}
    # One may stand for all three.
    texts = sorted({(result.phrase.index, result.phrase.text) for result in examples.values()})
    grounded = dict(zip(texts, test.ground(texts), strict=True))
    plot = Figure(figsize=(6.6, 5.1), layout="constrained")
    axes = plot.subplots(2, len(examples), squeeze=False)
    shown = set()
    for (name, result), upper, lower in zip(examples.items(), *axes, strict=True):
        sample, heatmap = grounded[result.phrase.index, result.phrase.text]
        drawn = drawn_in(sample)
        kinds = zip(
            COLOURS, ([drawn.mask_of(result.phrase)], drawn.others(result.phrase), drawn.look_alikes), strict=True
        )
        masks = [(kind, mask) for kind, of_kind in kinds for mask in of_kind]
        side = len(masks[0][1])
        upper.imshow(sample.image)
        lower.imshow(upsample(heatmap[None], side, test.model.visible_crop(side))[0], cmap="viridis")
        upper.set_title(f"{name}: CNR {result.maps[METHOD].cnr:.2f}", fontsize=9)
        # Matplotlib's own `wrap` reads formulas wherever it is told that there are none.
        lower.set_title(wrapped(result.phrase.text, _LETTERS), fontsize=8)
        for kind, mask in masks:
            shown.add(kind)
            for part in (upper, lower):
                part.contour(mask, levels=[0.5], colors=COLOURS[kind], linewidths=1.2)
        for part in (upper, lower):
            part.set_axis_off()
    lines = [Line2D([], [], color=colour, label=kind) for kind, colour in COLOURS.items() if kind in shown]
    plot.legend(handles=lines, loc="outside lower center", ncols=len(lines), fontsize=8, frameon=False)
    return plot
