"""Grids of another spacing, and boxes cut out of a volume, with exact geometry.

The new grid has the volume's own axes and the same centre of physical extent (an image of n voxels covers n x spacing,
half a voxel beyond the outer voxel centres). Interpolation is linear along each axis in turn; where the new spacing is
coarser, the interpolated line is averaged over a box (antialiasing), integrated exactly and in the same pass. The box
is sqrt(r^2 - 1) old voxels wide at a ratio r, so that the blur of an old voxel and of the box add up (variances r^2/12)
to that of one new voxel. It is chosen over a Gaussian followed by sampling because it has no width to be tuned and a
finite support, reproduces constants and ramps exactly at any ratio and phase (a sampled Gaussian or triangle shifts
edges by some hundredths of a millimetre), and turns into plain linear interpolation without a step as r reaches one.
In: a Volume of any number type. Out: a float32 Volume, made slice by slice.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.imaging.volume import Array, Vector3, Volume

Index3 = tuple[int, int, int]


def resample_linear(volume: Volume, spacing_zyx: Vector3, region: tuple[Index3, Index3] | None = None) -> Volume:
    """The volume as float32 on a grid of ``spacing_zyx`` mm (z, y, x), same axes, same centre.

    ``region`` = (lower, upper) in voxels (z, y, x), upper excluded: resample only that box, as ``crop`` would cut it.
    Each axis gets ``max(1, round(n * old / new))`` voxels. Beside the result, a few slices of memory are used.
    Raises ValueError for a spacing that is not positive or a region outside the volume.
    """
    if region is not None:
        volume = crop(volume, *region)
    if not all(s > 0 for s in spacing_zyx):
        raise ValueError(f"spacing must be positive, not {spacing_zyx}")
    ratio = [new / old for new, old in zip(spacing_zyx, volume.spacing, strict=True)]
    size = [max(1, round(n / r)) for n, r in zip(volume.array.shape, ratio, strict=True)]
    first = [(n - 1) / 2 - (m - 1) / 2 * r for n, m, r in zip(volume.array.shape, size, ratio, strict=True)]
    weights = [_weights(n, m, f, r) for n, m, f, r in zip(volume.array.shape, size, first, ratio, strict=True)]
    x, y, z = (float(v) for v in volume.index_to_lps(np.array(first)))
    array = _apply(volume.array, weights)
    spacing = (float(spacing_zyx[0]), float(spacing_zyx[1]), float(spacing_zyx[2]))
    return Volume(array, spacing, (x, y, z), volume.direction)


def onto(values: Array, grid: Volume, other: Volume, order: int) -> Array:
    """Values (z, y, x) on ``grid`` at the voxels of ``other``, a grid of the same direction.

    Those of the nearest voxel (``order`` 0) or linear ones (1); beyond ``grid`` those at its border.
    """
    from scipy.ndimage import affine_transform

    ratio = np.asarray(other.spacing) / np.asarray(grid.spacing)
    offset = grid.lps_to_index(np.asarray(other.origin))
    return np.asarray(affine_transform(values, ratio, offset, other.array.shape, order=order, mode="nearest"))


def crop(volume: Volume, lower_zyx: Index3, upper_zyx: Index3) -> Volume:
    """The box of voxels ``lower_zyx`` (included) to ``upper_zyx`` (excluded), a view, at its place in the world.

    Raises ValueError when the box is empty or reaches beyond the volume.
    """
    box = list(zip(lower_zyx, upper_zyx, volume.array.shape, strict=True))
    if not all(0 <= low < high <= n for low, high, n in box):
        raise ValueError(f"box {lower_zyx}..{upper_zyx} does not lie within the grid {volume.array.shape}")
    x, y, z = (float(v) for v in volume.index_to_lps(np.array(lower_zyx)))
    array = volume.array[tuple(slice(low, high) for low, high, _ in box)]
    return replace(volume, array=array, origin=(x, y, z))


def _weights(n: int, m: int, first: float, ratio: float) -> Any:
    """Sparse (m, n) matrix that takes n voxels of an axis to m; row i looks at position ``first + i * ratio``."""
    from scipy.sparse import csr_matrix

    width = np.sqrt(max(ratio * ratio - 1.0, 0.0))
    centre = first + ratio * np.arange(m)
    taps = np.ceil(centre - width / 2 - 1).astype(int)[:, None] + np.arange(int(width) + 4)
    value = _averaged_hat(taps - centre[:, None], float(width))
    inside = (taps >= 0) & (taps < n) & (value > 1e-9)
    value = np.where(inside, value, 0.0)
    value /= value.sum(axis=1, keepdims=True)  # at the rim only the taps inside count; no centre lies beyond the rim
    taps = np.clip(taps, 0, n - 1)
    rows = np.repeat(np.arange(m), taps.shape[1])
    matrix = csr_matrix((value.ravel().astype(np.float32), (rows, taps.ravel())), shape=(m, n))
    matrix.eliminate_zeros()
    return matrix


def _averaged_hat(x: NDArray[np.float64], width: float) -> NDArray[np.float64]:
    """Mean over a box of ``width`` around ``x`` of linear interpolation's hat, 1 at zero and 0 from one on."""
    if width < 1e-6:
        return np.clip(1.0 - np.abs(x), 0.0, None)

    def area(end: NDArray[np.float64]) -> NDArray[np.float64]:
        """The hat's area left of ``end``."""
        end = np.clip(end, -1.0, 1.0)
        return np.where(end < 0, (end + 1) ** 2 / 2, 1 - (1 - end) ** 2 / 2)

    return (area(x + width / 2) - area(x - width / 2)) / width


def _apply(array: Array, weights: list[Any]) -> NDArray[np.float32]:
    """Apply the three matrices slice by slice: first z over the few slices that count, then y, then x."""
    along_z, along_y, along_x = weights
    out = np.empty((along_z.shape[0], along_y.shape[0], along_x.shape[0]), np.float32)
    for i in range(out.shape[0]):
        plane = np.zeros(array.shape[1:], np.float32)
        for k in range(along_z.indptr[i], along_z.indptr[i + 1]):
            plane += along_z.data[k] * array[along_z.indices[k]].astype(np.float32)
        out[i] = (along_x @ (along_y @ plane).T).T
    return out
