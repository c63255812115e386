"""Rows of teeth that were counted one off, with looks, sizes and gaps that are told."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ToothTopoSegLib.anatomy.fdi import arch_order
from ToothTopoSegLib.anatomy.sizes import size_of
from ToothTopoSegLib.segmentation.classes import TEETH
from ToothTopoSegLib.segmentation.rows import LARGER, LARGEST_MISFIT, SMALLER, counted_again, misfit

AVERAGE = np.array([size_of(fdi).volume for fdi in TEETH])
LOWER = arch_order(upper=False)


def counted(
    teeth: list[tuple[int, int]], sure: float = 0.9, gap_after: dict[int, float] | None = None, scale: float = 1.0
) -> list[int]:
    """The numbers of teeth in a row, each given as it truly is and as it was counted so far.

    The network is ``sure`` of the latter and gives the rest to the former. ``gap_after`` are mm behind a true tooth,
    seen from the right; others touch.
    """
    looks, volumes = np.full((len(teeth) + 1, len(TEETH)), 1e-4), np.zeros(len(teeth) + 1)
    for n, (true, so_far) in enumerate(teeth, 1):
        looks[n, TEETH.index(true)] += 1 - sure
        looks[n, TEETH.index(so_far)] += sure
        volumes[n] = size_of(true).volume * scale
    taken = np.array([0, *(TEETH.index(so_far) for _, so_far in teeth)])
    gaps = [(gap_after or {}).get(true, 0.0) for true, _ in teeth]

    def apart(one: int, two: int) -> float:
        return float(sum(gaps[min(one, two) - 1 : max(one, two) - 1]) + 8 * (abs(one - two) - 1))

    found = counted_again(taken, looks, volumes, AVERAGE * scale, apart)
    return [TEETH[k] for k in found[1:]]


@pytest.mark.parametrize("scale", [0.7, 1.2])
def test_a_row_that_skips_a_tooth_although_there_is_no_room_is_counted_again(scale: float) -> None:
    row = [(47, 48), (46, 47), (45, 46), (44, 45), (43, 44), (42, 42), (41, 41), (31, 31)]
    assert counted(row, scale=scale) == [true for true, _ in row]


def test_a_row_counted_off_across_the_midline_is_counted_again() -> None:
    row = [(44, 45), (43, 44), (42, 43), (41, 42), (31, 41), (32, 31), (33, 33), (34, 34)]
    assert counted(row) == [true for true, _ in row]


def test_a_row_that_leaves_no_number_for_a_tooth_is_moved_where_numbers_are_left() -> None:
    row = [(16, 15), (15, 14), (14, 13), (13, 12), (12, 11), (21, 21), (22, 22)]
    assert counted(row, sure=0.7) == [true for true, _ in row]


@pytest.mark.parametrize("missing", [12, 14, 16])
def test_a_tooth_that_is_missing_from_its_gap_stays_missing(missing: int) -> None:
    order = arch_order(upper=True)[1:15]
    before = order[order.index(missing) - 1]
    row = [(fdi, fdi) for fdi in order if fdi != missing]
    assert counted(row, 0.8, {before: size_of(missing).md_crown}) == [true for true, _ in row]


@given(st.sets(st.sampled_from(LOWER), min_size=1), st.floats(0.6, 1.4), st.floats(0.7, 1.0))
def test_what_looks_right_and_has_the_right_size_and_room_stays(there: set[int], scale: float, sure: float) -> None:
    row = [fdi for fdi in LOWER if fdi in there]
    gaps = {
        one: sum(size_of(fdi).md_crown for fdi in LOWER[LOWER.index(one) + 1 : LOWER.index(two)])
        for one, two in pairwise(row)
    }
    assert counted([(fdi, fdi) for fdi in row], sure, gaps, scale) == row


def test_small_pieces_go_with_their_tooth_and_decide_nothing() -> None:
    looks = np.full((5, len(TEETH)), 1e-4)
    so_far, true = (25, 26, 26, 27), (24, 25, 25, 26)
    volumes = np.array([0.0, size_of(24).volume, size_of(25).volume, 3.0, size_of(26).volume])
    for n in range(1, 5):
        looks[n, [TEETH.index(so_far[n - 1]), TEETH.index(true[n - 1])]] = 0.55, 0.45
    taken = np.array([0, *(TEETH.index(fdi) for fdi in so_far)])
    found = counted_again(taken, looks, volumes, AVERAGE, lambda a, b: 0.0)
    assert [TEETH[k] for k in found[1:]] == list(true)


def test_a_size_costs_nothing_on_average_and_no_more_than_the_most() -> None:
    volumes = 100 * np.exp([0.0, -SMALLER, LARGER, -9, 9])
    assert misfit(volumes, np.full(5, 100.0)) == pytest.approx([0, 0.5, 0.5, LARGEST_MISFIT, LARGEST_MISFIT])


def test_nothing_is_counted_where_there_is_nothing() -> None:
    found = counted_again(np.zeros(1, np.intp), np.ones((1, 32)), np.zeros(1), AVERAGE, lambda a, b: 0.0)
    assert found.tolist() == [0]
