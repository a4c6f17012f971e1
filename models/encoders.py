"""Encoders from `transformers`: a pretrained folder or hub id, or an architecture from scratch.

Image encoders, and what text encoders (`models/text_encoder.py`) share with them.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import (
    AutoConfig,
    AutoModel,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    PreTrainedModel,
)

from models import token_layout
from models.frozen_images import ImageFeatureStore
from models.loading import HEADS, load_whole, loading, pixel_statistics
from models.ranges import at_least

POOLINGS = ("first", "mean", "max", "head")


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Which encoder to build.

    Attributes:
        pretrained: Folder or hub id in `transformers` format (safetensors only); None trains from scratch.
        revision: Revision of a hub id; pin it.
        architecture: Without `pretrained`: `model_type` and the settings of its `transformers` configuration.
        convolutional_stem: Replace a ViT's patch projection by stride-2 convolutions, which learn from few images
            (a 0.3 M parameter ViT without it reached a third of the recall in the same time).
        pooling: Which vector stands for the whole: the `first` token or the `mean` of the others. Of an image encoder
            also `head`, what its family was trained to give (SigLIP's attention over the patches, CLIP's normalised
            class token), and `max`, the largest value of each feature over the patches, behind a perceptron of two
            layers: in the mean over an image a small finding is lost. None: of a text the first token, of an image what
            its family does (`models/token_layout.py`): head, else class token, else mean.
        last_layers: Of a text encoder: layers, from the last, of which the mean is taken (paper 002: 3).
        frozen: Keep the weights as they were loaded, and encode each text, image and crop only once: texts once a run,
            images once for all runs with these weights (`models/frozen_images.py`).
        crop: Side in pixels of the square that images are cut to, at random in training and from the centre otherwise
            (paper 000 has 224 of 256); smaller images stay whole.
        frozen_batch_norm: Keep the statistics and weights of BatchNorm layers as they were loaded: those of images and
            of crops differ, and each worker has its own.
    """

    pretrained: str | None = None
    revision: str | None = None
    architecture: dict[str, Any] = field(default_factory=dict)
    convolutional_stem: bool = False
    pooling: str | None = None
    last_layers: int = 1
    frozen: bool = False
    crop: int | None = None
    frozen_batch_norm: bool = False

    def __post_init__(self) -> None:
        if (self.pretrained is None) == (not self.architecture):
            raise ValueError("give either 'pretrained' or 'architecture'")
        if self.pooling is not None and self.pooling not in POOLINGS:
            raise ValueError(f"pooling '{self.pooling}' is not one of: {', '.join(POOLINGS)}")
        at_least(1, last_layers=self.last_layers, crop=self.crop)

    def refuse(self, kind: str, **unused: bool) -> None:
        """Refuse settings that an encoder does not have, so that none is ignored.

        Args:
            kind: Whose they are.
            unused: Setting -> whether it is set.

        Raises:
            ValueError: One is set.
        """
        if named := [name for name, is_set in unused.items() if is_set]:
            raise ValueError(f"{', '.join(named)}: {kind} encoders alone have this setting; remove it here")


def backbone_of(
    config: EncoderConfig, *, reads_text: bool, projects: bool = False, **overrides: Any
) -> PreTrainedModel:
    if config.pretrained is not None:
        with loading(config.pretrained, "weights"):
            # Without the last argument transformers asks at a terminal whether code of the folder may run.
            whole = AutoConfig.from_pretrained(config.pretrained, revision=config.revision, trust_remote_code=False)
        # Of a checkpoint of both towers (CLIP, SigLIP), one alone.
        known = whole.get_text_config() if reads_text else getattr(whole, "vision_config", whole)
        if type(known) not in AutoModel._model_mapping:
            raise ValueError(
                f"{config.pretrained}: its {known.model_type} is no encoder that AutoModel loads by itself"
            )
        model_class: Any = AutoModel
        if projects and isinstance(known, CLIPTextConfig):
            # Its width is a setting of both towers together.
            model_class, known.projection_dim = CLIPTextModelWithProjection, whole.projection_dim
        return load_whole(model_class, config.pretrained, beside=HEADS, config=known, revision=config.revision)
    settings = {**config.architecture, **overrides}
    model_type = settings.pop("model_type", None)
    if model_type is None:
        raise ValueError("architecture needs 'model_type', such as vit or bert")
    known = AutoConfig.for_model(model_type)
    # transformers takes any keyword in silence; a mistyped one would train another model than the configured one.
    if unknown := [name for name in settings if not hasattr(known, name)]:
        raise ValueError(f"architecture of {model_type} has no setting {', '.join(unknown)}")
    known = AutoConfig.for_model(model_type, **settings)
    if projects and isinstance(known, CLIPTextConfig):
        return CLIPTextModelWithProjection(known)
    return AutoModel.from_config(known)


