"""Numbers in settings that would train nothing, or in the wrong direction, are refused in one line."""

import math
from typing import Any

import pytest

from models.encoders import EncoderConfig, ImageEncoder
from models.text_encoder import TextEncoder
from models.training.config import EngineConfig, Phase, TrainingConfig
from pipelines.config import parse
from pipelines.errors import UserError
from pipelines.registry import plugin
from tests.models.small import ENCODERS

PHASE = {"epochs": 1, "batch_size": 8, "learning_rate": 0.01, "losses": ("report",)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rate": 0}, "learning_rate is 0; give a number above 0"),
        ({"learning_rate": -0.01}, "learning_rate is -0.01"),
        ({"learning_rate": math.nan}, "learning_rate is nan"),
        ({"learning_rate": math.inf}, "learning_rate is inf"),
        ({"warmup_steps": -3}, "warmup_steps is -3; give 0 or more"),
        ({"losses": ("report", "report")}, "losses names one twice"),
    ],
)
def test_of_a_phase(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Phase(**PHASE | change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gradient_clip": -0.5}, "gradient_clip is -0.5; give a number above 0"),
        ({"gradient_clip": 0}, "gradient_clip is 0"),
        ({"gradient_clip": math.nan}, "gradient_clip is nan"),
        ({"weight_decay": -1}, "weight_decay is -1; give 0 or more"),
        ({"max_length": 0}, "max_length is 0; give 3 or more"),
        ({"max_length": -5}, "max_length is -5"),
        ({"vocabulary_size": 4}, "vocabulary_size is 4; give 5 or more"),
        ({"micro_batch_size": 0}, "micro_batch_size is 0; give 1 or more"),
    ],
)
def test_of_all_phases(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingConfig(phases={"one": Phase(**PHASE)}, **change)
    assert TrainingConfig(phases={"one": Phase(**PHASE)}, gradient_clip=math.inf).gradient_clip == math.inf


@pytest.mark.parametrize(
    "change",
    [
        {"seed": -1},
        {"threads": 0},
        {"num_workers": -1},
        {"loader_workers": -1},
        {"shuffle_buffer": 0},
        {"checkpoint_every": 0},
        {"max_failures": -1},
        {"min_workers": 0},
    ],
)
def test_of_the_engine(change: dict[str, int]) -> None:
    ((name, value),) = change.items()
    with pytest.raises(ValueError, match=f"{name} is {value}; give [01] or more"):
        EngineConfig(**change)


@pytest.mark.parametrize(
    ("method", "change", "message"),
    [
        ("clip", {"embedding_size": 0}, "embedding_size is 0; give 1 or more"),
        ("clip", {"temperature": 0}, "temperature is 0.0; give a number above 0"),
        ("regionmed_clip", {"max_regions": 0}, "max_regions is 0; give 1 or more"),
        ("regionmed_clip", {"max_regions": -1}, "max_regions is -1"),
        ("regionmed_clip", {"heads": 0}, "heads is 0"),
        ("regionmed_clip", {"windows": [1.0]}, "windows is"),
        ("regionmed_clip", {"window_grid": 1}, "window_grid is 1; give 2 or more"),
        ("reclmis", {"heads": 0}, "heads is 0; give 1 or more"),
        ("reclmis", {"base": 0}, "base is 0; give 1 or more"),
        ("reclmis", {"grid": 0}, "grid is 0; give 1 or more"),
    ],
)
def test_of_methods(method: str, change: dict[str, Any], message: str) -> None:
    cls = plugin("methods", method)
    values = {"text_encoder": ENCODERS["text_encoder"]} if method == "reclmis" else ENCODERS
    with pytest.raises(UserError, match=message) as refused:
        parse(cls.Config, values | change, "model")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("crop", [0, -8])
def test_a_crop_has_a_side(crop: int) -> None:
    with pytest.raises(ValueError, match=f"crop is {crop}; give 1 or more"):
        EncoderConfig(**ENCODERS["image_encoder"], crop=crop)


@pytest.mark.parametrize("change", [{"last_layers": 2}])
def test_an_image_encoder_refuses_what_only_text_encoders_have(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(change))}: text encoders alone have this setting"):
        ImageEncoder(EncoderConfig(**ENCODERS["image_encoder"] | change))


@pytest.mark.parametrize("change", [{"convolutional_stem": True}, {"crop": 7}, {"frozen_batch_norm": True}])
def test_a_text_encoder_refuses_what_only_image_encoders_have(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(change))}: image encoders alone have this setting"):
        TextEncoder(EncoderConfig(**ENCODERS["text_encoder"] | change), 50)


def test_a_stem_without_a_layer_is_refused() -> None:
    architecture = ENCODERS["image_encoder"]["architecture"] | {"patch_size": 1}
    with pytest.raises(ValueError, match="patch_size 1 is no power of 2 from 2 on"):
        ImageEncoder(EncoderConfig(**ENCODERS["image_encoder"] | {"architecture": architecture}))


def test_heads_that_do_not_divide_the_width_are_one_line(tokenizer: Any) -> None:
    cls = plugin("methods", "regionmed_clip")
    config = parse(cls.Config, ENCODERS | {"heads": 3}, "model")
    with pytest.raises(ValueError, match="heads 3 do not divide the image encoder's width of 16"):
        cls(config, len(tokenizer))
