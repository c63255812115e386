"""One tooth, one number: what the second network draws is cut into single teeth, and the teeth share the numbers out.

In: how sure the second network is of the core of a tooth, the voxels that are teeth, and the class scores of the first
network, decided. Out: the FDI number of every voxel. Cores of teeth that touch may run into each other, but not as
broadly as either is thick: they are cut at their necks, where the distance to the outside, seen as a landscape, has its
passes (watershed; Beucher and Lantuejoul, 1979). Pieces for which there is no number but that of a tooth they touch are
part of it, if they are no more than one tooth together (assignment problem; Kuhn, 1955). Then every tooth takes a
number of its own such that all of a row together fit best what the first network saw, what form such teeth have and how
much room there is (:mod:`ToothTopoSegLib.segmentation.rows`): a network that looks at 8 cm at a time and at 1 mm
mistakes one tooth for the next and may count a whole row one too far, but no number is there twice, and no premolar is
like a molar.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.anatomy.fdi import is_upper, position
from ToothTopoSegLib.anatomy.sizes import size_of
from ToothTopoSegLib.imaging.resample import onto
from ToothTopoSegLib.segmentation.classes import TEETH
from ToothTopoSegLib.segmentation.jaws import in_one_jaw
from ToothTopoSegLib.segmentation.rows import LEAST_PROBABILITY, Apart, Body, numbered
from ToothTopoSegLib.segmentation.shapes import form, forms
from ToothTopoSegLib.segmentation.sides import on_one_side
from ToothTopoSegLib.segmentation.unseen import behind_the_last

if TYPE_CHECKING:
    from ToothTopoSegLib.imaging.volume import Volume
    from ToothTopoSegLib.measurements.distances import Surface

Array = NDArray[Any]
Labels = NDArray[np.int32]
Unlike = Callable[[tuple[int, ...]], Array]
"""How many nats pieces that are one tooth are unlike each class (32,)."""
Like = Callable[[tuple[int, ...]], Array | None]
"""How like a tooth of each position (8,) the form of pieces that are one tooth is, in nats; None where the border of
the view cuts it so that it tells nothing."""

Boxes = list[tuple[slice, slice, slice]]
"""Where each piece lies, from the first on; None in place of a piece without voxels, as scipy's ``find_objects``."""
Bite = Callable[[tuple[int, ...]], Array | None]
"""Where pieces that are one tooth bite (2,), in mm in the horizontal plane; None where that is out of view."""

SURE_CORE = 1.0
"""Evidence (nats) from which a voxel is core for the cutting: what is torn between core and border joins teeth."""
SMOOTH_VOXELS = 0.7
"""Width (sigma) of the Gaussian over distances, whose steps at the size of a voxel are no hills."""
NECK = 0.7
"""A neck at least so thick, beside the thinner one of what it joins, joins parts of one tooth ..."""
LEAST_HILL_MM, LEAST_THICKNESS_MM = 0.25, 1.0
"""... as does one that is hardly thinner, or beside a part that is as thin as this (half its thickness)."""
LARGEST_TOOTH = 1.25
"""Pieces are one tooth up to so many of that tooth's average volumes in this mouth."""
MOUTH_SCALES = (0.6, 1.3)
"""How much smaller or larger than average the teeth of a mouth are, at most ..."""
FEWEST_TEETH = 4
"""... and how many have to be seen to know it."""
SMALLER, LARGER, LARGEST_MISFIT = 0.3, 0.2, 2.0
"""How far teeth are from their type's average volume in this mouth (standard deviations of the logarithm): smaller ones
may have lost a part to the border of the view, to metal or to noise. And what a size that does not fit costs at most,
in nats."""
CROWN_MM = 6.0
"""So much of a tooth next to the other jaw tells where it bites."""
MAIN_SHARE, CUT_OFF_SHARE = 0.2, 0.1
"""With less of its type's average volume a tooth, or a piece of one, has no say; of a tooth that the border of the view
cuts less is enough, since the end that is seen is no piece of another one."""
CRUMB_SHARE = 0.08
"""What has less of its type's average volume, all in view, and touches a tooth is a part of that one."""
ASIDE_NATS = 5.0
"""What it costs to leave a piece aside: as if its number were seen with a probability of 2 %, and its size did not fit
well."""
UNLIKE = 0.15
"""A tooth that looks so little like the number it got may be part of another."""
APART_MM = 2.0
"""A piece with no say that touches no tooth and lies farther than this from its own is none ..."""
LEAST_CUT_OFF_MM3 = 4.0
"""... unless the view ends there and it may be the end of one; smaller ones never are."""
TWO_TEETH, HOME_SHARE = 0.75, 0.3
"""A number that no tooth took is cut out of a tooth that has at least this share of the volume of both, where this
share of its own is seen."""
LOOSE_PART_MM3, MOST_GAIN = 20.0, 6.0
"""Of a piece with no say that is so large, most often a root, the form of a tooth with it and without it tells whose it
is, by so many nats at most."""
UNSEEN_SHARE = 0.05
"""Of which less is seen by the first network, that has not seen it."""

