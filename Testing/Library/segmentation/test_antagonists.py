"""What teeth say of the numbers of those they bite on, with rows drawn as half ellipses."""

from __future__ import annotations

import numpy as np
import pytest

from ToothTopoSegLib.segmentation.antagonists import AHEAD_MM, MOST_NATS, PLACES, SPREAD_MM, beside

ANGLES = np.linspace(0.15, np.pi - 0.15, PLACES)
UPPER = np.stack([-40 * np.sin(ANGLES), -28 * np.cos(ANGLES)], 1)
"""Where teeth bite (y, x) from the back on the right to the back on the left."""


def steps(place: int, shift: float) -> np.ndarray:
    """A point of the row so many teeth in front of a place."""
    at = place + shift * (1 if place < PLACES // 2 else -1)
    return np.array([np.interp(at, range(PLACES), UPPER[:, axis]) for axis in (0, 1)])


def all_numbered(places: list[int]) -> dict[int, np.ndarray]:
    return {place: UPPER[place] for place in places}


@pytest.mark.parametrize("shift, expected", [(0.15, 0), (-0.9, -1), (1.15, 1)])
def test_teeth_cost_least_with_the_number_of_those_they_bite_on(shift: float, expected: int) -> None:
    row = [2, 3, 4, 11, 12, 13]
    cost = beside(np.array([steps(place, shift) for place in row]), all_numbered(list(range(PLACES))), upper=False)
    step = np.array([1, 1, 1, -1, -1, -1])
    assert (cost.argmin(1) == np.array(row) + expected * step).all()


def test_a_side_counts_as_one_tooth_however_many_it_has() -> None:
    whole = all_numbered(list(range(PLACES)))
    one = beside(UPPER[3:4], whole, upper=False)
    four = beside(UPPER[2:6], whole, upper=False)
    assert one[0, 3] == pytest.approx(0.5 * (AHEAD_MM / SPREAD_MM) ** 2)
    assert four[1, 3] == pytest.approx(one[0, 3] / 4)
    assert one.max() == pytest.approx(MOST_NATS)


def test_upper_teeth_stand_behind_their_lower_namesakes() -> None:
    whole = all_numbered(list(range(PLACES)))
    ahead, behind = steps(3, 0.3), steps(3, -0.3)
    lower = beside(np.array([ahead, behind]), whole, upper=False)[:, 3]
    upper = beside(np.array([ahead, behind]), whole, upper=True)[:, 3]
    assert lower[0] < lower[1] and upper[1] < upper[0]
    np.testing.assert_allclose(lower, upper[::-1], rtol=0.3)


def test_a_missing_tooth_leaves_its_place_between_its_neighbours() -> None:
    cost = beside(UPPER[3:4], all_numbered([1, 2, 4, 5]), upper=False)
    assert cost[0].argmin() == 3


def test_where_there_is_little_to_bite_on_nothing_is_said() -> None:
    assert not beside(UPPER[3:4], {}, upper=False).any()
    assert not beside(UPPER[3:4], all_numbered([3]), upper=False).any()
    assert not beside(np.array([[60.0, 0.0], [-40.0, 90.0]]), all_numbered([2, 3, 4]), upper=True).any()
    assert not beside(UPPER[14:15], all_numbered([2, 3, 4]), upper=True).any()
    assert beside(np.zeros((0, 2)), all_numbered([2, 3]), upper=True).shape == (0, PLACES)
