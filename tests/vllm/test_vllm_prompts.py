"""What the captioner's requests are to the model: the tokens that vLLM reads of them, for each family of models.

The expected texts are written here from what each family publishes of its prompts, and the counts of image tokens are
worked out by hand: no chat template or processor takes part in them.
"""

import hashlib
import json
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tokenizers import Tokenizer

from pipelines.captions.captioners.vllm.caption_request import CaptionRequest, CaptionRequests
from pipelines.captions.captioners.vllm.options import Options
from pipelines.captions.captioners.vllm.prompts import Prompts
from pipelines.captions.captioners.vllm.request_images import RequestImages
from pipelines.captions.evidence import region_items
from pipelines.captions.protocols import Settings
from tests.pipelines.captions.world import CONFIG, PROMPTS, image_row, region_row
from tests.vllm.conftest import Server

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

WIDTH, HEIGHT = 448, 224
CROP = 224
# Of every family, in the report of the image: none may reach the model as more than text.
CONTROL = (
    "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|image_pad|>", "<start_of_turn>", "<end_of_turn>",
    "<start_of_image>", "<image_soft_token>", "<img>", "<IMG_CONTEXT>",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Family:
    """How a family writes a conversation.

    Attributes:
        image: What stands for an image of so many tokens.
        image_token: One of these tokens.
        counts: Tokens of an image of 448 x 224 pixels and of one of 224 x 224.
        turns: The conversation from instructions, first question, first answer and second question; the last two may
            be missing.
        turn: The token that opens a turn.
    """

    image: Callable[[int], str]
    image_token: str
    counts: tuple[int, int]
    turns: Callable[..., str]
    turn: str


def chatml(system: str, *said: str) -> str:
    turns = [("system", system), *zip(("user", "assistant", "user"), said, strict=False)]
    return "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in turns) + "<|im_start|>assistant\n"


def gemma(system: str, question: str, *said: str) -> str:
    turns = [("user", f"{system}\n\n{question}"), *zip(("model", "user"), said, strict=False)]
    text = "".join(f"<start_of_turn>{role}\n{text}<end_of_turn>\n" for role, text in turns)
    return f"<bos>{text}<start_of_turn>model\n"


def qwen_image(count: int) -> str:
    return f"<|vision_start|>{'<|image_pad|>' * count}<|vision_end|>"


FAMILIES = {
    # A token for 28 x 28 pixels: 16 x 8, and 8 x 8.
    "tiny-qwen2.5-vl": Family(
        image=qwen_image, image_token="<|image_pad|>", counts=(128, 64), turns=chatml, turn="<|im_start|>"
    ),
    # For 32 x 32: 14 x 7, and 7 x 7.
    "tiny-qwen3-vl": Family(
        image=qwen_image, image_token="<|image_pad|>", counts=(98, 49), turns=chatml, turn="<|im_start|>"
    ),
    # As many for every image.
    "tiny-gemma-3": Family(
        image=lambda count: f"\n\n<start_of_image>{'<image_soft_token>' * count}<end_of_image>\n\n",
        image_token="<image_soft_token>",
        counts=(4, 4),
        turns=gemma,
        turn="<start_of_turn>",
    ),
    # 4 for a tile of 56 x 56 pixels: 4 x 2 tiles (the most of that ratio that 12 allow) and one of the whole image;
    # 3 x 3 tiles and one.
    "tiny-internvl": Family(
        image=lambda count: f"<img>{'<IMG_CONTEXT>' * count}</img>\n",
        image_token="<IMG_CONTEXT>",
        counts=(36, 40),
        turns=chatml,
        turn="<|im_start|>",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request of the captioner about a region.

    Attributes:
        request: All but the pixels.
        urls: The image and the region's crop.
    """

    request: CaptionRequest
    urls: list[str]


def asked(folder: Path, seed: int = 0) -> Asked:
    """A request about a region of an image of coloured squares, whose report spells control tokens."""
    file = folder / f"{seed}.png"
    squares = np.random.default_rng(seed).integers(0, 255, (HEIGHT // 56, WIDTH // 56, 3), dtype=np.uint8)
    Image.fromarray(squares.repeat(56, axis=0).repeat(56, axis=1)).save(file)
    row = image_row(
        path=file.name,
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        width=WIDTH,
        height=HEIGHT,
        report=" ".join(CONTROL),
    )
    # With a margin of a quarter on each side the crop is a square too.
    region = region_row(row.image_id, proposer="saliency", area_fraction=0.1, x0=80.0, y0=80.0, x1=144.0, y1=144.0)
    (item,) = region_items(row, [region], CONFIG)
    prompts = PROMPTS.parent / "vllm"
    settings = Settings(
        prompts=prompts,
        seed=0,
        options={},
        sizes=CONFIG.sizes,
        roots={"toy": folder},
        max_pixels=10**6,
        cache=folder / "results.sqlite",
    )
    options = Options(base_urls=["http://unused/v1"], model="unused", image_size=WIDTH, crop_size=CROP)
    request = CaptionRequests(settings, options, Prompts(prompts, CONFIG.sizes)).of(item)
    return Asked(request=request, urls=RequestImages(settings, options).urls(item))


def complete(server: Server, request: CaptionRequest, messages: list[dict[str, Any]]) -> dict[str, Any]:
    """vLLM's answer of one token, with the tokens that it read."""
    body = {
        "model": server.checkpoint.name,
        "messages": messages,
        "response_format": request.response_format,
        "temperature": 0,
        "max_tokens": 1,
        "prompt_logprobs": 0,
        "return_token_ids": True,
    }
    post = urllib.request.Request(
        f"{server.url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(post, timeout=120) as answer:
        return json.load(answer)


def read_by(server: Server, completion: dict[str, Any]) -> tuple[str, list[str]]:
    """The prompt as the model got it: its text, and its tokens."""
    tokenizer = Tokenizer.from_file(str(server.checkpoint / "tokenizer.json"))
    numbers = completion["prompt_token_ids"]
    assert completion["usage"]["prompt_tokens"] == len(numbers)
    return tokenizer.decode(numbers, skip_special_tokens=False), list(map(tokenizer.id_to_token, numbers))


def after_the_images(completion: dict[str, Any], count: int = 100) -> np.ndarray:
    """The logarithms of the probabilities that the model gives the last tokens of the prompt."""
    tokens, odds = completion["prompt_token_ids"][-count:], completion["prompt_logprobs"][-count:]
    return np.array([odd[str(token)]["logprob"] for token, odd in zip(tokens, odds, strict=True)])


def test_model_reads_instructions_then_both_images_then_the_question(server: Server, tmp_path: Path) -> None:
    family, about = FAMILIES[server.checkpoint.name], asked(tmp_path)
    text, tokens = read_by(server, complete(server, about.request, about.request.messages(about.urls)))
    images = "".join(map(family.image, family.counts))
    assert text == family.turns(about.request.system, images + about.request.user)
    # What the report spells is text: there are as many of these tokens as there are images and turns.
    assert tokens.count(family.image_token) == sum(family.counts)
    assert tokens.count(family.turn) == family.turns("", "").count(family.turn)


def test_images_of_a_request_swap_places_in_the_prompt(server: Server, tmp_path: Path) -> None:
    family, about = FAMILIES[server.checkpoint.name], asked(tmp_path)
    text, _ = read_by(server, complete(server, about.request, about.request.messages(about.urls[::-1])))
    images = "".join(map(family.image, family.counts[::-1]))
    assert text == family.turns(about.request.system, images + about.request.user)


def test_correction_is_a_turn_of_the_user_after_the_models(server: Server, tmp_path: Path) -> None:
    """As the request loop asks again."""
    family, about = FAMILIES[server.checkpoint.name], asked(tmp_path)
    again = [{"role": "assistant", "content": "round"}, {"role": "user", "content": "Look again."}]
    text, _ = read_by(server, complete(server, about.request, [*about.request.messages(about.urls), *again]))
    question = "".join(map(family.image, family.counts)) + about.request.user
    assert text == family.turns(about.request.system, question, "round", "Look again.")


def test_answer_depends_on_each_image_and_on_their_order(server: Server, tmp_path: Path) -> None:
    about, other = asked(tmp_path), asked(tmp_path, seed=1)
    image, crop = about.urls

    def distance(*urls: str) -> float:
        """How far the probabilities are from those with the region's own pixels."""
        messages = about.request.messages(list(urls))
        return float(np.abs(after_the_images(complete(server, about.request, messages)) - own).max())

    own = after_the_images(complete(server, about.request, about.request.messages(about.urls)))
    same = distance(image, crop)
    changed = [distance(other.urls[0], crop), distance(image, other.urls[1]), distance(crop, image)]
    assert min(changed) > max(4 * same, 1e-3)
