"""Right or left, with teeth in places that are told."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ToothTopoSegLib.anatomy.fdi import mirrored
from ToothTopoSegLib.segmentation.classes import TEETH
from ToothTopoSegLib.segmentation.sides import BACK, on_one_side

BACK_TEETH = [fdi for fdi in TEETH if fdi % 10 >= BACK]


def looks(*teeth: dict[int, float]) -> np.ndarray:
    return np.array([[tooth.get(fdi, 0.0) for fdi in TEETH] for tooth in teeth])


def most(probability: np.ndarray) -> list[int]:
    return [TEETH[k] for k in probability.argmax(1)]


def test_lower_teeth_under_right_upper_ones_are_right_too() -> None:
    seen = looks({16: 0.95, 26: 0.05}, {17: 1.0}, {36: 0.8, 46: 0.2}, {37: 0.7, 47: 0.3})
    places = np.array([[0.0, 0.0], [9.0, 0.0], [1.0, 1.0], [10.0, 1.0]])
    found = on_one_side(seen, np.full(4, 900.0), places)
    assert most(found) == [16, 17, 46, 47]
    assert found.sum(1) == pytest.approx(1.0), "moved, not lost"


def test_front_teeth_and_the_other_half_of_the_arch_stay_as_they_are() -> None:
    seen = looks({16: 1.0}, {11: 0.6, 21: 0.4}, {26: 1.0}, {36: 1.0})
    places = np.array([[0.0, -25.0], [-30.0, 0.0], [0.0, 25.0], [2.0, 26.0]])
    assert on_one_side(seen, np.full(4, 900.0), places) == pytest.approx(seen)


def test_crumbs_have_no_say_and_nothing_is_made_of_nothing() -> None:
    seen = looks({36: 1.0}, {46: 0.9, 36: 0.1})
    assert most(on_one_side(seen, np.array([5.0, 900.0]), np.zeros((2, 2)))) == [36, 46]
    assert on_one_side(np.zeros((0, 32)), np.zeros(0), np.zeros((0, 2))).shape == (0, 32)
    assert (on_one_side(np.zeros((1, 32)), np.ones(1) * 900, np.zeros((1, 2))) == 0).all()


@given(
    st.lists(st.sampled_from([fdi for fdi in TEETH if fdi % 10 >= BACK]), min_size=1, max_size=8), st.integers(0, 99)
)
def test_mirrored_teeth_get_mirrored_numbers(teeth: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    volumes, places = rng.uniform(100, 900, len(teeth)), rng.uniform(-30, 30, (len(teeth), 2))
    one = on_one_side(looks(*[{fdi: 0.9, mirrored(fdi): 0.1} for fdi in teeth]), volumes, places)
    other = on_one_side(looks(*[{mirrored(fdi): 0.9, fdi: 0.1} for fdi in teeth]), volumes, places * [1, -1])
    assert [mirrored(fdi) for fdi in most(one)] == most(other)
