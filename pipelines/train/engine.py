"""Carry out a run: in this process, or in one or several workers of Ray Train. All call the same bare loop."""

import logging
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from models.data.batches import Tokenise
from models.data.format import ShardError
from models.encoders import keep_features
from models.method import Method
from models.text import load_tokenizer
from models.training.config import EngineConfig, TrainingConfig
from models.training.data import SamplingPlan
from models.training.loop import SavedState, fit
from pipelines.files import atomic_path
from pipelines.logs import configure_logging
from pipelines.ray_session import cluster_address, prepare_ray, ray_session
from pipelines.train.progress import ProgressFile

STATE = "state.pt"


@dataclass(frozen=True, kw_only=True)
class Run:
    """All that a worker needs.

    Attributes:
        name: Method and hash of the inputs.
        folder: Where the unfinished run is kept; absolute, for workers have another working directory.
        model_class: The method.
        model_config: Its settings.
        train: The training split, absolute paths.
        validation: The validation split.
        training: Phases and optimiser.
        engine: Seed, threads, workers.
        progress: Where the points of its curves are appended while it runs.
        features: Where features of frozen image encoders are kept, for other runs too.
    """

    name: str
    folder: Path
    model_class: type[Method]
    model_config: Any
    train: SamplingPlan
    validation: SamplingPlan
    training: TrainingConfig
    engine: EngineConfig
    progress: ProgressFile
    features: Path


def train_run(run: Run) -> SavedState:
    """Train a run; a saved state of the same run is continued.

    Without phases there is nothing to train, and `num_workers` 0 asks for this process alone. One worker without a
    cluster needs no daemon of Ray's, whose start takes longer than many a run.

    Raises:
        FloatingPointError: As from `fit`.
    """
    if run.engine.num_workers == 0 or not run.training.phases:
        return train_in_process(run)
    if run.engine.num_workers == 1 and cluster_address() is None:
        return train_in_local_mode(run)
    return train_with_ray(run)


def train_in_process(run: Run, on_save: Callable[[SavedState], None] | None = None) -> SavedState:
    """Train here.

    Args:
        run: What to train.
        on_save: Called with each state after it was saved.
    """
    file = run.folder / STATE

    def save(state: SavedState) -> None:
        with atomic_path(file) as temporary:
            torch.save(state, temporary)
        if on_save is not None:
            on_save(state)

    return _fit(run, _load(file), save)


def train_in_local_mode(run: Run) -> SavedState:
    """Train in Ray Train's local mode: the worker is this process, and Ray starts nothing and listens nowhere.

    Local mode keeps no checkpoints and starts nothing again: states are saved as in `train_in_process`, and a run that
    ended early continues when the stage is run again.
    """
    _prepare_ray()
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    trainer: Any = TorchTrainer(
        _local_worker,  # type: ignore[arg-type]  # what it returns comes as Result.return_value
        train_loop_config={"run": run},
        scaling_config=ScalingConfig(num_workers=0),
        run_config=RunConfig(name=run.name, storage_path=str(run.folder)),
    )
    state: SavedState = trainer.fit().return_value
    return state


def train_with_ray(run: Run) -> SavedState:
    """Train in `num_workers` Ray Train workers, on this machine or on the cluster that RAY_ADDRESS names.

    Raises:
        FloatingPointError: As from `fit`.
        ShardError: As from `fit`, from the worker that found it.
        ConnectionError: Likewise.
    """
    _prepare_ray()
    from ray.train import WorkerGroupError

    with ray_session():
        try:
            result = _trainer(run).fit()
        except WorkerGroupError as error:
            raise _of_reading(error) from error
    if result.return_value is not None:
        raise FloatingPointError(result.return_value)
    state = _restore(result.checkpoint)
    if state is None or not state["finished"]:
        raise RuntimeError(f"Ray Train ended {run.name} without a finished state; its logs are in {run.folder}")
    return state


def _of_reading(error: Any) -> Exception:
    """What one worker could not read, of the errors in which all workers ended with it; else the error itself."""
    # Ray wraps what a worker raised.
    found = (getattr(failure, "_base_exc", failure) for failure in error.worker_failures.values())
    reading = (one for one in found if isinstance(one, ShardError | ConnectionError))
    return next(reading, error)


def _prepare_ray() -> None:
    """Settings that Ray and Ray Train read from the environment when they are imported."""
    prepare_ray()
    # The loop's paths are absolute, but a plug-in's may not be: keep the working directory.
    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"
    # Otherwise each line that a plug-in prints is shown twice.
    os.environ["RAY_TRAIN_ENABLE_PRINT_PATCH"] = "0"


