"""Settings of the method."""

from dataclasses import dataclass, field

from models.data.negatives import NegativeCounts
from models.dual_encoder import DualEncoderConfig
from models.ranges import at_least
from models.text import normalise

EMBEDDINGS = ("global", "regions", "mean")
NEGATIVE_LOSSES = ("sigmoid", "softmax")
MAPS = ("regions", "patches", "grad_cam")


@dataclass(frozen=True, kw_only=True)
class RegionMedClipConfig(DualEncoderConfig):
    """Settings of `RegionMedClip`; whole images and region crops share the image encoder (eq. 1).

    Attributes:
        temperature: tau of eqs. 5 and 7.
        symmetric: Both directions of eqs. 5 and 7; False is the form as printed, image to text alone.
        negative_loss: sigmoid is eq. 6; softmax asks only that the region's own caption comes before the altered ones.
        negative_temperature: Divides N in eq. 6; None is the paper's form. The softmax has `temperature`.
        negatives: How many of a region's five altered captions differ in the adjective, the position or the term.
        terms: From which `negatives.term` takes another one; without any the stage `train` fills in those of the
            training split's regions.
        heads: Attention heads of the ROI processor.
        max_regions: Regions an image at most: of more, training draws some anew for each epoch, and evaluation takes
            the first, which are the best proposals.
        embedding: What stands for an image at inference, which the paper leaves open: its global embedding, the mean
            of its fused regions, or the mean of both. An image without regions is its own region.
        map: Where a phrase is: `regions` asks the ROI processor about windows all over the image; `patches` about
            patches, as `sentences` teaches them; `grad_cam` leaves it to Grad-CAM of the image's embedding, for a
            model whose ROI processor was not trained.
        windows: Of `map: regions`: sides of the windows as fractions of the image's side, about those of regions with
            their margin; of several sizes the mean counts.
        window_grid: Rows, and columns, of windows of each size, and of the map.
    """

    temperature: float = 0.07
    symmetric: bool = True
    negative_loss: str = "sigmoid"
    negative_temperature: float | None = None
    negatives: NegativeCounts = field(default_factory=NegativeCounts)
    terms: tuple[str, ...] = ()
    heads: int = 8
    max_regions: int = 4
    embedding: str = "mean"
    map: str = "regions"
    windows: tuple[float, ...] = (0.25,)
    window_grid: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.embedding not in EMBEDDINGS:
            raise ValueError(f"embedding '{self.embedding}' is not one of: {', '.join(EMBEDDINGS)}")
        if self.negative_loss not in NEGATIVE_LOSSES:
            raise ValueError(f"negative_loss '{self.negative_loss}' is not one of: {', '.join(NEGATIVE_LOSSES)}")
        if self.map not in MAPS:
            raise ValueError(f"map '{self.map}' is not one of: {', '.join(MAPS)}")
        if self.map == "patches" and not self.sentences:
            raise ValueError("map patches is what sentences teach: set sentences, or choose another map")
        # A window as large as the image has one place, and a map of one window says nothing.
        if not self.windows or any(not 0 < size < 1 for size in self.windows):
            raise ValueError(f"windows is {list(self.windows)}; give fractions of the side above 0 and below 1")
        at_least(2, window_grid=self.window_grid)
        at_least(1, heads=self.heads, max_regions=self.max_regions)
        different = {normalise(term) for term in self.terms}
        if self.terms and len(different) <= self.negatives.term:
            raise ValueError(
                f"negatives.term {self.negatives.term} needs {self.negatives.term + 1} different terms, and there are "
                f"{len(different)}: {', '.join(sorted(different))}"
            )
