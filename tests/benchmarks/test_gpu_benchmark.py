"""benchmarks/gpu.py on the CPU at small sizes: every item, the rows of each, the dry run; and the packed data."""

import argparse
import csv
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import Dinov2Config, Dinov2Model

from models.data.shards import ShardSet
from models.lite_medsam import WEIGHTS, empty_model, load_weights, save_weights
from pipelines.evaluate.metrics.segmentation import METRICS, confusion_counts
from tests.shards import jpeg, png

ITEMS = [
    ("pretraining", "matmul"),
    *(("pretraining", name) for name in ("clip", "regionmed_clip", "plan")),
    *(("pretraining", f"{name}_compiled") for name in ("clip", "regionmed_clip", "plan")),
    *(("segmentation", name) for name in ("unet", "reclmis", "tmca")),
    *(("proposals", name) for name in ("grounding_dino", "medsam")),
    *(("published", name) for name in ("lite_medsam", "dinov2_small")),
    *(("launchers", name) for name in ("torchrun", "ray_train")),
]
PRETRAINING = {"samples_per_second", "model_flops", "achieved", "data_wait_fraction", "steps"}
SEGMENTATION = {"epochs_reached", "training_time", "training_images", "dice_per_image", "dice_pooled"}
MEASURES = {
    "matmul": {"achieved"},
    **{name: PRETRAINING for part, name in ITEMS if part == "pretraining" and name != "matmul"},
    "unet": SEGMENTATION | {"dice_per_image_of_the_paper", "dice_pooled_of_the_paper"},
    "reclmis": SEGMENTATION | {"dice_per_image_of_the_paper"},
    "tmca": SEGMENTATION | {"dice_pooled_of_the_paper"},
    "grounding_dino": {"images_per_second"},
    "medsam": {"images_per_second"},
    "lite_medsam": {"images_per_second", "least_cosine_with_float32"},
    "dinov2_small": {"images_per_second", "least_cosine_with_float32"},
    "torchrun": {"last_loss", "loss_difference", "ddp_gradient_difference"},
    "ray_train": {"last_loss", "loss_difference"},
}


@pytest.fixture
def benchmarks(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(repository / "benchmarks")
    return repository / "benchmarks"


def run(repository: Path, script: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(repository)}
    command = [sys.executable, repository / "benchmarks" / script, *words]
    return subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True)


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(line for line in path.read_text().splitlines() if not line.startswith("#")))


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    output = tmp_path_factory.mktemp("gpu") / "gpu.csv"
    done = run(repository, "gpu.py", "--small", "--commit", "0" * 40, "--output", output)
    assert done.returncode == 0, done.stderr[-3000:]
    return output


@pytest.mark.slow
def test_every_item_writes_its_rows_in_order_on_the_cpu(measured: Path) -> None:
    found = rows(measured)
    assert list(dict.fromkeys((row["part"], row["item"]) for row in found)) == ITEMS
    measures: dict[str, set[str]] = {}
    for row in found:
        measures.setdefault(row["item"], set()).add(row["measure"])
        assert (row["device"], row["commit"]) == ("cpu", "0" * 40)
        assert row["torch"]
        assert row["transformers"]
    assert measures == MEASURES


@pytest.mark.slow
def test_one_process_of_torchrun_and_of_ray_train_give_the_bare_loops_loss(measured: Path) -> None:
    values = {
        (row["item"], row["measure"]): float(row["value"]) for row in rows(measured) if row["part"] == "launchers"
    }
    assert values["torchrun", "loss_difference"] == values["ray_train", "loss_difference"] == 0
    assert values["torchrun", "ddp_gradient_difference"] == pytest.approx(0, abs=1e-6)
    # Better than choosing one of the 8 texts of a batch at random.
    assert 0 < values["torchrun", "last_loss"] < np.log(8) + 0.1


