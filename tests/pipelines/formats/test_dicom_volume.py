"""DICOM series and multi-frame files as volumes: against SimpleITK's reading of the same files, and by hand."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.sequence import Sequence

from pipelines.cuts import Axis, Cut
from pipelines.errors import Rejected
from pipelines.images import header_ids, image_identity, mask_of, picture, states_text
from pipelines.opened import OpenedFile, open_file
from tests.pipelines.formats.volume_files import nifti
from tests.pipelines.test_images import dicom

# Five sagittal slices, 3 mm apart from the patient's left (x = 12) to the right; 8 rows of 1 mm down from the head, 6
# columns of 1 mm from front to back.
STORED = np.random.default_rng(0).integers(-1000, 1000, (5, 8, 6)).astype(np.int16)
SAGITTAL = {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1], "PixelSpacing": [1, 1], "SeriesInstanceUID": "1.5"}
AXES: tuple[Axis, ...] = ("axial", "coronal", "sagittal")


def slice_of(number: int, **elements: Any) -> bytes:
    values = elements.pop("values", STORED[number])
    facts = {
        **SAGITTAL,
        "ImagePositionPatient": [12 - 3 * number, -5, 40],
        "PatientID": "P",
        "InstanceNumber": number + 1,
        "SOPInstanceUID": f"1.5.{number}",
    }
    return dicom(values, **{**facts, **elements})


def folder(root: Path, slices: list[bytes]) -> Path:
    """The slices under names that say nothing of their order, beside a file of another kind and another series."""
    for number, data in enumerate(slices):
        (root / f"{(number * 7) % 11:02d}.dcm").write_bytes(data)
    (root / "readme.txt").write_text("no DICOM")
    (root / "other.dcm").write_bytes(slice_of(0, SeriesInstanceUID="1.6"))
    return root


def series(root: Path, slices: list[bytes] | None = None, axis: Axis = "coronal") -> OpenedFile:
    every = [slice_of(number) for number in range(5)] if slices is None else slices
    return open_file(folder(root, every), "00.dcm", cut=Cut(axis=axis))


def itk(root: Path) -> SimpleITK.Image:
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(root), "1.5"))
    return reader.Execute()


@pytest.mark.parametrize("axis", AXES)
def test_each_cut_has_the_voxels_that_itk_finds_there(tmp_path: Path, axis: Axis) -> None:
    slices = [slice_of(number, RescaleSlope=2, RescaleIntercept=-7) for number in range(5)]
    volume = series(tmp_path, slices).volume
    assert volume is not None
    image = itk(tmp_path)
    # Slices of 3 mm, rows and columns of 1 mm: axial ones show 5 x 6 voxels on 15 x 6 square pixels.
    expected = {"axial": (8, (15, 6)), "coronal": (6, (15, 8)), "sagittal": (5, (6, 8))}[axis]
    assert volume.slices(axis) == expected[0]
    for frame in range(volume.slices(axis)):
        cut = Cut(frame=frame, axis=axis)
        plane, values = volume.plane(cut), volume.picture(cut, 1000)
        assert (plane.width, plane.height) == expected[1] == values.shape[::-1]
        for row in range(plane.height):
            # Where a pixel lies on a voxel's centre; of three along the slices' distance the middle one does.
            for column in range(1 if plane.width == 15 else 0, plane.width, 3 if plane.width == 15 else 1):
                place = np.diag([-1.0, -1.0, 1.0, 1.0]) @ plane.affine @ (column, row, 0, 1)
                index = image.TransformPhysicalPointToIndex(place[:3].tolist())
                assert values[row, column] == pytest.approx(image[index], abs=1e-3)


def test_cuts_are_shown_as_radiologists_do(tmp_path: Path) -> None:
    """A coronal cut: the head at the top, the patient's left on the right; so slice 0, at x = 12 (left), is right."""
    volume = series(tmp_path).volume
    assert volume is not None
    shown = volume.picture(Cut(frame=5, axis="coronal"), 1000)  # the foremost: column 0 of each slice
    np.testing.assert_array_equal(shown[:, 1::3], STORED[::-1, :, 0].T)


