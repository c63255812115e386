"""Depth fields: exact where they can be, the same on every grid, and cheap look-ups that agree with the points."""

from __future__ import annotations

import numpy as np
import pytest

from ToothTopoSegLib.phantom.fields import (
    OUTSIDE,
    Ball,
    Frame,
    Grain,
    Lattice,
    Rod,
    Wave,
    is_empty,
    make_lattice,
    smooth_max,
    smooth_min,
)
from ToothTopoSegLib.phantom.head import Pose

TURNED = Pose((3.0, -4.0, 5.0), ((0.0, -1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)))
WHOLE = (slice(0, 21), slice(0, 25), slice(0, 31))


def lattice(shape: tuple[int, int, int] = (21, 25, 31), spacing: float = 0.5, pose: Pose | None = None) -> Lattice:
    rng = np.random.default_rng(0)
    bend, rough = Wave.draw(rng, 28.0, 3), Wave.draw(rng, 9.0)
    return make_lattice(shape, np.full(3, spacing), pose or Pose(), 0.0, bend, rough)


def at(*points: tuple[float, float, float]) -> np.ndarray:
    """Points as an array (3, 1, 1, n)."""
    return np.array(points, np.float32).T[:, None, None, :]


def test_points_of_the_grid_are_read_exactly_from_the_coarser_lattice():
    made = lattice(pose=TURNED)
    assert made.points.shape[1:] < made.shape
    fine = made.fine_points(WHOLE)
    # Index (z, y, x) steps along head (z, x, -y) in this pose.
    assert fine[:, 10, 12, 15] == pytest.approx([3, -4, 5], abs=1e-5)
    assert fine[:, 10, 12, 17] - fine[:, 10, 12, 15] == pytest.approx([0, 1, 0], abs=1e-5)
    assert fine[:, 10, 14, 15] - fine[:, 10, 12, 15] == pytest.approx([-1, 0, 0], abs=1e-5)


def test_a_box_of_the_grid_reads_what_the_whole_grid_reads_there():
    made = lattice()
    field = np.random.default_rng(1).normal(size=made.points.shape[1:]).astype(np.float32)
    box = (slice(3, 9), slice(11, 12), slice(20, 31))
    assert made.fine(field, box) == pytest.approx(made.fine(field, WHOLE)[box], abs=1e-5)


def test_the_support_of_a_field_holds_every_voxel_above_the_threshold():
    made = lattice()
    field = Ball((2.0, -1.0, 1.0), (2.0, 3.0, 1.5)).depth(made.points)
    inside = np.argwhere(made.fine(field, WHOLE) > 0.5)
    box = made.support(field, 0.5, WHOLE)
    for axis, span in enumerate(box):
        assert span.start <= inside[:, axis].min() and inside[:, axis].max() < span.stop
    assert np.prod([s.stop - s.start for s in box]) < np.prod(made.shape) / 4
    assert is_empty(made.support(field, 99.0, WHOLE))


def test_a_body_outside_of_the_view_has_an_empty_box():
    made = lattice()
    assert is_empty(made.box(np.array([50.0, 50, 50]), np.array([60.0, 60, 60])))
    assert not is_empty(made.box(np.array([-1.0, -1, -1]), np.array([1.0, 1, 1])))


def test_grids_one_voxel_thick_have_a_lattice():
    made = lattice((1, 25, 1))
    assert made.fine_points((slice(0, 1), slice(0, 25), slice(0, 1))).shape == (3, 1, 25, 1)


def test_depth_in_a_ball_and_a_rod_is_the_distance_to_their_surface():
    ball = Ball((1.0, 0.0, 0.0), (5.0, 5.0, 5.0))
    assert ball.depth(at((1, 0, 3), (1, 0, 5), (1, 8, 0))).ravel() == pytest.approx([2, 0, -3], abs=1e-4)
    rod = Rod((0, 0, 0), (0, 0, 10), 3.0, 1.0)
    assert rod.depth(at((0, 0, 0), (0, 0, 10), (0, 4, 5), (0, 0, 12))).ravel() == pytest.approx([3, 1, -2, -1])


def test_a_flat_rod_is_a_plate():
    plate = Rod((0, 0, 0), (0, 0, 10), 1.0, 1.0, (1.0, 5.0, 1.0))
    assert plate.depth(at((0, 4.5, 5)))[0, 0, 0] > 0 > plate.depth(at((1.5, 0, 5)))[0, 0, 0]


def test_smooth_joins_never_fall_below_the_greater_or_rise_above_the_lesser():
    a, b = np.meshgrid(np.linspace(-5, 5, 21), np.linspace(-5, 5, 21))
    assert (smooth_max(a, b, 3.0) >= np.maximum(a, b)).all()
    assert (smooth_min(a, b, 3.0) <= np.minimum(a, b)).all()
    far = np.abs(a - b) >= 3
    assert smooth_max(a, b, 3.0)[far] == pytest.approx(np.maximum(a, b)[far])


def test_shapes_on_both_sides_are_mirror_images_and_those_in_the_middle_are_not_doubled():
    frame = Frame.of(lattice((5, 5, 61)), (0, 0, 0), 1.0)
    field = frame.empty()
    frame.join(field, (Ball((8.0, 0, 0), (2.0, 2, 2)),))
    assert field == pytest.approx(field[:, :, ::-1], abs=1e-4)
    assert field.max() > 1
    one = frame.empty()
    frame.join(one, (Ball((8.0, 0, 0), (2.0, 2, 2)),), both_sides=False)
    assert one[..., 0].max() == OUTSIDE


def test_noise_belongs_to_the_head_and_repeats():
    rng = np.random.default_rng(0)
    wave, grain = Wave.draw(rng, 10.0, 2), Grain.draw(rng, 1.0)
    points = at((1, 2, 3), (1 + 14 * 10.0, 2, 3), (9, 9, 9))
    first, again, other = np.moveaxis(wave.at(points)[:, 0, 0], -1, 0)
    assert first == pytest.approx(again, abs=1e-3)
    assert first != pytest.approx(other, abs=1e-3)
    period = 0.4 * len(grain.table)
    values = grain.at(*np.array([[1.2, 1.2 + period], [2, 2], [3.2, 3.2]]))
    assert values[0] == values[1]
    assert grain.table.std() == pytest.approx(1, abs=1e-3)