def architecture_of(backbone: PreTrainedModel) -> dict[str, Any]:
    """The settings that rebuild a backbone without its weights' origin.

    Files of old releases have settings that the model of this one does not know, and so does not read.
    """
    model_type = backbone.config.model_type
    known = AutoConfig.for_model(model_type)
    settings = {name: value for name, value in backbone.config.to_diff_dict().items() if hasattr(known, name)}
    return {**settings, "model_type": model_type}


class TransformersEncoder(nn.Module):
    """What both encoders share.

    Attributes:
        width: Size of the feature vectors.
        uses_bfloat16: Compute in bfloat16 where that is safe (autocast); what comes out has the type of the weights.
        rows_at_a_time: In training, rows whose activations are held at once. The others are computed again in the
            backward pass, so that a loss sees the whole batch whatever the memory (Gao et al. 2021, GradCache).
    """

    uses_bfloat16: bool = False
    rows_at_a_time: int | None = None

    def __init__(self, config: EncoderConfig, backbone: PreTrainedModel, width: int) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.width = width

    def configure_compute(self, *, bfloat16: bool, micro_batch_size: int | None, compiled: bool) -> None:
        """See `Method.configure_compute`."""
        self.uses_bfloat16 = bfloat16
        self.rows_at_a_time = micro_batch_size
        if compiled:
            # In place: the names in the state dict stay.
            self.backbone.compile()

    def standalone_config(self) -> EncoderConfig:
        """The settings that rebuild it without the origin of its weights, which lie in the checkpoint."""
        return replace(self.config, pretrained=None, revision=None, architecture=architecture_of(self.backbone))

    def _in_parts(self, encode: Callable[..., tuple[Tensor, Tensor]], *inputs: Tensor) -> tuple[Tensor, Tensor]:
        rows = self.rows_at_a_time
        if rows is None or not torch.is_grad_enabled() or len(inputs[0]) <= rows:
            return encode(*inputs)
        parts = zip(*(tensor.split(rows) for tensor in inputs), strict=True)
        wholes, locals_ = zip(*(checkpoint(encode, *part, use_reentrant=False) for part in parts), strict=True)
        return torch.cat(wholes), torch.cat(locals_)

    def _autocast(self, device: torch.device) -> torch.autocast:
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.uses_bfloat16)


def keep_features(model: nn.Module, folder: Path) -> None:
    """Let every frozen image encoder of a model keep its features in a file of this folder."""
    for encoder in _image_encoders(model):
        encoder.features_folder = folder


@contextmanager
def encoding_anew(model: nn.Module) -> Iterator[None]:
    """Within it images are encoded whether or not their features are kept: to measure what that takes."""
    folders = {encoder: encoder.features_folder for encoder in _image_encoders(model)}
    for encoder in folders:
        encoder.features_folder = None
    try:
        yield
    finally:
        for encoder, folder in folders.items():
            encoder.features_folder = folder


def _image_encoders(model: nn.Module) -> list["ImageEncoder"]:
    return [part for part in model.modules() if isinstance(part, ImageEncoder)]


