"""Distances between surfaces: against those of all pairs of points, of smooth meshes, and of drawings made by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from ToothTopoSegLib.imaging.boxes import label_boxes
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.measurements.distances import Surface, apart, between, nearest, surface_of
from ToothTopoSegLib.phantom.arch import draw_dentition
from ToothTopoSegLib.phantom.measures import drawn_labels
from ToothTopoSegLib.surfaces.mesh import tooth_surface

SPACING = 0.4


def surfaces_of(labels):
    return {value: surface_of(labels, value, box) for value, box in label_boxes(labels.array).items()}


def balls(*places, radius=9, spacing=(0.3, 0.3, 0.3)):
    """Balls of ``radius`` voxels about (z, y, x), numbered 11, 12 and so on."""
    z, y, x = np.mgrid[0:50, 0:40, 0:60]
    array = np.zeros(z.shape, np.uint8)
    for number, (k, j, i) in enumerate(places, start=11):
        array[(z - k) ** 2 + (y - j) ** 2 + (x - i) ** 2 <= radius**2] = number
    return Volume(array, spacing)


def test_distances_are_those_of_the_smooth_meshes_within_half_a_voxel():
    whole = draw_dentition(np.random.default_rng(50_005))
    some = {11, 12, 21, 16, 17, 36, 38}
    labels = drawn_labels(replace(whole, teeth=tuple(tooth for tooth in whole.teeth if tooth.fdi in some)), SPACING)
    surfaces = surfaces_of(labels)
    pairs = [(one, other) for one in surfaces for other in surfaces if one < other]
    apart_pairs = [pair for pair in pairs if pair[1] not in surfaces[pair[0]].beside]
    vertices = {fdi: tooth_surface(labels, fdi).vertices for fdi in surfaces}
    assert len(apart_pairs) > 15
    for one, other in apart_pairs:
        mesh = min(float(cdist(vertices[one], some[None]).min()) for some in vertices[other])
        assert between(one, other, surfaces) == pytest.approx(mesh, abs=SPACING / 2), (one, other)


@pytest.mark.parametrize("seed", range(6))
def test_looking_only_where_it_can_be_nearest_finds_the_nearest(seed):
    rng = np.random.default_rng(seed)
    clouds = [rng.normal(rng.uniform(-8, 8, 3), rng.uniform(0.5, 4, 3), (count, 3)) for count in (400, 900)]
    one, other = (Surface(cloud, frozenset()) for cloud in clouds)
    assert apart(one, other) == pytest.approx(float(cdist(*clouds).min()), abs=1e-9)
    assert apart(other, one) == apart(one, other)


@given(st.tuples(*[st.floats(-9, 9)] * 6))
def test_two_points_are_as_far_apart_as_they_are_however_that_is_rounded(places):
    one, other = (Surface(np.array([places[i : i + 3]]), frozenset()) for i in (0, 3))
    assert apart(one, other) == pytest.approx(float(np.linalg.norm(one.points - other.points)), abs=1e-9)


def test_the_distance_of_balls_is_that_of_their_centres_less_their_radii():
    labels = balls((20, 20, 14), (28, 24, 40))
    true = 0.3 * (np.linalg.norm((8, 4, 26)) - 2 * 9)
    assert between(11, 12, surfaces_of(labels)) == pytest.approx(true, abs=0.15)


def test_between_flat_walls_the_distance_is_exact_along_every_axis():
    for axis, step in enumerate((0.3, 0.5, 0.4)):
        array = np.zeros((24, 24, 24), np.uint8)
        along = np.moveaxis(array, axis, 0)
        along[3:9, 5:19, 5:19], along[13:20, 5:19, 5:19] = 31, 32
        surfaces = surfaces_of(Volume(array, (0.3, 0.5, 0.4)))
        assert between(31, 32, surfaces) == pytest.approx(4 * step, abs=1e-6)


def test_teeth_whose_voxels_share_a_face_touch_and_those_that_meet_in_an_edge_do_not():
    array = np.zeros((12, 12, 12), np.uint8)
    array[3:6, 3:6, 3:6], array[3:6, 3:6, 6:9], array[6:9, 3:6, 9:11] = 11, 12, 13
    surfaces = surfaces_of(Volume(array, (0.5,) * 3))
    assert surfaces[12].beside == {11} and between(11, 12, surfaces) == 0.0
    # sharp edges are rounded, as they are on a mesh
    assert 0.0 < between(12, 13, surfaces) < 0.75


def test_the_nearest_of_several_is_told_with_its_distance():
    surfaces = surfaces_of(balls((20, 20, 12), (20, 20, 50), (38, 20, 26)))
    assert nearest(11, (12, 13), surfaces) == (13, between(11, 13, surfaces))
    assert nearest(11, (), surfaces) is None


def test_a_single_voxel_has_a_surface():
    array = np.zeros((7, 7, 12), np.uint8)
    array[3, 3, 2], array[3, 3, 8] = 21, 22
    assert between(21, 22, surfaces_of(Volume(array, (0.5,) * 3))) == pytest.approx(2.5, abs=0.51)
