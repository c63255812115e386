"""Scans unlike the training data: other grey values, the same anatomy."""

from __future__ import annotations

import numpy as np
import pytest

from ToothTopoSegLib.evaluation.odd_scans import ODD, RANGE, odd, unit_scale

GREY = np.linspace(-1000, 3000, 8 * 9 * 10).reshape(8, 9, 10)


@pytest.mark.parametrize("kind", ODD)
def test_every_kind_is_finite_and_the_same_each_time_whatever_scale_it_comes_from(kind: str) -> None:
    made = odd(GREY, kind)
    assert made.shape == GREY.shape and made.dtype == np.float32 and np.isfinite(made).all()
    np.testing.assert_allclose(odd(0.1 * GREY + 500, kind), made, atol=0.01 * RANGE)
    assert np.isfinite(odd(np.full_like(GREY, 7), kind)).all()


@pytest.mark.parametrize("kind", ["bright", "dark", "window"])
def test_new_contrasts_keep_the_order_of_grey_values_and_change_them(kind: str) -> None:
    made = odd(GREY, kind).ravel()
    assert (np.diff(made) >= 0).all()
    assert np.abs(made - odd(GREY, "plain").ravel()).max() > 0.1 * RANGE


def test_smooth_scans_have_weaker_edges_and_sharp_ones_stronger() -> None:
    step = np.repeat(np.repeat([[[0.0] * 5 + [1.0] * 5]], 8, axis=0), 9, axis=1)
    edge = {kind: np.ptp(odd(step, kind)[4, 4, 4:6]) for kind in ("smooth", "plain", "sharp")}
    assert edge["smooth"] < 0.5 * edge["plain"] < edge["plain"] < edge["sharp"]


def test_the_unit_scale_ends_at_the_outer_half_percents() -> None:
    unit = unit_scale(GREY)
    assert unit.min() == 0 and unit.max() == 1 and 4 <= (unit == 1).sum() <= 10
