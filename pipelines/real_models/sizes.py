"""What the models weigh: the figures that memory and disk are reckoned from."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    """A model of the Hugging Face hub.

    Attributes:
        parameters: How many it has.
        parameter_bytes: Of one, in the file and in memory.
        image_bytes: What one image of a batch needs while it is answered, beside the weights.
        token_bytes: Of a token in the cache of a language model, all layers together.
    """

    parameters: int
    parameter_bytes: int
    image_bytes: int = 0
    token_bytes: int = 0

    @property
    def weights(self) -> int:
        """Bytes of the weights."""
        return self.parameters * self.parameter_bytes


# Grounding DINO and MedSAM: parameters as `transformers` counts them in the published configurations, in float32; an
# image's bytes are the growth of the process's peak on a CPU with random weights (800 x 1333 and 1024 x 1024 pixels).
# That of the tiny Grounding DINO was not measured: it has the base one's. Qwen2.5-VL: parameters as published, in
# bfloat16; a token is 2 x layers x key-value heads x 128 x 2 bytes (docs/operations.md, Machines).
SIZES = {
    "IDEA-Research/grounding-dino-base": ModelSize(
        parameters=232_315_264, parameter_bytes=4, image_bytes=1_540_000_000
    ),
    "IDEA-Research/grounding-dino-tiny": ModelSize(
        parameters=172_250_626, parameter_bytes=4, image_bytes=1_540_000_000
    ),
    "wanglab/medsam-vit-base": ModelSize(parameters=93_735_728, parameter_bytes=4, image_bytes=1_820_000_000),
    "Qwen/Qwen2.5-VL-3B-Instruct": ModelSize(parameters=3_750_000_000, parameter_bytes=2, token_bytes=36 * 1024),
    "Qwen/Qwen2.5-VL-7B-Instruct": ModelSize(parameters=8_300_000_000, parameter_bytes=2, token_bytes=56 * 1024),
    "Qwen/Qwen2.5-VL-32B-Instruct": ModelSize(parameters=33_500_000_000, parameter_bytes=2, token_bytes=256 * 1024),
    "Qwen/Qwen2.5-VL-72B-Instruct": ModelSize(parameters=73_400_000_000, parameter_bytes=2, token_bytes=320 * 1024),
}