class ImageEncoder(TransformersEncoder):
    """f_img of paper 001, eq. 1.

    Pixels come in as the bytes of the image; a pretrained encoder gets them with the mean and deviation that it was
    trained with, another one from -1 to 1.
    """

    scale: Tensor
    shift: Tensor
    # Where features are kept, where it is frozen (`keep_features`).
    features_folder: Path | None = None

    def __init__(self, config: EncoderConfig) -> None:
        config.refuse("text", last_layers=config.last_layers != 1)
        if config.pretrained is not None and config.convolutional_stem:
            raise ValueError("convolutional_stem replaces the patch projection that `pretrained` has: set it to null")
        backbone = backbone_of(config, reads_text=False)
        settings = backbone.config
        self.layout = token_layout.layout_of(settings)
        super().__init__(config, backbone, self.layout.width(settings))
        poolings = self.layout.poolings(settings)
        self.pooling = config.pooling or poolings[0]
        if self.pooling not in poolings:
            raise ValueError(f"pooling {self.pooling}: {settings.model_type} has none; choose {', '.join(poolings)}")
        if self.pooling == "first" and not getattr(settings, "num_hidden_layers", 1):
            raise ValueError(f"pooling first of a {settings.model_type} without layers sees no pixel: choose mean")
        if config.convolutional_stem:
            if settings.model_type != "vit":
                raise ValueError(f"convolutional_stem is for model_type vit, not {settings.model_type}")
            embeddings: Any = self.backbone.embeddings
            embeddings.patch_embeddings.projection = _Stem(settings.patch_size, self.width)
        if config.frozen and config.crop is not None:
            raise ValueError("crop cuts images at random in training, frozen keeps features of whole ones: drop one")
        self.perceptron = _perceptron(self.width) if self.pooling == "max" else None
        self.store: ImageFeatureStore | None = None
        if config.frozen:
            backbone.requires_grad_(False)
        published = config.pretrained
        mean, deviation = pixel_statistics(published, config.revision) if published else ([0.5] * 3, [0.5] * 3)
        # In the state dict, so that a checkpoint needs the origin of its weights no more.
        self.register_buffer("scale", 1 / (255 * torch.tensor(deviation).view(1, 3, 1, 1)))
        self.register_buffer("shift", -torch.tensor(mean).view(1, 3, 1, 1) * 255 * self.scale)
        self.train(self.training)

    def visible_crop(self, side: int) -> slice:
        """The rows, and likewise the columns, that it sees in evaluation of a square image of `side` pixels."""
        visible = min(side, self.config.crop or side)
        first = (side - visible + 1) // 2
        return slice(first, first + visible)

    @property
    def has_batch_norm(self) -> bool:
        """Whether images of a batch change one another's features in training."""
        return not self.config.frozen and not self.config.frozen_batch_norm and bool(_batch_norms(self))

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.config.frozen:
            self.backbone.eval()
        if self.config.frozen_batch_norm:
            for layer in _batch_norms(self):
                layer.eval().requires_grad_(False)
        return self

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, 3, height, width), 0 to 255 -> whole (batch, width) and patches (batch, patches, width), by rows."""
        # Grad-CAM, which asks for gradients in evaluation, needs the backbone itself.
        if self.config.frozen and self.features_folder is not None and (self.training or not torch.is_grad_enabled()):
            whole, patches = self._store(self.features_folder)(pixels, self._features)
        else:
            whole, patches = self._in_parts(self._features, self._crop(pixels))
        if self.perceptron is not None:
            return self.perceptron(patches).amax(dim=1), patches
        return whole, patches

    def pyramid(self, pixels: Tensor) -> list[Tensor]:
        """Features of every stage of a convolutional backbone: (batch, width, rows, columns), the finest first."""
        with self._autocast(pixels.device):
            output = self.backbone(pixel_values=self._crop(pixels) * self.scale + self.shift, output_hidden_states=True)
        # The first is what enters the first stage.
        return [hidden.to(self.scale.dtype) for hidden in output.hidden_states[1:]]

    def _store(self, folder: Path) -> ImageFeatureStore:
        # Not before the first image: how it computes is set by then.
        if self.store is None:
            settings = json.dumps(architecture_of(self.backbone), sort_keys=True, default=str)
            facts = [self.pooling, self.uses_bfloat16, self.scale.tolist(), self.shift.tolist(), self.scale.device.type]
            self.store = ImageFeatureStore(folder, self.backbone, f"{settings} {facts}")
        return self.store

    def _features(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Whole and patches; the mean where a perceptron makes the whole."""
        # Grad-CAM asks for gradients behind frozen weights, too; training does not.
        trains = torch.is_grad_enabled() and not (self.training and self.config.frozen)
        with torch.set_grad_enabled(trains), self._autocast(pixels.device):
            output = token_layout.run(self.backbone, pixels * self.scale + self.shift)
        hidden = output.last_hidden_state.to(self.scale.dtype)
        patches = self.layout.patches(self.backbone.config, hidden)
        if self.pooling == "head":
            return output.pooler_output.to(self.scale.dtype), patches
        return (hidden[:, 0] if self.pooling == "first" else patches.mean(dim=1)), patches

    def _crop(self, pixels: Tensor) -> Tensor:
        side = self.config.crop
        if side is None or pixels.shape[-1] <= side:
            return pixels
        room = pixels.shape[-1] - side + 1
        if not self.training:
            return pixels[..., room // 2 : room // 2 + side, room // 2 : room // 2 + side]
        # Drawn on the CPU, whose random state is saved: a resumed run cuts where the unbroken one would have.
        corners = torch.randint(room, (len(pixels), 2)).tolist()
        return torch.stack(
            [image[:, y : y + side, x : x + side] for image, (y, x) in zip(pixels, corners, strict=True)]
        )


def _perceptron(width: int) -> nn.Sequential:
    """Of each patch by itself, before the maximum: a feature may then stand for what is there and where."""
    return nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))


def _batch_norms(module: nn.Module) -> list[nn.Module]:
    return [layer for layer in module.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]


class _Stem(nn.Conv2d):
    """Stride-2 convolutions to the patch grid; itself the last one, for ViT asks its projection for `weight.dtype`."""

    def __init__(self, patch_size: int, width: int) -> None:
        super().__init__(width, width, 1)
        steps = patch_size.bit_length() - 1
        if steps < 1 or 2**steps != patch_size:
            raise ValueError(f"convolutional_stem halves the image; patch_size {patch_size} is no power of 2 from 2 on")
        layers: list[nn.Module] = []
        channels = 3
        for step in range(steps):
            wider = width // 2 ** (steps - 1 - step)
            layers.append(nn.Conv2d(channels, wider, 3, stride=2, padding=1, bias=False))
            # GroupNorm: batch statistics of images and of crops differ, and workers would each have their own.
            layers += [nn.GroupNorm(1, wider), nn.GELU()]
            channels = wider
        self.body = nn.Sequential(*layers)

    def forward(self, pixels: Tensor) -> Tensor:
        return super().forward(self.body(pixels))


def unit_length(features: Tensor) -> Tensor:
    """Eq. 2 of paper 001: vectors of length 1."""
    return torch.nn.functional.normalize(features, dim=-1)