def test_one_window_for_all_and_padding_is_black(tmp_path: Path) -> None:
    """The window of the slice in the middle, -100 to 100, by PS3.3 C.11.2.1.2; the others' are not mixed in."""
    windows = [{"WindowCenter": 0 if number == 2 else 900, "WindowWidth": 201} for number in range(5)]
    stored = STORED.copy()
    stored[:, 0, 0] = -2000
    slices = [slice_of(n, values=stored[n], PixelPaddingValue=-2000, **windows[n]) for n in range(5)]
    file = series(tmp_path, slices, axis="sagittal")
    for number in range(5):
        shown = np.asarray(picture(file, Cut(frame=number, axis="sagittal"))).astype(int)
        expected = np.clip((stored[number].astype(float) + 0.5) / 200 + 0.5, 0, 1) * 255
        expected[0, 0] = 0
        assert np.abs(shown - expected).max() <= 1
    inverse = [slice_of(n, PhotometricInterpretation="MONOCHROME1", **windows[n]) for n in range(5)]
    other = tmp_path / "inverse"
    other.mkdir()
    turned = np.asarray(picture(series(other, inverse, axis="sagittal"), Cut(frame=1, axis="sagittal")))
    straight = np.clip((STORED[1].astype(float) + 0.5) / 200 + 0.5, 0, 1) * 255
    assert np.abs(turned.astype(int) - (255 - straight)).max() <= 1


