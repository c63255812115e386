"""Crown forms: cusps, contours and variants of every tooth type."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from ToothTopoSegLib.phantom.crown import FORMS, ROOF_STEP, CrownForm, Side, vary_form

CUSPS = {
    True: {1: 0, 2: 0, 3: 1, 4: 2, 5: 2, 6: 4, 7: 4, 8: 3},
    False: {1: 0, 2: 0, 3: 1, 4: 2, 5: 2, 6: 5, 7: 4, 8: 4},
}
POSTERIOR = [(upper, position) for upper in (True, False) for position in (4, 5, 6, 7, 8)]
HALF = (5.0, 5.0)


def depth_at(form: CrownForm, u: float, v: float) -> float:
    """Depth in mm of the occlusal surface at shares of the half axes."""
    table, half = form.roof(HALF)
    i, j = (round((share * axis + half) / ROOF_STEP) for share, axis in zip((u, v), HALF, strict=True))
    return float(table[i, j])


@pytest.mark.parametrize("upper", (True, False))
def test_every_type_has_its_number_of_cusps(upper):
    assert {position: len(FORMS[upper, position].cusps) for position in range(1, 9)} == CUSPS[upper]


@pytest.mark.parametrize(("upper", "position"), POSTERIOR)
def test_every_cusp_rises_over_the_fissure_in_the_middle(upper, position):
    form = FORMS[upper, position]
    fissure = max(depth_at(form, u, v) for u in np.linspace(-0.5, 0.5, 9) for v in np.linspace(-0.5, 0.5, 9))
    for cusp in form.cusps:
        assert depth_at(form, cusp.u, cusp.v) < fissure - 0.4
        assert depth_at(form, cusp.u, cusp.v) <= depth_at(form, cusp.u, cusp.v * 0.75) + 0.02


@pytest.mark.parametrize("key", FORMS)
def test_a_crown_is_widest_at_its_contours_and_there_as_wide_as_it_is_said_to_be(key):
    radius = FORMS[key].outline(np.linspace(0, 1, 60), (4.0, 5.0), (3.0, 4.5)).radii()
    quarter = radius.shape[1] // 4
    across = radius[:, quarter] + radius[:, 3 * quarter]
    assert across.max() == pytest.approx(10, rel=0.04)
    along = radius * np.cos(np.arange(radius.shape[1]) * 2 * np.pi / radius.shape[1])
    assert np.ptp(along, axis=1).max() == pytest.approx(8, rel=0.08)


def test_contacts_lie_near_the_edge_of_incisors_and_farther_down_on_molars():
    mesial = {position: FORMS[True, position].sides[0].peak for position in (1, 3, 6)}
    assert mesial[1] > mesial[3] >= mesial[6]


def test_the_cervical_line_rises_most_between_incisors():
    for upper in (True, False):
        rises = [FORMS[upper, position].line[0] for position in (1, 3, 6)]
        assert rises == sorted(rises, reverse=True)


def test_a_side_bulges_to_its_contour_and_falls_to_its_top():
    side = Side(peak=0.4, top=0.6, power=1.5)
    widths = side.contour(np.array([0.0, 0.4, 1.0]), cervix=0.8)
    assert widths == pytest.approx([0.8, 1.0, 0.6])


def test_lower_second_premolars_have_two_or_three_cusps_and_some_first_molars_a_carabelli_trait():
    rng = np.random.default_rng(0)
    premolars = Counter(len(vary_form(FORMS[False, 5], False, 5, rng).cusps) for _ in range(200))
    assert set(premolars) == {2, 3} and 0.4 < premolars[3] / 200 < 0.8
    bare = len(FORMS[True, 6].relief)
    traits = sum(len(vary_form(FORMS[True, 6], True, 6, rng).relief) > bare for _ in range(200))
    assert 0.25 < traits / 200 < 0.55
