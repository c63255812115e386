"""Where the teeth are: the dental region of a scan from a first, coarse look of the network.

In: the class of each voxel of the working grid and its grey values. Out: a box around the dentition, or None when
there are no teeth. Enamel is the densest tissue of the body: where many of the *brightest* tooth voxels lie together
is the dentition, however much dense bone elsewhere in the head (vault, skull base, spine) was taken for teeth; and
where nothing that was taken for teeth is denser than the bone of that head, or more that is as dense lies elsewhere,
bone is all there is, unless it makes up a whole dentition.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.anatomy.sizes import size_of
from ToothTopoSegLib.segmentation.classes import TEETH

Box = tuple[slice, slice, slice]

MARGIN_MM = 12.0
LARGEST_MM = (100.0, 110.0, 115.0)
SMALLEST_MM3 = 60.0
JOIN_MM = 5.0
BRIGHT_PERCENTILE = 97.0
CROWD_MM = 15.0
"""Width (sigma) of the Gaussian that tells where bright tooth voxels crowd: about half a dental arch."""
ENAMEL_RATIO = 1.06
"""Enamel is denser, above air, than nearly all bone of a head by this factor. Of what is taken for teeth in two real
scans with teeth 800 and 1100 mm3 are, in one without 6 mm3, as many voxels of vault and jaws as it has there."""
DENSEST = (97.0, 99.5)
FAR_MM, MOST_ELSEWHERE = 10.0, 1.0
"""Percentiles of the densest tenth of what is taken for teeth, and how much as dense may lie so far from it, beside
that tenth: in the looks at three real scans at most 0.04 where there are teeth, and 1.7 to 58 where there are none."""
MANY_TEETH, WHOLE_SHARE, MOUTH_MM = 16, 0.5, (80.0, 80.0, 90.0)
"""So many teeth, of at least this share of their volume, in a place (z, y, x) of the size of a mouth are a dentition,
however dense they are and whatever else is as dense. In the looks at whole heads of which metal hides the enamel there
are 18 to 30, in those at heads without teeth or metal at most 8, though all over such a head it may be 19."""


def _centre(tooth: NDArray[np.bool_], image: NDArray[Any], spacing: float) -> NDArray[np.float64]:
    """Index (z, y, x) of the place where the brightest tooth voxels crowd."""
    bright = tooth & (image >= np.percentile(image[tooth], BRIGHT_PERCENTILE))
    peak, points = _peak(bright, spacing), np.argwhere(bright)
    half = np.asarray(LARGEST_MM) / spacing / 2
    return np.asarray(points[(np.abs(points - peak) < half * 0.75).all(axis=1)].mean(0))


def _peak(mask: NDArray[np.bool_], spacing: float) -> NDArray[np.float64]:
    """Index (z, y, x) of the place where the voxels of a mask crowd."""
    from scipy import ndimage

    crowd = ndimage.gaussian_filter(mask.astype(np.float32), CROWD_MM / spacing, mode="constant")
    # The middle of the top, which can be flat.
    top, _ = ndimage.label(crowd >= 0.98 * crowd.max())
    return np.asarray(np.argwhere(top == top[np.unravel_index(crowd.argmax(), crowd.shape)]).mean(0))


def air_value(image: NDArray[Any]) -> float:
    """The grey value of air in a scan (z, y, x)."""
    return float(np.percentile(image[::4, ::4, ::4], 1))


def _middle(
    tooth: NDArray[np.bool_], classes: NDArray[Any], image: NDArray[Any], spacing: float, air: float
) -> NDArray[np.float64] | None:
    """About the middle (z, y, x) of what was taken for teeth; None if it is none: neither as dense as teeth are nor
    many of them in one place."""
    if not tooth.any():
        return None
    as_dense = _as_dense_elsewhere(tooth, image, spacing)
    if as_dense <= MOST_ELSEWHERE and _has_enamel(tooth, classes, image, spacing, air):
        return _centre(tooth, image, spacing)
    peak, points = _peak(tooth, spacing), np.argwhere(tooth)
    near = (np.abs(points - peak) < np.asarray(MOUTH_MM) / spacing / 2).all(axis=1)
    counts = np.bincount(classes[tooth][near], minlength=len(TEETH) + 1)[1:] * spacing**3
    whole = counts >= WHOLE_SHARE * np.array([size_of(fdi).volume for fdi in TEETH])
    return np.asarray(points[near].mean(0)) if whole.sum() >= MANY_TEETH else None


def _has_enamel(
    tooth: NDArray[np.bool_], classes: NDArray[Any], image: NDArray[Any], spacing: float, air: float
) -> bool:
    """Whether what was taken for teeth is denser than the bone of that head."""
    jaw = image[classes > len(TEETH)]
    bone = float(np.percentile(jaw, 99)) if len(jaw) else air
    enamel = (image[tooth] - air) >= ENAMEL_RATIO * (bone - air)
    return bool(enamel.sum() * spacing**3 >= SMALLEST_MM3)


def _as_dense_elsewhere(tooth: NDArray[np.bool_], image: NDArray[Any], spacing: float) -> float:
    """How many voxels far from what was taken for teeth are as dense as the densest tenth of it, beside that tenth.

    What is denser still is metal.
    """
    from scipy import ndimage

    low, high = np.percentile(image[tooth], DENSEST)
    far = image[~ndimage.binary_dilation(tooth, iterations=max(1, round(FAR_MM / spacing)))]
    return float(((far > low) & (far <= high)).sum() / max(1, int((image[tooth] > low).sum())))


def _groups(tooth: NDArray[np.bool_], spacing: float) -> tuple[NDArray[np.int32], int]:
    """Numbered groups of tooth voxels and their count: the parts of a tooth, and neighbours, join when thickened."""
    from scipy import ndimage

    groups, count = ndimage.label(ndimage.binary_dilation(tooth, iterations=max(1, round(JOIN_MM / spacing / 2))))
    return groups, int(count)


def _without_crumbs(tooth: NDArray[np.bool_], spacing: float) -> NDArray[np.bool_]:
    """The tooth voxels of groups worth looking at; none when no group reaches ``SMALLEST_MM3``."""
    groups, count = _groups(tooth, spacing)
    volumes = np.bincount(groups[tooth], minlength=count + 1) * spacing**3
    keep = volumes >= (SMALLEST_MM3 / 4 if volumes.max() >= SMALLEST_MM3 else np.inf)
    return np.asarray(tooth & keep[groups])


def teeth_box(
    classes: NDArray[Any], image: NDArray[Any], spacing: float, air: float
) -> tuple[NDArray[np.int_], NDArray[np.int_]] | None:
    """First voxel and last but one (z, y, x) around the teeth of a class map (z, y, x), voxels cubes of ``spacing`` mm.

    ``image`` (z, y, x) holds the grey values, on any scale, on which air is ``air``. The box has its margin even where
    that reaches beyond the map, and is never larger than ``LARGEST_MM``; None when no group of tooth voxels reaches
    ``SMALLEST_MM3`` or none shows enamel or a dentition.
    """
    tooth = (classes >= 1) & (classes <= len(TEETH))
    if tooth.sum() * spacing**3 < SMALLEST_MM3:
        return None
    tooth = _without_crumbs(tooth, spacing)
    centre = _middle(tooth, classes, image, spacing, air)
    if centre is None:
        return None
    half = np.asarray(LARGEST_MM) / spacing / 2
    points = np.argwhere(tooth)
    points = points[(np.abs(points - centre) < half).all(axis=1)]
    # The middle of all teeth rather than of the brightest: an open bite keeps its margin on both sides.
    centre = (points.min(0) + points.max(0)) / 2
    margin = MARGIN_MM / spacing
    low = np.maximum(np.floor(points.min(0) - margin), np.ceil(centre - half))
    high = np.minimum(np.ceil(points.max(0) + margin) + 1, np.floor(centre + half))
    return low.astype(int), high.astype(int)


def dental_region(classes: NDArray[Any], image: NDArray[Any], spacing: float) -> Box | None:
    """The box of :func:`teeth_box` as slices (z, y, x) within the map; None when there are no teeth."""
    box = teeth_box(classes, image, spacing, air_value(image))
    if box is None:
        return None
    z, y, x = (slice(max(int(a), 0), min(int(b), n)) for a, b, n in zip(*box, classes.shape, strict=True))
    return z, y, x
