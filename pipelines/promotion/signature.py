"""Signatures of registered models with a key of one's own, by the library model-signing (the extra `signing`).

The signature is over all files of the model's folder, code included, and lies beside the folder among the run's
artifacts. Who has the public key can tell that these files were promoted by who has the private one.
"""

import tempfile
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.tracking import MlflowClient

from pipelines.errors import UserError, one_line

# Folder among a run's artifacts, and the file in it.
FOLDER, FILE = "signature", "model.sig"


def sign_version(client: MlflowClient, version: ModelVersion, key: str | None, project: Path) -> None:
    """Sign a registered version, and put the signature among its run's artifacts.

    Args:
        client: Of the store.
        version: The version.
        key: File of the private key; a relative path counts from `project`. None: nothing is signed.
        project: The project's folder.

    Raises:
        UserError: The extra is not installed, or the key cannot be used.
    """
    if key is None:
        return
    with tempfile.TemporaryDirectory(prefix="medregion-") as name:
        scratch = Path(name)
        folder = Path(
            mlflow.artifacts.download_artifacts(
                str(version.source), dst_path=str(scratch / "model"), tracking_uri=client.tracking_uri
            )
        )
        sign(folder, scratch / FILE, project / key)
        client.log_artifact(str(version.run_id), str(scratch / FILE), FOLDER)


def fetch_signature(client: MlflowClient, version: ModelVersion, scratch: Path) -> Path:
    """The signature of a version.

    Raises:
        UserError: It has none.
    """
    try:
        return Path(client.download_artifacts(str(version.run_id), f"{FOLDER}/{FILE}", str(scratch)))
    except (mlflow.exceptions.MlflowException, OSError):
        raise UserError(
            f"version {version.version} of {version.name} has no signature, and params.yaml asks for one "
            "(tracking.signature): promotion signs, where promote.signing_key names a key"
        ) from None


def sign(folder: Path, signature: Path, private_key: Path) -> None:
    """Write the signature of a folder's files."""
    signing = _library("signing")
    if not private_key.is_file():
        raise UserError(f"promote.signing_key: there is no file {private_key.name}: make one, see docs/operations.md")
    try:
        signing.Config().use_elliptic_key_signer(private_key=private_key).sign(folder, signature)
    except (ValueError, TypeError) as error:
        raise UserError(f"promote.signing_key: {private_key.name} cannot sign ({one_line(error)})") from None


def verify(folder: Path, signature: Path, public_key: Path) -> None:
    """Compare a folder's files with their signature.

    Raises:
        UserError: The extra is not installed, the key cannot be read, another key signed, or a file was changed.
    """
    verifying = _library("verifying")
    if not public_key.is_file():
        raise UserError(f"tracking.signature.public_key: there is no file {public_key.name}")
    try:
        verifying.Config().use_elliptic_key_verifier(public_key=public_key).verify(folder, signature)
    except (ValueError, TypeError) as error:
        raise UserError(
            f"the signature of the model does not hold with {public_key.name} ({one_line(error)}): another key signed "
            "it, or a file was changed"
        ) from None


def _library(part: str) -> Any:
    try:
        import model_signing.signing
        import model_signing.verifying
    except ImportError:
        raise UserError(
            "params.yaml asks for signatures, and model-signing is not installed: pip install 'medregion[signing]'"
        ) from None
    return getattr(model_signing, part)
