"""MedKLIP as a `Method`.

Other than in the published code: entities come from labels and captions, not from RadGraph (`entities.py`); positions
are the nine of a 3 x 3 grid, not 51 places of the chest; the text encoder may be trained with the rest (theirs is
frozen, as `frozen` makes it); initial weights are torch's.

Shapes in comments: B images, E entities, P patches, D width.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from models.data.augmentation import Augmentation
from models.data.batches import Images, Tokenise, Tokens
from models.data.shards import Sample
from models.data.texts import described_regions
from models.encoders import ImageEncoder, unit_length
from models.medklip.config import MedklipConfig
from models.medklip.entities import EntityBatch, EntityCollate, with_entities
from models.medklip.losses import existence_loss, position_loss
from models.method import CollateFunction, Method
from models.projection import non_linear_projection
from models.query_decoder import QueryDecoder
from models.text_encoder import TextEncoder
from models.token_layout import as_grid


class Medklip(Method):
    """Offers GroundsPhrases, EmbedsImages, EmbedsRegions and EmbedsText.

    A phrase joins the entities as one more query, and its attention is its map. Embeddings are what there is before the
    decoder: the mean patch, and the query of a text. No loss compares the two; what the method has learnt of an image
    and a text is in the decoder alone.

    Args:
        config: With its entities (`complete_config`).
        vocabulary_size: Entries of the tokenizer.
    """

    Config = MedklipConfig
    losses = ("existence", "position")
    learns_from = "labels or described regions"
    max_regions = 0
    entity_ids: Tensor
    entity_mask: Tensor

    def __init__(self, config: MedklipConfig, vocabulary_size: int) -> None:
        super().__init__()
        self.config = config
        self.image_encoder = ImageEncoder(config.image_encoder)
        self.text_encoder = TextEncoder(config.text_encoder, vocabulary_size)
        image_width, text_width = self.image_encoder.width, self.text_encoder.width
        self.patch_projection = non_linear_projection(image_width, image_width, config.width)
        self.query_projection = nn.Linear(text_width, config.width)
        self.decoder = QueryDecoder(config.layers, config.width, config.heads, config.feed_forward, config.dropout)
        self.dropout = nn.Dropout(config.dropout)
        self.existence = nn.Linear(config.width, 2)
        self.position_projection = nn.Linear(config.width, text_width)
        # The tokens of the descriptions, which batches bring, so that a checkpoint asks as training did.
        shape = len(config.entities), config.description_length
        self.register_buffer("entity_ids", torch.zeros(shape, dtype=torch.long))
        self.register_buffer("entity_mask", (torch.arange(shape[1]) == 0).long().repeat(shape[0], 1))

    @classmethod
    def skip_reason(cls, sample: Sample) -> str | None:
        return "no_entity" if sample.meta.labels is None and not described_regions(sample) else None

    @classmethod
    def training_texts(cls, sample: Sample) -> list[str]:
        return [*super().training_texts(sample), *(sample.meta.labels or ())]

    @classmethod
    def complete_config(cls, config: MedklipConfig, samples: Iterable[Sample]) -> MedklipConfig:
        return with_entities(config, samples)

    def collate(self, tokenise: Tokenise, augmentation: Augmentation | None, seed: int) -> CollateFunction:
        return EntityCollate(tokenise, self.config)

    def visible_crop(self, side: int) -> slice:
        return self.image_encoder.visible_crop(side)

    def forward(self, batch: EntityBatch, losses: Sequence[str]) -> dict[str, Tensor]:
        """The requested losses, each a scalar; the training loop adds them up."""
        self._remember(batch.descriptions)
        patches = self._patches(batch.images.pixels)
        found, _ = self.decoder(self._entities().expand(len(patches), -1, -1), patches)
        found = self.dropout(found)  # (B, E, D)
        terms = {}
        if "existence" in losses:
            terms["existence"] = existence_loss(self.existence(found), batch.exists)
        if "position" in losses:
            positions, _ = self.text_encoder(batch.positions)
            terms["position"] = position_loss(self.position_projection(found) @ positions.T, batch.places)
        return terms

    def ground(self, images: Images, tokens: Tokens) -> Tensor:
        """Where a phrase looks, the mean over layers and heads: (batch, rows, columns) of sum 1."""
        # Phrases of one image stand one after another: it is encoded once.
        pixels, image = torch.unique_consecutive(images.pixels, dim=0, return_inverse=True)
        patches = self._patches(pixels)[image]
        phrases = self._queries(tokens).unsqueeze(1)
        asked = torch.cat([self._entities().expand(len(phrases), -1, -1), phrases], dim=1)  # (B, E + 1, D)
        return as_grid(self.decoder(asked, patches)[1][:, -1])

    def embed_images(self, images: Images) -> Tensor:
        return self._embed(images.pixels)

    def embed_regions(self, images: Images) -> Tensor:
        """A crop like a whole image: the method knows no better way."""
        return self._embed(images.crops)

    def embed_text(self, tokens: Tokens) -> Tensor:
        return unit_length(self._queries(tokens))

    def _embed(self, pixels: Tensor) -> Tensor:
        return unit_length(self._patches(pixels).mean(dim=1))

    def _patches(self, pixels: Tensor) -> Tensor:
        """(B, P, D)."""
        return self.patch_projection(self.image_encoder(pixels)[1])

    def _queries(self, tokens: Tokens) -> Tensor:
        """(texts, D)."""
        return self.query_projection(self.text_encoder(tokens)[0])

    def _entities(self) -> Tensor:
        """The queries of the entities: (E, D)."""
        length = int(self.entity_mask.sum(dim=1).max())
        ids, mask = self.entity_ids[:, :length], self.entity_mask[:, :length]
        return self._queries(Tokens(ids, mask, torch.full_like(ids, -1)))

    def _remember(self, descriptions: Tokens) -> None:
        length = descriptions.ids.shape[1]
        for kept, values in ((self.entity_ids, descriptions.ids), (self.entity_mask, descriptions.mask)):
            kept.zero_()
            kept[:, :length] = values
