"""Two encoders and a projection of each into one space: what most methods start from."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.capabilities import GroundsPhrases
from models.data.augmentation import Augmentation
from models.data.batches import Batch, Collate, Images, Tokenise, Tokens
from models.encoders import EncoderConfig, ImageEncoder, unit_length
from models.method import CollateFunction, Method
from models.ranges import above_zero, at_least
from models.sentences import Sentences, sentence_loss
from models.text_encoder import TextEncoder
from models.token_keys import text_keys
from models.token_layout import as_grid

TARGETS = ("own", "shared")


@dataclass(frozen=True, kw_only=True)
class DualEncoderConfig:
    """Settings that every dual encoder has.

    Attributes:
        image_encoder: Any image model of `transformers`.
        text_encoder: Any text model of `transformers`.
        embedding_size: Dimensions of the shared space.
        targets: Of the contrast of whole images (and regions) with texts: `own` matches each with its own text alone,
            `shared` with every equal text of the batch (`models.losses.info_nce`).
        sentences: Learn each sentence of a report from the patches that it describes (`models/sentences.py`): the loss
            `sentence`, which every phase must then ask for, and a map of a phrase where the method has none of its own.
        sentence_temperature: Divides the cosine of a patch and a sentence.
    """

    image_encoder: EncoderConfig
    text_encoder: EncoderConfig
    embedding_size: int = 512
    targets: str = "own"
    sentences: bool = False
    sentence_temperature: float = 0.07

    def __post_init__(self) -> None:
        if self.targets not in TARGETS:
            raise ValueError(f"targets '{self.targets}' is not one of: {', '.join(TARGETS)}")
        at_least(1, embedding_size=self.embedding_size)
        # They divide a cosine.
        above_zero(**{name: value for name, value in vars(self).items() if name.endswith("temperature")})


class DualEncoder(Method):
    """Offers EmbedsImages, EmbedsRegions and EmbedsText; with `sentences` GroundsPhrases too.

    Args:
        config: Settings of the method.
        vocabulary_size: Entries of the tokenizer.
    """

    max_regions = 0

    def __init__(self, config: DualEncoderConfig, vocabulary_size: int) -> None:
        super().__init__()
        self.config = config
        self.image_encoder = ImageEncoder(config.image_encoder)
        self.text_encoder = TextEncoder(config.text_encoder, vocabulary_size)
        self.image_projection: nn.Module = nn.Linear(self.image_encoder.width, config.embedding_size, bias=False)
        self.text_projection: nn.Module = nn.Linear(self.text_encoder.width, config.embedding_size, bias=False)
        if config.sentences:
            self.sentence_projection = nn.Linear(self.image_encoder.width, config.embedding_size, bias=False)
            self.losses = (*self.losses, "sentence")
            self.required_losses = (*self.required_losses, "sentence")

    def offers(self, capability: type) -> bool:
        if capability is GroundsPhrases and type(self).ground is DualEncoder.ground:
            return self.config.sentences
        return super().offers(capability)

    def collate(self, tokenise: Tokenise, augmentation: Augmentation | None, seed: int) -> CollateFunction:
        return Collate(tokenise, self.max_regions, seed, sentences=self.config.sentences)

    def visible_crop(self, side: int) -> slice:
        return self.image_encoder.visible_crop(side)

    def embed_images(self, images: Images) -> Tensor:
        return self.embed_pixels(images.pixels)

    def embed_regions(self, images: Images) -> Tensor:
        """A crop like a whole image: the method knows no better way."""
        return self.embed_pixels(images.crops)

    def embed_pixels(self, pixels: Tensor) -> Tensor:
        """(rows, 3, height, width), 0 to 255 -> (rows, embedding_size), of length 1."""
        whole, _ = self.image_encoder(pixels)
        return unit_length(self.image_projection(whole))

    def embed_text(self, tokens: Tokens) -> Tensor:
        whole, _ = self.text_encoder(tokens)
        return unit_length(self.text_projection(whole))

    def ground(self, images: Images, tokens: Tokens) -> Tensor:
        """Cosine of each patch with the phrase, as `sentences` teaches it: (batch, rows, columns)."""
        # Phrases of one image stand one after another: it is encoded once.
        pixels, image = torch.unique_consecutive(images.pixels, dim=0, return_inverse=True)
        patches = self._sentence_patches(self.image_encoder(pixels)[1])[image]
        return as_grid(torch.einsum("ipd,id->ip", patches, self.embed_text(tokens)))

    def target_keys(self, tokens: Tokens) -> Tensor | None:
        """What `info_nce` takes as `keys` of these texts: None where each matches its own image alone."""
        return text_keys(tokens) if self.config.targets == "shared" else None

    def sentence_terms(self, batch: Batch, patches: Tensor, losses: Sequence[str]) -> dict[str, Tensor]:
        """The loss `sentence`, where it is requested, from the features of the patches (batch, patches, width)."""
        if "sentence" not in losses:
            return {}
        count = len(batch.sentences.ids)
        embeddings = self.embed_text(batch.sentences) if count else patches.new_zeros(0, self.config.embedding_size)
        sentences = Sentences(embeddings, text_keys(batch.sentences), batch.sentence_owner)
        return {"sentence": sentence_loss(self._sentence_patches(patches), sentences, self.config.sentence_temperature)}

    def _sentence_patches(self, patches: Tensor) -> Tensor:
        return unit_length(self.sentence_projection(patches))
