"""TMCA as a whole: its switches, its losses, and what must change nothing."""

import dataclasses
import json
from typing import Any

import pytest
import torch

from models import checkpoint
from models.ariadne.config import AriadneConfig
from models.ariadne.model import Ariadne
from models.data.batches import Tokens
from models.segmentation.losses import mask_loss
from models.tmca.config import LEVELS, TmcaConfig
from models.tmca.model import Tmca
from models.training.config import EngineConfig, Phase, TrainingConfig
from models.training.prepare import check_phases, prepare
from tests.models.small import write_shards
from tests.models.test_ariadne import count, full_size, shard_batch
from tests.models.test_language_decoder import check_gradients, check_invariances, encoders, padded
from tests.models.test_tmca_losses import reference_alignment, reference_targets

BASELINE: dict[str, Any] = {"tsdm": False, "ltem": False, "levels": ()}
# Every row of paper 002's tables 2 and 3 and of paper 004's (their baseline is the same).
ABLATIONS: dict[str, dict[str, Any]] = {
    "full": {},
    "baseline": BASELINE,
    "mcas": {"tsdm": False, "ltem": False},
    "mcas_ltem": {"tsdm": False},
    "one_level": {"tsdm": False, "ltem": False, "levels": ("global",)},
    "tsdm_g": {"levels": ("global",)},
    "tsdm_g_32": {"levels": ("global", 32)},
    "tsdm_g_32_16": {"levels": ("global", 32, 16)},
    "literal": {"ltem_form": "literal"},
    "nearest": {"ltem_upsampling": "nearest"},
}


def small(tokenizer: Any, **changes: Any) -> Tmca:
    """The same weights for any settings, but for those of the level `global`."""
    torch.manual_seed(0)
    return Tmca(TmcaConfig(**encoders(), **changes), len(tokenizer))