@pytest.mark.slow
def test_figures_are_those_of_what_was_trained(measured: Path) -> None:
    values = {(row["item"], row["measure"]): float(row["value"]) for row in rows(measured)}
    # Eight images in batches of four, two epochs: four steps are two epochs.
    assert values["unet", "epochs_reached"] == 2
    assert values["unet", "training_images"] == 8
    for item in ("clip", "regionmed_clip", "plan"):
        rate, flops = values[item, "samples_per_second"], values[item, "model_flops"]
        assert values[item, "achieved"] == pytest.approx(rate * flops / 1000, rel=1e-3)
        assert values[f"{item}_compiled", "model_flops"] == flops
    # Two crops beside each image, and texts of regions.
    assert values["regionmed_clip", "model_flops"] > 2 * values["clip", "model_flops"]


@pytest.mark.slow
def test_half_precision_is_compared_with_float32(measured: Path) -> None:
    found = [row for row in rows(measured) if row["measure"] == "least_cosine_with_float32"]
    cosines = {(row["item"], row["setting"].split()[0]): float(row["value"]) for row in found}
    assert cosines.keys() == {(item, of) for item in ("lite_medsam", "dinov2_small") for of in ("bfloat16", "float16")}
    # float16 has three more binary digits; random weights make little of what is rounded, and much of some.
    for item in ("lite_medsam", "dinov2_small"):
        assert 0.5 < cosines[item, "bfloat16"] <= cosines[item, "float16"] + 1e-4 <= 1.001


