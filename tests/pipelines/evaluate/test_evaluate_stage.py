"""The stage on real shards: results, counts, skips, refusals and equal bytes."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from models import checkpoint
from models.data.shards import ShardSet
from models.verified import seal, verify_folder
from pipelines.config import parse
from pipelines.errors import UserError
from pipelines.evaluate.config import EvaluateConfig
from pipelines.evaluate.evaluation_set import EvaluationSet
from pipelines.evaluate.stage import evaluate, find_checkpoint, run
from pipelines.files import digest_of
from pipelines.records import ITEMS
from tests.pipelines.evaluate.small_world import (
    WORDS,
    Collapsed,
    ImagesOnly,
    Matcher,
    image,
    region,
    save_clip,
    tokenizer_of,
    write_shards,
)

TASKS = {
    "retrieval": {"ks": [1, 5, 10]},
    "zero_shot": {"templates": ["{label}", "a finding called {label}"], "negatives": ["no {label}"]},
}


def config(**changes: Any) -> EvaluateConfig:
    values = {"tasks": TASKS, "batch_size": 4, "bootstrap": {"samples": 100, "seed": 0}}
    return parse(EvaluateConfig, {**values, **changes}, "params.yaml: evaluate")


def score(
    tmp_path: Path, images: list[dict], model: Any = None, settings: EvaluateConfig | None = None
) -> tuple[dict, dict]:
    folders = write_shards(tmp_path / "shards", images)
    tokenizer = tokenizer_of([f"a finding called {word} no" for word in WORDS])
    output = tmp_path / "evaluation"
    summary = evaluate(
        settings or config(),
        "probe",
        model or Matcher(tokenizer),
        tokenizer,
        "0" * 64,
        *folders,
        output,
        tmp_path / "summaries",
    )
    return json.loads((output / "metrics.json").read_text()), summary


def test_scores_and_counts_of_a_method_that_knows_the_answers(tmp_path: Path) -> None:
    images = [image(number, labels=[WORDS[number]] if number < 3 else []) for number in range(8)]
    images[1]["other_reports"] = ("no",)
    images += [
        image(8, status="unannotated", report=None),
        image(9, oracle=True),
        image(10, status="failed", report=None, labels=[]),
    ]
    metrics, summary = score(tmp_path, images)
    retrieval, zero_shot = metrics["tasks"]["retrieval"], metrics["tasks"]["zero_shot"]
    assert (retrieval["status"], retrieval["items"], retrieval["pool"]) == ("ok", 8, 8)
    assert retrieval["metrics"]["t2i_recall@1"] == {
        "value": 1.0,
        "low": 1.0,
        "high": 1.0,
        "chance": 0.125,
        "baselines": {"ceiling: modality, normality": 0.25, "image-blind": 0.0},
    }
    assert "i2t_recall@10" not in retrieval["metrics"]
    assert any("recall@k is left out for k in [10]" in note for note in retrieval["notes"])
    assert any("1 of 8 images have more than one report: the first" in note for note in retrieval["notes"])
    assert retrieval["excluded"] == {"caption_failed": 1, "oracle": 1, "unannotated": 1}
    assert zero_shot["metrics"]["auc_macro"]["value"] == 1.0
    assert (zero_shot["items"], zero_shot["excluded"]) == (9, {"no_labels": 2})
    assert [one["positives"] for one in zero_shot["details"]["classes"]] == [1, 1, 1]
    # The failed caption's image has labels: zero-shot scored it, so it is no loss.
    assert (summary["inputs"], summary["ok"]) == (11, 9)
    assert summary["reasons"]["rejected"] == {"oracle": 1, "unannotated": 1}
    assert {file.name for file in (tmp_path / "evaluation").iterdir()} == {
        "SHA256SUMS",
        "items.parquet",
        "metrics.json",
        "retrieval.svg",
        "zero_shot.svg",
    }


def test_the_time_of_an_embedding_is_measured_where_it_is_asked_for(tmp_path: Path) -> None:
    reported, bare = image(0), image(1, report=None, status="unannotated", labels=["gamma"])
    checkpoint_folder = save_clip(tmp_path / "checkpoint", seed=0)

    def timings(name: str, images: list[dict], *, asked: bool) -> dict[str, Any] | None:
        families = write_shards(tmp_path / name, images)
        settings = config(embedding_latency=asked)
        summary = run(settings, "clip", checkpoint_folder, *families, tmp_path / name / "out", tmp_path / name)
        return summary.get("timings")

    found = timings("asked", [bare, reported], asked=True)
    assert found is not None
    assert found.keys() == {"embedding"}
    assert found["embedding"]["latency_cpu_ms"] > 0
    assert b"latency" not in (tmp_path / "asked/out/metrics.json").read_bytes()
    assert timings("not_asked", [bare, reported], asked=False) is None
    assert timings("no_report", [bare], asked=True) is None


def test_every_item_is_a_row_from_which_the_scores_follow(tmp_path: Path) -> None:
    images = [image(0, source="two"), image(1, word=0), image(2, labels=["gamma"]), image(3, labels=[])]
    metrics, _ = score(tmp_path, images)
    rows = ITEMS.read(tmp_path / "evaluation" / "items.parquet")
    ranks = {row.image_id: row.value for row in rows if row.metric == "i2t_rank"}
    assert {row.source for row in rows if row.image_id == images[0]["key"]} == {"two"}
    # Image 1 shows beta and says alpha: all other texts are as near as its own.
    assert list(ranks.values()) == [1, 3, 1, 1]
    assert metrics["tasks"]["retrieval"]["metrics"]["i2t_recall@1"]["value"] == 0.75
    scores = [(row.label, row.truth, row.value) for row in rows if row.metric == "cosine_difference"]
    # Both prompts of a label are its word; the negative one points the other way.
    assert scores == [("gamma", 1, 2.0), ("gamma", 0, 0.0)]
    among = {row.image_id: row.value for row in rows if row.metric == "among_source/i2t_rank"}
    # The one image of its source has no rank there.
    assert among == {images[1]["key"]: 3, images[2]["key"]: 1, images[3]["key"]: 1}
    assert {(row.task, row.metric) for row in rows} == {
        *(
            ("retrieval", f"{pool}{name}_rank")
            for pool in ("", "among_source/")
            for name in ("i2t", "t2i", "i2t_own", "t2i_own")
        ),
        ("zero_shot", "cosine_difference"),
    }


def test_the_validation_split_is_scored_too(tmp_path: Path) -> None:
    images = [image(number) for number in range(9)]
    images[5:] = [one | {"split": "validation"} for one in images[5:]]
    metrics, summary = score(tmp_path, images)
    folder = tmp_path / "evaluation"
    validation = json.loads((folder / "validation/metrics.json").read_text())
    assert [(one["split"], one["tasks"]["retrieval"]["items"]) for one in (metrics, validation)] == [
        ("test", 5),
        ("validation", 4),
    ]
    assert metrics["items_sha256"] != validation["items_sha256"]
    keys = {row.image_id for row in ITEMS.read(folder / "validation/items.parquet")}
    assert keys == {one["key"] for one in images[5:]}
    assert {file.name for file in (folder / "validation").iterdir()} == {"SHA256SUMS", "items.parquet", "metrics.json"}
    verify_folder(folder)
    assert (summary["inputs"], summary["ok"]) == (9, 9)


def test_repeated_texts_are_hits_but_not_in_the_own_row_variant(tmp_path: Path) -> None:
    # Images 0 and 1 look different and carry the same text but for case and punctuation.
    images = [image(0), image(1, word=0, report="a finding, called ALPHA"), image(2), image(3)]
    scores = score(tmp_path, images)[0]["tasks"]["retrieval"]["metrics"]
    # Queries 0, 2, 3 find their text; image 1 is nearest to none. By chance each of the three texts is the first.
    assert (scores["i2t_recall@1"]["value"], scores["i2t_recall@1"]["chance"]) == (0.75, pytest.approx(1 / 3, abs=1e-6))
    # Image 0 ties between its own text and image 1's: that is no hit, and none by chance.
    assert (scores["i2t_own_recall@1"]["value"], scores["i2t_own_recall@1"]["chance"]) == (
        0.5,
        pytest.approx((0 + 0 + 1 / 3 + 1 / 3) / 4, abs=1e-6),
    )
    # Both texts alpha find image 0.
    assert scores["t2i_recall@1"]["value"] == 1.0


def test_each_source_is_also_scored_by_itself(tmp_path: Path) -> None:
    images = [image(number, source="one" if number < 4 else "two") for number in range(9)] + [image(9, source="three")]
    retrieval = score(tmp_path, images)[0]["tasks"]["retrieval"]
    assert {name: part["pool"] for name, part in retrieval["by_source"].items()} == {"one": 4, "two": 5}
    assert retrieval["by_source"]["two"]["metrics"]["i2t_recall@1"]["chance"] == 0.2
    assert "the source three has one item and no score by itself" in retrieval["notes"]


def test_a_collapsed_method_scores_nothing(tmp_path: Path) -> None:
    images = [image(number, labels=["alpha"] if number % 2 else []) for number in range(8)]
    tasks = score(tmp_path, images, Collapsed())[0]["tasks"]
    assert tasks["retrieval"]["metrics"]["i2t_recall@5"]["value"] == 0
    assert tasks["zero_shot"]["metrics"]["auc_macro"]["value"] == 0.5


def test_diverged_weights_are_a_failed_task(tmp_path: Path) -> None:
    metrics, summary = score(tmp_path, [image(number) for number in range(4)], Collapsed(float("nan")))
    assert metrics["tasks"]["retrieval"]["status"] == "failed"
    assert "not finite" in metrics["tasks"]["retrieval"]["reason"]
    assert summary["reasons"]["failed"] == {"embedding_not_finite": 4}


def test_a_missing_capability_skips_the_task_and_says_which(tmp_path: Path) -> None:
    metrics, summary = score(tmp_path, [image(number) for number in range(3)], ImagesOnly())
    assert metrics["tasks"]["retrieval"]["reason"] == "the method does not offer EmbedsText"
    assert metrics["tasks"]["zero_shot"]["status"] == "skipped"
    assert summary["reasons"]["rejected"] == {"method_lacks_capability": 3}


def test_tasks_without_items_are_skipped_with_the_reason(tmp_path: Path) -> None:
    tasks = score(tmp_path, [image(0, oracle=True), image(1, report=None), image(2, labels=["jade"])])[0]["tasks"]
    assert tasks["retrieval"]["status"] == "skipped"
    assert tasks["retrieval"]["reason"].startswith("1 test images have a text")
    assert tasks["zero_shot"]["status"] == "skipped"
    assert "(findings: one: jade (all images have it); 2 images without labels)" in tasks["zero_shot"]["reason"]


def test_a_real_checkpoint_gives_the_same_bytes_twice(tmp_path: Path) -> None:
    folders = write_shards(tmp_path / "shards", [image(number, labels=[]) for number in range(12)])
    folder = save_clip(tmp_path / "checkpoints" / "clip", seed=0)
    outputs = [tmp_path / name for name in ("first", "second")]
    for output in outputs:
        run(config(), "clip", folder, *folders, output, tmp_path)
    first, second = ({file.name: file.read_bytes() for file in output.iterdir()} for output in outputs)
    assert first == second
    metrics = json.loads(first["metrics.json"])
    assert metrics["checkpoint_sha256"] == checkpoint.digest(folder)
    assert metrics["tasks"]["retrieval"]["items"] == 12


def test_the_items_digest_follows_texts_labels_pixels_and_options(tmp_path: Path) -> None:
    images = [image(number) for number in range(3)]
    changed = [
        [*images[:2], image(2, report="Another text.")],
        [*images[:2], image(2, labels=[])],
        [*images[:2], image(2, level=200)],
    ]
    other_options = config(tasks={"retrieval": {"ks": [2]}})
    digests = [score(tmp_path / str(n), one)[0]["items_sha256"] for n, one in enumerate([images, images, *changed])]
    digests.append(score(tmp_path / "options", images, settings=other_options)[0]["items_sha256"])
    assert digests[0] == digests[1]
    assert len(set(digests)) == 5


def test_the_items_digest_is_that_of_one_json_value(tmp_path: Path) -> None:
    images = [image(0, regions=[region(1, phrase='Überall "rund".'), region(2)], labels=[]), image(1), image(2)]
    images[1] |= {"attributes": {"sex": "f", "age": "61"}, "labels": ["a", "b"]}
    metrics, _ = score(tmp_path, images)
    shards = ShardSet(tmp_path / "shards/images", tmp_path / "shards/captions", "test")
    items = [asdict(one) for one in EvaluationSet(Collapsed(), None, shards.samples, 1).images]
    pixels = [shard.sha256 for shard in shards.manifest.shards]
    assert metrics["items_sha256"] == digest_of({"items": items, "pixels": pixels, "seed": 0, "tasks": TASKS})


def of_other_splits(**changes: Any) -> list[dict]:
    """Images of all splits, those of training or of validation with these changes."""
    splits = ("train", "train", "validation", "test", "test")
    images = [
        image(number, split=split, labels=[WORDS[number % 2]], questions=[("Which?", WORDS[number % 2], "open")])
        for number, split in enumerate(splits)
    ]
    return [one | changes.get(one["split"], {}) for one in images]


@pytest.mark.parametrize(
    ("tasks", "learns", "chooses"),
    [
        ({"retrieval": {"ks": [1]}}, False, False),
        ({"grounding": {}}, False, True),
        ({"retrieval": {"ks": [1]}, "probe": {"shots": [1]}}, True, True),
        ({"detection": {}}, True, True),
        ({"vqa": {"hidden": 4, "epochs": 1}}, True, True),
    ],
)
def test_the_items_digest_follows_what_tasks_draw_learn_from_and_choose_on(
    tmp_path: Path, tasks: dict[str, Any], learns: bool, chooses: bool
) -> None:
    def digest(name: str, images: list[dict], **changes: Any) -> str:
        found: str = score(tmp_path / name, images, settings=config(tasks=tasks, **changes))[0]["items_sha256"]
        return found

    first = digest("first", of_other_splits())
    assert digest("resamples", of_other_splits(), bootstrap={"samples": 50, "seed": 0}) == first
    assert digest("seed", of_other_splits(), bootstrap={"samples": 100, "seed": 1}) != first
    for name, change in (
        ("label", {"labels": []}),
        ("pixels", {"level": 200}),
        ("question", {"questions": [("Where?", "there", "open")]}),
    ):
        assert (digest(f"train-{name}", of_other_splits(train=change)) != first) is learns
        assert (digest(f"validation-{name}", of_other_splits(validation=change)) != first) is chooses


def test_other_splits_are_in_the_items_digest_by_their_tars(tmp_path: Path) -> None:
    tasks = {"probe": {"shots": [1]}}
    metrics, _ = score(tmp_path, of_other_splits(), settings=config(tasks=tasks))
    folders = tmp_path / "shards/images", tmp_path / "shards/captions"
    shards = ShardSet(*folders, "test")
    tars = {
        split: [
            [
                json.loads((folder / "manifest.json").read_text())["splits"][split]["shards"][0]["sha256"]
                for folder in folders
            ]
        ]
        for split in ("train", "validation")
    }
    inputs = {
        "items": [asdict(one) for one in EvaluationSet(Collapsed(), None, shards.samples, 1).images],
        "pixels": [shard.sha256 for shard in shards.manifest.shards],
    }
    classes = {"one": {"labels": ["alpha", "beta"], "exclusive": True}}
    assert metrics["items_sha256"] == digest_of(
        {**inputs, "seed": 0, "source_classes": classes, "tasks": tasks, **tars}
    )


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        (
            {"retreival": {"ks": [1]}},
            "'retreival' is not one of the tasks: choose from detection, grounding, laterality,",
        ),
        ({"retrieval": {"k": [1]}}, r"evaluate.tasks.retrieval.k: unknown key; did you mean 'ks'\?"),
        ({"retrieval": {"ks": [0]}}, "ks must hold numbers of at least 1"),
    ],
)
def test_mistakes_in_the_tasks_are_one_clear_line(tmp_path: Path, tasks: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        score(tmp_path, [image(0)], settings=config(tasks=tasks))


def test_missing_inputs_are_one_clear_line(tmp_path: Path) -> None:
    save_clip(tmp_path / "clip", seed=0)
    with pytest.raises(UserError, match=r"no checkpoint of 'clap'.*there are checkpoints of: clip"):
        find_checkpoint("clap", ["clip", "plan"], tmp_path)
    with pytest.raises(UserError, match="test images"):
        score(tmp_path / "empty", [])
    with pytest.raises(UserError, match="dvc repro"):
        evaluate(config(), "x", Collapsed(), None, "", tmp_path / "no", tmp_path / "no", tmp_path / "out", tmp_path)


def test_a_shard_that_lost_samples_is_refused(tmp_path: Path) -> None:
    images, captions = write_shards(tmp_path, [image(number) for number in range(3)])
    for family in (images, captions):
        manifest = json.loads((family / "manifest.json").read_text())
        manifest["splits"]["test"]["shards"][0]["samples"] = 4
        (family / "manifest.json").write_text(json.dumps(manifest))
        seal(family)
    with pytest.raises(UserError, match="holds 3 samples, its manifest says 4"):
        evaluate(config(), "x", Collapsed(), None, "", images, captions, tmp_path / "out", tmp_path)
