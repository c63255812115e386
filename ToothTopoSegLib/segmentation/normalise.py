"""Grey values of any scanner on one scale, from statistics of the scan itself.

CBCT grey values are not Hounsfield units: offsets, ranges and even bit depths differ between machines. As nnU-Net's
ZScoreNormalization does for modalities without a unit, values are shifted and scaled to mean 0 and standard deviation
1; clipping to the 0.5 and 99.8 percentiles first keeps metal and dead voxels from setting the scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LOW_PERCENTILE, HIGH_PERCENTILE = 0.5, 99.8


@dataclass(frozen=True)
class GreyScale:
    """Clipping range, mean and standard deviation of a scan, in its own grey values."""

    low: float
    high: float
    mean: float
    std: float

    def apply(self, grey: NDArray[Any]) -> NDArray[np.float32]:
        """Normalised values, float32 of the same shape."""
        out = np.clip(grey, self.low, self.high).astype(np.float32)
        out -= np.float32(self.mean)
        out /= np.float32(self.std)
        return out


def grey_scale(grey: NDArray[Any], limit: int = 2_000_000) -> GreyScale:
    """The scale of an array of any shape; larger ones are thinned evenly to about ``limit`` values."""
    flat = grey.reshape(-1)
    values = flat[:: max(1, flat.size // limit)].astype(np.float32)
    low, high = (float(v) for v in np.percentile(values, (LOW_PERCENTILE, HIGH_PERCENTILE)))
    values = np.clip(values, low, high)
    return GreyScale(low, high, float(values.mean()), max(float(values.std()), 1e-6))
