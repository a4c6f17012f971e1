"""PRIOR as a `Method`.

Other than in the published code: a sentence is encoded by itself (theirs is the mean of its tokens within the report),
and each comes once in a report; the image's vector is that of its encoder's pooling; the decoder of sentences is
`models/query_decoder.py` (theirs is a BERT with causal masks); an image is reconstructed in colour; what is made for a
sentence is what the assignment gives it (theirs takes the permutation for its inverse); nothing is
drawn at inference.

Shapes in comments: B images, P patches, M sentences of a report, D dimensions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.data.augmentation import Augmentation
from models.data.batches import Batch, Collate, Images, Tokenise, Tokens
from models.dual_encoder import DualEncoder
from models.encoders import unit_length
from models.losses import info_nce
from models.method import CollateFunction
from models.prior.config import PriorConfig
from models.prior.losses import (
    divergence,
    matched,
    over_images,
    over_sentences,
    patch_agreement,
    prototype_distance,
    sentence_contrast,
)
from models.prior.modules import ImageDecoder, LocalAttention, Memory, SentencePool
from models.projection import non_linear_projection
from models.query_decoder import QueryDecoder
from models.token_layout import as_grid


@dataclass(frozen=True)
class ReportSentences:
    """The sentences of each report.

    Attributes:
        own: (B, M, D) as they are encoded; 0 where there is none.
        used: (B, M, D) what stands for them: `own`, or mixtures of prototypes where the memory is trained.
        present: (B, M) bool; present ones come first.
    """

    own: Tensor
    used: Tensor
    present: Tensor


class Prior(DualEncoder):
    """Offers GroundsPhrases beside what dual encoders offer.

    The published stages are phases: `[report, local]`, then with `prototype`, then with `image` and `text` too.
    Sentences pass the memory in phases that train it, and at inference.

    Args:
        config: Settings.
        vocabulary_size: Entries of the tokenizer.
    """

    Config = PriorConfig
    losses = ("report", "local", "prototype", "image", "text")

    def __init__(self, config: PriorConfig, vocabulary_size: int) -> None:
        super().__init__(config, vocabulary_size)
        size, image_width = config.embedding_size, self.image_encoder.width
        self.image_projection = nn.Linear(image_width, size)
        self.text_projection = nn.Linear(self.text_encoder.width, size)
        self.patch_projection = nn.Linear(image_width, size)
        self.scale = nn.Parameter(torch.tensor(-math.log(config.temperature)))
        self.local_scale = nn.Parameter(torch.tensor(-math.log(config.local_temperature)))
        self.local_attention = LocalAttention(size)
        self.predictor = non_linear_projection(size, size // 2, size)
        self.pool = SentencePool(size, config.heads)
        self.memory = Memory(config.prototypes, size, config.gumbel_temperature)
        self.queries = nn.Parameter(torch.randn(config.queries, size))
        decoder = config.decoder_layers, size, config.heads, config.decoder_feed_forward
        self.text_decoder = QueryDecoder(*decoder, dropout=0.1)
        stride = self.image_encoder.layout.stride(self.image_encoder.backbone.config)
        self.image_decoder = ImageDecoder(2 * size, stride)
        self.image_dropout = nn.Dropout1d(config.image_dropout)

    def collate(self, tokenise: Tokenise, augmentation: Augmentation | None, seed: int) -> CollateFunction:
        return Collate(tokenise, self.max_regions, seed, sentences=True)

    def untrained(self, losses: set[str]) -> str | None:
        lacking = {"prototype": "the memory that texts pass", "local": "the attention that maps of phrases are"}
        return " and ".join(what for loss, what in lacking.items() if loss not in losses) or None

    def forward(self, batch: Batch, losses: Sequence[str]) -> dict[str, Tensor]:
        """The requested losses, each a scalar; the training loop adds them up."""
        config = self.config
        whole, features = self.image_encoder(batch.images.pixels)
        images, patches = unit_length(self.image_projection(whole)), self.patch_projection(features)
        found = self._sentences(batch, remembers="prototype" in losses)
        reports = unit_length(self.pool(found.used, found.present))
        terms = self.sentence_terms(batch, features, losses)
        if "report" in losses:
            weight = config.report_weight if {"image", "text"} & set(losses) else 1.0
            keys = self.target_keys(batch.report)
            terms["report"] = weight * self._contrast(images, reports, found.present, keys)
        if "local" in losses or "image" in losses:
            seen, read = self.local_attention(found.used, patches, found.present)
        if "local" in losses:
            of_sentences = sentence_contrast(found.used, seen, found.present, self.local_scale.exp())
            terms["local"] = of_sentences + patch_agreement(patches, read, found.present, self.predictor)
        if "prototype" in losses:
            distance = (found.used - found.own).abs().mean(dim=2)
            terms["prototype"] = config.prototype_weight * over_sentences(distance, found.present)
        if "image" in losses:
            terms["image"] = self._image_loss(batch.images.pixels, patches, read, found.present)
        if "text" in losses:
            terms["text"] = self._text_loss(patches, found, reports)
        return terms

    def embed_text(self, tokens: Tokens) -> Tensor:
        """A text as one sentence."""
        sentence = self.memory(self._encode(tokens)).unsqueeze(1)
        return unit_length(self.pool(sentence, torch.ones_like(sentence[..., 0], dtype=torch.bool)))

    def ground(self, images: Images, tokens: Tokens) -> Tensor:
        """The weight of each patch for a phrase: (B, rows, columns), between 0 and 1."""
        # Phrases of one image stand one after another: it is encoded once.
        pixels, image = torch.unique_consecutive(images.pixels, dim=0, return_inverse=True)
        patches = self.patch_projection(self.image_encoder(pixels)[1])[image]
        phrases = self.memory(self._encode(tokens)).unsqueeze(1)
        return as_grid(self.local_attention.weights(phrases, patches).squeeze(1))

    def _encode(self, tokens: Tokens) -> Tensor:
        """Sentences (sentences, D)."""
        return self.text_projection(self.text_encoder(tokens)[0])

    def _sentences(self, batch: Batch, *, remembers: bool) -> ReportSentences:
        owner = batch.sentence_owner
        count = owner.sum(dim=1)
        most = max(1, int(count.max()))
        # A row of zeros behind the others, for a batch without any sentence.
        size = self.config.embedding_size
        own = self._encode(batch.sentences) if owner.shape[1] else self.scale.new_zeros(0, size)
        used = self.memory(own) if remembers else own
        order = F.pad(owner.int(), (0, 1)).argsort(dim=1, descending=True, stable=True)[:, :most]
        present = torch.arange(order.shape[1], device=owner.device) < count.unsqueeze(1)
        own, used = (F.pad(rows, (0, 0, 0, 1))[order] * present.unsqueeze(2) for rows in (own, used))
        return ReportSentences(own, used, present)

    def _contrast(self, images: Tensor, reports: Tensor, present: Tensor, keys: Tensor | None = None) -> Tensor:
        return info_nce(images * self.scale.exp(), reports, 1.0, valid=present.any(dim=1), keys=keys)

    def _image_loss(self, pixels: Tensor, patches: Tensor, read: Tensor, present: Tensor) -> Tensor:
        """Mean absolute difference of the pixels, as the encoder gets them, and those made of patches and sentences."""
        # Dropped are whole channels of an image: (B, D, P).
        kept = self.image_dropout(patches.mT).mT
        made = self.image_decoder(torch.cat([kept, read], dim=2))
        wanted = pixels * self.image_encoder.scale + self.image_encoder.shift
        if wanted.shape != made.shape:
            wanted = F.interpolate(wanted, made.shape[2:], mode="bilinear", align_corners=True)
        return over_images((made - wanted).abs().mean(dim=(1, 2, 3)), present)

    def _text_loss(self, patches: Tensor, found: ReportSentences, reports: Tensor) -> Tensor:
        """Sentences' prototypes from the image: their distance, which they choose, and the report that they make."""
        count = self.config.queries
        own, used, present = found.own[:, :count], found.used[:, :count], found.present[:, :count]
        made, _ = self.text_decoder(self.queries.expand(len(patches), -1, -1), patches)
        chosen = matched(made, used, present)
        distance = prototype_distance(made, chosen, used, present)
        choice = divergence(self.memory.logits(own), self.memory.logits(chosen), present)
        remembered = self.memory(chosen) * present.unsqueeze(2)
        whole = self._contrast(unit_length(self.pool(remembered, present)), reports, present)
        return self.config.prototype_weight * distance + choice + whole
