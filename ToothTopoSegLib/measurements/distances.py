"""How far teeth lie from their neighbours and from the mandibular canal, surface to surface in mm.

In go labels, out come their surfaces, neighbours and distances. The surface of a label goes through every face between
one of its voxels and another label, at the place where the label, blurred a little so that its stairs are gone, is
half there: between two flat walls the distance is exact, sharp edges are rounded. Teeth whose voxels share a face
touch: 0 mm. Of two surfaces only the parts that can be nearest are compared, so that a whole dentition takes a fraction
of a second.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.anatomy import fdi as teeth
from ToothTopoSegLib.imaging.boxes import Box
from ToothTopoSegLib.imaging.volume import Volume

Floats = NDArray[np.float64]

_BLUR = 0.8
"""Standard deviation in voxels of the blur that takes the stairs from a surface."""
_MARGIN = 2
"""How many voxels around a label the blur sees."""
_EVERY = 25
"""One point in so many bounds the distance first."""


def side_neighbours(fdi: int, there: Collection[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The mesial and the distal neighbours of a tooth: those that stand next in its jaw among the teeth ``there``.

    Missing teeth are passed over. A milk tooth and its successor have the same place; both are given then.
    """
    places = {other: _place(other) for other in there if teeth.is_upper(other) == teeth.is_upper(fdi)}
    own, side = _place(fdi), 1 if teeth.is_left(fdi) else -1
    towards = sorted({place for place in places.values() if (place - own) * side < 0}, key=lambda p: abs(p - own))
    away = sorted({place for place in places.values() if (place - own) * side > 0}, key=lambda p: abs(p - own))
    mesial, distal = (
        tuple(sorted(other for other, place in places.items() if some and place == some[0])) for some in (towards, away)
    )
    return mesial, distal


def _place(fdi: int) -> int:
    """Place along the arch, negative on the right: 11 is -1, 21 is 1, as are 51 and 61."""
    return teeth.position(fdi) * (1 if teeth.is_left(fdi) else -1)


@dataclass(frozen=True, eq=False)
class Surface:
    """The outside of one label: ``points`` (n, 3) LPS mm, ``beside`` the labels that it shares faces of voxels with."""

    points: Floats
    beside: frozenset[int]

    @cached_property
    def tree(self) -> Any:
        """The points in a tree (:class:`scipy.spatial.cKDTree`)."""
        from scipy.spatial import cKDTree

        # a balanced tree takes several times as long to build and is no faster to ask here
        return cKDTree(self.points, balanced_tree=False, compact_nodes=False)

    @cached_property
    def ends(self) -> tuple[Floats, Floats]:
        """The lowest and the highest corner (LPS mm) of the box around the points."""
        return self.points.min(axis=0), self.points.max(axis=0)


def surface_of(labels: Volume, value: int, box: Box) -> Surface:
    """The surface of a label (True of a boolean volume is 1) that lies within ``box`` (slices z, y, x) of a volume.

    Where the label reaches the border of the volume there is no surface.
    """
    from scipy import ndimage

    wide = tuple(slice(max(side.start - _MARGIN, 0), side.stop + _MARGIN) for side in box)
    near = labels.array[wide]
    mask = near == value
    soft = ndimage.gaussian_filter(mask.astype(np.float32), _BLUR, truncate=2.5, mode="nearest")
    places, beside = [], set()
    for axis in range(3):
        inside, numbers, share = (np.moveaxis(array, axis, 0) for array in (mask, near, soft))
        met = inside[:-1] != inside[1:]
        at = np.argwhere(met).astype(np.float64)
        first, second = share[:-1][met], share[1:][met]
        at[:, 0] += np.clip((first - 0.5) / np.where(first == second, 1, first - second), 0, 1)
        places.append(at[:, np.argsort([axis, *(other for other in range(3) if other != axis)])])
        # of the two sides of each face one bears the label itself
        beside |= set(np.unique(numbers[:-1][met])) | set(np.unique(numbers[1:][met]))
    index = np.concatenate(places) + [side.start for side in wide]
    return Surface(np.asarray(labels.index_to_lps(index)), frozenset(int(other) for other in beside) - {0, value})


def nearest(fdi: int, others: Collection[int], surfaces: Mapping[int, Surface]) -> tuple[int, float] | None:
    """The nearest of the other teeth and how far it is in mm; None where there are none."""
    found = [(between(fdi, other, surfaces), other) for other in others]
    return (min(found)[1], min(found)[0]) if found else None


def between(one: int, other: int, surfaces: Mapping[int, Surface]) -> float:
    """The distance of two teeth in mm."""
    return 0.0 if other in surfaces[one].beside else apart(surfaces[one], surfaces[other])


def apart(one: Surface, other: Surface) -> float:
    """The distance in mm of the nearest points of two surfaces; infinite where one has none."""
    if not len(one.points) or not len(other.points):
        return float("inf")
    few, many = sorted((one, other), key=lambda surface: len(surface.points))
    # a little farther than the distance of one of the points, so that this one lies within it however it is rounded
    bound = float(many.tree.query(few.points[::_EVERY])[0].min()) * 1.001 + 1e-6
    low, high = many.ends
    outside = np.maximum(np.maximum(low - few.points, few.points - high), 0)
    close = few.points[np.einsum("ij,ij->i", outside, outside) <= bound**2]
    away, _ = many.tree.query(close, distance_upper_bound=bound)
    return float(away.min())
