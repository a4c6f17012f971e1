"""Volumes of every format against SimpleITK: their grids, their slices, and masks of other grids sampled on them."""

import io
import tempfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from PIL import Image

from pipelines.cuts import AXES, Cut
from pipelines.errors import Rejected
from pipelines.images import decode, frames, mask_of, picture
from pipelines.opened import open_file, opened
from tests.pipelines.formats.volume_files import affine, itk_image, itk_plane, nifti, with_itk

RANDOM = np.random.default_rng(0)
VALUES = RANDOM.integers(-500, 1000, (9, 11, 7)).astype(np.int16)
MASK = RANDOM.integers(0, 5, (20, 15, 12)).astype(np.uint8)
KINDS = [(".nii", False), (".nii.gz", True), (".nrrd", False), (".nrrd", True), (".mha", False), (".mha", True)]
TURNS = {
    "upright": affine((0.8, 1.3, 3.0)),
    "turned": affine((0.8, 1.3, 3.0), 0.2),
    "permuted": affine((0.8, 1.3, 3.0), 0.1)[:, [2, 0, 1, 3]],
    "flipped": affine((0.8, 1.3, 3.0)) @ [[-1, 0, 0, 8], [0, 1, 0, 0], [0, 0, -1, 6], [0, 0, 0, 1]],
}


def as_itk_resamples(
    image: SimpleITK.Image, plane_affine: np.ndarray, width: int, height: int, linear: bool
) -> np.ndarray:
    """(height, width)"""
    grid = itk_plane(plane_affine, width, height)
    how = SimpleITK.sitkLinear if linear else SimpleITK.sitkNearestNeighbor
    return SimpleITK.GetArrayFromImage(SimpleITK.Resample(image, grid, SimpleITK.Transform(), how, 0.0))[0]


@pytest.mark.parametrize("where", TURNS.values(), ids=TURNS)
@pytest.mark.parametrize(("suffix", "compressed"), KINDS)
def test_every_format_has_the_grid_and_the_slices_of_itk(suffix: str, compressed: bool, where: np.ndarray) -> None:
    volume = opened(with_itk(VALUES, where, suffix, compressed=compressed)[f"v{suffix}"]).volume
    assert volume is not None
    np.testing.assert_allclose(volume.affine, where, atol=1e-5)
    float_image = SimpleITK.Cast(itk_image(VALUES, where), SimpleITK.sitkFloat64)
    mask = opened(nifti(MASK, affine((0.53, 0.71, 1.57), 0.1))).volume
    assert mask is not None
    for axis in AXES:
        cut = Cut(frame=2, axis=axis)
        plane, values = volume.plane(cut), volume.picture(cut, 10_000)
        grid = plane.affine, plane.width, plane.height
        assert values.shape == (plane.height, plane.width)
        sides = np.linalg.norm(plane.affine[:3, :2], axis=0)
        assert sides[0] == pytest.approx(sides[1], rel=1e-6)  # square, whatever the spacings
        np.testing.assert_allclose(values, as_itk_resamples(float_image, *grid, linear=True), atol=0.01)
        expected = as_itk_resamples(itk_image(MASK, affine((0.53, 0.71, 1.57), 0.1)), *grid, linear=False)
        assert expected.any()
        np.testing.assert_array_equal(mask.sampled(plane, None), expected)


@pytest.mark.parametrize("suffix", [".hdr", ".mhd", ".nhdr"])
def test_itks_pairs_and_detached_headers(suffix: str, tmp_path: Path) -> None:
    where = TURNS["turned"]
    for compressed in (False, True):
        files = with_itk(VALUES, where, ".img" if suffix == ".hdr" else suffix, compressed=compressed)
        assert len(files) == 2
        for name, data in files.items():
            (tmp_path / name).write_bytes(data)
        named = list(files) if suffix == ".hdr" else [f"v{suffix}"]
        for name in named:
            volume = open_file(tmp_path, name).volume
            assert volume is not None, name
            np.testing.assert_allclose(volume.affine, where, atol=1e-5)
            np.testing.assert_array_equal(volume._values(None), VALUES)


