"""What items.parquet keeps: prompts, digests and answers by hand, scores made from them again, two models compared."""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import torch
import torch.nn.functional as F

from models.data.shards import Sample, ShardSet
from models.verified import record, seal
from pipelines import masks
from pipelines.errors import UserError
from pipelines.evaluate import again, compare
from pipelines.evaluate.evaluation_set import EvaluationSet
from pipelines.evaluate.kept import read_kept, recomputed
from pipelines.evaluate.segmentation.kept import LONGEST, KeptMasks
from pipelines.evaluate.task import AMONG_SOURCE, QUOTED
from pipelines.evaluate.tasks.probe import MAX_DRAWS
from pipelines.files import canonical, digest_of
from pipelines.records import ITEMS, MOST_OUTPUT, ItemRow
from tests.pipelines.evaluate.kept_world import IMAGES, TASKS, TOKENIZER, Drawn, images_of, run
from tests.shards import INPUT_FORMAT


@pytest.fixture(scope="module")
def samples(evaluations: tuple[Path, Path]) -> dict[str, Sample]:
    shards = evaluations[0].parent / "shards"
    return {sample.key: sample for sample in ShardSet(shards / "images", shards / "captions", "test").samples()}


def answered(rows: list[ItemRow], task: str, metric: str) -> Iterator[tuple[ItemRow, dict[str, Any]]]:
    found = [(row, json.loads(row.output or "null")) for row in rows if (row.task, row.metric) == (task, metric)]
    assert found
    return iter(found)


@pytest.mark.parametrize("split", ["", "validation"])
def test_every_score_that_rows_hold_is_made_from_them_again(evaluations: tuple[Path, Path], split: str) -> None:
    scores = list(again.scores_again(read_kept(str(evaluations[0] / split))))
    outcomes = {one.name: one.outcome for one in scores}
    assert len(outcomes) == len(scores)
    assert {name.partition("/")[0] for name in outcomes} == set(TASKS)
    # Each of them also of the items of either source.
    assert {name.partition("/")[0] for name in outcomes if name.endswith(" (two)")} == set(TASKS)
    assert {name for name, outcome in outcomes.items() if outcome == again.DIFFERS} == set()
    not_kept = {name for name, outcome in outcomes.items() if outcome == again.NOT_KEPT}
    beyond = {name for name in outcomes if "label_auc" in name or "transductive" in name}
    # Scores of each draw are many, and kept of the test split alone.
    beyond |= {name for name in outcomes if split and name.startswith("probe/") and "auc" in name}
    assert not_kept == beyond
    # Neither always right nor always wrong: a mix-up of rows would be another number.
    told = {one.value for one in scores if one.outcome == again.EQUAL}
    assert len(told - {0.0, 0.5, 1.0}) > 15


def test_masks_by_phrase_and_the_options_of_masks_are_made_again_of_each_source(tmp_path: Path) -> None:
    tasks = {
        "phrase_segmentation": {"rewordings": ["the {label}"]},
        "segmentation": {"surface": True, "by_size": True, "specificity": True},
    }
    alone = images_of("test", 1, 900)[0] | {"source": "three"}
    folder = run(tmp_path, 1, [*IMAGES, alone], scores_only=True, tasks=tasks)
    found = {one.name: one.outcome for one in again.scores_again(read_kept(str(folder)))}
    assert set(found.values()) == {again.EQUAL}
    for source in ("one", "two", "three"):
        assert {name.partition("/")[0] for name in found if name.endswith(f" ({source})")} == set(tasks)
    assert any(name.startswith("phrase_segmentation/macro_") for name in found)


