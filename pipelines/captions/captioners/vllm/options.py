"""Settings of the captioner `vllm`."""

from dataclasses import dataclass

from pipelines.chat.connection import Connection


@dataclass(frozen=True, kw_only=True)
class Options(Connection):
    """Section `captions.options.vllm`: who is asked (`Connection`), and for what.

    Attributes:
        temperature: Of sampling; 0 takes the likeliest token.
        max_tokens: Maximum tokens of one answer.
        image_size: Longer side of the image that is sent, in pixels; smaller images stay as they are.
        crop_size: Longer side of a region's crop, in pixels.
        crop_margin: What the crop shows around the box on each side, as a fraction of the box's longer side.
        attempts: Maximum number of answers that are requested for an item until one can be used.
    """

    temperature: float = 0.0
    max_tokens: int = 768
    image_size: int = 896
    crop_size: int = 448
    crop_margin: float = 0.25
    attempts: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("max_tokens", "attempts"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: choose at least 1")
        for name in ("image_size", "crop_size"):
            if getattr(self, name) < 28:
                raise ValueError(f"{name} is {getattr(self, name)}: choose at least 28, the side of one patch")
        for name in ("temperature", "crop_margin"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}: it cannot be negative")
