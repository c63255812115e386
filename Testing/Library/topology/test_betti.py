"""Betti numbers against shapes drawn by hand and against gudhi's cubical complexes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from Testing.Library.topology.drawings import Mask, ball, double_ring, linked_rings, ring
from ToothTopoSegLib.anatomy.fdi import LOWER_JAW
from ToothTopoSegLib.topology import betti
from ToothTopoSegLib.topology.betti import betti_numbers, bodies, body_at, box_around, tooth_topology, voids


def _gudhi(mask: Mask, connectivity: int) -> tuple[int, int, int]:
    import gudhi

    field = np.where(np.pad(mask, 1), 0.0, 1.0)
    complex_ = gudhi.CubicalComplex(**{"top_dimensional_cells" if connectivity == 26 else "vertices": field})
    complex_.compute_persistence()
    b0, b1, b2 = [*complex_.persistent_betti_numbers(0.0, 0.5), 0, 0, 0][:3]
    return b0, b1, b2


def _diagonal(*places: tuple[int, int, int]) -> Mask:
    mask = np.zeros((4, 4, 4), dtype=bool)
    mask[tuple(np.array(places).T)] = True
    return mask


def _brick(*holes: slice) -> Mask:
    """A brick 12 high with a hole through its thickness at each of these heights: roots that have grown together."""
    mask = np.ones((12, 4, 7), dtype=bool)
    for hole in holes:
        mask[hole, :, 2:5] = False
    return mask


SHAPES = {
    "nothing": (np.zeros((3, 3, 3), dtype=bool), (0, 0, 0), (0, 0, 0)),
    "a single voxel": (np.ones((1, 1, 1), dtype=bool), (1, 0, 0), (1, 0, 0)),
    "a full array": (np.ones((3, 4, 5), dtype=bool), (1, 0, 0), (1, 0, 0)),
    "a ball": (ball(6), (1, 0, 0), (1, 0, 0)),
    "a hollow ball": (ball(6) & ~ball(3), (1, 0, 1), (1, 0, 1)),
    "a ball in a hollow ball": (ball(6) & ~ball(4.5) | ball(2), (2, 0, 1), (2, 0, 1)),
    "a ring": (ring(), (1, 1, 0), (1, 1, 0)),
    "a double ring": (double_ring(), (1, 2, 0), (1, 2, 0)),
    "a tooth with fused roots": (_brick(slice(2, 6)), (1, 1, 0), (1, 1, 0)),
    "a tooth with open roots": (_brick(slice(0, 6)), (1, 0, 0), (1, 0, 0)),
    "a double torus": (_brick(slice(2, 5), slice(7, 10)), (1, 2, 0), (1, 2, 0)),
    "two linked rings": (linked_rings(), (2, 2, 0), (2, 2, 0)),
    "voxels meeting at an edge": (_diagonal((0, 0, 0), (0, 1, 1)), (1, 0, 0), (2, 0, 0)),
    "voxels meeting at a corner": (_diagonal((0, 0, 0), (1, 1, 1)), (1, 0, 0), (2, 0, 0)),
    "voxels one apart": (_diagonal((0, 0, 0), (0, 0, 2)), (2, 0, 0), (2, 0, 0)),
    "a diamond of voxels meeting at edges": (
        _diagonal((0, 0, 1), (0, 1, 0), (0, 1, 2), (0, 2, 1)),
        (1, 1, 0),
        (4, 0, 0),
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_drawn_by_hand_has_its_betti_numbers(name: str) -> None:
    mask, closed, open_ = SHAPES[name]
    assert betti_numbers(mask) == closed
    assert betti_numbers(mask, connectivity=6) == open_
    assert _gudhi(mask, 26) == closed and _gudhi(mask, 6) == open_


def test_a_closed_torus_shell_has_two_tunnels_and_a_void() -> None:
    z, y, x = np.indices((13, 25, 25)) - np.array([6, 12, 12])[:, None, None, None]
    tube = np.hypot(np.hypot(y, x) - 8, z)
    assert betti_numbers(tube <= 3.5) == (1, 1, 0)
    assert betti_numbers((tube <= 3.5) & (tube > 1.5)) == (1, 2, 1)


@settings(max_examples=150, deadline=None)
@given(mask=arrays(bool, st.tuples(*[st.integers(1, 6)] * 3)), connectivity=st.sampled_from([26, 6]))
def test_any_array_has_the_betti_numbers_gudhi_finds(mask: Mask, connectivity: int) -> None:
    assert betti_numbers(mask, connectivity) == _gudhi(mask, connectivity)


@pytest.mark.parametrize("density", [0.05, 0.2, 0.5, 0.8, 0.95])
@pytest.mark.parametrize("connectivity", [26, 6])
def test_noise_of_any_density_has_the_betti_numbers_gudhi_finds(density: float, connectivity: int) -> None:
    mask = np.random.default_rng(7).random((14, 15, 16)) < density
    assert betti_numbers(mask, connectivity) == _gudhi(mask, connectivity)


@pytest.mark.parametrize("connectivity", [26, 6])
def test_scattered_voxels_are_joined_like_dense_ones(monkeypatch: pytest.MonkeyPatch, connectivity: int) -> None:
    mask = np.random.default_rng(3).random((12, 13, 14)) < 0.12
    dense = bodies(mask, connectivity, (5, 6, 7))
    monkeypatch.setattr(betti, "_SPARSE_FROM", 0)
    monkeypatch.setattr(betti, "_SPARSE_BELOW", 1.0)
    scattered = bodies(mask, connectivity, (5, 6, 7))
    assert [b.box for b in scattered] == [b.box for b in dense]
    assert all(np.array_equal(a.mask, b.mask) for a, b in zip(scattered, dense, strict=True))


def test_a_large_array_with_nothing_in_it_has_no_bodies() -> None:
    assert bodies(np.zeros((80, 80, 80), dtype=bool)) == ()


def test_a_large_array_with_crumbs_in_all_corners_takes_the_way_for_scattered_voxels() -> None:
    mask = np.zeros((100, 100, 100), dtype=bool)
    mask[::99, ::99, ::99] = True
    mask[40:50, 40:50, 40:50] = True
    mask[44, 44, 44] = False
    assert betti_numbers(mask) == (9, 0, 1)


def test_bodies_come_largest_first_with_their_place_in_the_whole_array() -> None:
    mask = np.zeros((9, 9, 9), dtype=bool)
    mask[1, 1, 1] = True
    mask[4:7, 3:5, 2:8] = True
    large, small = bodies(mask, offset=(10, 20, 30))
    assert (large.voxels, small.voxels) == (36, 1)
    assert large.box == (slice(14, 17), slice(23, 25), slice(32, 38))
    assert large.centroid == (15.0, 23.5, 34.5)
    assert small.indices.tolist() == [[11, 21, 31]]


def test_a_body_is_found_again_from_its_voxels_in_any_order() -> None:
    places = np.array([[4, 9, 2], [3, 7, 2], [4, 9, 2], [3, 8, 5]])
    body = body_at(places)
    assert body.box == (slice(3, 5), slice(7, 10), slice(2, 6))
    assert body.voxels == 3 and body.mask.shape == (2, 3, 4), "a voxel that is named twice is one"
    assert sorted(body.indices.tolist()) == [[3, 7, 2], [3, 8, 5], [4, 9, 2]]


@given(arrays(bool, st.tuples(*[st.integers(1, 5)] * 3)).filter(np.any))
def test_the_voxels_of_any_mask_make_its_body(mask: Mask) -> None:
    whole = np.zeros((9, 9, 9), dtype=bool)
    whole[2 : 2 + mask.shape[0], 3 : 3 + mask.shape[1], 4 : 4 + mask.shape[2]] = mask
    body = body_at(np.argwhere(whole))
    assert body.voxels == np.count_nonzero(mask) == np.count_nonzero(whole[body.box])
    assert np.array_equal(whole[body.box], body.mask)
    assert np.array_equal(body.indices, np.argwhere(whole))


def test_the_box_around_bodies_holds_all_of_them_and_a_margin() -> None:
    one, other = body_at(np.array([[4, 5, 6], [5, 5, 6]])), body_at(np.array([[2, 9, 6]]))
    assert box_around([one]) == one.box
    assert box_around([one, other]) == (slice(2, 6), slice(5, 10), slice(6, 7))
    assert box_around((body for body in (other, one)), margin=2) == (slice(0, 8), slice(3, 12), slice(4, 9))
    assert np.zeros((9, 9, 9))[box_around([])].size == 0, "around nothing there is nothing"


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(("place", "reaches"), [(0, True), (1, False), (6, False), (7, True)])
def test_a_body_reaches_the_border_where_it_touches_any_face_of_the_array(axis: int, place: int, reaches: bool) -> None:
    voxel = [3, 3, 3]
    voxel[axis] = place
    shape = [20, 20, 20]
    shape[axis] = 8
    assert body_at(np.array([voxel])).reaches_border(shape) is reaches


def test_a_void_knows_its_place_and_one_that_opens_at_a_face_is_none() -> None:
    mask = np.ones((7, 7, 7), dtype=bool)
    mask[3, 3, 2:5] = False
    (body,) = bodies(mask, offset=(1, 2, 3))
    (void,) = voids(body)
    assert void.voxels == 3 and void.centroid == (4.0, 5.0, 6.0)
    mask[3, 3, 5:] = False
    assert voids(bodies(mask)[0]) == ()


def test_a_void_that_leaks_over_a_corner_is_closed_to_the_6_connected_background_only() -> None:
    mask = np.ones((4, 4, 4), dtype=bool)
    mask[1, 1, 1] = mask[0, 0, 0] = False
    assert betti_numbers(mask) == (1, 0, 1)
    assert betti_numbers(mask, connectivity=6) == (1, 0, 0)


def test_the_topology_of_each_tooth_is_its_own_whatever_lies_around_it() -> None:
    labels = np.full((20, 20, 20), 101, dtype=np.uint8)
    labels[2:9, 2:9, 2:9] = 36
    labels[5, 5, 5] = 0
    labels[9:16, 2:9, 2:9] = 37
    labels[18, 18, 18] = 36
    found = tooth_topology(labels)
    assert list(found) == [36, 37]
    assert found[36].betti == (2, 0, 1) and found[37].betti == (1, 0, 0)
    assert found[37].centroid == (12.0, 5.0, 5.0) and found[37].voxels == 343
    assert found[36].voxels == 343 - 1 + 1
    assert np.allclose(found[36].centroid, np.argwhere(labels == 36).mean(axis=0))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int32, np.int64])
def test_label_maps_of_every_integer_type_and_memory_layout_are_understood(dtype: type) -> None:
    labels = np.zeros((8, 9, 10), dtype=dtype)
    labels[1:4, 2:5, 3:6] = 11
    turned = np.asfortranarray(labels)[::-1].transpose(2, 0, 1)
    assert tooth_topology(labels)[11].betti == tooth_topology(turned)[11].betti == (1, 0, 0)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="boolean array"):
        betti_numbers(np.zeros((3, 3, 3)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="boolean array"):
        betti_numbers(np.zeros((3, 3), dtype=bool))
    with pytest.raises(ValueError, match="26 or 6"):
        betti_numbers(np.zeros((3, 3, 3), dtype=bool), connectivity=18)


def test_teeth_have_the_same_topology_and_places_with_and_without_the_jaws_around_them() -> None:
    labels = np.zeros((12, 14, 16), dtype=np.uint8)
    labels[3:8, 4:9, 5:10], labels[5, 6, 7], labels[9:11, 11, 12] = 36, 0, 47
    jaws = np.where(labels == 0, np.uint8(LOWER_JAW), labels)
    jaws[0, :, 3] = 0
    plain, among = tooth_topology(labels), tooth_topology(jaws)
    assert list(plain) == list(among) == [36, 47]
    for fdi, tooth in plain.items():
        assert (among[fdi].betti, among[fdi].centroid) == (tooth.betti, tooth.centroid)
        assert [body.box for body in (*among[fdi].bodies, *among[fdi].voids)] == [
            body.box for body in (*tooth.bodies, *tooth.voids)
        ]
    assert tooth_topology(np.full((3, 3, 3), LOWER_JAW, np.uint8)) == {}
