"""The segmenter `sam3`: masks from boxes.

Carion et al., "SAM 3: Segment Anything with Concepts", arXiv:2511.16719, by `transformers`. For a box it has the
decoder of SAM 2 on an encoder of its own. What it does with phrases is the proposer `sam3_phrases`, of the same
checkpoint.
"""

from transformers import Sam3TrackerModel

from pipelines.proposals.segmenters.sam2 import Sam2


class Sam3(Sam2):
    """As `Sam2`, with the options of `proposals.options.sam3`."""

    name = "sam3"
    kind = Sam3TrackerModel
    model_types = ("sam3_video", "sam3_tracker")
