"""The occlusal plane and the arch against which teeth are inclined, on drawings made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from ToothTopoSegLib.measurements.frame import CrownTop, arch_frame, arch_through, occlusal_up
from ToothTopoSegLib.topology.arch import Arch, Arches

UP = np.array([0.0, 0.0, 1.0])
BACK = np.array([0.0, 1.0, 0.0])
TILTED = np.array([np.sin(np.radians(4)), 0.0, np.cos(np.radians(4))])


def curve(half_width=28.0, depth=36.0, steps=37, middle=0.0):
    """Half an ellipse that is open to the back, from the patient's right to the left."""
    angle = np.linspace(-np.pi / 2, np.pi / 2, steps)
    line = np.stack([half_width * np.sin(angle) + middle, -depth * np.cos(angle), np.zeros(steps)], 1)
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    return Arch(line, along - along[steps // 2], UP)


def arches(lower=None):
    return Arches(np.stack([np.array([1.0, 0.0, 0.0]), BACK, UP]), np.zeros(3), curve(), lower, (), 0.0, True)


def tops_on(normal, numbers, upper=True):
    """Tops of crowns around the arch on the plane through the origin with this normal."""
    angle = np.radians(np.linspace(-80, 80, len(numbers)))
    flat = np.stack([28 * np.sin(angle), -36 * np.cos(angle)], 1)
    heights = -(flat @ normal[:2]) / normal[2]
    return [CrownTop(fdi, upper, np.array([x, y, z])) for fdi, (x, y), z in zip(numbers, flat, heights, strict=True)]


ROW = (17, 16, 15, 14, 13, 12, 11, 21, 22, 23, 24, 25, 26, 27)


def degrees(one, other):
    return float(np.degrees(np.arccos(np.clip(one @ other, -1, 1))))


def test_the_occlusal_plane_is_that_of_the_crowns_and_not_of_the_rough_fit():
    assert degrees(occlusal_up(arches(), tops_on(TILTED, ROW)), TILTED) < 0.3


def test_two_jaws_make_one_plane_each_with_one_normal():
    lower = [
        CrownTop(top.fdi + 20, False, top.point - 6 * TILTED) for top in tops_on(TILTED, ROW) if top.fdi in (16, 11, 26)
    ]
    assert degrees(occlusal_up(arches(curve()), [*tops_on(TILTED, ROW), *lower]), TILTED) < 0.3


def test_third_molars_and_teeth_that_lie_deep_have_no_say_in_the_plane():
    tops = tops_on(TILTED, ROW)
    lying = [
        CrownTop(18, True, tops[0].point + 9 * BACK + 3 * UP),
        CrownTop(28, True, tops[-1].point + 9 * BACK - 3 * UP),
    ]
    assert np.allclose(occlusal_up(arches(), [*tops, *lying]), occlusal_up(arches(), tops))
    deep = [CrownTop(t.fdi, True, t.point + 9 * UP) if t.fdi == 23 else t for t in tops]
    assert degrees(occlusal_up(arches(), deep), TILTED) < 0.5


def test_too_few_crowns_leave_the_plane_as_it_was():
    assert np.array_equal(occlusal_up(arches(), tops_on(TILTED, (16, 18, 11))[:2]), UP)
    assert np.array_equal(occlusal_up(arches(), []), UP)


def test_a_row_on_a_line_turns_the_plane_only_across_it():
    straight = [CrownTop(fdi, True, np.array([x, 0.0, 0.0])) for fdi, x in ((14, -20.0), (15, -28.0), (16, -36.0))]
    assert degrees(occlusal_up(arches(), straight), UP) < 0.1


@pytest.mark.parametrize("true", [curve(29.0, 36.0), curve(28.0, 38.0), curve(middle=0.7)])
def test_the_arch_is_drawn_through_the_crowns(true):
    points = true.line[1:-1:3]
    before, after = (np.abs(arch.place(points)[1]).mean() for arch in (curve(), arch_through(curve(), BACK, points)))
    assert after < before / 2


def test_an_arch_that_fits_stays_and_one_tooth_far_off_bends_it_little():
    points = curve().line[2:-2:3].copy()
    assert np.allclose(arch_through(curve(), BACK, points).line, curve().line, atol=0.05)
    points[4] += (4.0, -4.0, 0.0)
    assert np.linalg.norm(arch_through(curve(), BACK, points).line - curve().line, axis=1).max() < 1.0


def test_the_direction_of_the_arch_turns_evenly_between_its_vertices():
    fine, coarse = curve(steps=721), curve(steps=37)
    for angle in np.radians(np.arange(-60, 61, 7)):
        point = np.array([29 * np.sin(angle), -37 * np.cos(angle), 4.0])
        mesials = [arch_frame(arch, point, UP, upper=True)[0] for arch in (fine, coarse)]
        assert degrees(*mesials) < 1.0
