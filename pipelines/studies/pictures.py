"""The pictures of a study: of its methods side by side, for the same images; one that cannot be made says why."""

import io
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from models.text import normalise
from pipelines.errors import one_line
from pipelines.evaluate.scoring import ITEM_TABLE, METRICS
from pipelines.evaluate.segmentation.masks import without_padding
from pipelines.evaluate.stage import EVALUATIONS
from pipelines.files import read_output
from pipelines.records import ITEMS, ItemRow
from pipelines.report.page_images import data_uri
from pipelines.studies.answers import ShownAnswers, StudyAnswers
from pipelines.studies.curves import few_shot_figure, roc_figure
from pipelines.studies.grids import heat_map_grid, mask_grid, phrase_row, text_row
from pipelines.studies.kept_words import kept_words_figure
from pipelines.studies.shown import POOL, SETTINGS

logger = logging.getLogger(__name__)

FOLDER = "pictures"
_DPI = 110
_ORDER = "in the order of image_id, a digest of the image's bytes, so that nobody picks them"
_MEDIA = {".png": "image/png", ".svg": "image/svg+xml"}


@dataclass(frozen=True, kw_only=True)
class StudyPicture:
    """One picture of a study.

    Attributes:
        file: Its name in the folder `FOLDER`.
        title: What it shows.
        caption: How to read it, which images are shown, and which methods are not.
        data: The file's bytes; None where there is no picture.
        reason: Why there is none.
    """

    file: str
    title: str
    caption: str
    data: bytes | None = None
    reason: str | None = None

    @property
    def uri(self) -> str:
        return data_uri(self.data or b"", _MEDIA[Path(self.file).suffix])


@dataclass(frozen=True, kw_only=True)
class RetrievalExample:
    """An image and the texts that methods find for it.

    Attributes:
        uri: The image.
        own: Its text.
        nearest: Method -> its nearest texts, and whether each is the image's own.
    """

    uri: str
    own: str
    nearest: Mapping[str, list[tuple[str, bool]]]


def pictures(names: Mapping[str, str], workspace: Path, found: StudyAnswers) -> list[StudyPicture]:
    """All pictures of a study.

    Args:
        names: Entry of `train.methods` -> its row's name, of the entries that were evaluated.
        workspace: With the evaluations.
        found: Their answers for what is shown.
    """
    return [
        _heat_maps(names, found),
        _masks(names, found),
        *_kept_words(names, found),
        *_curves(names, workspace),
    ]


def retrieval_examples(names: Mapping[str, str], found: StudyAnswers) -> list[RetrievalExample]:
    """The queries with the nearest texts of each method that embeds images and texts."""
    columns = _able(names, found, lambda answers: answers.nearest)
    if not columns:
        return []
    pool = found.shown.pool
    return [
        RetrievalExample(
            uri=data_uri(_jpeg(found, index), "image/jpeg"),
            own=own,
            nearest={
                name: [(pool[place], normalise(pool[place]) == normalise(own)) for place in places[number]]
                for name, places in columns.items()
            },
        )
        for number, (index, own) in enumerate(found.shown.queries.items())
    ]


def retrieval_rule(found: StudyAnswers) -> str:
    """How the queries were chosen, and what they are ranked against."""
    pool = len(found.shown.pool)
    bound = " (no more are ranked for a page)" if pool == POOL else ""
    return (
        f"Images with a text of their own, one of each source in turn, {_ORDER}. Each is ranked against {pool:,} "
        f"different texts of test images{bound}; the scores in the table are of the whole pool."
    )


def _able(
    names: Mapping[str, str], found: StudyAnswers, part: Callable[[ShownAnswers], Sequence[Any]]
) -> dict[str, Any]:
    """Name of the row -> what its method answered, of those that did."""
    return {name: part(found.answers[entry]) for entry, name in names.items() if part(found.answers[entry])}


def _without(names: Mapping[str, str], found: StudyAnswers, shown: Mapping[str, Any]) -> str:
    """The sentence on the methods that are not shown; empty where all are."""
    absent = {
        name: found.answers[entry].fault or "its method has none" for entry, name in names.items() if name not in shown
    }
    if not absent:
        return ""
    return " Not shown: " + "; ".join(f"{name} ({reason})" for name, reason in absent.items()) + "."


