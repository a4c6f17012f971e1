"""Real models: one that compares images with texts, and two that outline, of which one reads its text."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models import checkpoint
from models.clip.model import Clip
from models.encoders import EncoderConfig
from models.lvit.config import LViTConfig
from models.lvit.model import LViT
from models.prediction import Predictor
from models.text import train_tokenizer
from models.unet.config import UNetConfig
from models.unet.model import UNet
from pipelines.evaluate.tasks.zero_shot import ZeroShotConfig
from pipelines.try_model.model import TriedModel
from pipelines.try_model.study import StudyTexts
from tests.models.small import ENCODERS, make_model
from tests.shards import INPUT_FORMAT

STUDY = StudyTexts(captions=("green left", "blue right", "red upper"), distinct=3, labels=("nodule", "cyst"))
PROMPTS = ZeroShotConfig(templates=["a {label}"], negatives=["no {label}"])


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders by the name of the method."""
    folder = tmp_path_factory.mktemp("models")
    tokenizer = train_tokenizer(["the picture is red green blue left right upper nodule cyst"] * 3, 100)
    tokenizer.model_max_length = 32
    torch.manual_seed(0)
    encoder = EncoderConfig(**ENCODERS["text_encoder"])
    made = {
        "clip": make_model(tokenizer, Clip),
        "lvit": LViT(LViTConfig(text_encoder=encoder, base=8, image_size=16), len(tokenizer)),
        "unet": UNet(UNetConfig(base=4), len(tokenizer)),
    }
    for name, model in made.items():
        (folder / name).mkdir()
        checkpoint.save(
            folder / name, name, model.eval(), model.state_dict(), tokenizer, {"method": name}, INPUT_FORMAT
        )
    return {name: folder / name for name in made}


@pytest.fixture(scope="session")
def predictors(checkpoints: dict[str, Path]) -> dict[str, Predictor]:
    classes = {"clip": Clip, "lvit": LViT, "unet": UNet}
    return {name: Predictor(folder, classes[name]) for name, folder in checkpoints.items()}


@pytest.fixture(scope="session")
def clip(predictors: dict[str, Predictor]) -> TriedModel:
    return TriedModel(predictors["clip"], STUDY, PROMPTS)


@pytest.fixture(scope="session")
def scan() -> Image.Image:
    """Noise of 24 x 40 pixels."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 40), dtype=np.uint8))
