"""The shape of a tooth's body: coarse copies, extents, thick cores, cutting in two, and how much of a cut a contact is.

In go boolean arrays (z, y, x) with their spacing in mm, or bodies; out come lengths in mm, areas in mm2 and masks. All
measures are taken in mm along the array's axes and depend on no orientation, except where a ``vertical`` is handed in.
Cores are the dimension-0 features of the distance transform: parts of a body that are thicker than the neck that joins
them. The cut between two cores is the watershed of that transform (S. Beucher, F. Meyer, *The morphological approach
to segmentation: the watershed transformation*, 1993), found as an image foresting transform.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, Literal, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.anatomy.sizes import size_of
from ToothTopoSegLib.imaging.boxes import Box
from ToothTopoSegLib.imaging.volume import Vector3, Volume
from ToothTopoSegLib.topology.betti import Body, ToothTopology, betti_numbers
from ToothTopoSegLib.topology.mouth import Mouth

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]
T = TypeVar("T")

COARSE_MM = 0.5
"""Voxel size at which the shape of a tooth is judged."""
_FEW = 5
"""With fewer teeth than this nothing is said about how large this patient's teeth are."""
_SLAB_MM = (0.75, 2.25)
"""Distances from a cut between which the sections of both sides are taken."""
_CHIP_SHARE = 0.25
"""The section of a thin chip counts as at least this share of the section it was cut off."""
_THRESHOLDS = 10
_SECTORS, _LEVEL_MM, _CROWN_FROM = 16, 2.0, -0.05
_ELONGATED = 1.3
"""A tooth this many times longer than wide has a sure long axis."""
_THICK_MM, _BRANCH_MM, _LONG_MM, _TIP_MM, _ACROSS = 1.75, 2.5, 5.0, 3.0, 0.7
_TURNS = np.linspace(0, np.pi, 8, endpoint=False)
_DIRECTIONS = np.stack([np.cos(_TURNS), np.sin(_TURNS)])
"""Unit vectors (2, 8) along which the width of a slice is taken."""
_ROOT_FROM, _ROOT_STEP_MM, _END_MM = -0.05, 1.0, 2.0
_CLOSING_MM = 1.5
_CORE_FROM_MM, _LEAST_NECK_MM, _NECK_STEP_MM = 1.0, 0.3, 0.1
"""A core has this radius at least, and a neck this much smaller, which is followed down in steps of the third."""
_DARK = 0.2
"""Cost of a cut through dark voxels beside that through bright ones."""
_TIE, _JOINED = 1e-3, 1e-9
"""Cost of a mm from a seed, and of what belongs together, beside costs of 0 to 1."""


@dataclass(frozen=True, eq=False)
class Cores:
    """Two thick parts of a body: ``seeds`` (z, y, x) is 1 and 2 in them, 0 elsewhere; ``neck_mm`` is the half width
    of the widest neck that joins them, ``apart_mm`` the distance of their centres across the vertical."""

    seeds: NDArray[np.int16]
    neck_mm: float
    apart_mm: float


@dataclass(frozen=True, eq=False)
class Lump:
    """A lump on a body: ``place`` in mm along the array's axes (z, y, x) of its middle, ``radius_mm`` of the ball that
    fits there, and by how much the ball that passes its neck is smaller than the thinner side (``neck_mm``).

    ``beside`` and ``beside_mm`` are the place and the radius of the thick place on the other side of the neck."""

    place: Floats
    radius_mm: float
    neck_mm: float
    beside: Floats
    beside_mm: float


def remembered(measure: Callable[[Mouth], T]) -> Callable[[Mouth], T]:
    """The function, measuring each mouth once: several detectors rest on the same contacts, merges and splits."""
    known: WeakKeyDictionary[Mouth, T] = WeakKeyDictionary()

    @wraps(measure)
    def once(mouth: Mouth) -> T:
        if mouth not in known:
            known[mouth] = measure(mouth)
        return known[mouth]

    return once


