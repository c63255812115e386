"""Roots: how many by tooth type and how often, where they part, how they narrow."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from ToothTopoSegLib.phantom.root import Roots, draw_roots, shortened, trunk_outline

HALF, LENGTH = (4.0, 4.5), 13.0


def counts(upper: bool, position: int, draws: int = 400) -> Counter[int]:
    rng = np.random.default_rng(0)
    return Counter(len(draw_roots(upper, position, LENGTH, HALF, rng).branches) for _ in range(draws))


def molar(seed: int = 0, upper: bool = False) -> Roots:
    return draw_roots(upper, 6, LENGTH, HALF, np.random.default_rng(seed))


@pytest.mark.parametrize(
    ("upper", "position", "roots", "least", "most"),
    [
        (True, 1, 1, 1.0, 1.0),
        (True, 4, 2, 0.48, 0.66),
        (True, 5, 1, 0.84, 0.97),
        (True, 6, 3, 1.0, 1.0),
        (False, 3, 1, 0.93, 1.0),
        (False, 6, 2, 0.88, 0.99),
        (False, 6, 3, 0.01, 0.12),
        (False, 7, 2, 1.0, 1.0),
    ],
)
def test_roots_are_as_many_as_studies_count(upper, position, roots, least, most):
    found = counts(upper, position)
    assert least <= found[roots] / found.total() <= most


def test_roots_of_second_and_third_molars_are_fused_more_often_than_those_of_first_ones():
    rng = np.random.default_rng(1)

    def long_trunks(position: int) -> int:
        drawn = (draw_roots(True, position, LENGTH, HALF, rng) for _ in range(300))
        return sum(r.trunk > 0.5 * LENGTH for r in drawn)

    assert long_trunks(6) < 40 < long_trunks(7) < long_trunks(8)


def test_a_taurodont_parts_late():
    roots = draw_roots(False, 6, LENGTH, HALF, np.random.default_rng(0), trunk=0.6)
    assert roots.trunk == pytest.approx(0.6 * LENGTH)


@pytest.mark.parametrize("seed", range(5))
def test_a_root_narrows_from_the_furcation_to_its_tip(seed):
    for branch in molar(seed).branches:
        widths = branch.width(np.linspace(0, 1, 20))
        assert widths[0] == 1 and widths[-1] == 0
        assert (np.diff(widths) <= 0).all()


def test_most_tips_turn_to_distal():
    rng = np.random.default_rng(2)
    bends = [draw_roots(True, 2, LENGTH, HALF, rng).branches[0].bend for _ in range(200)]
    assert np.mean(np.array(bends) > 0) > 0.75


def test_resorbed_roots_are_shorter_and_keep_their_trunk():
    whole = molar()
    short = shortened(whole, 0.6)
    assert short.trunk == whole.trunk
    for a, b in zip(short.branches, whole.branches, strict=True):
        assert a.length - short.trunk == pytest.approx(0.6 * (b.length - whole.trunk))


def test_the_trunk_is_waisted_between_the_roots_of_a_lower_molar():
    outline = trunk_outline(molar())
    quarter = len(outline) // 4
    assert outline[quarter] < outline[quarter // 2]


def test_mesial_roots_of_lower_molars_are_grooved_and_carry_two_canals():
    mesial, distal = molar().branches[:2]
    assert (mesial.canals, distal.canals) == (2, 1)
    assert mesial.section()[0] < mesial.half_axes[0] * (1 - 0.5 * mesial.groove)