def _heat_maps(names: Mapping[str, str], found: StudyAnswers) -> StudyPicture:
    columns = _able(names, found, lambda answers: answers.heat_maps)
    shown = found.shown.phrases

    def draw() -> bytes:
        rows = [phrase_row(found.samples[phrase.index], phrase.text, phrase.regions) for phrase in shown]
        return png(heat_map_grid(rows, columns))

    caption = (
        "Where each method sees a phrase; blue is the least and red the greatest value of each map. An image is shown "
        f"with its first phrase; images: one of each finding in turn, {_ORDER}.{_without(names, found, columns)}"
    )
    why = "no test image has an annotated region with a caption" if not shown else _nobody(names, found)
    return _picture("heat_maps.png", "Heat maps of phrases", caption, draw if columns else None, why)


def _masks(names: Mapping[str, str], found: StudyAnswers) -> StudyPicture:
    columns = _able(names, found, lambda answers: answers.masks)
    shown = found.shown.masks

    def draw() -> bytes:
        return png(mask_grid([text_row(found.samples[index], text) for index, text in shown.items()], columns))

    caption = (
        f"Each image was segmented with {SETTINGS.get(found.shown.setting or '', 'no text')}. Images: of each source "
        f"one with findings and one without in turn, {_ORDER}.{_without(names, found, columns)}"
    )
    why = "no test image has outlines of all its findings" if not shown else _nobody(names, found)
    return _picture("masks.png", "Masks against their targets", caption, draw if columns else None, why)


def _kept_words(names: Mapping[str, str], found: StudyAnswers) -> list[StudyPicture]:
    made = []
    for entry, name in names.items():
        if not (words := found.answers[entry].kept_words):
            continue
        samples = [found.samples[index] for index in found.shown.reports]
        caption = (
            "Black: words that the iteration keeps; grey: those that it or an earlier one dropped. The map is the mean "
            f"over the words that are kept. Reports: one of each source in turn, {_ORDER}."
        )
        shown = list(zip(samples, words, strict=True))
        title = f"Words that the iterations of {name} keep"
        made.append(
            _picture(f"kept_words-{entry}.png", title, caption, lambda shown=shown: png(kept_words_figure(shown)), "")  # type: ignore[misc]
        )
    return made


def _curves(names: Mapping[str, str], workspace: Path) -> list[StudyPicture]:
    items: dict[str, list[ItemRow]] = {}
    few_shot: dict[str, dict[str, Any]] = {}
    for entry, name in names.items():
        folder = workspace / EVALUATIONS / entry
        tasks = read_output(folder / METRICS)["tasks"]
        if metrics := tasks.get("probe", {}).get("metrics"):
            few_shot[name] = metrics
        if tasks.get("zero_shot", {}).get("status") == "ok":
            items[name] = [row for row in ITEMS.read(folder / ITEM_TABLE) if row.task == "zero_shot"]
    return [
        _picture(
            "roc.svg",
            "ROC of each finding, without labelled images",
            "On the test split, by the task zero_shot. The dotted line is guessing.",
            lambda: roc_figure(items),
            "the task zero_shot scored no finding here",
        ),
        _picture(
            "few_shot.svg",
            "Scores by the number of labelled images",
            "On the test split, by the task probe. Bars: 95 % intervals. The dotted line is guessing.",
            lambda: few_shot_figure(few_shot),
            "the task probe scored nothing here",
        ),
    ]


def _nobody(names: Mapping[str, str], found: StudyAnswers) -> str:
    if not names:
        return "no method of this table was evaluated"
    return _without(names, found, {}).removeprefix(" Not shown: ").removesuffix(".")


def _picture(file: str, title: str, caption: str, draw: Callable[[], bytes | None] | None, why: str) -> StudyPicture:
    """What `draw` draws; `why` is the reason where there is nothing to draw."""
    try:
        data = None if draw is None else draw()
    except Exception as error:
        # The page says why, and the other pictures are made.
        logger.warning("no picture %s", file, exc_info=True)
        data, why = None, one_line(error)
    return StudyPicture(file=file, title=title, caption=caption, data=data, reason=why if data is None else None)


def png(figure: Figure) -> bytes:
    """The same figure gives the same bytes: no version of the library is in them."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=_DPI, metadata={"Software": None})
    return stream.getvalue()


def _jpeg(found: StudyAnswers, index: int) -> bytes:
    sample = found.samples[index]
    stream = io.BytesIO()
    Image.fromarray(without_padding(sample, sample.image)).save(stream, "JPEG", quality=90)
    return stream.getvalue()
