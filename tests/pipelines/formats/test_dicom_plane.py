"""Where DICOM pictures lie: against SimpleITK's reading of the same file, and by hand for functional groups."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.sequence import Sequence

from pipelines.cuts import Cut
from pipelines.images import mask_of
from pipelines.opened import OpenedFile, opened
from tests.pipelines.formats.volume_files import nifti
from tests.pipelines.test_images import dicom

# Rows run along (0.8, 0.6, 0), columns along (0, 0, -1): a slice from the side, turned by 37 degrees.
TURNED = [0.8, 0.6, 0, 0, 0, -1]
PLACE = {"ImagePositionPatient": [-30, 20, 50], "ImageOrientationPatient": TURNED, "PixelSpacing": [0.5, 0.75]}
VALUES = np.arange(12 * 10, dtype=np.uint16).reshape(12, 10)


def to_lps(affine: np.ndarray) -> np.ndarray:
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def test_a_plane_is_that_of_itk(tmp_path: Path) -> None:
    data = dicom(VALUES, **PLACE, SliceThickness=4)
    plane = opened(data).plane(Cut())
    assert plane is not None
    assert (plane.width, plane.height, plane.placed) == (10, 12, True)
    (tmp_path / "a.dcm").write_bytes(data)
    image = SimpleITK.ReadImage(str(tmp_path / "a.dcm"))
    for column, row in ((0, 0), (9, 0), (0, 11), (4, 7)):
        found = to_lps(plane.affine) @ (column, row, 0, 1)
        np.testing.assert_allclose(found[:3], image.TransformIndexToPhysicalPoint((column, row, 0)), atol=1e-9)
    # PS3.3 C.7.6.2.1.1 by hand: 4 columns of 0.75 mm along the row, 7 rows of 0.5 mm down.
    np.testing.assert_allclose((to_lps(plane.affine) @ (4, 7, 0, 1))[:3], [-30 + 2.4, 20 + 1.8, 50 - 3.5])


@pytest.mark.parametrize(
    "without",
    [
        {"ImagePositionPatient": None},
        {"ImageOrientationPatient": None},
        {"PixelSpacing": None},
        {"PixelSpacing": [0, 0.5]},
        {"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]},
        {"ImagePositionPatient": [1, 2]},
    ],
)
def test_a_header_that_does_not_say_where(without: dict) -> None:
    elements = {name: value for name, value in {**PLACE, **without}.items() if value is not None}
    assert opened(dicom(VALUES, **elements)).plane(Cut()) is None


def enhanced(shared: dict[str, pydicom.Dataset], by_frame: list[dict[str, pydicom.Dataset]]) -> OpenedFile:
    def group(items: dict[str, pydicom.Dataset]) -> pydicom.Dataset:
        found = pydicom.Dataset()
        for name, item in items.items():
            setattr(found, name, Sequence([item]))
        return found

    return opened(
        dicom(
            np.stack([VALUES, VALUES, VALUES]),
            SharedFunctionalGroupsSequence=Sequence([group(shared)]),
            PerFrameFunctionalGroupsSequence=Sequence([group(items) for items in by_frame]),
        )
    )


def dataset(**elements: object) -> pydicom.Dataset:
    found = pydicom.Dataset()
    for name, value in elements.items():
        setattr(found, name, value)
    return found


def test_functional_groups_of_each_frame_and_of_all() -> None:
    file = enhanced(
        {
            "PlaneOrientationSequence": dataset(ImageOrientationPatient=[1, 0, 0, 0, 1, 0]),
            "PixelMeasuresSequence": dataset(PixelSpacing=[2, 3], SliceThickness=5),
        },
        [
            {"PlanePositionSequence": dataset(ImagePositionPatient=[1, 2, 5 * frame])} if frame < 2 else {}
            for frame in range(3)
        ],
    )
    for frame in (0, 1):
        plane = file.plane(Cut(frame=frame))
        assert plane is not None
        expected = [[3, 0, 0, 1], [0, 2, 0, 2], [0, 0, 5, 5 * frame], [0, 0, 0, 1]]
        np.testing.assert_allclose(to_lps(plane.affine), expected)
    assert file.plane(Cut(frame=2)) is None


def test_a_nifti_mask_lies_on_the_slices_of_a_series() -> None:
    """Slices of 2 mm from z = 10 on, 12 rows and 10 columns; the mask is stored the other way along each axis."""
    labels = np.random.default_rng(0).integers(0, 7, (10, 12, 5)).astype(np.uint8)
    lps = np.array([[0.75, 0, 0, -3], [0, 0.5, 0, 7], [0, 0, 2, 10], [0, 0, 0, 1]])
    flips = np.diag([-1.0, -1.0, -1.0, 1.0])
    flips[:3, 3] = 9, 11, 4
    mask = opened(nifti(labels[::-1, ::-1, ::-1], np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps @ flips))
    for number in range(5):
        slice_ = opened(
            dicom(
                VALUES,
                ImagePositionPatient=[-3, 7, 10 + 2 * number],
                ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
                PixelSpacing=[0.5, 0.75],
                SliceThickness=2,
            )
        )
        np.testing.assert_array_equal(mask_of(mask, Cut(), slice_).values, labels[:, :, number].T)
