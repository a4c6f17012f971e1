"""Encoders of the real architectures, with small widths."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoImageProcessor, AutoModel, CLIPConfig, CLIPModel, PreTrainedTokenizerFast

from models import checkpoint
from models.clip.model import Clip
from models.data.batches import Tokens
from models.encoders import EncoderConfig, ImageEncoder
from models.inference import embed_texts
from models.regionmed_clip.model import RegionMedClip
from models.text_encoder import TextEncoder
from models.token_layout import as_grid
from models.verified import DamagedError, seal
from tests.models.small import make_model
from tests.shards import INPUT_FORMAT
from tests.tiny_clip import make_clip, make_siglip

# ViT-B/16, ResNet-50 and ConvNeXt-T but for their widths and the depth of the transformers.
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
VIT = {"model_type": "vit", "image_size": 64, "patch_size": 16, **SMALL}
RESNET = {
    "model_type": "resnet",
    "layer_type": "bottleneck",
    "depths": [3, 4, 6, 3],
    "embedding_size": 8,
    "hidden_sizes": [8, 8, 16, 16],
}
CONVNEXT = {"model_type": "convnext", "depths": [3, 3, 9, 3], "hidden_sizes": [4, 8, 12, 16]}
# PubMedBERT and BioClinicalBERT are both of BERT-base's shape.
BERT = {"model_type": "bert", "vocab_size": 50, **SMALL}
CLIP_TEXT = {"model_type": "clip_text_model", "vocab_size": 50, "bos_token_id": 48, "eos_token_id": 49, **SMALL}

CLIP_MEAN, CLIP_STD = [0.48, 0.46, 0.41], [0.27, 0.26, 0.28]


def image_encoder(architecture: dict[str, Any], **settings: Any) -> ImageEncoder:
    torch.manual_seed(0)
    return ImageEncoder(EncoderConfig(architecture=architecture, **settings))


def pixels(rows: int = 3, side: int = 64) -> torch.Tensor:
    return torch.randint(256, (rows, 3, side, side), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def tokens() -> Tokens:
    ids = torch.randint(1, 50, (3, 7), generator=torch.Generator().manual_seed(2))
    mask = (torch.arange(7) < torch.tensor([[7], [4], [2]])).long()
    return Tokens(ids * mask, mask, torch.arange(7).expand(3, 7) * mask - (1 - mask))


@pytest.mark.parametrize(
    ("model_type", "parameters", "width"),
    [
        # ViT-B/16 with its pooler, ResNet-50 and ConvNeXt-T: the published sizes less the ImageNet classifier.
        ("vit", 86_567_656 - 769_000 + 590_592, 768),
        ("resnet", 25_557_032 - 2_049_000, 2048),
        ("convnext", 28_589_128 - 769_000, 768),
        ("bert", 109_482_240, 768),
    ],
)
def test_an_architecture_of_a_name_alone_has_the_papers_size(model_type: str, parameters: int, width: int) -> None:
    config = EncoderConfig(architecture={"model_type": model_type})
    with torch.device("meta"):
        encoder = TextEncoder(config, 30_522) if model_type == "bert" else ImageEncoder(config)
    assert sum(parameter.numel() for parameter in encoder.parameters()) == parameters
    assert encoder.width == width


@pytest.mark.parametrize(("architecture", "patches"), [(VIT, 16), (RESNET, 4), (CONVNEXT, 4)])
def test_an_image_encoder_gives_a_whole_and_its_patches(architecture: dict[str, Any], patches: int) -> None:
    encoder = image_encoder(architecture).eval()
    with torch.no_grad():
        whole, local = encoder(pixels())
    assert whole.shape == (3, 16)
    assert local.shape == (3, patches, 16)
    assert encoder.width == 16
    assert encoder.has_batch_norm == (architecture is RESNET)


@pytest.mark.parametrize(("architecture", "side"), [(VIT, 4), (CONVNEXT, 2)])
def test_the_patches_stand_by_rows(architecture: dict[str, Any], side: int) -> None:
    encoder = image_encoder(architecture).eval()
    changed = pixels(1)
    # A corner of the image: the top right patch answers most.
    changed[:, :, : 64 // side, -64 // side :] = 1.0
    with torch.no_grad():
        difference = (encoder(changed)[1] - encoder(pixels(1))[1]).norm(dim=-1)
    assert as_grid(difference)[0].flatten().argmax() == side - 1


def test_a_vit_pools_its_first_token_or_the_mean_of_the_others() -> None:
    first = image_encoder(VIT).eval()
    mean = image_encoder(VIT, pooling="mean").eval()
    with torch.no_grad():
        hidden = first.backbone(pixel_values=pixels() / 127.5 - 1).last_hidden_state
        torch.testing.assert_close(first(pixels())[0], hidden[:, 0])
        torch.testing.assert_close(mean(pixels())[0], hidden[:, 1:].mean(dim=1))


@pytest.mark.parametrize("architecture", [VIT, RESNET, CONVNEXT], ids=lambda one: one["model_type"])
def test_the_largest_value_over_the_patches_stands_for_the_whole(architecture: dict[str, Any]) -> None:
    encoder = image_encoder(architecture, pooling="max").eval()
    with torch.no_grad():
        whole, patches = encoder(pixels())
        assert encoder.perceptron is not None
        values = torch.stack([encoder.perceptron(patches[:, place]) for place in range(patches.shape[1])])
    assert patches.shape[1] > 1
    torch.testing.assert_close(whole, values.max(dim=0).values)
    assert not torch.allclose(whole, values.mean(dim=0))


def test_batch_norm_stays_frozen() -> None:
    encoder = image_encoder(RESNET, frozen_batch_norm=True)
    assert not encoder.has_batch_norm
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    encoder.train()
    encoder(pixels())[0].sum().backward()
    norms = [name for name in before if "normalization" in name]
    assert len(norms) > 100
    assert all(torch.equal(encoder.state_dict()[name], before[name]) for name in norms)
    named = dict(encoder.named_parameters())
    assert all(named[name].grad is None for name in norms if name in named)
    assert sum(parameter.grad is not None for parameter in named.values()) > 50
    # The same rows, alone or together: nothing of one image reaches another.
    torch.testing.assert_close(encoder(pixels())[0][:1], encoder(pixels()[:1])[0])
    free = image_encoder(RESNET).train()
    assert free.has_batch_norm
    free(pixels())
    assert not all(torch.equal(free.state_dict()[name], before[name]) for name in norms)


def test_regionmed_clip_refuses_batch_norm_unless_it_is_frozen(tokenizer: PreTrainedTokenizerFast) -> None:
    encoder: dict[str, Any] = {"architecture": RESNET}
    with pytest.raises(ValueError, match=r"image_encoder has BatchNorm.*set frozen_batch_norm"):
        make_model(tokenizer, RegionMedClip, image_encoder=encoder)
    make_model(tokenizer, RegionMedClip, image_encoder=encoder | {"frozen_batch_norm": True})


def test_crops_are_random_in_training_and_central_otherwise() -> None:
    encoder = image_encoder(VIT, crop=48)
    whole = torch.zeros(6, 3, 64, 64)
    whole[:] = torch.arange(64.0).view(1, 1, 64, 1) * 100 + torch.arange(64.0)
    encoder.eval()
    assert torch.equal(encoder._crop(whole), whole[:, :, 8:56, 8:56])
    encoder.train()
    torch.manual_seed(3)
    cut = encoder._crop(whole)
    corners = {(int(value) // 100, int(value) % 100) for value in cut[:, 0, 0, 0]}
    assert cut.shape == (6, 3, 48, 48)
    assert len(corners) > 1
    for image in cut:
        y, x = int(image[0, 0, 0]) // 100, int(image[0, 0, 0]) % 100
        assert torch.equal(image, whole[0, :, y : y + 48, x : x + 48])
    torch.manual_seed(3)
    assert torch.equal(encoder._crop(whole), cut)
    # A region's crop is smaller than that already.
    assert torch.equal(encoder._crop(whole[:, :, :32, :32]), whole[:, :, :32, :32])


@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_a_text_encoder_does_not_read_padding(pooling: str) -> None:
    torch.manual_seed(0)
    encoder = TextEncoder(EncoderConfig(architecture=BERT, pooling=pooling), 50).eval()
    some = tokens()
    with torch.no_grad():
        whole, local = encoder(some)
        alone, _ = encoder(Tokens(some.ids[1:2, :4], some.mask[1:2, :4], some.words[1:2, :4]))
    assert whole.shape == (3, 16)
    assert local.shape == (3, 7, 16)
    torch.testing.assert_close(whole[1:2], alone)


@pytest.mark.parametrize("architecture", [VIT, CONVNEXT, BERT])
def test_in_parts_and_in_bfloat16(architecture: dict[str, Any]) -> None:
    torch.manual_seed(0)
    if architecture is BERT:
        encoder: Any = TextEncoder(
            EncoderConfig(architecture=BERT | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}), 50
        )
        given: Any = tokens()
    else:
        encoder, given = image_encoder(architecture), pixels()
    encoder.train()

    def run() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        encoder.zero_grad()
        whole, local = encoder(given)
        (whole.square().mean() + local.square().mean()).backward()
        return whole, local, next(encoder.backbone.parameters()).grad.clone()

    expected = run()
    encoder.rows_at_a_time = 2
    for found, value in zip(run(), expected, strict=True):
        torch.testing.assert_close(found, value)
    encoder.rows_at_a_time, encoder.uses_bfloat16 = None, True
    for found, value in zip(run()[:2], expected, strict=False):
        assert found.dtype == torch.float32
        # 8 bits of mantissa: near, and not the same.
        assert not torch.equal(found, value)
        torch.testing.assert_close(found, value, rtol=0.1, atol=0.05)


def save_pretrained(folder: Path, architecture: dict[str, Any], dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    """A checkpoint as the hub has it, with the pixel statistics of CLIP."""
    backbone = image_encoder(architecture).backbone.to(dtype)
    backbone.save_pretrained(folder)
    statistics = {"image_mean": CLIP_MEAN, "image_std": CLIP_STD, "image_processor_type": "ViTImageProcessor"}
    (folder / "preprocessor_config.json").write_text(json.dumps(statistics))
    return backbone.float().eval()


@pytest.mark.parametrize("architecture", [VIT, RESNET, CONVNEXT])
def test_a_pretrained_encoder_gets_the_pixels_it_was_trained_with(architecture: dict[str, Any], tmp_path: Path) -> None:
    backbone = save_pretrained(tmp_path, architecture)
    encoder = ImageEncoder(EncoderConfig(pretrained=str(tmp_path))).eval()
    share = pixels() / 255
    statistics = AutoImageProcessor.from_pretrained(tmp_path)
    mean, deviation = (torch.tensor(v).view(1, 3, 1, 1) for v in (statistics.image_mean, statistics.image_std))
    assert mean.flatten().tolist() == pytest.approx(CLIP_MEAN)
    with torch.no_grad():
        expected = backbone(pixel_values=(share - mean) / deviation).last_hidden_state
        _, patches = encoder(pixels())
    expected = expected.flatten(2).mT if expected.ndim == 4 else expected[:, 1:]
    torch.testing.assert_close(patches, expected, rtol=1e-4, atol=1e-5)


def test_missing_pretrained_file_is_a_one_line_error(tmp_path: Path) -> None:
    config = EncoderConfig(pretrained=str(tmp_path / "vit"))
    with pytest.raises(ValueError, match="vit gives no weights") as nothing:
        ImageEncoder(config)
    save_pretrained(tmp_path / "vit", VIT)
    (tmp_path / "vit/preprocessor_config.json").write_text('{"image_mean": [0.5, 0.5, 0.5]}')
    with pytest.raises(ValueError, match=r"preprocessor_config.json of .*vit has no image_std") as half:
        ImageEncoder(config)
    (tmp_path / "vit/preprocessor_config.json").unlink()
    with pytest.raises(ValueError, match=r"vit gives no preprocessor_config\.json") as missing:
        ImageEncoder(config)
    (tmp_path / "vit/model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"vit gives no weights: .*model\.safetensors") as weights:
        ImageEncoder(config)
    for caught in (nothing, half, missing, weights):
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["data/weights/absent", "/nowhere/at/all", "one/level/too/many"])
def test_a_folder_that_is_not_there_is_said_to_be_absent(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} gives no weights: there is no such folder") as caught:
        ImageEncoder(EncoderConfig(pretrained=name))
    assert ("`make weights` makes" in str(caught.value)) == name.startswith("data/weights")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", "null"),
        ("config.json", json.dumps(VIT | {"hidden_act": "no activation"})),
        ("config.json", json.dumps(VIT | {"hidden_size": "32"})),
        ("config.json", json.dumps(VIT | {"num_attention_heads": 0})),
        ("preprocessor_config.json", "null"),
    ],
)
def test_files_that_transformers_stumbles_over_are_one_line(file: str, content: str, tmp_path: Path) -> None:
    folder = tmp_path / "vit"
    save_pretrained(folder, VIT)
    (folder / file).write_text(content)
    with pytest.raises(ValueError, match=r"vit gives no (weights|preprocessor_config\.json): ") as caught:
        ImageEncoder(EncoderConfig(pretrained=str(folder)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        # Of other projects, from 0 to 255: every pixel would be nearly the same.
        ({"image_mean": [123.7, 116.3, 103.5]}, r"image_mean is \[123.7, 116.3, 103.5\]; give three numbers of pixels"),
        ({"image_std": [0.2, 0.0, 0.2]}, "give three numbers above 0"),
        ({"image_std": None}, "image_std is None"),
        ({"image_mean": [0.5]}, "give three numbers"),
        ({"do_normalize": False}, "do_normalize is false"),
        ({"do_rescale": False}, "do_rescale is false"),
        ({"rescale_factor": 1 / 127.5}, "but pixels come here divided by 255"),
    ],
)
def test_pixels_that_weights_want_otherwise_are_refused(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    save_pretrained(tmp_path, VIT)
    file = tmp_path / "preprocessor_config.json"
    known = {"image_mean": CLIP_MEAN, "image_std": CLIP_STD, "rescale_factor": 0.00392156862745098, "do_rescale": True}
    file.write_text(json.dumps(known))
    ImageEncoder(EncoderConfig(pretrained=str(tmp_path)))
    file.write_text(json.dumps(known | settings))
    with pytest.raises(ValueError, match=message):
        ImageEncoder(EncoderConfig(pretrained=str(tmp_path)))


def test_a_damaged_folder_of_weights_is_made_again_and_not_by_dvc(tmp_path: Path) -> None:
    save_pretrained(tmp_path, VIT)
    seal(tmp_path)
    ImageEncoder(EncoderConfig(pretrained=str(tmp_path)))
    (tmp_path / "config.json").write_text(json.dumps(VIT | {"num_attention_heads": 2}))
    with pytest.raises(DamagedError, match=r"config\.json has other bytes.*make it again, as `make weights` does$"):
        ImageEncoder(EncoderConfig(pretrained=str(tmp_path)))


def test_a_file_in_half_precision_is_trained_in_float32(tmp_path: Path) -> None:
    save_pretrained(tmp_path, VIT, torch.bfloat16)
    assert AutoModel.from_pretrained(tmp_path).dtype == torch.bfloat16
    encoder = ImageEncoder(EncoderConfig(pretrained=str(tmp_path)))
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32}


def test_a_checkpoint_with_pretrained_encoders_stands_alone(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    scratch = make_model(tokenizer, Clip)
    scratch.text_encoder.backbone.save_pretrained(tmp_path / "bert")
    save_pretrained(tmp_path / "resnet", RESNET)
    encoders = {
        "image_encoder": {"pretrained": str(tmp_path / "resnet"), "frozen_batch_norm": True},
        "text_encoder": {"pretrained": str(tmp_path / "bert")},
    }
    model = make_model(tokenizer, Clip, **encoders)
    ours, theirs = model.text_encoder.backbone.state_dict(), scratch.text_encoder.backbone.state_dict()
    assert all(torch.equal(theirs[name], value) for name, value in ours.items())
    (tmp_path / "checkpoint").mkdir()
    checkpoint.save(tmp_path / "checkpoint", "clip", model, model.state_dict(), tokenizer, {}, INPUT_FORMAT)
    for name in ("bert", "resnet"):
        for file in (tmp_path / name).iterdir():
            file.unlink()
    loaded, same = checkpoint.load(tmp_path / "checkpoint", Clip)
    model.eval()
    assert (embed_texts(loaded, same, ["red"], 1) == embed_texts(model, tokenizer, ["red"], 1)).all()
    with torch.no_grad():
        assert torch.equal(loaded.embed_pixels(pixels()), model.embed_pixels(pixels()))


def test_settings_of_old_releases_do_not_stand_in_the_checkpoint(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    make_model(tokenizer, Clip).text_encoder.backbone.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    # As all-MiniLM-L6-v2 and BioClinicalBERT have them.
    old = {"gradient_checkpointing": False, "position_embedding_type": "absolute", "transformers_version": "4.8.2"}
    (tmp_path / "config.json").write_text(json.dumps(settings | old))
    encoder = TextEncoder(EncoderConfig(pretrained=str(tmp_path)), len(tokenizer)).eval()
    again = TextEncoder(encoder.standalone_config(), len(tokenizer)).eval()
    again.load_state_dict(encoder.state_dict())
    with torch.no_grad():
        assert torch.equal(again(tokens())[0], encoder(tokens())[0])


def test_of_a_clip_checkpoint_the_text_tower_alone_is_loaded(tmp_path: Path) -> None:
    torch.manual_seed(0)
    towers = CLIPConfig(text_config=CLIP_TEXT, vision_config={"image_size": 16, "patch_size": 8, **SMALL})
    both = CLIPModel(towers).eval()
    both.save_pretrained(tmp_path)
    encoder = TextEncoder(EncoderConfig(pretrained=str(tmp_path), pooling="mean"), 50).eval()
    theirs = both.text_model.state_dict()
    ours = encoder.backbone.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())
    some = tokens()
    with torch.no_grad():
        _, found = encoder(some)
        expected = both.text_model(input_ids=some.ids, attention_mask=some.mask).last_hidden_state
    assert torch.equal(found, expected)
    assert encoder.width == 16
    # A checkpoint rebuilds it without the towers' folder.
    scratch = TextEncoder(encoder.standalone_config(), 50).eval()
    scratch.load_state_dict(encoder.state_dict())
    with torch.no_grad():
        assert torch.equal(scratch(some)[1], expected)


@pytest.mark.parametrize("make", [make_clip, make_siglip])
def test_of_a_checkpoint_of_both_towers_the_image_tower_alone_is_loaded(make: Any, tmp_path: Path) -> None:
    both, _ = make(tmp_path)
    encoder = ImageEncoder(EncoderConfig(pretrained=str(tmp_path))).eval()
    ours, theirs = encoder.backbone.state_dict(), both.vision_model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())
    some = torch.rand(2, 3, 24, 24) * 255
    with torch.no_grad():
        values = some * encoder.scale + encoder.shift
        expected = both.vision_model(pixel_values=values, interpolate_pos_encoding=True)
        whole, patches = encoder(some)
    torch.testing.assert_close(whole, expected.pooler_output)
    torch.testing.assert_close(patches, expected.last_hidden_state[:, -9:])
    scratch = ImageEncoder(encoder.standalone_config()).eval()
    scratch.load_state_dict(encoder.state_dict())
    with torch.no_grad():
        assert torch.equal(scratch(some)[0], whole)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.pop("layernorm.bias"), r"no whole vit: its weights lack layernorm\.bias"),
        (
            lambda weights: weights.update({"layers.9.mlp.fc1.bias": torch.ones(3)}),
            r"no whole vit: its weights have beside it .*9.*fc1|.*intermediate.*",
        ),
        (
            lambda weights: weights.update({"layernorm.bias": torch.ones(3)}),
            r"no whole vit: its weights have in another size layernorm\.bias",
        ),
    ],
)
def test_weights_that_are_not_the_whole_encoder_are_refused_by_name(change: Any, message: str, tmp_path: Path) -> None:
    save_pretrained(tmp_path, VIT)
    weights = load_file(tmp_path / "model.safetensors")
    change(weights)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=message) as caught:
        ImageEncoder(EncoderConfig(pretrained=str(tmp_path)))
    assert "\n" not in str(caught.value)


def test_heads_of_the_training_may_stand_beside_the_encoder(tmp_path: Path) -> None:
    save_pretrained(tmp_path, VIT)
    weights = load_file(tmp_path / "model.safetensors")
    # A classifier's checkpoint: without the dense layer on the first token, which nothing here reads.
    kept = {name: value for name, value in weights.items() if "pooler" not in name}
    kept |= {"classifier.weight": torch.ones(2, 16), "classifier.bias": torch.ones(2)}
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    encoder = ImageEncoder(EncoderConfig(pretrained=str(tmp_path)))
    assert torch.equal(encoder.backbone.layernorm.weight, weights["layernorm.weight"])


@pytest.mark.parametrize("frozen", [False, True])
def test_tokens_pass_the_projection_of_clip_where_a_method_asks_for_it(tmp_path: Path, frozen: bool) -> None:
    torch.manual_seed(0)
    towers = CLIPConfig(
        text_config=CLIP_TEXT, vision_config={"image_size": 16, "patch_size": 8, **SMALL}, projection_dim=6
    )
    both = CLIPModel(towers).eval()
    both.save_pretrained(tmp_path)
    config = EncoderConfig(pretrained=str(tmp_path), pooling="mean", frozen=frozen)
    encoder = TextEncoder(config, 50, projects=True).eval()
    assert encoder.width == 6
    assert encoder.projection.weight.requires_grad == (not frozen)
    some = tokens()
    with torch.no_grad():
        found = encoder(some)[1]
        hidden = both.text_model(input_ids=some.ids, attention_mask=some.mask).last_hidden_state
    inside = some.mask.bool()
    torch.testing.assert_close(found[inside], both.text_projection(hidden)[inside])
    scratch = TextEncoder(encoder.standalone_config(), 50, projects=True).eval()
    scratch.load_state_dict(encoder.state_dict())
    with torch.no_grad():
        assert torch.equal(scratch(some)[1], found)


def test_other_text_encoders_have_no_projection() -> None:
    encoder = TextEncoder(EncoderConfig(architecture=BERT), 50, projects=True)
    assert not list(encoder.projection.parameters())


def test_text_encoders_that_cannot_do_what_they_should_are_refused() -> None:
    with pytest.raises(ValueError, match="choose mean"):
        TextEncoder(EncoderConfig(architecture=CLIP_TEXT), 50)
    with pytest.raises(ValueError, match="pooling max is for image encoders"):
        TextEncoder(EncoderConfig(architecture=BERT, pooling="max"), 50)
    with pytest.raises(ValueError, match="last_layers 9: the text encoder has only"):
        TextEncoder(EncoderConfig(architecture=CLIP_TEXT, pooling="mean", last_layers=9), 50)
    with pytest.raises(ValueError, match="texts of 78 tokens: the text encoder has only 77 positions"):
        TextEncoder(EncoderConfig(architecture=CLIP_TEXT, pooling="mean"), 50, least_length=78)


@pytest.mark.parametrize("last_layers", [1, 2])
def test_clips_text_tower_from_scratch_does_not_read_padding(last_layers: int) -> None:
    torch.manual_seed(0)
    encoder = TextEncoder(EncoderConfig(architecture=CLIP_TEXT, pooling="mean", last_layers=last_layers), 50).eval()
    some = tokens()
    with torch.no_grad():
        _, local = encoder(some)
        _, alone = encoder(Tokens(some.ids[1:2, :4], some.mask[1:2, :4], some.words[1:2, :4]))
    assert local.shape == (3, 7, 16)
    torch.testing.assert_close(local[1:2, :4], alone)


def test_a_mistyped_architecture_is_refused() -> None:
    with pytest.raises(ValueError, match="architecture of vit has no setting hiden_size"):
        ImageEncoder(EncoderConfig(architecture={"model_type": "vit", "hiden_size": 16}))
    with pytest.raises(ValueError, match="architecture needs 'model_type'"):
        ImageEncoder(EncoderConfig(architecture={"hidden_size": 16}))
    with pytest.raises(ValueError, match="either 'pretrained' or 'architecture'"):
        EncoderConfig()
    with pytest.raises(ValueError, match="convolutional_stem is for model_type vit, not resnet"):
        image_encoder(RESNET, convolutional_stem=True)


def test_a_tokenizer_larger_than_the_text_encoder_is_refused(tmp_path: Path) -> None:
    TextEncoder(EncoderConfig(architecture=BERT), 50).backbone.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="the tokenizer has 51 entries, more than the text encoder's 50"):
        TextEncoder(EncoderConfig(pretrained=str(tmp_path)), 51)


def test_a_grid_stands_by_rows() -> None:
    assert as_grid(torch.arange(9.0).view(1, 9))[0].tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
