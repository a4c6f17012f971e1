"""RecLMIS as a whole: what each switch leaves, what trains, what inference touches."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from models import checkpoint
from models.capabilities import SegmentsFromText, ShowsAttention
from models.data.batches import Images, Tokenise, Tokens
from models.data.shards import ShardSet
from models.encoders import EncoderConfig
from models.reclmis.config import RecLMISConfig
from models.reclmis.model import RecLMIS
from models.segmentation.batches import SegmentationBatch, SegmentationCollate
from models.training.config import EngineConfig, Phase, TrainingConfig
from models.training.data import SamplingPlan, usable
from models.training.loop import fit
from models.training.prepare import check_phases
from tests.models.small import ENCODERS, write_shards
from tests.shards import INPUT_FORMAT

SIDE = 64
SMALL: dict[str, Any] = {"text_encoder": ENCODERS["text_encoder"], "base": 4, "grid": SIDE // 16, "layers": 2}
# Everything hidden: what is drawn makes no difference.
ALL_HIDDEN = {"vision_mask_ratio": 1.0, "text_mask_ratio": 1.0}
OFF = {"contrastive": False, "vision_reconstruction": False, "language_reconstruction": False}
EVERY = ("segmentation", "contrastive", "vision_reconstruction", "language_reconstruction")


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("shards"), 10, size=SIDE)


@pytest.fixture(scope="module")
def batch(larger: Path, tokenizer) -> SegmentationBatch:
    """8 images, two of which have no text."""
    stored = ShardSet(larger / "images", larger / "captions", "train").samples()
    collate = SegmentationCollate(Tokenise(tokenizer, 32), None, 0)
    found = collate([sample for sample in stored if sample.meta.has_target][:8])
    assert found.text.mask.sum(dim=1).min() == 2
    return found


def build(tokenizer, **changes: Any) -> RecLMIS:
    torch.manual_seed(0)
    return RecLMIS(checkpoint.build(RecLMISConfig, SMALL | changes), len(tokenizer))


def settle(model: RecLMIS, batch: SegmentationBatch) -> RecLMIS:
    """In evaluation mode, with the statistics of a batch: with those of no batch, features all but vanish."""
    norms = [module for module in model.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model.train()(batch, model.losses)
    return model.eval()


def losses_of(model: RecLMIS, batch: SegmentationBatch) -> dict[str, Tensor]:
    torch.manual_seed(7)
    return model(batch, model.losses)


def padded(tokens: Tokens) -> Tokens:
    pad = torch.nn.functional.pad
    return Tokens(pad(tokens.ids, (0, 3)), pad(tokens.mask, (0, 3)), pad(tokens.words, (0, 3), value=-1))


def permuted(batch: SegmentationBatch, order: list[int]) -> SegmentationBatch:
    tokens = Tokens(batch.text.ids[order], batch.text.mask[order], batch.text.words[order])
    images = dataclasses.replace(batch.images, pixels=batch.images.pixels[order])
    return SegmentationBatch([batch.keys[i] for i in order], images, tokens, batch.target[order])


CONFIGURATIONS = {
    "paper": {},
    "published": {"variant": "published"},
    "paper_self": {"interaction": "self", "reconstruction": "self"},
    "published_self": {"variant": "published", "interaction": "self", "reconstruction": "self"},
    "self_cross": {"interaction": "self"},
    "cross_self": {"reconstruction": "self", "language_reconstruction": False},
    "no_reconstruction": {"vision_reconstruction": False, "language_reconstruction": False},
    "vision_only": OFF | {"vision_reconstruction": True},
    "language_only": OFF | {"language_reconstruction": True},
    "published_vision": {"variant": "published", "contrastive": False, "language_reconstruction": False}
    | {"masking": "random"},
    "no_condition": {"contrastive_condition": False, "vision_condition": False, "language_condition": False}
    | {"masking": "random"},
    "contrast_alone_conditioned": {"vision_condition": False, "language_condition": False},
    "interaction_alone": OFF,
    "unet": OFF | {"interaction": "none"},
    "random": {"masking": "random"},
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_enabled_components_learn_and_disabled_ones_have_no_parameters(
    tokenizer, batch: SegmentationBatch, name: str
) -> None:
    changes = CONFIGURATIONS[name]
    # In evaluation mode: before the normalisation of a batch, a bias has no gradient.
    model = settle(build(tokenizer, **changes), batch)
    found = losses_of(model, batch)
    expected = tuple(loss for loss in EVERY if loss == "segmentation" or changes.get(loss, True))
    assert model.losses == model.required_losses == expected
    assert tuple(found) == expected
    assert all(torch.isfinite(value) and value > 0 for value in found.values())
    torch.stack(list(found.values())).sum().backward()
    for parameter, value in model.named_parameters():
        # Nothing but its own pooler, which no method asks for.
        if not parameter.startswith("text_encoder.backbone.pooler"):
            assert value.grad is not None, parameter
            assert value.grad.abs().max() > 0, parameter
    parts = {parameter.split(".")[0] for parameter, _ in model.named_parameters()}
    reads, config = changes.get("interaction") != "none", model.config
    assert ("text_encoder" in parts) == ("word_convolution" in parts) == ("interaction" in parts) == reads
    assert model.reads_text == reads
    assert ("patch_interest" in parts) == config.weighs_patches
    assert ("word_interest" in parts) == config.weighs_words
    names = [parameter for parameter, _ in model.named_parameters() if parameter.startswith("reconstruction.")]
    assert any(".vision." in parameter for parameter in names) == ("vision_reconstruction" in expected)
    assert any(".language." in parameter for parameter in names) == ("language_reconstruction" in expected)
    assert isinstance(model, SegmentsFromText)
    assert isinstance(model, ShowsAttention) == config.weighs_patches


@pytest.mark.parametrize("variant", ["paper", "published"])
@pytest.mark.parametrize("kind", ["cross", "self"])
def test_padding_and_order_change_nothing(tokenizer, batch: SegmentationBatch, variant: str, kind: str) -> None:
    model = settle(build(tokenizer, variant=variant, interaction=kind, reconstruction=kind), batch)
    longer = dataclasses.replace(batch, text=padded(batch.text))
    with torch.no_grad():
        logits = model.logits(batch.images, batch.text)
        torch.testing.assert_close(model.logits(longer.images, longer.text), logits, rtol=1e-4, atol=1e-5)
        for name, value in losses_of(model, longer).items():
            torch.testing.assert_close(value, losses_of(model, batch)[name], rtol=1e-4, atol=1e-5)
        order = [3, 0, 7, 1, 5, 2, 6, 4]
        other = permuted(batch, order)
        torch.testing.assert_close(model.logits(other.images, other.text), logits[order], rtol=1e-4, atol=1e-5)
        hidden = settle(build(tokenizer, variant=variant, interaction=kind, reconstruction=kind, **ALL_HIDDEN), batch)
        for name, value in losses_of(hidden, other).items():
            torch.testing.assert_close(value, losses_of(hidden, batch)[name], rtol=1e-4, atol=1e-5)


def test_masks_come_from_torch_alone(tokenizer, batch: SegmentationBatch) -> None:
    model = settle(build(tokenizer), batch)
    with torch.no_grad():
        first, second = losses_of(model, batch), losses_of(model, batch)
        other = model(batch, model.losses)
    assert first == second
    assert first["segmentation"] == other["segmentation"]
    assert first["vision_reconstruction"] != other["vision_reconstruction"]
    assert first["language_reconstruction"] != other["language_reconstruction"]


@pytest.mark.parametrize("variant", ["paper", "published"])
def test_the_text_decides_where_it_is_read(tokenizer, batch: SegmentationBatch, variant: str) -> None:
    shuffled = permuted(batch, [1, 2, 3, 4, 5, 6, 7, 0]).text
    for kind in ("cross", "self", "none"):
        changes = OFF if kind == "none" else {}
        model = settle(build(tokenizer, variant=variant, interaction=kind, **changes), batch)
        with torch.no_grad():
            difference = model.segment(batch.images, batch.text) - model.segment(batch.images, shuffled)
        assert (difference.abs().max() > 1e-6) == model.reads_text


@pytest.mark.parametrize("variant", ["paper", "published"])
def test_inference_needs_no_reconstructor(tokenizer, batch: SegmentationBatch, variant: str) -> None:
    model = settle(build(tokenizer, variant=variant), batch)
    touched = set()
    for name, module in model.named_modules():
        module.register_forward_hook(lambda *_, name=name: touched.add(name))
    with torch.no_grad():
        before = model.segment(batch.images, batch.text)
    assert before.shape == (8, SIDE, SIDE)
    assert ((before >= 0) & (before <= 1)).all()
    for part in ("reconstruction", "patch_interest", "word_interest"):
        assert not any(name.startswith(part) for name in touched)
    # The published order needs the words' own attention first; the paper's does not (section III-E).
    assert ("interaction.vision_to_text" in touched) == (variant == "published")
    assert "interaction.text_to_vision" in touched
    with torch.no_grad():
        model(batch, model.losses)
    assert {"reconstruction.vision", "reconstruction.language", "patch_interest", "word_interest"} <= touched
    del model.reconstruction
    with torch.no_grad():
        assert torch.equal(model.segment(batch.images, batch.text), before)


@pytest.mark.parametrize("variant", ["paper", "published"])
def test_images_without_any_text(tokenizer, batch: SegmentationBatch, variant: str) -> None:
    tokens = Tokenise(tokenizer, 32)([""] * 8)
    assert tokens.ids.shape == (8, 2)
    model = build(tokenizer, variant=variant).train()
    found = losses_of(model, dataclasses.replace(batch, text=tokens))
    torch.stack(list(found.values())).sum().backward()
    assert all(torch.isfinite(value) for value in found.values())
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    empty = dataclasses.replace(batch, target=torch.zeros_like(batch.target))
    assert all(torch.isfinite(value) for value in losses_of(model, empty).values())


def test_attention_is_the_interest_in_patches(tokenizer, batch: SegmentationBatch) -> None:
    model = settle(build(tokenizer), batch)
    with torch.no_grad():
        found = model.attention(batch.images, batch.text)
        # A corner of the image changes: the map does, and not by the same everywhere.
        pixels = batch.images.pixels.clone()
        pixels[:, :, :16, -16:] = 255 - pixels[:, :, :16, -16:]
        other = model.attention(dataclasses.replace(batch.images, pixels=pixels), batch.text)
    assert found.shape == (8, 4, 4)
    assert (found > 0).all()
    torch.testing.assert_close(found.sum(dim=(1, 2)), torch.ones(8))
    # By rows: the patches around the top right corner answer most.
    change = (other - found).abs()
    corner = change[:, :2, 2:].mean(dim=(1, 2))
    assert (corner > change.mean(dim=(1, 2))).all()
    assert (corner > change[:, 2:, :2].mean(dim=(1, 2))).all()


@pytest.mark.parametrize("variant", ["paper", "published"])
def test_the_weights_of_equation_11(tokenizer, batch: SegmentationBatch, variant: str) -> None:
    ones = {f"{name}_weight": 1.0 for name in EVERY}
    plain = losses_of(settle(build(tokenizer, variant=variant, **ones), batch), batch)
    default = losses_of(settle(build(tokenizer, variant=variant), batch), batch)
    for name, weight in zip(EVERY, (5.0, 0.2, 1.0, 1.0), strict=True):
        assert default[name].item() == pytest.approx(weight * plain[name].item(), rel=1e-5)


def test_reconstruction_targets_are_those_of_the_variant(tokenizer, batch: SegmentationBatch) -> None:
    """A held target gets no gradient; published code lets the patches' target learn."""
    for variant in ("paper", "published"):
        model = settle(build(tokenizer, variant=variant), batch)
        features = model._features(batch.images, batch.text, attends_words=True)
        attended = torch.randn(features.attended_patches.shape).requires_grad_()
        features = dataclasses.replace(
            features, attended_patches=attended, patches=torch.randn_like(attended).requires_grad_()
        )
        patches, words = model._patches(features), model._words(features)
        # Rebuilt perfectly, nothing is left to learn.
        perfect = {
            "vision_reconstruction": attended if variant == "published" else features.patches,
            "language_reconstruction": features.text if variant == "published" else features.words,
        }
        found = model._reconstruction_losses(features, patches, words, {n: v.detach() for n, v in perfect.items()})
        assert [value.item() for value in found.values()] == [0.0, 0.0]
        shifted = {name: value.detach() + 1 for name, value in perfect.items()}
        found = model._reconstruction_losses(features, patches, words, shifted)
        if variant == "published":
            assert [value.item() for value in found.values()] == pytest.approx([1.0, 1.0])
        (gradient,) = torch.autograd.grad(
            found["vision_reconstruction"], attended, retain_graph=True, allow_unused=True
        )
        # In the paper's form it comes through the weights alone, which are of V'.
        weights = torch.autograd.grad(patches.weights.sum(), features.patches, retain_graph=True, allow_unused=True)
        assert weights == (None,)
        assert torch.autograd.grad(
            found["vision_reconstruction"], features.patches, retain_graph=True, allow_unused=True
        ) == (None,)
        assert gradient is not None


