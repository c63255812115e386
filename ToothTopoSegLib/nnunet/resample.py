"""Resampling by nnU-Net's definitions, slice by slice.

nnU-Net resizes images with splines (order 3) and class scores linearly, voxel edges aligned, values beyond the rim
those at the rim, no antialiasing; where voxels are at least three times as long along one axis as along another, that
axis is taken by itself (order 0: the nearest slice). Splines on a grid are separable, so that a resized image is
three matrices applied to it one after the other, and no more than a few slices exist beside the result. The matrices
are what scipy, which nnU-Net calls through scikit-image, makes of unit vectors: the same numbers, sparse.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.nnunet.plans import Resampling, Size3

Array = NDArray[Any]
NEGLIGIBLE = 1e-7
"""Weights of a spline that cannot be seen in float32; they fall by a factor of 3.7 a voxel."""


def new_shape(shape: Sequence[int], spacing: Sequence[float], wanted: Sequence[float]) -> Size3:
    """Voxels along each axis when ``shape`` voxels of ``spacing`` mm become voxels of ``wanted`` mm."""
    z, y, x = (round(s / w * n) for n, s, w in zip(shape, spacing, wanted, strict=True))
    return z, y, x


def separate_axis(rule: Resampling, current: Sequence[float], wanted: Sequence[float]) -> int | None:
    """The axis that is resampled by itself, from the spacings before and after; None when all are taken together."""
    if rule.separate_z is False:
        return None
    spacing = current
    if rule.separate_z is None:
        anisotropic = [s for s in (current, wanted) if max(s) / min(s) > rule.anisotropy]
        if not anisotropic:
            return None
        spacing = anisotropic[0]
    longest = [axis for axis in range(3) if spacing[axis] == max(spacing)]
    return longest[0] if len(longest) == 1 else None


def positions(count: int, target: int) -> NDArray[np.float64]:
    """Where ``target`` voxels lie among ``count`` that cover the same length, none beyond the rim."""
    return np.clip((np.arange(target) + 0.5) * (count / target) - 0.5, 0, count - 1)


def spline_matrix(count: int, target: int, order: int) -> Any:
    """Sparse float32 matrix (target, count) that resizes an axis with splines of an order (0: the nearest voxel)."""
    from scipy.ndimage import zoom
    from scipy.sparse import csr_matrix

    if count == target:
        return csr_matrix(np.eye(count, dtype=np.float32))
    if order == 0:
        nearest = np.floor(positions(count, target) + 0.5).astype(int)
        return csr_matrix((np.ones(target, np.float32), (np.arange(target), nearest)), shape=(target, count))
    # Along the other axis nothing is resized: its voxels are the unit vectors.
    columns = [
        zoom(np.eye(count)[:, part], (target / count, 1), order=order, mode="nearest", grid_mode=True)
        for part in np.array_split(np.arange(count), max(1, count // 64))
    ]
    matrix = np.concatenate(columns, axis=1)
    matrix[np.abs(matrix) < NEGLIGIBLE] = 0
    return csr_matrix(matrix.astype(np.float32))


def resized_image(image: Array, shape: Size3, rule: Resampling, separate: int | None) -> NDArray[np.float32]:
    """An image (z, y, x) as float32 with ``shape`` voxels; values stay within what they were, as scikit-image keeps."""
    if image.shape == shape:
        return image.astype(np.float32, copy=False)
    orders = [rule.order_z if axis == separate else rule.order for axis in range(3)]
    matrices = [spline_matrix(n, m, order) for n, m, order in zip(image.shape, shape, orders, strict=True)]
    if separate is None:
        return np.clip(_applied(image, matrices), image.min(), image.max())
    # The axis by itself comes first in memory; each of its slices keeps its own range of values.
    front = np.moveaxis(image, separate, 0)
    along, rows, columns = [matrices.pop(separate), *matrices]
    slices = np.empty((front.shape[0], rows.shape[0], columns.shape[0]), np.float32)
    for index, plane in enumerate(front):
        slices[index] = np.clip((columns @ (rows @ plane).T).T, plane.min(), plane.max())
    if along.shape[0] != front.shape[0]:
        slices = (along @ slices.reshape(len(slices), -1)).reshape(-1, *slices.shape[1:])
    return np.ascontiguousarray(np.moveaxis(slices, 0, separate))


def _applied(image: Array, matrices: Sequence[Any]) -> NDArray[np.float32]:
    """Three matrices applied: within each slice, then across the few slices that count for each new one."""
    across, rows, columns = matrices
    planes: dict[int, Array] = {}
    out = np.empty((across.shape[0], rows.shape[0], columns.shape[0]), np.float32)
    for z in range(out.shape[0]):
        used = across.indices[across.indptr[z] : across.indptr[z + 1]]
        weights = across.data[across.indptr[z] : across.indptr[z + 1]]
        for old in [k for k in planes if k < used.min()]:
            del planes[old]
        for k in used:
            if k not in planes:
                planes[k] = (columns @ (rows @ image[k].astype(np.float32)).T).T
        out[z] = sum(weight * planes[k] for weight, k in zip(weights, used, strict=True))
    return out
