"""Rows of teeth and the numbers they get, with looks, forms and gaps that are told."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ToothTopoSegLib.anatomy.fdi import arch_order, position
from ToothTopoSegLib.anatomy.sizes import size_of
from ToothTopoSegLib.segmentation.classes import TEETH
from ToothTopoSegLib.segmentation.rows import Body, numbered

LOWER = arch_order(upper=False)
KINDS = (0, 0, 1, 2, 2, 3, 3, 3)
"""Incisor, canine, premolar or molar, by position."""


def unlike(true: int, nats: float) -> np.ndarray:
    """What it costs that a tooth bears a number of another kind than its true one."""
    kinds = np.array([KINDS[position(fdi) - 1] for fdi in TEETH])
    return np.where(kinds == KINDS[position(true) - 1], 0.0, nats)


def counted(
    teeth: list[tuple[int, int]], sure: float = 0.9, gap_after: dict[int, float] | None = None, form: float = 6.0
) -> list[int | None]:
    """The numbers of teeth in a row, each given as it truly is and as the first network counted it.

    The network is ``sure`` of the latter and gives the rest to the former. ``gap_after`` are mm behind a true tooth,
    seen from the right; others touch. ``form`` is what another kind than the true one costs.
    """
    bodies = []
    for n, (true, so_far) in enumerate(teeth):
        look = np.full(len(TEETH), 1e-4)
        look[TEETH.index(true)] += 1 - sure
        look[TEETH.index(so_far)] += sure
        bodies.append(Body((n,), look, unlike(true, form)))
    gaps = [(gap_after or {}).get(true, 0.0) for true, _ in teeth]

    def apart(one: int, two: int) -> float:
        return float(sum(gaps[min(one, two) : max(one, two)]) + 8 * (abs(one - two) - 1))

    return [None if k is None else TEETH[k] for k in numbered(bodies, apart)]


def gaps_of(row: list[int]) -> dict[int, float]:
    """The room that missing teeth leave, behind each tooth of a row."""
    return {
        one: sum(size_of(fdi).md_crown for fdi in LOWER[LOWER.index(one) + 1 : LOWER.index(two)])
        for one, two in pairwise(row)
    }


def test_a_row_that_skips_a_tooth_although_there_is_no_room_is_counted_again() -> None:
    row = [(47, 48), (46, 47), (45, 46), (44, 45), (43, 44), (42, 42), (41, 41), (31, 31)]
    assert counted(row) == [true for true, _ in row]


def test_a_row_counted_off_across_the_midline_is_counted_again() -> None:
    row = [(44, 45), (43, 44), (42, 43), (41, 42), (31, 41), (32, 31), (33, 33), (34, 34)]
    assert counted(row) == [true for true, _ in row]


@pytest.mark.parametrize("quadrant", [1, 2])
def test_a_molar_behind_the_gap_of_a_first_premolar_that_has_closed_is_no_premolar(quadrant: int) -> None:
    behind = [(5, 4), (6, 5), (7, 6)]
    row = [(10 * quadrant + a, 10 * quadrant + b) for a, b in [(1, 1), (2, 2), (3, 3), *behind]]
    row = row if quadrant == 2 else row[::-1]
    assert counted(row, 0.99) == [true for true, _ in row]
    # without the form of the teeth there is nothing that contradicts
    assert counted(row, 0.99, form=0.0) == [so_far for _, so_far in row]


def test_a_row_is_hardly_ever_counted_three_off_whatever_the_forms_of_torn_teeth_say() -> None:
    # a premolar and a molar of which metal has left pieces like incisors, and neighbours that speak against that
    looks = [(46, 43), (45, 42), (44, 41)]
    bodies = [
        Body((n,), np.where(np.array(TEETH) == so_far, 1.0, 1e-4), unlike(true, 2.2))
        for n, (so_far, true) in enumerate(looks)
    ]
    assert [k is not None and TEETH[k] for k in numbered(bodies, lambda a, b: 0.0)] == [46, 45, 44]


def test_two_teeth_that_look_like_one_number_get_one_each() -> None:
    row = [(23, 23), (24, 23), (25, 24), (26, 26)]
    assert counted(row, 0.6) == [23, 24, 25, 26]


def test_a_row_counted_off_costs_hardly_more_the_longer_it_is() -> None:
    far = [(n, n - 1) for n in (37, 36, 35, 34)][::-1]
    assert counted([(33, 33), *far], 0.999, {33: 1.0}) == [33, 34, 35, 36, 37]


@pytest.mark.parametrize("missing", [12, 14, 16])
def test_a_tooth_that_is_missing_from_its_gap_stays_missing(missing: int) -> None:
    order = arch_order(upper=True)[1:15]
    before = order[order.index(missing) - 1]
    row = [(fdi, fdi) for fdi in order if fdi != missing]
    assert counted(row, 0.8, {before: size_of(missing).md_crown}) == [true for true, _ in row]


@given(st.sets(st.sampled_from(LOWER), min_size=1), st.floats(0.7, 1.0))
def test_what_looks_right_and_has_the_right_form_and_room_stays(there: set[int], sure: float) -> None:
    row = [fdi for fdi in LOWER if fdi in there]
    assert counted([(fdi, fdi) for fdi in row], sure, gaps_of(row)) == row


@given(st.lists(st.tuples(st.sampled_from(LOWER), st.sampled_from(LOWER)), max_size=18), st.floats(0.0, 1.0))
def test_no_number_is_there_twice_whatever_teeth_look_like(teeth: list[tuple[int, int]], sure: float) -> None:
    found = [fdi for fdi in counted(teeth, sure) if fdi is not None]
    assert len(found) == len(set(found)) and len(found) >= min(len(teeth), 1)


def test_a_row_counted_off_is_told_by_the_teeth_it_bites_on() -> None:
    def row(quadrant: int, so_far: int, sure: float) -> list[Body]:
        found = []
        for n in (3, 4, 5, 6):
            look = np.full(len(TEETH), 1e-4)
            look[TEETH.index(10 * quadrant + n + so_far)] += sure
            look[TEETH.index(10 * quadrant + n)] += 1 - sure
            bite = np.array([8.0 * n - (1 if quadrant == 4 else 0), -20.0])
            found.append(Body((10 * quadrant + n,), look, np.zeros(len(TEETH)), bite))
        return found

    def apart(one: int, two: int) -> float:
        return 8.0 * (abs(one - two) - 1)

    upper, lower = row(1, 0, 0.95), row(4, 1, 0.8)
    right, off = [13, 14, 15, 16], [44, 45, 46, 47]
    assert [TEETH[k] for k in numbered(lower, apart)] == off
    assert [TEETH[k] for k in numbered(upper + lower, apart)] == [*right, 43, 44, 45, 46]
    assert [TEETH[k] for k in numbered([replace(body, bite=None) for body in upper + lower], apart)] == right + off


def test_teeth_that_look_alike_are_told_by_where_they_stand_along_the_arch() -> None:
    def numbers(sure: float, shown: bool) -> list[int | None]:
        bodies = []
        for n, fdi in enumerate([13, 11, 12, 21]):
            look = np.full(len(TEETH), 1e-4)
            look[TEETH.index(fdi)] += 1.0 if fdi in (13, 21) else sure
            look[TEETH.index(11 if fdi == 12 else 12)] += 0.0 if fdi in (13, 21) else 1 - sure
            angle = np.deg2rad({13: 125, 12: 110, 11: 97, 21: 83}[fdi])
            bite = np.array([-40 * np.sin(angle), 30 * np.cos(angle)]) if shown else None
            bodies.append(Body((n,), look, unlike(fdi, 6.0), bite))
        return [None if k is None else TEETH[k] for k in numbered(bodies, lambda a, b: 0.0)]

    assert numbers(0.45, shown=True) == [13, 11, 12, 21]
    assert numbers(0.45, shown=False) != [13, 11, 12, 21]
    # what looks clearly otherwise is not turned around by where it stands: a crowded tooth may stand before another
    assert numbers(0.1, shown=True) == numbers(0.1, shown=False)


def test_a_body_like_no_tooth_there_gets_no_number() -> None:
    strange = Body((1,), np.where(np.array(TEETH) == 45, 1.0, 1e-4), np.full(len(TEETH), 6.0))
    true = [Body((n,), np.where(np.array(TEETH) == fdi, 1.0, 1e-4), unlike(fdi, 6.0)) for n, fdi in ((0, 46), (2, 45))]
    assert numbered([true[0], strange, true[1]], lambda a, b: 0.0) == [TEETH.index(46), None, TEETH.index(45)]


def test_jaws_are_numbered_apart_and_nothing_is_made_of_nothing() -> None:
    assert counted([(11, 11), (41, 41), (21, 21), (31, 31)]) == [11, 41, 21, 31]
    assert numbered([], lambda a, b: 0.0) == []
