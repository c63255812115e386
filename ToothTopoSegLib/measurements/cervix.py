"""Where the crown of a tooth ends: its cervix, estimated, for a label map does not show the cementoenamel junction.

In go the voxels of a tooth by their height over the tip of its longest root, out comes the height of the cervix in mm.
From shape alone, it is where the tooth begins to widen towards the crown: the strongest upward bend of its equivalent
diameter near the height that the average proportions of this tooth (:mod:`ToothTopoSegLib.anatomy.sizes`) let expect.
With the scan, it is where enamel begins on the surface: enamel is told from dentine by its grey value (N. Otsu, IEEE
Trans Syst Man Cybern 1979;9:62-66). Either is the height at one level across the axis; the real junction is a curve
that rises by a few mm between neighbouring teeth.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.anatomy.sizes import size_of

Floats = NDArray[np.float64]

_SHAPE_MM, _ENAMEL_MM = 1.8, 3.0
"""How far from its expected height the cervix is looked for; farther down a bend may be where roots part."""
_LEVEL_MM = 0.3
_SMOOTH_MM = 0.45
_BEGINS, _COVERS = 0.25, 0.5
"""Share of the surface at a level that is enamel where the crown begins, and in the crown if enamel is seen at all."""
_BINS = 128


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
    fdi: int, heights: Floats, length: float, grey: NDArray[Any], on_surface: NDArray[np.bool_]
) -> float | None:
    """Height in mm of the cervix from the grey values (n,) of the voxels, of which ``on_surface`` (n,) are the outer.

    None where the surface of the crown is not brighter than the rest of the tooth, as with a metal crown.
    """
    bright = grey > _threshold(grey)
    level, count = _levels(heights[on_surface], length)
    all_there = np.bincount(level, minlength=count)
    share = np.bincount(level, weights=bright[on_surface], minlength=count) / np.maximum(all_there, 1)
    middle, expected = _middles(count), expected_cervix(fdi, length)
    crown = (middle > expected + _ENAMEL_MM) & (all_there > 0)
    root = (middle < expected - _ENAMEL_MM) & (all_there > 0)
    if not crown.any() or np.median(share[crown]) < _COVERS or (root.any() and np.median(share[root]) > _BEGINS):
        return None
    begun = np.flatnonzero((share >= _BEGINS) & (np.abs(middle - expected) <= _ENAMEL_MM))
    return float(middle[begun[0]] - _LEVEL_MM / 2) if len(begun) else None


def _levels(heights: Floats, length: float) -> tuple[NDArray[np.int64], int]:
    count = int(np.ceil(length / _LEVEL_MM)) + 1
    return np.clip((heights / _LEVEL_MM).astype(np.int64), 0, count - 1), count


def _middles(count: int) -> Floats:
    return np.asarray((np.arange(count) + 0.5) * _LEVEL_MM, dtype=np.float64)


def _threshold(grey: NDArray[Any]) -> float:
    """The grey value that parts bright from dark best; the brightest hundredth (metal) and the darkest are cut off."""
    low, high = np.percentile(grey, (1, 99))
    if low == high:
        return float(high)
    counts, edges = np.histogram(np.clip(grey, low, high), _BINS)
    middles = (edges[:-1] + edges[1:]) / 2
    below, sums = np.cumsum(counts), np.cumsum(counts * middles)
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(edges[1 + int(np.nanargmax(between[:-1]))])