@pytest.fixture(scope="module")
def batch(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = write_shards(tmp_path_factory.mktemp("large"), 12, size=64)
    return shard_batch(folder, small(tokenizer), tokenizer)


def test_padding_order_and_size(tokenizer: Any) -> None:
    check_invariances(small(tokenizer), tokenizer)


@pytest.mark.parametrize("name", ABLATIONS)
def test_every_ablation_trains_all_that_it_has(tokenizer: Any, batch: Any, name: str) -> None:
    model = small(tokenizer, **ABLATIONS[name]).train()
    losses = model(batch, model.losses)
    assert tuple(losses) == model.losses == (("segmentation",) if name == "baseline" else Tmca.losses)
    check_gradients(sum(losses.values()), model)


def test_switches_remove_parameters(tokenizer: Any) -> None:
    """TSDM and LTEM have none; of the alignment's, those of the blocks are read by the attention in any case."""
    names = {name: set(small(tokenizer, **changes).state_dict()) for name, changes in ABLATIONS.items()}
    projection = {"global_projection.weight", "global_projection.bias"}
    assert names["full"] - names["baseline"] == projection
    assert all(names[name] == names["full"] for name in ABLATIONS if name != "baseline")
    assert set(small(tokenizer, levels=(32, 8)).state_dict()) == names["full"] - projection


@torch.no_grad()
def test_inference_reads_nothing_that_serves_training_alone(tokenizer: Any, batch: Any) -> None:
    model = small(tokenizer).eval()
    found = model.segment(batch.images, batch.text)
    for parameter in model.global_projection.parameters():
        parameter.fill_(float("nan"))
    assert torch.equal(model.segment(batch.images, batch.text), found)


@torch.no_grad()
def test_the_contrastive_loss_is_the_mean_over_the_levels(tokenizer: Any, batch: Any) -> None:
    """From what enters the blocks, in plain loops."""
    model = small(tokenizer, target_temperature=0.3, temperature=0.2, contrastive_weight=0.5).double().eval()
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    for block in model.decoder.blocks:
        block.register_forward_pre_hook(lambda _, inputs: seen.append((inputs[0], inputs[2])))
    found = model(batch, model.losses)
    words = model.text_encoder(batch.text)[1]
    seen.append((model.image_encoder.pyramid(batch.images.pixels)[-1], model.global_projection(words)))
    targets = reference_targets(batch.target, 0.3)
    total = 0.0
    for features, projected in seen:
        images = [[float(channel.mean()) for channel in image] for image in features]
        texts = [
            [sum(values) / len(values) for values in zip(*row[mask == 1].tolist(), strict=True)]
            for row, mask in zip(projected, batch.text.mask, strict=True)
        ]
        total += reference_alignment(images, texts, targets, 0.2)
    assert [features.shape[1:] for features, _ in seen] == [(16, 2, 2), (12, 4, 4), (8, 8, 8), (16, 2, 2)]
    assert float(found["contrastive"]) == pytest.approx(0.5 * total / 4, rel=1e-5)
    assert found["segmentation"] == mask_loss(model.logits(batch.images, batch.text), batch.target)


@torch.no_grad()
def test_a_level_alone_and_the_mean(tokenizer: Any, batch: Any) -> None:
    full = small(tokenizer).eval()
    alone = []
    for level in LEVELS:
        model = small(tokenizer, levels=(level,)).eval()
        kept = {name: value for name, value in full.state_dict().items() if name in model.state_dict()}
        model.load_state_dict(kept)
        alone.append(float(model(batch, model.losses)["contrastive"]))
    assert len(set(alone)) == 4
    assert float(full(batch, full.losses)["contrastive"]) == pytest.approx(sum(alone) / 4, rel=1e-5)


@torch.no_grad()
def test_order_and_padding_change_no_loss(tokenizer: Any, batch: Any) -> None:
    model = small(tokenizer).eval()
    expected = model(batch, model.losses)
    order = torch.tensor([3, 5, 0, 1, 4, 2])
    tokens = padded(batch.text)
    turned = dataclasses.replace(
        batch,
        images=dataclasses.replace(batch.images, pixels=batch.images.pixels[order]),
        text=Tokens(tokens.ids[order], tokens.mask[order], tokens.words[order]),
        target=batch.target[order],
    )
    for name, value in model(turned, model.losses).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_tsdm_changes_the_targets_and_nothing_else(tokenizer: Any, batch: Any) -> None:
    with_tsdm, without = small(tokenizer).eval(), small(tokenizer, tsdm=False).eval()
    first, second = with_tsdm(batch, with_tsdm.losses), without(batch, without.losses)
    assert first["segmentation"] == second["segmentation"]
    assert first["contrastive"] != second["contrastive"]


@torch.no_grad()
def test_the_literal_map_shrinks_what_the_head_gets(tokenizer: Any, batch: Any) -> None:
    """At 64 x 64 pixels the maps have 4, 16 and 64 positions."""
    entering = {}
    for form in ("literal", "rescaled"):
        model = small(tokenizer, ltem_form=form).eval()
        found = entering[form] = []
        for module in (*model.decoder.blocks, model.decoder.head):
            module.register_forward_pre_hook(lambda _, inputs, found=found: found.append(inputs[0].abs().mean()))
        model.segment(batch.images, batch.text)
    first, second, *_ = (
        float(literal / rescaled) for literal, rescaled in zip(entering["literal"], entering["rescaled"], strict=True)
    )
    assert first == 1.0
    assert second == pytest.approx(1 / 4, rel=1e-5)
    # Behind it the blocks differ in more than scale; the head gets about 1/64.
    assert 1 / 128 < float(entering["literal"][3] / entering["rescaled"][3]) < 1 / 32


@torch.no_grad()
def test_the_attention_is_the_gate_before_the_head(tokenizer: Any, batch: Any) -> None:
    model = small(tokenizer, ltem_upsampling="nearest").eval()
    found: dict[str, torch.Tensor] = {}
    model.decoder.blocks[2].register_forward_hook(lambda _, inputs, output: found.update(before=output))
    model.decoder.head.register_forward_pre_hook(lambda _, inputs: found.update(after=inputs[0]))
    attention = model.attention(batch.images, batch.text)
    assert attention.shape == (6, 8, 8)
    torch.testing.assert_close(attention.sum(dim=(1, 2)), torch.ones(6))
    assert attention.flatten(1).std(dim=1).min() > 0
    gate = (64 * attention).repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    torch.testing.assert_close(found["after"], found["before"] * gate.unsqueeze(1))


@torch.no_grad()
def test_attention_without_its_map(tokenizer: Any, batch: Any) -> None:
    aligned = small(tokenizer, ltem=False).attention(batch.images, batch.text)
    torch.testing.assert_close(aligned.sum(dim=(1, 2)), torch.ones(6))
    with pytest.raises(ValueError, match="set ltem to true, or add 8 to levels"):
        small(tokenizer, ltem=False, levels=("global", 32, 16)).attention(batch.images, batch.text)


def test_a_few_steps_lower_both_losses(tokenizer: Any, batch: Any) -> None:
    model = small(tokenizer).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    course = []
    for _ in range(25):
        losses = model(batch, model.losses)
        course.append({name: value.item() for name, value in losses.items()})
        optimiser.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimiser.step()
    for name in model.losses:
        assert course[-1][name] < course[0][name] - 0.1, name


@torch.no_grad()
def test_in_bfloat16_the_losses_are_nearly_the_same_and_float32(tokenizer: Any, batch: Any) -> None:
    model = small(tokenizer).eval()
    expected = model(batch, model.losses)
    phase = Phase(epochs=1, batch_size=4, learning_rate=1e-3, losses=model.losses)
    prepare(model, TrainingConfig(phases={"all": phase}), EngineConfig(num_workers=0, precision="bfloat16"))
    for name, value in model(batch, model.losses).items():
        assert value.dtype == torch.float32
        assert value != expected[name]
        torch.testing.assert_close(value, expected[name], rtol=0.05, atol=0.0)


def test_a_frozen_text_encoder_gives_the_same_and_learns_nothing(tokenizer: Any, batch: Any) -> None:
    model = small(tokenizer).eval()
    frozen = dataclasses.replace(model.config.text_encoder, frozen=True)
    again = Tmca(dataclasses.replace(model.config, text_encoder=frozen), len(tokenizer)).eval()
    again.load_state_dict(model.state_dict())
    losses = again(batch, again.losses)
    for name, value in model(batch, model.losses).items():
        torch.testing.assert_close(losses[name], value, rtol=1e-4, atol=1e-6)
    sum(losses.values()).backward()
    assert all(parameter.grad is None for parameter in again.text_encoder.parameters())
    assert again.decoder.text_projections[0][0].weight.grad.any()


@pytest.mark.parametrize(
    ("changes", "losses", "message"),
    [
        ({}, ("segmentation",), "leaves out the losses \\['contrastive'\\]"),
        (BASELINE, ("segmentation", "contrastive"), "asks for the losses \\['contrastive'\\]"),
    ],
)
def test_phases_must_request_the_losses_of_enabled_components(
    tokenizer: Any, changes: dict[str, Any], losses: tuple[str, ...], message: str
) -> None:
    model = small(tokenizer, **changes)
    phase = Phase(epochs=1, batch_size=4, learning_rate=1e-3, losses=losses)
    with pytest.raises(ValueError, match=message):
        check_phases(model, TrainingConfig(phases={"all": phase}), EngineConfig(num_workers=0), usable=8, validation=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"levels": ("global", 4)}, r"levels \[4\] are not among: global, 32, 16, 8"),
        ({"levels": (8, 8)}, "twice"),
        ({"levels": ()}, "set tsdm to false"),
        ({"ltem_form": "scaled"}, "literal"),
        ({"ltem_upsampling": "bicubic"}, "bilinear, nearest"),
        ({"temperature": 0.0}, "^temperature must be positive"),
        ({"target_temperature": 0.0}, "^target_temperature must be positive"),
        ({"map_temperature": -1.0}, "^map_temperature must be positive"),
        ({"contrastive_weight": 0.0}, "leave levels empty"),
        ({"heads": 0}, "heads must be at least 1"),
    ],
)
def test_invalid_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TmcaConfig(**encoders(), **changes)


@torch.no_grad()
def test_a_model_comes_back_from_its_written_settings(tokenizer: Any, batch: Any) -> None:
    model = small(tokenizer, levels=("global", 8)).eval()
    written = json.loads(json.dumps(dataclasses.asdict(model.standalone_config())))
    again = Tmca(checkpoint.build(TmcaConfig, written), len(tokenizer)).eval()
    again.load_state_dict(model.state_dict())
    for name, value in model(batch, model.losses).items():
        assert again(batch, again.losses)[name] == value


def test_parameters_are_those_of_ariadne_and_one_projection() -> None:
    with torch.device("meta"):
        ariadne = Ariadne(AriadneConfig(**full_size()), 30522)
        tmca = Tmca(TmcaConfig(**full_size()), 30522)
        baseline = Tmca(TmcaConfig(**full_size(), **BASELINE), 30522)
    assert count(baseline) == count(ariadne)
    assert count(tmca) == count(ariadne) + 768 * 768 + 768
