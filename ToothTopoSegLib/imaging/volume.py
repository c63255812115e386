"""A scan or label map as a value: array plus geometry.

Arrays are (z, y, x) as SimpleITK gives them; ``spacing`` is mm in the same order (z, y, x). ``origin`` is the
LPS position (x, y, z) in mm of the centre of voxel [0, 0, 0]. ``direction`` is the 3x3 matrix whose *columns*
are the LPS unit vectors of the image axes in the order x (last array axis), y, z, as in ITK.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Vector3 = tuple[float, float, float]
IDENTITY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
Matrix3 = tuple[Vector3, Vector3, Vector3]


@dataclass(frozen=True, eq=False)
class Volume:
    """Array (z, y, x) with spacing (z, y, x) mm, LPS origin (x, y, z) mm and ITK direction matrix."""

    array: Array
    spacing: Vector3 = (1.0, 1.0, 1.0)
    origin: Vector3 = (0.0, 0.0, 0.0)
    direction: Matrix3 = IDENTITY

    def with_array(self, array: Array) -> Volume:
        """The same geometry around another array of the same shape."""
        if array.shape != self.array.shape:
            raise ValueError(f"array of shape {array.shape} does not fit the grid {self.array.shape}")
        return replace(self, array=array)

    def index_to_lps(self, index_zyx: Array) -> Array:
        """LPS positions (..., 3) as (x, y, z) mm of voxel indices (..., 3) as (z, y, x); fractions allowed."""
        step = np.asarray(self.direction) * np.asarray(self.spacing)[::-1]
        return np.asarray(index_zyx, dtype=float)[..., ::-1] @ step.T + np.asarray(self.origin)

    def lps_to_index(self, lps: Array) -> Array:
        """Fractional voxel indices (..., 3) as (z, y, x) of LPS positions (..., 3) as (x, y, z) mm."""
        step = np.asarray(self.direction) * np.asarray(self.spacing)[::-1]
        return ((np.asarray(lps, dtype=float) - np.asarray(self.origin)) @ np.linalg.inv(step).T)[..., ::-1]

    @property
    def voxel_volume(self) -> float:
        """Volume of one voxel in mm3."""
        return float(np.prod(self.spacing))
