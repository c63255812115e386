"""Upper or lower, with teeth in places that are told."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ToothTopoSegLib.anatomy.fdi import opposite_jaw
from ToothTopoSegLib.segmentation.classes import TEETH
from ToothTopoSegLib.segmentation.jaws import in_one_jaw

UPPER, LOWER = (17, 16, 15, 25, 26, 27), (47, 46, 45, 35, 36, 37)
SLOPE = 0.2
"""How much higher the bite is a millimetre farther back, as in a head that is tilted."""


def looks(*teeth: dict[int, float]) -> np.ndarray:
    return np.array([[tooth.get(fdi, 0.0) for fdi in TEETH] for tooth in teeth])


def places(numbers: tuple[int, ...], above: float) -> np.ndarray:
    """Middles (z, y, x) of the teeth of a jaw on a tilted bite, ``above`` mm from it."""
    y = np.array([10.0 * (fdi % 10 - 5) for fdi in numbers])
    x = np.array([-20.0 if fdi // 10 in (1, 4) else 20.0 for fdi in numbers])
    return np.stack([above + SLOPE * y, y, x], 1)


def told(height: float, seen: dict[int, float], volume: float = 700.0, jaws: str = "both") -> dict[int, float]:
    """What a tooth behind the last upper left one is called, ``height`` mm above the bite, by what it looked like."""
    numbers = (UPPER if jaws != "lower" else ()) + (LOWER if jaws != "upper" else ())
    centres = np.vstack([places((fdi,), 8.0 if fdi in UPPER else -8.0) for fdi in numbers] + [places((28,), height)])
    row = looks(*({fdi: 1.0} for fdi in numbers), seen)
    found = in_one_jaw(row, np.array([900.0] * len(numbers) + [volume]), centres)
    assert found[:-1] == pytest.approx(row[:-1]), "teeth on their side of the bite stay as they are"
    return {fdi: float(share) for fdi, share in zip(TEETH, found[-1], strict=True) if share}


def test_what_stands_above_the_bite_is_of_the_upper_jaw_and_what_stands_below_of_the_lower() -> None:
    seen = {38: 0.75, 27: 0.25}
    assert told(7.0, seen) == pytest.approx({28: 0.75, 27: 0.25})
    assert told(-7.0, seen) == pytest.approx({38: 0.75, 37: 0.25})


def test_next_to_the_bite_and_far_from_it_a_piece_keeps_what_it_looks_like() -> None:
    seen = {38: 0.75, 28: 0.25}
    assert told(0.5, seen) == pytest.approx(seen)
    assert told(30.0, seen) == pytest.approx(seen)
    assert told(7.0, seen, volume=10.0) == pytest.approx(seen)


def test_crowns_that_the_border_of_the_view_cuts_are_told_by_those_of_them_that_are_known() -> None:
    # of the upper jaw only the ends of crowns are in view, and only two of them look like upper ones
    sure, unsure = ({17: 1.0}, {27: 1.0}), ({46: 0.6, 16: 0.4}, {45: 0.7, 15: 0.3}, {36: 0.6, 26: 0.4})
    centres = np.vstack([places(LOWER, -9.0), places((17, 27, 16, 15, 26), 2.5)])
    row = looks(*({fdi: 1.0} for fdi in LOWER), *sure, *unsure)
    found = in_one_jaw(row, np.array([900.0] * len(LOWER) + [300.0, 300.0, 120.0, 40.0, 120.0]), centres)
    assert [TEETH[k] for k in found.argmax(1)] == [*LOWER, 17, 27, 16, 15, 26]


@pytest.mark.parametrize("jaws", ["upper", "lower"])
def test_where_one_jaw_is_in_view_there_is_no_bite(jaws: str) -> None:
    seen = {38: 0.75, 28: 0.25}
    assert told(7.0, seen, jaws=jaws) == pytest.approx(seen)
    assert in_one_jaw(np.zeros((0, 32)), np.zeros(0), np.zeros((0, 3))).shape == (0, 32)


@given(st.integers(0, 11), st.floats(-0.3, 0.3), st.floats(-0.3, 0.3))
def test_a_tooth_taken_for_its_antagonist_gets_its_number_back_however_the_head_is_tilted(
    wrong: int, sideways: float, nodding: float
) -> None:
    numbers = UPPER + LOWER
    centres = np.vstack([places(UPPER, 8.0), places(LOWER, -8.0)])
    centres[:, 0] += sideways * centres[:, 2] + nodding * centres[:, 1]
    row = looks(*({opposite_jaw(fdi) if n == wrong else fdi: 1.0} for n, fdi in enumerate(numbers)))
    found = in_one_jaw(row, np.full(len(numbers), 900.0), centres)
    assert [TEETH[k] for k in found.argmax(1)] == list(numbers)