@pytest.mark.parametrize("variant", ["paper", "published"])
def test_the_size_of_what_inference_touches(variant: str) -> None:
    """At the paper's size: at most 18.5 M parameters without the text encoder, and 24.5 GMACs with CLIP's."""
    clip = {"model_type": "clip_text_model", "hidden_size": 512, "num_hidden_layers": 12, "num_attention_heads": 8}
    clip |= {"intermediate_size": 2048}
    config = RecLMISConfig(text_encoder=EncoderConfig(architecture=clip, pooling="mean"), variant=variant)
    with torch.device("meta"):
        reconstruction = RecLMIS(config, 1000).reconstruction
    # Two reconstructors of three layers; published code uses 42.06 M in four.
    assert sum(value.numel() for value in reconstruction.parameters()) == pytest.approx(0.75 * 42.06e6, rel=1e-3)
    # One layer is faster made, and not touched.
    model = RecLMIS(dataclasses.replace(config, layers=1), 1000).eval()
    touched: dict[int, int] = {}
    for module in model.modules():
        # Attention uses its output projection without calling it.
        own = list(module.parameters(recurse=isinstance(module, torch.nn.MultiheadAttention)))
        module.register_forward_hook(lambda *_, own=own: touched.update((id(each), each.numel()) for each in own))
    images = Images(torch.zeros(1, 3, 224, 224), torch.zeros(0, 3, 1, 1), torch.zeros(0))
    ones = torch.ones(1, 18, dtype=torch.long)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model.segment(images, Tokens(ones, ones, ones))
    text = {id(parameter) for parameter in model.text_encoder.parameters()}
    without = sum(size for each, size in touched.items() if each not in text)
    # Published code has 18.44 M, of which 0.35 M in convolutions that it never calls and 0.79 M in one whose output
    # inference does not need; the paper's order does without the attention of the words, too.
    attention = 4 * 512 * 512 + 4 * 512
    assert without == pytest.approx(17.31e6 - attention * (variant == "paper"), abs=0.02e6)
    assert counter.get_total_flops() / 2 < 24.5e9


