"""What a run describes: images beside their accepted regions, and for each the item or the row that needs no answer."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from pipelines.captions.config import CaptionsConfig
from pipelines.captions.evidence import image_item, is_no_finding, region_items
from pipelines.captions.protocols import Item
from pipelines.captions.rows import RowBuilder
from pipelines.records import REGIONS, SPLIT_IMAGES, CaptionRow, RegionRow, SplitImageRow
from pipelines.tables import beside

ImageAndRegions = tuple[SplitImageRow, list[RegionRow]]


def images_and_regions(images: Path, regions: Path) -> Iterator[ImageAndRegions]:
    """Each image with its accepted regions in the order of `n`.

    Args:
        images: Table of `SPLIT_IMAGES`.
        regions: Table of `REGIONS`.

    Raises:
        UserError: A region is of an image that the table of images lacks; when the image in its place is asked for.
    """
    accepted = REGIONS.groups(regions, status="accepted")
    lacks = f"{regions} has regions of images that {images} lacks: run dvc repro regions"
    for image, rows in beside(SPLIT_IMAGES.rows(images), accepted, lacks):
        yield image, sorted(rows, key=lambda row: row.n)


def count(images: Path, regions: Path) -> tuple[int, int]:
    """How many images and accepted regions there are."""
    return SPLIT_IMAGES.count(images), REGIONS.count(regions, status="accepted")


def entries(
    pairs: Iterable[ImageAndRegions], config: CaptionsConfig, builder: RowBuilder, sees_pixels: bool
) -> Iterator[CaptionRow | Item]:
    """For each image, then for each of its regions: the item that is described, or the row that needs no answer."""
    for image, regions in pairs:
        items = region_items(image, regions, config)
        yield image_item(image, items, config, sees_pixels) or builder.unannotated(image)
        for item in items:
            unnamed_in_normal_image = is_no_finding(image) and item.label is None
            yield builder.without_text(item, "no_finding") if unnamed_in_normal_image else item
