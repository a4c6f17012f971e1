"""Which test images the pictures of a study show.

What is shown follows from the images and their texts alone, before any answer is known: they are taken in the order of
image_id, a digest of the image's bytes, one of each kind in turn (`pipelines.report.selection`). So nobody picks the
images that a method does well on, and every method of a study answers for the same ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from models.text import normalise
from pipelines.evaluate.evaluation_set import EvaluationImage
from pipelines.evaluate.grounding.phrases import Phrase, phrases_of
from pipelines.evaluate.segmentation.texts import Texts, texts_by_setting
from pipelines.evaluate.tasks.retrieval import Retrieval
from pipelines.report.selection import in_turns

PHRASES, MASKS, QUERIES, REPORTS = 6, 6, 4, 3
# Texts that a query is ranked against: of a large test split all would take a text encoder hours on a CPU.
POOL = 1000
# Masks are shown with the first of these kinds of text that the test images have.
SETTINGS = {"own": "its own report", "mask_derived": "captions made from its outlines", "empty": "the empty text"}


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What is shown; an image is its index in `EvaluationSet.images`.

    Attributes:
        phrases: Of the heat maps; each of another image.
        masks: Image -> the text that it is segmented with.
        setting: Which texts these are: a key of `SETTINGS`; None where there are none.
        queries: Image -> its own text, for retrieval.
        pool: The different texts that queries are ranked against, each once, those of the queries among them.
    """

    phrases: list[Phrase] = field(default_factory=list)
    masks: Texts = field(default_factory=dict)
    setting: str | None = None
    queries: Texts = field(default_factory=dict)
    pool: list[str] = field(default_factory=list)

    @property
    def reports(self) -> Texts:
        """Image -> its report, of which the kept words are shown."""
        return dict(list(self.queries.items())[:REPORTS])

    @property
    def images(self) -> set[int]:
        """All images that are shown somewhere."""
        return {*(phrase.index for phrase in self.phrases), *self.masks, *self.queries}


def choose(images: Sequence[EvaluationImage]) -> Shown:
    """What is shown of some test images.

    Phrases: of each image the first, one of each term in turn. Masks: of each source an image with findings and one
    without in turn. Queries: one of each source in turn, of the images that the task `retrieval` ranks.
    """
    order = sorted(range(len(images)), key=lambda index: images[index].key)
    first = {phrase.index: phrase for phrase in reversed(phrases_of(images))}
    phrases = in_turns((first[index] for index in order if index in first), lambda phrase: phrase.term)[:PHRASES]
    by_setting = texts_by_setting(images, seed=0)
    setting = next((name for name in SETTINGS if by_setting[name]), None)
    texts = {} if setting is None else by_setting[setting]
    masks = in_turns(
        (index for index in order if index in texts), lambda index: (images[index].source, images[index].annotated > 0)
    )[:MASKS]
    ranked = [index for index in order if Retrieval.skip_reason(images[index]) is None]
    queries = in_turns(ranked, lambda index: images[index].source)[:QUERIES]
    pool: dict[str, str] = {}
    for index in [*queries, *ranked]:
        report = images[index].report or ""
        pool.setdefault(normalise(report), report)
    return Shown(
        phrases=phrases,
        masks={index: texts[index] for index in masks},
        setting=setting,
        queries={index: images[index].report or "" for index in queries},
        pool=list(pool.values())[:POOL],
    )
