"""Where a backbone of `transformers` puts the patches of an image: declared for each family of models, never assumed.

Families differ in what stands before the patches (a class token, a distillation token, registers), in what stands for
the whole image, and in the sizes of images that they take. Read wrongly, they give features of the wrong places without
an error. A family that is not declared is refused.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

Setting = Callable[[Any], int]


def _patch_size(settings: Any) -> int:
    return int(settings.patch_size)


def _hidden_size(settings: Any) -> int:
    return int(settings.hidden_size)


def _last_hidden_size(settings: Any) -> int:
    return int(settings.hidden_sizes[-1])


@dataclass(frozen=True, kw_only=True)
class TokenLayout:
    """What the backbones of one family give. Functions take the backbone's `transformers` configuration.

    Attributes:
        stride: Pixels along the side of a patch.
        width: Size of a patch's vector.
        prefix: Tokens before the patches; of a backbone that gives a map (batch, width, rows, columns), none.
        class_token: The first token stands for the whole image.
        head: `pooler_output` stands for the whole image, as it did in the family's training.
        attended: Path of the module whose output the class token is last made of: Grad-CAM's layer where only the class
            token is read. Numbers are places in lists, the last one being -1.
        options: What its `forward` takes beside the pixels, so that images need not have the size it was trained with.
        side: The only side of an image that it takes, in pixels; None where there are others.
        pads: It fills images up to whole patches; others must have such a side.
        centre: Where in its cell the middle of what a position sees lies, down and across: 0.5 in the middle. Strided
            convolutions of odd size move it to a corner (0: the first pixel). Maps are shown as if it were 0.5.
    """

    stride: Setting = _patch_size
    width: Setting = _hidden_size
    prefix: Setting = lambda settings: 0
    class_token: bool = False
    head: Callable[[Any], bool] = lambda settings: False
    attended: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    side: Callable[[Any], int | None] = lambda settings: None
    pads: bool = False
    centre: float = 0.5

    def poolings(self, settings: Any) -> tuple[str, ...]:
        """What may stand for the whole image, the family's own choice first."""
        own = [*(["head"] if self.head(settings) else []), *(["first"] if self.class_token else [])]
        return (*own, "mean", "max")

    def refuse_side(self, settings: Any, side: int) -> None:
        """Refuse images of which the backbone would see only a part, or none.

        Raises:
            ValueError: `side` pixels are not a side that it takes.
        """
        family, only, stride = settings.model_type, self.side(settings), self.stride(settings)
        if only is not None and side != only:
            raise ValueError(f"images of {side} pixels: {family} of image_size {only} takes no others")
        if not self.pads and side % stride:
            lower = side - side % stride
            choices = " or ".join(str(size) for size in (lower, lower + stride) if size)
            raise ValueError(
                f"images of {side} pixels: {family} of patch_size {stride} would not see the last {side - lower}; "
                f"choose {choices}"
            )

    def patches(self, settings: Any, hidden: Tensor) -> Tensor:
        """`last_hidden_state` -> (batch, patches, width), by rows."""
        return hidden.flatten(2).mT if hidden.ndim == 4 else hidden[:, self.prefix(settings) :]

    def grid(self, settings: Any, hidden: Tensor) -> Tensor:
        """Features of the positions of square images, of any layer -> (batch, rows, columns, width)."""
        return as_grid(self.patches(settings, hidden))

    def attended_module(self, backbone: nn.Module) -> nn.Module | None:
        """The module at `attended`; None where the family has no class token, or the backbone no layer."""
        if self.attended is None:
            return None
        module: Any = backbone
        for name in self.attended.split("."):
            if not name.lstrip("-").isdigit():
                module = getattr(module, name)
            elif len(module):
                module = module[int(name)]
            else:
                return None
        return module


def as_grid(values: Tensor) -> Tensor:
    """(batch, patches, ...) of a square image, by rows -> (batch, rows, columns, ...)."""
    return values.unflatten(1, (math.isqrt(values.shape[1]), -1))


_INTERPOLATES = {"interpolate_pos_encoding": True}

_VIT = TokenLayout(
    prefix=lambda settings: 1, class_token=True, attended="layers.-1.layernorm_before", options=_INTERPOLATES
)
_SIGLIP = TokenLayout(head=lambda settings: settings.vision_use_head, options=_INTERPOLATES)
_SWIN = TokenLayout(
    stride=lambda settings: settings.patch_size * 2 ** (len(settings.depths) - 1), options=_INTERPOLATES, pads=True
)
_CONVNEXT = TokenLayout(
    stride=lambda settings: settings.patch_size * 2 ** (settings.num_stages - 1), width=_last_hidden_size
)