@pytest.mark.parametrize("variant", ["paper", "published"])
def test_one_step_of_training(tokenizer, larger: Path, variant: str) -> None:
    shards = ShardSet(larger / "images", larger / "captions", "train")
    model = build(tokenizer, variant=variant)
    before = {name: value.clone() for name, value in model.named_parameters()}
    phase = Phase(epochs=1, batch_size=8, learning_rate=1e-3, losses=model.losses)
    torch.use_deterministic_algorithms(True)
    try:
        state = fit(
            model,
            SamplingPlan(shards, usable(shards, RecLMIS), 0, 10),
            SegmentationCollate(Tokenise(tokenizer, 32), None, 0),
            TrainingConfig(phases={"joint": phase}),
            EngineConfig(threads=1, num_workers=0),
            device=torch.device("cpu"),
            saved=None,
            save=lambda state: None,
        )
    finally:
        torch.use_deterministic_algorithms(False)
    assert state["position"][3] == 1
    pooler = "text_encoder.backbone.pooler"
    still = [name for name, value in model.named_parameters() if torch.equal(value, before[name])]
    assert all(name.startswith(pooler) for name in still), still


def test_phases_must_request_the_losses_of_enabled_components(tokenizer) -> None:
    model = build(tokenizer, contrastive=False).train()
    for losses, message in ((EVERY, "asks for the losses.*contrastive"), (EVERY[:1], "leaves out the losses")):
        phase = Phase(epochs=1, batch_size=8, learning_rate=1e-3, losses=losses)
        training = TrainingConfig(phases={"joint": phase})
        with pytest.raises(ValueError, match=message):
            check_phases(model, training, EngineConfig(num_workers=0), usable=8, validation=8)


