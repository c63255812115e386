"""The canonical grid: array axes (z, y, x) along +S, +P, +L, so that every later step knows up, back and left.

Only axes are exchanged and reversed, voxels are never interpolated: what remains of an oblique rotation stays in the
direction matrix. In: a Volume of any orientation. Out: the same voxels at the same world positions (LPS mm), and from
arrays on that grid back to the scan's own grid, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ToothTopoSegLib.imaging.volume import Array, Matrix3, Vector3, Volume


@dataclass(frozen=True)
class Reorientation:
    """The canonical array is the scan's ``array.transpose(order)`` with the axes in ``flipped`` reversed."""

    order: tuple[int, int, int]
    flipped: tuple[int, ...]


def to_canonical(volume: Volume) -> Volume:
    """The volume with array axes (z, y, x) along +S, +P, +L; its array is contiguous, the same one if already so."""
    how = reorientation(volume)
    corner = [0, 0, 0]  # the voxel of the scan that becomes [0, 0, 0]
    for axis in how.flipped:
        corner[how.order[axis]] = volume.array.shape[how.order[axis]] - 1
    origin = volume.index_to_lps(np.array(corner)) if how.flipped else np.asarray(volume.origin)
    array = np.flip(volume.array.transpose(how.order), how.flipped)
    return Volume(
        np.ascontiguousarray(array),
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
    return like.with_array(np.ascontiguousarray(back))


def reorientation(volume: Volume) -> Reorientation:
    """The exchange and reversal of axes that brings the volume's axes closest to S, P, L.

    Each patient axis gets the image axis of an optimal assignment on the cosines between them, so that a rotation of
    45 degrees cannot give one image axis to two patient axes.
    """
    from scipy.optimize import linear_sum_assignment

    cosines = np.asarray(volume.direction)[::-1, ::-1]  # rows S, P, L; columns the array axes z, y, x
    _, order = linear_sum_assignment(-np.abs(cosines))
    flipped = tuple(axis for axis in range(3) if cosines[axis, order[axis]] < 0)
    return Reorientation((int(order[0]), int(order[1]), int(order[2])), flipped)


def _canonical_direction(volume: Volume, how: Reorientation) -> Matrix3:
    columns = np.asarray(volume.direction)[:, ::-1][:, list(how.order)]
    columns[:, list(how.flipped)] *= -1
    a, b, c = (_vector(row) for row in columns[:, ::-1] + 0.0)  # + 0.0 turns -0.0 into 0.0
    return a, b, c


def _vector(values: Array | list[float]) -> Vector3:
    a, b, c = (float(v) for v in values)
    return a, b, c
