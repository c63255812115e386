"""The boundary of a set of voxels as a closed 2-manifold whose topology is exactly that of the set.

In goes a boolean array (z, y, x), out come the vertices and polygons between inside and outside. Voxels are closed
cubes, so that they hang together by faces, edges and corners (26-connected), as in :mod:`ToothTopoSegLib.topology`.
Where they meet in an edge or a corner alone, the plain boundary is no manifold and marching cubes has to guess. Here
the set is thickened: every cube, face, edge and corner of it becomes a cell of a grid of twice the resolution. Such a
grid is well-composed (L. J. Latecki, *3D well-composed pictures*, Graphical Models and Image Processing 1997): its
boundary is a manifold, and it can be shrunk to the set of cubes, which has the same Betti numbers therefore. Wherever
the plain boundary is a manifold already, the thickening is taken back: four corners of the fine grid become one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]
Integers = NDArray[np.intp]

_THICKNESS = 0.5
"""Width in voxels of what joins two voxels that meet in an edge or a corner alone."""
_CELL = 0.49
"""How far, in voxels along each axis, a vertex may go from its corner of the grid: it would meet a centre at 0.5."""
_APART = 0.01
"""What stays, in voxels to each side, between vertices at one corner."""


@dataclass(frozen=True, eq=False)
class Boundary:
    """A closed surface in voxel indices.

    ``vertices`` (n, 3) are (z, y, x), ``low`` and ``high`` (n, 3) the ends of the cell in which each may be moved
    without passing another or the centre of a voxel; ``triangles`` (m, 3) are wound in one sense throughout; ``edges``
    (k, 2) are the edges of the polygons without their diagonals.
    """

    vertices: Floats
    low: Floats
    high: Floats
    triangles: Integers
    edges: Integers


def boundary(mask: Mask) -> Boundary:
    """The boundary of a boolean array (z, y, x) with at least one voxel set; ValueError if there is none.

    Voxel [k, j, i] fills the cube of side 1 around its index. What reaches the border of the array is closed there.
    """
    if not mask.any():
        raise ValueError("an empty mask has no boundary")
    padded = np.pad(mask, 1)
    quads = _quads(_thickened(padded))
    corners = quads.reshape(-1, 3)
    home = corners // 2
    plain = ~_critical(padded)[tuple(home.T)]
    # the eight fine corners at a plain corner of the voxel grid are one vertex
    code = np.ravel_multi_index(tuple(np.where(plain[:, None], 2 * home, corners).T), _fine_shape(padded))
    code = 2 * code + plain
    _, first, vertex = np.unique(code, return_index=True, return_inverse=True)
    # at others each keeps to its own eighth; the corner before a voxel lies half a voxel before its centre
    side = np.where(plain[:, None], 0, 2 * (corners % 2) - 1)[first]
    place = (home[first] - 1.5).astype(np.float64)  # without the padding
    low = place + np.where(side > 0, _APART, -_CELL)
    high = place + np.where(side < 0, -_APART, _CELL)
    triangles, edges = _cut(vertex.reshape(-1, 4))
    return Boundary(place + _THICKNESS / 2 * side, low, high, triangles, edges)


def _fine_shape(mask: Mask) -> tuple[int, ...]:
    """How many corners the thickened grid has along each axis."""
    return tuple(2 * n + 2 for n in mask.shape)


def _thickened(mask: Mask) -> Mask:
    """The cells of the closed cubes of a mask, as an array twice as large and one more; cubes stand at odd places."""
    cells = np.zeros(tuple(2 * n + 1 for n in mask.shape), dtype=bool)
    cells[1::2, 1::2, 1::2] = mask
    for axis in range(3):
        along = np.moveaxis(cells, axis, 0)
        along[:-1:2] |= along[1::2]
        along[2::2] |= along[1::2]
    return cells


def _quads(cells: Mask) -> Integers:
    """The faces between set and empty cells as (m, 4, 3) corners of the grid, seen from outside in one sense."""
    turn = np.array([(1, 0, 0), (1, 1, 0), (1, 1, 1), (1, 0, 1)])
    found = []
    for axis in range(3):
        along = np.moveaxis(cells, axis, 0)
        back = np.argsort([axis, *(a for a in range(3) if a != axis)])
        for leaving in (True, False):
            inside, outside = (along[:-1], along[1:]) if leaving else (along[1:], along[:-1])
            corners = (np.argwhere(inside & ~outside)[:, None] + turn)[..., back]
            # exchanging two axes turns the sense round
            found.append(corners if leaving == (axis != 1) else corners[:, ::-1])
    return np.concatenate(found)


def _critical(mask: Mask) -> Mask:
    """The corners (n + 1, ...) of a padded voxel grid at which the plain boundary is no manifold.

    There two of four voxels around an edge are set and meet in it alone, or two of the eight around the corner are set
    or empty and meet in it alone.
    """
    wide = np.pad(mask, 1)
    critical = np.zeros(tuple(n + 1 for n in mask.shape), dtype=bool)
    for axis in range(3):
        along = np.moveaxis(wide, axis, 0)
        a, b, c, d = along[:, :-1, :-1], along[:, :-1, 1:], along[:, 1:, :-1], along[:, 1:, 1:]
        edge = (a == d) & (b == c) & (a != b)
        np.moveaxis(critical, axis, 0)[...] |= edge[:-1] | edge[1:]
    return critical | _single_pair(wide) | _single_pair(~wide)


def _single_pair(mask: Mask) -> Mask:
    """Where exactly two opposite voxels of the eight around an inner corner are set."""
    low, high = slice(None, -1), slice(1, None)
    octants = [mask[z, y, x] for z in (low, high) for y in (low, high) for x in (low, high)]
    two = np.sum(octants, axis=0, dtype=np.int8) == 2
    return two & np.logical_or.reduce([octants[i] & octants[7 - i] for i in range(4)])


def _cut(quads: Integers) -> tuple[Integers, Integers]:
    """Quads (m, 4) of vertices as triangles, and their edges (k, 2) once each; what has shrunk to a line is dropped."""
    ends = np.stack([quads, np.roll(quads, -1, axis=1)], axis=2).reshape(-1, 2)
    ends = np.sort(ends[ends[:, 0] != ends[:, 1]], axis=1)
    count = int(quads.max()) + 1
    code = np.unique(ends[:, 0] * count + ends[:, 1])  # much faster than unique rows
    edges = np.stack([code // count, code % count], axis=1)
    triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    a, b, c = triangles.T
    return triangles[(a != b) & (b != c) & (c != a)], edges
