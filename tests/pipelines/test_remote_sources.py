"""Stages on sources in a bucket: the tables and tars of the same files in a folder, whatever kind of source it is."""

import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.config import load
from pipelines.errors import TemporaryError, UserError
from pipelines.ingest import stage
from pipelines.ingest.config import IngestConfig, SourceConfig
from pipelines.proposals.stage import run as run_proposals
from pipelines.recipe import raw
from pipelines.records import REGIONS, SPLIT_IMAGES
from pipelines.shards.config import ShardsConfig
from pipelines.shards.images import run as run_shards
from pipelines.sources import Sources
from pipelines.split.config import SplitConfig
from pipelines.split.stage import run as run_split
from pipelines.storage import RawCache, root_of
from pipelines.workers.config import WorkersConfig
from tests.pipelines.formats.test_dicom_volume import folder as series_folder
from tests.pipelines.formats.test_dicom_volume import slice_of
from tests.pipelines.proposals.proposals_world import CONFIG as PROPOSALS
from tests.s3_server import BUCKET, S3Server, serving_s3
from tests.workers import few_are_worth_a_worker

TABLES = ("images", "annotations", "questions", "rejected")
TIMES = ("seconds", "items_per_second", "peak_memory_mb")
Forget = Callable[[], None]


def picture(file: Path, seed: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (24, 30), dtype=np.uint8)).save(file)


def class_folders(root: Path) -> None:
    """Names with a space, a plus, a percent sign and an umlaut; a file that is no image; one that is empty."""
    for number, name in enumerate(("mass/a b.png", "mass/1+1.png", "normal/50%.png", "normal/Ü.png", "normal/x.jpg")):
        picture(root / name, number)
    (root / "mass" / "notes.txt").write_text("none")
    (root / "normal" / "empty.png").touch()


