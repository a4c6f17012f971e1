"""What is checked and set on a model before it is trained."""

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from models.data.augmentation import Augmentation
from models.encoders import ImageEncoder, TransformersEncoder
from models.method import Method
from models.training.config import LOSS, EngineConfig, TrainingConfig
from models.training.state import SavedState

# What needs a validation loss, and what to set where there is none.
INSTEAD = {
    "schedule plateau": "constant or cosine",
    "keep: best": "keep: last",
    "early_stopping": "early_stopping: null",
}


class TooFewImagesError(ValueError):
    """A split has fewer images that the method can use than a batch."""


def check_phases(model: Method, config: TrainingConfig, engine: EngineConfig, *, usable: int, validation: int) -> None:
    """Refuse what cannot be trained.

    Args:
        model: The method, in training mode.
        config: Its phases.
        engine: Its workers.
        usable: Training images that the method can learn from.
        validation: Validation images that it can be checked on.

    Raises:
        TooFewImagesError: A batch is larger than the split.
        ValueError: A batch cannot be shared evenly, a loss is unknown or missing, the best epoch is to be chosen by
            what the method does not have, it takes no augmentation or reads no text that one asks, or BatchNorm would
            see other batches than the losses do.
    """
    if config.augmentation is not None:
        _check_augmentation(model, config.augmentation)
    if bool(config.phases) != bool(model.losses):
        raise ValueError("training.phases must name at least one phase, or none where the method has no losses")
    _check_choice(model, config)
    for name, phase in config.phases.items():
        where = f"phase '{name}' has batch_size {phase.batch_size}, but only"
        if usable < phase.batch_size:
            raise TooFewImagesError(
                f"{where} {usable} training images have {model.learns_from}: lower batch_size or add data"
            )
        if (setting := _reads_validation(config, name)) and validation < phase.batch_size:
            raise TooFewImagesError(
                f"{where} {validation} validation images have {model.learns_from}, which {setting} needs: lower "
                f"batch_size, give the validation split more, or choose {INSTEAD[setting]}"
            )
        if phase.batch_size % max(1, engine.num_workers):
            raise ValueError(f"batch_size {phase.batch_size} of phase '{name}' is no multiple of the workers")
        if unknown := set(phase.losses) - set(model.losses):
            raise ValueError(
                f"phase '{name}' asks for the losses {sorted(unknown)}; the method has: {', '.join(model.losses)}"
            )
        if missing := set(model.required_losses) - set(phase.losses):
            raise ValueError(
                f"phase '{name}' leaves out the losses {sorted(missing)} of components that are on: add them, or "
                "switch the components off"
            )
    if config.phases and _has_batch_norm(model):
        advice = "set frozen_batch_norm where it is an image_encoder's; else train with one worker, or on GPUs"
        if config.micro_batch_size is not None:
            raise ValueError(f"with micro_batch_size, BatchNorm would see other batches than the losses: {advice}")
        if engine.num_workers > 1 and not engine.use_gpu:
            raise ValueError(f"num_workers {engine.num_workers} without GPUs cannot share batch statistics: {advice}")


def check_reading(saved: SavedState | None, reading: dict[str, Any]) -> None:
    """Refuse to continue a run whose batches would be others from here on.

    Args:
        saved: Its state.
        reading: How it would be read now (`EngineConfig.reading`).

    Raises:
        ValueError: It was read by another reader, or by `stream` with other numbers of processes.
    """
    if saved is not None and saved["reading"] != reading:
        before, now = (
            ", ".join(f"{name} {value}" for name, value in facts.items()) for facts in (saved["reading"], reading)
        )
        raise ValueError(
            f"the saved run reads by {before}, and would go on by {now}, with other batches: keep these numbers, or "
            "choose reader random_access, whose batches are the same for any number of workers"
        )


def check_trained(model: Method, config: TrainingConfig) -> None:
    """Refuse settings whose answers would come from weights as they were drawn.

    Raises:
        ValueError: No phase trains something that the method's settings use, or an encoder keeps random weights.
    """
    for name, part in model.named_modules():
        if isinstance(part, TransformersEncoder) and part.config.frozen and part.config.pretrained is None:
            raise ValueError(
                f"{name}.frozen keeps weights as they were loaded, and architecture loads none: remove frozen, or name "
                "a folder in pretrained"
            )
    losses = {loss for phase in config.phases.values() for loss in phase.losses}
    if config.phases and (what := model.untrained(losses)):
        raise ValueError(f"no phase has a loss that trains {what}: add one, or choose other settings")


def _check_augmentation(model: Method, augmentation: Augmentation) -> None:
    if not model.augments:
        raise ValueError("training.augmentation is set, but the method takes none: remove it")
    if augmentation.changes_texts and not model.reads_text:
        raise ValueError("training.augmentation has phrases or text_dropout, but the method reads no text: remove them")
    if augmentation.changes_images and any(_is_frozen(part) for part in model.modules()):
        raise ValueError("training.augmentation changes images, of which image_encoder.frozen keeps features: drop one")


def _check_choice(model: Method, config: TrainingConfig) -> None:
    if config.keep == "best" and not config.phases:
        raise ValueError("training.keep is best, but a method without phases has no epochs: remove it")
    if config.best_by not in (known := (LOSS, *model.validation_scores)):
        raise ValueError(f"training.best_by '{config.best_by}' is not one of the method's: {', '.join(known)}")


def _reads_validation(config: TrainingConfig, name: str) -> str | None:
    """The setting for which a phase needs a validation loss, if there is one."""
    if config.phases[name].schedule == "plateau":
        return "schedule plateau"
    if config.keeps_best_of(name):
        return "keep: best"
    return "early_stopping" if config.phases[name].early_stopping is not None else None


def prepare(model: Method, config: TrainingConfig, engine: EngineConfig) -> None:
    """Set on the model how it computes."""
    model.configure_compute(
        bfloat16=engine.precision == "bfloat16",
        micro_batch_size=config.micro_batch_size,
        compiled=engine.compile,
    )
    if engine.num_workers > 1 and engine.use_gpu and _has_batch_norm(model):
        nn.SyncBatchNorm.convert_sync_batchnorm(model)


def _has_batch_norm(model: Method) -> bool:
    """Whether images of a batch change one another's features; frozen layers are in evaluation mode."""
    return any(isinstance(layer, _BatchNorm) and layer.training for layer in model.modules())


def _is_frozen(part: nn.Module) -> bool:
    return isinstance(part, ImageEncoder) and part.config.frozen
