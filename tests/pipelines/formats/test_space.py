"""Planes: whether volumes overlap, and how a plane becomes square."""

import numpy as np
import pytest

from pipelines.errors import Rejected
from pipelines.formats.space import Plane, check_affine, overlap, squared

BOX = (4, 4, 4)


def plane(x: float, y: float, z: float, turned: float = 0.0, **sizes: int) -> Plane:
    """2 x 2 x 1 voxels of 1 mm whose first corner lies at (x, y, z); turned about the third axis."""
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(turned), -np.sin(turned)], [np.sin(turned), np.cos(turned)]]
    affine[:3, 3] = affine[:3, :3] @ np.full(3, 0.5) + (x, y, z)
    return Plane(affine=affine, **{"width": 2, "height": 2, **sizes})


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (plane(0, 0, 0), True),
        (plane(4, 0, 0), False),  # face to face
        (plane(3.9, 3.9, 3.9), True),
        (plane(0, 0, -1), False),
        (plane(0, 0, -2, after=0), False),
        (plane(0, 0, -2, after=2), True),  # two more slices above: the last reaches the box
        (plane(0, 0, 6, before=1), False),
        (plane(0, 0, 6, before=3), True),
        (plane(-10, -10, 1, width=30, height=30), True),  # around the box
        # The left tip of the turned square, 1.4 mm to the left of its first corner, is at 3.6 or at 4.1.
        (plane(5.0, 0, 0, np.pi / 4), True),
        (plane(5.5, 0, 0, np.pi / 4), False),
        # The edge x + y = 8.1 passes the box's corner (4, 4), while the bounding boxes overlap; x + y = 7.9 does not.
        (plane(4.5, 3.6, 0, np.pi / 4), False),
        (plane(4.5, 3.4, 0, np.pi / 4), True),
    ],
)
def test_overlap(where: Plane, expected: bool) -> None:
    affine = np.eye(4)
    affine[:3, 3] = 0.5  # from 0 to 4 along each axis
    assert overlap(BOX, affine, where) is expected


def test_squared_keeps_the_upper_left_corner() -> None:
    long = Plane(affine=np.diag([3.0, 1.0, 1.0, 1.0]), width=4, height=5)
    square = squared(long)
    assert (square.width, square.height) == (12, 5)
    corner = np.array([-0.5, -0.5, 0, 1])
    np.testing.assert_allclose(square.affine @ corner, long.affine @ corner)
    np.testing.assert_allclose(np.linalg.norm(square.affine[:3, :2], axis=0), [1, 1])


@pytest.mark.parametrize(
    "affine",
    [np.zeros((4, 4)), np.full((4, 4), np.nan), np.diag([1.0, 1.0, 0.0, 1.0]), np.diag([1e12, 1.0, 1.0, 1.0])],
)
def test_affines_that_give_no_place(affine: np.ndarray) -> None:
    with pytest.raises(Rejected, match="corrupt"):
        check_affine(affine)
