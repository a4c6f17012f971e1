"""Small volumes in all formats, written by other libraries than the one that reads them."""

import tempfile
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK


def affine(spacing: tuple[float, float, float] = (1.0, 1.0, 3.0), turned: float = 0.0) -> np.ndarray:
    """RAS+, with the origin elsewhere; turned by an angle around each axis."""
    found = np.eye(4)
    for first, second in ((0, 1), (1, 2), (0, 2)):
        turn = np.eye(4)
        turn[first, first] = turn[second, second] = np.cos(turned)
        turn[first, second], turn[second, first] = -np.sin(turned), np.sin(turned)
        found = found @ turn
    found[:3, :3] *= spacing
    found[:3, 3] = -20.0, 12.5, 40.0
    return found


def nifti(values: np.ndarray, where: np.ndarray) -> bytes:
    return nibabel.Nifti1Image(values, where).to_bytes()


def with_itk(values: np.ndarray, where: np.ndarray, suffix: str, *, compressed: bool = False) -> dict[str, bytes]:
    """The files that SimpleITK writes for (i, j, k) values: name -> bytes."""
    with tempfile.TemporaryDirectory() as folder:
        SimpleITK.WriteImage(itk_image(values, where), str(Path(folder, f"v{suffix}")), compressed)
        return {file.name: file.read_bytes() for file in Path(folder).iterdir()}


def itk_image(values: np.ndarray, where: np.ndarray) -> SimpleITK.Image:
    image = SimpleITK.GetImageFromArray(values.transpose(2, 1, 0))
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ where
    spacing = np.sqrt((lps[:3, :3] ** 2).sum(axis=0))
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    return image


def itk_plane(where: np.ndarray, width: int, height: int) -> SimpleITK.Image:
    """The grid of a plane as a volume of one slice, to resample onto."""
    return itk_image(np.zeros((width, height, 1), np.uint8), where)