def test_slices_by_hand() -> None:
    """i steps to the right, j to the front, k up; stored as LAS, the other way along the first axis."""
    i, j, k = np.meshgrid(range(4), range(5), range(6), indexing="ij")
    steps = (100 * i + 10 * j + k).astype(np.int16)
    volume = opened(nifti(steps[::-1], np.diag([-1.0, 1.0, 1.0, 1.0]))).volume
    assert volume is not None
    assert [volume.slices(axis) for axis in AXES] == [6, 5, 4]
    axial = [[100 * x + 10 * y + 2 for x in (3, 2, 1, 0)] for y in (4, 3, 2, 1, 0)]
    coronal = [[100 * x + 10 * 1 + z for x in (3, 2, 1, 0)] for z in (5, 4, 3, 2, 1, 0)]
    sagittal = [[100 * 3 + 10 * y + z for y in (4, 3, 2, 1, 0)] for z in (5, 4, 3, 2, 1, 0)]
    assert volume.picture(Cut(frame=2), 100).tolist() == axial
    assert volume.picture(Cut(frame=2, axis="axial"), 100).tolist() == axial
    assert volume.picture(Cut(frame=1, axis="coronal"), 100).tolist() == coronal
    assert volume.picture(Cut(frame=3, axis="sagittal"), 100).tolist() == sagittal
    for axis in AXES:
        with pytest.raises(Rejected, match="missing_frame"):
            volume.picture(Cut(frame=volume.slices(axis), axis=axis), 100)


def test_square_pixels_by_hand() -> None:
    """Spacings 1 and 2 mm: two pixels for one, linearly between centres a quarter and three quarters away."""
    values = np.zeros((2, 1, 3), np.float32)
    values[:, 0, 0], values[:, 0, 1] = 8, 4  # from the feet up: 8, 4, 0
    data = nifti(values, np.diag([1.0, 1.0, 2.0, 1.0]))
    volume = opened(data).volume
    assert volume is not None
    assert volume.picture(Cut(axis="coronal"), 100)[:, 0].tolist() == [0, 1, 3, 5, 7, 8]
    assert volume.picture(Cut(frame=0, axis="axial"), 100).shape == (1, 2)
    with pytest.raises(Rejected, match="too_many_pixels"):
        volume.picture(Cut(axis="coronal"), 11)
    near = opened(nifti(values, np.diag([1.0, 1.0, 1.009, 1.0]))).volume  # within 1 %
    assert near is not None
    assert near.picture(Cut(axis="coronal"), 100).shape == (3, 2)


def test_volumes_of_a_time_series() -> None:
    values = RANDOM.integers(0, 99, (4, 4, 3, 5)).astype(np.int16)
    for data in (nifti(values, np.eye(4)), with_itk_4d(values)):
        file = opened(data)
        assert frames(file) == 3
        assert file.volume is not None
        expected = values[::-1, ::-1, 2, 4].T if file.volume.affine[0, 0] > 0 else values[:, :, 2, 4].T
        assert file.volume.picture(Cut(frame=2, volume=4), 100).tolist() == expected.tolist()
        for volume in (None, 5):
            with pytest.raises(Rejected, match="missing_volume: a file of 5 volumes"):
                picture(file, Cut(frame=2, volume=volume))
    single = opened(nifti(values[..., 0], np.eye(4)))
    assert picture(single, Cut(frame=2, volume=0)).size == (4, 4)
    with pytest.raises(Rejected, match="missing_volume"):
        picture(single, Cut(frame=2, volume=1))


def with_itk_4d(values: np.ndarray) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        image = SimpleITK.JoinSeries(
            [SimpleITK.GetImageFromArray(one.transpose(2, 1, 0)) for one in np.moveaxis(values, -1, 0)]
        )
        SimpleITK.WriteImage(image, str(Path(folder, "v.mha")))
        return Path(folder, "v.mha").read_bytes()


