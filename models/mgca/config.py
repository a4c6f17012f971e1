"""Settings of the method."""

from dataclasses import dataclass

from models.dual_encoder import DualEncoderConfig


@dataclass(frozen=True, kw_only=True)
class MgcaConfig(DualEncoderConfig):
    """Settings of `Mgca`; the defaults are those of the published code (github.com/HKU-MedAI/MGCA, mgca_module.py).

    Attributes:
        hidden_size: Features inside the non-linear projections.
        temperature: Of the contrast of images and reports.
        token_temperature: Of the cross-attention, and of the contrast within an image or report.
        token_weight: Of the token loss beside 1 for the contrast of images and reports.
        prototypes: Clusters that images and reports share.
        prototype_temperature: Of the predicted cluster.
        prototype_weight: Of the prototype loss. The code has 0.5 beside the sum of both directions of the other two
            losses, which are means here.
        sinkhorn_temperature: epsilon of the assignment to clusters.
        sinkhorn_iterations: Of the assignment.
    """

    hidden_size: int = 2048
    temperature: float = 0.07
    token_temperature: float = 0.1
    token_weight: float = 0.7
    prototypes: int = 500
    prototype_temperature: float = 0.2
    prototype_weight: float = 0.25
    sinkhorn_temperature: float = 0.05
    sinkhorn_iterations: int = 3
