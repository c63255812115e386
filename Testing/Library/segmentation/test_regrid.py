"""Labels on the scan's grid are the best classes of linearly interpolated scores, voxel by voxel."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from ToothTopoSegLib.imaging.volume import IDENTITY, Volume
from ToothTopoSegLib.segmentation.classes import CLASSES, class_to_label
from ToothTopoSegLib.segmentation.regrid import close_slits, labels_on_grid

TURNED = tuple(map(tuple, Rotation.from_euler("xyz", (10, -20, 15), degrees=True).as_matrix().tolist()))
TABLE = np.arange(10, 60, dtype=np.uint8)


def _grid(shape, spacing=(1.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0), direction=IDENTITY) -> Volume:
    return Volume(np.zeros(shape, np.uint8), spacing, origin, direction)


def _interpolated(scores: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Scores (classes,) at a fractional index (z, y, x), values beyond the outermost centres repeated."""
    at = np.clip(at, 0, np.array(scores.shape[1:]) - 1)
    low = np.floor(at).astype(int)
    part = at - low
    total = np.zeros(len(scores))
    for corner in product((0, 1), repeat=3):
        index = np.minimum(low + corner, np.array(scores.shape[1:]) - 1)
        total += np.prod(np.where(corner, part, 1 - part)) * scores[:, *index]
    return total


def _agrees(scores: np.ndarray, grid: Volume, scan: Volume) -> int:
    """Holds every voxel against interpolation by hand; returns how many voxels got a label."""
    found = labels_on_grid(scores, grid, scan, TABLE)
    assert found.shape == scan.array.shape and found.dtype == np.uint8
    for index in np.ndindex(*scan.array.shape):
        at = grid.lps_to_index(scan.index_to_lps(np.array(index)))
        if (at < -0.5 - 1e-5).any() or (at > np.array(scores.shape[1:]) - 0.5 + 1e-5).any():
            assert found[index] == 0
            continue
        ranked = _interpolated(scores, at)
        # Equally good classes, to rounding, are equally right.
        assert ranked[found[index] - 10] >= ranked.max() - 1e-5
    return int((found > 0).sum())


def _scores(shape: tuple[int, ...], classes: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(classes, *shape)).astype(np.float32)


@settings(max_examples=20, deadline=None)
@given(
    st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4)),
    st.tuples(*[st.sampled_from([0.3, 0.5, 0.77, 1.0, 1.6])] * 3),
    st.tuples(*[st.floats(-2, 2)] * 3),
    st.sampled_from([IDENTITY, TURNED]),
    st.integers(0, 99),
)
def test_any_spacing_offset_and_direction_agrees_with_interpolation_by_hand(
    shape, spacing, origin, direction, seed
) -> None:
    _agrees(
        _scores(shape, seed=seed),
        _grid(shape, (1.0, 1.2, 0.9), origin, direction),
        _grid((5, 6, 7), spacing, direction=direction),
    )


@pytest.mark.parametrize("direction", [IDENTITY, TURNED], ids=["straight", "oblique"])
@pytest.mark.parametrize("spacing", [(0.4, 0.4, 0.4), (1.5, 0.3, 0.5)], ids=["fine", "anisotropic"])
def test_a_region_inside_the_scan_leaves_zero_around_it(spacing, direction) -> None:
    scan = _grid((14, 16, 15), spacing, (3.0, -5.0, 8.0), direction)
    x, y, z = scan.index_to_lps(np.array([3.2, 4.1, 3.7]))
    grid = _grid((3, 4, 5), (0.9, 0.9, 0.9), (x, y, z), direction)
    labelled = _agrees(_scores((3, 4, 5)), grid, scan)
    assert 0 < labelled < scan.array.size / 2


def test_a_region_over_the_border_of_the_scan_is_cut_there() -> None:
    scan = _grid((6, 6, 6), (0.5, 0.5, 0.5))
    grid = _grid((4, 4, 4), origin=(-2.0, 1.0, -1.0))
    assert 0 < _agrees(_scores((4, 4, 4)), grid, scan) < 6**3


