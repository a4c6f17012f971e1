"""A study leaves the house: loaded by the libraries of others, and rebuilt elsewhere without asking a model."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas
import pytest
import yaml

from tests.lifecycle import study as small
from tests.lifecycle.study import run
from tests.lifecycle.test_versions import write_source
from tests.recording_server import RecordingServer

# The first test of a worker makes the study, too.
pytestmark = [pytest.mark.lifecycle, pytest.mark.timeout(900)]

LOAD = """
import json, sys
import mlcroissant, webdataset
from datasets import load_dataset
from pycocotools.coco import COCO

def regions(row):
    return [[region["region_id"], region["role"], region["box"], region["mask"]] for region in row["regions"]]

folder, found = sys.argv[1], {}
for name, streaming in (("whole", False), ("streaming", True)):
    data = load_dataset(folder, streaming=streaming)
    assert "Image" in str(next(iter(data.values())).features["image"])
    found[name] = {
        split: {row["image_id"]: [*row["image"].size, row["labels"], row["report"], regions(row)] for row in rows}
        for split, rows in data.items()
    }
data = load_dataset("imagefolder", data_dir=f"{folder}/images")
found["folder"] = {split: sorted(rows["image_id"]) for split, rows in data.items()}
for split in found["whole"]:
    for library in ("webdataset", "datasets"):
        for family in ("images", "captions"):
            with open(f"{folder}/shards/{family}/manifest.json") as stream:
                shards = json.load(stream)["splits"][split]["shards"]
            tars = [f"{folder}/shards/{family}/{shard['file']}" for shard in shards]
            if library == "webdataset":
                rows = webdataset.WebDataset(tars, shardshuffle=False)
            else:
                rows = load_dataset("webdataset", data_files={split: tars}, split=split, streaming=True)
            found.setdefault(f"{library} {family}", {})[split] = sorted(row["__key__"] for row in rows)
    records = mlcroissant.Dataset(f"{folder}/croissant.json").records(split)
    found.setdefault("croissant", {})[split] = sorted(record[f"{split}/image_id"].decode() for record in records)
    coco = COCO(f"{folder}/coco/{split}_input.json")
    boxes = {one["region_id"]: [one["bbox"], int(coco.annToMask(one).sum())] for one in coco.anns.values()}
    found.setdefault("coco", {})[split] = boxes
