"""Frozen text encoders: each caption is encoded once, and nothing else about them changes."""

import copy
import gc
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.data.batches import Tokenise, Tokens
from models.encoders import EncoderConfig
from models.frozen_text import TextFeatureCache
from models.text_encoder import TextEncoder

BERT = {
    "model_type": "bert",
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}


def text_encoder(**settings: object) -> TextEncoder:
    torch.manual_seed(0)
    return TextEncoder(EncoderConfig(architecture=BERT, **settings), 50)


def tokens(lengths: list[int], seed: int = 0) -> Tokens:
    """Random texts of these lengths, padded to the longest."""
    random = torch.Generator().manual_seed(seed)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)).long()
    ids = torch.randint(1, 50, mask.shape, generator=random) * mask
    return Tokens(ids, mask, torch.where(mask == 1, torch.arange(max(lengths)), -1))


def rows(given: Tokens, chosen: list[int], length: int | None = None) -> Tokens:
    return Tokens(*(part[chosen, :length] for part in (given.ids, given.mask, given.words)))


def counted(encoder: TextEncoder) -> list[int]:
    """How many texts each call of the backbone was given, from now on."""
    calls: list[int] = []
    encoder.backbone.register_forward_hook(
        lambda _, __, kwargs, ___: calls.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    return calls


@pytest.mark.parametrize("settings", [{}, {"last_layers": 3}, {"pooling": "mean"}])
def test_a_frozen_encoder_gives_what_the_same_free_one_gives(settings: dict[str, object]) -> None:
    free = text_encoder(**settings).eval()
    frozen = text_encoder(**settings, frozen=True)
    frozen.load_state_dict(free.state_dict())
    given = tokens([7, 4, 2, 5])
    with torch.no_grad():
        whole, features = free(given)
    found, of_tokens = frozen(given)
    torch.testing.assert_close(found, whole)
    torch.testing.assert_close(of_tokens, features * given.mask.unsqueeze(-1))
    assert found.dtype == of_tokens.dtype == torch.float32
    assert found.shape == (4, 16)
    # Read back, and alone: bit for bit.
    again, from_file = frozen(given)
    assert torch.equal(again, found)
    assert torch.equal(from_file, of_tokens)
    with torch.no_grad():
        for number, length in enumerate([7, 4, 2, 5]):
            assert torch.equal(free(rows(given, [number], length))[1][0], from_file[number, :length])


@pytest.mark.parametrize("layers", [1, 3, 4])
def test_the_mean_of_the_last_layers(layers: int) -> None:
    encoder = text_encoder(last_layers=layers).eval()
    given = tokens([6, 6])
    hidden: list[Tensor] = []
    for layer in encoder.backbone.encoder.layer:
        layer.register_forward_hook(lambda _, __, out: hidden.append(out[0] if isinstance(out, tuple) else out))
    with torch.no_grad():
        _, features = encoder(given)
    expected = torch.zeros_like(features)
    for number in range(4 - layers, 4):
        expected += hidden[number] / layers
    torch.testing.assert_close(features, expected)


def test_each_caption_is_encoded_once() -> None:
    encoder = text_encoder(frozen=True)
    calls = counted(encoder)
    given = tokens([7, 4, 2])
    encoder(rows(given, [0, 1, 0, 1]))
    assert calls == [1, 1]
    encoder(rows(given, [1, 2, 0]))
    assert calls == [1, 1, 1]
    # The same caption beside another longest one, in evaluation, and without gradients.
    encoder.eval()
    with torch.inference_mode():
        encoder(rows(given, [2, 1], 4))
    encoder.train()
    encoder(given)
    assert calls == [1, 1, 1]
    # The beginning of a caption is another caption.
    encoder(tokens([3], seed=0))
    assert len(calls) == 4


def test_cached_features_do_not_depend_on_the_first_batch() -> None:
    given = tokens([9, 7, 4, 2, 8, 3, 6, 5])
    together, apart = text_encoder(frozen=True), text_encoder(frozen=True)
    _, at_once = together(given)
    for number in (3, 6, 0, 7, 1, 2, 5, 4):
        length = int(given.mask[number].sum())
        assert torch.equal(apart(rows(given, [number], length))[1][0], at_once[number, :length])


def test_padding_changes_nothing_and_is_zero() -> None:
    encoder = text_encoder(frozen=True, pooling="mean")
    given = tokens([5, 3])
    longer = Tokens(*(torch.nn.functional.pad(part, (0, 4)) for part in (given.ids, given.mask, given.words)))
    whole, features = encoder(given)
    other, padded = encoder(longer)
    assert torch.equal(other, whole)
    assert torch.equal(padded[:, :5], features)
    assert padded.shape == (2, 9, 16)
    assert (padded[:, 5:] == 0).all()
    assert (padded[1, 3:] == 0).all()
    assert (padded[1, :3] != 0).all()


@pytest.mark.parametrize("frozen", [False, True])
def test_padding_up_to_the_least_length_has_features_of_token_0(frozen: bool) -> None:
    torch.manual_seed(0)
    encoder = TextEncoder(EncoderConfig(architecture=BERT, frozen=frozen), 50, least_length=6).eval()
    given = tokens([4, 2, 8])
    # What stands at padding is not read: token 0 takes its place.
    other = Tokens(torch.where(given.mask == 1, given.ids, 7), given.mask, given.words)
    with torch.no_grad():
        _, features = encoder(given)
        assert torch.equal(encoder(other)[1], features)
        for number, length in enumerate([4, 2, 8]):
            row = given.ids[number : number + 1, : max(6, length)]
            inside = (torch.arange(row.shape[1]) < length).long().unsqueeze(0)
            alone = encoder.backbone(input_ids=row, attention_mask=inside).last_hidden_state[0]
            torch.testing.assert_close(features[number, : row.shape[1]], alone)
        # Beside no longer text, and from the file.
        short = encoder(rows(given, [1], 2))[1]
    assert short.shape == (1, 6, 16)
    torch.testing.assert_close(short[0], features[1, :6])


def test_the_empty_text_is_its_special_tokens(tokenizer) -> None:
    encoder = TextEncoder(
        EncoderConfig(architecture=BERT | {"vocab_size": len(tokenizer)}, frozen=True), len(tokenizer)
    )
    empty = Tokenise(tokenizer, 32)([""])
    assert empty.mask.sum() == 2
    whole, features = encoder(empty)
    assert features.shape == (1, 2, 16)
    assert torch.isfinite(whole).all()
    assert (features != 0).all()


def test_the_weights_are_kept_and_nothing_reaches_them() -> None:
    encoder = text_encoder(frozen=True).train()
    assert not encoder.backbone.training
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    assert set(before) == set(text_encoder().state_dict())
    whole, _ = encoder(tokens([4, 3]))
    assert not whole.requires_grad
    # What is learned on top of it is learned, from memory too.
    for _ in range(2):
        layer = torch.nn.Linear(16, 1)
        layer(encoder(tokens([4, 3]))[1]).sum().backward()
        assert layer.weight.grad.abs().sum() > 0
    assert all(torch.equal(encoder.state_dict()[name], value) for name, value in before.items())


def copied(encoder: TextEncoder, folder: Path) -> TextEncoder:
    torch.save(encoder, folder / "encoder.pt")
    return torch.load(folder / "encoder.pt", weights_only=False)


@pytest.mark.parametrize(
    "copy_of",
    [
        lambda encoder, _: copy.deepcopy(encoder),
        lambda encoder, _: pickle.loads(pickle.dumps(encoder)),
        copied,
    ],
    ids=["deepcopy", "pickle", "torch"],
)
def test_a_copy_has_weights_and_memory_of_its_own(
    copy_of: Callable[[TextEncoder, Path], TextEncoder], tmp_path: Path
) -> None:
    encoder = text_encoder(frozen=True)
    given = tokens([4, 3])
    _, features = encoder(given)
    other = copy_of(encoder, tmp_path)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.1)
    calls, ours = counted(other), counted(encoder)
    _, changed = other(given)
    assert calls == [1, 1]
    assert not torch.allclose(changed, features)
    assert torch.equal(encoder(given)[1], features)
    assert ours == []


