"""Where the teeth are: the dental region of a scan from a first, coarse look of the network.

In: the class of each voxel of the working grid. Out: a box around the dentition, or None when there are no teeth.
Isolated tooth voxels elsewhere in the head (skull base, spine) do not count: the region is built around the densest
group of tooth voxels and cannot be larger than a human dentition.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.segmentation.classes import TEETH

MARGIN_MM = 12.0
LARGEST_MM = (100.0, 110.0, 115.0)
SMALLEST_MM3 = 60.0
JOIN_MM = 5.0


def dental_region(classes: NDArray[Any], spacing: float) -> tuple[slice, slice, slice] | None:
    """Box (z, y, x) around the teeth of a class map (z, y, x) with cubic voxels of ``spacing`` mm.

    It is never larger than ``LARGEST_MM``; None when no group of tooth voxels reaches ``SMALLEST_MM3``.
    """
    from scipy import ndimage

    tooth = (classes >= 1) & (classes <= len(TEETH))
    if tooth.sum() * spacing**3 < SMALLEST_MM3:
        return None
    # Teeth of both jaws join when thickened; strays do not.
    radius = max(1, round(JOIN_MM / spacing / 2))
    labels, count = ndimage.label(ndimage.binary_dilation(tooth, iterations=radius))
    points, group = np.argwhere(tooth), labels[tooth]
    sizes = np.bincount(group, minlength=count + 1)
    if sizes.max() * spacing**3 < SMALLEST_MM3:
        return None
    sums = np.stack([np.bincount(group, points[:, axis], count + 1) for axis in range(3)], axis=1)
    middles = sums / np.maximum(sizes, 1)[:, None]
    centre = middles[sizes.argmax()]
    half = np.asarray(LARGEST_MM) / spacing / 2
    near = (np.abs(middles - centre) < half * 0.75).all(axis=1) & (sizes * spacing**3 >= SMALLEST_MM3 / 4)
    points = points[near[group]]
    centre = points.mean(0)
    margin = MARGIN_MM / spacing
    low = np.maximum(np.floor(points.min(0) - margin), np.ceil(centre - half))
    high = np.minimum(np.ceil(points.max(0) + margin) + 1, np.floor(centre + half))
    low, high = np.maximum(low, 0).astype(int), np.minimum(high, tooth.shape).astype(int)
    z, y, x = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return z, y, x
