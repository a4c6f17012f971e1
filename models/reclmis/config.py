"""Settings of the method."""

from dataclasses import dataclass

from models.encoders import EncoderConfig
from models.ranges import at_least
from models.reclmis.variants import VARIANTS, Variant
from models.segmentation.blocks import LEVELS

CHOICES = {
    "variant": tuple(VARIANTS),
    "interaction": ("cross", "self", "none"),
    "reconstruction": ("cross", "self"),
    "masking": ("learned", "random"),
}
POSITIVE = (
    "temperature",
    "segmentation_weight",
    "contrastive_weight",
    "vision_reconstruction_weight",
    "language_reconstruction_weight",
)


@dataclass(frozen=True, kw_only=True)
class RecLMISConfig:
    """Settings of `RecLMIS`.

    Attributes:
        text_encoder: What reads the text (published: CLIP ViT-B/32's text tower, frozen).
        base: Channels at full size.
        image_encoder: Whose patches are mixed with the deepest features (`models/segmentation/pretrained.py`).
        grid: Rows, and columns, of patches: the images' side / 16. Each has a learned position.
        variant: `paper` or `published`, see `variants.py`.
        text_length: Of `published`: tokens that a shorter text is filled up to (published: 18, for MoNuSeg 10).
        interaction: CI, table V: `cross` attention both ways; `self`, one attention over patches and words in one row;
            `none` is U-Net with PLAM, which reads no text (table III, row e).
        contrastive: CCL, eq. 6.
        vision_reconstruction: CVR, eqs. 7 and 8.
        language_reconstruction: CLR, eqs. 9 and 10.
        contrastive_condition: Patches and words count by their interest in eq. 5, or all equally (table IV).
        vision_condition: Interest conditions CVR: words in its attention (eq. 7), patches in its error (eq. 8).
        language_condition: Interest conditions CLR: patches in its attention (eq. 9), words in its error (eq. 10).
        reconstruction: Table V: `cross`, each modality from the other; `self`, masked patches and words in one row
            from unmasked patches and words in one row (section IV-D.5).
        masking: What is hidden is drawn with interest as its probability, or at `random` (figure 7).
        vision_mask_ratio: alpha_v, fraction of the patches that are hidden (figure 8).
        text_mask_ratio: alpha_t, fraction of a text's tokens that are hidden.
        layers: Of each reconstructor (figure 11: 1 to 10).
        heads: Of all attention; published code has 4, eqs. 1, 7 and 9 print one.
        dropout: Published: 0.1.
        temperature: tau of eq. 6, of which the paper names no value; published code has CLIP's, 0.01.
        segmentation_weight: lambda_4 of eq. 11.
        contrastive_weight: lambda_3.
        vision_reconstruction_weight: lambda_2.
        language_reconstruction_weight: lambda_1.
    """

    text_encoder: EncoderConfig
    base: int = 64
    image_encoder: EncoderConfig | None = None
    grid: int = 14
    variant: str = "paper"
    text_length: int = 18
    interaction: str = "cross"
    contrastive: bool = True
    vision_reconstruction: bool = True
    language_reconstruction: bool = True
    contrastive_condition: bool = True
    vision_condition: bool = True
    language_condition: bool = True
    reconstruction: str = "cross"
    masking: str = "learned"
    vision_mask_ratio: float = 0.5
    text_mask_ratio: float = 0.3
    layers: int = 3
    heads: int = 4
    dropout: float = 0.1
    temperature: float = 0.01
    segmentation_weight: float = 5.0
    contrastive_weight: float = 0.2
    vision_reconstruction_weight: float = 1.0
    language_reconstruction_weight: float = 1.0

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} '{getattr(self, name)}' is not one of: {', '.join(choices)}")
        for name in POSITIVE:
            if not getattr(self, name) > 0:
                advice = (
                    ": switch the component off instead" if name.startswith(("contrastive", "vision", "lang")) else ""
                )
                raise ValueError(f"{name} {getattr(self, name)} is not positive{advice}")
        for name in ("vision_mask_ratio", "text_mask_ratio"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give a fraction above 0 and up to 1")
        if self.text_length < 1:
            raise ValueError(f"text_length is {self.text_length}; give 1 or more")
        if not 1 <= self.layers <= 10:
            raise ValueError(f"layers is {self.layers}; give 1 to 10")
        at_least(1, base=self.base, grid=self.grid, heads=self.heads)
        if self.width % self.heads:
            raise ValueError(f"8 base = {self.width} is no multiple of heads {self.heads}")
        self._check_components()

    def _check_components(self) -> None:
        parts = [
            part for part in ("contrastive", "vision_reconstruction", "language_reconstruction") if getattr(self, part)
        ]
        if self.interaction == "none" and parts:
            raise ValueError(f"interaction none leaves nothing to train {', '.join(parts)} with: switch them off")
        hides_patches = self.vision_reconstruction or (self.language_reconstruction and self.reconstruction == "self")
        hides_words = self.language_reconstruction or (self.vision_reconstruction and self.reconstruction == "self")
        masks = (("patches", hides_patches, self.weighs_patches), ("words", hides_words, self.weighs_words))
        for what, hides, weighs in masks:
            if self.masking == "learned" and hides and not weighs:
                raise ValueError(f"no loss trains the interest in {what} that masking draws by: choose masking random")

    @property
    def width(self) -> int:
        """Channels of the deepest features, of patches and of words."""
        return LEVELS[-1] * self.base

    @property
    def differences(self) -> Variant:
        return VARIANTS[self.variant]

    @property
    def weighs_patches(self) -> bool:
        """Whether a loss depends on the interest in patches, W_poi, and so trains it."""
        vision = self.differences.weighted_error or self.reconstruction == "self"
        return (
            (self.contrastive and self.contrastive_condition)
            or (self.language_reconstruction and self.language_condition)
            or (self.vision_reconstruction and self.vision_condition and vision)
        )

    @property
    def weighs_words(self) -> bool:
        """Whether a loss depends on the interest in words, W_woi, and so trains it."""
        language = self.differences.weighted_error or self.reconstruction == "self"
        return (
            (self.contrastive and self.contrastive_condition)
            or (self.vision_reconstruction and self.vision_condition)
            or (self.language_reconstruction and self.language_condition and language)
        )
