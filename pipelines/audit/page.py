"""The audit sheet as one page that needs no network: one image, outline, text and question at a time.

It shows no score, no label, no source and no name of a file. The images are made from the pixels alone, as on the
report's page; what is burnt into the pixels is in them.
"""

import base64
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from models.places import side_words
from pipelines.audit.answers import REASONS
from pipelines.audit.sample import WHATS, Item, What, random_number
from pipelines.captions.config import CaptionsConfig
from pipelines.captions.evidence import names_patient_side
from pipelines.files import digest_of
from pipelines.report.page_images import PageImage, open_page_image, overlay
from pipelines.report.pages import templates
from pipelines.sources import Sources

LONGER_SIDE = 768  # pixels of an image on the page

_REGION = "Is there a finding, and does the outline mark it?"
_REGION_CAPTION = "Is the text right about the outlined region?"
_IMAGE_CAPTION = "Is the text right about this image?"


@dataclass(frozen=True, kw_only=True)
class PageItem:
    """An item on the page.

    Attributes:
        item: The item.
        page_image: The pixels of its image.
        outline: SVG path in pixels of the original image; None: nothing is outlined.
        question: What people answer.
        sides: Whose left and right the text means, in words; None: it names neither.
    """

    item: Item
    page_image: PageImage
    outline: str | None
    question: str
    sides: str | None


def page_items(
    items: Mapping[What, Sequence[Item]], seed: int, sources: Sources, captions: CaptionsConfig
) -> tuple[list[PageItem], Counter[str]]:
    """The items in the order of the page: regions, then captions, each in random order.

    Args:
        items: The sample.
        seed: Of the sample.
        sources: Where the images are.
        captions: Section `captions` of params.yaml, which says whose left and right texts mean.

    Returns:
        The items, and how many are left out because their image cannot be opened, by reason.
    """
    shown: list[PageItem] = []
    left_out: Counter[str] = Counter()
    for what in WHATS:
        for item in sorted(items[what], key=lambda item: random_number(item, seed)):
            page_image = open_page_image(item.image, sources, LONGER_SIDE)
            if page_image.reason is None:
                shown.append(_page_item(item, page_image, captions))
            else:
                left_out[page_image.reason] += 1
    return shown, left_out


def _page_item(item: Item, page_image: PageImage, captions: CaptionsConfig) -> PageItem:
    question = _REGION if item.text is None else _IMAGE_CAPTION if item.region is None else _REGION_CAPTION
    sides = None
    if side_words(item.text or ""):
        patient = names_patient_side(item.image, captions.modalities[item.image.modality])
        sides = "the patient's, who faces you: his left is on your right" if patient else "the image's, as you see it"
    return PageItem(
        item=item,
        page_image=page_image,
        outline=None if item.region is None else overlay(item.region, item.image).outline,
        question=question,
        sides=sides,
    )


def page(items: Sequence[PageItem]) -> str:
    """The page as HTML. Its policy allows its own script, by digest, and nothing from elsewhere."""
    environment = templates("pipelines.audit")
    script = environment.get_template("audit.js.j2").render()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return environment.get_template("audit.html.j2").render(
        items=items,
        reasons=REASONS,
        script=script,
        script_sha256=digest,
        # Answers that a browser keeps belong to one sample.
        sample=digest_of([one.item.shown for one in items])[:16],
    )
