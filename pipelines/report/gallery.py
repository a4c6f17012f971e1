"""The gallery: some images of each source with their regions and texts, whatever their outcome."""

from collections import defaultdict

from pipelines.records import SplitImageRow
from pipelines.report.inputs import Tables
from pipelines.report.page_images import ImageEntry, open_page_image, overlay
from pipelines.report.selection import in_turns
from pipelines.sources import Sources


def gallery(tables: Tables, sources: Sources, per_source: int) -> dict[str, list[ImageEntry]]:
    """Up to `per_source` images of each source, in the order of the sources, with their captions and regions."""
    chosen = {name: choose(tables, name, per_source) for name in sources.roots}
    image_ids = {image.image_id for images in chosen.values() for image in images}
    captions = {row.item_id: row for row in tables.captions if row.image_id in image_ids}
    regions = defaultdict(list)
    for region in sorted(tables.regions, key=lambda row: row.n):
        if region.image_id in image_ids:
            regions[region.image_id].append(region)
    return {
        name: [
            ImageEntry(
                image=image,
                page_image=open_page_image(image, sources),
                overlays=[overlay(region, image, captions.get(region.region_id)) for region in regions[image.image_id]],
                caption=captions.get(image.image_id),
            )
            for image in images
        ]
        for name, images in chosen.items()
    }


def choose(tables: Tables, source: str, count: int) -> list[SplitImageRow]:
    """Up to `count` images of a source that differ: by split, status of the caption, rejections and contradictions.

    One image of each combination is chosen in turn, in the order of image_id, which is a hash: the choice is fair and
    fixed.
    """
    statuses = {row.image_id: row.status for row in tables.captions if row.kind == "image"}
    rejected = {row.image_id for row in tables.regions if row.status != "accepted"}
    contradicted = {row.image_id for row in tables.captions if row.contradiction is not None}

    def combination(image: SplitImageRow) -> tuple[str | None, bool, bool, str]:
        item = image.image_id
        return statuses.get(item), item in rejected, item in contradicted, image.split

    images = sorted((row for row in tables.images if row.source == source), key=lambda row: row.image_id)
    return in_turns(images, combination)[:count]
