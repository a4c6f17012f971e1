"""Settings of the method."""

from dataclasses import dataclass

from models.encoders import EncoderConfig

# Image features that are aligned with the text: of the whole, and of positions at 1/32, 1/16 and 1/8.
LEVELS = ("global", 32, 16, 8)
FORMS = ("rescaled", "literal")
UPSAMPLINGS = ("bilinear", "nearest")


@dataclass(frozen=True, kw_only=True)
class TmcaConfig:
    """Settings of `Tmca`. The papers give none of the temperatures and no number of heads.

    The papers' ablations: without TSDM `tsdm: false`; without LTEM `ltem: false`; without MCAS (004, table 2)
    `levels: [global]`; the baseline has `tsdm: false, ltem: false, levels: []`.

    Attributes:
        image_encoder: A ConvNeXt; the papers' is the tiny one. With `pyramid_widths` any other.
        text_encoder: A BERT; the papers take the mean of the last three layers (`last_layers: 3`).
        pyramid_widths: Make the features at 1/4, 1/8, 1/16 and 1/32 of the image encoder's patches, of these widths;
            None: they are its four stages.
        heads: Of both attentions.
        levels: MCAS: which of `LEVELS` are aligned; the contrastive loss is their mean, and there is none without any.
        tsdm: Targets of the alignment from the overlap of the masks; otherwise each image has its own text alone.
        ltem: Multiply what a block gives with the map of where image and text agree.
        ltem_form: literal: the map as printed, a softmax over N positions, which shrinks features N-fold in the mean;
            rescaled: N times that, of mean 1.
        ltem_upsampling: Of the map.
        target_temperature: tau_1, of the masks' Dice coefficients.
        temperature: tau_2, of the cosines of images and texts.
        map_temperature: tau_3, of the cosines of positions and text.
        contrastive_weight: Of the contrastive loss beside 1 for the segmentation (004, eq. 4: 1).
    """

    image_encoder: EncoderConfig
    text_encoder: EncoderConfig
    pyramid_widths: tuple[int, ...] | None = None
    heads: int = 4
    levels: tuple[int | str, ...] = LEVELS
    tsdm: bool = True
    ltem: bool = True
    ltem_form: str = "rescaled"
    ltem_upsampling: str = "bilinear"
    target_temperature: float = 0.1
    temperature: float = 0.07
    map_temperature: float = 0.5
    contrastive_weight: float = 1.0

    def __post_init__(self) -> None:
        if self.heads < 1:
            raise ValueError("heads must be at least 1")
        if unknown := [level for level in self.levels if level not in LEVELS]:
            raise ValueError(f"levels {unknown} are not among: {', '.join(map(str, LEVELS))}")
        if len(set(self.levels)) < len(self.levels):
            raise ValueError("levels names a level twice")
        if self.tsdm and not self.levels:
            raise ValueError("tsdm makes the targets of an alignment, but levels is empty: set tsdm to false")
        for name, choices in (("ltem_form", FORMS), ("ltem_upsampling", UPSAMPLINGS)):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} '{getattr(self, name)}' is not one of: {', '.join(choices)}")
        for name in ("target_temperature", "temperature", "map_temperature"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive")
        if self.contrastive_weight <= 0:
            raise ValueError("contrastive_weight must be positive: to switch the alignment off, leave levels empty")
