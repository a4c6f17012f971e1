"""RecLMIS, paper 003, as printed or as published."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.data.batches import Images, Tokens
from models.encoders import ImageEncoder
from models.reclmis.config import RecLMISConfig
from models.reclmis.interaction import CrossInteraction, Interest, ReadWords, SelfInteraction, WordConvolution
from models.reclmis.losses import contrastive_loss, halved_mask_loss, plain_error, softmax_again, weighted_error
from models.reclmis.reconstruction import Reconstruction
from models.reclmis.sequences import Sequences, even
from models.segmentation.batches import SegmentationBatch
from models.segmentation.blocks import UNetDecoder, UNetEncoder
from models.segmentation.losses import mask_loss
from models.segmentation.method import SegmentationMethod
from models.segmentation.pixels import scaled
from models.segmentation.pretrained import PatchFusion
from models.text_encoder import TextEncoder
from models.token_layout import as_grid


@dataclass(frozen=True, kw_only=True)
class Features:
    """What the encoders and the interaction made of a batch.

    Attributes:
        levels: The image encoder's, the deepest last.
        text: (batch, words, text width), the text encoder's.
        words: E, (batch, words, width), 0 on what is not read.
        mask: (batch, words) bool, false on padding.
        read: (batch, words) bool, see `Sequences`.
        patches: V, (batch, patches, width): the deepest level.
        attended_patches: V', in the shape of V.
        attended_words: E', in the shape of E.
    """

    levels: list[Tensor]
    text: Tensor
    words: Tensor
    mask: Tensor
    read: Tensor
    patches: Tensor
    attended_patches: Tensor
    attended_words: Tensor


class RecLMIS(SegmentationMethod):
    """U-Net with PLAM, whose deepest features attend to the words; beside it, in training, contrast and reconstruction.

    A component is there only if it is on, and interest only if a loss trains it. `logits` touches neither interest nor
    reconstructors nor, in the paper's variant, the attention of words to patches.
    """

    Config = RecLMISConfig
    losses: tuple[str, ...] = ("segmentation", "contrastive", "vision_reconstruction", "language_reconstruction")
    reads_text = True

    def __init__(self, config: RecLMISConfig, vocabulary_size: int) -> None:
        super().__init__()
        self.config = config
        self.losses = ("segmentation", *(name for name in type(self).losses[1:] if getattr(config, name)))
        self.encoder = UNetEncoder(config.base)
        self.decoder = UNetDecoder(config.base, learned=False, attention=True)
        if config.image_encoder is not None:
            self.image_encoder = ImageEncoder(config.image_encoder)
            self.fusion = PatchFusion(self.image_encoder, config.width)
        if config.interaction == "none":
            self.reads_text = False
        else:
            self.text_encoder = TextEncoder(
                config.text_encoder,
                vocabulary_size,
                projects=config.differences.projects_text,
                least_length=config.text_length if config.differences.reads_padding else 0,
            )
            self.word_convolution = WordConvolution(self.text_encoder.width, config.width)
            self.interaction = (CrossInteraction if config.interaction == "cross" else SelfInteraction)(config)
        self.patch_interest = Interest(config.width) if config.weighs_patches else None
        self.word_interest = Interest(config.width) if config.weighs_words else None
        convolves = config.weighs_words and config.differences.convolves_read_words
        self.read_words = ReadWords(config.width) if convolves else None
        if config.vision_reconstruction or config.language_reconstruction:
            published = config.differences.reconstructs_read
            self.reconstruction = Reconstruction(config, self.text_encoder.width if published else config.width)
        if self.patch_interest is not None:
            # The capability ShowsAttention, of this instance alone: without interest there is nothing to show.
            self.attention = self._attention

    @property
    def first_decoder(self) -> nn.Module:
        return self.decoder.up[0]

    def logits(self, images: Images, tokens: Tokens) -> Tensor:
        if self.config.interaction == "none":
            return self.decoder(self._levels(images))
        return self._logits(self._features(images, tokens, attends_words=False))

    def _attention(self, images: Images, tokens: Tokens) -> Tensor:
        """W_poi (eq. 2) by rows: (batch, rows, columns)."""
        assert self.patch_interest is not None
        with self.autocast(images.pixels.device):
            return as_grid(self.patch_interest(self._features(images, tokens, attends_words=False).attended_patches))

    def forward(self, batch: SegmentationBatch, losses: Sequence[str]) -> dict[str, Tensor]:
        config = self.config
        with self.autocast(batch.target.device):
            if config.interaction == "none":
                return {"segmentation": self._segmentation_loss(self.logits(batch.images, batch.text), batch.target)}
            features = self._features(batch.images, batch.text, attends_words=config.weighs_words)
            logits = self._logits(features)
            patches, words = self._patches(features), self._words(features)
            reconstructs = config.vision_reconstruction or config.language_reconstruction
            rebuilt = self.reconstruction(patches, words) if reconstructs else {}
        terms = {"segmentation": self._segmentation_loss(logits, batch.target)}
        if config.contrastive:
            terms["contrastive"] = self._contrastive_loss(patches, words)
        return terms | self._reconstruction_losses(features, patches, words, rebuilt)

    def _features(self, images: Images, tokens: Tokens, *, attends_words: bool) -> Features:
        config = self.config
        levels = self._levels(images)
        side = config.grid
        if levels[-1].shape[2:] != (side, side):
            height, width = images.pixels.shape[2:]
            raise ValueError(f"images of {width} x {height} pixels: set grid to {width // 16}, not {side}")
        _, text = self.text_encoder(tokens)
        mask = nn.functional.pad(tokens.mask.bool(), (0, text.shape[1] - tokens.mask.shape[1]))
        read = mask
        if config.differences.reads_padding:
            read = mask | (torch.arange(mask.shape[1], device=mask.device) < config.text_length)
        # (batch, width, rows, columns) -> (batch, patches, width)
        words, patches = self.word_convolution(text, read), levels[-1].flatten(2).mT
        attended_patches, attended_words = self.interaction(patches, words, read, attends_words=attends_words)
        return Features(
            levels=levels,
            text=text,
            words=words,
            mask=mask,
            read=read,
            patches=patches,
            attended_patches=attended_patches,
            attended_words=attended_words,
        )

    def _levels(self, images: Images) -> list[Tensor]:
        levels = self.encoder(scaled(images.pixels))
        if self.config.image_encoder is None:
            return levels
        return self.fusion(levels, self.image_encoder(images.pixels)[1])

    def _logits(self, features: Features) -> Tensor:
        *above, deepest = features.levels
        return self.decoder([*above, features.attended_patches.mT.reshape(deepest.shape)])

    def _patches(self, features: Features) -> Sequences:
        """V with W_poi."""
        mask = features.mask.new_ones(features.patches.shape[:2])
        interest = self.patch_interest
        weights = even(mask, self.decoder.out.weight) if interest is None else interest(features.attended_patches, mask)
        return Sequences(features=features.patches.to(weights.dtype), weights=weights, mask=mask, read=mask)

    def _words(self, features: Features) -> Sequences:
        """E with W_woi."""
        mask = features.mask
        if self.word_interest is None:
            weights = even(mask, self.decoder.out.weight)
        else:
            attended = features.attended_words
            if self.read_words is not None:
                attended = self.read_words(attended, features.read)
            weights = self.word_interest(attended, mask)
        return Sequences(features=features.words.to(weights.dtype), weights=weights, mask=mask, read=features.read)

    def _segmentation_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        loss = halved_mask_loss if self.config.differences.halves_mask_loss else mask_loss
        return self.config.segmentation_weight * loss(logits, target)

    def _contrastive_loss(self, patches: Sequences, words: Sequences) -> Tensor:
        config = self.config
        if not config.contrastive_condition:
            patches, words = patches.evenly(), words.evenly()
        elif config.differences.repeats_softmax:
            patches, words = softmax_again(patches), softmax_again(words)
        return config.contrastive_weight * contrastive_loss(patches, words, config.temperature)

    def _reconstruction_losses(
        self, features: Features, patches: Sequences, words: Sequences, rebuilt: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """L_T2V and L_V2T, weighed, of what was rebuilt."""
        config = self.config
        reconstructs_read = config.differences.reconstructs_read
        targets = {
            "vision_reconstruction": features.attended_patches if reconstructs_read else patches.features.detach(),
            "language_reconstruction": (features.text if reconstructs_read else words.features).detach(),
        }
        given = {
            "vision_reconstruction": patches if config.vision_condition else patches.evenly(),
            "language_reconstruction": words if config.language_condition else words.evenly(),
        }
        error = weighted_error if config.differences.weighted_error else plain_error
        terms = {}
        for name, value in rebuilt.items():
            dtype = given[name].weights.dtype
            loss = error(value.to(dtype), targets[name].to(dtype), given[name])
            terms[name] = getattr(config, f"{name}_weight") * loss
        return terms
