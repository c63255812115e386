"""Shape of bodies: extents, cores and cuts of balls, bars and dumbbells whose measures are known by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from ToothTopoSegLib.imaging.volume import Vector3, Volume
from ToothTopoSegLib.topology.betti import Body
from ToothTopoSegLib.topology.mouth import Mouth
from ToothTopoSegLib.topology.shape import (
    body_of,
    coarse,
    cut_share,
    enlarged_seeds,
    find_cores,
    long_axis,
    one_sided_mm,
    patient_scale,
    points_mm,
    split_in_two,
    vertical,
)

Mask = NDArray[np.bool_]
UP = np.array([1.0, 0.0, 0.0])


def _dumbbell(radius: float = 6.0, apart: int = 14, neck: float = 2.0) -> Mask:
    """Two balls on the x axis joined by a rod; the balls' centres lie at x = 10 and x = 10 + apart."""
    z, y, x = np.indices((20, 20, 20 + apart)) - np.array([10, 10, 10])[:, None, None, None]
    balls = (z**2 + y**2 + x**2 <= radius**2) | (z**2 + y**2 + (x - apart) ** 2 <= radius**2)
    rod = (z**2 + y**2 <= neck**2) & (x >= 0) & (x <= apart)
    return np.asarray(balls | rod)


def _seeds(mask: Mask, first: tuple[int, int, int], second: tuple[int, int, int]) -> NDArray[np.int16]:
    seeds = np.zeros(mask.shape, np.int16)
    seeds[first], seeds[second] = 1, 2
    return seeds


@pytest.mark.parametrize("spacing", [(0.25, 0.25, 0.25), (0.6, 0.3, 0.3), (0.2, 0.5, 0.5)])
def test_a_coarse_copy_keeps_the_volume_and_goes_back_to_the_fine_grid(spacing: Vector3) -> None:
    size = [round(8 / step) for step in spacing]
    mask = np.ones(size, dtype=bool)
    small, step = coarse(mask, spacing)
    volume = np.count_nonzero(small) * np.prod(step)
    assert volume == pytest.approx(mask.size * np.prod(spacing), rel=0.15)
    assert np.count_nonzero(enlarged_seeds(small, mask.shape, step, spacing) & mask) >= 0.9 * mask.size


def test_two_balls_joined_by_a_rod_have_two_cores_as_far_apart_as_the_balls() -> None:
    cores = find_cores(_dumbbell(), (1.0, 1.0, 1.0), UP, apart_mm=8)
    assert cores is not None
    assert cores.apart_mm == pytest.approx(14, abs=0.5)
    assert 1.5 <= cores.neck_mm <= 6
    assert {int(cores.seeds[10, 10, 10]), int(cores.seeds[10, 10, 24])} == {1, 2}


def test_a_ball_has_no_two_cores_and_cores_above_each_other_do_not_count() -> None:
    ball = _dumbbell(apart=0)
    assert find_cores(ball, (1.0, 1.0, 1.0), UP, apart_mm=3) is None
    assert find_cores(_dumbbell().transpose(2, 1, 0), (1.0, 1.0, 1.0), UP, apart_mm=3) is None


def test_the_cut_goes_through_the_neck_and_loses_no_voxel() -> None:
    mask = _dumbbell()
    first, second = split_in_two(mask, (1.0, 1.0, 1.0), _seeds(mask, (10, 10, 10), (10, 10, 24)))
    assert np.array_equal(first | second, mask) and not (first & second).any()
    assert abs(int(first.sum()) - int(second.sum())) <= 30
    assert np.argwhere(first)[:, 2].max() <= 19 and np.argwhere(second)[:, 2].min() >= 15


def test_grey_values_move_the_cut_to_the_dark_gap() -> None:
    bar = np.ones((8, 8, 30), dtype=bool)
    grey = np.full(bar.shape, 1000.0)
    grey[:, :, 9] = 0
    first, second = split_in_two(bar, (1.0, 1.0, 1.0), _seeds(bar, (4, 4, 2), (4, 4, 27)), grey)
    assert first[:, :, :9].all() and second[:, :, 10:].all()


