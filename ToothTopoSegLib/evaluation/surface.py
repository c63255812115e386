"""How far two surfaces lie apart: HD95, ASSD and NSD of one tooth, in mm.

In go the bodies of a tooth in two label maps on one grid (or two boolean masks) and the spacing; out come three plain
numbers. Convention, the same as in MONAI and medpy: the surface is the centres of the border voxels, that is voxels of
the mask with a face neighbour outside it (outside the grid counts as outside), each of equal weight; a distance is the
Euclidean one in mm to the nearest border voxel of the other mask. HD95 is the greater of the two directed 95th
percentiles (linear interpolation), ASSD the mean over both surfaces' distances together (Heimann et al., IEEE TMI
2009), NSD the share of both surfaces' points within a tolerance (Nikolov et al., JMIR 2021).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.imaging.volume import Vector3
from ToothTopoSegLib.topology.betti import Body, Mask, bodies

NSD_TOLERANCE_MM = 0.5
"""One to two voxels of a usual CBCT, and about what two experts differ by when they outline a root."""
CONVENTION = (
    "centres of border voxels (face neighbour outside the tooth), equal weights; HD95 is the greater of the two "
    "directed 95th percentiles, ASSD the mean over both surfaces, NSD the share of both within the tolerance"
)
Points = NDArray[np.float64]


@dataclass(frozen=True)
class SurfaceDistance:
    """Distance of two surfaces: HD95 and ASSD in mm, NSD as a share 0..1."""

    hd95_mm: float
    assd_mm: float
    nsd: float


def surface_distance(
    first: Mask, second: Mask, spacing: Vector3, tolerance_mm: float = NSD_TOLERANCE_MM
) -> SurfaceDistance | None:
    """Distances between two boolean arrays (z, y, x) of one shape with ``spacing`` (z, y, x) mm; None if one is empty.

    Raises ValueError if the shapes differ.
    """
    if first.shape != second.shape:
        raise ValueError(f"masks of one shape are expected, not {first.shape} and {second.shape}")
    return point_distance(surface_points(bodies(first), spacing), surface_points(bodies(second), spacing), tolerance_mm)


def surface_points(parts: Iterable[Body], spacing: Vector3) -> Points:
    """Centres (n, 3) in mm as (z, y, x) from the grid's first voxel of the border voxels of a tooth's bodies."""
    return border_indices(parts) * np.asarray(spacing, dtype=float)


def border_indices(parts: Iterable[Body]) -> NDArray[np.int64]:
    """Indices (n, 3) as (z, y, x) of the border voxels of bodies, each body looked at in its own crop.

    No face neighbour of a body's voxel lies in another body, so that their borders together are the tooth's.
    """
    found = [np.argwhere(border(body.mask)) + [s.start for s in body.box] for body in parts]
    return np.concatenate(found) if found else np.zeros((0, 3), dtype=np.int64)


def border(mask: Mask) -> Mask:
    """The voxels of a boolean array (z, y, x) that have a face neighbour outside it; the array's rim is outside."""
    padded = np.pad(mask, 1)
    inside = np.ones(mask.shape, dtype=bool)
    for axis in range(3):
        for shift in (0, 2):
            shifted = [slice(1, -1)] * 3
            shifted[axis] = slice(shift, shift + mask.shape[axis])
            inside &= padded[tuple(shifted)]
    return mask & ~inside


def point_distance(first: Points, second: Points, tolerance_mm: float = NSD_TOLERANCE_MM) -> SurfaceDistance | None:
    """Distances between two sets of surface points (n, 3) in mm; None if one of them is empty."""
    from scipy.spatial import cKDTree

    if not len(first) or not len(second):
        return None
    # Building unbalanced trees takes half the time, and points on a grid are even enough.
    there = _nearest(cKDTree(second, balanced_tree=False), first)
    back = _nearest(cKDTree(first, balanced_tree=False), second)
    both = np.concatenate([there, back])
    # A distance that is the tolerance but for rounding is within it.
    within = both <= tolerance_mm * (1 + 1e-9)
    return SurfaceDistance(
        hd95_mm=float(max(np.percentile(there, 95), np.percentile(back, 95))),
        assd_mm=float(both.mean()),
        nsd=float(within.mean()),
    )


def _nearest(tree: object, points: Points) -> Points:
    distances: Points = tree.query(points)[0]  # type: ignore[attr-defined]
    return distances
