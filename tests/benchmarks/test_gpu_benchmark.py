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
from PIL import Image

from models.data.shards import ShardSet
from pipelines.evaluate.metrics.segmentation import METRICS, confusion_counts
from tests.shards import jpeg, png

ITEMS = [
    ("pretraining", "matmul"),
    *(("pretraining", name) for name in ("clip", "regionmed_clip", "plan")),
    *(("pretraining", f"{name}_compiled") for name in ("clip", "regionmed_clip", "plan")),
    *(("segmentation", name) for name in ("unet", "reclmis", "tmca")),
    *(("proposals", name) for name in ("grounding_dino", "medsam")),
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


def test_one_process_of_torchrun_and_of_ray_train_give_the_bare_loops_loss(measured: Path) -> None:
    values = {
        (row["item"], row["measure"]): float(row["value"]) for row in rows(measured) if row["part"] == "launchers"
    }
    assert values["torchrun", "loss_difference"] == values["ray_train", "loss_difference"] == 0
    assert values["torchrun", "ddp_gradient_difference"] == pytest.approx(0, abs=1e-6)
    # Better than choosing one of the 8 texts of a batch at random.
    assert 0 < values["torchrun", "last_loss"] < np.log(8) + 0.1


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


def test_an_item_that_has_rows_is_not_run_again(
    measured: Path, benchmarks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gpu

    before = measured.read_bytes()
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--small", "--commit", "0" * 40, "--output", str(measured)])
    gpu.main()
    assert measured.read_bytes() == before


def test_dry_run_prints_the_time_boxes_and_their_sum(
    benchmarks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import gpu

    (tmp_path / "qata").write_bytes(b"x" * 45_000_000)
    gpu.dry_run(tmp_path / "qata")
    output = capsys.readouterr().out
    lines = output.splitlines()
    boxes = [int(line.split(" s ")[0]) for line in lines[: len(ITEMS)]]
    assert [tuple(line.split(" s ")[1].split()[:2]) for line in lines[: len(ITEMS)]] == ITEMS
    assert lines[len(ITEMS)].split()[0] == str(sum(boxes))
    assert sum(boxes) < 540
    assert "45.0 MB  packed data" in output
    (tmp_path / "qata").write_bytes(b"x" * 61_000_000)
    with pytest.raises(SystemExit, match="over a limit"):
        gpu.dry_run(tmp_path / "qata")


def test_an_item_without_its_package_or_data_is_named(benchmarks: Path, tmp_path: Path) -> None:
    import gpu

    item = gpu.Item(part="p", name="n", seconds=1, measure=lambda context: iter(()), packages=("no_such_package",))
    assert gpu.missing(item, None, small=False) == "no_such_package"
    (segmentation,) = (item for item in gpu.items() if item.name == "unet")
    assert gpu.missing(segmentation, tmp_path / "absent", small=False) == "the packed data (--qata)"
    assert gpu.missing(segmentation, None, small=True) is None


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
    arguments = argparse.Namespace(output=output, small=False, device="cpu", qata=None)
    for measure in (fails, hangs, dies):
        item = gpu.Item(part="p", name=measure.__name__, seconds=1, measure=measure)
        gpu.run_item(item, arguments, tmp_path, ("cpu", "2", "5", "0"))
    assert [(row["item"], row["measure"], row["value"]) for row in rows(output)] == [
        ("fails", "status", "failed: ValueError: no such thing"),
        ("hangs", "status", "failed: not done within 1 s"),
        ("dies", "status", "failed: its process ended with 3"),
    ]


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