def test_a_seed_outside_the_mask_is_refused() -> None:
    mask = _dumbbell()
    with pytest.raises(ValueError, match="both seeds"):
        split_in_two(mask, (1.0, 1.0, 1.0), _seeds(mask, (10, 10, 10), (0, 0, 0)))


def test_the_long_axis_of_a_bar_has_its_direction_and_extents() -> None:
    body = body_of(np.ones((5, 9, 40), dtype=bool), (slice(2, 7), slice(0, 9), slice(3, 43)))
    axes, extents = long_axis(points_mm(body, (1.0, 1.0, 0.5), target=0.5))
    assert abs(axes[0][2]) == pytest.approx(1, abs=1e-6)
    assert extents == pytest.approx([19.5, 8, 4])


def test_a_body_is_cropped_to_its_own_box_and_knows_the_border() -> None:
    mask = np.zeros((6, 6, 6), dtype=bool)
    mask[2:4, 3, 1:3] = True
    body = body_of(mask, (slice(10, 16), slice(0, 6), slice(5, 11)))
    assert body.box == (slice(12, 14), slice(3, 4), slice(6, 8)) and body.voxels == 4
    assert not body.reaches_border((20, 20, 20)) and body.reaches_border((14, 20, 20))
    assert Body((slice(0, 1), slice(1, 2), slice(1, 2)), np.ones((1, 1, 1), bool), 1).reaches_border((5, 5, 5))


def test_a_cut_through_a_bar_has_the_bars_section_and_touching_balls_have_less() -> None:
    bar = np.argwhere(np.ones((24, 24, 80), dtype=bool)) * 0.25
    halves = bar[bar[:, 2] < 10], bar[bar[:, 2] >= 10]
    middle, normal = np.array([2.875, 2.875, 9.875]), np.array([0.0, 0.0, 1.0])
    assert cut_share(*halves, 0.25**3, middle, normal, 36.0) == pytest.approx(1.0, abs=0.01)
    balls = np.argwhere(_dumbbell(apart=12, neck=0)).astype(float)
    sides = balls[balls[:, 2] < 16], balls[balls[:, 2] >= 16]
    assert cut_share(*sides, 1.0, np.array([10.0, 10, 15.5]), normal, 5.0) < 0.3


def test_a_thin_crumb_on_a_wide_face_is_no_cut_through_it() -> None:
    block = np.argwhere(np.ones((48, 48, 20), dtype=bool)) * 0.25
    crumb = np.argwhere(np.ones((12, 12, 3), dtype=bool)) * 0.25 + np.array([4.0, 4.0, 5.0])
    middle, normal = np.array([5.4, 5.4, 4.875]), np.array([0.0, 0.0, 1.0])
    assert cut_share(block, crumb, 0.25**3, middle, normal, 9.0) < 0.3


def test_a_lump_on_one_side_of_a_crown_is_farther_out_than_what_lies_opposite() -> None:
    z, y, x = np.indices((40, 24, 24)) - np.array([0, 12, 12])[:, None, None, None]
    tooth = y**2 + x**2 <= 16
    points = np.argwhere(tooth).astype(float)
    assert one_sided_mm(points, UP).max() < 0.8
    lump = ((z - 32) ** 2 + y**2 + (x - 6) ** 2) <= 9
    with_lump = np.argwhere(tooth | lump).astype(float)
    excess = one_sided_mm(with_lump, UP)
    assert excess.max() > 3 and with_lump[excess > 1][:, 2].min() > 12
    assert one_sided_mm(with_lump, -UP).max() < 0.8, "there it may be a root"


def test_up_is_found_in_a_turned_array() -> None:
    labels = Volume(np.zeros((2, 2, 2), np.uint8), direction=((0.0, 0.0, 1.0), (1.0, 0.0, 0.0), (0.0, -1.0, 0.0)))
    assert vertical(labels).tolist() == [0.0, -1.0, 0.0]


def test_with_few_teeth_the_patient_is_average() -> None:
    array = np.zeros((20, 20, 20), np.uint8)
    array[5:9, 5:9, 5:9] = 36
    assert patient_scale(Mouth(Volume(array))) == 1.0
