"""The conversion of a small checkpoint of BiomedCLIP's shape: its towers, and what it refuses."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from models.data.batches import Tokens
from models.encoders import EncoderConfig, ImageEncoder
from models.text_encoder import TextEncoder
from pipelines.errors import UserError
from pipelines.weights.open_clip import main
from tests.tiny_biomedclip import CONFIG, MEAN, SIDE, STD, WIDTH, bert_forward, timm_forward, write_files
from tests.tiny_biomedclip import weights as made_weights


@pytest.fixture
def checkpoint(tmp_path: Path) -> dict[str, Tensor]:
    """The weights; the other files lie in tmp_path/hub."""
    write_files(tmp_path / "hub")
    return made_weights()


@pytest.mark.parametrize("pickled", [False, True])
def test_both_towers_load_and_answer_as_before(checkpoint: dict[str, Tensor], pickled: bool, tmp_path: Path) -> None:
    if pickled:
        torch.save(checkpoint, tmp_path / "hub/open_clip_pytorch_model.bin")
    else:
        save_file(checkpoint, tmp_path / "hub/open_clip_model.safetensors")
    main(str(tmp_path / "hub"), str(tmp_path / "out"))
    encoder = ImageEncoder(EncoderConfig(pretrained=str(tmp_path / "out/image"))).eval()
    pixels = torch.randint(256, (2, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    with torch.no_grad():
        whole, patches = encoder(pixels)
        expected = timm_forward(checkpoint, (pixels / 255 - mean) / std)
    torch.testing.assert_close(whole, expected[:, 0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(patches, expected[:, 1:], rtol=1e-4, atol=1e-4)
    text = TextEncoder(EncoderConfig(pretrained=str(tmp_path / "out/text")), 20).eval()
    ids = torch.randint(1, 20, (2, 6), generator=torch.Generator().manual_seed(2))
    mask = torch.ones_like(ids)
    with torch.no_grad():
        found = text(Tokens(ids, mask, mask))[1]
    torch.testing.assert_close(found, bert_forward(checkpoint, ids), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"visual.trunk.blocks.1.attn.qkv.bias": None}, "blocks.1.attn.qkv.bias"),
        ({"visual.trunk.blocks.0.ls1.gamma": torch.ones(WIDTH)}, "blocks.0.ls1.gamma"),
        ({"text.transformer.encoder.layer.1.output.dense.bias": None}, "encoder.layer.1.output.dense.bias"),
        ({"visual.conv1.weight": torch.ones(1)}, "not of BiomedCLIP's shape .* it has visual.conv1.weight"),
        ({"visual.head.mlp.fc1.weight": torch.ones(1)}, "not of BiomedCLIP's shape .* it has visual.head.mlp.fc1"),
        ({"visual.head.proj.weight": None}, "lacks 'visual.head.proj.weight'"),
        ({"visual.head.proj.bias": torch.ones(12)}, "projections that are not BiomedCLIP's: .*image.0.bias"),
        ({"text.proj.2.weight": None}, "projections that are not BiomedCLIP's: .*text.2.weight"),
        ({"text.proj.2.weight": torch.ones(11, 390)}, "projections that are not BiomedCLIP's: .*size mismatch"),
    ],
)
def test_missing_and_surplus_weights_are_named(
    checkpoint: dict[str, Tensor], change: dict[str, Tensor | None], message: str, tmp_path: Path
) -> None:
    changed = {name: value for name, value in (checkpoint | change).items() if value is not None}
    save_file(changed, tmp_path / "hub/open_clip_model.safetensors")
    with pytest.raises(UserError, match=message) as caught:
        main(str(tmp_path / "hub"), str(tmp_path / "out"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_pickle_with_code_is_refused(tmp_path: Path, checkpoint: dict[str, Tensor]) -> None:
    torch.save({"visual.trunk.cls_token": Path("code")}, tmp_path / "hub/open_clip_pytorch_model.bin")
    with pytest.raises(UserError, match="cannot be read as weights alone"):
        main(str(tmp_path / "hub"), str(tmp_path / "out"))


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("vision_cfg", {"timm_model_name": "vit_huge_patch14_224"}, "a vit_huge_patch14_224 with timm_pool '' is not"),
        ("vision_cfg", {"timm_model_name": "vit_base_patch16_quickgelu"}, "quickgelu with timm_pool '' is not known"),
        ("vision_cfg", {"timm_pool": "avg"}, "a vit_tiny_patch8_32 with timm_pool 'avg' is not known here"),
        ("vision_cfg", {"image_size": None}, "lacks"),
        ("text_cfg", {"hf_pooler_type": "mean_pooler"}, "a text tower with hf_pooler_type 'mean_pooler' is not known"),
        ("text_cfg", {"hf_pooler_type": None}, "lacks 'hf_pooler_type'"),
        ("text_cfg", {"context_length": None}, "lacks 'context_length'"),
        ("preprocess_cfg", {"resize_mode": "squash"}, "images resized by squash, bicubic are not known here"),
        ("preprocess_cfg", {"interpolation": "bilinear"}, "images resized by shortest, bilinear are not known here"),
        ("preprocess_cfg", {"mean": None}, "lacks 'mean'"),
    ],
)
def test_what_the_weights_do_not_tell_is_not_guessed(
    checkpoint: dict[str, Tensor], part: str, changes: dict[str, str | None], message: str, tmp_path: Path
) -> None:
    save_file(checkpoint, tmp_path / "hub/open_clip_model.safetensors")
    config: dict[str, Any] = json.loads(json.dumps(CONFIG))
    settings = config if part in config else config["model_cfg"]
    changed = {name: value for name, value in (settings[part] | changes).items() if value is not None}
    settings[part] = changed
    (tmp_path / "hub/open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=re.escape(message)):
        main(str(tmp_path / "hub"), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("tokenizer.json", "{}", "gives no tokenizer"),
        ("tokenizer_config.json", "{}", "names no pad_token"),
    ],
)
def test_a_tokenizer_that_is_not_whole_is_one_line(
    checkpoint: dict[str, Tensor], name: str, text: str, message: str, tmp_path: Path
) -> None:
    save_file(checkpoint, tmp_path / "hub/open_clip_model.safetensors")
    (tmp_path / "hub" / name).write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        main(str(tmp_path / "hub"), str(tmp_path / "out"))
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_there_is_left_alone(checkpoint: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(checkpoint, tmp_path / "hub/open_clip_model.safetensors")
    with pytest.raises(UserError, match="hub is there already: name a folder that is not"):
        main(str(tmp_path / "hub"), str(tmp_path / "hub"))
    assert (tmp_path / "hub/open_clip_model.safetensors").is_file()


def test_a_checkpoint_without_its_tokenizer_is_refused(checkpoint: dict[str, Tensor], tmp_path: Path) -> None:
    (tmp_path / "hub/tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"hub holds no tokenizer\.json"):
        main(str(tmp_path / "hub"), str(tmp_path / "out"))
