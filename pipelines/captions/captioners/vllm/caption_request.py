"""What is sent about an item, and the key under which the result cache keeps the answer."""

from dataclasses import dataclass
from typing import Any

from pipelines.captions.captioners.vllm.options import Options
from pipelines.captions.captioners.vllm.prompts import Prompts
from pipelines.captions.captioners.vllm.request_images import RequestImages
from pipelines.captions.captioners.vllm.schema import response_format
from pipelines.captions.geometry_check import measured_values
from pipelines.captions.protocols import Item, RegionItem, Settings
from pipelines.files import digest_of
from pipelines.records import CaptionKind

# Part of every key in the result cache: raise it when code alone changes what is sent, pixels or conversation.
_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class CaptionRequest:
    """What is sent about an item.

    Attributes:
        item: The item.
        system: Instructions.
        user: What is specific.
        response_format: The schema of the answer.
        key: Digest of everything that decides the answer.
    """

    item: Item
    system: str
    user: str
    response_format: dict[str, Any]
    key: str

    def messages(self, urls: list[str]) -> list[dict[str, Any]]:
        """Instructions, images, then what is specific: the longest common prefix with other requests."""
        images = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
        return [
            {"role": "system", "content": self.system},
            {"role": "user", "content": [*images, {"type": "text", "text": self.user}]},
        ]


def cache_kind(item: Item) -> str:
    """What the result cache calls an answer about the item."""
    return f"caption/{item.kind}"


class CaptionRequests:
    """Makes the requests; nothing is read, sent or kept.

    Args:
        settings: As the captioner has them.
        options: The captioner's own.
        prompts: The prompt files.

    Attributes:
        instructions: What a model is told about each kind of item, which its answer must not repeat.
    """

    def __init__(self, settings: Settings, options: Options, prompts: Prompts) -> None:
        self._settings = settings
        self._options = options
        self._prompts = prompts
        self._images = RequestImages(settings, options)
        self._fixed = {"image": self._fixed_part("image"), "region": self._fixed_part("region")}
        self.instructions = {kind: f"{part['system']}\n{part['again']}" for kind, part in self._fixed.items()}

    def of(self, item: Item) -> CaptionRequest:
        """The request of an item."""
        image = item.image
        user = self._prompts.user(item, self._images.sent_size(image))
        answer_format = response_format(item)
        # Another name in here is another key, and all stored answers would be requested again.
        key_parts = {
            "fixed": self._fixed[item.kind],
            "image": image.pixel_key,
            "region": [item.box, item.mask] if isinstance(item, RegionItem) else None,
            "user": user,
            "schema": answer_format,
            "checks": measured_values(item, self._settings.sizes),
        }
        system = self._fixed[item.kind]["system"]
        return CaptionRequest(
            item=item, system=system, user=user, response_format=answer_format, key=digest_of(key_parts)
        )

    def _fixed_part(self, kind: CaptionKind) -> dict[str, Any]:
        """What decides the answers of a kind and is the same for all its items."""
        options = self._options
        crop = [options.crop_size, options.crop_margin] if kind == "region" else []
        return {
            "system": self._prompts.system(kind),
            "again": self._prompts.again(kind, "?"),
            "model": [options.model, options.revision],
            "sampling": [options.temperature, options.max_tokens, self._settings.seed],
            "attempts": options.attempts,
            "pixels": [options.image_size, *crop],
            "version": _VERSION,
        }