FORM_TRUST = 0.8
"""How much what the form of a tooth says counts: its measures are not quite normal."""
NO_TOOTH_NATS = 12.0
"""What is as unlike all teeth as this is fused, broken or metal, and its form says nothing."""
MORE_LIKE_NATS, LEAST_LIKE_NATS, LEAST_PART_MM3 = 8.0, -24.0, 60.0
"""It is cut in two where the parts are on average so much more like teeth, neither as unlike them, and both at least so
large: of 2059 pieces in development phantoms ten were fused teeth, these limits cut four of them, and nothing else."""
LIKE_A_TOOTH_NATS, LEAST_REST_MM3 = -8.0, 100.0
"""So it is where one part is as like a tooth, and the other at least so large: metal or noise may have taken its root
or its crown. Of 2952 pieces 27 were fused teeth; with this eleven are cut instead of nine, and one with no tooth."""

SURER_NATS, LEAST_SEED_MM3 = (2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0), 3.0
"""The cores of fused teeth may be apart where more evidence is asked for, and so large at least."""

_UPPER = np.array([is_upper(fdi) for fdi in TEETH])
_POSITIONS = np.array([position(fdi) - 1 for fdi in TEETH])
_VOLUMES = np.array([size_of(fdi).volume for fdi in TEETH])
_CUBE = np.ones((3, 3, 3))


def tooth_numbers(
    core: NDArray[np.float32],
    tooth: NDArray[np.bool_],
    fine: Volume,
    teeth: NDArray[np.float32],
    region: Volume,
    seen: NDArray[np.bool_],
) -> NDArray[np.uint8]:
    """FDI number of every voxel of ``tooth`` (z, y, x) and next to one, 0 where there is none after all; elsewhere what
    the first network would call it.

    ``core`` is the evidence in nats for the core of a tooth on the grid of ``fine``, whose voxels are cubes; ``teeth``
    (32, z, y, x) are the decided scores of the tooth classes in nats on the grid of ``region``, of the same direction.
    ``seen`` (z, y, x) is what the first network takes for teeth, on the grid of ``fine``.
    """
    from scipy import ndimage

    number = onto(np.asarray(TEETH, np.uint8)[teeth.argmax(0)], region, fine, 0)
    spacing = fine.spacing[0]
    if not (tooth & (core > SURE_CORE)).any():
        return number
    pieces = _pieces(core, tooth, spacing)
    first_seen = _probabilities(onto(np.where(tooth, pieces, 0), fine, region, 0), teeth, int(pieces.max()))
    _cut_again(pieces, tooth, core, spacing, _of_upper_jaw(first_seen))
    inside = np.where(tooth, pieces, 0)
    probability = _probabilities(onto(inside, fine, region, 0), teeth, int(pieces.max()))
    volumes = np.bincount(inside.reshape(-1), minlength=int(pieces.max()) + 1) * spacing**3
    contacts = contacts_of(inside)
    probability *= _in_view(number[tooth], spacing)
    centres = _centres(inside, len(volumes) - 1) * spacing
    probability[1:] = in_one_jaw(probability[1:], volumes[1:], centres)
    probability[1:] = on_one_side(probability[1:], volumes[1:], centres[:, 1:])
    unseen = np.bincount(inside[seen], minlength=len(volumes)) * spacing**3 < UNSEEN_SHARE * volumes
    probability[1:] = behind_the_last(probability[1:], volumes[1:], centres, unseen[1:])
    boxes = ndimage.find_objects(inside)
    like = _formed(inside, boxes, spacing, probability)
    unlike = _unlike(like, probability, volumes)
    bite = _bite(inside, boxes, spacing, probability)
    cut_off = [n for n, box in enumerate(boxes, 1) if box is not None and _at_border(box, inside)]
    taken = shared_out(probability, volumes, contacts, unlike, _apart(inside, boxes, fine), bite, cut_off, like)
    _give_away_crumbs(taken, inside, boxes, volumes, contacts)
    found = np.asarray(TEETH, np.uint8)[taken[pieces]]
    _cut_out_homes(found, pieces, number, probability, volumes, taken)
    _strike_out_strays(found, inside, boxes, volumes, taken, contacts, spacing)
    return np.where(pieces > 0, found, number)