def test_colour(tmp_path: Path) -> None:
    colour = RANDOM.integers(0, 256, (5, 4, 3, 3)).astype(np.uint8)
    rgb = colour.view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    nibabel.Nifti1Image(rgb, np.diag([-1.0, -1.0, 1.0, 1.0])).to_filename(tmp_path / "v.nii")
    for suffix in (".nrrd", ".mha"):
        image = SimpleITK.GetImageFromArray(colour.transpose(2, 1, 0, 3), isVector=True)
        SimpleITK.WriteImage(image, str(tmp_path / f"v{suffix}"))
    for file in tmp_path.iterdir():
        # ITK's identity is LPS: columns grow to the left, rows to the back, as they are shown.
        np.testing.assert_array_equal(np.asarray(decode(file.read_bytes(), 1)), colour[:, :, 1].swapaxes(0, 1))
        with pytest.raises(Rejected, match="unsupported_type"):
            mask_of(opened(file.read_bytes()), Cut(frame=1), opened(nifti(VALUES, np.eye(4))))


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "IAL"])
def test_a_mask_of_the_same_grid_has_the_values_of_the_slice(codes: str) -> None:
    labels = RANDOM.integers(0, 9, VALUES.shape).astype(np.uint8)
    to = nibabel.orientations.axcodes2ornt(codes)
    image, mask = (
        nibabel.Nifti1Image(values, affine((1.1, 1.1, 3.0), 0.2)).as_reoriented(to) for values in (VALUES, labels)
    )
    canonical = np.asarray(nibabel.as_closest_canonical(mask).dataobj)
    for frame in range(canonical.shape[2]):
        stored = mask_of(opened(mask.to_bytes()), Cut(frame=frame), opened(image.to_bytes()))
        np.testing.assert_array_equal(stored.values, canonical[::-1, ::-1, frame].T)


def test_a_mask_of_another_orientation_and_place() -> None:
    where = affine()
    labels = RANDOM.integers(0, 9, VALUES.shape).astype(np.uint8)
    image = opened(nifti(VALUES, where))
    expected = mask_of(opened(nifti(labels, where)), Cut(frame=3), image).values
    for codes in ("LPS", "PSR", "IAL"):
        turned = nibabel.Nifti1Image(labels, where)
        to = nibabel.orientations.axcodes2ornt(codes)
        turned = turned.as_reoriented(nibabel.orientations.ornt_transform(nibabel.io_orientation(where), to))
        found = mask_of(opened(turned.to_bytes()), Cut(frame=3), image).values
        np.testing.assert_array_equal(found, expected)
    higher = where.copy()
    higher[2, 3] += 6  # two slices of 3 mm
    np.testing.assert_array_equal(mask_of(opened(nifti(labels, higher)), Cut(frame=5), image).values, expected)
    assert not mask_of(opened(nifti(labels, higher)), Cut(frame=1), image).values.any()  # below the mask


def reason(mask: bytes, image: bytes, cut: Cut) -> str:
    with pytest.raises(Rejected) as caught:
        mask_of(opened(mask), cut, opened(image))
    return caught.value.reason


def test_masks_that_cannot_be_placed() -> None:
    where = affine()
    labels = np.ones(VALUES.shape, np.uint8)
    image = nifti(VALUES, where)
    beside = where.copy()
    beside[0, 3] += 9  # its first voxel begins where the image's last one ends
    assert reason(nifti(labels, beside), image, Cut(frame=3)) == "no_overlap"
    beside[0, 3] -= 0.5
    assert mask_of(opened(nifti(labels, beside)), Cut(frame=3), opened(image)).values.sum() == 11  # its first column
    unplaced = with_itk(labels, np.eye(4), ".nrrd")["v.nrrd"].replace(
        b"space: left-posterior-superior\n", b"space dimension: 3\n"
    )
    assert reason(unplaced, image, Cut(frame=3)) == "unplaced"
    assert mask_of(opened(unplaced), Cut(frame=3), opened(unplaced)).values.all()
    smaller = with_itk(labels[:5], np.eye(4), ".nrrd")["v.nrrd"].replace(
        b"space: left-posterior-superior\n", b"space dimension: 3\n"
    )
    assert reason(smaller, unplaced, Cut(frame=3)) == "unplaced"
    stream = io.BytesIO()
    Image.new("L", (9, 11)).save(stream, "PNG")
    assert reason(nifti(labels, where), stream.getvalue(), Cut()) == "unplaced"
    assert reason(nifti(labels * 0.5, where), image, Cut(frame=3)) == "unsupported_type"
