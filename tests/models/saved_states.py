"""Runs of the training loop whose saved states are all kept."""

import copy

import torch

from models.data.batches import Collate, Tokenise
from models.training.config import EngineConfig, TrainingConfig
from models.training.data import SamplingPlan
from models.training.loop import fit
from models.training.state import SavedState
from tests.models.small import make_model


def saved_states(
    plan: SamplingPlan,
    tokenizer,
    training: TrainingConfig,
    engine: EngineConfig,
    resumed: SavedState | None = None,
    *,
    stop_after: int | None = None,
    validation: SamplingPlan | None = None,
    model: torch.nn.Module | None = None,
) -> list[SavedState]:
    """All states that the loop saved; `stop_after` kills it after so many."""
    saved: list[SavedState] = []

    def save(new: SavedState) -> None:
        # A state shares its memory with the model.
        saved.append(copy.deepcopy(new))
        if stop_after is not None and len(saved) == stop_after:
            raise KeyboardInterrupt

    model = model or make_model(tokenizer)
    collate = Collate(Tokenise(tokenizer, 32), model.max_regions)
    options = {"device": torch.device("cpu"), "saved": resumed, "save": save, "validation": validation}
    try:
        fit(model, plan, collate, training, engine, **options)
    except KeyboardInterrupt:
        assert stop_after is not None
    return saved
