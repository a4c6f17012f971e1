"""Patient ids as hashes: with a key where they are confidential, and nothing else depends on the key."""

import hashlib
import logging
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from PIL import Image

from models.verified import record
from pipelines.code.fingerprint import FOLDER, as_text, check, key_line
from pipelines.errors import UserError
from pipelines.ingest.config import IngestConfig, SourceConfig
from pipelines.ingest.patient_key import main, make_key
from pipelines.ingest.patients import PatientHasher
from pipelines.ingest.stage import run
from pipelines.keys import ABSENT, key_digest, key_file, read_key
from pipelines.records import REGIONS
from pipelines.shards.config import ShardsConfig
from pipelines.shards.images import run as image_shards
from pipelines.sources import Sources
from pipelines.split.config import Fractions, NearDuplicates, SplitConfig
from pipelines.split.stage import run as split

KEY = bytes(range(32))


def by_definition(key: bytes, message: bytes) -> str:
    """HMAC-SHA256 of RFC 2104: H(key ^ 0x5c..., H(key ^ 0x36..., message)), the key filled up to 64 bytes."""
    padded = key.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in padded) + message).digest()
    return hashlib.sha256(bytes(byte ^ 0x5C for byte in padded) + inner).hexdigest()


def with_key(folder: Path, key: bytes = KEY) -> Path:
    folder.mkdir(exist_ok=True)
    key_file(folder).write_bytes(key)
    return folder


def test_public_ids_keep_their_hash_and_confidential_ones_depend_on_source_and_key(tmp_path: Path) -> None:
    # Of a published set, as it has always been: sha256 of the name, NUL and the id.
    assert PatientHasher("case", "public", tmp_path)("0731452") == "e151887d60949070"
    keys = with_key(tmp_path / "keys")
    assert PatientHasher("case", "confidential", keys)("0731452") == by_definition(KEY, b"case\x000731452")[:16]
    assert PatientHasher("other", "confidential", keys)("0731452") == by_definition(KEY, b"other\x000731452")[:16]


def test_the_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    file = make_key(tmp_path / "keys")
    key = file.read_bytes()
    assert (len(key), stat.S_IMODE(file.stat().st_mode)) == (32, 0o600)
    assert (file.parent / "patient.key.sha256").read_text() == f"{hashlib.sha256(key).hexdigest()}  patient.key\n"
    with pytest.raises(UserError, match="is there already"):
        make_key(file.parent)
    assert read_key(file.parent) == key
    file.unlink()
    with pytest.raises(UserError, match="copy it here from where it was made"):
        make_key(file.parent)
    assert make_key(tmp_path / "other").read_bytes() != key


def test_a_dangling_link_in_the_place_of_the_key_is_told(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    key_file(tmp_path / "keys").symlink_to("gone")
    with pytest.raises(UserError, match="is a link to a file that is not there"):
        make_key(tmp_path / "keys")


def test_the_command_prints_where_the_key_is_and_not_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(
        "ingest: {keys: my/keys, max_pixels: 100, max_failed_fraction: 0.0, sources: {}}\n", encoding="utf-8"
    )
    main()
    printed = capsys.readouterr().out
    assert "my/keys/patient.key made" in printed
    key = Path("my/keys/patient.key").read_bytes()
    assert key.hex() not in printed
    assert repr(key)[2:-1] not in printed


def unusable(folder: Path) -> dict[str, Any]:
    """What may lie there instead of the key, and what the line then says."""

    def made() -> None:
        make_key(folder).unlink()

    def of_another_place() -> None:
        with_key(folder)
        (folder / "patient.key.sha256").write_text(f"{'0' * 64}  patient.key\n")

    return {
        "run `make patient-key`": lambda: None,
        "copy it here from where it was made; a new key gives other hashes": made,
        "holds 31 bytes instead of 32": lambda: with_key(folder, KEY[1:]),
        "is no regular file: move it away": lambda: key_file(folder).mkdir(parents=True),
        "is not the key that": of_another_place,
    }


@pytest.mark.parametrize("number", range(5))
def test_a_confidential_id_without_a_usable_key_ends_ingest_with_one_line(tmp_path: Path, number: int) -> None:
    line, prepare = list(unusable(tmp_path / "keys").items())[number]
    prepare()
    write_source(tmp_path / "source")
    with pytest.raises(UserError, match=line) as caught:
        run("mine", config(tmp_path), tmp_path / "out", tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_source_without_patient_ids_needs_no_key(tmp_path: Path) -> None:
    write_source(tmp_path / "source", patients=False)
    assert run("mine", config(tmp_path), tmp_path / "out", tmp_path)["ok"] == 8


def test_a_fingerprint_names_the_key_and_a_stage_refuses_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("ingest: {}\n")
    fingerprint = FOLDER / "ingest@mine.txt"
    fingerprint.parent.mkdir(parents=True)
    file = key_file(Path("keys"))
    assert key_line(file) == {"patient key keys/patient.key": ABSENT}
    fingerprint.write_text(as_text(key_line(file)))
    record(fingerprint)
    check("ingest@mine")
    with_key(Path("keys"))
    assert key_line(file) == {"patient key keys/patient.key": hashlib.sha256(KEY).hexdigest()}
    with pytest.raises(UserError, match=r"patient key keys/patient\.key changed since `dvc repro code`"):
        check("ingest@mine")
    fingerprint.write_text(as_text(key_line(file)))
    record(fingerprint)
    check("ingest@mine")
    file.unlink()
    with pytest.raises(UserError, match=r"ingest@mine: keys/patient\.key not found, .* copy it here"):
        check("ingest@mine")
    assert key_digest(file) == ABSENT


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 40), dtype=np.uint8))


