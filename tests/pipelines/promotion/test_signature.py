"""Signatures with keys made here: what was signed loads, everything else is one line."""

import importlib.util
import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pipelines.errors import UserError
from pipelines.promotion.signature import sign, verify
from pipelines.tracking.checkpoints import checkpoint_folder
from pipelines.tracking.config import SignatureConfig
from tests.pipelines.promotion.promotion_world import promotion, write_params, write_study

INSTALLED = importlib.util.find_spec("model_signing") is not None
needs_library = pytest.mark.skipif(not INSTALLED, reason="the extra `signing` is not installed")


def make_keys(folder: Path, name: str = "model") -> tuple[Path, Path]:
    """Private and public key, as docs/operations.md makes them with openssl."""
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    private, public = folder / f"{name}.key", folder / f"{name}.pub"
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "code").mkdir(parents=True)
    (folder / "MLmodel").write_text("flavors: {}\n")
    (folder / "code/served.py").write_text("x = 1\n")
    return folder


@needs_library
def test_a_signed_folder_holds_wherever_it_lies_and_a_changed_one_does_not(model: Path, tmp_path: Path) -> None:
    private, public = make_keys(tmp_path / "keys")
    signature = tmp_path / "model.sig"
    sign(model, signature, private)
    verify(model, signature, public)
    copy = shutil.copytree(model, tmp_path / "elsewhere")
    verify(copy, signature, public)
    _, other = make_keys(tmp_path / "keys", "other")
    for change in (
        lambda: (copy / "code/served.py").write_text("x = 2\n"),
        lambda: (copy / "code/new.py").write_text("x = 2\n"),
        lambda: (copy / "MLmodel").unlink(),
    ):
        change()
        with pytest.raises(UserError, match=r"does not hold with model\.pub .*: another key signed it, or a file was"):
            verify(copy, signature, public)
        shutil.rmtree(copy)
        shutil.copytree(model, copy)
    with pytest.raises(UserError, match=r"does not hold with other\.pub"):
        verify(copy, signature, other)
    signature.write_text("no signature")
    with pytest.raises(UserError, match=r"does not hold with model\.pub"):
        verify(copy, signature, public)


@needs_library
def test_keys_that_cannot_be_used_are_one_line(model: Path, tmp_path: Path) -> None:
    private, public = make_keys(tmp_path / "keys")
    with pytest.raises(UserError, match=r"promote\.signing_key: there is no file none\.key"):
        sign(model, tmp_path / "s", tmp_path / "none.key")
    with pytest.raises(UserError, match=r"promote\.signing_key: model\.pub cannot sign"):
        sign(model, tmp_path / "s", public)
    sign(model, tmp_path / "s", private)
    with pytest.raises(UserError, match=r"public_key: there is no file none\.pub"):
        verify(model, tmp_path / "s", tmp_path / "none.pub")


@needs_library
def test_promotion_signs_and_loading_asks_for_it(tmp_path: Path) -> None:
    project = tmp_path / "project"
    write_study(project, {"trained": (0, 100)})
    make_keys(project / "keys")
    public = {"public_key": "keys/model.pub"}
    reference = "models:/test/1"
    asked = promotion(project)
    config = asked.tracking.__class__(**{**vars(asked.tracking), "signature": SignatureConfig(**public)})
    write_params(project, promote={"signing_key": "keys/none.key"})
    with pytest.raises(UserError, match=r"there is no file none\.key"):
        promotion(project).promote()
    with (
        pytest.raises(UserError, match=r"has no signature, .*: promotion signs"),
        checkpoint_folder(reference, config, project),
    ):
        pass
    write_params(project, promote={"signing_key": "keys/model.key"})
    assert promotion(project).promote().promoted
    with checkpoint_folder(reference, config, project) as folder:
        assert (folder / "model.safetensors").is_file()
    make_keys(project / "keys")
    with pytest.raises(UserError, match="another key signed it"), checkpoint_folder(reference, config, project):
        pass


@pytest.mark.skipif(INSTALLED, reason="the extra `signing` is installed")
def test_without_the_extra_asking_for_signatures_is_one_line(model: Path, tmp_path: Path) -> None:
    for action in (sign, verify):
        with pytest.raises(UserError, match=r"model-signing is not installed: pip install 'medregion\[signing\]'"):
            action(model, tmp_path / "s", tmp_path / "key")
