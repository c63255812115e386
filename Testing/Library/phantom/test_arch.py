"""Dentitions before they are rendered: sides, heights, order along the arch, missing teeth."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from ToothTopoSegLib.anatomy import fdi
from ToothTopoSegLib.phantom.arch import Arch, Dentition, PlacedTooth, draw_dentition

SEEDS = range(20)


@cache
def dentitions(hard: bool) -> list[Dentition]:
    return [draw_dentition(np.random.default_rng(seed), hard) for seed in SEEDS]


def tip(tooth: PlacedTooth) -> np.ndarray:
    """LPS position in mm of the middle of the occlusal surface."""
    return tooth.cervix + tooth.axes[2] * tooth.shape.crown_height


def place_on_arch(arch: Arch, tooth: PlacedTooth) -> float:
    """Arc length in mm from the midline to the point of the arch nearest to the tooth's tip."""
    line = arch.side(fdi.is_left(tooth.fdi), 95)
    return 0.5 * float(np.argmin(np.hypot(*(line - tip(tooth)[:2]).T)))


def test_the_arch_is_sampled_every_half_millimetre_from_its_front():
    arch = Arch(half_width=28, depth=38, front=-19, middle=0.7, flare=0.05, skew=0.0)
    left, right = arch.side(True, 60), arch.side(False, 60)
    assert left[0] == pytest.approx([0.7, -19])
    assert np.hypot(*np.diff(left, axis=0).T) == pytest.approx(0.5, abs=0.01)
    assert (left[1:, 0] > 0.7).all()
    assert left[:, 0] - 0.7 == pytest.approx(0.7 - right[:, 0])
    assert (np.diff(left[:, 1]) >= 0).all()


def test_skew_widens_the_left_side():
    arch = Arch(half_width=28, depth=38, front=-19, middle=0.0, flare=0.05, skew=0.1)
    assert arch.side(True, 60)[-1, 0] > -arch.side(False, 60)[-1, 0]


@pytest.mark.parametrize("hard", (False, True))
def test_every_tooth_stands_on_the_side_of_its_quadrant(hard):
    for dentition in dentitions(hard):
        for tooth in dentition.teeth:
            arch = dentition.upper if fdi.is_upper(tooth.fdi) else dentition.lower
            assert (tip(tooth)[0] > arch.middle) == fdi.is_left(tooth.fdi), tooth.fdi


@pytest.mark.parametrize("hard", (False, True))
def test_teeth_follow_one_another_along_the_arch_in_the_order_of_their_numbers(hard):
    for dentition in dentitions(hard):
        for quadrant in (1, 2, 3, 4):
            arch = dentition.upper if quadrant < 3 else dentition.lower
            teeth = sorted((t for t in dentition.teeth if fdi.quadrant(t.fdi) == quadrant), key=lambda t: t.fdi)
            assert (np.diff([place_on_arch(arch, t) for t in teeth]) > 0).all()


def test_crowns_point_to_the_other_jaw_and_third_molars_may_lie_down():
    for dentition in dentitions(hard=True):
        for tooth in dentition.teeth:
            occlusal = tooth.axes[2, 2] * (-1 if fdi.is_upper(tooth.fdi) else 1)
            assert occlusal > (0.5 if fdi.position(tooth.fdi) < 8 else -0.5)


def test_the_axes_of_a_tooth_are_an_orthonormal_frame_with_mesial_towards_the_midline():
    for tooth in dentitions(hard=False)[0].teeth:
        assert tooth.axes @ tooth.axes.T == pytest.approx(np.eye(3), abs=1e-9)
        towards_midline = tooth.axes[0, 0] * (-1 if fdi.is_left(tooth.fdi) else 1)
        assert towards_midline > 0 or tooth.axes[0, 1] < 0


def test_no_number_is_given_twice_and_all_are_permanent_teeth():
    for dentition in dentitions(hard=False):
        numbers = [t.fdi for t in dentition.teeth]
        assert len(set(numbers)) == len(numbers)
        assert set(numbers) <= set(fdi.PERMANENT)


def test_third_molars_are_missing_most_often():
    heads = [{t.fdi for t in d.teeth} for d in dentitions(hard=False)]
    missing = {
        position: sum(q * 10 + position not in head for head in heads for q in (1, 2, 3, 4)) for position in (6, 8)
    }
    assert missing[8] > 3 * missing[6]
    assert 20 < np.mean([len(head) for head in heads]) < 31


def test_the_same_seed_gives_the_same_dentition_and_another_seed_another():
    first, again, other = (draw_dentition(np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert first.upper == again.upper != other.upper
    assert [t.shape for t in first.teeth] == [t.shape for t in again.teeth] != [t.shape for t in other.teeth]
    assert all((a.cervix == b.cervix).all() for a, b in zip(first.teeth, again.teeth, strict=True))


def test_hard_dentitions_lack_more_teeth_and_carry_more_metal():
    easy, hard = dentitions(False), dentitions(True)

    def metal(dentition: Dentition) -> int:
        return sum(t.material != "natural" for t in dentition.teeth) + dentition.bracketed

    assert sum(len(d.teeth) for d in hard) < sum(len(d.teeth) for d in easy)
    assert sum(map(metal, hard)) > sum(map(metal, easy))
