"""Text burned into the pixels of a source's images, dealt with as `ingest.sources.<name>.burned_in` says.

    null      nobody looks; what a DICOM header states of its pixels is noted
    flag      an image with text is noted
    mask      the text's boxes are painted black, here and by every later reader (`pipelines.raw_images`)
    reject    an image with text is rejected

A masked image is looked at again, and one that still has text is rejected. So is one whose header states that there is
text where none was found to mask. Words are never kept, logged or shown, for they may be names.

Reason codes of `Rejected`: burned_in_text, burned_in_text_remains, text_search_failed (what the model raised).
"""

from dataclasses import dataclass
from typing import Any

from PIL import Image

from pipelines.errors import Rejected
from pipelines.images import PixelBox, painted_over
from pipelines.ingest.text_finder import TextFinder
from pipelines.records import BurnedIn, BurnedInPolicy

# A mask uncovers dimmer text beside it at times: so often an image is masked before it is given up.
_ROUNDS = 2


@dataclass(frozen=True, kw_only=True)
class Examined:
    """An image whose text was dealt with.

    Attributes:
        pixels: The image; without its hidden boxes.
        burned_in: What is known of its text, as the table of images says it.
        hidden: What was painted over.
    """

    pixels: Image.Image
    burned_in: BurnedIn | None = None
    hidden: tuple[PixelBox, ...] = ()


class BurnedInText:
    """The policy of one source.

    Args:
        policy: As params say.
        finder: Looks; None is right only where the policy is None.
    """

    def __init__(self, policy: BurnedInPolicy | None, finder: TextFinder | None) -> None:
        self._policy = policy
        self._finder = finder

    @property
    def identity(self) -> list[Any]:
        """What decides the outcome for given pixels and a given header, as JSON."""
        return [self._policy, None if self._finder is None else self._finder.identity]

    def examine(self, pixels: Image.Image, is_stated: bool) -> Examined:
        """Look at an image.

        Args:
            pixels: As decoded.
            is_stated: Its DICOM header states that text is burned in.

        Raises:
            Rejected: As the module says.
        """
        boxes = self._boxes(pixels)
        if self._policy == "reject" and (boxes or is_stated):
            raise Rejected("burned_in_text", f"text in {len(boxes)} places{_STATED if is_stated else ''}")
        if self._policy == "mask" and (boxes or is_stated):
            return self._masked(pixels, boxes)
        return Examined(pixels=pixels, burned_in="found" if boxes else "stated" if is_stated else None)

    def _boxes(self, pixels: Image.Image) -> tuple[PixelBox, ...]:
        if self._policy is None:
            return ()
        assert self._finder is not None, "a policy that looks needs a finder"
        return self._finder.boxes(pixels)

    def _masked(self, pixels: Image.Image, boxes: tuple[PixelBox, ...]) -> Examined:
        if not boxes:
            raise Rejected("burned_in_text_remains", f"no text was found to mask{_STATED}")
        hidden: set[PixelBox] = set()
        for _ in range(_ROUNDS):
            hidden.update(boxes)
            pixels = painted_over(pixels, boxes)
            boxes = self._boxes(pixels)
            if not boxes:
                return Examined(pixels=pixels, burned_in="hidden", hidden=tuple(sorted(hidden)))
        raise Rejected("burned_in_text_remains", f"text in {len(boxes)} places after masking {len(hidden)}")


_STATED = ", and the header states BurnedInAnnotation"
