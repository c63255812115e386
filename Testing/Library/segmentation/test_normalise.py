"""One scale for the grey values of any scanner."""

from __future__ import annotations

import numpy as np
import pytest

from ToothTopoSegLib.segmentation.normalise import grey_scale


def _head(seed: int = 0) -> np.ndarray:
    """Grey values like Hounsfield units, float: air, soft tissue, bone and teeth with noise."""
    rng = np.random.default_rng(seed)
    tissue = rng.choice([-900.0, 50.0, 700.0, 1800.0], p=[0.3, 0.5, 0.15, 0.05], size=(40, 50, 60))
    return tissue + rng.normal(0, 60, tissue.shape)


def _normalised(grey: np.ndarray) -> np.ndarray:
    return grey_scale(grey).apply(grey)


def _as_8_bit(grey: np.ndarray) -> np.ndarray:
    return np.clip((grey + 1200) / 3600 * 255, 0, 255).astype(np.uint8)


def _as_12_bit(grey: np.ndarray) -> np.ndarray:
    return np.clip((grey + 1200) * 0.9, 0, 4095).astype(np.int16)


@pytest.mark.parametrize(
    "other, tolerance",
    [
        (_as_8_bit, 0.03),
        (_as_12_bit, 0.01),
        (lambda grey: (grey + 1200).astype(np.uint16), 0.01),
        (lambda grey: (grey * 0.001).astype(np.float32), 1e-4),
        (lambda grey: grey * 37.5 - 1e5, 1e-4),
    ],
    ids=["8 bit", "12 bit", "offset 1200", "in thousands", "gain and offset"],
)
def test_gain_offset_and_bit_depth_hardly_change_normalised_values(other, tolerance: float) -> None:
    grey = _head()
    expected, found = _normalised(grey), _normalised(np.asarray(other(np.maximum(grey, -1199))))
    assert found.dtype == expected.dtype == np.float32 and found.shape == grey.shape
    assert np.abs(found - expected).mean() < tolerance
    assert np.abs(found - expected).max() < 10 * tolerance


def test_normalised_values_have_mean_zero_and_deviation_one() -> None:
    found = _normalised(_head())
    assert found.mean() == pytest.approx(0, abs=1e-3) and found.std() == pytest.approx(1, abs=1e-3)


def test_a_thousandth_of_metal_and_dead_voxels_hardly_matters() -> None:
    grey = _head()
    spoilt = grey.copy()
    places = np.random.default_rng(1).permutation(grey.size)[: grey.size // 500]
    spoilt.flat[places[::2]] = 30000
    spoilt.flat[places[1::2]] = -30000
    tissue = np.setdiff1d(np.arange(grey.size), places)
    found, expected = _normalised(spoilt).flat[tissue], _normalised(grey).flat[tissue]
    assert np.abs(found - expected).mean() < 0.02
    assert np.abs(_normalised(spoilt)).max() < 4


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_equal_values_everywhere_stay_finite(dtype: type) -> None:
    found = _normalised(np.full((8, 9, 10), 100, dtype))
    assert np.isfinite(found).all() and found.dtype == np.float32


def test_a_large_scan_gives_nearly_the_scale_of_all_its_values() -> None:
    grey = _head()
    whole, thinned = grey_scale(grey), grey_scale(grey, limit=5000)
    for name in ("low", "high", "mean", "std"):
        assert getattr(thinned, name) == pytest.approx(getattr(whole, name), abs=60)


def test_the_scan_itself_is_not_changed() -> None:
    grey = _head().astype(np.float32)
    before = grey.copy()
    _normalised(grey)
    np.testing.assert_array_equal(grey, before)
