"""Scans unlike the training data: the grey values of a scan as another device or program might have written them.

In: the grey values of a scan (z, y, x) on any scale. Out: float32 of the same shape on a scale of about 0 to 2000. No
training sample is made by these functions, so that they can show how a model fares on what it never saw.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
RANGE = 2000.0
"""What a scan's own range, from its 0.5th to its 99.5th percentile, is stretched to."""


def unit_scale(grey: Array) -> NDArray[np.float32]:
    """Grey values between 0 and 1, cut off at the 0.5th and the 99.5th percentile."""
    low, high = np.percentile(grey, (0.5, 99.5))
    return np.asarray(np.clip((grey - low) / max(float(high - low), 1e-6), 0, 1), np.float32)


def _as_it_is(unit: Array, rng: np.random.Generator) -> Array:
    return unit


def _bright(unit: Array, rng: np.random.Generator) -> Array:
    return np.asarray(unit**0.45)


def _dark(unit: Array, rng: np.random.Generator) -> Array:
    return np.asarray(unit**2.2)


def _window(unit: Array, rng: np.random.Generator) -> Array:
    return np.asarray(np.clip((unit - 0.35) / 0.45, 0, 1))


def _noise(unit: Array, rng: np.random.Generator) -> Array:
    return np.asarray(unit + rng.normal(0, 0.125, unit.shape))


def _smooth(unit: Array, rng: np.random.Generator) -> Array:
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(unit, 1.8))


def _sharp(unit: Array, rng: np.random.Generator) -> Array:
    return np.asarray(unit + 2 * (unit - _smooth(unit, rng)))


ODD: dict[str, tuple[str, Callable[[Array, np.random.Generator], Array]]] = {
    "plain": ("as the phantom's scanner makes it", _as_it_is),
    "bright": ("grey values to the power 0.45", _bright),
    "dark": ("grey values to the power 2.2", _dark),
    "window": ("a bone window: cut off below 35 % and above 80 % of the range", _window),
    "noise": ("white noise of 12.5 % of the range", _noise),
    "smooth": ("blurred by 1.8 voxels", _smooth),
    "sharp": ("edges enhanced threefold", _sharp),
}
"""By name: what was done in words, and the function of grey values between 0 and 1."""


def odd(grey: Array, kind: str, seed: int = 0) -> NDArray[np.float32]:
    """The grey values (z, y, x) as a scan of ``kind``, one of :data:`ODD`; KeyError for another."""
    return np.asarray(RANGE * ODD[kind][1](unit_scale(grey), np.random.default_rng(seed)), np.float32)
