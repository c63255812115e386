"""Measures of drawn teeth against the truth of the drawing, and of drawings made by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ToothTopoSegLib.anatomy.sizes import size_of
from ToothTopoSegLib.imaging.canonical import to_canonical
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.measurements.axis import long_axis_of
from ToothTopoSegLib.measurements.cervix import cervix_from_enamel, cervix_from_shape, expected_cervix
from ToothTopoSegLib.measurements.distances import side_neighbours
from ToothTopoSegLib.measurements.frame import arch_frame, inclination
from ToothTopoSegLib.measurements.teeth import measured
from ToothTopoSegLib.phantom.arch import draw_dentition
from ToothTopoSegLib.phantom.measures import drawn_labels, root_tips, true_measures
from ToothTopoSegLib.topology.arch import Arch

SEED = 50_005
SPACING = 0.4


@pytest.fixture(scope="module")
def dentition():
    """Of each type of tooth the right upper and the left lower one, in turn, and two that show where the midline is."""
    whole = draw_dentition(np.random.default_rng(SEED))
    chosen = {11, 32, 13, 34, 15, 36, 17, 38, 21, 45}
    return replace(whole, teeth=tuple(tooth for tooth in whole.teeth if tooth.fdi in chosen))


@pytest.fixture(scope="module")
def labels(dentition):
    return drawn_labels(dentition, SPACING)


@pytest.fixture(scope="module")
def measures(labels):
    return {tooth.fdi: tooth for tooth in measured(labels)}


@pytest.fixture(scope="module")
def truth(dentition):
    return {tooth.fdi: true_measures(tooth, dentition) for tooth in dentition.teeth}


# ---- against the truth of the drawing


def test_lengths_are_within_half_a_millimetre_for_every_type_of_tooth(measures, truth):
    assert {fdi % 10 for fdi in truth} == set(range(1, 9))
    assert {fdi: measures[fdi].length for fdi in truth} == pytest.approx(
        {fdi: true.length for fdi, true in truth.items()}, abs=0.5
    )


def test_long_axes_are_within_two_degrees_for_every_type_of_tooth(measures, truth):
    angles = {fdi: np.degrees(np.arccos(np.dot(measures[fdi].axis, true.axis))) for fdi, true in truth.items()}
    assert max(angles.values()) < 2, angles


def test_tip_and_torque_against_the_fitted_arch_are_within_two_degrees_on_the_mean(measures, truth):
    tips = [abs(measures[fdi].tip - true.tip) for fdi, true in truth.items()]
    torques = [abs(measures[fdi].torque - true.torque) for fdi, true in truth.items()]
    assert np.mean(tips) < 2 and np.mean(torques) < 2


def test_tip_and_torque_are_within_two_degrees_for_every_type_of_tooth(measures, truth):
    away = {fdi: (measures[fdi].tip - true.tip, measures[fdi].torque - true.torque) for fdi, true in truth.items()}
    assert np.abs(list(away.values())).max() < 2, away


def test_the_cervix_is_found_from_shape_within_a_millimetre_on_the_mean(measures, truth):
    away = [abs(measures[fdi].crown_length - true.crown_length) for fdi, true in truth.items()]
    assert np.mean(away) < 1 and {measures[fdi].cervix_from for fdi in truth} == {"shape"}


def test_volumes_are_those_of_the_labels(measures, labels):
    for fdi, tooth in measures.items():
        assert tooth.volume == pytest.approx(np.count_nonzero(labels.array == fdi) * SPACING**3)


def test_measures_do_not_depend_on_how_the_array_is_stored(labels):
    front = [fdi for fdi in np.unique(labels.array) if fdi % 10 in (1, 2) and fdi < 30]
    part = Volume(np.where(np.isin(labels.array, front), labels.array, 0), labels.spacing, labels.origin)
    turned = Volume(
        np.ascontiguousarray(part.array.transpose(2, 0, 1)[::-1]),
        part.spacing,
        tuple(part.index_to_lps(np.array([0, 0, part.array.shape[2] - 1]))),
        ((0.0, 0.0, -1.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)),
    )
    assert np.array_equal(to_canonical(turned).array, part.array)
    for one, other in zip(measured(part), measured(turned), strict=True):
        assert one.length == pytest.approx(other.length, abs=1e-6)
        assert one.axis == pytest.approx(other.axis, abs=1e-6)


def test_the_tips_of_all_roots_are_found(dentition, labels):
    for tooth in dentition.teeth:
        index = np.argwhere(labels.array == tooth.fdi)
        up = np.array([0.0, 0.0, -1.0 if tooth.fdi < 30 else 1.0])
        found = long_axis_of(index, labels.index_to_lps(index), SPACING, up).tips
        true = tooth.cervix + root_tips(tooth) @ tooth.axes
        apart = np.linalg.norm(found[:, None] - true[None], axis=2)
        assert len(found) == len(true) and apart.min(axis=0).max() < 1.0


@pytest.mark.parametrize(("notch_voxels", "tips"), [(1, 1), (4, 2)])
def test_roots_that_part_only_near_their_ends_are_two_and_a_ripple_is_none(notch_voxels, tips):
    tooth = np.zeros((60, 12, 20), bool)
    tooth[:, 2:10, 2:18] = True
    tooth[:notch_voxels, :, 9:11] = False
    index = np.argwhere(tooth)
    axis = long_axis_of(index, index[:, ::-1] * 0.25, 0.25, np.array([0.0, 0.0, 1.0]))
    assert len(axis.tips) == tips
    assert np.degrees(np.arccos(axis.direction[2])) < 1


# ---- angles and sides


def test_angles_are_positive_towards_mesial_and_the_cheek():
    left, back, up = np.eye(3)
    # an upper right molar: mesial is forwards, the cheek to the right
    crown = np.array([-np.sin(np.radians(10)), -np.sin(np.radians(20)), -0.9])
    turned = inclination(crown, mesial=-back, buccal=-left, occlusal=-up)
    assert turned.tip == pytest.approx(np.degrees(np.arctan2(np.sin(np.radians(20)), 0.9)))
    assert turned.torque == pytest.approx(np.degrees(np.arctan2(np.sin(np.radians(10)), 0.9)))


def test_a_tooth_that_lies_down_shows_one_of_its_angles_only():
    left, back, up = np.eye(3)

    def lying(degrees: float, way: np.ndarray) -> np.ndarray:
        return np.cos(np.radians(degrees)) * up + np.sin(np.radians(degrees)) * way

    to_mesial, to_the_cheek, leaning = (
        inclination(lying(d, way), mesial=-back, buccal=left, occlusal=up)
        for d, way in ((60, -back), (60, left), (40, -back))
    )
    assert to_mesial.tip == pytest.approx(60) and to_mesial.torque is None
    assert to_the_cheek.torque == pytest.approx(60) and to_the_cheek.tip is None
    assert leaning.tip == pytest.approx(40) and leaning.torque == pytest.approx(0)


def test_the_frame_of_an_arch_points_to_the_midline_and_outwards():
    angle = np.linspace(-np.pi / 2, np.pi / 2, 91)
    line = np.stack([25 * np.sin(angle), -35 * np.cos(angle), np.zeros(91)], 1)
    steps = np.linalg.norm(np.diff(line, axis=0), axis=1)
    along = np.concatenate([[0], np.cumsum(steps)]) - steps.sum() / 2
    up = np.array([0.0, 0.0, 1.0])
    arch = Arch(line, along, up)
    mesial, buccal, occlusal = arch_frame(arch, np.array([24.0, -8.0, 3.0]), up, upper=False)
    assert mesial[1] < -0.8 and buccal[0] > 0.8 and np.array_equal(occlusal, up)
    mesial, buccal, occlusal = arch_frame(arch, np.array([-3.0, -35.0, 3.0]), up, upper=True)
    assert mesial[0] > 0.9 and buccal[1] < -0.9 and np.array_equal(occlusal, -up)


@pytest.mark.parametrize(
    ("fdi", "there", "mesial", "distal"),
    [
        (11, (11, 12, 21), (21,), (12,)),
        (21, (11, 12, 21), (11,), ()),
        (36, (34, 36, 37, 46, 25), (34,), (37,)),  # the lost 35 is passed over
        (16, (16, 15, 55, 26), (15, 55), ()),  # a milk tooth above its successor
        (48, (48, 18, 38), (38,), ()),
    ],
)
def test_neighbours_are_the_next_teeth_that_are_there(fdi, there, mesial, distal):
    assert side_neighbours(fdi, there) == (mesial, distal)


# ---- drawings made by hand


def blocks(**geometry):
    """35 and 36 touch, 37 stands three voxels of 0.5 mm away; a canal lies four voxels under 36."""
    array = np.zeros((40, 20, 44), np.uint8)
    array[12:36, 6:14, 4:12], array[12:36, 6:14, 12:20], array[12:36, 6:14, 23:31] = 35, 36, 37
    canal = np.zeros(array.shape, dtype=bool)
    canal[5:8, 8:12, :] = True
    labels = Volume(array, (0.5, 0.5, 0.5), **geometry)
    return labels, labels.with_array(canal)


def test_distances_are_those_of_the_surfaces():
    labels, canal = blocks()
    by_number = {tooth.fdi: tooth for tooth in measured(labels, canal=canal)}
    assert by_number[36].mesial == 35 and by_number[36].mesial_distance == 0.0
    assert by_number[36].distal == 37 and by_number[36].distal_distance == pytest.approx(1.5, abs=0.25)
    assert by_number[37].mesial_distance == by_number[36].distal_distance
    assert by_number[36].canal_distance == pytest.approx(2.0, abs=0.25)
    assert by_number[37].distal is None and by_number[37].distal_distance is None


def test_without_a_labelled_canal_there_is_no_distance_to_it():
    labels, canal = blocks()
    assert measured(labels)[0].canal_distance is None
    assert measured(labels, canal=canal.with_array(np.zeros_like(canal.array)))[0].canal_distance is None


def test_of_a_tooth_cut_by_the_border_only_volume_and_distances_are_told():
    array = np.zeros((24, 20, 30), np.uint8)
    array[10:24, 6:14, 4:12], array[4:20, 6:14, 14:22] = 46, 47
    cut, whole = measured(Volume(array, (0.5, 0.5, 0.5)))
    assert cut.cut and cut.length is None and cut.axis is None and cut.volume > 0 and cut.distal == 47
    assert not whole.cut and whole.length == pytest.approx(8.0, abs=0.5) and whole.crown_root_ratio > 0


def test_crumbs_are_not_measured_as_teeth():
    array = np.zeros((16, 16, 16), np.uint8)
    array[8, 8, 8] = 11
    (crumb,) = measured(Volume(array, (0.5, 0.5, 0.5)))
    assert crumb.length is None and crumb.volume == pytest.approx(0.125)


# ---- the cervix


def column_of_voxels():
    """A tooth 20 mm long: heights (n,) of voxels of 0.3 mm, a thin root below 12.6 mm, a crown that widens above."""
    z, y, x = np.mgrid[0:66, -20:21, -20:21] * 0.3
    radius = np.where(z < 12.6, 2.0 + 0.02 * z, 2.25 + 1.6 * np.sin(np.clip((z - 12.6) / 4, 0, 1) * np.pi / 2))
    inside = np.hypot(x, y) < radius
    outer = np.hypot(x, y) > radius - 0.8
    return z[inside] + 0.15, outer[inside]


def test_the_cervix_is_where_the_tooth_begins_to_widen():
    heights, _ = column_of_voxels()
    assert expected_cervix(13, 20.0) == pytest.approx(20 * size_of(13).root_length / size_of(13).length)
    assert cervix_from_shape(13, heights, 20.0, 0.027) == pytest.approx(12.6, abs=0.6)


def test_with_the_scan_the_cervix_is_where_enamel_begins():
    heights, outer = column_of_voxels()
    rng = np.random.default_rng(0)
    grey = rng.normal(1500, 80, len(heights)) + 900 * ((heights > 11.5) & outer)
    assert cervix_from_enamel(12.6, heights, 20.0, grey, outer) == pytest.approx(11.5, abs=0.4)


@pytest.mark.parametrize("grey", [lambda h: np.full(len(h), 7), lambda h: np.where(h < 9, 3000, 1500)])
def test_where_no_enamel_shows_nothing_is_told_of_it(grey):
    heights, outer = column_of_voxels()
    assert cervix_from_enamel(12.6, heights, 20.0, grey(heights), outer) is None
