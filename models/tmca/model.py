"""TMCA as a `Method`; there is no published code.

What the papers leave open, and how it is read here:

- What is aligned at 1/32, 1/16 and 1/8 is what enters the decoder's blocks (002, section 3.2: "before each decoder
  block, the input image and text features are semantically aligned"), as the mean over the positions. At 1/32 that is
  the last stage of the encoder, so that the levels `global` and 32 differ in the projection of the text alone.
- The words projected to a block's width are the same for alignment, cross-attention (whose keys and values are "the
  TSDM-aligned text features") and LTEM. So these projections are the decoder's, which has them without alignment too;
  that of the level `global` alone comes and goes with it.
- The attention and the head are Ariadne's, whose scores are the papers' baseline digit for digit; other than there, the
  self-attention has several heads (002, section 3.2) and the projections of the words are linear.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.data.batches import Images, Tokens
from models.encoders import ImageEncoder
from models.segmentation.batches import SegmentationBatch
from models.segmentation.language_decoder import Decoded, LanguageDecoder, mean_of_words
from models.segmentation.losses import mask_loss
from models.segmentation.method import SegmentationMethod
from models.segmentation.pretrained import Pyramid
from models.text_encoder import TextEncoder
from models.tmca.config import TmcaConfig
from models.tmca.enhancement import agreement, enhanced
from models.tmca.losses import alignment_loss, overlap_targets, own_targets

# Of what enters the decoder's blocks, in their order.
STRIDES = (32, 16, 8)


class Tmca(SegmentationMethod):
    """ConvNeXt, BERT, a decoder whose positions attend to the words, and the alignment of both.

    Args:
        config: Settings.
        vocabulary_size: Entries of the tokenizer.
    """

    Config = TmcaConfig
    losses: tuple[str, ...] = ("segmentation", "contrastive")
    reads_text = True

    def __init__(self, config: TmcaConfig, vocabulary_size: int) -> None:
        super().__init__()
        self.config = config
        self.losses = ("segmentation", "contrastive") if config.levels else ("segmentation",)
        self.image_encoder = ImageEncoder(config.image_encoder)
        self.pyramid = Pyramid(self.image_encoder, config.pyramid_widths)
        self.text_encoder = TextEncoder(config.text_encoder, vocabulary_size)
        width = self.text_encoder.width
        self.decoder = LanguageDecoder(
            self.pyramid.widths, width, self_heads=config.heads, heads=config.heads, activation=False
        )
        self.global_projection = nn.Linear(width, self.pyramid.widths[-1]) if "global" in config.levels else None

    @property
    def first_decoder(self) -> nn.Module:
        return self.decoder.blocks[0]

    def logits(self, images: Images, tokens: Tokens) -> Tensor:
        return self._decoded(images, tokens, self.text_encoder(tokens)[1]).logits

    def forward(self, batch: SegmentationBatch, losses: Sequence[str]) -> dict[str, Tensor]:
        """The requested losses, each a scalar; the training loop adds them up."""
        with self.autocast(batch.target.device):
            words = self.text_encoder(batch.text)[1]
            decoded = self._decoded(batch.images, batch.text, words)
            levels = self._levels(decoded, mean_of_words(words, batch.text.mask))
        terms = {"segmentation": mask_loss(decoded.logits, batch.target)}
        if levels:
            terms["contrastive"] = self.config.contrastive_weight * self._contrast(levels, batch.target)
        return terms

    def attention(self, images: Images, tokens: Tokens) -> Tensor:
        """The finest map of LTEM: (batch, height / 8, width / 8).

        Raises:
            ValueError: Neither LTEM nor the alignment at 1/8 has trained it.
        """
        if not self.config.ltem and 8 not in self.config.levels:
            raise ValueError("no attention to show: it is LTEM's map; set ltem to true, or add 8 to levels")
        with self.autocast(images.pixels.device):
            decoded = self._decoded(images, tokens, self.text_encoder(tokens)[1])
            return agreement(decoded.features[-1], decoded.texts[-1], self.config.map_temperature).float()

    def _decoded(self, images: Images, tokens: Tokens, words: Tensor) -> Decoded:
        pyramid = self.pyramid(self.image_encoder, images.pixels)
        return self.decoder(pyramid, words, tokens.mask, self._enhance if self.config.ltem else None)

    def _enhance(self, features: Tensor, text: Tensor, decoded: Tensor) -> Tensor:
        config = self.config
        weights = agreement(features, text, config.map_temperature)
        rescaled = config.ltem_form == "rescaled"
        return enhanced(decoded, weights, rescaled=rescaled, upsampling=config.ltem_upsampling)

    def _levels(self, decoded: Decoded, text: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Images and texts (batch, width) of the levels that are on."""
        images = [features.mean(dim=(2, 3)) for features in decoded.features]
        of_block = zip(STRIDES, images, decoded.texts, strict=True)
        levels = [(image, words) for stride, image, words in of_block if stride in self.config.levels]
        if self.global_projection is not None:
            # I_g: the mean over the last stage, which enters the first block.
            levels.append((images[0], self.global_projection(text)))
        return levels

    def _contrast(self, levels: list[tuple[Tensor, Tensor]], masks: Tensor) -> Tensor:
        """MCAS: the mean over the levels."""
        config = self.config
        if config.tsdm:
            targets = overlap_targets(masks, config.target_temperature)
        else:
            targets = own_targets(len(masks), masks.device)
        level_losses = [
            alignment_loss(image.float(), text.float(), targets, config.temperature) for image, text in levels
        ]
        return torch.stack(level_losses).mean()
