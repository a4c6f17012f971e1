"""Published checkpoints of CLIP, SigLIP and BiomedCLIP, with their image processor and tokenizer; not trained here."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.utils import cached_file

from models.data.batches import Batch, Images, Tokens
from models.encoders import architecture_of, unit_length
from models.loading import load_whole, loading
from models.method import Method
from models.pretrained import vit_bert
from models.pretrained.config import PretrainedConfig

# Of Pillow, whatever else is installed: the two backends of transformers round differently.
IMAGE_PROCESSORS = {
    "clip": CLIPImageProcessorPil,
    "siglip": SiglipImageProcessorPil,
    vit_bert.MODEL_TYPE: CLIPImageProcessorPil,
}


class Pretrained(Method):
    """Offers EmbedsImages, EmbedsRegions and EmbedsText.

    Args:
        config: Which checkpoint.
        vocabulary_size: Entries of the tokenizer.

    Raises:
        ValueError: It is not there, or of another shape.
    """

    Config = PretrainedConfig
    losses = ()
    normalises_text = False
    max_regions = 0

    def __init__(self, config: PretrainedConfig, vocabulary_size: int) -> None:
        super().__init__()
        settings = _settings(config)
        model_type = settings.model_type
        if model_type not in IMAGE_PROCESSORS:
            raise ValueError(f"{config.pretrained} is a {model_type}, not one of: {', '.join(IMAGE_PROCESSORS)}")
        if vocabulary_size > (limit := settings.text_config.vocab_size):
            raise ValueError(f"the tokenizer has {vocabulary_size} entries, more than the model's {limit}")
        self.model: Any = _model(config, settings)
        self.image_processor = _image_processor(config, IMAGE_PROCESSORS[model_type])
        # What rebuilds it without its origin: a checkpoint must stand alone.
        self.config = PretrainedConfig(
            architecture=(
                self.model.architecture() if isinstance(self.model, vit_bert.VitBert) else architecture_of(self.model)
            ),
            image_processor=json.loads(self.image_processor.to_json_string()),
            padding=self.pretrained_tokenizer(config).pad_token_id if config.pretrained else config.padding,
        )

    @classmethod
    def pretrained_tokenizer(cls, config: PretrainedConfig) -> PreTrainedTokenizerFast:
        """Its own, cut to the texts that its positions allow."""
        source, options = _origin(config)
        with loading(source, "tokenizer.json"):
            cached_file(source, "tokenizer.json", **options)
        # By that file alone: the class that SigLIP's names needs another library and has no word numbers.
        tokenizer = PreTrainedTokenizerFast.from_pretrained(source, **options)
        limit = _settings(config).text_config.max_position_embeddings
        tokenizer.model_max_length = min(tokenizer.model_max_length, limit)
        return tokenizer

    def forward(self, batch: Batch, losses: Sequence[str]) -> dict[str, Tensor]:
        """No losses: it is not trained here."""
        return {}

    def embed_images(self, images: Images) -> Tensor:
        return self._embed_pixels(images.pixels)

    def embed_regions(self, images: Images) -> Tensor:
        """A crop like a whole image: the method knows no better way."""
        return self._embed_pixels(images.crops)

    def embed_text(self, tokens: Tokens) -> Tensor:
        settings = self.model.config
        if settings.model_type == "siglip":
            # It was trained on texts of one length, whose padding it read: there is no mask.
            missing = settings.text_config.max_position_embeddings - tokens.ids.shape[1]
            ids = torch.nn.functional.pad(tokens.ids, (0, missing), value=self.config.padding)
            features = self.model.get_text_features(input_ids=ids)
        else:
            features = self.model.get_text_features(input_ids=tokens.ids, attention_mask=tokens.mask)
        return unit_length(features.pooler_output)

    def _embed_pixels(self, pixels: Tensor) -> Tensor:
        processed = self.image_processor(
            list(pixels.cpu().numpy()), input_data_format="channels_first", return_tensors="pt"
        )
        features = self.model.get_image_features(pixel_values=processed["pixel_values"].to(pixels.device))
        return unit_length(features.pooler_output)


def _origin(config: PretrainedConfig) -> tuple[str, dict[str, Any]]:
    return str(config.pretrained), {"revision": config.revision}


def _settings(config: PretrainedConfig) -> Any:
    """Its configuration in `transformers`, or one that is read like it."""
    if config.pretrained is None:
        if config.architecture.get("model_type") == vit_bert.MODEL_TYPE:
            return vit_bert.settings_of(config.architecture)
        return AutoConfig.for_model(**config.architecture)
    source, options = _origin(config)
    of_hub = Path(source) / "open_clip_config.json"
    if of_hub.is_file() and not of_hub.with_name("config.json").is_file():
        raise ValueError(f"{source} is of open_clip: name the folder that python -m pipelines.weights.open_clip makes")
    with loading(source, "config.json"):
        if vit_bert.is_vit_bert(Path(source)):
            return vit_bert.settings_in(Path(source))
        return AutoConfig.from_pretrained(source, **options, trust_remote_code=False)


def _model(config: PretrainedConfig, settings: Any) -> Any:
    """With its weights, or with random ones where `pretrained` names none."""
    is_pair = isinstance(settings, vit_bert.VitBertSettings)
    if config.pretrained is None:
        return vit_bert.VitBert(settings) if is_pair else AutoModel.from_config(settings)
    source, options = _origin(config)
    return vit_bert.load_vit_bert(Path(source), settings) if is_pair else load_whole(AutoModel, source, **options)


def _image_processor(config: PretrainedConfig, cls: Any) -> Any:
    if config.pretrained is None:
        return cls(**config.image_processor)
    source, options = _origin(config)
    with loading(source, "preprocessor_config.json"):
        return cls.from_pretrained(source, **options)