def test_another_value_in_a_row_is_told(evaluations: tuple[Path, Path], tmp_path: Path) -> None:
    changed = ITEMS.read(evaluations[0] / "items.parquet")
    place = next(number for number, row in enumerate(changed) if row.metric == "pointing")
    changed[place] = replace(changed[place], value=changed[place].value + 0.01)
    source = changed[place].source
    ITEMS.write(tmp_path / "items.parquet", changed)
    (tmp_path / "metrics.json").write_bytes((evaluations[0] / "metrics.json").read_bytes())
    seal(tmp_path)
    told = f"the rows give other values of grounding/pointing, grounding/pointing ({source}): run"
    with pytest.raises(UserError, match=re.escape(told)):
        again.main(str(tmp_path))


def test_the_commands_print_each_score(evaluations: tuple[Path, Path], capsys: pytest.CaptureFixture) -> None:
    again.main(str(evaluations[0]))
    lines = capsys.readouterr().out.splitlines()
    value = read_kept(str(evaluations[0])).results["tasks"]["segmentation"]["metrics"]["own/dice_pooled"]["value"]
    assert f"segmentation/own/dice_pooled {value:.6f} {value:.6f} equal" in lines
    assert any(line.startswith("retrieval/side/label_auc ") and line.endswith(" not kept") for line in lines)
    assert lines[-1].startswith("equal ")
    assert ", differs 0, not kept " in lines[-1]


def test_digests_are_those_of_the_image_and_the_prompt(rows: list[ItemRow], samples: dict[str, Sample]) -> None:
    assert {row.preprocessing_digest for row in rows} == {digest_of(asdict(INPUT_FORMAT))[:16]}
    for row in rows:
        of_image = hashlib.sha256(samples[row.image_id].members["image.jpg"]).hexdigest()
        asked = of_image if row.prompt is None else hashlib.sha256(f"{of_image}\0{row.prompt}".encode()).hexdigest()
        assert row.input_digest == asked[:16]


def test_each_task_says_what_was_asked(rows: list[ItemRow]) -> None:
    image = next(one for one in IMAGES if one["key"] == f"{300:016x}")
    asked = {(row.task, row.metric): row.prompt for row in rows if row.image_id == image["key"]}
    assert asked["retrieval", "i2t_rank"] is None
    assert asked["retrieval", "t2i_rank"] == asked["retrieval", "t2i_own_rank"] == image["report"]
    assert asked["segmentation", "own/iou"] == image["report"]
    assert asked["segmentation", "empty/dice"] == ""
    assert asked["laterality", "report/accuracy"] == image["report"]
    assert asked["vqa", "accuracy_closed"] == "Is it bright?"
    assert asked["region_retrieval", "rank"] is None
    prompts = {row.metric: row.prompt for row in rows if (row.task, row.label) == ("zero_shot", "alpha")}
    assert prompts == {"cosine_difference": "a alpha\nalpha\n\nno alpha", "log_probability": "a alpha\nalpha"}
    pointed = [row for row in rows if (row.image_id, row.metric) == (image["key"], "pointing")]
    assert {row.prompt for row in pointed if row.task == "detection"} == {"alpha"}
    phrases = {row.prompt for row in pointed if row.task == "grounding"}
    assert phrases == {"alpha spot left", "alpha spot right"}


def test_answers_of_embeddings_are_those_of_the_method(evaluations: tuple[Path, Path], rows: list[ItemRow]) -> None:
    shards = evaluations[0].parent / "shards"
    test = EvaluationSet(
        Drawn(1), TOKENIZER, ShardSet(shards / "images", shards / "captions", "test").samples, 8, scores_only=True
    )
    keys = [image.key for image in test.images]
    report_of = {image.key: image.report for image in test.images}
    cosines = test.image_embeddings @ test.embed_texts([image.report or "" for image in test.images]).T
    for metric, similarity in (("i2t_rank", cosines), ("t2i_rank", cosines.T)):
        for row, output in answered(rows, "retrieval", metric):
            of_query = similarity[keys.index(row.image_id)]
            assert output["cosine"] == pytest.approx(of_query.max(), abs=2e-6)
            # Images share texts: the first of them stands for all.
            assert output["nearest"] == keys[int(np.flatnonzero(of_query >= of_query.max() - 1e-6)[0])]
            if row.value == 1:
                assert report_of[output["nearest"]] == report_of[row.image_id]
    captions = {region.caption for image in test.images for region in image.regions}
    for row, output in answered(rows, "region_retrieval", "rank"):
        own = next(region.caption for image in test.images for region in image.regions if region.region_id == row.item)
        assert output["nearest"] in captions
        assert (output["nearest"] == own) == (row.value == 1)
    for row, output in answered(rows, "laterality", "report/accuracy"):
        assert row.value == (output["named"] > output["exchanged"])


