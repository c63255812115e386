"""Where the crown of a tooth ends: its cervix, estimated, for a label map does not show the cementoenamel junction.

In go the voxels of a tooth by their height over the tip of its longest root, out comes the height of the cervix in mm.
From shape alone, it is where the tooth begins to widen towards the crown: the strongest upward bend of its equivalent
diameter near the height that the average proportions of this tooth (:mod:`ToothTopoSegLib.anatomy.sizes`) let expect.
With the scan, it is where enamel ends beneath the surface, near there: enamel is told from dentine by its grey value
(three classes after N. Otsu, IEEE Trans Syst Man Cybern 1979;9:62-66). Either is the height at one level across the
axis; the real junction is a curve that rises by a few mm between neighbouring teeth.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.anatomy.sizes import size_of

Floats = NDArray[np.float64]

_SHAPE_MM, _ENAMEL_MM = 1.8, 1.5
"""How far from its expected height the cervix is looked for by shape, where farther down a bend may be where roots
part, and how far from there by enamel."""
_LEVEL_MM = 0.3
_SMOOTH_MM = 0.45
_BEGINS, _COVERS = 0.25, 0.5
"""Share of the surface at a level that is enamel where the crown begins, and in the crown if enamel is seen at all."""
_BINS = 64


def expected_cervix(fdi: int, length: float) -> float:
    """Height in mm of the cervix over the root's tip if a tooth ``length`` mm long has average proportions."""
    size = size_of(fdi)
    return length * size.root_length / size.length


def cervix_from_shape(fdi: int, heights: Floats, length: float, voxel_mm3: float) -> float:
    """Height in mm of the cervix of a tooth whose voxels stand at ``heights`` (n,) mm, from its widths."""
    from scipy import ndimage

    level, count = _levels(heights, length)
    area = np.bincount(level, minlength=count) * voxel_mm3 / _LEVEL_MM
    width = ndimage.gaussian_filter1d(np.sqrt(4 / np.pi * area), _SMOOTH_MM / _LEVEL_MM, order=2, mode="nearest")
    near = np.abs(_middles(count) - expected_cervix(fdi, length)) <= _SHAPE_MM
    return float(_middles(count)[int(np.argmax(np.where(near, width, -np.inf)))])


def cervix_from_enamel(
    by_shape: float, heights: Floats, length: float, grey: NDArray[Any], on_surface: NDArray[np.bool_]
) -> float | None:
    """Height in mm of the cervix from the grey values (n,) of the voxels, of which ``on_surface`` (n,) are the outer.

    From the crown down, it is where enamel ends. None where the surface of the crown is not brighter than that of the
    root, as with a metal crown, or where enamel ends nowhere near the height ``by_shape``.
    """
    bright = grey > _threshold(grey)
    level, count = _levels(heights[on_surface], length)
    all_there = np.bincount(level, minlength=count)
    share = np.bincount(level, weights=bright[on_surface], minlength=count) / np.maximum(all_there, 1)
    middle = _middles(count)
    crown = (middle > by_shape + _ENAMEL_MM) & (all_there > 0)
    root = (middle < by_shape - _ENAMEL_MM) & (all_there > 0)
    if not crown.any() or np.median(share[crown]) < _COVERS or (root.any() and np.median(share[root]) > _BEGINS):
        return None
    bare = np.flatnonzero((share < _BEGINS) & (middle < middle[crown][0]))
    if not len(bare) or abs(middle[bare[-1]] - by_shape) > _ENAMEL_MM:
        return None
    return float(middle[bare[-1]] + _LEVEL_MM / 2)


def _levels(heights: Floats, length: float) -> tuple[NDArray[np.int64], int]:
    count = int(np.ceil(length / _LEVEL_MM)) + 1
    return np.clip((heights / _LEVEL_MM).astype(np.int64), 0, count - 1), count


def _middles(count: int) -> Floats:
    return np.asarray((np.arange(count) + 0.5) * _LEVEL_MM, dtype=np.float64)


def _threshold(grey: NDArray[Any]) -> float:
    """The grey value above which the brightest of three classes (pulp or rim, dentine, enamel) lies.

    The brightest hundredth (metal) and the darkest are cut off.
    """
    low, high = np.percentile(grey, (1, 99))
    if low == high:
        return float(high)
    counts, edges = np.histogram(np.clip(grey, low, high), _BINS)
    number = np.concatenate([[0], np.cumsum(counts)])
    total = np.concatenate([[0], np.cumsum(counts * (edges[:-1] + edges[1:]) / 2)])
    first, second = np.triu_indices(_BINS - 1, k=1)
    first, second = first + 1, second + 1

    def spread(start: NDArray[np.int64], stop: NDArray[np.int64]) -> Floats:
        return (total[stop] - total[start]) ** 2 / np.maximum(number[stop] - number[start], 1)

    start, stop = np.zeros_like(first), np.full_like(first, _BINS)
    best = int(np.argmax(spread(start, first) + spread(first, second) + spread(second, stop)))
    return float(edges[second[best]])