LAYOUTS: dict[str, TokenLayout] = {
    "vit": _VIT,
    # A distillation token beside the class token.
    "deit": TokenLayout(
        prefix=lambda settings: 2, class_token=True, attended="layers.-1.layernorm_before", options=_INTERPOLATES
    ),
    # `pooler_output` is the class token behind the last normalisation, which `last_hidden_state` has not.
    "clip_vision_model": TokenLayout(
        prefix=lambda settings: 1,
        class_token=True,
        head=lambda settings: True,
        attended="encoder.layers.-1.layer_norm1",
        options=_INTERPOLATES,
    ),
    "siglip_vision_model": _SIGLIP,
    "siglip2_vision_model": TokenLayout(head=lambda settings: settings.vision_use_head),
    "dinov2": TokenLayout(prefix=lambda settings: 1, class_token=True, attended="encoder.layer.-1.norm1"),
    "dinov2_with_registers": TokenLayout(
        prefix=lambda settings: 1 + settings.num_register_tokens, class_token=True, attended="encoder.layer.-1.norm1"
    ),
    "dinov3_vit": TokenLayout(
        prefix=lambda settings: 1 + settings.num_register_tokens, class_token=True, attended="model.layer.-1.norm1"
    ),
    # Its class token is the normalised mean of the patches.
    "dinov3_convnext": TokenLayout(
        stride=lambda settings: 4 * 2 ** (settings.num_stages - 1),
        width=_last_hidden_size,
        prefix=lambda settings: 1,
        class_token=True,
        attended="model",
    ),
    "swin": _SWIN,
    "swinv2": _SWIN,
    "convnext": _CONVNEXT,
    "convnextv2": _CONVNEXT,
    "resnet": TokenLayout(
        stride=lambda settings: 4 * 2 ** (len(settings.depths) - 1 + settings.downsample_in_first_stage),
        width=_last_hidden_size,
        pads=True,
        centre=0,
    ),
    "efficientnet": TokenLayout(
        stride=lambda settings: 2 * math.prod(settings.strides),
        width=lambda settings: settings.hidden_dim,
        pads=True,
        centre=1,
    ),
    # The last of its stages has a class token; its positions are those of one size of images.
    "pvt": TokenLayout(
        stride=lambda settings: math.prod(settings.patch_sizes),
        width=_last_hidden_size,
        prefix=lambda settings: 1,
        class_token=True,
        attended="encoder.block.-1.-1.layer_norm_1",
        side=lambda settings: settings.image_size,
    ),
    "pvt_v2": TokenLayout(
        stride=lambda settings: math.prod(settings.strides), width=_last_hidden_size, pads=True, centre=0
    ),
}


def layout_of(settings: PretrainedConfig) -> TokenLayout:
    """The layout of a backbone by its configuration.

    Raises:
        ValueError: Its family is not declared.
    """
    family = settings.model_type
    if family not in LAYOUTS:
        raise ValueError(f"model_type {family}: where its patches stand is known of these alone: {', '.join(LAYOUTS)}")
    return LAYOUTS[family]


def run(backbone: PreTrainedModel, pixels: Tensor) -> Any:
    """What a backbone gives for square images (batch, 3, side, side) with the statistics that it expects.

    Raises:
        ValueError: It would see only a part of them.
    """
    settings: Any = backbone.config
    layout = layout_of(settings)
    layout.refuse_side(settings, pixels.shape[-1])
    if settings.model_type == "siglip2_vision_model":
        return backbone(**_cut_into_patches(pixels, settings.patch_size))
    return backbone(pixel_values=pixels, **layout.options)


def _cut_into_patches(pixels: Tensor, size: int) -> dict[str, Tensor]:
    """SigLIP 2 takes the patches of an image, by rows, each as its pixels by rows with their channels together."""
    rows = pixels.shape[-1] // size
    patches = pixels.unflatten(3, (rows, size)).unflatten(2, (rows, size)).permute(0, 2, 4, 3, 5, 1)
    values = patches.flatten(3).flatten(1, 2)
    shape = pixels.new_full((len(pixels), 2), rows).long()
    return {"pixel_values": values, "pixel_attention_mask": shape.new_ones(values.shape[:2]), "spatial_shapes": shape}