@pytest.mark.parametrize("name", ["paper", "published", "unet"])
def test_a_checkpoint_gives_the_same_masks(tokenizer, batch: SegmentationBatch, tmp_path: Path, name: str) -> None:
    model = build(tokenizer, **CONFIGURATIONS[name])
    losses_of(model.train(), batch)
    checkpoint.save(tmp_path, "reclmis", model, model.state_dict(), tokenizer, {}, INPUT_FORMAT)
    loaded, _ = checkpoint.load(tmp_path, RecLMIS)
    assert loaded.losses == model.losses
    with torch.no_grad():
        found, expected = (each.eval().segment(batch.images, batch.text) for each in (loaded, model))
    assert torch.equal(found, expected)


def test_in_bfloat16(tokenizer, batch: SegmentationBatch) -> None:
    for variant in ("paper", "published"):
        model = settle(build(tokenizer, variant=variant), batch)
        expected = losses_of(model, batch)
        model.uses_bfloat16 = model.text_encoder.uses_bfloat16 = True
        found = losses_of(model, batch)
        for name, value in found.items():
            assert value.dtype == torch.float32
            if name in ("segmentation", "contrastive"):
                torch.testing.assert_close(value, expected[name], rtol=0.05, atol=0.01)
        torch.stack(list(found.values())).sum().backward()


