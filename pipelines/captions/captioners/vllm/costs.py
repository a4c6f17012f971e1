"""What the captioner's answers cost: tokens of the requests that it will send, or what the answers that it has took.

Text is counted by the tokenizer and the chat template of the served model where its folder is here; else by its
characters, which is an estimate. Images: `image_tokens.py`. Nothing is sent, and no image is opened.
"""

import contextlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipelines.captions.captioners.vllm.caption_request import CaptionRequest, CaptionRequests
from pipelines.captions.captioners.vllm.image_tokens import image_processor
from pipelines.captions.captioners.vllm.options import Options
from pipelines.captions.captioners.vllm.prompts import Prompts
from pipelines.captions.captioners.vllm.request_images import RequestImages
from pipelines.captions.captioners.vllm.request_loop import read_outcome
from pipelines.captions.protocols import AnswerCost, Costs, Item, RequestCost, Settings
from pipelines.errors import Rejected, UserError, item_boundary

# Of English text, as a rule (OpenAI's help centre, "What are tokens and how to count them?").
_CHARACTERS = 4

# A request and the number of its images -> tokens of its text.
TextCounter = Callable[[CaptionRequest, int], int]


def request_costs(
    settings: Settings, options: Options, prompts: Prompts, kept: Callable[[str], Any], model: Path | None
) -> Costs:
    """See `SendsRequests`.

    Args:
        settings: As the captioner has them.
        options: The captioner's own.
        prompts: The prompt files.
        kept: The value under a key in the result cache, or None.
        model: Folder of the served model; None: the one that the options name, or the hub's copy on this machine.

    Raises:
        UserError: The folder is not there, or its files cannot be used.
    """
    folder = _model_folder(options, model)
    requests, images = CaptionRequests(settings, options, prompts), RequestImages(settings, options)
    count_text, text_basis = _text_counter(folder)
    processor = image_processor(options.model, folder)

    def cost(item: Item) -> RequestCost | AnswerCost:
        request = requests.of(item)
        outcome = kept(request.key)
        if outcome is not None:
            # As the request loop has it: an answer that today's rules refuse is requested again.
            with contextlib.suppress(Rejected):
                read_outcome(item, outcome, requests.instructions[item.kind])
                return _answer_cost(outcome)
        sizes = images.sent_sizes(item)
        return RequestCost(
            text_tokens=count_text(request, len(sizes)),
            image_tokens=None if processor is None else sum(processor.tokens(*size) for size in sizes),
        )

    return Costs(
        model=options.model,
        attempts=options.attempts,
        max_tokens=options.max_tokens,
        concurrency=options.concurrency,
        text_basis=text_basis,
        image_basis=processor.basis if processor else "not known for this model: name its folder with --model",
        of=cost,
    )


def _answer_cost(outcome: dict[str, Any]) -> AnswerCost:
    # A request that the server refused was answered without a completion.
    return AnswerCost(
        requests=outcome["attempts"],
        prompt_tokens=outcome.get("prompt_tokens", 0),
        completion_tokens=outcome.get("completion_tokens", 0),
        seconds=outcome.get("milliseconds", 0) / 1000,
    )


def _model_folder(options: Options, given: Path | None) -> Path | None:
    if given is not None:
        if not given.is_dir():
            raise UserError(f"{given} is no folder: --model takes the folder of the model that is served")
        return given
    if Path(options.model).is_dir():
        return Path(options.model)
    from huggingface_hub import snapshot_download

    with contextlib.suppress(Rejected), item_boundary():
        return Path(snapshot_download(options.model, revision=options.revision, local_files_only=True))
    return None


def _text_counter(folder: Path | None) -> tuple[TextCounter, str]:
    """How text is counted, as a function and in words."""
    if folder is None or not (folder / "tokenizer.json").is_file():
        where = "the model's folder is not here (--model)" if folder is None else f"{folder} has no tokenizer.json"
        return _count_characters, f"estimate: {_CHARACTERS} characters a token, for {where}"
    # Here, for the captioner itself needs neither torch nor transformers.
    from transformers import AutoTokenizer

    try:
        with item_boundary():
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Rejected as error:
        raise UserError(f"{folder}: its tokenizer cannot be read ({error.detail}): fetch the model again") from None
    if not tokenizer.chat_template:
        return (
            lambda request, images: len(tokenizer(f"{request.system}\n{request.user}")["input_ids"]),
            f"tokenizer of {folder}, without the chat template, which is not there",
        )

    def tokens(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    around: dict[tuple[str, int], int] = {}

    def count(request: CaptionRequest, images: int) -> int:
        # Instructions and template are the same for all items of a kind, and most of what is sent.
        own, kind = tokens(request.user), (request.system, images)
        if kind not in around:
            system, user = request.messages([""] * images)
            # A template gets no pixels, and writes one token for each image.
            user["content"] = [*({"type": "image"} for _ in range(images)), user["content"][-1]]
            text = str(tokenizer.apply_chat_template([system, user], add_generation_prompt=True, tokenize=False))
            around[kind] = tokens(text) - images - own
        return around[kind] + own

    return count, f"tokenizer and chat template of {folder}"


def _count_characters(request: CaptionRequest, images: int) -> int:
    return math.ceil((len(request.system) + len(request.user)) / _CHARACTERS)
