"""The statistics of the sources as pictures: SVG with the colours of the loss curves, readable on white and on black.

Labels and words come from the data. They are drawn as they stand, never as mathematics, and shortened.
"""

import io
import itertools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipelines.report.curves import COLOURS, GREY, STYLE
from pipelines.report.page_images import data_uri
from pipelines.report.statistics import GRID, SourceStatistics, together

SHOWN_SOURCES = len(COLOURS) - 1  # with a colour of their own; the first colour is that of all together
_WIDTH = 4.8  # inches: as wide as a narrow screen, and half as wide as a page
_SHOWN_NAMES = 12
_CLOUD_WORDS = 60
_FONT = Path(mpl.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
_OUTCOMES = {"finding": 1.0, "no finding": 0.55, "unknown": 0.25}  # opacity


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture.

    Attributes:
        title: What it shows.
        uri: The SVG as a data URI.
        caption: What is counted, and how many.
    """

    title: str
    uri: str
    caption: str


def pictures(sources: Sequence[SourceStatistics]) -> list[Picture]:
    """The pictures of all sources; none where there is no image.

    Args:
        sources: From `source_statistics`. The biggest ones have a colour of their own; the others count in `all`.
    """
    whole = together(sources)
    if not whole.images:
        return []
    shown = list(sources[:SHOWN_SOURCES]) if len(sources) > 1 else []
    others = _named([one.name for one in sources[SHOWN_SOURCES:]])
    beside = f" Bars: all together; points: of each source's own.{others}" if shown else ""
    many = f"{whole.images:,} images"
    regions = f"{len(whole.area_fractions):,} accepted regions"
    left_out = f" (a sample; {whole.left_out:,} more have one)" if whole.left_out else ""
    captions = {
        "Distribution": f"{many} by modality (inner ring) and by what their source says (outer ring): a finding, no "
        "finding, or nothing (unknown). Anatomical regions are in no table.",
        "Modalities": f"Images of each modality, of {many}.{beside}",
        "Findings": f"Images with each finding{_most_frequent(whole)}, of {many}; an image may have several.{beside}",
        "Positions": f"Where the boxes of {regions} lie, each image stretched to a square: the brighter, the more "
        f"boxes cover a place. Each map has its own scale.{others}",
        "Sizes": f"Area of {regions} over that of their image, and the longer side of {many}.{others}",
        "Word picture": f"The larger a word, the more images have it; at most {_CLOUD_WORDS}. The chart of words has "
        "the figures.",
        "Words": f"Images whose summary or report has a word, of {whole.texts:,} images with a text{left_out}; words "
        f"such as the, with and image are left out.{beside}",
    }
    drawn = {
        "Distribution": _distribution(whole),
        # Of one source the distribution says it.
        "Modalities": _modalities(whole, shown) if shown else None,
        "Findings": _findings(whole, shown),
        "Positions": _positions(whole, shown) if whole.regions else None,
        "Sizes": _sizes(whole, shown),
        "Word picture": _word_cloud(whole) if whole.words else None,
        "Words": _words(whole, shown) if whole.words else None,
    }
    return [
        Picture(title=title, uri=data_uri(svg, "image/svg+xml"), caption=captions[title])
        for title, svg in drawn.items()
        if svg is not None
    ]


def _most_frequent(whole: SourceStatistics) -> str:
    kinds = len(whole.labels)
    return f" (the {_SHOWN_NAMES} most frequent of {kinds:,})" if kinds > _SHOWN_NAMES else ""


def _named(others: Sequence[str]) -> str:
    if not others:
        return ""
    names = ", ".join(others[:20]) + (f" and {len(others) - 20} more" if len(others) > 20 else "")
    return f" Without a colour of their own: {names}."


def _drawn(height: float, draw: Callable[[Figure], None]) -> bytes:
    """An SVG, `height` inches high."""
    with mpl.rc_context(STYLE), warnings.catch_warnings():
        # Words of any script: the browser has the glyphs that matplotlib measures without.
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        draw(figure)
        stream = io.BytesIO()
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    return stream.getvalue()


def short(name: str, length: int = 22) -> str:
    """A name from the data on one line that XML can hold."""
    line = "".join(letter if letter.isprintable() else " " for letter in " ".join(name.split()))
    return line if len(line) <= length else f"{line[: length - 1]}…"


def _distribution(whole: SourceStatistics) -> bytes:
    modalities = [name for name, _ in whole.modalities.most_common()]
    colours = (*COLOURS, GREY)[: len(modalities)]
    outer = [
        (whole.outcomes[name][outcome], colour, opacity)
        for name, colour in zip(modalities, colours, strict=True)
        for outcome, opacity in _OUTCOMES.items()
    ]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        ring: dict[str, Any] = {"startangle": 90, "counterclock": False}
        edge = {"width": 0.3, "edgecolor": GREY, "linewidth": 0.4}
        wedges = axes.pie([whole.modalities[name] for name in modalities], radius=0.7, colors=colours,
                          wedgeprops=edge, **ring)[0]  # fmt: skip
        shades = [(*mpl.colors.to_rgb(colour), opacity) for _, colour, opacity in outer]
        axes.pie([count for count, _, _ in outer], radius=1.05, colors=shades, wedgeprops=edge, **ring)
        axes.text(0, 0, f"{whole.images:,}\nimages", ha="center", va="center")
        names = [f"{name} {whole.modalities[name]:,}" for name in modalities]
        keys = [mpl.patches.Patch(facecolor=(*mpl.colors.to_rgb(GREY), opacity)) for opacity in _OUTCOMES.values()]
        outcomes = [f"{outcome} {whole.outcome(outcome):,}" for outcome in _OUTCOMES]
        figure.legend([*wedges, *keys], [*names, *outcomes], loc="outside right center", frameon=False)

    return _drawn(2.9, draw)


def _modalities(whole: SourceStatistics, shown: Sequence[SourceStatistics]) -> bytes:
    names = [name for name, _ in whole.modalities.most_common()]
    return _bars(names, [(one, [one.modalities[name] for name in names], one.images) for one in (whole, *shown)])


def _findings(whole: SourceStatistics, shown: Sequence[SourceStatistics]) -> bytes:
    names = [name for name, _ in whole.labels.most_common(_SHOWN_NAMES)]
    rows = [
        (one, [*(one.labels[name] for name in names), one.outcome("no finding"), one.outcome("unknown")], one.images)
        for one in (whole, *shown)
    ]
    return _bars([*names, "(no finding)", "(unknown)"], rows, apart=2)


def _words(whole: SourceStatistics, shown: Sequence[SourceStatistics]) -> bytes:
    names = [name for name, _ in sorted(whole.words.items(), key=lambda entry: (-entry[1], entry[0]))[:20]]
    return _bars(names, [(one, [one.words[name] for name in names], one.texts) for one in (whole, *shown)])


def _word_cloud(whole: SourceStatistics) -> bytes:
    # Here, for only the report's page needs it, and its import takes a while.
    from wordcloud import WordCloud

    words = dict(sorted(whole.words.items(), key=lambda entry: (-entry[1], entry[0]))[:_CLOUD_WORDS])
    colours = dict(zip(words, itertools.cycle(COLOURS)))
    cloud = WordCloud(
        font_path=str(_FONT),
        width=480,
        height=300,
        margin=4,
        max_font_size=80,
        max_words=_CLOUD_WORDS,
        prefer_horizontal=1,
        random_state=0,
        mode="RGBA",
        background_color=None,
        color_func=lambda word, **_: colours[word],
    )
    svg: str = cloud.generate_from_frequencies(words).to_svg()
    # An embedded font would bear the time in its bytes. Verdana has these widths, other fonts are narrower.
    return svg.replace("font-family:'DejaVu Sans'", "font-family:'DejaVu Sans',Verdana,sans-serif").encode()


def _bars(names: Sequence[str], rows: Sequence[tuple[SourceStatistics, list[int], int]], apart: int = 0) -> bytes:
    """Bars of the first row's counts as a part of its total, points of the others'.

    Args:
        names: Of the bars.
        rows: Statistics, counts, and the total that they are parts of.
        apart: How many of the last bars are grey.
    """
    (_, counts, total), *sources = rows
    places = list(range(len(names)))

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        colours = [COLOURS[0]] * (len(names) - apart) + [GREY] * apart
        parts = [100 * count / total for count in counts]
        axes.barh(places, parts, color=colours, alpha=0.75 if sources else 1)
        for colour, (one, values, own) in zip(COLOURS[1:], sources, strict=False):
            if own:
                axes.plot([100 * value / own for value in values], places, "o", color=colour, markersize=4.5,
                          label=short(one.name))  # fmt: skip
        for place, part, count in zip(places, parts, counts, strict=True):
            # Beside the bars, or where no point lies.
            at, side = (part + 1, "left") if not sources else (118, "right")
            axes.text(at, float(place), f"{count:,}", ha=side, va="center", fontsize=7.5)
        axes.set_yticks(places, [short(name) for name in names])
        axes.invert_yaxis()
        axes.set(xlabel="%", xlim=(0, 118))
        axes.margins(y=0.01)
        axes.set_xticks(range(0, 101, 25))
        _legend(figure, axes)

    return _drawn(0.8 + 0.19 * len(names) + 0.22 * -(-len(sources) // 3), draw)


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, handletextpad=0.2)


def _positions(whole: SourceStatistics, shown: Sequence[SourceStatistics]) -> bytes:
    """One mosaic: a row for all and for each source, a column for each modality."""
    modalities = [name for name, _ in whole.regions.most_common()]
    rows = [whole, *shown]
    gap = GRID // 8
    step = GRID + gap
    mosaic = np.full((step * len(rows) - gap, step * len(modalities) - gap), np.nan)
    for row, one in enumerate(rows):
        for column, modality in enumerate(modalities):
            if modality in one.positions:
                covered = one.positions[modality]
                place = np.s_[row * step : row * step + GRID, column * step : column * step + GRID]
                mosaic[place] = covered / max(covered.max(), 1)

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.imshow(mosaic, cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
        middle = (GRID - 1) / 2
        places = [middle + step * n for n in range(len(modalities))]
        turn: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if len(places) > 3 else {}
        axes.set_xticks(places, [f"{name} {whole.regions[name]:,}" for name in modalities], **turn)
        axes.set_yticks([middle + step * n for n in range(len(rows))], [short(one.name, 14) for one in rows])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)

    width = (_WIDTH - 1) / len(modalities)
    return _drawn(0.7 + min(width, 1.5) * len(rows), draw)


def _sizes(whole: SourceStatistics, shown: Sequence[SourceStatistics]) -> bytes:
    def draw(figure: Figure) -> None:
        areas, sides = figure.subplots(2, 1)
        percents = [(one, 100 * one.area_fractions) for one in (whole, *shown)]
        _histogram(areas, percents, "area of a region, % of its image", "regions, %")
        _histogram(sides, [(one, one.longer_sides) for one in (whole, *shown)], "longer side, pixels", "images, %")
        if shown:
            _legend(figure, areas)

    return _drawn(3.6 + 0.22 * -(-len(shown) // 3), draw)


def _histogram(axes: Axes, rows: Sequence[tuple[SourceStatistics, Any]], xlabel: str, ylabel: str) -> None:
    """The first row filled, the others as lines; each as parts of its own total, over bins of equal ratio."""
    values = rows[0][1][rows[0][1] > 0]
    if not len(values):
        axes.text(0.5, 0.5, "none", ha="center", transform=axes.transAxes)
        return
    # Images of one size are one bar in the middle.
    spread = 1.05 if values.max() > values.min() else 4
    low, high = float(values.min()) / spread, float(values.max()) * spread
    bins = np.geomspace(low, high, 25).tolist()
    for number, (one, own) in enumerate(rows):
        own = own[own > 0]
        if len(own):
            style: dict[str, Any] = {"alpha": 0.6} if number == 0 else {"histtype": "step", "linewidth": 1.4}
            label = None if number == 0 else short(one.name)
            weights = np.full(len(own), 100 / len(own))
            axes.hist(own, bins=bins, weights=weights, color=COLOURS[number % len(COLOURS)], label=label, **style)
    axes.set(xscale="log", xlabel=xlabel, ylabel=ylabel, xlim=(low, high))
    ticks = _ticks(low, high)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers between two limits, at most about six; the limits themselves where there are none."""
    found = [step * 10.0**power for power in range(-3, 7) for step in (1, 2, 5) if low <= step * 10.0**power <= high]
    return found[:: -(-len(found) // 6)] or [round(low * 1.05, 3)]
