"""Dentitions of natural teeth: contacts, the bite, order along the arch, what is lost and what has not come through."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import combinations, pairwise

import numpy as np
import pytest

from ToothTopoSegLib.anatomy import fdi
from ToothTopoSegLib.phantom.arch import Dentition, PlacedTooth, draw_dentition
from ToothTopoSegLib.phantom.natural import Person
from ToothTopoSegLib.phantom.occlusion import CurvedArch, clearance, draw_bite, draw_fate, surface

SEEDS = range(5)
ADULT = Person(size=0.0, age=40.0, wear=0.3, pulp=0.2)


@cache
def dentitions(hard: bool = False) -> tuple[Dentition, ...]:
    return tuple(draw_dentition(np.random.default_rng(100 * hard + seed), hard, natural=True) for seed in SEEDS)


EVERYONE = [(hard, seed) for hard in (False, True) for seed in SEEDS]


def apart(one: PlacedTooth, other: PlacedTooth) -> float:
    """Smallest distance in mm between two teeth, negative where they overlap."""
    return min(clearance(surface(one), other), clearance(surface(other), one))


def tip(tooth: PlacedTooth) -> np.ndarray:
    return tooth.cervix + tooth.axes[2] * tooth.shape.crown_height


def gaps_between_neighbours(dentition: Dentition) -> list[float]:
    """Distances in mm between erupted teeth whose numbers follow one another."""
    teeth = {t.fdi: t for t in dentition.teeth if t.erupted}
    pairs = [pair for order in (fdi.UPPER_PERMANENT, fdi.LOWER_PERMANENT) for pair in pairwise(order)]
    return [apart(teeth[a], teeth[b]) for a, b in pairs if a in teeth and b in teeth]


@pytest.mark.parametrize(("hard", "seed"), EVERYONE)
def test_no_two_teeth_lie_inside_one_another(hard, seed):
    for one, other in combinations(dentitions(hard)[seed].teeth, 2):
        if np.linalg.norm(one.cervix - other.cervix) < 35:
            assert apart(one, other) > -0.3, (one.fdi, other.fdi)


def test_neighbours_touch_in_most_heads():
    medians = [np.median(gaps) for d in dentitions() if len(gaps := gaps_between_neighbours(d)) > 4]
    assert np.mean(np.array(medians) < 0.15) >= 0.6
    assert min(medians) > -0.1


def test_upper_and_lower_crowns_touch_when_the_jaws_are_closed():
    closed = [d for d in dentitions() if d.gap < 0.3 and len(d.teeth) > 24]
    assert closed
    for dentition in closed:
        upper = [t for t in dentition.teeth if fdi.is_upper(t.fdi)]
        lower = [t for t in dentition.teeth if not fdi.is_upper(t.fdi)]
        bites = [min(clearance(surface(low), up) for up in upper) for low in lower]
        assert -0.3 < min(bites) < 0.1
        assert sum(bite < 0.3 for bite in bites) >= 4


def test_open_jaws_hold_the_teeth_apart():
    for dentition in dentitions():
        if dentition.gap > 3 and dentition.teeth:
            upper = [t for t in dentition.teeth if fdi.is_upper(t.fdi) and fdi.position(t.fdi) > 3]
            lower = [t for t in dentition.teeth if not fdi.is_upper(t.fdi) and fdi.position(t.fdi) > 3]
            assert all(clearance(surface(low), up) > 0.5 for low in lower for up in upper)


@pytest.mark.parametrize(("hard", "seed"), EVERYONE)
def test_teeth_follow_one_another_along_the_arch_in_the_order_of_their_numbers(hard, seed):
    dentition = dentitions(hard)[seed]
    for quadrant in (1, 2, 3, 4):
        arch = dentition.upper if quadrant < 3 else dentition.lower
        line = arch.side(quadrant in (2, 3), 115)
        places = [
            np.hypot(*(line - (t.cervix + tip(t))[:2] / 2).T).argmin()
            for t in sorted(dentition.teeth, key=lambda t: t.fdi)
            if fdi.quadrant(t.fdi) == quadrant and t.erupted
        ]
        assert (np.diff(places) > 0).all()


@pytest.mark.parametrize(("hard", "seed"), EVERYONE)
def test_teeth_stand_on_their_side_with_crowns_to_the_other_jaw(hard, seed):
    dentition = dentitions(hard)[seed]
    for tooth in dentition.teeth:
        arch = dentition.upper if fdi.is_upper(tooth.fdi) else dentition.lower
        assert ((tooth.cervix[0] + tip(tooth)[0]) / 2 > arch.middle) == fdi.is_left(tooth.fdi)
        assert tooth.axes @ tooth.axes.T == pytest.approx(np.eye(3), abs=1e-9)
        if fdi.position(tooth.fdi) < 8:
            assert tooth.axes[2, 2] * (-1 if fdi.is_upper(tooth.fdi) else 1) > 0.5


@pytest.mark.parametrize(("hard", "seed"), EVERYONE)
def test_a_tooth_is_present_or_gone_and_only_lost_ones_have_implants(hard, seed):
    dentition = dentitions(hard)[seed]
    present, gone = ({t.fdi for t in group} for group in (dentition.teeth, dentition.gone))
    assert not present & gone
    assert len(present) + len(gone) == len(dentition.teeth) + len(dentition.gone)
    assert {t.material for t in dentition.gone} <= {"natural", "implant"}
    assert {t.material for t in dentition.teeth} <= {"natural", "filling", "crown", "root filling", "post"}
    assert not any(t.bracket or t.material != "natural" for t in dentition.teeth if not t.erupted)


def test_third_molars_lie_in_the_bone_now_and_then_and_below_their_neighbours():
    hidden = [t for hard in (False, True) for d in dentitions(hard) for t in d.teeth if not t.erupted]
    assert hidden
    for tooth in hidden:
        depth = tip(tooth)[2] * (1 if fdi.is_upper(tooth.fdi) else -1)
        assert depth > 2


def test_left_and_right_teeth_are_alike():
    shares = []
    for dentition in dentitions():
        teeth = {t.fdi: t.shape for t in dentition.teeth}
        shares += [
            teeth[n].crown[0] / teeth[fdi.mirrored(n)].crown[0]
            for n in teeth
            if fdi.quadrant(n) in (1, 4) and fdi.mirrored(n) in teeth
        ]
    assert np.median(np.abs(np.log(shares))) < 0.03


def test_the_same_seed_gives_the_same_dentition_and_another_seed_another():
    again, (_, first, other, *_) = draw_dentition(np.random.default_rng(1), natural=True), dentitions()
    assert first.upper == again.upper != other.upper
    assert [t.shape for t in first.teeth] == [t.shape for t in again.teeth]
    assert all((a.cervix == b.cervix).all() for a, b in zip(first.teeth, again.teeth, strict=True))


def test_a_square_arch_is_wider_at_the_canines_than_a_tapered_one():
    arches = [CurvedArch(26, 40, -20, 0.0, 0.05, 0.0, power) for power in (1.8, 2.5)]
    at_canine = [arch.polyline(60)[40, 0] for arch in arches]
    assert at_canine[1] > at_canine[0] + 1
    steps = np.hypot(*np.diff(arches[0].side(True, 60), axis=0).T)
    assert steps == pytest.approx(0.5, abs=0.01)


def test_teeth_are_lost_singly_by_quadrants_by_arches_and_altogether():
    rng = np.random.default_rng(0)
    lost = Counter(len(draw_fate(rng, ADULT, False).gone) for _ in range(2000))
    assert 0.01 < lost[28] / 2000 < 0.04
    assert 0.01 < sum(lost[n] for n in range(14, 20)) / 2000 < 0.06
    assert lost[0] / 2000 > 0.3


def test_hard_heads_lack_more_teeth_and_are_more_crowded():
    rng = np.random.default_rng(0)
    lost = {hard: np.mean([len(draw_fate(rng, ADULT, hard).gone) for _ in range(400)]) for hard in (False, True)}
    assert lost[True] > 1.3 * lost[False]
    crowded = {hard: np.mean([draw_bite(rng, hard).disorder for _ in range(400)]) for hard in (False, True)}
    assert crowded[True] > 1.3 * crowded[False]


def test_old_people_lack_more_teeth_than_young_ones():
    rng = np.random.default_rng(0)
    young, old = (
        np.mean([len(draw_fate(rng, replace(ADULT, age=age), False).gone) for _ in range(500)]) for age in (15, 75)
    )
    assert old > 1.3 * young


def test_teeth_of_the_plain_generator_are_refused():
    plain = draw_dentition(np.random.default_rng(0)).teeth[0]
    with pytest.raises(TypeError, match="natural"):
        surface(plain)
