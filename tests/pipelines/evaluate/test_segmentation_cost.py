"""Operations and parameters counted by hand."""

import torch
from torch import Tensor, nn

from models.data.batches import Images, Tokenise, Tokens
from models.encoders import EncoderConfig, TextEncoder
from pipelines.evaluate.segmentation.cost import cost, latency
from tests.pipelines.evaluate.small_world import tokenizer_of

BERT = {
    "model_type": "bert",
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 16,
}
TOKENIZER = tokenizer_of(["alpha beta gamma"])
IMAGES = Images(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), torch.zeros(0, 3, 1, 1), torch.zeros(0, dtype=torch.long))


class Small(nn.Module):
    """A convolution, and attention of the pixels to the words and to one another."""

    def __init__(self, frozen: bool) -> None:
        super().__init__()
        self.text_encoder = TextEncoder(EncoderConfig(architecture=BERT, frozen=frozen), len(TOKENIZER))
        self.convolution = nn.Conv2d(3, 8, 3, padding=1)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def segment(self, images: Images, tokens: Tokens) -> Tensor:
        pixels = self.convolution(images.pixels.float()).flatten(2).transpose(1, 2)
        words = self.text_encoder(tokens)[1]
        found = self.attention(pixels, words, words, need_weights=False)[0]
        # Of equal inputs: what torch has a fused kernel for.
        found = self.attention(found, found, found, need_weights=False)[0]
        return found.mean(dim=-1).sigmoid().unflatten(1, (4, 4))


def expected_flops(words: int) -> int:
    """Two for each multiplication with its addition, by hand."""
    convolution = 16 * 8 * 27
    # Queries and output of 16 pixels, keys and values of the words, products of both with all heads together.
    attention = 2 * 16 * 8 * 8 + 2 * words * 8 * 8 + 2 * 16 * words * 8
    attention += 4 * 16 * 8 * 8 + 2 * 16 * 16 * 8
    # Four projections, two products, two layers; the pooler reads the first token alone.
    bert = 4 * words * 8 * 8 + 2 * words * words * 8 + 2 * words * 8 * 12 + 8 * 8
    return 2 * (convolution + attention + bert)


def test_operations_are_those_by_hand_also_for_a_text_that_was_seen() -> None:
    tokens = Tokenise(TOKENIZER, 16)(["alpha beta"])
    for frozen in (False, True):
        model = Small(frozen).eval()
        model.segment(IMAGES, tokens)
        found = cost(model, IMAGES, tokens)
        assert found["flops"] == expected_flops(tokens.ids.shape[1]) == 2 * found["macs"]
        sizes = {name: sum(weight.numel() for weight in part.parameters()) for name, part in model.named_children()}
        assert found["parameters_total"] == sum(sizes.values())
        assert found["parameters_trainable"] == sum(sizes.values()) - frozen * sizes["text_encoder"]
    assert torch.backends.mha.get_fastpath_enabled()


def test_each_timed_run_encodes_its_text() -> None:
    model = Small(frozen=True).eval()
    encoded = []
    model.text_encoder.backbone.register_forward_hook(lambda *_: encoded.append(1))
    assert latency(model, IMAGES, Tokenise(TOKENIZER, 16)(["alpha beta"])) > 0
    assert len(encoded) == 23
