"""How far teeth lie from their neighbours and from the mandibular canal, surface to surface in mm.

In go the surfaces of teeth as triangle meshes, out come neighbours and distances. Distances are those between the
nearest vertices, which stand about a voxel apart: they are too large by less than half a voxel. Teeth whose voxels
share a face touch: 0 mm.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.anatomy import fdi as teeth
from ToothTopoSegLib.surfaces.mesh import TriangleMesh

_FARTHEST_MM = 60.0
"""Nothing in a mouth lies farther from its neighbour."""


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


def touching(labels: NDArray[Any]) -> frozenset[tuple[int, int]]:
    """The pairs of teeth (smaller number first) with voxels in a label map (z, y, x) that share a face."""
    pairs: set[tuple[int, int]] = set()
    is_tooth = np.zeros(int(labels.max()) + 1, dtype=bool)
    is_tooth[[value for value in teeth.TEETH if value < len(is_tooth)]] = True
    for axis in range(3):
        along = np.moveaxis(labels, axis, 0)
        for below, above in pairwise(along):
            met = (below != above) & is_tooth[below] & is_tooth[above]
            pairs |= {(min(pair), max(pair)) for pair in zip(below[met].tolist(), above[met].tolist(), strict=True)}
    return frozenset(pairs)


class Distances:
    """Distances between the surfaces of ``meshes`` (by FDI number); those in ``contacts`` touch."""

    def __init__(self, meshes: Mapping[int, TriangleMesh], contacts: Collection[tuple[int, int]]) -> None:
        from scipy.spatial import cKDTree

        self._trees = {fdi: cKDTree(mesh.vertices) for fdi, mesh in meshes.items()}
        self._contacts = contacts

    def nearest(self, fdi: int, others: Collection[int]) -> tuple[int, float] | None:
        """The nearest of the others and how far it is in mm; None where there are none."""
        found = [(self.between(fdi, other), other) for other in others]
        return (min(found)[1], min(found)[0]) if found else None

    def between(self, one: int, other: int) -> float:
        """The distance of two teeth in mm."""
        if (min(one, other), max(one, other)) in self._contacts:
            return 0.0
        return self.to_points(one, self._trees[other].data)

    def to_points(self, fdi: int, points: NDArray[Any]) -> float:
        """The distance in mm of a tooth from the nearest of the points (n, 3) LPS mm."""
        away, _ = self._trees[fdi].query(points, distance_upper_bound=_FARTHEST_MM)
        return float(np.min(away))