def write_source(root: Path, *, patients: bool = True) -> None:
    """8 pictures of 4 patients, and two more rows of two pictures, which say that two ids are one patient."""
    root.mkdir(parents=True)
    for number in range(8):
        picture(number).save(root / f"{number}.png")
    rows = [(f"{number}.png", f"P{number // 2}") for number in range(8)] + [("0.png", "P7"), ("3.png", "P8")]
    lines = ["file_name,patient_id", *(",".join(row) for row in rows)] if patients else ["file_name"]
    lines += [] if patients else [f"{number}.png" for number in range(8)]
    (root / "metadata.csv").write_text("\n".join(lines) + "\n")


def config(folder: Path) -> IngestConfig:
    source = SourceConfig(adapter="table", root=str(folder / "source"))
    return IngestConfig(sources={"mine": source}, max_pixels=10_000, max_failed_fraction=0.0, keys=str(folder / "keys"))


def study(folder: Path, key: bytes) -> tuple[list[pandas.DataFrame], dict[str, bytes]]:
    """Tables of images of the stages ingest and split, and all files of the shards."""
    write_source(folder / "source")
    with_key(folder / "keys", key)
    run("mine", config(folder), folder / "ingest" / "mine", folder)
    settings = SplitConfig(
        seed=0,
        fractions=Fractions(train=0.5, validation=0.25, test=0.25),
        near_duplicates=NearDuplicates(max_distance=0, min_correlation=1),
    )
    split(settings, ["mine"], folder / "ingest", folder / "split", folder)
    REGIONS.write(folder / "regions.parquet", [])
    shards = ShardsConfig(
        image_size=32, crop_size=16, crop_margin=0.1, samples_per_shard=4, quality=95, max_failed_fraction=0.0
    )
    sources = Sources(roots={"mine": folder / "source"}, max_pixels=10_000)
    image_shards(
        shards, sources, folder / "split/images.parquet", folder / "regions.parquet", folder / "shards", folder
    )
    tables = [pandas.read_parquet(folder / name / "images.parquet") for name in ("ingest/mine", "split")]
    files = sorted(file for file in (folder / "shards").rglob("*") if file.is_file())
    return tables, {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def test_another_key_gives_the_same_splits_and_shards(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        (first, shards), (second, other_shards) = (study(tmp_path / str(seed), bytes([seed]) * 32) for seed in (1, 2))
    for one, other in zip(first, second, strict=True):
        assert one.drop(columns="patient").equals(other.drop(columns="patient"))
        assert (one["patient"] != other["patient"]).all()
        assert one["patient"].nunique() == other["patient"].nunique() == 4
    assert set(first[1]["split"]) == {"train", "validation", "test"}
    assert other_shards == shards
    assert not [key for key in ("01" * 32, "02" * 32) if key in caplog.text]