def test_answers_to_questions_are_right_where_they_say_so(rows: list[ItemRow]) -> None:
    found = list(answered(rows, "vqa", "accuracy"))
    assert {row.value for row, _ in found} == {0.0, 1.0}
    assert all((output["answer"] == output["expected"]) == row.value for row, output in found)
    # The accuracy by type is a value of the same answer.
    assert {row.output for row in rows if row.metric == "accuracy_open"} == {None}


def test_the_highest_point_is_that_of_the_heatmap(rows: list[ItemRow], evaluations: tuple[Path, Path]) -> None:
    shards = evaluations[0].parent / "shards"
    test = EvaluationSet(Drawn(1), TOKENIZER, ShardSet(shards / "images", shards / "captions", "test").samples, 8)
    keys = [image.key for image in test.images]
    found = list(answered(rows, "grounding", "pointing"))
    asked = sorted((keys.index(row.image_id), row.prompt or "") for row, _ in found)
    expected = {}
    for (index, text), (_, heatmap) in zip(asked, test.ground(asked), strict=True):
        side = 16
        pixels = F.interpolate(torch.tensor(heatmap)[None, None], (side, side), mode="bilinear")[0, 0]
        # Beyond the outermost patches nothing changes, so that pixels share the maximum.
        highest = np.flatnonzero((pixels >= pixels.max() - 1e-6 * (pixels.max() - pixels.min())).numpy())
        row, column = divmod(int(highest[0]), side)
        expected[keys[index], text] = ((column + 0.5) / side, (row + 0.5) / side)
    for row, output in found:
        assert (output["x"], output["y"]) == pytest.approx(expected[row.image_id, row.prompt], abs=1e-4)


def test_masks_give_the_counts_and_the_dice(rows: list[ItemRow], samples: dict[str, Sample]) -> None:
    values = set()
    for setting in ("own", "shuffled", "empty"):
        for row, output in answered(rows, "segmentation", f"{setting}/dice"):
            mask, target = masks.decode(output["mask"], *output["size"]), samples[row.image_id].target
            counts = [int((mask & target).sum()), int((mask & ~target).sum()), int((~mask & target).sum())]
            assert [output[name] for name in ("true_positive", "false_positive", "false_negative")] == counts
            assert sum(output[name] for name in output if name not in ("size", "mask")) == target.size
            assert row.value == pytest.approx(2 * counts[0] / (2 * counts[0] + counts[1] + counts[2]))
            values.add(row.value)
    assert len(values) > 5
    assert {row.output for row in rows if row.metric == "own/iou"} == {None}


def test_a_mask_of_noise_is_not_kept_and_the_longest_answer_fits() -> None:
    kept = KeptMasks()
    half, noise = np.zeros((300, 200), bool), np.random.default_rng(0).random((300, 200)) > 0.5
    half[:, :100] = True
    kept.add(3, {"own": half, "empty": half, "shuffled": noise})
    assert kept.of(3, "own") == kept.of(3, "empty")
    assert np.array_equal(masks.decode(kept.of(3, "own")["mask"], 300, 200), half)
    assert kept.of(3, "shuffled") == {"size": [300, 200], "mask": None}
    # JSON writes a backslash as two characters.
    assert len(json.dumps("\\" * LONGEST)) < MOST_OUTPUT - 150