def test_bytes_stay_as_stored(tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(20, 200, (5, 8, 6)).astype(np.uint8)
    file = series(tmp_path, [slice_of(n, values=values[n]) for n in range(5)], axis="sagittal")
    np.testing.assert_array_equal(np.asarray(picture(file, Cut(frame=3, axis="sagittal"))), values[3])


@pytest.mark.parametrize(
    ("slices", "reason"),
    [
        ([slice_of(n) for n in (0, 1, 3, 4)], "uneven_slices"),
        ([slice_of(n) for n in range(5)] + [slice_of(2, SOPInstanceUID="1.5.9")], "uneven_slices"),
        ([slice_of(n, values=STORED[n][: 8 - n]) for n in range(5)], "uneven_slices"),
        ([slice_of(n, PixelSpacing=[1, 1 + n]) for n in range(5)], "uneven_slices"),
        ([slice_of(n, ImagePositionPatient=[12 - 3 * n, -5, 40 + n]) for n in range(5)], "uneven_slices"),
        ([slice_of(0)], "uneven_slices"),
        ([slice_of(n, PixelSpacing=None) for n in range(5)], "unplaced"),
        ([slice_of(n, ImagePositionPatient=None) for n in range(5)], "unplaced"),
        ([slice_of(n, values=np.dstack([STORED[n] % 256] * 3).astype(np.uint8)) for n in range(5)], "unsupported_type"),
        ([slice_of(n)[: -40 if n == 3 else None] for n in range(5)], "truncated"),
        ([slice_of(n)[: 300 if n == 3 else None] for n in range(5)], "uneven_slices"),
    ],
)
def test_what_is_no_even_stack_is_refused(tmp_path: Path, slices: list[bytes], reason: str) -> None:
    with pytest.raises(Rejected) as error:
        picture(series(tmp_path, slices), Cut(frame=2, axis="coronal"))
    assert error.value.reason == reason


def test_a_damaged_series_is_decoded_once(tmp_path: Path) -> None:
    """An error is kept, as the voxels are: asked again, it comes without the files."""
    file = series(tmp_path, [slice_of(n)[: -40 if n == 3 else None] for n in range(5)])
    with pytest.raises(Rejected, match="truncated") as first:
        picture(file, Cut(frame=2, axis="coronal"))
    with pytest.raises(Rejected) as second:
        picture(file, Cut(frame=3, axis="coronal"))
    assert second.value is first.value


def test_slices_at_one_place_are_volumes_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    later = [slice_of(n, values=STORED[n] + 5000, InstanceNumber=6 + n, SOPInstanceUID=f"1.5.{n}.1") for n in range(5)]
    volume = series(tmp_path, later + [slice_of(n) for n in range(5)]).volume
    assert volume is not None
    assert volume.volumes == 2
    first, second = (volume.picture(Cut(frame=2, axis="coronal", volume=number), 1000) for number in (0, 1))
    np.testing.assert_allclose(second - first, 5000, atol=1e-2)
    with pytest.raises(Rejected, match="file of 2 volumes"):
        volume.picture(Cut(frame=2, axis="coronal"), 1000)


def test_times_at_a_place_that_was_rounded_are_told_by_their_numbers(tmp_path: Path) -> None:
    """The second time lies 0.004 mm before the first at every other place; places at rounding edges are places, too."""
    shift = [0, 0.004, 0, 0.004, 0]
    first = [slice_of(n, ImagePositionPatient=[12.00499 - 3 * n, -5, 40]) for n in range(5)]
    later = [
        slice_of(
            n,
            values=STORED[n] + 5000,
            InstanceNumber=6 + n,
            ImagePositionPatient=[12.00501 - 3 * n + shift[n], -5, 40],
        )
        for n in range(5)
    ]
    volume = series(tmp_path, later + first).volume
    assert volume is not None
    one, two = (volume.picture(Cut(frame=2, axis="coronal", volume=number), 1000) for number in (0, 1))
    np.testing.assert_allclose(two - one, 5000, atol=1e-2)


def test_a_stack_of_micrometres(tmp_path: Path) -> None:
    small = [
        slice_of(n, PixelSpacing=[0.001, 0.001], ImagePositionPatient=[0.012 - 0.0025 * n, 0, 0.00625])
        for n in range(5)
    ]
    volume = series(tmp_path, small).volume
    assert volume is not None
    assert volume.shape == (6, 8, 5)


def test_bytes_with_a_rescale_are_stretched_as_a_frame_is(tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(0, 256, (5, 8, 6)).astype(np.uint8)
    scaled = [slice_of(n, values=values[n], RescaleSlope="0.05", RescaleIntercept=0) for n in range(5)]
    file = series(tmp_path, scaled, axis="sagittal")
    frame = picture(open_file(tmp_path, "00.dcm"), Cut())
    assert picture(file, Cut(frame=0, axis="sagittal")).tobytes() == frame.tobytes()


def test_padding_does_not_spread(tmp_path: Path) -> None:
    """Slice 3 is padding: of 15 columns, three a slice, its centre and what lies between it and others are black."""
    stored = np.full((5, 8, 6), 500, np.int16) + np.arange(8, dtype=np.int16)[:, None]
    stored[3] = -2000
    volume = series(tmp_path, [slice_of(n, values=stored[n], PixelPaddingValue=-2000) for n in range(5)]).volume
    assert volume is not None
    black = np.isnan(volume.picture(Cut(frame=2, axis="coronal"), 1000)).all(axis=0)
    # Slices from x = 12 (right) to 0: centres of columns 13, 10, 7, 4, 1.
    assert np.flatnonzero(black).tolist() == [2, 3, 4, 5, 6]


def test_frames_that_a_small_file_claims_cost_little(tmp_path: Path) -> None:
    shared = pydicom.Dataset()
    shared.PlanePositionSequence = Sequence([pydicom.Dataset()])
    shared.PlanePositionSequence[0].ImagePositionPatient = [0, 0, 0]
    shared.PlaneOrientationSequence = Sequence([pydicom.Dataset()])
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence = Sequence([pydicom.Dataset()])
    shared.PixelMeasuresSequence[0].PixelSpacing = [1, 1]
    claim = dicom(
        np.zeros((1, 8, 8), np.int16), NumberOfFrames=60000, SharedFunctionalGroupsSequence=Sequence([shared])
    )
    (tmp_path / "claim.dcm").write_bytes(claim + b"\0" * 8000)
    with pytest.raises(Rejected, match="at one place"):
        open_file(tmp_path, "claim.dcm", cut=Cut(axis="coronal"))


def test_frames_of_one_file_are_a_stack(tmp_path: Path) -> None:
    def group(**elements: Any) -> Sequence:
        found = pydicom.Dataset()
        for name, value in elements.items():
            setattr(found, name, value)
        return Sequence([found])

    shared = group(
        PlaneOrientationSequence=group(ImageOrientationPatient=SAGITTAL["ImageOrientationPatient"]),
        PixelMeasuresSequence=group(PixelSpacing=[1, 1], SliceThickness=3),
    )
    frames = [group(PlanePositionSequence=group(ImagePositionPatient=[12 - 3 * n, -5, 40]))[0] for n in (3, 0, 4, 1, 2)]
    data = dicom(
        STORED[[3, 0, 4, 1, 2]],
        SharedFunctionalGroupsSequence=shared,
        PerFrameFunctionalGroupsSequence=Sequence(frames),
    )
    (tmp_path / "one.dcm").write_bytes(data)
    (tmp_path / "many").mkdir()
    cut = Cut(frame=4, axis="coronal")
    one = open_file(tmp_path, "one.dcm", cut=cut)
    np.testing.assert_array_equal(np.asarray(picture(one, cut)), np.asarray(picture(series(tmp_path / "many"), cut)))
    # Without an axis it is a file of five pictures.
    frame = open_file(tmp_path, "one.dcm", cut=Cut(frame=1))
    assert picture(frame, Cut(frame=1)).size == (6, 8)


def test_a_nifti_mask_lies_on_a_cut(tmp_path: Path) -> None:
    """The mask is stored along other axes, the other way round: (z, -x, y)."""
    file = series(tmp_path)
    assert file.volume is not None
    labels = np.random.default_rng(2).integers(0, 7, (8, 5, 6)).astype(np.uint8)
    lps = np.array([[0, 3, 0, 0], [0, 0, 1, -5], [1, 0, 0, 33], [0, 0, 0, 1]], float)
    (tmp_path / "mask.nii").write_bytes(nifti(labels, np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps))
    cut = Cut(frame=2, axis="coronal")  # counted from the back: y = -5 + 5 - 2
    found = mask_of(open_file(tmp_path, "mask.nii"), cut, file).values
    assert found.shape == (8, 15)
    np.testing.assert_array_equal(found[:, 1::3], labels[::-1, :, 3])


def test_which_slice_names_it_does_not_matter_and_every_byte_counts(tmp_path: Path) -> None:
    cut = Cut(frame=2, axis="coronal")
    file = series(tmp_path)
    other = open_file(tmp_path, "10.dcm", cut=cut)
    assert image_identity(file, None, cut) == image_identity(other, None, cut)
    assert image_identity(file, None, cut) != image_identity(open_file(tmp_path, "00.dcm"), None, Cut(frame=2))
    again = tmp_path / "again"
    again.mkdir()
    changed = [slice_of(n, values=STORED[n] + (n == 3)) for n in range(5)]
    assert series(again, changed).sha256 != file.sha256


def test_a_series_in_an_archive(tmp_path: Path) -> None:
    file = series(tmp_path)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in tmp_path.glob("*.dcm"):
            archive.write(name, f"study/{name.name}")
        archive.writestr("elsewhere/00.dcm", slice_of(0))
    cut = Cut(frame=2, axis="coronal")
    for root, path in ((tmp_path, "a.zip"), (tmp_path / "a.zip", "")):
        packed = open_file(root, path, "study/00.dcm", cut)
        assert packed.sha256 == file.sha256
        assert picture(packed, cut).tobytes() == picture(file, cut).tobytes()


def test_headers_speak_for_the_series(tmp_path: Path) -> None:
    plain = series(tmp_path)
    assert header_ids(plain.data).patient == "P"
    assert not states_text(plain.data)
    other = tmp_path / "stated"
    other.mkdir()
    stated = series(other, [slice_of(n, **({"BurnedInAnnotation": "YES"} if n == 3 else {})) for n in range(5)])
    assert states_text(stated.data)


def test_files_that_are_no_dicom_are_opened_as_ever(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    (tmp_path / "v.nii").write_bytes(nifti(values, np.eye(4)))
    for cut in (None, Cut(axis="coronal")):
        volume = open_file(tmp_path, "v.nii", cut=cut).volume
        assert volume is not None
        assert volume.shape == (2, 3, 4)
    stream = io.BytesIO()
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.eye(4, dtype=np.uint8)), str(tmp_path / "p.png"))
    stream.write((tmp_path / "p.png").read_bytes())
    with pytest.raises(Rejected, match="no volume"):
        picture(open_file(tmp_path, "p.png", cut=Cut(axis="coronal")), Cut(axis="coronal"))