def _pieces(core: NDArray[np.float32], tooth: NDArray[np.bool_], spacing: float) -> Labels:
    """Single teeth and parts of them (z, y, x), from 1 on, over all of ``tooth`` and the voxels next to it."""
    from scipy import ndimage

    shell = ndimage.binary_dilation(tooth, _CUBE)
    box = ndimage.find_objects(shell.astype(np.uint8))[0]
    pieces = np.zeros(tooth.shape, np.int32)
    pieces[box] = np.where(shell[box], nearest(cut((tooth & (core > SURE_CORE))[box], spacing)), 0)
    return pieces


def cut(core: NDArray[np.bool_], spacing: float) -> Labels:
    """Pieces (z, y, x), from 1 on, of a mask of cores that are cut at their necks; cubic voxels of ``spacing`` mm."""
    return _merged(*_landscape(core, spacing))


def _landscape(core: NDArray[np.bool_], spacing: float) -> tuple[Labels, Array, dict[tuple[int, int], float]]:
    """The hills (z, y, x) of the distance to the outside, from 1 on, their heights (n + 1,) and passes in mm."""
    from scipy import ndimage

    distance = ndimage.distance_transform_edt(np.pad(core, 1))[1:-1, 1:-1, 1:-1] * spacing
    distance = ndimage.gaussian_filter(distance, SMOOTH_VOXELS, mode="constant") * core
    tops = (distance == ndimage.maximum_filter(distance, 3)) & core
    hills = np.where(core, _watershed(-distance, ndimage.label(tops, _CUBE)[0]), 0)
    heights = np.zeros(int(hills.max()) + 1)
    np.maximum.at(heights, hills[core], distance[core])
    return hills, heights, _passes(hills, distance)


def _watershed(height: Array, markers: Array) -> Labels:
    """The basins (z, y, x) of a landscape, flooded from markers; every voxel is of one."""
    from ToothTopoSegLib.imaging.itk import import_sitk

    sitk = import_sitk()  # scipy has no watershed of a landscape
    images = (sitk.GetImageFromArray(a) for a in (height.astype(np.float32), markers.astype(np.uint32)))
    return np.asarray(sitk.GetArrayFromImage(sitk.MorphologicalWatershedFromMarkers(*images, False, False)), np.int32)


def _passes(hills: Labels, distance: Array) -> dict[tuple[int, int], float]:
    """The largest distance to the outside at which two hills meet, by pairs of hills in ascending order."""
    found: dict[tuple[int, int], float] = {}
    for axis in range(3):
        before, after = _neighbours(hills, axis)
        low, high = _neighbours(distance, axis)
        meet = (before != after) & (before > 0) & (after > 0)
        heights = np.minimum(low[meet], high[meet])
        one, two = np.minimum(before[meet], after[meet]), np.maximum(before[meet], after[meet])
        order = np.argsort(heights, kind="stable")
        pairs = zip(one[order].tolist(), two[order].tolist(), heights[order].tolist(), strict=True)
        for a, b, height in pairs:
            found[a, b] = max(found.get((a, b), 0.0), height)
    return found


def _neighbours(values: Array, axis: int) -> tuple[Array, Array]:
    """Views of all voxels but the last and of all but the first along an axis."""
    return np.moveaxis(values, axis, 0)[:-1], np.moveaxis(values, axis, 0)[1:]


def _merged(hills: Labels, heights: Array, passes: dict[tuple[int, int], float]) -> Labels:
    """Hills numbered anew, those that no real neck parts under one number; the highest passes are looked at first."""
    home, top = list(range(len(heights))), heights.tolist()
    for (a, b), height in sorted(passes.items(), key=lambda item: -item[1]):
        one, two = _root(home, a), _root(home, b)
        lower = min(top[one], top[two])
        thin = lower - height < LEAST_HILL_MM or lower < LEAST_THICKNESS_MM
        if one != two and (height >= NECK * lower or thin):
            home[two], top[one] = one, max(top[one], top[two])
    roots = np.array([_root(home, n) for n in range(len(heights))])
    return np.unique(roots, return_inverse=True)[1].astype(np.int32)[hills]


def _root(home: list[int], n: int) -> int:
    while home[n] != n:
        home[n] = home[home[n]]
        n = home[n]
    return n


