"""Each gate, on both sides of its edge."""

import dataclasses
from pathlib import Path

import pytest

from models.verified import seal, sha256_file
from pipelines.evaluate.config import Bootstrap
from pipelines.promotion.config import Floors
from pipelines.promotion.data_gates import card_gate, data_gates, licence_gate
from pipelines.promotion.gates import Gate, above_guessing, floors, no_better_than_guessing, no_regression
from pipelines.records import SPLIT_IMAGES
from pipelines.report.config import SourceTerms
from tests.pipelines.evaluate.small_world import image
from tests.pipelines.promotion.promotion_world import items, split_rows, write_data

BOOTSTRAP = Bootstrap(samples=200, seed=0)
TERMS = {"one": SourceTerms(adapter="table", licence="CC0-1.0")}
LICENCES = {"research": ["CC0-1.0", "CC-BY-NC-4.0"], "commercial": ["CC0-1.0"]}


def passes(gates: list[Gate]) -> dict[str, bool]:
    return {gate.name: gate.passed for gate in gates}


def test_the_interval_must_begin_above_chance_and_each_baseline() -> None:
    alone = {"value": 0.5, "low": 0.4, "high": 0.6, "chance": 0.1, "baselines": {}}
    score = {**alone, "baselines": {"centre heatmap": 0.39, "always left": 0.4}}
    gates = above_guessing("pointing", score)
    assert passes(gates) == {"chance": True, "baseline centre heatmap": True, "baseline always left": False}
    assert gates[0].text == "the interval begins at 0.4000, above chance (0.1000): by +0.3000"
    assert gates[2].text == "the interval begins at 0.4000, not above always left (0.4000): by +0.0000"
    # What one who knows facts of the images would score is no gate.
    known = {"image-blind": 0.3, "ceiling: modality, traits, normality": 0.9}
    assert passes(above_guessing("recall@1", {**alone, "baselines": known})) == {
        "chance": True,
        "baseline image-blind": True,
    }
    assert passes(above_guessing("pointing", {**alone, "chance": 0.4})) == {"chance": False}
    assert passes(above_guessing("pointing", {**alone, "low": None})) == {"chance": False}


def test_scores_no_better_than_a_trivial_answer_are_named() -> None:
    weak = {"value": 0.06, "low": 0.03, "high": 0.1, "chance": 0.02, "baselines": {"centre heatmap": 0.1}}
    good = {"value": 0.6, "low": 0.5, "high": 0.7, "chance": 0.1, "baselines": {}}
    rank = {"value": 9.0, "low": 5.0, "high": 12.0, "chance": 30.0, "baselines": {}}
    tasks = {
        "grounding": {"metrics": {"pointing": weak}},
        "retrieval": {"metrics": {"i2t_recall@1": good, "i2t_median_rank": rank}},
        "vqa": {"metrics": {"served/exact/accuracy": weak, "published/accuracy": weak}},
    }
    assert no_better_than_guessing(tasks) == ["grounding/pointing 0.060 (centre heatmap 0.100)"]


def test_a_regression_beyond_the_tolerance_is_refused() -> None:
    ours = items("i2t_rank", [1, 1, 1, 9, 9, 9, 9, 9])
    theirs = items("i2t_rank", [1] * 8)
    refused = no_regression(ours, theirs, "i2t_recall@1", 0.1, BOOTSTRAP)
    assert not refused.passed
    assert refused.figures["difference"] == -0.625
    assert refused.text.startswith("candidate less champion is -0.6250 (-")
    assert no_regression(ours, theirs, "i2t_recall@1", 1.0, BOOTSTRAP).passed
    assert no_regression(theirs, ours, "i2t_recall@1", 0.0, BOOTSTRAP).passed
    assert no_regression(ours, ours, "i2t_recall@1", 0.0, BOOTSTRAP).passed


def test_a_champion_that_is_absent_or_has_no_such_score_holds_nobody_back() -> None:
    ours = items("i2t_rank", [1, 9])
    assert no_regression(ours, None, "i2t_recall@1", 0.0, BOOTSTRAP).text == "there is no champion yet"
    gate = no_regression(ours, items("t2i_rank", [1, 1]), "i2t_recall@1", 0.0, BOOTSTRAP)
    assert (gate.passed, gate.text) == (True, "the champion has no i2t_recall@1 on these items")
    assert not no_regression(ours[:1], ours[:1], "i2t_recall@1", 0.0, BOOTSTRAP).passed


