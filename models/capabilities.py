"""What a method can do. A task names the capabilities that it needs; the method x task matrix follows from that."""

from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from models.data.batches import Images, Tokens


@runtime_checkable
class EmbedsImages(Protocol):
    def embed_images(self, images: Images) -> Tensor:
        """Images with their regions -> (batch, dimensions), of length 1."""
        ...


@runtime_checkable
class EmbedsRegions(Protocol):
    def embed_regions(self, images: Images) -> Tensor:
        """Images with their regions -> (regions, dimensions), of length 1, in the space of the texts."""
        ...


@runtime_checkable
class EmbedsText(Protocol):
    def embed_text(self, tokens: Tokens) -> Tensor:
        """Texts -> (batch, dimensions), of length 1, in the space of the images."""
        ...


@runtime_checkable
class GroundsPhrases(Protocol):
    def ground(self, images: Images, tokens: Tokens) -> Tensor:
        """One phrase an image -> similarity map (batch, rows, columns) over the image's visible crop.

        Higher where the phrase is seen; the map is as coarse as the encoder's patches.
        """
        ...


@runtime_checkable
class SegmentsFromText(Protocol):
    def segment(self, images: Images, tokens: Tokens) -> Tensor:
        """One text an image -> probability of the foreground (batch, height, width), 0 to 1."""
        ...


@runtime_checkable
class DecodesMasks(Protocol):
    """What Grad-CAM asks of a method that segments (`models/grad_cam.py`)."""

    @property
    def first_decoder(self) -> nn.Module:
        """The layer whose features are weighed: (batch, channels, rows, columns)."""
        ...

    def logits(self, images: Images, tokens: Tokens) -> Tensor:
        """One text an image -> (batch, height, width)."""
        ...


@runtime_checkable
class ShowsAttention(Protocol):
    def attention(self, images: Images, tokens: Tokens) -> Tensor:
        """One text an image -> weights (batch, rows, columns) over the image, 0 or more, of sum 1: where it looks."""
        ...