def _cut_again(
    pieces: Labels, tooth: NDArray[np.bool_], core: NDArray[np.float32], spacing: float, upper: NDArray[np.bool_]
) -> None:
    """Cut pieces (z, y, x) that are like no tooth in two that are like one, in place.

    There is no real neck between them, or their cores are thin, but so much less does a tooth look like two. ``core``
    is the evidence for it in nats, ``upper`` (n + 1,) tells which pieces are of the upper jaw.
    """
    from scipy import ndimage

    for n, box in enumerate(ndimage.find_objects(np.where(tooth, pieces, 0)), 1):
        if box is None:
            continue
        jaw, piece = bool(upper[n]), (pieces[box] == n) & tooth[box]
        whole = _whole(box, tooth.shape, jaw)
        if whole is None or piece.sum() * spacing**3 < 2 * LEAST_PART_MM3:
            continue
        like = float(_like(piece, spacing, jaw, whole).max())
        if like > -NO_TOOTH_NATS:
            continue
        ways = []
        for parts in _in_two(piece, core[box], spacing):
            alone = [float(_like(parts == k, spacing, jaw, whole).max()) for k in (1, 2)]
            if _two_for_sure(like, alone, float(np.bincount(parts[piece])[1:].min()) * spacing**3):
                ways.append((np.mean(alone), parts))
        if ways:
            _, parts = max(ways, key=lambda way: way[0])
            where = pieces == n
            wide = ndimage.find_objects(where.astype(np.uint8))[0]
            both = np.zeros(pieces.shape, np.int32)
            both[box] = parts
            pieces[wide][where[wide] & (nearest(both[wide]) == 2)] = int(pieces.max()) + 1


def _two_for_sure(together: float, alone: Sequence[float], smaller_mm3: float) -> bool:
    """Whether parts that are ``alone`` so like teeth in nats are two, and not the one they are ``together``."""
    if smaller_mm3 >= LEAST_REST_MM3 and max(alone) > LIKE_A_TOOTH_NATS:
        return True
    return _like_two(together, alone) and min(alone) > LEAST_LIKE_NATS


def _like_two(together: float, alone: Sequence[float]) -> bool:
    """Whether parts are on average so much more like teeth than what they are together."""
    return float(np.mean(alone)) > together + MORE_LIKE_NATS


def _in_two(piece: NDArray[np.bool_], core: NDArray[np.float32], spacing: float) -> Iterator[Labels]:
    """The ways to cut a piece (z, y, x) in parts 1 and 2 that are large enough, 0 outside it."""
    for parts in (*_at_passes(piece, core, spacing), *_where_less_sure(piece, core, spacing)):
        if np.bincount(parts[piece], minlength=3)[1:].min() * spacing**3 >= LEAST_PART_MM3:
            yield parts