def test_floors_of_sources_and_modalities_are_of_their_items_alone() -> None:
    rows = items("i2t_rank", [1, 9, 1, 1], source=["one", "one", "two", "two"], modality=["ct", "mri", "mri", "mri"])
    least = Floors(all=0.75, sources={"one": 0.6, "two": 1.0, "three": 0.1}, modalities={"ct": 1.0, "mri": 0.7})
    gates = floors(rows, "i2t_recall@1", least)
    assert passes(gates) == {
        "floor": True,
        "floor of source one": False,
        "floor of source two": True,
        "floor of source three": False,
        "floor of modality ct": True,
        "floor of modality mri": False,
    }
    assert gates[1].text == "0.5000 is below 0.6000: by -0.1000"
    assert gates[3].text == "no test item is of it; the floor is 0.1000"
    assert floors(rows, "i2t_recall@1", Floors()) == []


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_data(tmp_path, [image(0, split="validation"), image(1), image(2)])
    (tmp_path / "data/report").mkdir()
    (tmp_path / "data/report/dataset_card.md").write_text("# one\n")
    seal(tmp_path / "data/report")
    return tmp_path


def judge(project: Path, trained_on: str | None = None) -> dict[str, Gate]:
    trained_on = trained_on or sha256_file(project / "data/shards/images/manifest.json")
    return {gate.name: gate for gate in data_gates(project, trained_on, TERMS, "research", LICENCES)}


def test_sound_data_pass(project: Path) -> None:
    gates = judge(project)
    assert {name: gate.passed for name, gate in gates.items()} == {"leaks": True, "card": True, "licences": True}
    assert gates["licences"].text == "all allow the use research: one CC0-1.0"


def test_a_group_in_two_splits_is_refused_and_an_allowed_leak_is_told(project: Path) -> None:
    rows = split_rows([image(0, split="validation"), image(1), image(2)])
    table = project / "data/split/images.parquet"
    SPLIT_IMAGES.write(table, [dataclasses.replace(row, group="same") for row in rows])
    assert judge(project)["leaks"].text == "1 groups are in more than one split"
    write_data(project, [image(0, split="validation"), image(1), image(2)])
    leaked = [dataclasses.replace(row, group="same", leak=True) for row in rows]
    SPLIT_IMAGES.write(table, leaked)
    gate = judge(project)["leaks"]
    # The shards are not of this table, which is told before anything else can pass.
    assert not gate.passed
    assert "was made from another" in gate.text
    assert gate.figures == {"leaking_groups": 0, "allowed_images": 3}


def test_other_training_shards_missing_tables_and_damage_are_refused(project: Path) -> None:
    assert "trained on other image shards" in judge(project, "f" * 64)["leaks"].text
    card = project / "data/report/dataset_card.md"
    card.write_text("# two\n")
    assert "has other bytes than were written" in judge(project)["card"].text
    card.unlink()
    assert judge(project)["card"].text == "there is no data/report/dataset_card.md: run `dvc repro report`"
    assert not card_gate(card).passed
    (project / "data/split/images.parquet").unlink()
    gates = judge(project)
    assert [gates[name].passed for name in ("leaks", "card", "licences")] == [False, False, False]
    assert "not found: run `dvc repro`" in gates["leaks"].text


@pytest.mark.parametrize(
    ("licence", "use", "text"),
    [
        ("CC-BY-NC-4.0", "commercial", "'CC-BY-NC-4.0' of one does not allow the use commercial"),
        ("WTFPL", "research", "'WTFPL' of one is not known: read it, and list it under promote.licences"),
        (None, "research", r"one has no licence in params.yaml (ingest.sources.one.licence)"),
    ],
)
def test_licences_that_do_not_allow_the_use(licence: str | None, use: str, text: str) -> None:
    terms = {
        "one": SourceTerms(adapter="table", licence=licence),
        "two": SourceTerms(adapter="table", licence="CC0-1.0"),
    }
    gate = licence_gate(["one", "two"], terms, use, LICENCES)
    assert (gate.passed, gate.text) == (False, text)
    assert licence_gate(["two"], terms, use, LICENCES).passed
