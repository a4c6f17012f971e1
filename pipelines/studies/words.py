"""How many words of a text a method's iterations keep: by its settings alone, whatever the words and the image are."""

import re
from typing import Any

import torch

from models import checkpoint
from models.plan.config import PlanConfig
from models.plan.keywords import choose

TASK = "words"
# The one method that chooses words.
METHOD = "plan"
_METRIC = re.compile(r"left@(\d+)")


def is_metric(name: str) -> bool:
    """Whether it is `left@<iteration>`; @0 is the text as it is."""
    return _METRIC.fullmatch(name) is not None


def words_left(name: str, words: int, method: dict[str, Any]) -> float | str:
    """Words that are left after an iteration, or why there is no such number.

    Args:
        name: `left@<iteration>`.
        words: Of the text.
        method: An entry of `train.methods` that is PLAN.
    """
    config = checkpoint.build(PlanConfig, method["model"])
    found = _METRIC.fullmatch(name)
    assert found is not None
    iterations = int(found[1])
    if iterations > config.iterations:
        return f"the method has {config.iterations} iterations"
    present = torch.ones(1, words, dtype=torch.bool)
    for _ in range(iterations):
        # Which ones it keeps depends on their importance, how many does not.
        present, _ = choose(torch.zeros(1, words), present, config.keep_ratio, config.local_temperature, sample=False)
    return float(present.sum())
