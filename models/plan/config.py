"""Settings of the method."""

from dataclasses import dataclass

from models.dual_encoder import DualEncoderConfig

NEGATIVES = ("batch", "report", "images")
MAPS = ("similarity", "grad_cam")


@dataclass(frozen=True, kw_only=True)
class PlanConfig(DualEncoderConfig):
    """Settings of `Plan`. What the paper leaves open has a default here and a reason.

    Attributes:
        global_temperature: tau_1 of eq. 2.
        local_temperature: tau_2 of eq. 12; it also divides the words' importance before Gumbel noise is added, for the
            noise has a deviation of 1.28 and importances differ by less than 0.1.
        iterations: T of eq. 26.
        keep_ratio: Fraction of its words that an iteration keeps. The paper's figure 7 keeps 0.59 to 0.81.
        smoothing: delta of eq. 14.
        unit_length: Words, patches and regions have length 1, so that similarities are cosines; False is eq. 4 as
            printed, whose scale nothing holds.
        rescale_importance: Multiply the co-importance by the number of its entries, so that eq. 7 gives means and not
            sums of terms near 1 / (L HW). As printed (False), eq. 8 differs from a constant by less than one percent.
        refine: Eqs. 7 to 9. False leaves the initial separation alone: the co-importance of eq. 6, and words chosen
            by eq. 5 (the ablation of the paper's table VI, with `iterations` 1).
        encode_again: From the second iteration on, encode the words that are left as a text of their own. False
            takes rows of the first similarity: then S_t equals the rows that are smoothed with it, and neither
            eq. 14 nor the t of eq. 27's global loss does anything.
        negatives: What a region is contrasted with: every word of the global batch but equal words of other reports,
            or the words of its own report, as eq. 12 is printed. `images` contrasts it with the regions that its word
            pools from the other images of the global batch, which a model that does not look at them cannot tell apart.
        map: Where a phrase is: `similarity` is the mean of S-tilde over the keywords; `grad_cam` leaves it to Grad-CAM
            of the image's embedding, with which the paper draws its figures.
    """

    global_temperature: float = 0.07
    local_temperature: float = 0.07
    iterations: int = 3
    keep_ratio: float = 0.7
    smoothing: float = 0.5
    unit_length: bool = True
    rescale_importance: bool = True
    refine: bool = True
    encode_again: bool = True
    negatives: str = "batch"
    map: str = "similarity"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.negatives not in NEGATIVES:
            raise ValueError(f"negatives '{self.negatives}' is not one of: {', '.join(NEGATIVES)}")
        if self.map not in MAPS:
            raise ValueError(f"map '{self.map}' is not one of: {', '.join(MAPS)}")
        if self.iterations < 1:
            raise ValueError(f"iterations is {self.iterations}; give at least 1")
        for name in ("keep_ratio", "smoothing"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give a fraction above 0 and up to 1")
