"""LAVT as a `Method`.

116.6 M parameters without the text encoder, with Swin's base size and windows of 7: the published code's 118.7 M (paper
003 prints 118.6) without a gate behind the last stage, which nothing reads. The paper has windows of 12 for images of
480 pixels. Other than there, the loss is that of all methods (the published code: cross-entropy of two classes, weighed
0.9 and 1.1), the mask is one logit a pixel, and images keep the size of the shards.
"""

from typing import Any

from torch import Tensor, nn

from models.data.batches import Images, Tokens
from models.encoders import ImageEncoder
from models.lavt.config import LavtConfig
from models.lavt.fusion import LanguageGate, PixelWordAttention, TopDownDecoder, enlarged
from models.segmentation.method import SegmentationMethod
from models.segmentation.pixels import check_sides
from models.segmentation.pretrained import check_whole
from models.text_encoder import TextEncoder

STAGES = 4


class Lavt(SegmentationMethod):
    """A Swin transformer between whose stages the words are read, and a decoder of convolutions.

    Args:
        config: Settings.
        vocabulary_size: Entries of the tokenizer.

    Raises:
        ValueError: The image encoder is no Swin transformer of four stages, is frozen, or cuts images.
    """

    Config = LavtConfig
    reads_text = True

    def __init__(self, config: LavtConfig, vocabulary_size: int) -> None:
        super().__init__()
        self.config = config
        self.image_encoder = ImageEncoder(config.image_encoder)
        check_whole(self.image_encoder)
        settings: Any = self.image_encoder.backbone.config
        if settings.model_type != "swin" or len(settings.depths) != STAGES:
            raise ValueError(f"image_encoder {settings.model_type}: lavt reads words between the four stages of a swin")
        if config.image_encoder.frozen:
            raise ValueError(
                "image_encoder.frozen keeps features of the image alone, and lavt's know the text: drop it"
            )
        self.text_encoder = TextEncoder(config.text_encoder, vocabulary_size)
        widths = [settings.embed_dim * 2**stage for stage in range(STAGES)]
        self.fusions = nn.ModuleList(PixelWordAttention(width, self.text_encoder.width) for width in widths)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths)
        self.gates = nn.ModuleList(LanguageGate(width) for width in widths[:-1])
        self.decoder = TopDownDecoder(widths)

    @property
    def first_decoder(self) -> nn.Module:
        return self.decoder.blocks[0]

    def logits(self, images: Images, tokens: Tokens) -> Tensor:
        encoder = self.image_encoder
        stride = encoder.layout.stride(encoder.backbone.config)
        # Of a single position nothing would be left, for InstanceNorm has no deviation of it.
        check_sides("lavt", images.pixels, stride, 2 * stride)
        _, words = self.text_encoder(tokens)
        levels = self.encoded(images.pixels * encoder.scale + encoder.shift, words, tokens.mask)
        return enlarged(self.decoder(levels).unsqueeze(1), *images.pixels.shape[2:]).squeeze(1)

    def encoded(self, pixels: Tensor, words: Tensor, mask: Tensor) -> list[Tensor]:
        """What the decoder gets of each stage.

        Args:
            pixels: (batch, 3, height, width) with the statistics that the image encoder expects.
            words: (batch, length, width of the text encoder).
            mask: (batch, length), 0 on padding.

        Returns:
            Four times (batch, width, rows, columns), the finest first.
        """
        backbone: Any = self.image_encoder.backbone
        features, grid = backbone.embeddings(pixels, interpolate_pos_encoding=True)
        levels = []
        for number, stage in enumerate(backbone.encoder.layers):
            for block in stage.blocks:
                # As published: a grid smaller than a window is filled up to it. Without that, transformers would make
                # the window smaller, for good.
                features, _ = block(features, grid, always_partition=True)
            fused = self.fusions[number](features, words, mask)
            # (B, P, C) -> (B, C, rows, columns)
            levels.append(self.norms[number](fused).transpose(1, 2).unflatten(2, grid))
            if stage.downsample is not None:
                features = stage.downsample(self.gates[number](features, fused), grid)
                grid = tuple((side + 1) // 2 for side in grid)
        return levels
