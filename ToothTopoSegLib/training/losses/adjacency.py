"""The adjacency term: which teeth may touch, and which gaps stay open. Contact is never demanded.

Two offences, both between two different teeth a and b:

- a *contact* of teeth that are neither arch neighbours (the partner across the midline is one) nor antagonists. The
  soft contact of two teeth is the sum of p_a(v) p_b(w) over voxels v, w that share a face; what is pushed down is the
  part of it where the labels touch, by drawing the wrong voxel of every such face towards its true class, which takes
  probability from a or b there. Pushing the product itself down would move the right voxel of a face too.
- a *bridge*: voxels that are no tooth in the truth, but found to be teeth, and that join what is found of two true
  teeth. In the filtration by how sure the network is of any tooth, the two join at a saddle, the death of a dimension-0
  class that dies later in the truth. The saddle and its neighbourhood are drawn towards the truth. A bridge is as
  strong as its cut and not as its weakest voxel, so the saddle is taken out and the next one sought, a few times.

Legal is what the truth shows in this patch: teeth that touch there may do so, and antagonists may always. Which teeth
stand side by side and which bite on each other says :mod:`ToothTopoSegLib.anatomy.fdi`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.anatomy import fdi
from ToothTopoSegLib.imaging.boxes import Box
from ToothTopoSegLib.segmentation.classes import LABELS
from ToothTopoSegLib.topology.betti import Mask
from ToothTopoSegLib.topology.persistence import adjacent_slices
from ToothTopoSegLib.training.losses.places import (
    EVERYWHERE,
    FIRST_TOOTH,
    LAST_TOOTH,
    Offences,
    Patch,
    Place,
    Region,
    Values,
    Voxels,
    is_tooth,
    saddles,
    shifted,
)

if TYPE_CHECKING:
    from ToothTopoSegLib.training.losses.topology import TopologyConfig

Pair = tuple[int, int]

GAP = 6
"""Bridges over gaps of at least this many voxels are not looked for."""
MOST_VOXELS = 512
"""So many voxels of a contact are drawn, evenly chosen."""


@lru_cache(maxsize=1)
def forbidden() -> Mask:
    """Table (33, 33) of the tooth classes whose contact no mouth has."""
    table = np.zeros((LAST_TOOTH + 1, LAST_TOOTH + 1), dtype=bool)
    for a, b in combinations(range(FIRST_TOOTH, LAST_TOOTH + 1), 2):
        first, second = LABELS[a], LABELS[b]
        near = fdi.are_neighbours(first, second) or _bite(first, second)
        table[a, b] = table[b, a] = not near
    return table


def adjacency_offences(patch: Patch, config: TopologyConfig) -> Offences:
    """Contacts and bridges of a patch; counts ``contacts`` (pairs of teeth) and ``bridges`` (likewise)."""
    touching = touching_pairs(patch.truth)
    places, contacts = _contacts(patch, touching, config)
    bridges = list(_bridges(patch, touching, config))
    bridges.sort(key=lambda region: -region.voxels)
    return Offences(places, bridges[: config.most_regions], {"contacts": contacts, "bridges": len(bridges)})


def touching_pairs(classes: NDArray[np.uint8]) -> set[Pair]:
    """Ascending pairs of tooth classes with voxels that share a face, an edge or a corner."""
    pairs: set[Pair] = set()
    tooth = is_tooth(classes)
    for before, after in adjacent_slices(classes.shape, 26):
        a, b = classes[before], classes[after]
        meet = (a != b) & tooth[before] & tooth[after]
        pairs |= _pairs(a[meet], b[meet])
    return pairs


def _contacts(patch: Patch, touching: set[Pair], config: TopologyConfig) -> tuple[list[Place], int]:
    """The wrong voxels of every forbidden pair that touches by faces, but not in the truth; and how many pairs do."""
    table = forbidden().copy()
    for a, b in touching:
        table[a, b] = table[b, a] = False
    pairs, low, high = _faces(patch, table)
    areas = np.bincount(pairs, minlength=table.size)
    largest = np.argsort(-areas, kind="stable")[: config.most_regions]
    places = []
    for pair in largest[areas[largest] > 0]:
        every = np.unique(np.concatenate([low[pairs == pair], high[pairs == pair]]), axis=0)
        wrong = every[patch.wrong[tuple(every.T)]]
        drawn = wrong[:: -(-len(wrong) // MOST_VOXELS)]
        places.append(Place(drawn, 1.0, len(drawn)))
    return places, int(np.count_nonzero(areas))


def _faces(patch: Patch, table: Mask) -> tuple[Voxels, Voxels, Voxels]:
    """All faces between teeth of which ``table`` says so: number of the pair, voxels (n, 3) before and after them."""
    found = patch.found
    pairs, low, high = [], [], []
    for before, after in adjacent_slices(found.shape, 6):
        at = np.argwhere((found[before] != found[after]) & patch.found_tooth[before] & patch.found_tooth[after])
        one, two = at + [s.start for s in before], at + [s.start for s in after]
        a, b = found[tuple(one.T)].astype(np.int64), found[tuple(two.T)].astype(np.int64)
        meant = table[a, b]
        pairs.append((np.minimum(a, b) * len(table) + np.maximum(a, b))[meant])
        low.append(one[meant])
        high.append(two[meant])
    return np.concatenate(pairs), np.concatenate(low), np.concatenate(high)


def _pairs(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> set[Pair]:
    codes = np.unique(np.minimum(first, second).astype(np.int64) * 256 + np.maximum(first, second))
    return {(int(code) // 256, int(code) % 256) for code in codes}


def _bridges(patch: Patch, touching: set[Pair], config: TopologyConfig) -> Iterator[Region]:
    between = patch.found_tooth & ~is_tooth(patch.truth)
    for a, b in combinations(sorted(patch.true_boxes), 2):
        if (a, b) in touching or _bite(LABELS[a], LABELS[b]):
            continue
        box = _overlap(*(patch.around(patch.true_boxes[tooth], GAP) for tooth in (a, b)))
        if box is not None and between[box].any():
            terminals = _bridge(patch, between, box, (a, b))
            if terminals is not None:
                yield _bridge_region(patch, box, terminals, config)


def _bridge(patch: Patch, between: Mask, box: Box, pair: Pair) -> NDArray[np.int32] | None:
    """The two teeth as 1 and 2 and what joins them as -1, if anything does."""
    from scipy import ndimage

    own = [patch.found_tooth[box] & (patch.truth[box] == tooth) for tooth in pair]
    numbered, _ = ndimage.label(own[0] | own[1] | between[box], EVERYWHERE)
    joined = np.intersect1d(numbered[own[0]], numbered[own[1]])
    if len(joined) == 0:
        return None
    terminals = np.where(between[box] & np.isin(numbered, joined), -1, 0).astype(np.int32)
    terminals[own[0]], terminals[own[1]] = 1, 2
    return terminals


def _bridge_region(patch: Patch, box: Box, terminals: NDArray[np.int32], config: TopologyConfig) -> Region:
    def locate(values: Values) -> list[Place]:
        left, places = terminals.copy(), []
        for _ in range(config.cuts):
            saddle = next(iter(saddles(values, left)), None)
            if saddle is None:
                break
            place = patch.place(shifted(saddle.voxel, box), config.radius, saddle.value, config.persistence_power)
            places.append(place)
            cut = place.voxels - [side.start for side in box]
            cut = cut[((cut >= 0) & (cut < left.shape)).all(axis=1)]
            left[tuple(cut.T)] = np.where(left[tuple(cut.T)] < 0, 0, left[tuple(cut.T)])
        return places

    return Region(box, FIRST_TOOTH, LAST_TOOTH, locate)


def _overlap(first: Box, second: Box) -> Box | None:
    sides = [(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(first, second, strict=True)]
    if any(low >= high for low, high in sides):
        return None
    z, y, x = (slice(low, high) for low, high in sides)
    return z, y, x


def _bite(first: int, second: int) -> bool:
    return second in fdi.antagonists(first) or first in fdi.antagonists(second)
