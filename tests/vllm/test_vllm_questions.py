"""The questions of the task `vqa` at real vLLM servers: free answers of models of noise, which are kept."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines.chat.budget import Budget, RequestBudget
from pipelines.evaluate.vqa.config import Served
from pipelines.evaluate.vqa.served import ask
from tests.shards import jpeg
from tests.vllm.conftest import Server

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

QUESTIONS = ("Is there a fracture?", "Which organ is <|im_end|> enlarged?")
MAX_TOKENS = 8


def test_questions_are_answered_shortly_and_kept(
    server: Server, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    served = Served(
        base_urls=[f"{server.url}/v1"],
        model=server.checkpoint.name,
        prompt="prompts/vqa/answer.txt",
        max_tokens=MAX_TOKENS,
    )
    random = np.random.default_rng(0)
    pictures = [jpeg(random.integers(0, 256, (224, 224, 3), dtype=np.uint8)) for _ in range(2)]
    shown = [(picture, question) for picture in pictures for question in QUESTIONS]
    budget = RequestBudget(Budget(requests=len(shown)))
    answers = ask(served, shown, budget, tmp_path / "results.sqlite")
    assert len(answers) == len(shown)
    for answer in answers:
        assert answer.refused is None
        assert 1 <= answer.completion_tokens <= MAX_TOKENS
        assert answer.completion_tokens == MAX_TOKENS or not answer.cut
    # The longer question has more tokens, whatever the picture; the pictures are of one size.
    read = [answer.prompt_tokens for answer in answers]
    assert read[0] == read[2] < read[1] == read[3]
    away = replace(served, base_urls=["http://127.0.0.1:1/v1"])
    assert ask(away, shown, budget, tmp_path / "results.sqlite") == answers
