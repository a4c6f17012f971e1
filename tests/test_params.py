"""Every params file that ships is valid in all of its sections."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.config import PromoteConfig, ServeConfig
from pipelines.captions.config import CaptionsConfig
from pipelines.config import load, load_section, parse
from pipelines.evaluate.config import EvaluateConfig
from pipelines.ingest.config import IngestConfig
from pipelines.phantom.config import PhantomConfig
from pipelines.proposals.config import ProposalsConfig
from pipelines.proposals.plan import check_plugins
from pipelines.regions.config import RegionsConfig
from pipelines.registry import plugin
from pipelines.report.config import ReportConfig
from pipelines.shards.config import ShardsConfig
from pipelines.split.config import SplitConfig
from pipelines.tracking.config import TrackingConfig
from pipelines.train.config import TrainConfig

SECTIONS = {
    "phantom": PhantomConfig,
    "ingest": IngestConfig,
    "split": SplitConfig,
    "proposals": ProposalsConfig,
    "regions": RegionsConfig,
    "captions": CaptionsConfig,
    "shards": ShardsConfig,
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "report": ReportConfig,
    "tracking": TrackingConfig,
    "promote": PromoteConfig,
    "serve": ServeConfig,
}
FILES = ["params.yaml", "params/paper.yaml", "params/pretraining.yaml", "params/real.yaml", "params/segmentation.yaml"]


@pytest.mark.parametrize("name", FILES)
def test_a_params_file_is_valid(repository: Path, name: str) -> None:
    file = repository / name
    assert yaml.safe_load(file.read_text()).keys() == SECTIONS.keys()
    loaded: dict[str, Any] = {section: load(cls, section, file) for section, cls in SECTIONS.items()}
    check_plugins(loaded["proposals"])
    plugin("captioners", loaded["captions"].captioner)
    assert (repository / loaded["captions"].prompts).is_dir()
    for source in loaded["ingest"].sources.values():
        plugin("sources", source.adapter)
    for task, options in loaded["evaluate"].tasks.items():
        parse(plugin("tasks", task).Config, options, task)
    for method, settings in loaded["train"].methods.items():
        model_class = plugin("methods", method)
        parse(model_class.Config, settings.model, method)
        for phase in settings.training.phases:
            assert set(phase.losses) <= set(model_class.losses)
            assert phase.batch_size % max(1, loaded["train"].engine.num_workers) == 0
    assert set(loaded["split"].allow_leaks) <= loaded["ingest"].sources.keys()


def test_no_params_file_was_forgotten(repository: Path) -> None:
    shipped = {file.relative_to(repository).as_posix() for file in (repository / "params").glob("*.yaml")}
    assert shipped | {"params.yaml"} == set(FILES)


def test_studies_do_not_share_a_registered_model(repository: Path) -> None:
    names = [load_section("tracking", repository / name)["model"] for name in FILES]
    assert len(set(names)) == len(names)
