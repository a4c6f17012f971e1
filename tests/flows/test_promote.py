"""The gates on a real MLflow store with real evaluations of real checkpoints."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.config import PromoteConfig
from flows.promote import PromotionDecision, find_champion, main, promote
from models import checkpoint
from models.verified import record
from pipelines.config import parse
from pipelines.errors import UserError
from pipelines.evaluate import stage
from pipelines.evaluate.config import EvaluateConfig
from pipelines.tracking.config import TrackingConfig
from pipelines.tracking.store import connect
from tests.pipelines.evaluate.small_world import image, save_clip, write_shards

METRIC = "retrieval/t2i_recall@5"
TRACKING = TrackingConfig(uri="sqlite:///data/mlflow.db", artifacts="data/mlflow", experiment="test", model="test")
EVALUATE: dict[str, Any] = {
    "tasks": {"retrieval": {"ks": [1, 5]}},
    "batch_size": 8,
    "bootstrap": {"samples": 20, "seed": 0},
}
EVALUATION = parse(EvaluateConfig, EVALUATE, "evaluate")


def score(project: Path, method: str, output: Path | None = None) -> float:
    """Evaluate a method on the project's shards; return its score on the metric of the gates."""
    output = output or project / "data/evaluation" / method
    shards = project / "data/shards"
    folder = project / "data/checkpoints" / method
    stage.run(EVALUATION, method, folder, shards / "images", shards / "captions", output, project / "data/summaries")
    results = json.loads((output / "metrics.json").read_text())
    return results["tasks"]["retrieval"]["metrics"]["t2i_recall@5"]["value"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A project with two methods, an empty store, and the names of the better and the worse."""
    project = tmp_path_factory.mktemp("trained")
    write_shards(project / "data/shards", [image(number) for number in range(16)])
    (project / "params.yaml").write_text("train: {methods: {clip: {}, other: {}}}\n")
    values = {}
    for method, steps in (("clip", 60), ("other", 0)):
        save_clip(project / "data/checkpoints" / method, seed=0, steps=steps)
        values[method] = score(project, method)
    connect(TRACKING, project).search_experiments()
    worse, better = sorted(values, key=values.__getitem__)
    assert values[worse] < values[better]
    return project, better, worse


@pytest.fixture
def project(trained: tuple[Path, str, str], tmp_path: Path) -> Path:
    return shutil.copytree(trained[0], tmp_path / "project")


def judge(project: Path, method: str | None = None, minimum: float = 0.0, tolerance: float = 0.0) -> PromotionDecision:
    gates = PromoteConfig(metric=METRIC, minimum=minimum, tolerance=tolerance)
    return promote(gates, TRACKING, EVALUATION, project, method)


def champion(project: Path) -> str | None:
    version = find_champion(connect(TRACKING, project), "test")
    return None if version is None else version.tags["method"]


def test_the_best_passes_and_a_worse_one_does_not_replace_it(project: Path, trained: tuple[Path, str, str]) -> None:
    _, better, worse = trained
    assert judge(project).promoted
    assert champion(project) == better
    assert judge(project).reasons == [f"{better} is the champion already (version {1 if better == 'clip' else 2})"]
    refused = judge(project, worse)
    assert not refused.promoted
    assert "below the champion" in refused.reasons[0]
    assert champion(project) == better
    assert judge(project, worse, tolerance=1.0).promoted
    assert champion(project) == worse


def test_the_minimum_holds_without_a_champion(project: Path) -> None:
    refused = judge(project, minimum=1.01)
    assert not refused.promoted
    assert "is below the minimum, 1.0100" in refused.reasons[0]
    assert champion(project) is None


def test_the_champion_is_evaluated_again_when_the_test_items_changed(
    project: Path, trained: tuple[Path, str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, better, worse = trained
    assert judge(project, better).promoted
    write_shards(project / "data/shards", [image(number, word=15 - number) for number in range(16)])
    candidate = score(project, worse)
    now = score(project, better, tmp_path / "again")
    # Only MLflow still has the champion's files.
    shutil.rmtree(project / "data/checkpoints" / better)
    shutil.rmtree(project / "data/evaluation" / better)
    with caplog.at_level("INFO", "flows"):
        decision = judge(project, worse)
    assert "evaluating champion version 1 again" in caplog.text
    # With exchanged texts the trained one is right less often than the other; its old score would have held.
    assert now < candidate
    assert decision.promoted
    assert champion(project) == worse


def test_an_evaluation_of_other_items_than_the_present_is_refused(
    project: Path, trained: tuple[Path, str, str]
) -> None:
    _, better, worse = trained
    assert judge(project, better).promoted
    metrics = project / "data/evaluation" / worse / "metrics.json"
    results = json.loads(metrics.read_text())
    results["items_sha256"] = "0" * 64
    metrics.write_text(json.dumps(results))
    record(metrics)
    with pytest.raises(UserError, match="not of the present test items: run `dvc repro`"):
        judge(project, worse)


def test_changed_champion_files_are_refused(project: Path, trained: tuple[Path, str, str]) -> None:
    _, better, worse = trained
    assert judge(project, better).promoted
    write_shards(project / "data/shards", [image(number) for number in range(12)])
    score(project, worse)
    digest = checkpoint.digest(project / "data/checkpoints" / better)
    for config in (project / "data/mlflow").glob("*/artifacts/model/artifacts/checkpoint/config.json"):
        if checkpoint.digest(config.parent) == digest:
            config.write_text(config.read_text() + " ")
    with pytest.raises(UserError, match="have changed"):
        judge(project, worse)


def test_mistakes_are_one_clear_line(project: Path) -> None:
    with pytest.raises(UserError, match=r"'clap' has no score .*choose from clip, other"):
        judge(project, "clap")
    gates = PromoteConfig(metric="retrieval/i2t_recall@2", minimum=0, tolerance=0)
    with pytest.raises(UserError, match="no evaluated method has a score 'retrieval/i2t_recall@2'"):
        promote(gates, TRACKING, EVALUATION, project)
    for values, message in (
        ({"metric": "i2t_recall@1", "minimum": 0, "tolerance": 0}, "<task>/<metric>"),
        ({"metric": "retrieval/i2t_median_rank", "minimum": 0, "tolerance": 0}, "less is better"),
        ({"metric": METRIC, "minimum": 0, "tolerance": -1}, "at least 0"),
    ):
        with pytest.raises(UserError, match=message):
            parse(PromoteConfig, values, "promote")


def test_the_command_line_says_why_and_fails(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    tracking = {"uri": TRACKING.uri, "artifacts": TRACKING.artifacts, "experiment": "test", "model": "test"}
    monkeypatch.chdir(project)
    for minimum in (0.0, 2.0):
        promote_params = {"metric": METRIC, "minimum": minimum, "tolerance": 0.0}
        params = {"promote": promote_params, "tracking": tracking, "evaluate": EVALUATE}
        params["train"] = {"methods": {"clip": {}, "other": {}}}
        Path("params.yaml").write_text(yaml.safe_dump(params))
        if minimum:
            with pytest.raises(UserError, match=r"not promoted: .* below the minimum"):
                main("--method", "clip" if champion(project) == "other" else "other")
        else:
            main()
            assert "is the champion" in capsys.readouterr().out