def worker_numbers(training: TrainingConfig, engine: EngineConfig) -> list[int]:
    """The numbers of workers with which a run may go on, ascending: those that share the batches of all phases."""
    least = engine.num_workers if engine.min_workers is None else engine.min_workers
    sizes = [phase.batch_size for phase in training.phases.values()]
    return [number for number in range(least, engine.num_workers + 1) if not any(size % number for size in sizes)]


def _trainer(run: Run) -> Any:
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from pipelines.train.elastic import ElasticTrainer
    from pipelines.train.loopback import LoopbackConfig

    engine = run.engine
    numbers = worker_numbers(run.training, engine)
    is_elastic = len(numbers) > 1
    trainer = (ElasticTrainer if is_elastic else TorchTrainer)(
        _worker,  # type: ignore[arg-type]  # what it returns comes as Result.return_value
        train_loop_config={"run": run},
        # On a cluster the workers must reach each other: Ray's own way.
        torch_config=LoopbackConfig(folder=str(run.folder)) if cluster_address() is None else None,
        scaling_config=ScalingConfig(
            num_workers=(numbers[0], numbers[-1]) if is_elastic else engine.num_workers,  # type: ignore[arg-type]
            use_gpu=engine.use_gpu,
            resources_per_worker={"CPU": 1, **({"GPU": 1} if engine.use_gpu else {})},
        ),
        run_config=RunConfig(
            name="ray",
            storage_path=str(run.folder),
            checkpoint_config=CheckpointConfig(num_to_keep=1),
            failure_config=FailureConfig(max_failures=engine.max_failures),
        ),
    )
    if isinstance(trainer, ElasticTrainer):
        trainer.numbers = numbers
    return trainer


def _local_worker(config: dict[str, Any]) -> SavedState:
    import ray.train

    return train_in_process(config["run"], lambda state: ray.train.report(_metrics(state)))


def _worker(config: dict[str, Any]) -> str | None:
    """Train; return why the loss is not finite, if it is not."""
    import ray.train
    from ray.train import Checkpoint

    # Ray's own handler lets errors alone pass; the loop's lines belong on standard error as in a run without Ray.
    logging.getLogger().handlers.clear()
    configure_logging()
    run: Run = config["run"]

    def save(state: SavedState) -> None:
        metrics = _metrics(state)
        if ray.train.get_context().get_world_rank() != 0:
            ray.train.report(metrics)
            return
        with tempfile.TemporaryDirectory() as folder:
            torch.save(state, Path(folder) / STATE)
            ray.train.report(metrics, checkpoint=Checkpoint.from_directory(folder))

    try:
        _fit(run, _restore(ray.train.get_checkpoint()), save)
    except FloatingPointError as error:
        # Not raised: it would come again after each of FailureConfig's restarts.
        return str(error)
    return None


def _metrics(state: SavedState) -> dict[str, Any]:
    return {"step": state["position"][3], "loss": state["curve"][-1]["loss"] if state["curve"] else None}


def _restore(saved: Any) -> SavedState | None:
    """The state in a Ray checkpoint, or None where there is no checkpoint yet."""
    if saved is None:
        return None
    with saved.as_directory() as folder:
        return _load(Path(folder) / STATE)


def _load(file: Path) -> SavedState | None:
    # weights_only: a state holds tensors and plain values, so that loading it can run no code.
    return torch.load(file, map_location="cpu", weights_only=True) if file.is_file() else None


def _fit(run: Run, saved: SavedState | None, save: Callable[[SavedState], None]) -> SavedState:
    engine = run.engine
    torch.set_num_threads(engine.threads)
    torch.use_deterministic_algorithms(True, warn_only=engine.use_gpu)
    torch.manual_seed(engine.seed)
    device = torch.device("cuda" if engine.use_gpu else "cpu")
    tokenizer = load_tokenizer(run.folder / "tokenizer")
    model = run.model_class(run.model_config, len(tokenizer)).to(device)
    keep_features(model, run.features)
    tokenise = Tokenise(tokenizer, tokenizer.model_max_length, normalises=model.normalises_text)
    collate = model.collate(tokenise, run.training.augmentation, engine.seed)
    return fit(
        model,
        run.train,
        collate,
        run.training,
        engine,
        device=device,
        saved=saved,
        save=save,
        validation=run.validation,
        on_point=run.progress.point,
    )
