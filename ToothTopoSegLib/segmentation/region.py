"""Where the teeth are: the dental region of a scan from a first, coarse look of the network.

In: the class of each voxel of the working grid and its grey values. Out: a box around the dentition, or None when
there are no teeth. Enamel is the densest tissue of the body: where many of the *brightest* tooth voxels lie together
is the dentition, however much dense bone elsewhere in the head (vault, skull base, spine) was taken for teeth.
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
BRIGHT_PERCENTILE = 97.0
CROWD_MM = 15.0
"""Width (sigma) of the Gaussian that tells where bright tooth voxels crowd: about half a dental arch."""


def _centre(tooth: NDArray[np.bool_], image: NDArray[Any], spacing: float) -> NDArray[np.float64]:
    """Index (z, y, x) of the place where the brightest tooth voxels crowd."""
    from scipy import ndimage

    bright = tooth & (image >= np.percentile(image[tooth], BRIGHT_PERCENTILE))
    crowd = ndimage.gaussian_filter(bright.astype(np.float32), CROWD_MM / spacing, mode="constant")
    # The middle of the top, which can be flat.
    top, _ = ndimage.label(crowd >= 0.98 * crowd.max())
    peak = np.argwhere(top == top[np.unravel_index(crowd.argmax(), crowd.shape)]).mean(0)
    points = np.argwhere(bright)
    half = np.asarray(LARGEST_MM) / spacing / 2
    return np.asarray(points[(np.abs(points - peak) < half * 0.75).all(axis=1)].mean(0))


def _without_crumbs(tooth: NDArray[np.bool_], spacing: float) -> NDArray[np.bool_]:
    """The tooth voxels of groups worth looking at; none when no group reaches ``SMALLEST_MM3``."""
    from scipy import ndimage

    # The parts of a tooth, and neighbours, join when thickened; crumbs of noise do not.
    groups, count = ndimage.label(ndimage.binary_dilation(tooth, iterations=max(1, round(JOIN_MM / spacing / 2))))
    volumes = np.bincount(groups[tooth], minlength=count + 1) * spacing**3
    keep = volumes >= (SMALLEST_MM3 / 4 if volumes.max() >= SMALLEST_MM3 else np.inf)
    return np.asarray(tooth & keep[groups])


def dental_region(classes: NDArray[Any], image: NDArray[Any], spacing: float) -> tuple[slice, slice, slice] | None:
    """Box (z, y, x) around the teeth of a class map (z, y, x) with cubic voxels of ``spacing`` mm.

    ``image`` (z, y, x) holds the grey values, on any scale. The box is never larger than ``LARGEST_MM``; None when no
    group of tooth voxels reaches ``SMALLEST_MM3``.
    """
    tooth = (classes >= 1) & (classes <= len(TEETH))
    if tooth.sum() * spacing**3 < SMALLEST_MM3:
        return None
    tooth = _without_crumbs(tooth, spacing)
    if not tooth.any():
        return None
    half = np.asarray(LARGEST_MM) / spacing / 2
    centre = _centre(tooth, image, spacing)
    points = np.argwhere(tooth)
    points = points[(np.abs(points - centre) < half).all(axis=1)]
    # The middle of all teeth rather than of the brightest: an open bite keeps its margin on both sides.
    centre = (points.min(0) + points.max(0)) / 2
    margin = MARGIN_MM / spacing
    low = np.maximum(np.floor(points.min(0) - margin), np.ceil(centre - half))
    high = np.minimum(np.ceil(points.max(0) + margin) + 1, np.floor(centre + half))
    low, high = np.maximum(low, 0).astype(int), np.minimum(high, tooth.shape).astype(int)
    z, y, x = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return z, y, x
