"""Signs that a body is two teeth and not one large tooth: two groups of cusps, two pulp chambers.

In go the two parts of a body as boolean arrays (z, y, x) on a coarse grid, with its spacing in mm and the grey values
of the scan where there is one; out come yes or no. A tooth has one pulp, however many canals leave it, and its cusps
rise from one crown.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.imaging.volume import Vector3
from ToothTopoSegLib.topology.shape import Floats, Mask

CROWN_MM = 4.0
"""Cusps are looked for so far down from the lower of the two crowns' tops."""
VALLEY_MM = 0.4
"""Between the crowns of two teeth the ball that fits is smaller by this (radius) than in either; between cusps of one
tooth the crown is as thick as below them."""
_DEEP_MM = 1.25
"""A pulp lies at least so deep in its tooth."""
CHAMBER_MM3 = 1.5
"""Volume of a pulp chamber as seen in a scan, at least."""
_CONTRAST = 0.3
"""A pulp is darker than dentine by this share, at least, of the contrast of dentine to what surrounds the tooth."""


def two_cusp_groups(own: Mask, other: Mask, spacing: Vector3, crownwards: Floats) -> bool:
    """Whether both parts have a crown of their own, with a valley between them; ``crownwards`` is a unit vector."""
    from scipy import ndimage

    heights = np.tensordot(crownwards * spacing, np.indices(own.shape), axes=1)
    crown = (own | other) & (heights > min(float(heights[part].max()) for part in (own, other)) - CROWN_MM)
    depth = ndimage.distance_transform_edt(own | other, sampling=spacing) * crown
    peaks = [np.unravel_index(int(np.argmax(depth * part)), depth.shape) for part in (own, other)]
    level = min(float(depth[peak]) for peak in peaks) - VALLEY_MM
    numbered, _ = ndimage.label(depth > level)
    return bool(level > 0 and numbered[peaks[0]] != numbered[peaks[1]])


def two_pulps(own: Mask, other: Mask, spacing: Vector3, grey: NDArray[Any]) -> bool:
    """Whether the scan shows a dark chamber inside either part and none that leads from one to the other."""
    from scipy import ndimage

    body = own | other
    deep = ndimage.distance_transform_edt(body, sampling=spacing) > _DEEP_MM
    around = ndimage.binary_dilation(body, iterations=3) & ~ndimage.binary_dilation(body)
    if not deep.any() or not around.any():
        return False
    dentine, outside, dark = np.median(grey[deep]), np.median(grey[around]), np.percentile(grey[deep], 2)
    if dentine - dark < _CONTRAST * max(dentine - outside, 0) or dentine <= outside:
        return False
    numbered, _ = ndimage.label(deep & (grey < (dentine + dark) / 2))
    least = CHAMBER_MM3 / float(np.prod(spacing))
    chambers = [set(np.flatnonzero(np.bincount(numbered[part]) >= least)) - {0} for part in (own, other)]
    return all(chambers) and not chambers[0] & chambers[1]
