"""benchmarks/matrix.py: every method can be trained with every task, and a cell has scores or the reason."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from models.data.shards import ShardSet
from pipelines.config import parse
from pipelines.errors import UserError
from pipelines.evaluate.config import EvaluateConfig
from pipelines.evaluate.scoring import ScoredModel, load_tasks, score_split
from pipelines.files import read_output
from pipelines.registry import names, plugin
from pipelines.train.config import TrainConfig
from tests.pipelines.evaluate.small_world import WORDS, Matcher, image, tokenizer_of, write_shards

NAMES = ("matrix", "matrix_page", "matrix_rows")

Scripts = tuple[ModuleType, ...]


def test_every_method_and_task_is_in_the_matrix(scripts: Scripts) -> None:
    script, _, _ = scripts
    assert sorted(script.methods_to_run(None)) == sorted(names("methods"))
    for data in script.DATA:
        settings = script.params(data)
        config = parse(EvaluateConfig, settings["evaluate"], "evaluate")
        assert sorted(load_tasks(config)) == sorted(names("tasks"))
        engine = parse(TrainConfig, script.settings_of("unet", data)["train"], "train").engine
        assert (engine.seed, engine.threads, engine.num_workers, engine.loader_workers) == (0, 1, 0, 0)
    methods = parse(TrainConfig, script.params(script.PHANTOM)["train"], "train").methods
    for method in names("methods"):
        reason, cls = script.why_not(method), plugin("methods", method)
        if reason is not None:
            # Of ours all are trained but those that have nothing to train.
            assert (reason, cls.losses) == (script.NOT_TRAINED, ())
            continue
        parse(cls.Config, methods[method].model, method)
        assert methods[method].training.phases


def test_the_real_sets_have_whole_test_splits(scripts: Scripts) -> None:
    script, _, _ = scripts
    sources = script.params(script.REAL)["ingest"]["sources"]
    assert script.params(script.PHANTOM)["phantom"]["images"] == 900
    assert sorted(sources) == ["covid_chestxray", "kvasir_seg", "qata_cov19", "vqa_rad"]
    assert {name: one.get("limit") for name, one in sources.items()} == {
        "covid_chestxray": None,
        "kvasir_seg": {"train": 400},
        "qata_cov19": {"train": 800, "validation": 120},
        "vqa_rad": None,
    }


def test_some_methods_are_chosen_and_a_mistyped_one_is_named(scripts: Scripts) -> None:
    script, _, _ = scripts
    assert script.methods_to_run(["clip", "unet"]) == ["unet", "clip"]
    with pytest.raises(UserError, match=r"'clpi' is not one of the methods: choose from ariadne, .*clip, "):
        script.methods_to_run(["clpi"])


def test_a_cell_has_scores_or_the_reason(scripts: Scripts, tmp_path: Path) -> None:
    """By hand: three images say alpha, alpha and gamma, the second shows beta; a fourth is alone in its source."""
    script, _, rows = scripts
    images = [image(0), image(1, word=0), image(2, labels=["gamma"]), image(3, labels=[], source="two")]
    images[0]["labels"] = []
    tokenizer = tokenizer_of([f"a finding called {word} no" for word in WORDS])
    values = {
        "tasks": {
            "retrieval": {"ks": [1, 10]},
            "zero_shot": {"templates": ["{label}"], "negatives": ["no {label}"]},
            "segmentation": {},
        },
        "batch_size": 4,
        "bootstrap": {"samples": 20, "seed": 0},
    }
    model = ScoredModel(name="probe", model=Matcher(tokenizer), tokenizer=tokenizer, checkpoint_sha256="0" * 64)
    split = ShardSet(*write_shards(tmp_path / "shards", images), "test")
    found = score_split(parse(EvaluateConfig, values, "here"), model, split, tmp_path / "out", scores_only=True)
    tasks = read_output(tmp_path / "out" / "metrics.json")["tasks"]
    excluded = {task: result.excluded for task, result in found.results.items()}
    cells = rows.rows_of("probe", tasks, excluded, found.evaluation_set.images, script.item_counts(tmp_path / "out"))
    assert {tuple(cell) for cell in cells} == {rows.COLUMNS}
    by_key = {(cell["source"], cell["task"], cell["metric"]): cell for cell in cells}
    # The image that shows beta has no right text nearest, for none says what it shows.
    own = by_key["all", "retrieval", "i2t_recall@1"]
    assert (own["value"], own["items"], own["pool"], own["baseline"]) == (0.75, 4, 4, "majority text")
    assert own["baseline_value"] == 0.5
    assert (
        rows.from_text(own["baselines"])["image-blind"]
        == tasks["retrieval"]["metrics"]["i2t_recall@1"]["baselines"]["image-blind"]
    )
    # Two of the three images of its source that have labels; the other source has one image, with no class to tell.
    auc = by_key["one", "zero_shot", "auc_macro"]
    assert (auc["value"], auc["chance"], auc["items"], auc["baseline"]) == (1.0, 0.5, 2, "")
    assert {**by_key["all", "zero_shot", "auc_macro"], "source": "one"} == auc
    assert by_key["two", "zero_shot", ""]["reason"] == "no image takes part: no_class_to_tell 1"
    assert by_key["two", "retrieval", ""]["reason"] == "too few items for a score of its own"
    assert by_key["all", "segmentation", ""]["reason"] == "the method does not offer SegmentsFromText"
    assert not [key for key in by_key if key[1] == "segmentation" and key[0] != "all"]


def test_the_best_trivial_baseline_is_no_ceiling_and_of_a_rank_the_smallest(scripts: Scripts) -> None:
    _, _, rows = scripts
    baselines = {"a": 4.0, "b, c": 2.0, "image-blind": 1.0, "ceiling: d, e": 0.5}
    score = {"value": 3.0, "low": None, "high": None, "chance": 5.0, "baselines": baselines}
    result = {
        "status": "ok",
        "metrics": {"x_rank": score, "x_recall@1": score},
        "definitions": [],
        "verdict": {"headline": []},
        "details": {},
        "items": 7,
        "pool": 0,
        "by_source": {},
    }
    counts = {("t", "x_rank", "one"): 3, ("t", "x_rank", "two"): 2, ("other", "x_rank", "two"): 9}
    found = {row["metric"]: row for row in rows.rows_of("m", {"t": result}, {"t": {}}, [], counts)}
    assert (found["x_rank"]["baseline"], found["x_rank"]["baseline_value"]) == ("b, c", 2.0)
    assert (found["x_recall@1"]["baseline"], found["x_recall@1"]["low"]) == ("a", "")
    assert rows.from_text(found["x_rank"]["baselines"]) == baselines
    # Rows of items say what a score is the mean of; else it is of all items of the task.
    assert (found["x_rank"]["items"], found["x_recall@1"]["items"]) == (5, 7)


def test_a_method_is_trained_scored_and_not_run_again(
    scripts: Scripts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, _, _ = scripts
    # So that this process is in its folder again after the run, which goes to the repository.
    monkeypatch.chdir(tmp_path)
    images = [image(place, key=f"{place:016x}", target=[(2, 2, 9, 9)], split="train") for place in range(16)]
    images += [image(2, key=f"{16 + place:016x}", target=[(2, 2, 9, 9)], split="validation") for place in range(4)]
    images += [image(3, key=f"{20 + place:016x}", target=[(2, 2, 9, 9)]) for place in range(3)]
    write_shards(tmp_path / "data" / "shards", images)
    found = script.run("unet", script.PHANTOM, tmp_path, True, False)
    assert {tuple(row) for row in found} == {script.COLUMNS}
    assert {row["task"] for row in found} == set(names("tasks"))
    assert {row["steps"] for row in found} == {4}
    by_key = {(row["source"], row["task"], row["metric"]): row for row in found}
    assert by_key["all", "retrieval", ""]["reason"] == "the method does not offer EmbedsImages, EmbedsText"
    dice = by_key["all", "segmentation", "own/dice_per_image"]
    # All foreground: 2 x 49 of 49 + 256 pixels.
    assert (dice["items"], dice["chance"]) == (3, pytest.approx(98 / 305, abs=1e-6))
    assert 0 <= dice["value"] <= 1
    weights = tmp_path / "checkpoints/unet/unet/model.safetensors"
    before = weights.stat().st_mtime_ns
    again = script.run("unet", script.PHANTOM, tmp_path, True, True)
    assert [{**row, "scoring_seconds": 0} for row in again] == [{**row, "scoring_seconds": 0} for row in found]
    assert weights.stat().st_mtime_ns == before
    with pytest.raises(UserError, match=r"clip was not trained in .*, or not to its end: leave --scores out"):
        script.trained_before(tmp_path, "clip")
    script.runs.append(script.rows_file(tmp_path, "phantom"), found, "# head\n")
    assert script.done_of(script.rows_file(tmp_path, "phantom")) == {"unet"}
    script.write_page(tmp_path)
    lines = (tmp_path / "matrix.md").read_text().splitlines()
    number = next(line for line in lines if line.endswith("the method does not offer EmbedsImages, EmbedsText"))[2:5]
    (row,) = [line for line in lines if line.startswith("| unet | ") and "(" in line]
    assert f" {number} " in row
    assert f" {dice['value']:.3f}" in row.replace("*", "")


def test_rows_of_other_tasks_are_refused(scripts: Scripts, tmp_path: Path) -> None:
    script, _, rows = scripts
    file = tmp_path / "matrix_real.csv"
    assert script.done_of(file) == set()
    script.runs.append(file, rows.without_scores("unet", ["retrieval", "karaoke"], "why"), "# head\n")
    with pytest.raises(UserError, match="holds rows of other tasks or columns than there are now: delete it"):
        script.done_of(file)


def _row(rows: ModuleType, method: str, source: str, task: str, metric: str, **cells: Any) -> dict[str, str]:
    known = {"method": method, "source": source, "task": task, "metric": metric} | cells
    if metric:
        known = {
            "chance": 0.5,
            "items": 9,
            "seconds": 60,
            "scoring_seconds": 30,
            "parameters": 1000,
            "steps": 7,
        } | known
    return {column: str(known.get(column, "")) for column in rows.COLUMNS}


def test_the_page_of_made_up_rows(scripts: Scripts) -> None:
    _, page, rows = scripts

    def row(method: str, source: str, metric: str, value: float, baselines: str) -> dict[str, str]:
        cells = {"value": value, "low": value - 0.1, "high": value + 0.1, "baselines": baselines, "baseline_value": 0.6}
        return _row(rows, method, source, "vqa", metric, **cells)

    real = [
        row("clip", "all", "accuracy", 0.8, "text-only head 0.6; ceiling: training vocabulary 0.9"),
        row("plan", "all", "accuracy", 0.8, "text-only head 0.75; ceiling: training vocabulary 0.9"),
        row("clip", "vqa_rad", "accuracy", 0.8, "text-only head 0.6; ceiling: training vocabulary 0.9"),
        row("plan", "vqa_rad", "accuracy", 0.8, "text-only head 0.75; ceiling: training vocabulary 0.9"),
        row("plan", "vqa_rad", "accuracy_open", 0.3, ""),
        _row(rows, "clip", "kvasir_seg", "vqa", "", reason="no image takes part: no_questions 100"),
        _row(rows, "unet", "all", "vqa", "", reason="it reads nothing"),
    ]
    lines = page.page({"real": real}, ["clip", "plan", "pretrained", "unet"], ["laterality", "vqa"])
    text = "\n".join(lines)
    assert "2 of 4 methods were trained: 3 minutes of one core." in text
    assert "| clip | 1,000 | 7 | 60 | 30 |" in text
    start = lines.index("### VQA-RAD: matrix")
    # Clip is beyond its text-only head by its whole interval, plan is not; the ceiling does not count.
    assert lines[start + 2 : start + 10] == [
        "| method | laterality | vqa<br>accuracy |",
        "|---|---|---|",
        "| *chance* |  | 0.500 |",
        "| *best baseline* |  | 0.600 |",
        "| clip | (1) | **0.800** |",
        "| plan | (1) | 0.800 |",
        "| pretrained | (1) | (1) |",
        "| unet | (1) | (2) |",
    ]
    start = lines.index("Empty, because")
    assert lines[start + 2 : start + 5] == [
        "- (1) not run yet",
        "- (2) it reads nothing",
        "- (3) no image takes part: no_questions 100",
    ]
    start = lines.index("### VQA-RAD: vqa")
    assert lines[start + 2 :] == [
        "| | accuracy | accuracy_open |",
        "|---|---|---|",
        "| items | 9 | 9 |",
        "| chance | 0.500 | 0.500 |",
        "| text-only head | 0.600 to 0.750 |  |",
        "| ceiling: training vocabulary | 0.900 |  |",
        "| `clip` | **0.800** (0.700 to 0.900) |  |",
        "| `plan` | 0.800 (0.700 to 0.900) | 0.300 (0.200 to 0.400) |",
    ]


def test_a_column_of_several_metrics_names_them(scripts: Scripts) -> None:
    _, page, rows = scripts
    phantom = [
        _row(rows, "clip", "all", "laterality", "report/accuracy", value=0.5, low=0.4, high=0.6),
        _row(rows, "unet", "all", "laterality", "mask/accuracy", value=0.25),
    ]
    text = "\n".join(page.page({"phantom": phantom}, ["clip", "unet"], ["laterality"]))
    assert "| method | laterality |" in text
    assert "| clip | report/accuracy 0.500 |" in text
    assert "| unet | mask/accuracy 0.250 |" in text
    # Of one source the figures are those of all images.
    assert "### laterality\n" in text
    assert "| `unet` |  | 0.250 |" in text
