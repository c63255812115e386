"""Topological errors of a predicted tooth against the reference's own topology.

In go two label maps of FDI numbers (z, y, x) on one grid, or two boolean masks; out come, tooth by tooth, Betti
numbers of both, their differences, the Euler error and the Betti-matching error.

Betti-matching error (Stucki et al., ICML 2023) of two masks P and R: both lie in their union U, so that the pieces,
tunnels and voids of each (its homology classes over Z/2) map into those of U. What of U both masks bring along is
matched: m_d = dim(im(H_d P -> H_d U) ∩ im(H_d R -> H_d U)), and the error is the unmatched rest, the sum over
d = 0, 1, 2 of b_d(P) + b_d(R) - 2 m_d. It is 0 where every feature has its counterpart at the same place, and 2 for two
separate bodies whose Betti numbers agree. This is the induced matching of binary images in a form that does not depend
on an order of voxels. The dimensions m_d come from components in dimension 0, from components of the background in
dimension 2 (Alexander duality), and in dimension 1 from cocycles of U as edge annotations (Dey, Fan, Wang, *Computing
topological persistence for simplicial maps*, SoCG 2014).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.imaging.boxes import Box
from ToothTopoSegLib.topology.betti import Betti, Mask, ToothTopology, betti_numbers, bodies, box_around

_BACKGROUND = {26: 1, 6: 3}
"""SciPy's order of neighbourhood for the background that goes with a foreground."""
_BITS = 62
_SOUND: Betti = (1, 0, 0)


@dataclass(frozen=True)
class TopologyError:
    """Betti numbers of one tooth in both maps, (0, 0, 0) where it is absent, and how many features are matched."""

    prediction: Betti
    reference: Betti
    matched: Betti

    @property
    def betti_errors(self) -> Betti:
        """The absolute differences of b0, b1 and b2."""
        b0, b1, b2 = (abs(p - r) for p, r in zip(self.prediction, self.reference, strict=True))
        return b0, b1, b2

    @property
    def euler_error(self) -> int:
        """The absolute difference of the Euler characteristics b0 - b1 + b2."""
        (p0, p1, p2), (r0, r1, r2) = self.prediction, self.reference
        return abs((p0 - p1 + p2) - (r0 - r1 + r2))

    @property
    def betti_matching_error(self) -> int:
        """Features of both that have no counterpart in the other."""
        return sum(self.prediction) + sum(self.reference) - 2 * sum(self.matched)


def topology_errors(
    predicted: Mapping[int, ToothTopology], expected: Mapping[int, ToothTopology], connectivity: int = 26
) -> dict[int, TopologyError]:
    """Topological error of every tooth that is in either of two label maps on one grid, ascending.

    ``predicted`` and ``expected`` are the maps' topologies, by :func:`topology.betti.tooth_topology` with the same
    connectivity.
    """
    found = {}
    for tooth in sorted(predicted.keys() | expected.keys()):
        mine, truth = predicted.get(tooth), expected.get(tooth)
        matched: Betti = (0, 0, 0)
        if mine is not None and truth is not None:
            matched = _matched(*_meeting(mine, truth), mine.betti, truth.betti, connectivity)
        found[tooth] = TopologyError(_betti(mine), _betti(truth), matched)
    return found


def mask_topology_error(prediction: Mask, reference: Mask, connectivity: int = 26) -> TopologyError:
    """Topological error of one boolean array (z, y, x) against another of its shape."""
    mine, truth = betti_numbers(prediction, connectivity), betti_numbers(reference, connectivity)
    return TopologyError(mine, truth, _matched(prediction, reference, mine, truth, connectivity))


def _betti(tooth: ToothTopology | None) -> Betti:
    return (0, 0, 0) if tooth is None else tooth.betti


def _meeting(first: ToothTopology, second: ToothTopology) -> tuple[Mask, Mask]:
    """Masks, in one crop, of those bodies of both that come near the other: a body far away has no counterpart."""
    near_first, near_second = (box_around(tooth.bodies, margin=1) for tooth in (first, second))
    mine = [body for body in first.bodies if _meet(body.box, near_second)]
    truth = [body for body in second.bodies if _meet(body.box, near_first)]
    if not mine or not truth:
        mine = truth = []
    crop = box_around([*mine, *truth])
    none = np.zeros([s.stop - s.start for s in crop], dtype=bool)
    first_mask, second_mask = (reduce(np.logical_or, [b.in_box(crop) for b in near], none) for near in (mine, truth))
    return first_mask, second_mask


