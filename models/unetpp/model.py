"""UNet++ (Zhou et al. 2018) as MONAI builds it."""

from monai.networks.nets.basic_unetplusplus import BasicUNetPlusPlus
from torch import Tensor, nn

from models.data.batches import Images, Tokens
from models.segmentation.method import SegmentationMethod
from models.segmentation.pixels import check_sides, scaled
from models.unetpp.config import UNetPlusPlusConfig


class UNetPlusPlus(SegmentationMethod):
    """Ignores the text.

    Without deep supervision: the mask is the deepest decoder's alone, and the heads of the other three are not built,
    which MONAI would compute in vain.
    """

    Config = UNetPlusPlusConfig
    reads_text = False

    def __init__(self, config: UNetPlusPlusConfig, vocabulary_size: int) -> None:
        super().__init__()
        self.config = config
        widths = [config.base * 2**level for level in range(5)]
        self.network = BasicUNetPlusPlus(spatial_dims=2, in_channels=3, out_channels=1, features=(*widths, config.base))
        for head in ("final_conv_0_1", "final_conv_0_2", "final_conv_0_3"):
            setattr(self.network, head, nn.Identity())

    @property
    def first_decoder(self) -> nn.Module:
        return self.network.upcat_3_1

    def logits(self, images: Images, tokens: Tokens) -> Tensor:
        # Of 16 pixels nothing but one position would be left, of which InstanceNorm has no deviation.
        check_sides("unetpp", images.pixels, 16, 32)
        (logits,) = self.network(scaled(images.pixels))
        return logits.squeeze(1)