def test_the_type_of_the_weights_is_kept() -> None:
    encoder = text_encoder(frozen=True).double()
    free = text_encoder().double().eval()
    given = tokens([5])
    _, features = encoder(given)
    with torch.no_grad():
        assert torch.equal(features, free(given)[1])
    assert features.dtype == torch.float64
    # bfloat16 inside, as `engine.precision` sets it, and float32 outside.
    rough = text_encoder(frozen=True)
    rough.uses_bfloat16 = True
    _, rounded = rough(given)
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, features.float())
    torch.testing.assert_close(rounded, features.float(), rtol=0.1, atol=0.05)


def resident() -> int:
    """Bytes of memory that this process has."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_memory_does_not_grow_with_the_captions() -> None:
    """Features of 1,500 captions of 32 tokens and 512 numbers are 98 MB."""
    table = torch.randn(50, 512)
    cache = TextFeatureCache(lambda ids, mask: table[ids])
    shape = (1500, 32)
    ids = torch.randint(50, shape, generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    cache(ids[:50], mask[:50])
    gc.collect()
    before = resident()
    for first in range(50, 1500, 50):
        found = cache(ids[first : first + 50], mask[first : first + 50])
    assert torch.equal(cache(ids[:50], mask[:50]), table[ids[:50]])
    assert torch.equal(found, table[ids[-50:]])
    gc.collect()
    assert resident() - before < 30e6