def _meet(one: Box, other: Box) -> bool:
    return all(a.start < b.stop and b.start < a.stop for a, b in zip(one, other, strict=True))


# --- matching of features ----------------------------------------------------------------------------------------


def _matched(first: Mask, second: Mask, betti: Betti, other_betti: Betti, connectivity: int) -> Betti:
    """How many features of each dimension both masks bring to their union; it adds up over the union's bodies."""
    if not first.any() or not second.any():
        return 0, 0, 0
    if betti == other_betti == _SOUND and (first & second).any():
        return _SOUND
    pieces = tunnels = voids = 0
    for body in bodies(first | second, connectivity):
        one, other = first[body.box] & body.mask, second[body.box] & body.mask
        if not one.any() or not other.any():
            continue
        pieces += 1
        if betti[2] and other_betti[2]:
            voids += _shared_voids(one, other, connectivity)
        if betti[1] and other_betti[1]:
            tunnels += _shared_tunnels(one, other, connectivity)
    return pieces, tunnels, voids


def _shared_voids(first: Mask, second: Mask, connectivity: int) -> int:
    """Voids of the union both masks enclose.

    By Alexander duality H_2 of a mask is the functions on the components of its background, up to constants. Those
    on the union's background that come from both are constant on what either background joins: they are the
    functions on the classes of the graph that joins components of one background with those of the other they meet.
    """
    from scipy import ndimage
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    structure = ndimage.generate_binary_structure(3, _BACKGROUND[connectivity])
    outside = (np.pad(~mask, 1, constant_values=True) for mask in (first, second))
    (one, n), (other, m) = (ndimage.label(mask, structure) for mask in outside)
    both = (one > 0) & (other > 0)
    row, column = np.unique(np.stack([one[both] - 1, other[both] - 1 + n]), axis=1)
    graph = coo_array((np.ones(len(row), dtype=bool), (row, column)), shape=(n + m, n + m))
    _, member = connected_components(graph, directed=False)
    return len(np.unique(member[row])) - 1


def _shared_tunnels(first: Mask, second: Mask, connectivity: int) -> int:
    """Tunnels of the union, a connected mask, that both masks run round."""
    union = _complex(first | second, connectivity)
    values, relations = _cocycle_values(union)
    killed = _rank(relations)
    one, other = (relations | _loops(union, mask, connectivity, values) for mask in (first, second))
    return _rank(one) + _rank(other) - _rank(one | other) - killed


@dataclass(frozen=True, eq=False)
class _Complex:
    """Edges of a cubical complex as pairs of vertices, squares as four edges; -1 in ``numbers`` is no edge."""

    vertices: int
    ends: NDArray[np.int64]
    squares: NDArray[np.int64]
    numbers: tuple[NDArray[np.int64], ...]


def _complex(mask: Mask, connectivity: int) -> _Complex:
    """The complex of closed voxel cubes (26) or of voxels as vertices (6), up to dimension 2."""
    vertex = _cells(mask, (), connectivity)
    at = np.full(vertex.shape, -1, dtype=np.int64)
    at[vertex] = np.arange(int(vertex.sum()))
    ends, numbers, count = [], [], 0
    for axis in range(3):
        edge = _cells(mask, (axis,), connectivity)
        number = np.full(edge.shape, -1, dtype=np.int64)
        number[edge] = np.arange(count, count + int(edge.sum()))
        count += int(edge.sum())
        ends.append(np.stack([side[edge] for side in _sides(at, axis)], axis=1))
        numbers.append(number)
    squares = []
    for a, b in ((0, 1), (0, 2), (1, 2)):
        square = _cells(mask, (a, b), connectivity)
        squares.append(np.stack([s[square] for s in (*_sides(numbers[a], b), *_sides(numbers[b], a))], axis=1))
    return _Complex(int(vertex.sum()), np.concatenate(ends), np.concatenate(squares), tuple(numbers))


def _cells(mask: Mask, along: tuple[int, ...], connectivity: int) -> Mask:
    """Which cells stretched ``along`` these axes exist, by the lattice point they begin at."""
    if connectivity == 6:
        return reduce(lambda cells, axis: np.logical_and(*_sides(cells, axis)), along, mask)
    padded = np.pad(mask, [(0, 0) if axis in along else (1, 1) for axis in range(3)])
    across = [axis for axis in range(3) if axis not in along]
    return reduce(lambda cells, axis: np.logical_or(*_sides(cells, axis)), across, padded)


