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
    """Box (z, y, x) around the teeth of a class map (z, y, x) with cubic voxels of ``spacing`` mm."""
    from scipy import ndimage

    tooth = (classes >= 1) & (classes <= len(TEETH))
    if tooth.sum() * spacing**3 < SMALLEST_MM3:
        return None
    # Teeth of both jaws join when thickened; strays do not.
    radius = max(1, round(JOIN_MM / spacing / 2))
    labels, count = ndimage.label(ndimage.binary_dilation(tooth, iterations=radius))
    if count == 0:
        return None
    sizes = np.bincount(labels[tooth], minlength=count + 1)
    sizes[0] = 0
    if sizes.max() * spacing**3 < SMALLEST_MM3:
        return None
    centre = np.argwhere(tooth & (labels == sizes.argmax())).mean(0)
    half = np.asarray(LARGEST_MM) / spacing / 2
    near = np.zeros(count + 1, bool)
    for index in np.flatnonzero(sizes * spacing**3 >= SMALLEST_MM3 / 4):
        middle = np.argwhere(tooth & (labels == index)).mean(0)
        near[index] = bool((np.abs(middle - centre) < half * 0.75).all())
    points = np.argwhere(tooth & near[labels])
    margin = MARGIN_MM / spacing
    low = np.maximum(np.floor(points.min(0) - margin), np.floor(centre - half))
    high = np.minimum(np.ceil(points.max(0) + margin) + 1, np.ceil(centre + half))
    low, high = np.maximum(low, 0).astype(int), np.minimum(high, tooth.shape).astype(int)
    z, y, x = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return z, y, x