def table(root: Path) -> None:
    """Masks, an archive beside the pictures, one file that is not there and one that is broken."""
    rows: list[dict[str, Any]] = []
    for number in range(4):
        picture(root / f"{number}.png", number)
        mask = np.zeros((24, 30), np.uint8)
        mask[number : number + 6, 3:9] = 255
        Image.fromarray(mask).save(root / f"{number}-mask.png")
        rows.append({"file_name": f"{number}.png", "mask": f"{number}-mask.png", "labels": ["mass"], "text": "A mass."})
    picture(root / "inside.png", 9)
    with zipfile.ZipFile(root / "batch.zip", "w") as archive:
        archive.write(root / "inside.png", "deep/inside.png")
    (root / "inside.png").unlink()
    (root / "broken.png").write_bytes((root / "1.png").read_bytes()[:60])
    rows += [{"file_name": name} for name in ("batch.zip/deep/inside.png", "none.png", "broken.png", "../up.png")]
    (root / "metadata.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def series(root: Path) -> None:
    series_folder(root, [slice_of(number) for number in range(5)])


KINDS: dict[str, tuple[Callable[[Path], None], dict[str, Any]]] = {
    "class_folders": (class_folders, {"modality": "other"}),
    "table": (table, {"modality": "other"}),
    "dicom": (series, {"axis": "coronal", "series": "all"}),
}


def made(kind: str, root: Path) -> Path:
    root.mkdir(parents=True)
    KINDS[kind][0](root)
    return root


def config_of(kind: str, root: str, folder: Path, gigabytes: float = 1.0) -> IngestConfig:
    source = SourceConfig(adapter=kind, root=root, patient_ids="public", options=KINDS[kind][1])
    cache = RawCache(folder=str(folder / "copies"), gigabytes=gigabytes)
    return IngestConfig(sources={"here": source}, max_pixels=10_000, max_failed_fraction=0.5, raw_cache=cache)


def ingest(config: IngestConfig, output: Path, processes: int = 1) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The bytes of each table, and the summary without its times."""
    summary = stage.run("here", config, output, output.parent, workers=WorkersConfig(processes=processes))
    tables = {name: (output / f"{name}.parquet").read_bytes() for name in TABLES}
    return tables, {name: value for name, value in summary.items() if name not in TIMES}


@pytest.mark.parametrize("kind", KINDS)
def test_a_bucket_gives_the_tables_of_the_folder(kind: str, tmp_path: Path, s3: S3Server, forget: Forget) -> None:
    root = made(kind, tmp_path / "raw")
    here = ingest(config_of(kind, str(root), tmp_path), tmp_path / "here")
    url = s3.put(root, tmp_path.name)
    assert ingest(config_of(kind, url, tmp_path), tmp_path / "there") == here
    assert here[1]["ok"] == {"class_folders": 5, "table": 5, "dicom": 7}[kind]


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_an_archive_in_a_bucket_gives_the_tables_of_the_archive(
    suffix: str, tmp_path: Path, s3: S3Server, forget: Forget
) -> None:
    root, packed = made("table", tmp_path / "raw"), tmp_path / "packed" / f"raw{suffix}"
    packed.parent.mkdir()
    if suffix == ".zip":
        with zipfile.ZipFile(packed, "w") as archive:
            for file in sorted(root.iterdir()):
                archive.write(file, file.name)
    else:
        with tarfile.open(packed, "w:gz") as tar:
            tar.add(root, ".")
    here = ingest(config_of("table", str(packed), tmp_path), tmp_path / "here")
    url = s3.put(packed.parent, tmp_path.name)
    assert ingest(config_of("table", f"{url}/raw{suffix}", tmp_path), tmp_path / "there") == here
    assert here[1]["ok"] == 4
    assert len([*(tmp_path / "copies").glob("*.copy")]) == 1


@pytest.mark.slow
def test_two_processes_share_the_cache(
    tmp_path: Path, s3: S3Server, forget: Forget, monkeypatch: pytest.MonkeyPatch
) -> None:
    few_are_worth_a_worker(monkeypatch, stage, 1)
    root = made("table", tmp_path / "raw")
    here = ingest(config_of("table", str(root), tmp_path), tmp_path / "here")
    url = s3.put(root, tmp_path.name)
    # No more than three of the files of about 800 bytes.
    config = config_of("table", url, tmp_path, gigabytes=2500 / 10**9)
    assert ingest(config, tmp_path / "there", processes=2) == here
    assert sum(copy.stat().st_size for copy in (tmp_path / "copies").glob("*.copy")) <= 2500


class Study:
    """The stages after ingest on its tables, with the images where a source's root says."""

    def __init__(self, folder: Path, ingested: Path) -> None:
        self.folder, self.split = folder, folder / "split"
        params = Path(__file__).parents[2] / "params.yaml"
        self.split.mkdir(parents=True)
        shutil.copytree(ingested, folder / "ingest" / "here")
        run_split(load(SplitConfig, "split", params), ["here"], folder / "ingest", self.split, folder)
        REGIONS.write(folder / "regions.parquet", [])

    def proposals(self, sources: Sources) -> bytes:
        output = self.folder / "proposals.parquet"
        run_proposals(PROPOSALS, sources, self.split, output, self.folder / "results.sqlite", self.folder)
        return output.read_bytes()

    def shards(self, sources: Sources, allowed: float = 0.0) -> tuple[dict[str, Any], dict[str, bytes]]:
        config = ShardsConfig(
            image_size=16, crop_size=16, crop_margin=0.25, samples_per_shard=4, quality=90, max_failed_fraction=allowed
        )
        output = self.folder / "shards"
        images, regions = self.split / "images.parquet", self.folder / "regions.parquet"
        summary = run_shards(config, sources, images, regions, output, self.folder)
        return summary, {file.name: file.read_bytes() for file in sorted(output.rglob("*.tar"))}


def test_later_stages_read_the_bucket_and_see_what_changed_there(tmp_path: Path, s3: S3Server, forget: Forget) -> None:
    root = made("table", tmp_path / "raw")
    url = s3.put(root, tmp_path.name)
    config = config_of("table", url, tmp_path)
    ingest(config, tmp_path / "there")
    here = Sources(roots={"here": root}, max_pixels=10_000)
    there = Sources(roots=config.roots(), max_pixels=10_000)
    local, remote = (Study(tmp_path / name, tmp_path / "there") for name in ("local", "remote"))
    shutil.rmtree(tmp_path / "copies")
    forget()
    assert local.proposals(here) == remote.proposals(there)
    summary, tars = remote.shards(there)
    assert (summary["ok"], summary["failed"]) == (5, 0)
    assert local.shards(here)[1] == tars
    # Behind the back of this process nothing changes; another one sees it, although it has a copy of what was there.
    s3.storage().pipe_file(f"{BUCKET}/{tmp_path.name}/1.png", (root / "2.png").read_bytes())
    s3.storage().rm_file(f"{BUCKET}/{tmp_path.name}/3.png")
    assert remote.shards(there)[1] == tars
    forget()
    summary, _ = remote.shards(there, allowed=0.5)
    assert summary["reasons"]["failed"] == {"changed_since_ingest": 1, "missing_file": 1}
    ids = {row.path: row.image_id for row in SPLIT_IMAGES.read(remote.split / "images.parquet")}
    assert set(ids) == {"0.png", "1.png", "2.png", "3.png", "batch.zip"}


def test_a_server_that_goes_ends_the_run_in_one_line_and_the_next_run_goes_on(
    tmp_path: Path, forget: Forget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.storage.WAITS_S", (0.1,))
    root = made("class_folders", tmp_path / "raw")
    with serving_s3() as server:
        url = server.put(root, tmp_path.name)
        config = config_of("class_folders", url, tmp_path)
        read = stage.ImageReader.__call__

        def gone(self: stage.ImageReader, images: Any) -> Any:
            first = read(self, images[:2])
            server.stop()
            return first + read(self, images[2:])

        monkeypatch.setattr(stage.ImageReader, "__call__", gone)
        with pytest.raises(TemporaryError, match=r"^s3://hospital/\S+: the storage does not answer \(\w+\)") as error:
            ingest(config, tmp_path / "there")
        assert "\n" not in str(error.value)
        assert not {"a b.png", "secret-of-the-test"} & set(str(error.value).split())
        assert not (tmp_path / "there").exists()
        assert len([*(tmp_path / "copies").glob("*.copy")]) == 2


def test_a_recipe_holds_the_digests_of_the_folder(tmp_path: Path, s3: S3Server, forget: Forget) -> None:
    root = made("class_folders", tmp_path / "raw")
    url = s3.put(root, tmp_path.name)
    assert raw.digests(root_of(url, RawCache(folder=str(tmp_path / "copies")))) == raw.digests(root)


@pytest.mark.parametrize(
    ("root", "said"),
    [
        (f"s3://{BUCKET}/nothing-there", r"is not there: see the names of bucket and folder$"),
        ("s3://no-such-bucket/raw", r"is not there: see the names of bucket and folder$"),
        (f"s3://{BUCKET}/a.zip", r"is not there: see the names of bucket and folder$"),
    ],
)
def test_what_is_not_there_is_one_line(root: str, said: str, tmp_path: Path, s3: S3Server, forget: Forget) -> None:
    with pytest.raises(UserError, match=said) as error:
        ingest(config_of("class_folders", root, tmp_path), tmp_path / "there")
    assert str(error.value).startswith(f"ingest.sources.here: {root} is not there")


def test_no_credentials_is_one_line(
    tmp_path: Path, s3: S3Server, forget: Forget, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fsspec

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    try:
        with pytest.raises(UserError, match=r"no usable credentials \(NoCredentialsError\)"):
            ingest(config_of("class_folders", f"s3://{BUCKET}/x", tmp_path), tmp_path / "there")
    finally:
        fsspec.get_filesystem_class("s3").clear_instance_cache()
