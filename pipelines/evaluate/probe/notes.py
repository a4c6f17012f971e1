"""What a reader of the scores of the task `probe` needs: notes, classes by themselves, and the skipped ones by name."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.evaluate.probe.answers import SourceAnswers, draw_aucs
from pipelines.evaluate.probe.heads import BlendHead, LinearHead
from pipelines.evaluate.probe.problems import ALL, Shots, SourceProblems
from pipelines.evaluate.task import independence_note


def skipped_classes(sources: Sequence[SourceProblems], shots: Sequence[Shots]) -> dict[str, list[str]]:
    """Shots -> `source: finding (why)` of each finding without an AUC."""
    return {
        str(k): [
            f"{problem.source}: {problem.classes[number]} ({why})"
            for source in sources
            for problem in source.problems
            for number, why in problem.skipped(k).items()
        ]
        for k in shots
    }


def class_details(sources: Sequence[SourceAnswers]) -> list[dict[str, Any]]:
    """Of each finding its test and training images, and head -> shots -> its AUC, the mean over draws."""
    details: dict[tuple[str, str], dict[str, Any]] = {}
    for source in sources:
        for (head, k), found in source.answers.items():
            for answers in found:
                for number in answers.scores:
                    problem = answers.problem
                    name = problem.classes[number]
                    entry = details.setdefault(
                        (problem.source, name),
                        {
                            "source": problem.source,
                            "label": name,
                            "positives": int((problem.truth == number).sum()),
                            "negatives": int((problem.truth != number).sum()),
                            "training_images": int(problem.training_counts[number]),
                            "auc": {},
                        },
                    )
                    entry["auc"].setdefault(head, {})[str(k)] = round(float(np.mean(draw_aucs(answers, number))), 6)
    return list(details.values())


def probe_notes(
    sources: Sequence[SourceAnswers],
    skipped: Mapping[str, Sequence[str]],
    draws: int,
    unfinished: tuple[int, int],
    *,
    max_regions: int,
) -> list[str]:
    """Sentences for the report.

    Args:
        sources: Those that are scored.
        skipped: Of `skipped_classes`.
        draws: Of shots.
        unfinished: Linear heads that had not converged, and all that were fitted.
        max_regions: `Method.max_regions`.
    """
    notes = [
        f"scores are means over {draws} draws of the shots, which depend on the images' keys and the seed alone; the "
        f"intervals resample test images, within their source, and draws, independently of each other; {ALL} images "
        "are one draw",
        *(_skipped_note(k, names) for k, names in skipped.items()),
        *_exclusive_notes(sources),
    ]
    unchosen = [f"{source.of.source} ({head}@{k})" for source in sources for head, k in source.unchosen]
    if unchosen:
        notes.append(
            f"validation has no finding to choose by, and C is {LinearHead.default:g} and the blend's weight "
            f"{BlendHead.default:g}: {', '.join(unchosen)}"
        )
    if unfinished[0]:
        notes.append(f"{unfinished[0]} of {unfinished[1]} linear heads had not converged when they were stopped")
    if max_regions:
        notes.append(
            "training images are embedded with their input regions, which come from annotations where there are any; "
            "those of test images are proposals"
        )
    return [*notes, independence_note("test images", "patient")]


def _skipped_note(k: str, names: Sequence[str]) -> str:
    if not names:
        return f"@{k}: every class is scored"
    return f"@{k}: {len(names)} {'class is' if len(names) == 1 else 'classes are'} skipped: {'; '.join(names)}"


def _exclusive_notes(sources: Sequence[SourceAnswers]) -> list[str]:
    exclusive = {source.of.source: all(problem.exclusive for problem in source.of.problems) for source in sources}
    several = [name for name, one in exclusive.items() if not one]
    notes = []
    if several:
        notes.append(
            f"images of {', '.join(several)} have several labels: each finding has a head of its own, and there is no "
            "accuracy"
        )
    if len(several) < len(exclusive):
        notes.append("accuracy: an image of a class with fewer training images than shots counts as wrong")
    return notes
