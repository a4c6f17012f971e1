"""A study of 40 images that every test here copies; benchmarks/fault_parts has what the tests do."""

import sys
from pathlib import Path

import pytest

# `fault_parts` lies beside the other benchmarks and is imported by its name, as benchmarks/faults.py does.
sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once by the stages themselves, up to the shards: training has tests of its own that kill it."""
    from fault_parts import workspace

    folder = tmp_path_factory.mktemp("faults") / "study"
    workspace.build(folder, workspace.STAGES[: [stage.name for stage in workspace.STAGES].index("train")])
    return folder