def test_the_answers_of_the_most_draws_and_two_of_the_longest_texts_fit() -> None:
    # A score has six decimals, and at most nine digits of float32.
    assert len(canonical({"draws": [-123.456789] * MAX_DRAWS, "truth": 1})) < MOST_OUTPUT
    # JSON writes a control character as six.
    assert len(canonical({"answer": "\x01" * QUOTED, "expected": "\x01" * QUOTED})) < MOST_OUTPUT


def test_the_control_of_each_item_stands_beside_it(rows: list[ItemRow], evaluations: tuple[Path, Path]) -> None:
    tasks, differing = read_kept(str(evaluations[0])).results["tasks"], 0
    for task, metric in (
        ("grounding", "cnr_signed"),
        ("vqa", "accuracy"),
        ("retrieval", "t2i_recall@3"),
        ("zero_shot", "auc_macro"),
    ):
        of_task = [
            replace(row, value=row.image_blind) for row in rows if row.task == task and row.image_blind is not None
        ]
        beside = tasks[task]["metrics"][metric]["baselines"]["image-blind"]
        assert recomputed(of_task, metric) == pytest.approx(beside, abs=1e-6)
        differing += beside != tasks[task]["metrics"][metric]["value"]
    assert differing > 1
    assert {row.metric.partition("@")[0].rpartition("/")[2] for row in rows if row.image_blind is None} == {"score"}


def test_ranks_among_all_stand_for_no_source(evaluations: tuple[Path, Path], tmp_path: Path) -> None:
    """Evaluations of earlier commits have no ranks within a source."""
    older = shutil.copytree(evaluations[0], tmp_path / "older")
    rows = [row for row in ITEMS.read(older / "items.parquet") if not row.metric.startswith(AMONG_SOURCE)]
    ITEMS.write(older / "items.parquet", rows)
    record(older / "items.parquet")
    found = {one.name: one.outcome for one in again.scores_again(read_kept(str(older)))}
    ranked = [name for name in found if "recall" in name or "median_rank" in name]
    assert {found[name] for name in ranked if name.endswith((" (one)", " (two)"))} == {again.NOT_KEPT}
    assert {found[name] for name in ranked if ")" not in name} == {again.EQUAL}
    assert again.DIFFERS not in found.values()
    compared = {row.name for row in compare.compared(read_kept(str(older)), read_kept(str(evaluations[0])))}
    assert compared & set(ranked) == {name for name in ranked if ")" not in name}


def test_an_evaluation_of_another_release_is_one_line(evaluations: tuple[Path, Path], tmp_path: Path) -> None:
    older = shutil.copytree(evaluations[0], tmp_path / "older")
    table = older / "items.parquet"
    pyarrow.parquet.write_table(pyarrow.parquet.read_table(table).drop_columns(["prompt", "output"]), table)
    record(table)
    first = str(evaluations[0])
    for command, names in ((again, [str(older)]), (compare, [first, str(older)]), (compare, [str(older), first])):
        with pytest.raises(UserError, match=r"no table 'items' of this release, .* columns output, prompt: make it"):
            command.main(*names)


@pytest.mark.parametrize("key", ["split", "items_sha256", "tasks"])
def test_an_evaluation_without_what_is_read_is_one_line(
    evaluations: tuple[Path, Path], tmp_path: Path, key: str
) -> None:
    older = shutil.copytree(evaluations[0], tmp_path / "older")
    results = json.loads((older / "metrics.json").read_text())
    del results[key]
    (older / "metrics.json").write_text(json.dumps(results))
    record(older / "metrics.json")
    for command, names in ((again, [str(older)]), (compare, [str(evaluations[0]), str(older)])):
        with pytest.raises(UserError, match=f"is of no evaluation of this release, for it has no {key}: make it again"):
            command.main(*names)
