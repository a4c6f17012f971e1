"""All regions of one image: from its file and its annotations to rows of `REGIONS`.

It runs in worker processes, which build the plug-ins once each.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipelines.errors import Rejected, disk_fault
from pipelines.images import open_image
from pipelines.masks import encode
from pipelines.regions.checks import clip, fault
from pipelines.regions.config import RegionsConfig
from pipelines.regions.given import read_given
from pipelines.regions.protocols import Given, Mask, Proposer, Query, Segmenter
from pipelines.registry import plugin

TRUTH = "annotations"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one image: its rows, or the reason why it has none.

    Attributes:
        rows: Rows of `REGIONS`.
        failed: Reason code; None where the image could be read.
        masks_dropped: Masks of a segmenter that were below `min_mask_quality`.
    """

    rows: list[dict[str, Any]]
    failed: str | None = None
    masks_dropped: int = 0


class Annotator:
    """Finds the regions of images, with plug-ins built once.

    Args:
        config: Settings of the stage; the names in it are known to the registry.
        roots: Folder or archive of each source.
    """

    def __init__(self, config: RegionsConfig, roots: dict[str, Path]) -> None:
        self.config = config
        self.roots = roots
        self.proposers: dict[str, Proposer] = {
            name: plugin("proposers", name)(config.options.get(name, {}))
            for name in sorted({config.train, config.evaluation, TRUTH})
        }
        self.segmenter: Segmenter = plugin("segmenters", config.segmenter)(config.options.get(config.segmenter, {}))

    def __call__(self, image: dict[str, Any], given_rows: list[dict[str, Any]]) -> Outcome:
        """Regions of one image.

        Args:
            image: Row of `SPLIT_IMAGES`.
            given_rows: Its rows of `GIVEN_REGIONS`.
        """
        root = self.roots[image["source"]]
        try:
            given = read_given(root, image, given_rows)
            pixels = open_image(root, image["path"], image["member"], image["frame"])
            if pixels.size != (image["width"], image["height"]):
                raise Rejected("size_changed", f"{pixels.width} x {pixels.height} pixels")
        except Rejected as error:
            return Outcome(rows=[], failed=error.reason)
        except OSError as error:
            return Outcome(rows=[], failed=disk_fault(error))

        training = image["split"] == "train"
        name = self.config.train if training and given else self.config.evaluation
        rows, dropped = self._inputs(pixels, image, name, given)
        if not training:
            rows += self._propose(pixels, image, TRUTH, given, "truth")
        for n, row in enumerate(rows):
            row.update(n=n, region_id=f"{image['image_id']}-{n}", image_id=image["image_id"], source=image["source"])
        return Outcome(rows=rows, masks_dropped=dropped)

    def _inputs(
        self, pixels: Image.Image, image: dict[str, Any], name: str, given: list[Given]
    ) -> tuple[list[dict[str, Any]], int]:
        """Rows of the role `input`, best first, and how many masks were dropped."""
        rows = self._propose(pixels, image, name, given, "input")
        missing = [row for row in rows if row["mask"] is None and row["status"] == "accepted"]
        boxes = [(row["x0"], row["y0"], row["x1"], row["y1"]) for row in missing]
        dropped = 0
        for row, segment in zip(missing, self.segmenter.segment(pixels, boxes) if boxes else (), strict=True):
            row.update(segmenter=self.config.segmenter, mask_quality=float(segment.quality))
            if segment.quality < self.config.min_mask_quality or not segment.mask.any():
                dropped += 1
            else:
                _set_mask(row, segment.mask)
                self._check(row, image)
        rows.sort(key=lambda row: (-row["score"], -row["area"], row["x0"], row["y0"], row["x1"], row["y1"]))
        accepted = [row for row in rows if row["status"] == "accepted"]
        for row in accepted[self.config.max_regions :]:
            row.update(status="rejected", reason="beyond_max_regions")
        return rows, dropped

    def _propose(
        self, pixels: Image.Image, image: dict[str, Any], name: str, given: list[Given], role: str
    ) -> list[dict[str, Any]]:
        proposer = self.proposers[name]
        query = Query(modality=image["modality"], given=given if proposer.sees_annotations else ())
        width, height = image["width"], image["height"]
        rows = []
        for proposal in proposer.propose(pixels, query):
            box, reason = clip(proposal.box, width, height)
            if not math.isfinite(proposal.score):
                reason = reason or "score_not_finite"
            area = min(round((box[2] - box[0]) * (box[3] - box[1])), width * height)
            row = {
                "role": role,
                "proposer": name,
                "segmenter": None,
                "label": proposal.label,
                "adjective": proposal.adjective,
                **dict(zip(("x0", "y0", "x1", "y1"), box, strict=True)),
                "mask": None,
                "area": area,
                "area_share": area / (width * height),
                "score": min(max(float(proposal.score), 0.0), 1.0) if math.isfinite(proposal.score) else 0.0,
                "mask_quality": None,
                "status": "rejected" if reason else "accepted",
                "reason": reason,
            }
            if proposal.mask is not None and proposal.mask.any():
                _set_mask(row, proposal.mask)
            if reason is None:
                self._check(row, image)
            rows.append(row)
        return rows

    def _check(self, row: dict[str, Any], image: dict[str, Any]) -> None:
        annotated = self.proposers[row["proposer"]].sees_annotations
        if reason := fault(row, image["width"], image["height"], annotated, self.config):
            row.update(status="rejected", reason=reason)


def _set_mask(row: dict[str, Any], mask: Mask) -> None:
    area = int(np.count_nonzero(mask))
    row.update(mask=encode(mask), area=area, area_share=area / mask.size)
