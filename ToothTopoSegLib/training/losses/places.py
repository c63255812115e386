"""Where in a patch the topology is wrong, and which voxels decide it: what the three topological terms have in common.

A term looks for offences in a :class:`Patch` (labels alone, cheap) and hands back :class:`Offences`: places that are
known already, and regions in which homology has to find them. A :class:`Place` is a small set of voxels that the loss
draws towards their true class. Pieces are 26-connected and background is 6-connected, as in
:mod:`ToothTopoSegLib.topology.betti`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.imaging.boxes import Box, label_boxes
from ToothTopoSegLib.topology.betti import Mask
from ToothTopoSegLib.topology.persistence import adjacent, spanning_tree

Voxels = NDArray[np.int64]
Values = NDArray[np.float64]
Voxel = tuple[int, ...]

FIRST_TOOTH, LAST_TOOTH = 1, 32
LEAST = 0.05
"""Persistence that every offence has at least: labels show it, however faint the scores make it."""
LEVEL = 0.5
"""Values above it are foreground, see :func:`agreeing`."""
EVERYWHERE = np.ones((3, 3, 3), dtype=bool)
"""Structure of 26 neighbours."""


@dataclass(frozen=True, eq=False)
class Patch:
    """Class indices (z, y, x), uint8: ``found`` by the network and ``truth``."""

    found: NDArray[np.uint8]
    truth: NDArray[np.uint8]

    @cached_property
    def boxes(self) -> dict[int, Box]:
        """For every tooth that is found or true, the box around both."""
        found, truth = _tooth_boxes(self.found), _tooth_boxes(self.truth)
        return {tooth: joint([b[tooth] for b in (found, truth) if tooth in b]) for tooth in sorted({*found, *truth})}

    @cached_property
    def true_boxes(self) -> dict[int, Box]:
        """The box around every tooth of the truth."""
        return _tooth_boxes(self.truth)

    @cached_property
    def found_tooth(self) -> Mask:
        """Where any tooth is found."""
        return is_tooth(self.found)

    @cached_property
    def wrong(self) -> Mask:
        """Where another class is found than the true one."""
        different: Mask = self.found != self.truth
        return different

    def around(self, box: Sequence[slice], margin: int) -> Box:
        """The box widened by ``margin`` voxels on all sides, inside the patch."""
        sides = zip(box, self.found.shape, strict=True)
        z, y, x = (slice(max(s.start - margin, 0), min(s.stop + margin, n)) for s, n in sides)
        return z, y, x

    def place(self, centre: Voxel, radius: float, persistence: float, power: float) -> Place:
        """The voxels within ``radius`` of a decisive voxel, which itself is wrong.

        Voxels that are right already are held where they are: a mend of one voxel's margin would not last. The
        weight is the persistence to the ``power``, shared by the wrong voxels alone.
        """
        reach = int(radius)
        steps = np.indices((2 * reach + 1,) * 3).reshape(3, -1).T - reach
        near = np.asarray(centre) + steps[(steps**2).sum(axis=1) <= radius**2]
        voxels = near[((near >= 0) & (near < self.found.shape)).all(axis=1)]
        wrong = np.count_nonzero(self.wrong[tuple(voxels.T)])
        return Place(voxels, min(max(persistence, LEAST), 1.0) ** power, max(int(wrong), 1))


@dataclass(frozen=True, eq=False)
class Place:
    """Voxels (n, 3) as (z, y, x) to draw towards their true class; the weight is shared by ``wrong`` of them."""

    voxels: Voxels
    weight: float
    wrong: int


@dataclass(frozen=True, eq=False)
class Region:
    """A box of the patch that homology has to look into.

    ``first..last`` are the classes that count as foreground; ``locate`` takes values (z, y, x) of the box between 0
    and 1, above a half exactly where one of these classes is found, and returns the places.
    """

    box: Box
    first: int
    last: int
    locate: Callable[[Values], list[Place]]

    @property
    def voxels(self) -> int:
        """Size of the box."""
        return int(np.prod([side.stop - side.start for side in self.box]))


@dataclass(frozen=True, eq=False)
class Offences:
    """What a term found in one patch: places, regions that will give places, and how often each kind occurs."""

    places: list[Place] = field(default_factory=list)
    regions: list[Region] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Saddle:
    """Where two terminals join: the numbers of the younger and the elder, the voxel (z, y, x) and its value."""

    younger: int
    elder: int
    voxel: Voxel
    value: float


def saddles(values: Values, terminals: NDArray[np.int32], peaks: Sequence[float] = ()) -> list[Saddle]:
    """Where sets of voxels join first when the values of the voxels between them are let in from high to low.

    ``terminals`` (z, y, x) numbers the sets from 1 on, -1 is a voxel between them and 0 one that no way may use. The
    joins are the deaths of dimension-0 persistence of the superlevel sets with the terminals as pieces (elder rule:
    the one with the higher of ``peaks`` goes on), read off a maximum spanning tree. Highest first.
    """
    numbers, count = _node_numbers(terminals)
    first, second = adjacent(terminals.shape, 26)
    level, flat = values.ravel(), terminals.ravel()
    useful = (flat[first] != 0) & (flat[second] != 0) & ((flat[first] < 0) | (flat[second] < 0))
    first, second = first[useful], second[useful]
    if len(first) == 0:
        return []
    # of an edge between a free voxel and a terminal the free one decides
    lower = np.where((flat[second] > 0) | ((flat[first] < 0) & (level[first] <= level[second])), first, second)
    a, b = np.sort(np.stack([numbers[first], numbers[second]]), axis=0)
    order = np.argsort(-level[lower], kind="stable")
    _, once = np.unique(a[order] * len(numbers) + b[order], return_index=True)
    kept = order[np.sort(once)]
    tree = spanning_tree(a[kept], b[kept], -level[lower[kept]], count)
    heights = [*peaks] or [1.0] * int(max(terminals.max(initial=0), 0))
    joins = _joins(a[kept][tree], b[kept][tree], lower[kept][tree], count, heights)
    flat_voxels = np.array([voxel for *_, voxel in joins], dtype=np.int64)
    voxels = np.stack(np.unravel_index(flat_voxels, values.shape), axis=1).tolist()
    return [
        Saddle(younger + 1, elder + 1, tuple(voxel), float(values[tuple(voxel)]))
        for (younger, elder, _), voxel in zip(joins, voxels, strict=True)
    ]


def agreeing(values: Values, foreground: Mask) -> Values:
    """The values moved, where rounding or a tie makes it necessary, to the side of a half that the labels show."""
    step = 1e-3
    return np.where(foreground, np.maximum(values, LEVEL + step), np.minimum(values, LEVEL - step))


def is_tooth(classes: NDArray[Any]) -> Mask:
    """Where class indices are those of teeth."""
    tooth: Mask = (classes >= FIRST_TOOTH) & (classes <= LAST_TOOTH)
    return tooth


def joint(boxes: Sequence[Box]) -> Box:
    """The smallest box around some, at least one."""
    z, y, x = (slice(min(b[i].start for b in boxes), max(b[i].stop for b in boxes)) for i in range(3))
    return z, y, x


def offset(box: Box) -> tuple[int, int, int]:
    """First voxel of a box."""
    z, y, x = (int(side.start) for side in box)
    return z, y, x


def best(values: Values, among: Mask) -> Voxel:
    """The voxel of the highest value among some, at least one."""
    return tuple(int(n) for n in np.unravel_index(np.argmax(np.where(among, values, -np.inf)), values.shape))


def shifted(voxel: Voxel, box: Box) -> Voxel:
    """A voxel of a box as a voxel of the patch."""
    return tuple(a + b for a, b in zip(voxel, offset(box), strict=True))


def shifted_box(inner: Box, box: Box) -> Box:
    """A box within another as a box of the patch."""
    z, y, x = (slice(a.start + b.start, a.stop + b.start) for a, b in zip(inner, box, strict=True))
    return z, y, x


def _tooth_boxes(classes: NDArray[np.uint8]) -> dict[int, Box]:
    return {value: box for value, box in label_boxes(classes).items() if FIRST_TOOTH <= value <= LAST_TOOTH}


def _node_numbers(terminals: NDArray[np.int32]) -> tuple[Voxels, int]:
    """Graph nodes of voxels: one for each terminal, then one for each free voxel; -1 outside. And their count."""
    flat = terminals.ravel()
    sets = int(max(flat.max(initial=0), 0))
    free = np.flatnonzero(flat < 0)
    numbers = np.where(flat > 0, flat - 1, -1).astype(np.int64)
    numbers[free] = sets + np.arange(len(free))
    return numbers, sets + len(free)


def _joins(a: Voxels, b: Voxels, lower: Voxels, count: int, heights: Sequence[float]) -> list[tuple[int, int, int]]:
    """(younger, elder, voxel) whenever two sets that hold terminals meet along the edges of a tree, in its order."""
    parent, sets = list(range(count)), len(heights)
    found = []

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for i, j, voxel in zip(a.tolist(), b.tolist(), lower.tolist(), strict=True):
        one, two = sorted((root(i), root(j)))
        if two < sets:
            one, two = (one, two) if heights[one] >= heights[two] else (two, one)
            found.append((two, one, voxel))
            if len(found) == sets - 1:
                break
        parent[two] = one
    return found
