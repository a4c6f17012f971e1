"""What a task is: the contract between the stage `evaluate` and its plug-ins, and what all tasks share."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from matplotlib.figure import Figure

from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.evaluation_set import EvaluationImage, EvaluationSet
from pipelines.evaluate.metrics.bootstrap import Score

# Of a text of a source that an item's output holds: the characters that are kept.
QUOTED = 500
# Begins the metric of an item that is a rank among the candidates of its source alone, beside that among all.
AMONG_SOURCE = "among_source/"


@dataclass(frozen=True, kw_only=True)
class GroupScores:
    """The scores of some items: of all, or of one source's by themselves.

    Attributes:
        items: Queries (retrieval), images (zero-shot, segmentation) or phrases (grounding) that were scored.
        pool: Candidates that each query is ranked against; for classification the images that are ranked; 0 where
            nothing is ranked.
        metrics: Score by name.
    """

    items: int = 0
    pool: int = 0
    metrics: dict[str, Score] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ItemScore:
    """One scored item: a row of `items.parquet`, from which promotion pairs two models and plots are drawn.

    Attributes:
        image: The image that it is of.
        metric: What `value` is. Where it has the name of one of the task's metrics, that metric is the mean of its
            items; `rank` stands for `recall@k`, `<setting>/dice` for `<setting>/dice_per_image`
            (`pipelines/promotion/paired.py`). Begins with `AMONG_SOURCE` where it is a rank among the candidates of the
            item's source, of a task that ranks each source by itself, too.
        value: Of this item.
        item: Unique among the items of this metric and label; None: the image is the item.
        label: The finding that it is about, if it is about one.
        truth: 1 or 0 where `value` is a score of a finding that the image has or lacks.
        prompt: The text that the method was asked with, in all rows of the item; None: it was shown the image alone.
        output: What it answered, as JSON of at most `pipelines.records.MOST_OUTPUT` characters, with texts of a source
            cut to `QUOTED`. Where several rows are values of one answer, the first has it; None where `value` is the
            answer.
    """

    image: EvaluationImage
    metric: str
    value: float
    item: str | None = None
    label: str | None = None
    truth: int | None = None
    prompt: str | None = None
    output: Mapping[str, Any] | None = None

    @property
    def key(self) -> tuple[str, str, str | None]:
        """What no other item of the task has: metric, item and label."""
        return self.metric, self.item or self.image.key, self.label


@dataclass(frozen=True, kw_only=True)
class Result:
    """The outcome of a task; `metrics.json` holds it under the task's name.

    Attributes:
        status: ok, skipped where the test set holds nothing to score, or failed where embeddings are not finite.
        reason: Why it was skipped or failed.
        scores: Of all items together.
        by_source: Source -> the scores of its items by themselves; empty where all items are of one source.
        details: Further values of the task, as JSON. `items`, where it has one, is the number of items of the metric
            of that name or of the metrics `<key>/...`; `cost` holds numbers that the report shows below the scores.
        notes: Sentences that a reader needs to read the scores.
        excluded: Key of each image that was left out -> reason code.
        items: The values behind the scores, each item once. They are read once, of the image-blind control before the
            next task runs and else while the table is written: a generator need not make them before. A metric without
            any cannot be a gate of promotion.
        image_blind: Hash of an item's `key` -> its value in the image-blind control; for the stage, no task gives it.
        figure: A plot, saved as `<task>.svg`; may be None where `EvaluationSet.scores_only`.
        timings: Measured times by name, which no two runs share: for the summary, never for `metrics.json`.
        chosen: Options that the task chose on the validation split, as JSON; on test those that it was given.
    """

    status: str = "ok"
    reason: str | None = None
    scores: GroupScores = field(default_factory=GroupScores)
    by_source: dict[str, GroupScores] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    excluded: dict[str, str]
    items: Iterable[ItemScore] = ()
    image_blind: Mapping[int, float] = field(default_factory=dict)
    figure: Figure | None = None
    timings: dict[str, float] = field(default_factory=dict)
    chosen: dict[str, Any] = field(default_factory=dict)


class Task(ABC):
    """An evaluation, registered under `tasks`.

    Attributes:
        Config: Dataclass of its options in params.yaml.
        needs: Capabilities (protocols of `models/capabilities.py`); a method that lacks one is skipped.
        definitions: Metric -> what it means, in a sentence for people; `@k` stands for any number and for `@all`, and a
            metric `<setting>/<metric>` may stand by its last part. Pages show the metrics in this order.
        headline: The metrics that the report's verdict names, as `definitions` has them; of `@k` the largest k, or
            `@all`. Without any, it names all.
        does: What the task looks at, in a verb for the verdict: "clip <does> better than chance".
        chooses: Whether it chooses options on the validation split (`Result.chosen`), which test is scored with.
        asks: Whether it reads what the sources ask of the images: scores then compare where questions are equal, too.
        reads_classes: Whether its answers depend on which classes a source has on all splits
            (`EvaluationSet.source_classes`): scores then compare where these are equal, too.
        learns: Whether its answers follow from the study's training split: scores then compare where that is equal,
            too; so they do where the validation split is equal of a task that chooses.
        config: Its options.
    """

    Config: ClassVar[type]
    needs: ClassVar[tuple[type, ...]]
    definitions: ClassVar[Mapping[str, str]] = {}
    headline: tuple[str, ...] = ()
    does: ClassVar[str] = ""
    reads_classes: bool = False
    chooses: ClassVar[bool] = False
    asks: ClassVar[bool] = False
    learns: ClassVar[bool] = False

    def __init__(self, config: Any) -> None:
        self.config = config

    @staticmethod
    @abstractmethod
    def skip_reason(image: EvaluationImage) -> str | None:
        """Reason code for which an image takes no part in the task, or None."""
        ...

    @abstractmethod
    def run(self, test: EvaluationSet, bootstrap: Bootstrap) -> Result:
        """Score the method on a split."""
        ...

    def excluded_images(self, images: Iterable[EvaluationImage]) -> dict[str, str]:
        """Key -> reason code of the images that take no part."""
        return {image.key: reason for image in images if (reason := self.skip_reason(image))}


def score_by_source(
    sources: Sequence[str], score: Callable[[Sequence[int]], GroupScores], min_items: int = 1
) -> dict[str, GroupScores]:
    """Score the items of each source by themselves.

    Args:
        sources: Source of each item.
        score: Scores the items at the given indices, which ascend.
        min_items: A source with fewer items is left out.

    Returns:
        Source -> scores, sources in alphabetical order; empty where all items are of one source.
    """
    groups: dict[str, list[int]] = {}
    for index, source in enumerate(sources):
        groups.setdefault(source, []).append(index)
    if len(groups) < 2:
        return {}
    return {source: score(indices) for source, indices in sorted(groups.items()) if len(indices) >= min_items}


def recall_note(ks: Sequence[int], pool: int, candidates: str) -> list[str]:
    """The note, if there is one, on each k for which recall at k says nothing, being larger than the pool."""
    left_out = [k for k in ks if k > pool]
    return [f"recall@k is left out for k in {left_out}: the pool holds {pool} {candidates}"] if left_out else []


def other_reports_note(images: Iterable[EvaluationImage]) -> list[str]:
    """The note, if one is due, on which report of an image is read where its source has several."""
    images = list(images)
    several = sum(image.other_reports > 0 for image in images)
    if not several:
        return []
    return [f"{several} of {len(images)} images have more than one report: the first that the source lists is read"]


def independence_note(items: str, groups: str) -> str:
    """The note on intervals that resample items which are not independent."""
    return f"the intervals resample {items} as if they were independent; those of one {groups} are not"
