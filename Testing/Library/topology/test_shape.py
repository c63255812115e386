"""Shape of bodies: extents, cores and cuts of balls, bars and dumbbells whose measures are known by hand."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from Testing.Library.topology.drawings import Field, bar, drawn, lump, stump, tapering
from ToothTopoSegLib.imaging.volume import Vector3, Volume
from ToothTopoSegLib.topology.betti import Body
from ToothTopoSegLib.topology.mouth import Mouth
from ToothTopoSegLib.topology.shape import (
    body_of,
    branches_mm,
    coarse,
    cut_share,
    enlarged_seeds,
    find_cores,
    find_lump,
    long_axis,
    narrowest_cut,
    one_sided_mm,
    patient_scale,
    points_mm,
    root_spread_mm,
    split_in_two,
    tooth_axes,
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


def test_a_body_that_the_coarse_points_miss_is_sampled_by_all_its_voxels() -> None:
    line = Body((slice(0, 1), slice(0, 2), slice(0, 1)), np.array([[[False], [True]]]), 1)
    assert points_mm(line, (0.25, 0.25, 0.25)).tolist() == [[0.0, 0.25, 0.0]]


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


# --- the narrowest cut

ONE_MM = (1.0, 1.0, 1.0)
SLIT, OFF = 10, 2
"""Where the slit of :func:`_blocks` lies along x, and how far from it a wrong cut."""


def _blocks() -> Mask:
    """Two blocks beside a slit of one voxel that four voxels bridge."""
    mask = np.ones((9, 8, 21), dtype=bool)
    mask[:, :, SLIT] = False
    mask[4:6, 3:5, SLIT] = True
    return mask


def _cut_at(mask: Mask, x: int, axis: int = 2) -> tuple[Mask, Mask]:
    before = np.moveaxis(np.arange(mask.shape[axis]) < x + np.zeros((1, 1, 1)), 2, axis)
    return mask & before, mask & ~before


def _faces(first: Mask, second: Mask) -> int:
    """Faces of voxels between two masks."""
    count = 0
    for axis in range(3):
        one, two = np.moveaxis(first, axis, 0), np.moveaxis(second, axis, 0)
        count += np.count_nonzero(one[:-1] & two[1:]) + np.count_nonzero(two[:-1] & one[1:])
    return count


@pytest.mark.parametrize("spacing", [ONE_MM, (0.4, 0.6, 0.5)])
@pytest.mark.parametrize("wrong", [SLIT - OFF, SLIT + 1 + OFF])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_two_blocks_that_a_few_voxels_join_are_parted_in_the_slit(axis: int, wrong: int, spacing: Vector3) -> None:
    mask = np.moveaxis(_blocks(), 2, axis)
    own, other = narrowest_cut(*_cut_at(mask, wrong, axis), spacing, band_mm=3 * spacing[axis])
    assert np.array_equal(own | other, mask) and not (own & other).any()
    own, other = (np.moveaxis(part, axis, 2) for part in (own, other))
    assert own[:, :, :SLIT].all() and other[:, :, SLIT + 1 :].all()
    assert _faces(own, other) == 4


def test_a_slit_beyond_the_band_is_not_looked_for() -> None:
    wrong = _cut_at(_blocks(), SLIT - 6)
    own, _ = narrowest_cut(*wrong, ONE_MM, band_mm=3)
    assert not own[:, :, SLIT - 2 :].any() and own[:, :, : SLIT - 8].all()
    own, _ = narrowest_cut(*wrong, ONE_MM, band_mm=8)
    assert own[:, :, :SLIT].all()


@pytest.mark.parametrize("dark", [12, 15, 17])
def test_a_dark_plane_attracts_the_cut_of_a_bar_that_is_as_wide_everywhere(dark: int) -> None:
    bar = np.ones((8, 8, 30), dtype=bool)
    grey = np.full(bar.shape, 1000.0)
    grey[:, :, dark] = 0
    own, other = narrowest_cut(*_cut_at(bar, 15), ONE_MM, band_mm=5, grey=grey)
    assert own[:, :, :dark].all() and other[:, :, dark + 1 :].all()


def test_a_slit_in_the_label_outweighs_noise_in_the_scan() -> None:
    mask = _blocks()
    grey = np.random.default_rng(5).normal(1000, 50, mask.shape)
    own, other = narrowest_cut(*_cut_at(mask, SLIT - OFF), ONE_MM, band_mm=4, grey=grey)
    assert own[:, :, :SLIT].all() and other[:, :, SLIT + 1 :].all()


def test_the_farther_half_of_either_mask_stays_where_it_is_however_wide_the_band() -> None:
    bar = np.ones((6, 6, 24), dtype=bool)
    bar[:, :, [4, 20]] = False
    bar[3, 3, [4, 20]] = True
    own, other = narrowest_cut(*_cut_at(bar, 12), ONE_MM, band_mm=10)
    assert own[:, :, :4].all() and other[:, :, 21:].all()
    assert _faces(own, other) == 36, "the necks lie too far away"


def test_masks_that_lie_at_the_cut_as_a_whole_come_back_as_they_are() -> None:
    first, second = _cut_at(np.ones((4, 5, 2), dtype=bool), 1)
    nothing = np.zeros_like(first)
    for pair in ((first, second), (first, nothing), (nothing, second), (nothing, nothing)):
        own, other = narrowest_cut(*pair, ONE_MM, band_mm=3)
        assert np.array_equal(own, pair[0]) and np.array_equal(other, pair[1])


def _beside(mask: Mask, other: Mask) -> Mask:
    """The voxels of a mask that share a face with another one."""
    from scipy import ndimage

    return np.asarray(mask & ndimage.binary_dilation(other))


@settings(max_examples=60)
@given(arrays(np.uint8, st.tuples(*[st.integers(2, 6)] * 3), elements=st.integers(0, 2)), st.floats(1, 4))
def test_any_cut_is_disjoint_loses_no_voxel_and_is_no_wider_than_the_one_before(
    labels: NDArray[np.uint8], band: float
) -> None:
    first, second = labels == 1, labels == 2
    assume(_beside(first, second).any())
    own, other = narrowest_cut(first, second, ONE_MM, band)
    assert not (own & other).any()
    assert np.array_equal(own | other, first | second)
    assert own.any() and other.any()
    assert _faces(own, other) <= _faces(first, second)


@settings(max_examples=30)
@given(arrays(np.intp, (2, 2, 1), elements=st.integers(3, 4)), arrays(bool, (2, 2, 6)))
def test_no_other_cut_within_the_band_is_narrower(cut: NDArray[np.intp], holes: Mask) -> None:
    mask = np.pad(~holes, ((0, 0), (0, 0), (1, 1)), constant_values=True)
    first, second = mask & (np.arange(8) <= cut), mask & (np.arange(8) > cut)
    # within a band of one voxel these alone may go to the other mask
    band = _beside(first, second) | _beside(second, first)
    free = np.argwhere(band)
    assume(len(free) > 0)
    own, other = narrowest_cut(first, second, ONE_MM, band_mm=1)
    assert np.array_equal(own & ~band, first & ~band) and np.array_equal(other & ~band, second & ~band)
    widths = []
    for choice in product((False, True), repeat=len(free)):
        one = first & ~band
        one[tuple(free[list(choice)].T)] = True
        widths.append(_faces(one, (first | second) & ~one))
    assert _faces(own, other) == min(widths)


# --- axes, branches and lumps


@pytest.mark.parametrize("up", [UP, -UP])
@pytest.mark.parametrize("lean", [0.0, 0.5, 1.2])
def test_the_longest_axis_of_a_long_tooth_points_to_its_crown_however_it_leans(lean: float, up: NDArray[Any]) -> None:
    z, y, x = (np.indices((40, 12, 16)).reshape(3, -1) / 2.0).astype(float)
    points = np.stack([z * np.cos(lean) - y * np.sin(lean), z * np.sin(lean) + y * np.cos(lean), x], axis=1)
    axes, extents = tooth_axes(points, up)
    along = np.array([np.cos(lean), np.sin(lean), 0.0]) * up[0]
    assert axes[0] == pytest.approx(along, abs=1e-6)
    assert extents == pytest.approx([19.5, 7.5, 5.5])
    assert axes @ axes.T == pytest.approx(np.eye(3), abs=1e-9)


@pytest.mark.parametrize("up", [UP, -UP])
def test_the_axis_of_a_tooth_as_wide_as_long_is_the_one_nearest_to_its_crown(up: NDArray[Any]) -> None:
    points = np.argwhere(np.ones((8, 9, 10), dtype=bool)).astype(float)
    axes, extents = tooth_axes(points, up + np.array([0.0, 0.3, -0.2]))
    assert axes[0] == pytest.approx(up, abs=1e-6), "although it is the shortest one"
    assert extents == pytest.approx([7, 9, 8]), "the others follow, longest first"


def test_a_long_tooth_that_lies_keeps_its_long_axis() -> None:
    points = np.argwhere(np.ones((8, 9, 20), dtype=bool)).astype(float)
    axes, _ = tooth_axes(points, np.array([0.95, 0.0, -0.3]))
    assert axes[0] == pytest.approx([0, 0, -1], abs=1e-6)


def _drawn(spacing: float, *shapes: Field) -> Body:
    """Shapes of the drawings as a body away from the corner of its array."""
    return body_of(drawn(spacing, *shapes), (slice(7, None), slice(11, None), slice(5, None)))


def _place(at: NDArray[np.float64], spacing: float) -> NDArray[np.float64]:
    """A place of :func:`_drawn` in mm of the shapes."""
    return np.asarray(at - np.array([7, 11, 5]) * spacing + spacing / 2 - (0, 14, 14))


@pytest.mark.parametrize("spacing", [0.25, 0.4, 0.5])
@pytest.mark.parametrize("side", [-1, 1])
def test_a_thin_bar_across_a_tooth_is_found_with_its_reach(spacing: float, side: int) -> None:
    body = _drawn(spacing, stump, bar(9 * side))
    ((points, reach),) = branches_mm(body, (spacing,) * 3, UP)
    assert reach == pytest.approx(9 - 4, abs=0.5), "from the side of the tooth"
    middle = _place(points, spacing).mean(axis=0)
    assert middle == pytest.approx([16, 0, 7.5 * side], abs=0.3), "the last 3 mm of it"


def test_two_bars_are_two_branches_and_a_short_one_is_none() -> None:
    assert len(branches_mm(_drawn(0.5, stump, bar(9), bar(-9)), (0.5,) * 3, UP)) == 2
    assert branches_mm(_drawn(0.5, stump, bar(5.5), bar(-5.5)), (0.5,) * 3, UP) == []
    assert branches_mm(_drawn(0.5, stump), (0.5,) * 3, UP) == []


def _root(lean: float, side: int, off: float = 2.0) -> Field:
    """A root of 11 mm below the crown, ``off`` mm beside its axis, that tapers to a round tip of 1 mm and leans
    sideways by this slope."""

    def inside(z: Any, y: Any, x: Any) -> Any:
        down, out = np.array([1.0, lean]) / np.hypot(1, lean)
        deep, aside = 12 - z, x * side - off
        along, across = deep * down + aside * out, deep * out - aside * down
        core = np.clip(along, 0, 10)
        return across**2 + y**2 + (along - core) ** 2 <= (1.5 - core / 20) ** 2

    return inside


@pytest.mark.parametrize("spacing", [0.3, 0.4, 0.5])
@pytest.mark.parametrize("lean", [0.0, 0.2, 0.4, 0.6])
@pytest.mark.parametrize("turned", [False, True])
def test_thin_roots_along_a_tooth_are_no_branches(lean: float, spacing: float, turned: bool) -> None:
    body = _drawn(spacing, stump, _root(lean, 1), _root(lean, -1))
    if turned:
        body = Body(body.box, body.mask[::-1], body.voxels)
    assert body.mask.shape[0] * spacing > 20, "the roots reach down"
    assert branches_mm(body, (spacing,) * 3, -UP if turned else UP) == []


def test_a_body_that_is_thin_everywhere_has_no_branches() -> None:
    body = _drawn(0.5, lambda z, y, x: (np.hypot(y, x) <= 1.5) & (z <= 20), lambda z, y, x: (z < 2) & (y**2 < 1))
    assert branches_mm(body, (0.5,) * 3, UP) == []


def _bridge(deep: float, lean: float, off: float = 2.0) -> Field:
    """A rod of 1.8 mm between a straight root and one that leans, at this height."""
    end = -(off + (12 - deep) * lean)
    return lambda z, y, x: (z - deep) ** 2 + y**2 + np.maximum(np.maximum(end - x, x - off), 0) ** 2 <= 0.9**2


@pytest.mark.parametrize(("off", "lean", "deep"), [(2.0, 0.5, 5.0), (2.5, 0.6, 2.0)])
@pytest.mark.parametrize("spacing", [0.3, 0.4, 0.5])
def test_roots_that_meet_again_are_no_branch_and_a_bar_from_one_of_them_is(
    spacing: float, off: float, lean: float, deep: float
) -> None:
    roots = _root(0.0, 1, off), _root(lean, -1, off)
    assert branches_mm(_drawn(spacing, stump, *roots, _bridge(deep, lean, off)), (spacing,) * 3, UP) == []
    assert len(branches_mm(_drawn(spacing, stump, *roots, bar(9)), (spacing,) * 3, UP)) == 1


@pytest.mark.parametrize("spacing", [0.25, 0.4, 0.5])
def test_a_tooth_that_tapers_has_no_lump(spacing: float) -> None:
    assert find_lump(_drawn(spacing, tapering), (spacing,) * 3) is None
    assert find_lump(_drawn(spacing, stump, _root(0.2, 1), _root(0.4, -1)), (spacing,) * 3) is None
    assert find_lump(body_of(np.ones((1, 1, 1), bool), (slice(0, 1),) * 3), (spacing,) * 3) is None


@pytest.mark.parametrize("spacing", [0.25, 0.4, 0.5])
@pytest.mark.parametrize("aside", [0.0, 1.5])
def test_a_lump_on_a_tapering_root_is_found_at_its_place(spacing: float, aside: float) -> None:
    found = find_lump(_drawn(spacing, tapering, lump(7, aside)), (spacing,) * 3)
    assert found is not None
    assert np.linalg.norm(_place(found.place, spacing) - (7, aside, 0)) < 1
    assert found.radius_mm == pytest.approx(3, abs=0.5)
    # the root has 1.9 mm where it leaves the ball
    assert found.neck_mm == pytest.approx(1.1, abs=0.4)


@pytest.mark.parametrize("spacing", [0.25, 0.4, 0.5])
def test_a_lump_that_is_thicker_than_the_tooth_is_still_the_lump(spacing: float) -> None:
    def rod(z: Any, y: Any, x: Any) -> Any:
        return (np.hypot(y, x) <= 2.5) & (z >= 4) & (z <= 24)

    found = find_lump(_drawn(spacing, rod, lump(14, 5.8, 4.0)), (spacing,) * 3)
    assert found is not None and found.radius_mm == pytest.approx(4, abs=0.4)
    assert np.linalg.norm(_place(found.place, spacing) - (14, 5.8, 0)) < 1


@pytest.mark.parametrize("spacing", [0.3, 0.5])
def test_a_flat_root_that_gets_thicker_is_wider_in_one_direction_only(spacing: float) -> None:
    def flat(z: Any, y: Any, x: Any) -> Any:
        return ((y / 4) ** 2 + (x / 2) ** 2 <= 1) & (z >= 2) & (z <= 24)

    body = _drawn(spacing, flat, lambda z, y, x: (z - 8) ** 2 + y**2 + (x - 2.5) ** 2 <= 4)
    place, grown = root_spread_mm(body, (spacing,) * 3, UP, each_way=True)
    assert grown == pytest.approx(2.5, abs=0.6)
    assert np.linalg.norm(_place(place, spacing) - (8, 0, 3.5)) < 1.5
    assert root_spread_mm(body, (spacing,) * 3, UP)[1] < 0.5
    assert root_spread_mm(_drawn(spacing, flat), (spacing,) * 3, UP, each_way=True)[1] < 0.5