def test_a_region_beside_the_scan_labels_nothing() -> None:
    for origin in ((50.0, 0.0, 0.0), (0.0, -50.0, 0.0), (0.0, 0.0, 50.0)):
        found = labels_on_grid(_scores((4, 4, 4)), _grid((4, 4, 4), origin=origin), _grid((6, 6, 6)), TABLE)
        assert not found.any()


def test_a_scan_on_the_very_grid_gets_the_best_class_of_each_voxel() -> None:
    scores = _scores((5, 6, 7), CLASSES)
    found = labels_on_grid(scores, _grid((5, 6, 7)), _grid((5, 6, 7)), class_to_label())
    np.testing.assert_array_equal(found, class_to_label()[scores.argmax(0)])


def test_a_class_that_is_second_at_every_voxel_can_win_between_them() -> None:
    scores = np.array([[10.0, 0.0], [0.0, 10.0], [9.0, 9.0]], np.float32).reshape(3, 1, 1, 2)
    found = labels_on_grid(scores, _grid((1, 1, 2)), _grid((1, 1, 5), (1.0, 1.0, 0.25)), TABLE)
    np.testing.assert_array_equal(found.ravel(), [10, 12, 12, 12, 11])


def test_the_labels_reach_half_a_voxel_beyond_the_outer_centres_and_no_further() -> None:
    scores = np.ones((1, 2, 2, 2), np.float32)
    scan = _grid((9, 9, 9), (0.5, 0.5, 0.5), (-1.0, -1.0, -1.0))  # voxels at -1, -0.5, 0 ... 3
    found = labels_on_grid(scores, _grid((2, 2, 2)), scan, TABLE)
    inside = np.arange(9) * 0.5 - 1
    inside = (inside >= -0.5) & (inside <= 1.5)
    np.testing.assert_array_equal(found > 0, inside[:, None, None] & inside[:, None] & inside)


def test_a_voxel_on_the_very_rim_does_not_depend_on_the_last_digit_of_the_origin() -> None:
    scores = _scores((3, 3, 3))
    scan = _grid((7, 7, 7), (0.5, 0.5, 0.5), (-0.5, -0.5, -0.5))
    expected = labels_on_grid(scores, _grid((3, 3, 3)), scan, TABLE)
    for nudge in (1e-12, -1e-12):
        moved = _grid((3, 3, 3), origin=(nudge, -nudge, nudge))
        np.testing.assert_array_equal(labels_on_grid(scores, moved, scan, TABLE), expected)
    assert (expected > 0).all()


def test_progress_goes_from_the_first_slice_on() -> None:
    seen: list[float] = []
    labels_on_grid(
        _scores((4, 2, 2)), _grid((4, 2, 2)), _grid((40, 2, 2), (0.1, 1, 1)), TABLE, lambda f, _: seen.append(f)
    )
    assert seen[0] == 0.0 and seen == sorted(seen) and len(seen) == 3


def bored(width: int) -> np.ndarray:
    """A block of tooth 36 with a tunnel through it, in a jaw, with tooth 37 beside it."""
    labels = np.full((30, 30, 44), 101, np.uint8)
    labels[5:25, 5:25, 5:25], labels[5:25, 5:25, 26:38] = 36, 37
    labels[13 : 13 + width, 13 : 13 + width, 5:25] = 0
    return labels


@pytest.mark.parametrize(
    ("spacing", "width", "closed"),
    [(0.3, 2, True), (0.15, 3, True), (0.2, 5, False), (0.4, 1, True), (0.5, 3, False), (0.7, 1, False)],
)
def test_tunnels_that_no_network_sees_are_closed_and_wider_ones_stay(spacing, width, closed):
    labels, before = bored(width), bored(width)
    close_slits(labels, (spacing,) * 3)
    assert (labels[12:16, 12:16, 8:22] == 36).all() == closed  # round the mouth of a tunnel stays an edge
    assert (labels[before == 37] == 37).all() and (labels[before == 36] == 36).all()
    assert (labels[5:25, 5:25, 25] == 101).all()  # the gap between two teeth is none of either


def test_a_tooth_at_the_border_of_a_scan_keeps_its_surface():
    labels = np.zeros((12, 12, 12), np.uint8)
    labels[:6, 3:9, 3:9] = 11
    before = labels.copy()
    close_slits(labels, (0.25, 0.5, 0.8))
    np.testing.assert_array_equal(labels, before)
