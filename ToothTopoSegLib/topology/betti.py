"""Betti numbers of a tooth: how many pieces (b0), tunnels (b1) and enclosed voids (b2) its label has.

In goes a boolean array or a label map (z, y, x), out come Betti numbers, the separate bodies and the enclosed voids.
Pieces and voids are counted by labelling, the Euler characteristic by counting cells, and b1 = b0 + b2 - chi. A
26-connected foreground (voxels are closed cubes, as in gudhi's ``top_dimensional_cells``) goes with a 6-connected
background, and the other way round (voxels are vertices, as in gudhi's ``vertices``): T. Y. Kong, A. Rosenfeld,
*Digital topology: introduction and survey*, CVGIP 1989. Each body is looked at in its own crop: homology adds up over
disjoint bodies, so that crumbs far away cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.anatomy.fdi import LOWER_JAW, is_tooth
from ToothTopoSegLib.imaging.boxes import Box, label_boxes

Mask = NDArray[np.bool_]
Betti = tuple[int, int, int]
Position = tuple[float, float, float]

_DUAL = {26: 6, 6: 26}
_SPARSE_BELOW = 0.02
"""Filled share of the bounding box below which a mask counts as scattered and is labelled as a graph of its voxels."""
_SPARSE_FROM = 500_000


@dataclass(frozen=True, eq=False)
class Body:
    """One connected set of voxels: its box (slices z, y, x in the whole array), mask within the box, voxel count."""

    box: Box
    mask: Mask
    voxels: int

    @property
    def indices(self) -> NDArray[np.int64]:
        """Voxel indices (n, 3) as (z, y, x) in the whole array."""
        start = np.array([s.start for s in self.box], dtype=np.int64)
        return np.argwhere(self.mask).astype(np.int64) + start

    @property
    def centroid(self) -> Position:
        """Mean voxel index (z, y, x) in the whole array."""
        z, y, x = self.indices.mean(axis=0).tolist()
        return z, y, x

    def in_box(self, box: tuple[slice, ...]) -> Mask:
        """Its mask on another box of the whole array (slices z, y, x); what lies outside is cut off."""
        out = np.zeros([s.stop - s.start for s in box], dtype=bool)
        overlap = [(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(self.box, box, strict=True)]
        if all(low < high for low, high in overlap):
            here, there = (
                tuple(slice(low - s.start, high - s.start) for (low, high), s in zip(overlap, sides, strict=True))
                for sides in (box, self.box)
            )
            out[here] = self.mask[there]
        return out

    def reaches_border(self, shape: Sequence[int]) -> bool:
        """Whether it touches a face of the whole array, which has this shape."""
        return any(side.start == 0 or side.stop == length for side, length in zip(self.box, shape, strict=True))


@dataclass(frozen=True, eq=False)
class ToothTopology:
    """One label: bodies and enclosed voids, largest first; Betti numbers; voxels; mean voxel index (z, y, x)."""

    fdi: int
    bodies: tuple[Body, ...]
    voids: tuple[Body, ...]
    betti: Betti
    voxels: int
    centroid: Position


def betti_numbers(mask: Mask, connectivity: int = 26) -> Betti:
    """(b0, b1, b2) of a boolean array (z, y, x) with a 26- or 6-connected foreground; (0, 0, 0) if it is empty."""
    found = bodies(mask, connectivity)
    b2 = sum(len(voids(body, connectivity)) for body in found)
    chi = sum(euler_number(body.mask, connectivity) for body in found)
    return len(found), len(found) + b2 - chi, b2


def tooth_topology(labels: NDArray[Any], connectivity: int = 26) -> dict[int, ToothTopology]:
    """Topology of every tooth (FDI number) in an integer label map (z, y, x), ascending; other labels are left out."""
    return {
        value: _topology(value, labels[box] == value, _offset(box), connectivity)
        for value, box in label_boxes(labels, highest=LOWER_JAW - 1).items()
        if is_tooth(value)
    }


def body_at(indices: NDArray[np.int64]) -> Body:
    """The body of some voxels, given as indices (n, 3) in the whole array (z, y, x); there must be one at least."""
    low, high = indices.min(axis=0), indices.max(axis=0) + 1
    mask = np.zeros(high - low, dtype=bool)
    mask[tuple((indices - low).T)] = True
    z, y, x = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return Body((z, y, x), mask, int(np.count_nonzero(mask)))


def box_around(parts: Iterable[Body], margin: int = 0) -> Box:
    """The smallest box around bodies, wider by a margin in voxels on all sides; an empty one around none."""
    boxes = [body.box for body in parts] or [(slice(0, 0), slice(0, 0), slice(0, 0))]
    ends = [(min(b[i].start for b in boxes), max(b[i].stop for b in boxes)) for i in range(3)]
    z, y, x = (slice(start - margin, stop + margin) for start, stop in ends)
    return z, y, x


def bodies(mask: Mask, connectivity: int = 26, offset: tuple[int, int, int] = (0, 0, 0)) -> tuple[Body, ...]:
    """Connected components of a boolean array (z, y, x), largest first; ``offset`` is added to their boxes."""
    from scipy import ndimage

    _check(mask, connectivity)
    if mask.size >= _SPARSE_FROM and 0 < np.count_nonzero(mask) < _SPARSE_BELOW * mask.size:
        return _ordered(_scattered_bodies(mask, connectivity, offset))
    numbered, _ = ndimage.label(mask, _structure(connectivity))
    return _ordered(_bodies_of(numbered, offset))


def voids(body: Body, connectivity: int = 26) -> tuple[Body, ...]:
    """Background components that a connected body encloses, largest first, for a foreground of this connectivity."""
    from scipy import ndimage

    if min(body.mask.shape) < 3:
        return ()
    outside = np.pad(~body.mask, 1, constant_values=True)
    numbered, count = ndimage.label(outside, _structure(_DUAL[connectivity]))
    if count <= 1:
        return ()
    numbered[numbered == numbered[0, 0, 0]] = 0
    return _ordered(_bodies_of(numbered[1:-1, 1:-1, 1:-1], _offset(body.box)))


def euler_number(mask: Mask, connectivity: int = 26) -> int:
    """Euler characteristic of a boolean array (z, y, x).

    26: vertices - edges + faces - cubes of the union of closed voxel cubes. 6: voxels are the vertices, and edges,
    squares and cubes exist where all their corners do.
    """
    _check(mask, connectivity)
    join = np.logical_or if connectivity == 26 else np.logical_and
    chi = 0
    for cells, axes in _cells(np.pad(mask, 1), join):
        chi += int(np.count_nonzero(cells)) * (-1) ** axes
    # closed cubes lose a dimension with every axis joined, vertices gain one
    return -chi if connectivity == 26 else chi


def _cells(padded: Mask, join: Any) -> Iterator[tuple[Mask, int]]:
    """Voxels joined with their neighbours along each subset of the axes, and how many axes that were."""
    for subset in range(8):
        axes = [axis for axis in range(3) if subset >> axis & 1]
        yield reduce(lambda cells, axis: _joined(cells, axis, join), axes, padded), len(axes)


def _joined(cells: Mask, axis: int, join: Any) -> Mask:
    before = tuple(slice(None, -1) if a == axis else slice(None) for a in range(3))
    after = tuple(slice(1, None) if a == axis else slice(None) for a in range(3))
    joined: Mask = join(cells[before], cells[after])
    return joined


def _topology(value: int, mask: Mask, offset: tuple[int, int, int], connectivity: int) -> ToothTopology:
    found = bodies(mask, connectivity, offset)
    holes = [void for body in found for void in voids(body, connectivity)]
    chi = sum(euler_number(body.mask, connectivity) for body in found)
    voxels = sum(body.voxels for body in found)
    z, y, x = (np.sum([np.multiply(b.centroid, b.voxels) for b in found], axis=0) / voxels).tolist()
    betti = (len(found), len(found) + len(holes) - chi, len(holes))
    return ToothTopology(value, found, _ordered(holes), betti, voxels, (z, y, x))


def _bodies_of(numbered: NDArray[Any], offset: tuple[int, int, int]) -> list[Body]:
    from scipy import ndimage

    found = []
    for number, box in enumerate(ndimage.find_objects(numbered), start=1):
        if box is not None:
            mask = numbered[box] == number
            found.append(Body(_shifted(box, offset), mask, int(np.count_nonzero(mask))))
    return found


def _scattered_bodies(mask: Mask, connectivity: int, offset: tuple[int, int, int]) -> list[Body]:
    """Components of few voxels in a large box, by a graph over the voxels instead of a pass over the box."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    # a border of one voxel keeps flat neighbours from wrapping round to the next row
    shape = np.array(mask.shape) + 2
    # several times faster than argwhere on a large, nearly empty array
    indices = np.stack(np.unravel_index(np.flatnonzero(mask), mask.shape), axis=1)
    flat = np.ravel_multi_index(tuple((indices + 1).T), tuple(shape))
    steps = np.argwhere(_structure(connectivity)) - 1
    rows, columns = [], []
    for step in steps[len(steps) // 2 + 1 :]:
        wanted = flat + int(step @ (shape[1] * shape[2], shape[2], 1))
        place = np.minimum(np.searchsorted(flat, wanted), len(flat) - 1)
        hit = np.flatnonzero(flat[place] == wanted)
        rows.append(hit)
        columns.append(place[hit])
    row, column = np.concatenate(rows), np.concatenate(columns)
    graph = coo_array((np.ones(len(row), dtype=bool), (row, column)), shape=(len(flat), len(flat)))
    labelled: Any = connected_components(graph, directed=False)
    member: NDArray[Any] = labelled[1]
    order = np.argsort(member, kind="stable")
    groups = np.split(indices[order], np.flatnonzero(np.diff(member[order])) + 1)
    return [body_at(group + np.array(offset)) for group in groups]


def _ordered(found: list[Body]) -> tuple[Body, ...]:
    return tuple(sorted(found, key=lambda body: (-body.voxels, *(s.start for s in body.box))))


def _shifted(box: Box, offset: tuple[int, int, int]) -> Box:
    z, y, x = (slice(int(s.start + o), int(s.stop + o)) for s, o in zip(box, offset, strict=True))
    return z, y, x


def _offset(box: Box) -> tuple[int, int, int]:
    z, y, x = (int(s.start) for s in box)
    return z, y, x


def _structure(connectivity: int) -> NDArray[Any]:
    from scipy import ndimage

    return np.asarray(ndimage.generate_binary_structure(3, 3 if connectivity == 26 else 1))


def _check(mask: NDArray[Any], connectivity: int) -> None:
    if mask.ndim != 3 or mask.dtype != np.bool_:
        raise ValueError(f"expected a boolean array (z, y, x), not {mask.ndim}D {mask.dtype}")
    if connectivity not in _DUAL:
        raise ValueError(f"connectivity is 26 or 6, not {connectivity}")
