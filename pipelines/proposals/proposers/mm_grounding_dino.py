"""The proposer `mm_grounding_dino`: boxes for phrases.

Zhao et al., "An Open and Comprehensive Pipeline for Unified Object Grounding and Detection", arXiv:2401.02361, by
`transformers`. Grounding DINO trained anew, with a bias in the score and a head of its own for each decoder layer;
images and phrases go in, and boxes come out, as in `grounding_dino`.
"""

from transformers import MMGroundingDinoForObjectDetection

from pipelines.proposals.proposers.grounding_dino import GroundingDino


class MMGroundingDino(GroundingDino):
    """As `GroundingDino`, with the options of `proposals.options.mm_grounding_dino`."""

    name = "mm_grounding_dino"
    kind = MMGroundingDinoForObjectDetection
    model_type = "mm-grounding-dino"
