"""Fields of view that are cylinders in files that are boxes."""

from __future__ import annotations

import numpy as np
import pytest

from ToothTopoSegLib.imaging.field import continued, unseen_columns


def cylinder(size: int, outside: float, share: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """A scan (z, y, x) of noise that ends at a cylinder, and which columns (y, x) that shows; the cylinder is so large
    beside the largest there is room for."""
    y, x = np.indices((size, size)) - (size - 1) / 2
    seen = np.hypot(y, x) <= share * size / 2
    noise = np.random.default_rng(0).integers(1, 200, (9, size, size)).astype(np.int16)
    return np.where(seen, noise, np.int16(outside)), seen


@pytest.mark.parametrize("size", [40, 61, 110])
@pytest.mark.parametrize("outside", [-1000, 0, 87])
@pytest.mark.parametrize("share", [0.93, 1.0])
def test_the_corners_around_a_cylinder_were_not_seen(size: int, outside: int, share: float) -> None:
    scan, seen = cylinder(size, outside, share)
    unseen = unseen_columns(scan)
    assert not (unseen & seen).any() and (unseen == ~seen).mean() > 0.99


def test_what_was_not_seen_goes_on_as_what_was_ends() -> None:
    scan, seen = cylinder(40, -1000)
    full = continued(scan, unseen_columns(scan))
    assert (full[:, seen] == scan[:, seen]).all() and full.min() == scan[:, seen].min()
    corner = np.argwhere((scan[:, seen] == full[:, 0, 0, None]).all(0))
    place = np.argwhere(seen)[corner[0, 0]]
    assert len(corner) == 1 and np.hypot(*place) == np.hypot(*np.argwhere(seen).T).min()


def test_a_box_that_was_seen_as_a_whole_has_no_corners() -> None:
    scan = np.random.default_rng(1).integers(0, 200, (9, 40, 40))
    assert unseen_columns(scan) is None
    scan[:, [0, 0, -1, -1], [0, -1, 0, -1]] = 0
    assert unseen_columns(scan) is None


def test_air_around_a_head_was_seen() -> None:
    """A head in the middle of air that the file's range cuts off: nothing tells the corners from the rest of it."""
    scan = np.full((9, 80, 80), -1000)
    scan[:, 20:60, 20:60] = 40
    assert unseen_columns(scan) is None


def test_a_scan_of_one_value_or_of_a_few_voxels_has_no_field() -> None:
    assert unseen_columns(np.zeros((5, 30, 30))) is None
    assert unseen_columns(np.zeros((5, 3, 3))) is None