def _sides(array: NDArray[Any], axis: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The array without its last and without its first plane along an axis."""
    cut = [slice(None)] * 3
    low, high = [*cut], [*cut]
    low[axis], high[axis] = slice(None, -1), slice(1, None)
    return array[tuple(low)], array[tuple(high)]


def _cocycle_values(union: _Complex) -> tuple[NDArray[Any], set[int]]:
    """For every edge a bit set so that a cycle's sum (exclusive or), modulo the returned relations, is its class.

    Edges of a spanning tree get 0. A square with one edge left unknown makes that one the sum of the others; where no
    square does, an edge gets a bit of its own. Sums round squares, which bound nothing, are the relations.
    """
    _, tree = _forest(union.vertices, union.ends)
    around = _squaresbox_around(union)
    values: NDArray[Any] = np.zeros(len(union.ends), dtype=np.int64)
    known = np.zeros(len(union.ends), dtype=bool)
    left = np.full(len(union.squares) + 1, 4)
    left[-1] += 4 * len(union.ends)  # what is no square never has one edge left
    edges, bits = tree[tree >= 0], 0
    while len(edges):
        known[edges] = True
        near = around[edges].ravel()
        np.subtract.at(left, near, 1)
        ready = union.squares[np.unique(near[left[near] == 1])]
        if len(ready):
            edges, first = np.unique(ready[~known[ready]], return_index=True)
            values[edges] = np.bitwise_xor.reduce(values[ready], axis=1)[first]
        else:
            edges = np.flatnonzero(~known)[:1]
            # Python's own integers once 64 bits no longer hold the set
            values = values.astype(object) if bits == _BITS else values
            values[edges] = 1 << bits
            bits += 1
    return values, _distinct(np.bitwise_xor.reduce(values[union.squares], axis=1))


def _squaresbox_around(union: _Complex) -> NDArray[np.int64]:
    """The up to four squares (edges, 4) that each edge bounds; the rest is the number of squares, which is none."""
    flat = union.squares.ravel()
    order = np.argsort(flat, kind="stable")
    edge = flat[order]
    around = np.full((len(union.ends), 4), len(union.squares), dtype=np.int64)
    around[edge, np.arange(len(edge)) - np.searchsorted(edge, edge)] = order // 4
    return around


def _loops(union: _Complex, part: Mask, connectivity: int, values: NDArray[Any]) -> set[int]:
    """Values of loops that generate the cycles of a part of the union: one for every edge outside a spanning forest."""
    mine = np.concatenate([number[_cells(part, (a,), connectivity)] for a, number in enumerate(union.numbers)])
    ends, values = union.ends[mine], values[mine]
    above, edge = _forest(union.vertices, ends)
    to_root = np.zeros(union.vertices + 1, dtype=values.dtype)
    to_root[edge >= 0] = values[edge[edge >= 0]]
    # Each turn doubles the stretch of the way to the root that is summed.
    while (above != union.vertices).any():
        to_root, above = to_root ^ to_root[above], above[above]
    return _distinct(to_root[ends[:, 0]] ^ to_root[ends[:, 1]] ^ values)


def _forest(vertices: int, ends: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Spanning forest: each vertex's parent, a further vertex being the roots' (and its own), and the edge there or -1.

    ``ends`` are edges from a lower to a higher vertex.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import breadth_first_order, connected_components

    size = vertices + 1
    graph = coo_array((np.ones(len(ends)), tuple(ends.T)), shape=(size, size))
    _, member = connected_components(graph, directed=False)
    _, roots = np.unique(member[:-1], return_index=True)
    row, column = np.append(ends[:, 0], roots), np.append(ends[:, 1], np.full(len(roots), vertices))
    hung = coo_array((np.ones(len(row)), (row, column)), shape=(size, size)).tocsr()
    _, parent = breadth_first_order(hung, vertices, directed=False)
    parent[vertices] = vertices
    child = np.flatnonzero(parent != vertices)
    keys = ends[:, 0] * size + ends[:, 1]
    wanted = np.minimum(child, parent[child]) * size + np.maximum(child, parent[child])
    sorting = np.argsort(keys)
    edge = np.full(size, -1, dtype=np.int64)
    edge[child] = sorting[np.searchsorted(keys, wanted, sorter=sorting)]
    return parent, edge


def _distinct(values: NDArray[Any]) -> set[int]:
    return set(np.unique(values).tolist()) - {0}


def _rank(vectors: set[int]) -> int:
    """Dimension over Z/2 of what bit sets span."""
    basis: dict[int, int] = {}
    for vector in vectors:
        while vector and vector.bit_length() in basis:
            vector ^= basis[vector.bit_length()]
        if vector:
            basis[vector.bit_length()] = vector
    return len(basis)
