"""Class scores of the working grid turned into labels on the scan's own grid, slice by slice.

Scores are interpolated linearly and the best class is taken afterwards, which keeps surfaces smooth. Only one slice
of class scores at the scan's resolution exists at any time, whatever the size of the scan.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.progress import Progress, silent

Array = NDArray[Any]


def _positions(target: int, spacing: float, offset: float, step: float, count: int) -> tuple[Array, Array, Array]:
    """Target indices inside the source's extent, their lower source index and the fraction above it."""
    at = (np.arange(target) * spacing - offset) / step
    inside = np.flatnonzero((at >= -0.5) & (at <= count - 0.5))
    at = np.clip(at[inside], 0, count - 1)
    low = np.minimum(np.floor(at).astype(int), max(count - 2, 0))
    return inside, low, (at - low).astype(np.float32)


def _blend_axis(values: Array, low: Array, part: Array, axis: int) -> Array:
    shape = [1] * values.ndim
    shape[axis] = -1
    first = np.take(values, low, axis)
    if values.shape[axis] == 1:
        return first
    return np.asarray(first + (np.take(values, low + 1, axis) - first) * part.reshape(shape))


def labels_on_grid(
    scores: Array, grid: Volume, scan: Volume, labels: NDArray[np.uint8], progress: Progress = silent
) -> NDArray[np.uint8]:
    """Label map uint8 on the grid of ``scan`` (z, y, x) from scores (classes, z, y, x) on ``grid``.

    Both grids share their direction. ``labels`` maps a class index to its label value; outside ``grid`` the label is 0.
    """
    out = np.zeros(scan.array.shape, np.uint8)
    offset = scan.lps_to_index(np.asarray(grid.origin)) * np.asarray(scan.spacing)
    axes = [
        _positions(scan.array.shape[i], scan.spacing[i], float(offset[i]), grid.spacing[i], scores.shape[1 + i]) for i in range(3)
    ]
    (zs, z_low, z_part), (ys, y_low, y_part), (xs, x_low, x_part) = axes
    if not (len(zs) and len(ys) and len(xs)):
        return out
    for row, (z, low, part) in enumerate(zip(zs, z_low, z_part, strict=True)):
        if row % 16 == 0:
            progress(row / len(zs), "putting labels on the scan")
        pair = scores[:, low : low + 2]
        # A class that leads nowhere in these slices cannot lead between them.
        leading = np.unique(pair.argmax(0))
        sheet = _blend_axis(pair[leading], np.array([0]), np.array([part]), 1)[:, 0]
        sheet = _blend_axis(_blend_axis(sheet, y_low, y_part, 1), x_low, x_part, 2)
        out[z, ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1] = labels[leading[sheet.argmax(0)]]
    return out
