"""What a task is: the seam between the stage `evaluate` and its plug-ins."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from matplotlib.figure import Figure

from pipelines.evaluate.bootstrap import Score
from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.evaluation_set import EvaluationSet


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a task found; `metrics.json` holds it under the task's name.

    Attributes:
        status: ok, or skipped where the test set holds nothing to score.
        reason: Why it was skipped.
        items: Queries (retrieval), images (zero-shot, segmentation) or phrases (grounding) that were scored.
        pool: Candidates that each query is ranked against; for classification the images that are ranked; 0 where
            nothing is ranked.
        metrics: Score by name.
        by_source: Source -> `items`, `pool`, `metrics`, each source scored by itself; empty where there is only one.
        details: Further values of the task, as JSON. `items`, where it has one, is the number of items of the metrics
            `<key>/...`; `cost` holds numbers that the report shows below the scores.
        notes: What a reader has to know to read the scores.
        excluded: Key of each test image that was left out -> reason code.
        figure: A plot, saved as `<task>.svg`.
        timings: Measured times by name, which no two runs share: for the summary, never for `metrics.json`.
    """

    status: str = "ok"
    reason: str | None = None
    items: int = 0
    pool: int = 0
    metrics: dict[str, Score] = field(default_factory=dict)
    by_source: dict[str, dict[str, Any]] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    excluded: dict[str, str]
    figure: Figure | None = None
    timings: dict[str, float] = field(default_factory=dict)


class Task(Protocol):
    """An evaluation, registered under `tasks`.

    Attributes:
        Config: Dataclass of its options in params.yaml.
        needs: Capabilities (protocols of `models/capabilities.py`); a method that lacks one is skipped.
    """

    Config: ClassVar[type]
    needs: ClassVar[tuple[type, ...]]

    def __init__(self, config: Any) -> None: ...

    def run(self, test: EvaluationSet, bootstrap: Bootstrap) -> Result:
        """Score the method on the test split."""
        ...