print(json.dumps(found))
"""


def test_a_release_is_loaded_by_other_libraries(study: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = run(sys.executable, "-m", "flows.release", "--out", out, cwd=study)
    images = pandas.read_parquet(study / "data/split/images.parquet")
    assert f"released: {len(images)} of {len(images)} images, from phantom" in said
    settings = {"HF_HOME": str(tmp_path / "hugging-face"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", LOAD, str(out)]
    done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    wanted = {split: sorted(rows["image_id"]) for split, rows in images.groupby("split")}
    for name in ("folder", "croissant", "webdataset images", "webdataset captions", "datasets images"):
        assert found[name] == wanted, name
    assert found["streaming"] == found["whole"]

    regions = pandas.read_parquet(study / "data/regions/regions.parquet").query("status == 'accepted'")
    of_image = dict(list(regions.groupby("image_id")))
    for split, rows in found["whole"].items():
        assert sorted(rows) == wanted[split]
        table = images.set_index("image_id")
        for image_id, (width, height, labels, _, listed) in rows.items():
            row = table.loc[image_id]
            assert [width, height] == [row["width"], row["height"]]
            assert labels == (None if row["labels"] is None else list(row["labels"]))
            known = of_image[image_id].sort_values("n") if image_id in of_image else regions.head(0)
            boxes = known[["x0", "y0", "x1", "y1"]].to_numpy().tolist()
            assert listed == [
                list(one) for one in zip(known["region_id"], known["role"], boxes, known["mask"], strict=True)
            ]
        masked = regions[(regions["role"] == "input") & regions["image_id"].isin(wanted[split])]
        assert {name: area for name, (_, area) in found["coco"][split].items()} == dict(
            zip(masked["region_id"], masked["area"], strict=True)
        )
    run("sha256sum", "--quiet", "--check", "SHA256SUMS", cwd=out)


def test_a_recipe_is_rebuilt_elsewhere_with_equal_digests_and_no_question(tmp_path: Path, repository: Path) -> None:
    folder, pack = tmp_path / "study", tmp_path / "recipe"
    small.clone(repository, folder)
    server = RecordingServer()
    try:
        params = small.params(folder / "params.yaml", "sqlite:///data/mlflow/mlflow.db")
        params["phantom"]["images"] = 60
        params["ingest"]["sources"]["mine"] = {"adapter": "table", "root": str(tmp_path / "raw"), "licence": "internal"}
        options = {"base_urls": [server.url], "model": "toy", "concurrency": 8}
        params["captions"] |= {"captioner": "vllm", "prompts": "prompts/vllm", "options": {"vllm": options}}
        (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
        write_source(tmp_path / "raw")
        run(sys.executable, "-m", "pipelines.ingest.patient_key", cwd=folder)
        run("dvc", "repro", "caption_shards", cwd=folder)
        asked = len(server.requests)
        first = json.loads((folder / "data/summaries/captions.json").read_text())
        assert asked >= first["sent"] > 100
        run("git", "add", "--all", cwd=folder)
        run("git", "commit", "--quiet", "--message", "A study with a model's captions", cwd=folder)
        packing = (sys.executable, "-m", "flows.recipe", "pack", "--out", pack)
        (folder / "data/cache").rename(tmp_path / "cache")
        lost = run(*packing, cwd=folder, fails=True)
        assert f"error: {first['sent']} answers of the captioner are not in data/cache/results.sqlite" in lost
        assert not pack.exists()
        shutil.rmtree(folder / "data/cache")
        (tmp_path / "cache").rename(folder / "data/cache")
        text = (folder / "params.yaml").read_text()
        (folder / "params.yaml").write_text(text.replace("min_side: 4", "min_side: 5"))
        assert "regions changed since the study ran: run `dvc repro` first" in run(*packing, cwd=folder, fails=True)
        (folder / "params.yaml").write_text(text)
        packed = run(*packing, cwd=folder)
        assert len(server.requests) == asked
    finally:
        server.close()
    assert "whoever rebuilds it needs the key for patient ids of mine" in packed
    assert "give it only to those who may have mine" in packed
    text = "".join(file.read_text() for file in pack.rglob("*") if file.is_file())
    assert not [word for word in (str(tmp_path), server.url, "scans/") if word in text]

    run("git", "clone", "--quiet", folder, tmp_path / "elsewhere", cwd=tmp_path)
    elsewhere = tmp_path / "elsewhere"
    command = (sys.executable, "-m", "flows.recipe", "rebuild", pack)
    assert "keys/patient.key is not the key whose SHA-256" in run(*command, cwd=elsewhere, fails=True)
    (elsewhere / "keys/patient.key").write_bytes((folder / "keys/patient.key").read_bytes())
    (elsewhere / "keys/patient.key").chmod(0o600)
    assert "data/raw/mine (source mine) is not there" in run(*command, cwd=elsewhere, fails=True)
    (elsewhere / "data/raw").mkdir(exist_ok=True)
    (elsewhere / "data/raw/mine").symlink_to(tmp_path / "raw")
    assert not (elsewhere / "data/cache").exists()

    said = run(*command, cwd=elsewhere)
    assert "equal: all 9 outputs have the digests of the recipe (10 stages ran)" in said
    assert "sent to a model: 0" in said
    for name in ("captions/captions.parquet", "shards/captions/manifest.json", "shards/images/manifest.json"):
        assert (elsewhere / "data" / name).read_bytes() == (folder / "data" / name).read_bytes(), name
    summary = json.loads((elsewhere / "data/summaries/captions.json").read_text())
    assert (summary["sent"], summary["requests"], summary["reused"]) == (0, 0, first["sent"])
