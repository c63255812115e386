"""Small matrices along the axes: means, blurs and interpolations keep what they must keep."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ToothTopoSegLib.phantom.arrays import (
    along_axes,
    between,
    between_blocks,
    blocks,
    gaussian,
    grain,
    numpy_library,
    smooth_field,
)

LENGTHS = st.integers(1, 40)


@given(LENGTHS, st.floats(0, 50))
def test_a_blur_and_every_mean_keep_an_even_line_even(length, sigma):
    size = max(1, int(sigma))
    for matrix in (gaussian(length, sigma), blocks(length, size), between_blocks(length, size)):
        assert matrix.sum(axis=1) == pytest.approx(np.ones(len(matrix)), abs=1e-4)
    assert between(length, 5).sum(axis=1) == pytest.approx(np.ones(length), abs=1e-4)


@given(LENGTHS, st.integers(1, 9))
def test_means_over_blocks_come_back_to_the_length_they_came_from(length, size):
    assert (between_blocks(length, size) @ blocks(length, size)).shape == (length, length)


def test_a_mean_over_blocks_of_two_is_the_mean_of_neighbours():
    assert list(blocks(5, 2) @ np.arange(5)) == [0.5, 2.5, 4.0]


def test_a_grain_leaves_the_deviation_of_white_noise_as_it_is():
    noise = np.random.default_rng(0).standard_normal((200, 4000))
    assert (grain(200, 1.2) @ noise).std() == pytest.approx(1.0, abs=0.01)


def test_each_axis_gets_its_own_matrix_and_none_leaves_it():
    library, array = numpy_library(np.random.default_rng(0)), np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    halves = along_axes([None, None, blocks(4, 2)], array, library)
    assert halves.shape == (2, 3, 2)
    assert halves[0, 0] == pytest.approx([0.5, 2.5])
    assert along_axes([blocks(2, 2), blocks(3, 3), None], array, library)[0, 0] == pytest.approx([10, 11, 12, 13])


def test_a_smooth_field_has_no_steps_and_the_shape_asked_for():
    field = smooth_field((20, 30, 1), (4, 3, 2), numpy_library(np.random.default_rng(1)))
    assert field.shape == (20, 30, 1)
    assert np.abs(np.diff(field, axis=0)).max() < 0.6
