"""PLAN (paper 000, eqs. 1 to 14, 26 and 27)."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.capabilities import GroundsPhrases
from models.data.batches import Batch, Images, Tokens
from models.dual_encoder import DualEncoder
from models.encoders import unit_length
from models.losses import info_nce
from models.plan.alignment import CoImportance, align, similarity, smoothed, soft_regions
from models.plan.config import PlanConfig
from models.plan.keywords import choose
from models.plan.losses import Pairs, local_loss
from models.plan.other_images import images_without, other_images_loss
from models.token_keys import word_keys
from models.words import pool_words


@dataclass(frozen=True)
class Iteration:
    """Result of one iteration.

    Attributes:
        text: R^g, (texts, embedding_size), of length 1, of the words that the iteration started from.
        pairs: Its words, their regions and the keywords among them.
        scores: S-tilde, (texts, words, patches); its rows are those where `pairs.chosen`.
        smoothed_words: (texts, words, embedding_size), whose similarity with the patches of any image is S-tilde.
    """

    text: Tensor
    pairs: Pairs
    scores: Tensor
    smoothed_words: Tensor


class Plan(DualEncoder):
    """Offers GroundsPhrases beside what dual encoders offer, unless `map` is another.

    The local loss alone does not tell a patch from its opposite: with g(I) of the other sign, S changes its sign and
    the soft region of eq. 11, which is quadratic in g(I), does not. Words and patches therefore go through the
    projections of whole texts and images first, whose sign the global loss decides; g of eq. 4 starts as the identity.

    Args:
        config: Settings.
        vocabulary_size: Entries of the tokenizer.
    """

    Config = PlanConfig
    losses = ("report", "local")

    def __init__(self, config: PlanConfig, vocabulary_size: int) -> None:
        super().__init__(config, vocabulary_size)
        size = config.embedding_size
        self.patch_transformation = nn.Linear(size, size, bias=False)
        self.region_projection = nn.Linear(size, size, bias=False)
        for layer in (self.patch_transformation, self.region_projection):
            nn.init.eye_(layer.weight)
        self.alpha = nn.Parameter(torch.tensor(0.1))
        self.beta = nn.Parameter(torch.tensor(0.1))

    def forward(self, batch: Batch, losses: Sequence[str]) -> dict[str, Tensor]:
        """The requested losses, each a scalar; the training loop adds them up (eqs. 26 and 27)."""
        whole, patches = self.image_encoder(batch.images.pixels)
        images = unit_length(self.image_projection(whole))
        terms = self.sentence_terms(batch, patches, losses)
        shared = self.target_keys(batch.report)
        if "local" not in losses:
            if "report" in losses:
                terms["report"] = self._report_loss(images, self.embed_text(batch.report), shared)
            return terms
        local = self._local_loss(batch, patches)
        rounds: dict[str, list[Tensor]] = {name: [] for name in losses if name != "sentence"}
        for iteration in self.iterate(patches, batch.report):
            if "report" in losses:
                rounds["report"].append(self._report_loss(images, iteration.text, shared))
            rounds["local"].append(local(iteration))
        return terms | {name: torch.stack(values).mean() for name, values in rounds.items()}

    def _report_loss(self, images: Tensor, texts: Tensor, keys: Tensor | None) -> Tensor:
        # Eq. 3 adds the two directions; info_nce takes their mean.
        return 2 * info_nce(images, texts, self.config.global_temperature, keys=keys)

    def _local_loss(self, batch: Batch, patches: Tensor) -> Callable[[Iteration], Tensor]:
        """The local loss of an iteration, by the settings."""
        config = self.config
        keys = None if config.negatives == "report" else word_keys(batch.report)
        if keys is None or config.negatives == "batch":
            return lambda iteration: local_loss(iteration.pairs, config.local_temperature, keys)
        pixels = self._pixels(patches)
        # A word that is not there has the key 0.
        without = images_without(keys, keys != 0)
        # Memory is short where the encoders work in parts.
        recompute = self.text_encoder.rows_at_a_time is not None

        def loss(iteration: Iteration) -> Tensor:
            found = iteration.pairs, iteration.smoothed_words, pixels, without, self._pool
            return other_images_loss(*found, config.local_temperature, recompute=recompute)

        return loss

    def _pool(self, words: Tensor, pixels: Tensor) -> Tensor:
        """The regions that the words of one text (words, size) pool from images: (images, words, size)."""
        scores = words @ pixels.mT  # (W, D) x (N, D, P) -> (N, W, P)
        present = torch.ones(scores.shape[:2], dtype=torch.bool, device=scores.device)
        phi, _ = self._align(scores, present)
        return self._region(scores, phi, pixels)

    def offers(self, capability: type) -> bool:
        return super().offers(capability) and (capability is not GroundsPhrases or self.config.map == "similarity")

    def ground(self, images: Images, tokens: Tokens) -> Tensor:
        """The mean of S-tilde over the words that the last iteration leaves; 0 for a text without words."""
        _, patches = self.image_encoder(images.pixels)
        *_, last = self.iterate(patches, tokens)
        weight = last.pairs.chosen.to(last.scores.dtype)
        # (texts, 1, words) x (texts, words, patches) -> (texts, patches)
        total = torch.bmm(weight.unsqueeze(1), last.scores).squeeze(1)
        side = math.isqrt(patches.shape[1])
        return (total / weight.sum(dim=1, keepdim=True).clamp(min=1)).view(-1, side, side)

    def iterate(self, patches: Tensor, tokens: Tokens) -> Iterator[Iteration]:
        """Progressive local alignment (eq. 14).

        Args:
            patches: (batch, patches, width) of the image encoder.
            tokens: A text for each image.
        """
        config = self.config
        pixels = self._pixels(patches)
        text, words, present = self._encode(tokens)
        scores, mixed = similarity(words, pixels), words
        for number in range(config.iterations):
            if number and config.encode_again:
                text, words, _ = self._encode(_left(tokens, present))
                words = F.pad(words, (0, 0, 0, scores.shape[1] - words.shape[1]))
                scores = smoothed(similarity(words, pixels), scores, config.smoothing)
                mixed = smoothed(words, mixed, config.smoothing)
            phi, importance = self._align(scores, present)
            chosen, weight = choose(
                importance, present, config.keep_ratio, config.local_temperature, sample=self.training
            )
            pairs = Pairs(words, self._region(scores, phi, pixels), present, chosen, weight)
            yield Iteration(text, pairs, scores, mixed)
            present = chosen

    def _pixels(self, patches: Tensor) -> Tensor:
        """g(I) of eq. 4: (batch, patches, embedding_size)."""
        return self._scaled(self.patch_transformation(self.image_projection(patches)))

    def _align(self, scores: Tensor, present: Tensor) -> tuple[CoImportance, Tensor]:
        config = self.config
        return align(scores, present, self.alpha, self.beta, refine=config.refine, rescale=config.rescale_importance)

    def _region(self, scores: Tensor, phi: CoImportance, pixels: Tensor) -> Tensor:
        return self._scaled(self.region_projection(soft_regions(scores, phi, pixels)))

    def _scaled(self, features: Tensor) -> Tensor:
        return unit_length(features) if self.config.unit_length else features

    def _encode(self, tokens: Tokens) -> tuple[Tensor, Tensor, Tensor]:
        """Whole texts, their words and which of these are there."""
        whole, hidden = self.text_encoder(tokens)
        words, present = pool_words(hidden, tokens)
        return unit_length(self.text_projection(whole)), self._scaled(self.text_projection(words)), present


def _left(tokens: Tokens, present: Tensor) -> Tokens:
    """The texts of the words that are still there; these keep their numbers."""
    removed = (tokens.words >= 0) & ~present.gather(1, tokens.words.clamp(min=0))
    mask = tokens.mask.masked_fill(removed, 0)
    order = mask.argsort(dim=1, descending=True, stable=True)[:, : int(mask.sum(dim=1).max())]
    ids, mask, words = (values.gather(1, order) for values in (tokens.ids, mask, tokens.words))
    return Tokens(ids, mask, words.masked_fill(mask == 0, -1))