@pytest.mark.slow
def test_an_item_that_has_rows_is_not_run_again(
    measured: Path, benchmarks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gpu

    before = measured.read_bytes()
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--small", "--commit", "0" * 40, "--output", str(measured)])
    gpu.main()
    assert measured.read_bytes() == before


def test_dry_run_prints_the_time_boxes_and_what_travels(
    benchmarks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import gpu

    for name, size in (("qata", 45), ("lite_medsam/model.safetensors", 20), ("dinov2_small/model.safetensors", 44)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * size * 10**6)
    gpu.dry_run(tmp_path / "qata", tmp_path)
    output = capsys.readouterr().out
    lines = output.splitlines()
    boxes = [int(line.split(" s ")[0]) for line in lines[: len(ITEMS)]]
    assert [tuple(line.split(" s ")[1].split()[:2]) for line in lines[: len(ITEMS)]] == ITEMS
    assert lines[len(ITEMS)].split()[0] == str(sum(boxes))
    assert sum(boxes) < 540
    assert "45.0 MB  packed data" in output
    # No two of the three pass 60 MB together.
    journeys = [line.partition(": ")[2] for line in lines if "journey" in line and ": " in line]
    names = ("packed data", "weights lite_medsam", "weights dinov2_small")
    assert journeys == [f"repository, {name}" for name in names]
    (tmp_path / "qata").write_bytes(b"x" * 61_000_000)
    with pytest.raises(SystemExit, match="over a limit"):
        gpu.dry_run(tmp_path / "qata", None)
    assert "?   MB  weights lite_medsam: give --weights" in capsys.readouterr().out


def test_files_travel_together_as_far_as_the_limit_lets_them(benchmarks: Path) -> None:
    import gpu

    million = 10**6
    assert gpu.journeys({}, 5 * million) == [[]]
    assert gpu.journeys({"a": 20 * million, "b": 35 * million}, 5 * million) == [["a", "b"]]
    assert gpu.journeys({"a": 20 * million, "b": 35 * million, "c": 1}, 5 * million) == [["a", "b"], ["c"]]


def test_an_item_without_its_package_or_data_is_named(benchmarks: Path, tmp_path: Path) -> None:
    import gpu

    item = gpu.Item(part="p", name="n", seconds=1, measure=lambda context: iter(()), packages=("no_such_package",))
    assert gpu.missing(item, None, None, small=False) == "no_such_package"
    (segmentation,) = (item for item in gpu.items() if item.name == "unet")
    assert gpu.missing(segmentation, tmp_path / "absent", None, small=False) == "the packed data (--qata)"
    assert gpu.missing(segmentation, None, None, small=True) is None
    (lite_medsam,) = (item for item in gpu.items() if item.name == "lite_medsam")
    for weights in (None, tmp_path):
        assert gpu.missing(lite_medsam, None, weights, small=False) == "its packed weights (--weights)"
    (tmp_path / "lite_medsam").mkdir()
    assert gpu.missing(lite_medsam, None, tmp_path, small=False) is None


def test_an_item_that_fails_or_takes_too_long_gives_a_row_that_says_so(benchmarks: Path, tmp_path: Path) -> None:
    import gpu

    def fails(context: Any) -> Iterator[Any]:
        yield "", "figure", 1, ""
        raise ValueError("no such thing")

    def hangs(context: Any) -> Iterator[Any]:
        subprocess.run(["sleep", "100"])
        yield "", "figure", 1, ""

    def dies(context: Any) -> Iterator[Any]:
        os._exit(3)

    output = tmp_path / "gpu.csv"
    output.write_text(",".join(gpu.COLUMNS) + "\n")
    arguments = argparse.Namespace(output=output, small=False, device="cpu", qata=None, weights=None)
    for measure in (fails, hangs, dies):
        item = gpu.Item(part="p", name=measure.__name__, seconds=1, measure=measure)
        gpu.run_item(item, arguments, tmp_path, ("cpu", "2", "5", "0"))
    assert [(row["item"], row["measure"], row["value"]) for row in rows(output)] == [
        ("fails", "status", "failed: ValueError: no such thing"),
        ("hangs", "status", "failed: not done within 1 s"),
        ("dies", "status", "failed: its process ended with 3"),
    ]


@pytest.mark.slow
def test_packed_weights_are_the_models_in_half_precision(
    benchmarks: Path, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gpu_parts import published
    from gpu_parts.context import Context

    torch.manual_seed(0)
    lite = empty_model()
    (tmp_path / "weights" / "lite_medsam").mkdir(parents=True)
    save_weights(lite, tmp_path / "weights" / "lite_medsam" / WEIGHTS)
    # DINOv2-S of one layer: everything but the layers has its size.
    dino = Dinov2Model(Dinov2Config(hidden_size=384, num_hidden_layers=1, num_attention_heads=6, image_size=518))
    dino.save_pretrained(tmp_path / "weights" / "dinov2_small")
    done = run(repository, "pack_weights.py", tmp_path / "packed", "--weights", tmp_path / "weights")
    assert done.returncode == 0, done.stderr[-3000:]
    for name in ("lite_medsam", "dinov2_small"):
        written = (tmp_path / "packed" / name / WEIGHTS).stat().st_size
        assert written / (tmp_path / "weights" / name / WEIGHTS).stat().st_size == pytest.approx(0.5, abs=0.01)
    loaded = empty_model()
    load_weights(loaded, tmp_path / "packed" / "lite_medsam" / WEIGHTS)
    for name, value in lite.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value.half().float() if value.is_floating_point() else value)

    context = Context(
        device=torch.device("cpu"), small=False, work=tmp_path, qata=None, weights=tmp_path / "packed", seconds=0
    )
    monkeypatch.setattr(published, "COMPARED", 1)
    monkeypatch.setattr(published, "TYPES", (torch.bfloat16,))
    # No time is left for rates; what remains shows that the packed weights are read and answer.
    for measure in (published.lite_medsam, published.dinov2_small):
        found = list(measure(context))
        assert [row[1] for row in found] == ["least_cosine_with_float32"]
        assert all(0.9 < float(row[2]) <= 1.0001 for row in found)


@pytest.mark.slow
def test_weights_that_are_missing_or_too_large_for_half_precision_are_refused(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "weights" / "lite_medsam").mkdir(parents=True)
    done = run(repository, "pack_weights.py", tmp_path / "packed", "--weights", tmp_path / "weights")
    assert done.returncode == 1
    assert done.stderr.strip().endswith('model.safetensors: run `make weights WEIGHTS="lite_medsam"`')
    save_file({"scale": torch.tensor([7e4])}, tmp_path / "weights" / "lite_medsam" / WEIGHTS)
    done = run(repository, "pack_weights.py", tmp_path / "packed", "--weights", tmp_path / "weights")
    assert done.returncode == 1
    assert "scale is too large for half precision" in done.stderr
    assert not (tmp_path / "packed").exists()


def test_a_peak_is_known_by_the_devices_name(benchmarks: Path) -> None:
    from gpu_parts.context import peak_tflops

    assert peak_tflops("NVIDIA H100 80GB HBM3") == peak_tflops("NVIDIA H200") == 989
    assert peak_tflops("NVIDIA H100 PCIe") == 756
    assert peak_tflops("cpu") is None


def test_dice_is_that_of_the_evaluation(benchmarks: Path) -> None:
    from gpu_parts.segmentation import dice

    random = np.random.default_rng(0)
    masks = random.random((5, 2, 6, 6)) > 0.6
    masks[0] = False
    counts = np.array([(a.sum(), b.sum(), (a & b).sum()) for a, b in masks])
    expected = np.array([confusion_counts(a, b) for a, b in masks])
    names = ("dice_per_image", "dice_pooled")
    assert dice(counts) == pytest.approx([float(METRICS[name](expected)) for name in names])


def test_packed_data_become_shards_with_equal_masks_and_texts(
    benchmarks: Path, repository: Path, tmp_path: Path
) -> None:
    from gpu_parts import packed
    from gpu_parts.random_shards import write_once

    random = np.random.default_rng(0)
    masks = {}
    for folder, names in (("Train_Folder", ("sub-S1_a", "sub-S1_b", "covid_1")), ("Test_Folder", ("sub-S2_a",))):
        for part in ("img", "labelcol"):
            (tmp_path / "raw" / folder / part).mkdir(parents=True)
        for name in names:
            masks[name] = random.random((224, 224)) > 0.7
            grey = np.asarray(Image.fromarray(random.integers(0, 256, (14, 14), np.uint8)).resize((224, 224)))
            (tmp_path / "raw" / folder / "img" / f"{name}.jpg").write_bytes(jpeg(grey, quality=90))
            (tmp_path / "raw" / folder / "labelcol" / f"mask_{name}.png").write_bytes(png(masks[name]))
    text = tmp_path / "raw" / "Train_Folder" / "Train_Val_text.csv"
    text.write_text('Image,Description\nmask_covid_1.png,"One area, left lung."\n')
    results, out = tmp_path / "packing.csv", tmp_path / "qata.safetensors"
    done = run(repository, "pack_qata.py", tmp_path / "raw", out, "--results", results)
    assert done.returncode == 0, done.stderr[-3000:]

    figures = {(row["split"], row["measure"]): float(row["value"]) for row in rows(results)}
    assert figures["train", "images"] == figures["train", "masks_equal"] == 3
    assert figures["test", "images"] == figures["test", "masks_equal"] == 1
    side, samples = packed.read(out)
    assert side == 224
    by_key = {sample.key: sample for sample in samples}
    assert [by_key[key].group for key in ("sub-S1_a", "sub-S1_b", "covid_1")] == ["sub-S1", "sub-S1", "covid_1"]
    original = np.asarray(Image.open(tmp_path / "raw" / "Test_Folder" / "img" / "sub-S2_a.jpg"), float)
    stored = np.asarray(Image.open(io.BytesIO(by_key["sub-S2_a"].image)), float)
    assert figures["test", "mean_absolute_difference"] == pytest.approx(np.abs(original - stored).mean(), abs=1e-3)
    ratio = 10 * np.log10(255**2 / ((original - stored) ** 2).mean())
    assert figures["test", "psnr_mean"] == figures["test", "psnr_min"] == pytest.approx(ratio, abs=1e-2)

    train = write_once(tmp_path / "shards", lambda: packed.members(samples, side), side, *packed.SPLITS)
    test = ShardSet(train.images, train.captions, "test")
    found = {sample.key: sample for split in (train, test) for sample in split.samples()}
    assert found.keys() == masks.keys()
    assert all((found[key].target == mask).all() for key, mask in masks.items())
    assert found["covid_1"].captions.report == "One area, left lung."
    assert found["sub-S2_a"].captions.report is None