def body_of(mask: Mask, box: Box) -> Body:
    """A mask (z, y, x) that lies in ``box`` of the whole array as a body in its own box; it must not be empty."""
    inner = [np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    spans = [slice(int(places[0]), int(places[-1]) + 1) for places in inner]
    crop = mask[tuple(spans)]
    z, y, x = (slice(o.start + s.start, o.start + s.stop) for o, s in zip(box, spans, strict=True))
    return Body((z, y, x), crop, int(np.count_nonzero(crop)))


def vertical(labels: Volume) -> Floats:
    """Unit vector along the array's axes (z, y, x) that points to the head (+z in LPS)."""
    return np.asarray(labels.direction, dtype=float)[2, ::-1]


def coarse(mask: Mask, spacing: Vector3, target: float = COARSE_MM) -> tuple[Mask, Vector3]:
    """A mask of about ``target`` mm per voxel, filled where at least half of a block is, with one voxel of margin.

    Axes that are coarse already stay as they are. Returns the mask and its spacing.
    """
    blocks = _blocks(mask, spacing, target, "constant")
    filled = np.count_nonzero(blocks, axis=(1, 3, 5)) * 2 >= np.prod(blocks.shape[1::2])
    return filled, sampled(spacing, target)


def coarse_grey(grey: NDArray[Any], spacing: Vector3, target: float = COARSE_MM) -> Floats:
    """The mean grey values of the blocks of a :func:`coarse` mask, carried on at its margin."""
    means: Floats = _blocks(grey, spacing, target, "edge").mean(axis=(1, 3, 5))
    return means


def _blocks(values: NDArray[Any], spacing: Vector3, target: float, mode: Literal["constant", "edge"]) -> NDArray[Any]:
    """Blocks (z, k, y, l, x, m) of about ``target`` mm, with a margin of one block."""
    factors = [max(1, round(target / step)) for step in spacing]
    pads = [(factor, factor + -length % factor) for factor, length in zip(factors, values.shape, strict=True)]
    padded = np.pad(values, pads, mode=mode)
    z, y, x = (length // factor for length, factor in zip(padded.shape, factors, strict=True))
    return padded.reshape(z, factors[0], y, factors[1], x, factors[2])


def coarse_corner_mm(body: Body, spacing: Vector3, large: Vector3) -> Floats:
    """Place in mm along the array's axes of voxel 0 of the :func:`coarse` mask, of spacing ``large``, of a body."""
    start = np.array([side.start for side in body.box]) * np.asarray(spacing)
    return np.asarray(start - np.multiply(spacing, 0.5) - np.multiply(large, 0.5))


_DEPTHS: WeakKeyDictionary[Body, dict[Vector3, tuple[Mask, Vector3, Floats]]] = WeakKeyDictionary()


def coarse_depth(body: Body, spacing: Vector3) -> tuple[Mask, Vector3, Floats]:
    """The :func:`coarse` mask of a body, its spacing, and how deep each voxel lies in it in mm; measured once."""
    from scipy import ndimage

    known = _DEPTHS.setdefault(body, {})
    if spacing not in known:
        mask, step = coarse(body.mask, spacing)
        known[spacing] = mask, step, ndimage.distance_transform_edt(mask, sampling=step)
    return known[spacing]


@remembered
def patient_scale(mouth: Mouth) -> float:
    """How large this patient's teeth are by volume relative to the average (median over the teeth, 0.6 to 1.5).

    Teeth that the border of the view cuts do not count; with few teeth it is 1.
    """
    ratios = [relative_volume(mouth, fdi, tooth.bodies[:1]) for fdi, tooth in whole(mouth).items()]
    return float(np.clip(np.median(ratios), 0.6, 1.5)) if len(ratios) >= _FEW else 1.0


def whole(mouth: Mouth) -> dict[int, ToothTopology]:
    """The teeth (ToothTopology by FDI number) that no face of the array cuts."""
    shape = mouth.labels.array.shape
    return {fdi: tooth for fdi, tooth in mouth.teeth.items() if not tooth.bodies[0].reaches_border(shape)}


def relative_volume(mouth: Mouth, fdi: int, parts: Sequence[Body]) -> float:
    """Volume of bodies relative to the average tooth of this number."""
    return sum(body.voxels for body in parts) * mouth.labels.voxel_volume / size_of(fdi).volume


def sampled(spacing: Vector3, target: float = COARSE_MM) -> Vector3:
    """Spacing (z, y, x) of the points that :func:`points_mm` takes."""
    z, y, x = (step * max(1, round(target / step)) for step in spacing)
    return z, y, x


def points_mm(body: Body, spacing: Vector3, target: float = COARSE_MM) -> Floats:
    """One point for about every ``target`` mm along each axis of a body: (n, 3) in mm along the array's (z, y, x).

    A body so thin that all of these lie beside it gives all its voxels.
    """
    steps = [round(large / small) for large, small in zip(sampled(spacing, target), spacing, strict=True)]
    index = np.argwhere(body.mask[:: steps[0], :: steps[1], :: steps[2]]) * steps
    if not len(index):
        index = np.argwhere(body.mask)
    return np.asarray((index + [side.start for side in body.box]) * np.asarray(spacing))


def long_axis(points: Floats) -> tuple[Floats, Floats]:
    """Principal axes of points (n, 3), longest first, as rows, and the extents in mm along them."""
    centred = points - points.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes.T[::-1]
    along = centred @ axes.T
    return axes, np.ptp(along, axis=0)


def tooth_axes(points: Floats, crownwards: Floats) -> tuple[Floats, Floats]:
    """Principal axes of points (n, 3) as rows, from the root to the crown first, and the extents in mm along them.

    That is the longest axis, or where a tooth is about as wide as long (a milk molar that has lost its roots), the one
    nearest to ``crownwards``.
    """
    axes, extents = long_axis(points)
    if extents[0] < _ELONGATED * extents[1:].max():
        first = int(np.argmax(np.abs(axes @ crownwards)))
        order = [first, *(i for i in range(3) if i != first)]
        axes, extents = axes[order], extents[order]
    return np.vstack([axes[:1] * (1 if axes[0] @ crownwards >= 0 else -1), axes[1:]]), extents


def branches_mm(body: Body, spacing: Vector3, crownwards: Floats) -> list[tuple[Floats, float]]:
    """Thin branches of a body that run across its long axis, which no root does: the points (n, 3) of each end in mm
    along the array's axes, and its reach in mm.

    A branch is what a ball of :data:`_THICK_MM` does not reach within the body, and far enough from where it does. It
    leaves the body sideways, or it is long and turns aside: the edge of an incisor, as thin, does neither. Roots that
    meet again turn aside as well, but make a ring with the body.
    """
    from scipy import ndimage

    mask, step, depth = coarse_depth(body, spacing)
    if not (depth > _THICK_MM).any():
        return []
    away, core = ndimage.distance_transform_edt(depth <= _THICK_MM, sampling=step, return_indices=True)
    away -= _THICK_MM
    if float(away[mask].max()) < _BRANCH_MM:
        return []
    corner = coarse_corner_mm(body, spacing, step)
    thin = mask & (away > max(step))
    numbered, count = ndimage.label(thin, np.ones((3, 3, 3)))
    # the axis of a short tooth is unsure; a lying tooth has roots across the vertical
    trunk = np.argwhere(mask & (away <= _BRANCH_MM)) * np.asarray(step)
    axes = np.stack([tooth_axes(trunk, crownwards)[0][0], crownwards])
    found = []
    for number in range(1, count + 1):
        points = np.argwhere(numbered == number)
        reach = away[tuple(points.T)]
        last, far = points[int(np.argmax(reach))], float(reach.max())
        tip, places = last * np.asarray(step), points * np.asarray(step)
        end = places[np.linalg.norm(places - tip, axis=1) <= _TIP_MM]
        out, turn = tip - core[(slice(None), *last)] * np.asarray(step), tip - end.mean(axis=0)
        # the blunt end of a root has no direction
        aside = far >= _LONG_MM and float(np.linalg.norm(turn)) >= _TIP_MM / 3
        sideways = far >= _BRANCH_MM and _across(turn, axes) and (aside or _across(out, axes))
        if sideways and not _makes_ring(numbered == number, mask):
            found.append((end + corner, far))
    return found


def _makes_ring(branch: Mask, tooth: Mask) -> bool:
    """Whether a hole of a tooth (z, y, x) goes through the ring that a branch of it makes with the rest."""
    return betti_numbers(tooth)[1] > betti_numbers(tooth & ~branch)[1]


def _across(way: Floats, axes: Floats) -> bool:
    return bool((np.abs(axes @ way) < _ACROSS * float(np.linalg.norm(way))).all())


def closed(mask: Mask, spacing: Vector3, radius_mm: float) -> Mask:
    """A mask (z, y, x) with all gaps filled that a ball of this radius does not enter (its closing)."""
    from scipy import ndimage

    room = [int(np.ceil(radius_mm / step)) + 1 for step in spacing]
    wide = np.pad(mask, [(n, n) for n in room])
    spread = ndimage.distance_transform_edt(~wide, sampling=spacing) <= radius_mm
    filled = ndimage.distance_transform_edt(spread, sampling=spacing) > radius_mm
    return mask | filled[tuple(slice(n, size - n) for n, size in zip(room, filled.shape, strict=True))]


def find_lump(body: Body, spacing: Vector3, tunnels: bool = False, voids: bool = False) -> Lump | None:
    """The lump on a tooth's body: a thick place that the narrowest neck parts from the rest.

    A sound tooth tapers from its thickest place to its tips, so that the distance transform has no second maximum worth
    mentioning; the neck is told by the persistence of the maxima. Of the two thick places that a neck joins the more
    compact one is the lump, for a lump may be thicker than the tooth. None without a neck. Holes make necks as well:
    of a body that has ``voids`` or ``tunnels`` they are filled first, tunnels that a ball of :data:`_CLOSING_MM` does
    not enter.
    """
    from scipy import ndimage

    _, step, depth = coarse_depth(body, spacing)
    if tunnels or voids:
        solid = ndimage.binary_fill_holes(closed(depth > 0, step, _CLOSING_MM) if tunnels else depth > 0)
        depth = ndimage.distance_transform_edt(solid, sampling=step)
    places = _peaks(depth)
    peaks = [tuple(place) for place in places[np.argsort(-depth[tuple(places.T)], kind="stable")]]
    necks = [_neck_mm(depth, peaks[: at + 1]) for at in range(len(peaks))]
    if not any(necks):
        return None
    at = int(np.argmax(necks))
    level = depth[peaks[at]] - necks[at]
    apart, joined = (ndimage.label(depth > low)[0] for low in (level, level - _NECK_STEP_MM))
    ends = next(other for other in peaks if joined[other] == joined[peaks[at]]), peaks[at]
    lengths = [long_axis(np.argwhere(apart == apart[end]) * np.asarray(step))[1][0] for end in ends]
    lump, other = (ends[k] for k in np.argsort(lengths, kind="stable"))
    place, beside = (np.asarray(end) * step + coarse_corner_mm(body, spacing, step) for end in (lump, other))
    return Lump(place, float(depth[lump]), necks[at], beside, float(depth[other]))


def _peaks(depth: Floats) -> NDArray[np.int64]:
    """Voxels (n, 3) deeper than :data:`_CORE_FROM_MM` and than all beside them, one of each plateau."""
    from scipy import ndimage

    highest = (depth == ndimage.maximum_filter(depth, 3)) & (depth > _CORE_FROM_MM)
    plateaus, count = ndimage.label(highest, np.ones((3, 3, 3)))
    found = ndimage.maximum_position(highest, plateaus, np.arange(1, count + 1)) if count else []
    return np.array(found, dtype=np.int64).reshape(-1, 3)


def _neck_mm(depth: Floats, peaks: Sequence[tuple[int, ...]]) -> float:
    """By how many mm the last of some maxima of ``depth`` rises over the highest way to any other of them; 0 if by
    less than :data:`_LEAST_NECK_MM`."""
    from scipy import ndimage

    *others, own = peaks
    risen = 0.0
    level = depth[own] - _LEAST_NECK_MM
    while others and level > 0:
        numbered, _ = ndimage.label(depth > level)
        if any(numbered[other] == numbered[own] for other in others):
            break
        risen = float(depth[own] - level)
        level -= _NECK_STEP_MM
    return risen


def root_spread_mm(body: Body, spacing: Vector3, crownwards: Floats, each_way: bool = False) -> tuple[Floats, float]:
    """How much wider a root gets towards its tip: the farthest end there in mm along the array's axes, and by how many
    mm the widest piece of a slice across the tooth is wider than that of one nearer to the crown.

    ``each_way`` compares the widths along each direction, where a flat root that gets thicker is seen as well; several
    roots that spread are wider in some direction always.
    """
    mask, step, _ = coarse_depth(body, spacing)
    index = np.argwhere(mask)
    points = index * np.asarray(step)
    if len(points) < 2:
        return np.zeros(3), 0.0
    axes, extents = tooth_axes(points, crownwards)
    along = (points - points.mean(axis=0)) @ axes[0]
    aside = points @ axes[1:].T
    level = np.floor((_ROOT_FROM * extents[0] - along) / _ROOT_STEP_MM).astype(int)
    best, far, before = 0.0, points[0], aside
    narrowest = np.full(len(_TURNS) if each_way else 1, np.inf)
    for k in np.unique(level[level >= 0]):
        some = np.flatnonzero(level == k)
        widths, piece = _piece_widths(index[some], aside[some], each_way)
        grown = widths - narrowest
        if grown.max() > best:
            best = float(grown.max())
            own = some[piece == np.unravel_index(int(np.argmax(grown)), grown.shape)[0]]
            apart = np.linalg.norm(aside[own][:, None] - before[None], axis=2).min(axis=1)
            far = points[own[int(np.argmax(apart))]]
        if (widths.max(axis=0) <= narrowest).all():
            before = aside[some][::4]
        narrowest = np.minimum(narrowest, widths.max(axis=0))
    end = points[np.linalg.norm(points - far, axis=1) <= _END_MM]
    return np.asarray(end.mean(axis=0) + coarse_corner_mm(body, spacing, step)), best


def _piece_widths(index: NDArray[np.int64], aside: Floats, each_way: bool) -> tuple[Floats, NDArray[np.int64]]:
    """Of voxels (n, 3), with places across an axis (n, 2) in mm: how wide each connected piece is (pieces, ways), along
    each of some directions or along its widest, and the piece of each voxel (n,)."""
    from scipy import ndimage

    low = index.min(axis=0)
    mask = np.zeros(index.max(axis=0) - low + 1, dtype=bool)
    mask[tuple((index - low).T)] = True
    piece = ndimage.label(mask, np.ones((3, 3, 3)))[0][tuple((index - low).T)] - 1
    reach = np.concatenate([aside @ _DIRECTIONS, -aside @ _DIRECTIONS], axis=1)
    ends = np.full((int(piece.max()) + 1, reach.shape[1]), -np.inf)
    np.maximum.at(ends, piece, reach)
    widths = ends[:, : len(_TURNS)] + ends[:, len(_TURNS) :]
    return widths if each_way else widths.max(axis=1, keepdims=True), piece


def one_sided_mm(points: Floats, crownwards: Floats, trunk: Floats | None = None) -> Floats:
    """How much farther from the long axis each point (n, 3) of a crown lies than what lies opposite, in mm.

    Negative elsewhere, and -1 in the half of the tooth away from ``crownwards``, where roots may spread. The axis is
    that of the points ``trunk`` (all points by default).
    """
    trunk = points if trunk is None else trunk
    axes, extents = tooth_axes(trunk, crownwards)
    along, above = ((some - trunk.mean(axis=0)) @ axes[0] for some in (points, trunk))
    crown = along > _CROWN_FROM * extents[0]
    if not crown.any():
        return np.full(len(points), -1.0)
    middle = np.median(trunk[above > _CROWN_FROM * extents[0]] @ axes[1:].T, axis=0)
    aside = points @ axes[1:].T - middle
    radius = np.linalg.norm(aside, axis=1)
    sector = ((np.arctan2(aside[:, 1], aside[:, 0]) / (2 * np.pi) + 0.5) * _SECTORS).astype(int) % _SECTORS
    level = np.maximum((along - along.min()) / _LEVEL_MM, 0).astype(int) + 1
    reach = np.zeros((int(level.max()) + 2, _SECTORS))
    np.maximum.at(reach, (level[crown], sector[crown]), radius[crown])
    turned = np.max([np.roll(reach, _SECTORS // 2 + step, axis=1) for step in (-1, 0, 1)], axis=0)
    opposite = np.maximum(turned[1:-1], np.maximum(turned[2:], turned[:-2]))
    return np.where(crown, radius - opposite[level - 1, sector], -1.0)


def find_cores(mask: Mask, spacing: Vector3, up: Floats, apart_mm: float) -> Cores | None:
    """The two largest thick parts of a mask whose centres lie ``apart_mm`` or more apart across ``up``, else None."""
    from scipy import ndimage

    depth = ndimage.distance_transform_edt(mask, sampling=spacing)
    best, best_size = None, 0
    for level in np.linspace(0.25, 0.92, _THRESHOLDS) * float(depth.max()):
        numbered, count = ndimage.label(depth > level)
        if count < 2:
            continue
        pair = _best_pair(numbered, count, np.asarray(spacing), up, apart_mm)
        if pair is not None and pair[2] > best_size:
            seeds = np.where(numbered == pair[0], 1, np.where(numbered == pair[1], 2, 0)).astype(np.int16)
            best, best_size = Cores(seeds, float(level), pair[3]), pair[2]
    return best


def _best_pair(
    numbered: NDArray[Any], count: int, spacing: Floats, up: Floats, apart_mm: float
) -> tuple[int, int, int, float] | None:
    """Two components far enough apart whose smaller one is largest: their numbers, its voxels, their distance."""
    from scipy import ndimage

    sizes = np.bincount(numbered.ravel(), minlength=count + 1)[1:]
    largest = np.argsort(-sizes, kind="stable")[:4]
    centres = np.array(ndimage.center_of_mass(numbered > 0, numbered, largest + 1)) * spacing
    found = []
    for i in range(len(largest)):
        for j in range(i + 1, len(largest)):
            across = centres[j] - centres[i]
            apart = float(np.linalg.norm(across - (across @ up) * up))
            if apart >= apart_mm:
                found.append((int(largest[i]) + 1, int(largest[j]) + 1, int(sizes[largest[j]]), apart))
    return max(found, key=lambda pair: pair[2], default=None)


def split_in_two(
    mask: Mask, spacing: Vector3, seeds: NDArray[Any], grey: NDArray[Any] | None = None
) -> tuple[Mask, Mask]:
    """Cut a connected mask (z, y, x) in two at its neck: the parts around seed 1 and around seed 2.

    The cut is the watershed of the distance transform. Where ``grey`` (the scan in the same box) is given, dark voxels
    count as thin ones, so that the cut follows the gap between two teeth. ValueError if a seed is missing in the mask.
    """
    from scipy import ndimage

    markers = np.where(mask, seeds, 0).astype(np.int16)
    if not (markers == 1).any() or not (markers == 2).any():
        raise ValueError("both seeds, 1 and 2, must lie within the mask")
    depth = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=spacing)[1:-1, 1:-1, 1:-1]
    height = depth / depth.max()
    if grey is not None:
        # half of the height at most: noise must not cut through the thick of a tooth
        height = height * (0.5 + 0.5 * _brightness(grey, mask))
    away, nearest = ndimage.distance_transform_edt(markers == 0, sampling=spacing, return_indices=True)
    # among equals the nearer seed wins
    flooded = _flooded(mask, markers, 1.0 - height + _TIE * away)
    lost = mask & (flooded == 0)
    flooded[lost] = markers[tuple(nearest)][lost]
    return flooded == 1, flooded == 2


def _flooded(mask: Mask, markers: NDArray[np.int16], cost: Floats) -> NDArray[np.int16]:
    """The watershed of ``cost`` from two markers as a minimum spanning forest (Cousty et al., IEEE PAMI 2009).

    Voxels are joined by faces; 1 and 2 where a marker reaches, 0 elsewhere.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

    flat = np.arange(mask.size).reshape(mask.shape)
    ends = [_face_pairs(mask, markers, flat, axis) for axis in range(3)]
    one, two = (np.concatenate([pair[side] for pair in ends]) for side in (0, 1))
    weights = np.maximum(cost.ravel()[one], cost.ravel()[two]) + _JOINED * 10
    nodes = np.unique(np.concatenate([one, two]))
    seeded = markers.ravel()[nodes]
    rim = np.flatnonzero(seeded)
    # the last two nodes stand for the markers; joining them makes one tree that is cut there again
    roots = len(nodes) + np.array([0, 1])
    rows = np.concatenate([np.searchsorted(nodes, one), rim, roots[:1]])
    columns = np.concatenate([np.searchsorted(nodes, two), roots[seeded[rim] - 1], roots[1:]])
    data = np.concatenate([weights, np.full(len(rim) + 1, _JOINED)])
    size = len(nodes) + 2
    tree = minimum_spanning_tree(coo_array((data, (rows, columns)), shape=(size, size)).tocsr()).tocoo()
    keep = np.minimum(tree.row, tree.col) < roots[0]
    forest = coo_array((tree.data[keep], (tree.row[keep], tree.col[keep])), shape=(size, size))
    member: NDArray[Any] = connected_components(forest, directed=False)[1]
    flooded = markers.copy()
    reached = np.where(member == member[roots[0]], 1, np.where(member == member[roots[1]], 2, 0))
    flooded.ravel()[nodes] = reached[: len(nodes)]
    return flooded


def _face_pairs(
    mask: Mask, markers: NDArray[np.int16], flat: NDArray[np.int64], axis: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Flat indices of voxels of the mask that share a face across an axis, unless a marker holds both."""
    low = tuple(slice(None, -1) if a == axis else slice(None) for a in range(3))
    high = tuple(slice(1, None) if a == axis else slice(None) for a in range(3))
    joined = mask[low] & mask[high] & ((markers[low] == 0) | (markers[high] == 0))
    return flat[low][joined], flat[high][joined]


def narrowest_cut(
    first: Mask, second: Mask, spacing: Vector3, band_mm: float, grey: NDArray[Any] | None = None
) -> tuple[Mask, Mask]:
    """Two disjoint masks (z, y, x) that touch, parted anew by the cut of least area within ``band_mm`` of the old one.

    A watershed cuts somewhere near the neck, the minimum cut (Y. Boykov, V. Kolmogorov, *Computing geodesics and
    minimal surfaces via graph cuts*, ICCV 2003) through the gaps that there are. Where ``grey`` (the scan in the same
    box) is given, a cut through dark voxels costs less. What lies farther from the old cut stays where it is, and so
    does the farther half of either mask.
    """
    from scipy import ndimage
    from scipy.sparse.csgraph import breadth_first_order, connected_components, maximum_flow

    away = [ndimage.distance_transform_edt(~mask, sampling=spacing) for mask in (first, second)]
    pairs = [(mask, far) for mask, far in ((first, away[1]), (second, away[0])) if mask.any()]
    band = np.logical_or.reduce([mask & (far <= min(band_mm, float(np.median(far[mask])))) for mask, far in pairs])
    fixed = [first & ~band, second & ~band]
    if not band.any() or not fixed[0].any() or not fixed[1].any():
        return first, second
    bright = np.ones(first.shape) if grey is None else _brightness(grey, first | second)
    graph = _cut_graph(band, fixed[0], fixed[1], spacing, _DARK + (1 - _DARK) * bright)
    count = graph.shape[0] - 2
    left = graph - maximum_flow(graph, count, count + 1).flow
    left.data = np.maximum(left.data, 0)
    left.eliminate_zeros()
    reached = np.zeros(count + 2, dtype=bool)
    reached[breadth_first_order(left, count, return_predecessors=False)] = True
    # what hangs on by an edge or a corner alone stays where most of it was
    member = connected_components(graph, directed=False)[1]
    loose = (member != member[count]) & (member != member[count + 1])
    before = np.bincount(member[:count], weights=first[band]) / np.maximum(np.bincount(member[:count]), 1)
    own = fixed[0].copy()
    own[band] = np.where(loose[:count], before[member[:count]] > 0.5, reached[:count])
    return own, (first | second) & ~own


def _cut_graph(band: Mask, source: Mask, sink: Mask, spacing: Vector3, cost: Floats) -> Any:
    """The faces between the voxels of a band, and to the two sides as its last two nodes, as capacities.

    A face has its area times the lower ``cost`` (z, y, x) of its two voxels, in thousandths of the largest.
    """
    from scipy.sparse import coo_array

    count = int(np.count_nonzero(band))
    node = np.full(band.shape, -1)
    node[source], node[sink] = count, count + 1
    node[band] = np.arange(count)
    ends, areas = [], []
    for axis in range(3):
        low = tuple(slice(None, -1) if a == axis else slice(None) for a in range(3))
        high = tuple(slice(1, None) if a == axis else slice(None) for a in range(3))
        joined = (node[low] >= 0) & (node[high] >= 0) & (node[low] != node[high])
        ends.append(np.stack([node[low][joined], node[high][joined]]))
        areas.append(float(np.prod(spacing)) / spacing[axis] * np.minimum(cost[low], cost[high])[joined])
    (one, two), area = np.concatenate(ends, axis=1), np.concatenate(areas)
    capacity = np.maximum(np.rint(area / area.max() * 1000), 1).astype(np.int32)
    rows, columns = np.concatenate([one, two]), np.concatenate([two, one])
    return coo_array((np.tile(capacity, 2), (rows, columns)), shape=(count + 2,) * 2).tocsr()


def _brightness(grey: NDArray[Any], mask: Mask) -> Floats:
    """Grey values from 0 for the darkest in a mask to 1 for those of the upper half."""
    dark, bright = np.percentile(grey[mask], (2, 60))
    return np.asarray(np.clip((grey - dark) / max(bright - dark, 1e-6), 0, 1))


def enlarged_seeds(
    seeds: NDArray[Any], shape: Sequence[int], coarse_spacing: Vector3, spacing: Vector3
) -> NDArray[Any]:
    """Seeds of a :func:`coarse` mask on the grid it was made from (``shape``, ``spacing``)."""
    factors = [round(large / small) for large, small in zip(coarse_spacing, spacing, strict=True)]
    for axis, factor in enumerate(factors):
        seeds = np.repeat(seeds, factor, axis=axis)
    z, y, x = (slice(factor, factor + length) for factor, length in zip(factors, shape, strict=True))
    return seeds[z, y, x]


def cut_share(
    first: Floats, second: Floats, voxel_mm3: float, middle: Floats, normal: Floats, area_mm2: float
) -> float:
    """Area of a contact relative to the sections of both sides next to it (geometric mean).

    About 1 where a plane cuts through one tooth, well below where two convex teeth touch. ``first`` and ``second`` are
    voxel centres (n, 3) in mm of the side that ``normal`` comes from and goes to, ``middle`` is the contact's; a voxel
    has the volume ``voxel_mm3``.
    """
    near, far = _SLAB_MM
    sections = []
    for points, sign in ((first, -1.0), (second, 1.0)):
        beyond = sign * ((points - middle) @ normal)
        inside = np.count_nonzero((beyond >= near) & (beyond < far))
        sections.append(max(inside * voxel_mm3 / (far - near), 0.5))
    # a rod that ends on a tooth is as wide as its own end; a chip's cut is about as wide as what it was cut off
    small, large = sorted(sections)
    return area_mm2 / float(np.sqrt(max(small, _CHIP_SHARE * large) * large))
