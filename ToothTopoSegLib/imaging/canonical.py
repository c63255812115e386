"""The canonical grid: array axes (z, y, x) along +S, +P, +L, so that every later step knows up, back and left.

Only axes are exchanged and reversed, voxels are never interpolated: what remains of an oblique rotation stays in the
direction matrix. In: a Volume of any orientation. Out: the same voxels at the same world positions (LPS mm), and from
arrays on that grid back to the scan's own grid, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np

from ToothTopoSegLib.imaging.volume import Array, Matrix3, Vector3, Volume


@dataclass(frozen=True)
class Reorientation:
    """The canonical array is the scan's ``array.transpose(order)`` with the axes in ``flipped`` reversed."""

    order: tuple[int, int, int]
    flipped: tuple[int, ...]


def to_canonical(volume: Volume) -> Volume:
    """The volume with array axes (z, y, x) along +S, +P, +L.

    Axes that are only reversed are seen through a view, which spares a large scan a copy; exchanged ones are copied,
    because planes across the order of memory are slow to read.
    """
    how = reorientation(volume)
    corner = [0, 0, 0]  # the voxel of the scan that becomes [0, 0, 0]
    for axis in how.flipped:
        corner[how.order[axis]] = volume.array.shape[how.order[axis]] - 1
    origin = volume.index_to_lps(np.array(corner)) if how.flipped else np.asarray(volume.origin)
    array = np.flip(volume.array.transpose(how.order), how.flipped)
    return Volume(
        _in_order(array, how),
        spacing=_vector([volume.spacing[axis] for axis in how.order]),
        origin=_vector(origin),
        direction=_canonical_direction(volume, how),
    )


def from_canonical(canonical: Array | Volume, like: Volume) -> Volume:
    """Inverse of ``to_canonical(like)``: an array (z, y, x) on that canonical grid, put back on the grid of ``like``.

    Raises ValueError when the array does not have the shape of ``to_canonical(like)``.
    """
    array = canonical.array if isinstance(canonical, Volume) else canonical
    how = reorientation(like)
    back = np.flip(array, how.flipped).transpose(np.argsort(how.order))
    return like.with_array(_in_order(back, how))


def _in_order(array: Array, how: Reorientation) -> Array:
    return array if how.order == (0, 1, 2) else np.ascontiguousarray(array)


def reorientation(volume: Volume) -> Reorientation:
    """The exchange and reversal of axes that brings the volume's axes closest to S, P, L.

    The exchange with the largest sum of cosines is taken as a whole, so that a rotation of 45 degrees cannot give one
    image axis to two patient axes.
    """
    cosines = np.asarray(volume.direction)[::-1, ::-1]  # rows S, P, L; columns the array axes z, y, x
    z, y, x = max(permutations(range(3)), key=lambda order: np.abs(cosines[range(3), order]).sum())
    flipped = tuple(axis for axis, image_axis in enumerate((z, y, x)) if cosines[axis, image_axis] < 0)
    return Reorientation((z, y, x), flipped)


def _canonical_direction(volume: Volume, how: Reorientation) -> Matrix3:
    columns = np.asarray(volume.direction)[:, ::-1][:, list(how.order)]
    columns[:, list(how.flipped)] *= -1
    a, b, c = (_vector(row) for row in columns[:, ::-1] + 0.0)  # + 0.0 turns -0.0 into 0.0
    return a, b, c


def _vector(values: Array | list[float]) -> Vector3:
    a, b, c = (float(v) for v in values)
    return a, b, c
