"""Stacks of sections: distances against bodies whose distance is known, outlines, unions and intersections."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ToothTopoSegLib.phantom.sections import COS, DIRECTIONS, SIN, Outline, Stack, join, meet

LEVELS = 41
distances = st.floats(-5, 5)


def stack(radius: np.ndarray, low: float = -5.0, step: float = 0.25) -> Stack:
    """A straight stack of circles with the given radii."""
    return Stack(low, step, np.zeros((len(radius), 2)), np.repeat(radius[:, None], DIRECTIONS, 1))


def outline(**changes: float) -> Outline:
    sizes = {"mesial": 4.0, "distal": 3.0, "buccal": 5.0, "lingual": 2.0, "power": 2.0, "taper": 0.0, "shear": 0.0}
    return Outline(**{name: np.full(1, value) for name, value in (sizes | changes).items()})


def test_the_distance_to_a_cylinder_is_exact():
    cylinder = stack(np.full(LEVELS, 3.0))
    u = np.array([0.5, 2.0, 5.0, 0.0, 3.0])
    v = np.array([0.0, 0.0, 0.0, 4.0, 4.0])
    assert cylinder.distance(u, v, np.zeros(5)) == pytest.approx(np.hypot(u, v) - 3, abs=1e-3)


def test_the_distance_to_a_cone_is_measured_across_its_slanting_wall():
    cone = stack(1 + 0.1 * np.arange(LEVELS))
    slope = 0.1 / 0.25
    away = np.array([5.0, 6.0])
    w = np.zeros(2)
    wall = 1 + slope * 5
    assert cone.distance(away, np.zeros(2), w) == pytest.approx((away - wall) / np.hypot(1, slope), abs=0.02)


def test_below_its_lowest_section_a_stack_ends():
    cylinder = stack(np.full(LEVELS, 3.0))
    assert cylinder.distance(np.zeros(1), np.zeros(1), np.array([-7.0])) == pytest.approx([2.0])


def test_a_bent_centre_line_carries_its_sections_along():
    bent = stack(np.full(LEVELS, 2.0))
    bent.centre[:, 1] = 0.2 * (np.arange(LEVELS) * 0.25)
    at = np.array([0.0]), np.array([0.2 * 5.0]), np.array([0.0])
    assert bent.distance(*at) < -1.7


def test_an_outline_reaches_its_half_axes_to_the_four_sides():
    radius = outline().radii()[0]
    quarter = DIRECTIONS // 4
    assert radius[::quarter] == pytest.approx([4.0, 5.0, 3.0, 2.0], abs=0.01)


def test_a_larger_exponent_fills_the_corners_and_a_taper_narrows_the_lingual_half():
    corner, lingual = DIRECTIONS // 8, 5 * DIRECTIONS // 8
    round_one, square, tapered = (outline(**c).radii()[0] for c in ({}, {"power": 4.0}, {"taper": 0.3}))
    assert square[corner] > 1.1 * round_one[corner]
    assert tapered[lingual] < 0.97 * round_one[lingual]


def test_shear_makes_a_rhomboid_with_the_buccal_half_to_mesial():
    radius = outline(mesial=4, distal=4, buccal=4, lingual=4, shear=0.2).radii()[0]
    corners = radius[[DIRECTIONS // 8, 3 * DIRECTIONS // 8]]
    assert corners[0] > 1.1 * corners[1]
    assert (radius * COS).max() > 4 and (radius * SIN).max() == pytest.approx(4, abs=0.02)


@given(distances, distances, st.floats(0.1, 2))
def test_joined_bodies_hold_both_and_a_fillet_adds_no_more_than_a_quarter_of_its_width(one, other, fillet):
    joined = float(join(np.array(one), np.array(other), fillet))
    assert min(one, other) - fillet / 4 - 1e-9 <= joined <= min(one, other)


@given(distances, distances, st.floats(0, 2))
def test_what_two_bodies_share_lies_in_both(one, other, rounding):
    assert float(meet(np.array(one), np.array(other), rounding)) >= max(one, other) - 1e-9
