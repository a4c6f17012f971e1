"""People's verdicts on regions: one JSON object a line, a dependency of the stage `regions`.

A verdict names its region by image and box, never by number: numbers move when proposals change. A box is `accepted`,
`rejected`, or `drawn`: new, or what a person moved another box to.
"""

import json
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from models.geometry import Box, box_ious
from pipelines.config import parse
from pipelines.errors import UserError
from pipelines.files import write_text
from pipelines.regions.features import BOX

UNNAMED = "finding"  # what review tools show where nobody named a region
UNMOVED = 1.0  # pixels; a box within this of the one shown was left alone
SAME = 0.9  # IoU from which two boxes are one; a proposer's box may move a little between two runs


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One person's word on one box.

    Attributes:
        image_id: As in the tables.
        x0: Left edge in pixels of the image; y0, x1, y1 likewise, x1 and y1 exclusive.
        verdict: accepted, rejected or drawn.
        label: What the person called a drawn box; null where she did not say.
    """

    image_id: str
    x0: float
    y0: float
    x1: float
    y1: float
    verdict: Literal["accepted", "rejected", "drawn"]
    label: str | None = None

    def __post_init__(self) -> None:
        if not all(np.isfinite(self.box)) or self.x0 >= self.x1 or self.y0 >= self.y1:
            raise ValueError(f"the box {self.box} has no area")

    @property
    def box(self) -> Box:
        return self.x0, self.y0, self.x1, self.y1


def read(path: Path) -> list[Verdict]:
    """All verdicts of a file, in its order.

    Raises:
        UserError: The file is missing, or a line is no verdict.
    """
    if not path.exists():
        raise UserError(f"regions.review names {path}, which is absent: make an empty file, or import a review")
    verdicts = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            values = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{path}:{number}: not JSON ({error})") from None
        verdicts.append(parse(Verdict, values, f"{path}:{number}"))
    return verdicts


def write(verdicts: list[Verdict], path: Path) -> None:
    """Write verdicts sorted by image and box, so that the file does not depend on who was reviewed first."""
    ordered = sorted(verdicts, key=lambda verdict: (verdict.image_id, verdict.box, verdict.verdict))
    write_text(path, "".join(json.dumps(asdict(verdict), ensure_ascii=False) + "\n" for verdict in ordered))


def merge(former: list[Verdict], latest: list[Verdict]) -> list[Verdict]:
    """Both, a later word on the same box in the place of the former one."""
    boxes: dict[str, list[Box]] = {}
    for verdict in latest:
        boxes.setdefault(verdict.image_id, []).append(verdict.box)
    kept = [v for v in former if v.image_id not in boxes or not same_box(v.box, boxes[v.image_id]).any()]
    return kept + latest


def same_box(box: Box, others: list[Box]) -> NDArray[np.bool_]:
    """Which of the others are the same box."""
    return box_ious([box], others)[0] >= SAME


def compare(image_id: str, shown: list[Box], drawn: list[tuple[Box, str | None]]) -> list[Verdict]:
    """Verdicts of one person on one image: what was shown against what was left there.

    Args:
        image_id: The image.
        shown: Boxes that the person saw.
        drawn: Boxes that she left or drew, with their labels.
    """

    def alike(one: Box, other: Box) -> bool:
        return all(abs(a - b) <= UNMOVED for a, b in zip(one, other, strict=True))

    def verdict(box: Box, word: str, label: str | None = None) -> Verdict:
        edges = {name: round(edge, 2) for name, edge in zip(("x0", "y0", "x1", "y1"), box, strict=True)}
        return Verdict(image_id=image_id, verdict=word, label=label, **edges)  # type: ignore[arg-type]

    kept = [any(alike(box, other) for other, _ in drawn) for box in shown]
    new = [(box, label) for box, label in drawn if not any(alike(box, other) for other in shown)]
    said = [verdict(box, "accepted" if stays else "rejected") for box, stays in zip(shown, kept, strict=True)]
    return said + [verdict(box, "drawn", label) for box, label in new]


@dataclass(frozen=True, kw_only=True)
class Matched:
    """Verdicts put to the candidates.

    Attributes:
        decisions: One a candidate: `accepted`, `rejected` or None.
        drawn: Boxes to add to training images.
        unused: How many verdicts came to nothing, by reason code: unknown_image, no_such_region, reviewers_disagree,
            drawn_on_judged_image.
    """

    decisions: NDArray[np.object_]
    drawn: list[Verdict]
    unused: Counter[str]


def match(verdicts: list[Verdict], candidates: pd.DataFrame, images: dict[str, dict[str, Any]]) -> Matched:
    """Find the candidate that each verdict means: the box of that image with the largest IoU, if they are the same.

    Args:
        verdicts: In any order.
        candidates: With `image_id` and box.
        images: Rows of `SPLIT_IMAGES` by image_id.
    """
    decisions = np.full(len(candidates), None, dtype=object)
    rows_of_image = candidates.groupby("image_id", sort=False).indices
    boxes = candidates[BOX].to_numpy(dtype=float)
    unused: Counter[str] = Counter()
    drawn: list[Verdict] = []
    said: dict[int, list[str]] = defaultdict(list)
    for verdict in verdicts:
        if verdict.image_id not in images:
            unused["unknown_image"] += 1
        elif verdict.verdict == "drawn":
            # On validation and test images a person's box is truth, which `input` regions must not hold.
            if images[verdict.image_id]["split"] == "train":
                drawn.append(verdict)
            else:
                unused["drawn_on_judged_image"] += 1
        else:
            rows = rows_of_image.get(verdict.image_id, np.zeros(0, dtype=int))
            overlap = box_ious([verdict.box], boxes[rows].tolist())[0]
            if not len(rows) or overlap.max() < SAME:
                unused["no_such_region"] += 1
                continue
            said[int(rows[overlap.argmax()])].append(verdict.verdict)
    for row, words in said.items():
        if len(set(words)) == 1:
            decisions[row] = words[0]
        else:
            unused["reviewers_disagree"] += len(words)
    return Matched(decisions=decisions, drawn=sorted(drawn, key=lambda v: (v.image_id, v.box)), unused=unused)
