"""Small real files and real checkpoints."""

import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from models import checkpoint
from models.clip.model import Clip
from models.regionmed_clip.model import RegionMedClip
from models.text import train_tokenizer
from models.unet.config import UNetConfig
from models.unet.model import UNet
from tests.models.small import make_model
from tests.pipelines.test_images import dicom
from tests.shards import INPUT_FORMAT

NOISE = np.random.default_rng(0).integers(0, 256, (24, 40), dtype=np.uint8)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of three methods, by name."""
    folder = tmp_path_factory.mktemp("models")
    tokenizer = train_tokenizer(["the picture is red green blue left right upper"] * 3, 100)
    tokenizer.model_max_length = 32
    made = {
        "clip": make_model(tokenizer, Clip),
        "regionmed_clip": make_model(tokenizer, RegionMedClip),
        "unet": UNet(UNetConfig(base=4), len(tokenizer)),
    }
    for name, model in made.items():
        (folder / name).mkdir()
        checkpoint.save(folder / name, name, model.eval(), model.state_dict(), tokenizer, {}, INPUT_FORMAT)
    return folder


@pytest.fixture
def place(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the project's params.yaml, and `scans` with one image of each kind."""
    (tmp_path / "params.yaml").write_bytes((repository / "params.yaml").read_bytes())
    scans = tmp_path / "scans"
    (scans / "sub").mkdir(parents=True)
    Image.fromarray(NOISE).save(scans / "grey.png")
    Image.fromarray(np.stack([NOISE] * 3, axis=-1)).save(scans / "sub" / "colour.jpg")
    (scans / "one.dcm").write_bytes(dicom(NOISE.astype(np.uint16)))
    (scans / "two.dcm").write_bytes(dicom(np.stack([NOISE, 255 - NOISE])))
    volume = np.stack([NOISE] * 3, axis=-1).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([-1, -1, 2, 1])), scans / "volume.nii.gz")
    Image.fromarray(NOISE).save(scans / "pages.tif", save_all=True, append_images=[Image.fromarray(255 - NOISE)])
    with zipfile.ZipFile(scans / "more.zip", "w") as archive:
        archive.write(scans / "grey.png", "deep/inside.png")
        archive.writestr("deep/broken.png", (scans / "grey.png").read_bytes()[:300])
    (scans / "notes.txt").write_text("not an image")
    (scans / "empty.png").touch()
    (scans / "elsewhere").symlink_to(repository / "tests", target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path
