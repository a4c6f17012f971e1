"""The towers of a small checkpoint of BiomedCLIP's shape, against timm's ViT written out by hand."""

import json
import math
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F
from transformers import BertConfig, BertModel

from models.data.batches import Tokens
from models.encoders import EncoderConfig, ImageEncoder
from models.text_encoder import TextEncoder
from pipelines.errors import UserError
from pipelines.weights.open_clip import main

WIDTH, BLOCKS, PATCH, SIDE = 192, 2, 8, 32
MEAN, STD = [0.48, 0.46, 0.41], [0.27, 0.26, 0.28]


def timm_weights() -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(0)

    def some(*shape: int) -> Tensor:
        return 0.2 * torch.randn(*shape, generator=random)

    found = {
        "cls_token": some(1, 1, WIDTH),
        "pos_embed": some(1, 1 + (SIDE // PATCH) ** 2, WIDTH),
        "patch_embed.proj.weight": some(WIDTH, 3, PATCH, PATCH),
        "patch_embed.proj.bias": some(WIDTH),
        "norm.weight": 1 + some(WIDTH),
        "norm.bias": some(WIDTH),
    }
    shapes = {"attn.qkv": (3 * WIDTH, WIDTH), "attn.proj": (WIDTH, WIDTH), "mlp.fc1": (256, WIDTH)}
    shapes |= {"mlp.fc2": (WIDTH, 256)}
    for block in range(BLOCKS):
        for name, shape in shapes.items():
            found |= {f"blocks.{block}.{name}.weight": some(*shape), f"blocks.{block}.{name}.bias": some(shape[0])}
        for name in ("norm1", "norm2"):
            found |= {f"blocks.{block}.{name}.weight": 1 + some(WIDTH), f"blocks.{block}.{name}.bias": some(WIDTH)}
    return found


def timm_forward(weights: dict[str, Tensor], pixels: Tensor) -> Tensor:
    """timm's VisionTransformer, all its tokens behind the last normalisation."""
    heads = WIDTH // 64
    patches = F.conv2d(pixels, weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"], stride=PATCH)
    tokens = torch.cat([weights["cls_token"].expand(len(pixels), -1, -1), patches.flatten(2).mT], dim=1)
    tokens = tokens + weights["pos_embed"]
    for block in range(BLOCKS):
        own = {name.removeprefix(f"blocks.{block}."): value for name, value in weights.items() if f"s.{block}." in name}
        normal = F.layer_norm(tokens, (WIDTH,), own["norm1.weight"], own["norm1.bias"], 1e-6)
        joint = F.linear(normal, own["attn.qkv.weight"], own["attn.qkv.bias"])
        queries, keys, values = joint.unflatten(2, (3, heads, 64)).permute(2, 0, 3, 1, 4)
        attention = (queries @ keys.mT / math.sqrt(64)).softmax(dim=-1) @ values
        tokens = tokens + F.linear(attention.transpose(1, 2).flatten(2), own["attn.proj.weight"], own["attn.proj.bias"])
        normal = F.layer_norm(tokens, (WIDTH,), own["norm2.weight"], own["norm2.bias"], 1e-6)
        inside = F.gelu(F.linear(normal, own["mlp.fc1.weight"], own["mlp.fc1.bias"]))
        tokens = tokens + F.linear(inside, own["mlp.fc2.weight"], own["mlp.fc2.bias"])
    return F.layer_norm(tokens, (WIDTH,), weights["norm.weight"], weights["norm.bias"], 1e-6)


def bert() -> BertModel:
    torch.manual_seed(1)
    return BertModel(
        BertConfig(
            vocab_size=50,
            hidden_size=768,
            num_hidden_layers=2,
            num_attention_heads=12,
            intermediate_size=64,
            max_position_embeddings=32,
        ),
        add_pooling_layer=False,
    ).eval()


@pytest.fixture
def checkpoint(tmp_path: Path) -> dict[str, Tensor]:
    """In tmp_path/hub, as it is saved by default."""
    weights = {f"visual.trunk.{name}": value for name, value in timm_weights().items()}
    weights |= {f"text.transformer.{name}": value.contiguous() for name, value in bert().state_dict().items()}
    weights |= {"visual.head.proj.weight": torch.ones(4, WIDTH), "logit_scale": torch.ones(())}
    weights |= {"text.proj.0.weight": torch.ones(4, WIDTH)}
    (tmp_path / "hub").mkdir()
    vision = {"image_size": SIDE, "timm_model_name": "vit_tiny_patch8_32", "timm_pool": ""}
    config = {"model_cfg": {"vision_cfg": vision}, "preprocess_cfg": {"mean": MEAN, "std": STD}}
    (tmp_path / "hub/tokenizer.json").write_text("{}")
    (tmp_path / "hub/open_clip_config.json").write_text(json.dumps(config))
    return weights


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
        expected = timm_forward(timm_weights(), (pixels / 255 - mean) / std)
    torch.testing.assert_close(whole, expected[:, 0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(patches, expected[:, 1:], rtol=1e-4, atol=1e-4)
    text = TextEncoder(EncoderConfig(pretrained=str(tmp_path / "out/text")), 50).eval()
    ids = torch.randint(1, 50, (2, 6), generator=torch.Generator().manual_seed(2))
    mask = torch.ones_like(ids)
    with torch.no_grad():
        torch.testing.assert_close(text(Tokens(ids, mask, mask))[1], bert()(ids, mask).last_hidden_state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"visual.trunk.blocks.1.attn.qkv.bias": None}, "blocks.1.attn.qkv.bias"),
        ({"visual.trunk.blocks.0.ls1.gamma": torch.ones(WIDTH)}, "blocks.0.ls1.gamma"),
        ({"text.transformer.encoder.layer.1.output.dense.bias": None}, "encoder.layer.1.output.dense.bias"),
        ({"visual.conv1.weight": torch.ones(1)}, "not of BiomedCLIP's shape .* it has visual.conv1.weight"),
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
    ("vision", "message"),
    [
        ({"timm_model_name": "vit_huge_patch14_224"}, "a vit_huge_patch14_224 with timm_pool '' is not known here"),
        ({"timm_model_name": "vit_base_patch16_quickgelu"}, "quickgelu with timm_pool '' is not known here"),
        ({"timm_pool": "avg"}, "a vit_tiny_patch8_32 with timm_pool 'avg' is not known here"),
        ({"image_size": None}, "lacks"),
    ],
)
def test_what_the_weights_do_not_tell_is_not_guessed(
    checkpoint: dict[str, Tensor], vision: dict[str, str | None], message: str, tmp_path: Path
) -> None:
    save_file(checkpoint, tmp_path / "hub/open_clip_model.safetensors")
    file = tmp_path / "hub/open_clip_config.json"
    config = json.loads(file.read_text())
    changed = {name: value for name, value in (config["model_cfg"]["vision_cfg"] | vision).items() if value is not None}
    config["model_cfg"]["vision_cfg"] = changed
    file.write_text(json.dumps(config))
    with pytest.raises(UserError, match=re.escape(message)):
        main(str(tmp_path / "hub"), str(tmp_path / "out"))


def test_a_folder_that_is_there_is_left_alone(checkpoint: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(checkpoint, tmp_path / "hub/open_clip_model.safetensors")
    with pytest.raises(UserError, match="hub is there already: name a folder that is not"):
        main(str(tmp_path / "hub"), str(tmp_path / "hub"))
    assert (tmp_path / "hub/open_clip_model.safetensors").is_file()


def test_a_checkpoint_without_its_tokenizer_is_refused(checkpoint: dict[str, Tensor], tmp_path: Path) -> None:
    (tmp_path / "hub/tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"hub holds no tokenizer\.json"):
        main(str(tmp_path / "hub"), str(tmp_path / "out"))