def _at_passes(piece: NDArray[np.bool_], core: NDArray[np.float32], spacing: float) -> Iterator[Labels]:
    """A piece cut at one pass between hills of its core."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

    hills, heights, passes = _landscape((core > SURE_CORE) & piece, spacing)
    if not passes:
        return
    shape = (len(heights), len(heights))
    depths = max(passes.values()) + 1.0 - np.array(list(passes.values()))
    tree = minimum_spanning_tree(coo_array((depths, np.array(list(passes)).T), shape)).tocoo()
    for one, two in zip(tree.row.tolist(), tree.col.tolist(), strict=True):
        rest = (tree.row != one) | (tree.col != two)
        joined = coo_array((tree.data[rest], (tree.row[rest], tree.col[rest])), shape)
        home = connected_components(joined, directed=False)[1]
        side = np.where(home == home[one], 1, np.where(home == home[two], 2, 0))
        yield np.where(piece, nearest(side[hills]), 0)


def _where_less_sure(piece: NDArray[np.bool_], core: NDArray[np.float32], spacing: float) -> Iterator[Labels]:
    """A piece cut where it is least certain that there is core, between the two largest parts of what is surer."""
    from scipy import ndimage

    for least in SURER_NATS:
        parts = ndimage.label(piece & (core > least))[0]
        sizes = np.bincount(parts.reshape(-1))[1:] * spacing**3
        if np.count_nonzero(sizes >= LEAST_SEED_MM3) >= 2:
            one, two = (np.argsort(-sizes)[:2] + 1).tolist()
            yield np.where(piece, _watershed(-core, np.where(parts == one, 1, np.where(parts == two, 2, 0))), 0)


def nearest(pieces: Labels) -> Labels:
    """The piece that is nearest to every voxel (z, y, x), where there is any."""
    from scipy import ndimage

    places = ndimage.distance_transform_edt(pieces == 0, return_distances=False, return_indices=True)
    return np.asarray(pieces[tuple(places)])


def contacts_of(pieces: Labels) -> dict[tuple[int, int], int]:
    """How many faces of voxels two pieces share, by pairs in ascending order."""
    base = int(pieces.max()) + 1
    codes = []
    for axis in range(3):
        before, after = _neighbours(pieces, axis)
        meet = (before != after) & (before > 0) & (after > 0)
        codes.append(np.minimum(before[meet], after[meet]).astype(np.int64) * base + np.maximum(before, after)[meet])
    pairs, counts = np.unique(np.concatenate(codes), return_counts=True)
    return {(p // base, p % base): n for p, n in zip(pairs.tolist(), counts.tolist(), strict=True)}


def _probabilities(pieces: Labels, teeth: NDArray[np.float32], count: int) -> Array:
    """Mean probabilities (n + 1, 32) of the numbers over the voxels of each piece; uniform for one without any."""
    inside = pieces > 0
    seen = teeth[:, inside]
    seen = np.exp(seen - seen.max(0))
    seen /= seen.sum(0)
    where = pieces[inside]
    sums = np.stack([np.bincount(where, row, minlength=count + 1) for row in seen], 1)
    total = sums.sum(1, keepdims=True)
    return np.asarray(np.where(total > 0, sums / np.maximum(total, 1e-9), 1 / len(teeth)))


def _in_view(number: NDArray[np.uint8], spacing: float) -> NDArray[np.bool_]:
    """Which classes (32,) belong to a jaw of which the first network calls any tooth, by its numbers of tooth voxels.

    Where a scan ends between the jaws, a crown that is cut in two must not become a tooth of the jaw out of view.
    """
    volumes = np.array([np.count_nonzero(number == fdi) for fdi in TEETH]) * spacing**3
    seen = [volumes[jaw].sum() >= LEAST_CUT_OFF_MM3 for jaw in (_UPPER, ~_UPPER)]
    return np.where(_UPPER, *seen)


def _centres(pieces: Labels, count: int) -> Array:
    """The middle (z, y, x) of each piece in voxels; 0 for one without any."""
    places = np.argwhere(pieces)
    which = pieces[pieces > 0]
    sizes = np.maximum(np.bincount(which, minlength=count + 1), 1)
    return np.stack([np.bincount(which, places[:, axis], count + 1) / sizes for axis in range(3)], 1)[1:]


def _apart(pieces: Labels, boxes: Boxes, fine: Volume) -> Apart:
    """What tells how many mm lie between two pieces; surfaces are made when they are asked for."""
    from ToothTopoSegLib.measurements.distances import between, surface_of

    labels = fine.with_array(pieces)
    surfaces: dict[int, Surface] = {}

    @cache
    def apart(one: int, two: int) -> float:
        for n in (one, two):
            if n not in surfaces:
                surfaces[n] = surface_of(labels, n, boxes[n - 1])
        return between(one, two, surfaces)

    return apart


def _misfit(volumes: Array, average: Array) -> Array:
    """What it costs in nats that a tooth of a volume is of a type of which the ``average`` one has another volume."""
    off = np.log(volumes / average)
    return np.asarray(0.5 * (off / np.where(off < 0, SMALLER, LARGER)) ** 2)


def _mouth_scale(probability: Array, volumes: Array) -> float:
    """How large the teeth of this mouth are beside average ones."""
    together = np.bincount(probability[1:].argmax(1), volumes[1:], minlength=len(TEETH))
    shares = (together / _VOLUMES)[together >= MAIN_SHARE * _VOLUMES]
    return float(np.clip(np.median(shares), *MOUTH_SCALES)) if len(shares) >= FEWEST_TEETH else 1.0


def _unlike(like: Like, probability: Array, volumes: Array) -> Unlike:
    """What tells by the form of pieces that are one tooth how many nats it is unlike each class (32,).

    Of a tooth whose form tells nothing it is told by its volume alone.
    """
    average = _mouth_scale(probability, volumes) * _VOLUMES

    @cache
    def unlike(members: tuple[int, ...]) -> Array:
        nats = like(members)
        if nats is None:
            return _misfit(volumes[list(members)].sum(), average)
        nats = np.logaddexp(nats, -NO_TOOTH_NATS)
        return np.asarray(nats.max() - nats)[_POSITIONS]

    return unlike


def _formed(pieces: Labels, boxes: Boxes, spacing: float, probability: Array) -> Like:
    """What tells how like teeth pieces are by their form, unless the border of the view cuts them but at the roots."""
    upper = _of_upper_jaw(probability)

    @cache
    def like(members: tuple[int, ...]) -> Array | None:
        box, jaw = _hull([boxes[n - 1] for n in members]), bool(upper[members[0]])
        whole = _whole(box, pieces.shape, jaw)
        return None if whole is None else _like(np.isin(pieces[box], members), spacing, jaw, whole)

    return like


def _whole(box: tuple[slice, ...], shape: tuple[int, ...], upper: bool) -> bool | None:
    """Whether the roots of a tooth in a box are in view; None for one that the border of the view cuts elsewhere."""
    ends = [(s.start == 0, s.stop == length) for s, length in zip(box, shape, strict=True)]
    apical, occlusal = ends[0][::-1] if upper else ends[0]
    return None if occlusal or any(any(axis) for axis in ends[1:]) else not apical


def _like(mask: NDArray[np.bool_], spacing: float, upper: bool, whole: bool) -> Array:
    """How like a tooth of each position (8,) the form of a mask (z, y, x) is, in nats."""
    return FORM_TRUST * forms().nats(form(mask, spacing, upper, whole), upper)


def _of_upper_jaw(probability: Array) -> NDArray[np.bool_]:
    """Which pieces look more like upper teeth than lower ones."""
    return np.asarray(probability[:, _UPPER].sum(1) > 0.5 * probability.sum(1))


def _bite(pieces: Labels, boxes: Boxes, spacing: float, probability: Array) -> Bite:
    """What tells where pieces that are one tooth bite: the middle of the :data:`CROWN_MM` next to the other jaw."""
    upper = _of_upper_jaw(probability)

    def bite(members: tuple[int, ...]) -> Array | None:
        box, jaw = _hull([boxes[n - 1] for n in members]), bool(upper[members[0]])
        if box[0].start == 0 if jaw else box[0].stop == pieces.shape[0]:
            return None
        places = np.argwhere(np.isin(pieces[box], members)) * spacing
        height = places[:, 0] * (-1 if jaw else 1)
        crown = places[height > np.percentile(height, 99) - CROWN_MM]
        corner = np.array([box[1].start, box[2].start]) * spacing
        return np.asarray(crown[:, 1:].mean(0) + corner)

    return bite


def _hull(boxes: list[tuple[slice, ...]]) -> tuple[slice, ...]:
    return tuple(slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in zip(*boxes, strict=True))


def shared_out(
    probability: Array,
    volumes: Array,
    contacts: dict[tuple[int, int], int],
    unlike: Unlike,
    apart: Apart,
    bite: Bite | None = None,
    cut_off: Sequence[int] = (),
    like: Like = lambda members: None,
) -> NDArray[np.intp]:
    """The tooth class 0..31 (n + 1,) of every piece, row 0 being none.

    ``probability`` (n + 1, 32) is how much the pieces look like each number, ``volumes`` are in mm3, ``unlike`` tells
    by form how little some of them together are like a tooth of each class, ``apart`` how far two of them are from each
    other in mm and ``bite`` where some of them together bite; ``cut_off`` are the pieces at the border of the view and
    ``like`` tells by form how like a tooth some of them together are. A piece that, taken for itself, gets no number or
    one it hardly looks like, is part of a tooth it touches that looks like the same number, if they are no more than
    one tooth together and not much less like one than each alone. Teeth large enough then take numbers of their
    own. Of the rest each takes what it looks like most, a number that is left or that of a tooth it touches; of several
    teeth a large one belongs to the one which, besides, is more like a tooth with it.
    """
    parts = _joined(probability, volumes, contacts, cut_off, like)
    home, main, (_, seen), members = parts.home, parts.main(), parts.seen(), parts.members()
    bodies = [Body(members[n], seen[n], unlike(members[n]), bite and bite(members[n])) for n in main.tolist()]
    own = {int(n): k for n, k in zip(main, numbered(bodies, apart), strict=True) if k is not None}
    free = set(range(len(TEETH))) - set(own.values())
    taken = np.zeros(len(volumes), np.intp)
    for n in range(1, len(volumes)):
        touched = [_root(home, m) for m in _touching(n, contacts)]
        looks_like = {own.get(t, int(probability[t].argmax())) for t in touched}
        at_hand = sorted(free | looks_like) if touched else list(range(len(TEETH)))
        taken[n] = own.get(_root(home, n), at_hand[int(probability[n, at_hand].argmax())])
        beside = {own[t]: members[t] for t in touched if t in own}
        if _root(home, n) not in own and volumes[n] >= LOOSE_PART_MM3 and taken[n] in beside:
            taken[n] = _whose(n, probability[n], beside, like)
    return taken


def _whose(piece: int, look: Array, beside: dict[int, tuple[int, ...]], like: Like) -> int:
    """The class of the tooth that a piece belongs to, one of those it touches, by its look (32,) and their form."""
    nats = {k: float(np.log(look[k] + LEAST_PROBABILITY)) + _gain(tooth, piece, k, like) for k, tooth in beside.items()}
    return max(nats, key=nats.__getitem__)


def _gain(tooth: tuple[int, ...], piece: int, number: int, like: Like) -> float:
    """How many nats a tooth of a class is more like one of its position with a piece than without; 0 if unknown."""
    without, together = like(tooth), like((*tooth, piece))
    if without is None or together is None:
        return 0.0
    return float(np.clip((together - without)[_POSITIONS[number]], -MOST_GAIN, MOST_GAIN))


def _joined(
    probability: Array, volumes: Array, contacts: dict[tuple[int, int], int], cut_off: Sequence[int], like: Like
) -> _Parts:
    """The pieces, those of one tooth joined."""
    average = _mouth_scale(probability, volumes) * _VOLUMES
    least = np.full(len(volumes), MAIN_SHARE)
    least[list(cut_off)] = CUT_OFF_SHARE
    parts = _Parts(probability, volumes, average, least, list(range(len(volumes))), like)
    while True:
        pair = next(parts.to_join(parts.assigned(), contacts, LARGEST_TOOTH * average), None)
        if pair is None:
            return parts
        parts.home[pair[0]] = pair[1]


@dataclass(frozen=True, eq=False)
class _Parts:
    """Pieces, some of them joined: ``home`` leads from each to the one that stands for its tooth, ``average`` (32,) are
    the volumes in mm3 that teeth of each class have in this mouth, and ``least`` (n + 1,) is the share of its type's
    volume that makes a piece a tooth of its own."""

    probability: Array
    volumes: Array
    average: Array
    least: Array
    home: list[int]
    like: Like

    def members(self) -> dict[int, tuple[int, ...]]:
        """The pieces of each tooth, the largest first, by the one that stands for it."""
        found: dict[int, list[int]] = {}
        for n in sorted(range(1, len(self.home)), key=lambda n: -self.volumes[n]):
            found.setdefault(_root(self.home, n), []).append(n)
        return {root: tuple(pieces) for root, pieces in found.items()}

    def seen(self) -> tuple[Array, Array]:
        """Volumes (n + 1,) and mean probabilities (n + 1, 32) of the teeth; 0 for pieces that stand for none."""
        tooth_of = [_root(self.home, n) for n in range(len(self.home))]
        count = len(self.volumes)
        volumes = np.bincount(tooth_of, self.volumes, minlength=count)
        sums = [np.bincount(tooth_of, self.volumes * column, minlength=count) for column in self.probability.T]
        return volumes, np.stack(sums, 1) / np.maximum(volumes, 1e-9)[:, None]

    def main(self) -> NDArray[np.intp]:
        """The teeth that are large enough."""
        volumes, seen = self.seen()
        least = np.ones(len(volumes))
        np.minimum.at(least, [_root(self.home, n) for n in range(len(self.home))], self.least)
        large = volumes >= least * _VOLUMES[seen.argmax(1)]
        return np.flatnonzero(large & (volumes > 0) & (np.arange(len(volumes)) > 0))

    def assigned(self) -> dict[int, int]:
        """A class 0..31 for each main tooth but those that are best left aside."""
        from scipy.optimize import linear_sum_assignment

        (volumes, seen), main = self.seen(), self.main()
        look = -np.log(seen[main] + LEAST_PROBABILITY)
        size = np.minimum(_misfit(volumes[main, None], self.average), LARGEST_MISFIT)
        cost = (look + size) * volumes[main, None]
        aside = np.full((len(main), len(main)), ASIDE_NATS) * volumes[main, None]
        rows, columns = linear_sum_assignment(np.hstack([cost, aside]))
        return {int(main[r]): int(c) for r, c in zip(rows, columns, strict=True) if c < len(TEETH)}

    def to_join(
        self, own: dict[int, int], contacts: dict[tuple[int, int], int], most: Array
    ) -> Iterator[tuple[int, int]]:
        """Teeth that are parts of others, with those, the broadest contacts first."""
        volumes, seen = self.seen()
        number, main = seen.argmax(1), set(self.main().tolist())
        for (a, b), _ in sorted(contacts.items(), key=lambda item: -item[1]):
            one, two = sorted((_root(self.home, a), _root(self.home, b)), key=lambda n: volumes[n])
            if one == two or one not in main or number[one] != number[two]:
                continue
            unlike = min(seen[n, own[n]] if n in own else 0.0 for n in (one, two))
            if unlike < UNLIKE and volumes[one] + volumes[two] <= most[number[one]] and not self.two_teeth(one, two):
                yield one, two

    def two_teeth(self, one: int, two: int) -> bool:
        """Whether two teeth together would be so much less like one that it would be cut in two."""
        members = self.members()
        alone, together = [self.like(members[n]) for n in (one, two)], self.like(members[one] + members[two])
        if together is None or any(nats is None for nats in alone):
            return False
        return _like_two(float(together.max()), [float(nats.max()) for nats in alone if nats is not None])


def _touching(piece: int, contacts: dict[tuple[int, int], int]) -> list[int]:
    return [b if a == piece else a for a, b in contacts if piece in (a, b)]


def _give_away_crumbs(
    taken: NDArray[np.intp], pieces: Labels, boxes: Boxes, volumes: Array, contacts: dict[tuple[int, int], int]
) -> None:
    """Give what would be hardly a tooth the number of the tooth it touches most, in place.

    Not so where the view ends there.
    """
    size = np.bincount(taken[1:], volumes[1:], minlength=len(TEETH))
    crumbs = np.flatnonzero((size > 0) & (size < CRUMB_SHARE * _VOLUMES))
    for k in crumbs.tolist():
        members = [n + 1 for n in np.flatnonzero(taken[1:] == k).tolist() if n < len(boxes) and boxes[n] is not None]
        if any(_at_border(boxes[n - 1], pieces) for n in members):
            continue
        for n in members:
            touched = {m: contacts[min(n, m), max(n, m)] for m in _touching(n, contacts) if taken[m] not in crumbs}
            if touched:
                taken[n] = taken[max(touched, key=lambda m: touched[m])]


def _at_border(box: tuple[slice, ...], pieces: Labels) -> bool:
    return any(s.start == 0 or s.stop == length for s, length in zip(box, pieces.shape, strict=True))


def _cut_out_homes(
    found: NDArray[np.uint8],
    pieces: Labels,
    number: NDArray[np.uint8],
    probability: Array,
    volumes: Array,
    taken: NDArray[np.intp],
) -> None:
    """Give numbers that no tooth took their voxels, in place, in teeth that are more than one."""
    average = _mouth_scale(probability, volumes) * _VOLUMES
    size = np.bincount(taken[1:], volumes[1:], minlength=len(TEETH))
    for k in sorted(set(range(len(TEETH))) - set(taken[1:].tolist())):
        votes = probability[:, k] * volumes
        n = int(votes[1:].argmax()) + 1
        if votes[n] >= HOME_SHARE * _VOLUMES[k] and size[taken[n]] > TWO_TEETH * (average[taken[n]] + average[k]):
            found[(pieces == n) & (number == TEETH[k])] = TEETH[k]


def _strike_out_strays(
    found: NDArray[np.uint8],
    pieces: Labels,
    boxes: Boxes,
    volumes: Array,
    taken: NDArray[np.intp],
    contacts: dict[tuple[int, int], int],
    spacing: float,
) -> None:
    """Give small pieces that lie apart from everything the number 0, in place."""
    from scipy import ndimage

    reach = round(APART_MM / spacing)
    for n in range(1, len(volumes)):
        box, fdi = boxes[n - 1] if n <= len(boxes) else None, TEETH[taken[n]]
        if box is None or _touching(n, contacts) or volumes[n] >= MAIN_SHARE * size_of(fdi).volume:
            continue
        if _at_border(box, pieces) and volumes[n] >= LEAST_CUT_OFF_MM3:
            continue
        wide = tuple(slice(max(0, s.start - reach), s.stop + reach) for s in box)
        near = ndimage.binary_dilation(pieces[wide] == n, _CUBE, reach)
        if not (near & (found[wide] == fdi) & (pieces[wide] != n) & (pieces[wide] > 0)).any():
            found[box][pieces[box] == n] = 0
