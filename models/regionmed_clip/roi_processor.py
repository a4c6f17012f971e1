"""The ROI processor of paper 001: a region's feature, seen in the context of its whole image."""

from torch import Tensor, nn


class RoiProcessor(nn.Module):
    """Cross-attention from region to image, then a feed-forward layer, each with a residual.

    The paper says "attention mechanisms" with 8 heads that fuse region and global features and no more; this is the
    reading of `RegionMedClipConfig`: the query is the encoded crop, keys and values are the global patch tokens.

    Args:
        width: Size of the encoder's features.
        heads: Attention heads.

    Raises:
        ValueError: `heads` do not divide `width`.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"heads {heads} do not divide the image encoder's width of {width}")
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm_attention = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.norm_output = nn.LayerNorm(width)

    def forward(self, regions: Tensor, patches: Tensor, owner: Tensor) -> Tensor:
        """Fuse.

        Args:
            regions: (regions, width) encoded crops.
            patches: (batch, patches, width) tokens of the whole images.
            owner: (regions,) index into the batch.

        Returns:
            (regions, width).
        """
        return self.fuse(regions.unsqueeze(1), patches[owner]).squeeze(1)

    def fuse(self, regions: Tensor, patches: Tensor) -> Tensor:
        """Fuse as many regions of each image; they do not see one another.

        Args:
            regions: (batch, regions, width) encoded crops.
            patches: (batch, patches, width) tokens of the whole images.

        Returns:
            (batch, regions, width).
        """
        attended, _ = self.attention(regions, patches, patches, need_weights=False)
        fused = self.norm_attention(regions + attended)
        return self.norm_output(fused + self.feed_forward(fused))
