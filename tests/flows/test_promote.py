"""Promotion on a real MLflow store with real evaluations of real checkpoints."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from flows.promote import main
from pipelines.errors import UserError
from pipelines.promotion import ledger
from pipelines.promotion.decision import PromotionDecision
from pipelines.tracking.store import connect
from pipelines.tracking.sync import sync
from tests.pipelines.promotion.promotion_world import (
    promotion,
    save_method,
    write_params,
    write_study,
)


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with a method that learned all words, one that learned none, and one that learned some; in MLflow."""
    folder = tmp_path_factory.mktemp("registered")
    write_study(folder, {"trained": (0, 100), "untrained": (0, 0), "half": (0, 30)})
    sync(promotion(folder).tracking, folder)
    return folder


@pytest.fixture
def project(registered: Path, tmp_path: Path) -> Path:
    return shutil.copytree(registered, tmp_path / "project")


def version_of(project: Path, method: str) -> str:
    client = connect(promotion(project).tracking, project)
    (found,) = client.search_model_versions(f"name = 'test' and tags.method = '{method}'")
    return str(found.version)


def champion(project: Path) -> str | None:
    found = connect(promotion(project).tracking, project).get_registered_model("test").aliases.get("champion")
    return None if found is None else str(found)


def refused(decision: PromotionDecision) -> list[str]:
    return [gate.name for gate in decision.gates if not gate.passed]


def lines(project: Path) -> list[dict[str, Any]]:
    return ledger.read(project / ledger.LEDGER)


def test_the_best_on_validation_is_confirmed_on_test_and_a_worse_one_is_refused(project: Path) -> None:
    decision = promotion(project).promote()
    best = version_of(project, "trained")
    assert (decision.promoted, champion(project)) == (True, best)
    assert decision.text == f"version {best} (trained) is the champion: retrieval/t2i_recall@5 = 1.0000"
    assert promotion(project).promote().text == f"version {best} (trained) is the champion already"
    (line,) = lines(project)
    values = line["validation"]
    assert set(values) == {"trained", "untrained", "half"}
    assert max(values, key=values.__getitem__) == "trained"
    worse = promotion(project).promote("untrained")
    assert (worse.promoted, champion(project)) == (False, best)
    assert {"chance", "regression"} <= set(refused(worse))
    assert "3 of 6 gates refuse: chance: the interval begins at" in worse.text
    assert "; regression: candidate less champion is -" in worse.text
    assert [one["action"] for one in lines(project)] == ["promoted", "refused"]
    tags = (
        connect(promotion(project).tracking, project).get_model_version("test", version_of(project, "untrained")).tags
    )
    assert tags["verdict.outcome"] == "refused"
    assert "verdict.gate.regression" in tags


def test_every_refusal_is_told_at_once(project: Path) -> None:
    write_params(
        project, promote={"use": "commercial", "licences": {"commercial": ["MIT"]}, "floors": {"sources": {"two": 0.5}}}
    )
    (project / "data/report/dataset_card.md").unlink()
    decision = promotion(project).promote("untrained")
    assert refused(decision) == ["chance", "baseline image-blind", "floor of source two", "card", "licences"]
    assert all(f"{name}: " in decision.text for name in refused(decision))
    assert "\n" not in decision.text
    assert champion(project) is None


def test_rollback_and_a_version_by_its_number(project: Path) -> None:
    trained, half = version_of(project, "trained"), version_of(project, "half")
    with pytest.raises(UserError, match="there is no champion yet"):
        promotion(project).roll_back()
    write_params(project, promote={"tolerance": 1.0})
    assert promotion(project).promote(version=trained).promoted
    assert promotion(project).promote(version=half).promoted
    assert promotion(project).roll_back().text == f"version {trained} is the champion again, in place of version {half}"
    assert champion(project) == trained
    with pytest.raises(UserError, match="there is no champion before the present one"):
        promotion(project).roll_back()
    assert [one["action"] for one in lines(project)] == ["promoted", "promoted", "rolled back"]
    assert lines(project)[0]["validation"] == {}
    with pytest.raises(UserError, match="test has no version 9: choose from 1, 2, 3"):
        promotion(project).promote(version="9")


