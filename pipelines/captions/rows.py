"""From an image or region and its answer to the row of `CAPTIONS`."""

from dataclasses import replace
from typing import Any

from pipelines.captions.answer import ImageAnswer, RegionAnswer, parse_triple, summary_warnings
from pipelines.captions.config import Sizes
from pipelines.captions.evidence import is_no_finding
from pipelines.captions.geometry_check import region_contradiction, report_side, summary_contradiction
from pipelines.captions.protocols import Answer, Captioner, ImageItem, Item, NoAnswer, RegionItem, Response
from pipelines.records import NO_FINDING, CaptionKind, CaptionRow, CaptionStatus, SplitImageRow


class RowBuilder:
    """Builds rows that name the captioner and the digest of its prompts.

    Args:
        name: The captioner's name in params.yaml.
        captioner: The captioner.
        sizes: Area fractions that separate the sizes.
    """

    def __init__(self, name: str, captioner: Captioner, sizes: Sizes) -> None:
        self._name = name
        self._prompts: dict[CaptionKind, str] = {
            "image": captioner.prompt_sha256("image"),
            "region": captioner.prompt_sha256("region"),
        }
        self._sizes = sizes

    def unannotated(self, image: SplitImageRow) -> CaptionRow:
        """The row of an image of which nothing may be said."""
        return CaptionRow(
            item_id=image.image_id,
            image_id=image.image_id,
            source=image.source,
            kind="image",
            status="unannotated",
            oracle=False,
            captioner=self._name,
            prompt_sha256=self._prompts["image"],
        )

    def without_text(self, item: Item, status: CaptionStatus, **columns: Any) -> CaptionRow:
        """The row of an item without texts; with `columns`, one that has them."""
        return CaptionRow(
            item_id=item.item_id,
            image_id=item.image.image_id,
            source=item.image.source,
            kind=item.kind,
            status=status,
            phrase=item.phrase if isinstance(item, RegionItem) else None,
            basis=item.basis,
            oracle=item.oracle,
            captioner=self._name,
            prompt_sha256=self._prompts[item.kind],
            **columns,
        )

    def described(self, item: Item, answer: Answer) -> CaptionRow:
        """The row of an item with what the captioner answered."""
        if isinstance(answer, Response):
            return replace(self.described(item, answer.answer), attempts=answer.attempts)
        if isinstance(answer, NoAnswer):
            return self.without_text(item, answer.status, reason=answer.reason, raw_answer=answer.raw_answer)
        if isinstance(item, ImageItem) and isinstance(answer, ImageAnswer):
            return self._image_row(item, answer)
        assert isinstance(item, RegionItem), f"{type(answer).__name__} for an image"
        assert isinstance(answer, RegionAnswer), f"{type(answer).__name__} for a region"
        return self._region_row(item, answer)

    def _image_row(self, item: ImageItem, answer: ImageAnswer) -> CaptionRow:
        no_finding = is_no_finding(item.image)
        return self.without_text(
            item,
            "no_finding" if no_finding else "ok",
            summary=answer.summary_caption,
            report=answer.detailed_report,
            other_reports=item.image.other_reports,
            region_caption=NO_FINDING if no_finding else None,
            contradiction=summary_contradiction(item, answer),
            warnings=summary_warnings(answer.summary_caption) or None,
        )

    def _region_row(self, item: RegionItem, answer: RegionAnswer) -> CaptionRow:
        if answer.region_extraction == NO_FINDING:
            return self.without_text(item, "no_finding")
        caption = parse_triple(answer.region_extraction)
        return self.without_text(
            item,
            "ok",
            region_caption=str(caption),
            adjective=caption.adjective,
            term=caption.term,
            position=caption.position,
            size=item.geometry.size,
            negatives=tuple(str(parse_triple(negative)) for negative in answer.negative_variations),
            contradiction=region_contradiction(item, answer, self._sizes),
            report_side=report_side(caption.position, item.image.report),
        )