def test_settings_that_make_no_sense_are_refused() -> None:
    text = EncoderConfig(architecture={"model_type": "bert"})
    for changes, message in (
        ({"variant": "ours"}, "variant 'ours' is not one of: paper, published"),
        ({"interaction": "none"}, "nothing to train contrastive, vision_reconstruction, language_reconstruction with"),
        ({"contrastive_weight": 0.0}, "contrastive_weight 0.0 is not positive: switch the component off instead"),
        ({"segmentation_weight": -1.0}, "segmentation_weight -1.0 is not positive$"),
        ({"temperature": 0.0}, "temperature 0.0 is not positive$"),
        ({"vision_mask_ratio": 0.0}, "vision_mask_ratio is 0.0; give a fraction above 0 and up to 1"),
        ({"text_mask_ratio": 1.1}, "text_mask_ratio is 1.1"),
        ({"text_length": 0}, "text_length is 0; give 1 or more"),
        ({"layers": 11}, "layers is 11; give 1 to 10"),
        ({"base": 3, "heads": 5}, "8 base = 24 is no multiple of heads 5"),
        (
            {"contrastive_condition": False, "vision_condition": False, "language_condition": False},
            "no loss trains the interest in patches that masking draws by: choose masking random",
        ),
        (
            {"variant": "published", "contrastive": False, "language_reconstruction": False},
            "no loss trains the interest in patches",
        ),
        (
            {"variant": "published", "contrastive": False, "vision_reconstruction": False},
            "no loss trains the interest in words",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            RecLMISConfig(text_encoder=text, **changes)  # type: ignore[arg-type]


def test_a_grid_of_another_size_is_refused(tokenizer, batch: SegmentationBatch) -> None:
    with pytest.raises(ValueError, match="images of 64 x 64 pixels: set grid to 4, not 14"):
        build(tokenizer, grid=14).logits(batch.images, batch.text)