def test_a_champion_whose_scores_are_not_at_hand_is_evaluated_again(
    project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert promotion(project).promote().promoted
    best = champion(project)
    # Only MLflow still has its files.
    shutil.rmtree(project / "data/checkpoints/trained")
    shutil.rmtree(project / "data/evaluation/trained")
    with caplog.at_level("INFO", "pipelines"):
        decision = promotion(project).promote("untrained")
    assert f"evaluating version {best} on the present test items" in caplog.text
    assert "regression" in refused(decision)


def test_an_evaluation_of_other_test_items_than_the_present_is_refused(project: Path) -> None:
    assert promotion(project).promote().promoted
    shutil.rmtree(project / "data/evaluation/trained")
    write_params(project, evaluate={"tasks": {"retrieval": {"ks": [1, 5, 8]}}})
    with pytest.raises(UserError, match="the evaluation of half is not of the present test items: run `dvc repro`"):
        promotion(project).promote("half")


def test_changed_champion_files_are_refused(project: Path) -> None:
    assert promotion(project).promote().promoted
    best = champion(project)
    shutil.rmtree(project / "data/evaluation/trained")
    source = connect(promotion(project).tracking, project).get_model_version("test", best).source
    weights = Path(source.removeprefix("file://")) / "artifacts/checkpoint/model.safetensors"
    kept = weights.read_bytes()
    try:
        weights.write_bytes(kept[:-1] + b"?")
        with pytest.raises(UserError, match="have changed since it was registered"):
            promotion(project).promote("half")
    finally:
        weights.write_bytes(kept)


def test_mistakes_are_one_clear_line(project: Path) -> None:
    with pytest.raises(UserError, match="'clap' has no scores: choose from half, trained, untrained"):
        promotion(project).promote("clap")
    for metric, message in (
        ("retrieval/i2t_recall@2", r"has no score 'retrieval/i2t_recall@2': choose from .*retrieval/i2t_recall@1"),
        ("retrieval/i2t_median_rank", r"cannot be a gate, for less is better: choose from i2t_own_recall@1"),
        ("rettrieval/i2t_recall@1", "has no score 'rettrieval"),
    ):
        write_params(project, promote={"metric": metric})
        with pytest.raises(UserError, match=message):
            promotion(project).promote("trained")
    for values, message in (
        ({"metric": "i2t_recall@1"}, "<task>/<metric>"),
        ({"metric": "retrieval/i2t_recall@1", "tolerance": -1}, "greater than or equal to 0"),
        ({"tolerance": 0, "use": "resale"}, "use is 'resale', which licences does not list: commercial, research"),
    ):
        write_params(project, promote=values)
        with pytest.raises(UserError, match=message):
            promotion(project)
    assert lines(project) == []


def test_without_validation_images_the_candidate_must_be_named(project: Path) -> None:
    for method in ("trained", "untrained", "half"):
        shutil.rmtree(project / "data/evaluation" / method / "validation")
    with pytest.raises(UserError, match=r"no method has a score .* on validation images"):
        promotion(project).promote()
    assert promotion(project).promote("trained").promoted


def test_a_method_that_was_trained_anew_must_be_evaluated_first(project: Path) -> None:
    evaluation = project / "data/evaluation/half"
    kept = shutil.copytree(evaluation, project / "kept")
    shutil.rmtree(project / "data/checkpoints/half")
    save_method(project, "half", seed=2, steps=3)
    shutil.rmtree(evaluation)
    kept.rename(evaluation)
    with pytest.raises(UserError, match="half: its evaluation is of another checkpoint than the present one"):
        promotion(project).promote("half")


def test_the_command_line_shows_the_gates_and_the_history(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(project)
    main("--history")
    assert capsys.readouterr().out == "no decision yet\n"
    main()
    shown = capsys.readouterr().out
    assert "passed  chance: the interval begins at 1.0000, above chance (0.3125): by +0.6875" in shown
    assert "passed  regression: there is no champion yet" in shown
    assert shown.endswith("is the champion: retrieval/t2i_recall@5 = 1.0000\n")
    with pytest.raises(UserError, match="is not promoted, 3 of 6 gates refuse"):
        main("--method", "untrained")
    assert "refused regression: " in capsys.readouterr().out
    connect(promotion(project).tracking, project).delete_registered_model_alias("test", "champion")
    main("--history")
    header, first, second, difference = capsys.readouterr().out.strip().split("\n")
    assert header.split()[:2] == ["when", "who"]
    assert "promoted" in first
    assert second.endswith("chance, baseline image-blind, regression")
    expected = f"the alias champion is none in the registry, version {version_of(project, 'trained')} by the ledger"
    assert difference == f"differs: {expected}"
