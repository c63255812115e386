"""Merges and splits: one body that is two teeth, and two bodies that are one.

In goes a :class:`~ToothTopoSegLib.topology.mouth.Mouth`, out come findings. A merge is one body that covers two teeth:
larger than the tooth can be, with two thick cores side by side that a neck joins. A split is one tooth under two
labels: two bodies that meet in a cut, which make one tooth together and none alone. Sizes are held against
:mod:`ToothTopoSegLib.anatomy.sizes`, scaled to the patient.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.anatomy import fdi as teeth
from ToothTopoSegLib.anatomy.sizes import size_of
from ToothTopoSegLib.imaging.boxes import Box
from ToothTopoSegLib.imaging.volume import Vector3
from ToothTopoSegLib.topology.arch import fit_arches
from ToothTopoSegLib.topology.betti import Body, ToothTopology, box_around
from ToothTopoSegLib.topology.detect.contacts import Contact, arch_place, can_touch, contact_of, contacts
from ToothTopoSegLib.topology.detect.gaps import GERM_MM, opposing_dentition, partner_dentition
from ToothTopoSegLib.topology.detect.merge_signs import two_cusp_groups, two_pulps
from ToothTopoSegLib.topology.findings import Finding, lps, mm3, named
from ToothTopoSegLib.topology.mouth import Mouth
from ToothTopoSegLib.topology.shape import (
    Cores,
    Floats,
    Mask,
    body_of,
    coarse,
    coarse_corner_mm,
    coarse_grey,
    cut_share,
    enlarged_seeds,
    find_cores,
    long_axis,
    narrowest_cut,
    patient_scale,
    points_mm,
    relative_volume,
    remembered,
    sampled,
    split_in_two,
    vertical,
)

TINY = 0.4
"""A neighbour below this share of its volume counts as swallowed."""
MERGED_FROM, MERGED_FROM_COMPLETE = 1.0, 1.4
"""Relative volume from which a body is looked at: with a neighbour missing, and with none missing."""
APART_SHARE = 0.6
"""Two teeth stand apart by half the sum of their widths; the two halves of one tooth by half of its width."""
PART_LENGTH, PART_LENGTH_WORN, PART_LENGTH_COMPLETE = 0.55, 0.45, 0.75
"""The second part of a merge has this share of the length of its tooth, at least; the first one may be worn and milk
teeth lose their roots. If the second tooth stands elsewhere as well, both parts must be as long as teeth."""
PART_ELONGATED = 1.2
"""A lump is round: a second part, of a permanent tooth, that is not this many times longer than wide must be as long as
well."""
PART_SHARE = 0.6
"""Two teeth stand apart by half the sum of their widths; the two halves of one tooth by half of its width."""
PART_LENGTH, PART_LENGTH_MILK, PART_LENGTH_COMPLETE = 0.55, 0.45, 0.75
"""Either part of a merge has this share of the length of its tooth, at least; milk teeth lose their roots. If the
second tooth stands elsewhere as well, its part must be as long as a tooth."""
PART_ELONGATED = 1.2
"""A lump is round: a second part, of a permanent tooth, that is not this many times longer than wide must be as long as
well."""
PART_SHARE = 0.35
"""Each part of a merge has at least this share of the volume of its tooth."""
NECK_SHARE, NECK_SHARE_COMPLETE = 0.95, 0.75
"""The neck of a merge relative to the sections beside it."""
TWICE, NECK_SHARE_TWICE = 1.6, 1.15
"""From this relative volume on, and with a neighbour missing, two teeth may have grown together over a wide face."""
REST = 0.7
"""As much speaks for the number of a tooth of which something is left and touches the body."""
NECK_SIGNED = 0.15
"""The neck may be wider by this where each part has cusps or a pulp of its own."""
OTHER_DENTITION = 0.5
"""Cost, in the logarithm of volumes, of a milk tooth where its mirrored partner is a permanent one, or vice versa."""
CUT_BAND_MM = 3.0
"""The cut between two merged teeth is looked for this far from the thinnest place."""
SIDE_BY_SIDE = 0.4
"""Share of the lower part's height that two merged teeth have in common; a crown and a root have little."""

SUSPECT_SHARE, CUT_SHARE, CLEAR_CUT_SHARE = 0.6, 0.72, 0.9
"""A contact is a cut from this share of the sections beside it on."""
BORDER_CUT_SHARE = 0.85
CUT_AREA_SHARE = 0.3
"""Area of a cut relative to the volume of the smaller part to the power of 2/3, at least."""
ALONE, ALONE_FAR = 0.65, 0.8
"""Below this share of its volume a body is no tooth by itself; beside a tooth it never touches, below the second."""
ELSEWHERE, _MIDLINE_MM = 2.0, 4.0
"""Cost of a number whose jaw or side is not where the tooth stands."""
WHOLE = 0.75
"""Teeth that stand beside each other, each of this share of its volume or more, are two, however wide they meet."""
UNION = (0.35, 1.5)
"""Volume of one tooth, relative to the average one of this patient."""
OVERFULL = 0.95
"""Relative volume from which a body may hold a part of the tooth beside it."""
FAR_SHARE = 0.5
"""What lies farther from the cut than this share of the farthest voxel belongs to the other tooth."""
SMALLEST_PIECE_MM3 = 5.0

HIGH_ERROR, HIGH_WARNING = 2.2, 1.85
"""Volumes no tooth has, relative to the average one."""


@dataclass(frozen=True, eq=False)
class _Pair:
    """A body cut in two on a coarse grid: the part that keeps its number, the other one, and that one's number.

    ``signs`` says what each part has of its own that one tooth has once.
    """

    own: Mask
    other: Mask
    number: int
    cores: Cores
    neck_share: float
    signs: tuple[str, ...] = ()


@remembered
def find_merges(mouth: Mouth) -> list[Finding]:
    """One body covering two teeth, as errors; ``voxels`` is the part that belongs to the second tooth.

    The repair is named where that tooth is missing; if it stands elsewhere, a person has to decide on the numbers.
    """
    found = []
    scale = patient_scale(mouth)
    for fdi, tooth in mouth.teeth.items():
        beside = _beside(mouth, fdi)
        gone = [other for other in beside if _swallowed(mouth, other, scale)]
        size = relative_volume(mouth, fdi, tooth.bodies[:1]) / scale
        pair = None
        if gone and size >= MERGED_FROM:
            limit = NECK_SHARE if size < TWICE else NECK_SHARE_TWICE
            pair = _two_teeth(mouth, tooth, gone, scale, limit, missing=True)
        if pair is None and size >= MERGED_FROM_COMPLETE:
            others = [t for t in beside if t not in gone]
            pair = _two_teeth(mouth, tooth, others, scale, NECK_SHARE_COMPLETE, missing=False)
        if pair is not None:
            found.append(_merge(mouth, tooth, pair, missing=pair.number in gone))
    return found


@remembered
def find_splits(mouth: Mouth) -> list[Finding]:
    """One tooth under two labels, as errors; ``voxels`` is the part whose number is to become the other one."""
    return [finding for contact in contacts(mouth).values() for finding in _splits(mouth, contact)]


# --- merges


def _beside(mouth: Mouth, fdi: int) -> list[int]:
    """The teeth whose places are next to this one, of the dentitions that this mouth has."""
    upper, dentitions = teeth.is_upper(fdi), {teeth.is_deciduous(other) for other in mouth.teeth}
    arch = [other for deciduous in sorted(dentitions) for other in teeth.arch_order(upper, deciduous)]
    return [other for other in arch if abs(arch_place(other) - arch_place(fdi)) == 1]


def _swallowed(mouth: Mouth, fdi: int, scale: float) -> bool:
    """Whether nothing, or next to nothing, stands at the place of this tooth; the germ of its successor lies deeper."""
    same_place = [number for number in (fdi, fdi + 40, fdi - 40) if number in mouth.teeth]
    standing = [n for n in same_place if n != fdi - 40 or not _is_germ(mouth, n)]
    return all(relative_volume(mouth, n, mouth.teeth[n].bodies[:1]) < TINY * scale for n in standing)


def _is_germ(mouth: Mouth, fdi: int) -> bool:
    """Whether a tooth lies deep in the jaw, by the fitted arch."""
    arches = fit_arches(mouth)
    standing = () if arches is None else arches.standing
    return any(s.tooth.body is mouth.teeth[fdi].bodies[0] and s.depth > GERM_MM for s in standing)


def _two_teeth(
    mouth: Mouth, tooth: ToothTopology, others: Sequence[int], scale: float, neck_limit: float, missing: bool
) -> _Pair | None:
    """The largest body of a tooth as two teeth, the second being one of ``others``; None if it is one tooth."""
    if not others:
        return None
    body, labels = tooth.bodies[0], mouth.labels
    small, spacing = coarse(body.mask, labels.spacing)
    up = vertical(labels)
    widths = {other: _usual_distance(tooth.fdi, other) * scale ** (1 / 3) for other in others}
    cores = find_cores(small, spacing, up, APART_SHARE * min(widths.values()))
    if cores is None:
        return None
    parts = split_in_two(small, spacing, cores.seeds)
    pair = _numbered(mouth, tooth, others, parts, spacing, cores, scale)
    if pair is None or pair.neck_share > neck_limit + NECK_SIGNED or cores.apart_mm < APART_SHARE * widths[pair.number]:
        return None
    if not _side_by_side(pair, spacing, up) or not _both_long(mouth, tooth, pair, spacing, scale, missing):
        return None
    pair = replace(pair, signs=_signs(mouth, tooth, pair, spacing))
    return pair if pair.signs or pair.neck_share <= neck_limit else None


def _signs(mouth: Mouth, tooth: ToothTopology, pair: _Pair, spacing: Vector3) -> tuple[str, ...]:
    """What each part of a merge has of its own that one tooth has once."""
    labels, body = mouth.labels, tooth.bodies[0]
    crownwards = vertical(labels) * (-1 if teeth.is_upper(tooth.fdi) else 1)
    signs = ["cusps"] if two_cusp_groups(pair.own, pair.other, spacing, crownwards) else []
    if mouth.scan is not None:
        grey = coarse_grey(mouth.scan.array[body.box], labels.spacing)
        signs += ["pulp"] if two_pulps(pair.own, pair.other, spacing, grey) else []
    return tuple(signs)


def _of_other_dentition(mouth: Mouth, fdi: int) -> bool:
    """Whether this is a milk tooth and the one in the mirrored place a permanent tooth, or the other way round.

    Where that place is not in view or empty, the tooth it bites on tells.
    """
    beside = partner_dentition(mouth, fdi)
    beside = opposing_dentition(mouth, fdi) if beside is None else beside
    return beside == (not teeth.is_deciduous(fdi))


def _rest_numbered_otherwise(mouth: Mouth, fdi: int) -> bool:
    """Whether what is left in the place of a tooth bears the number of the other dentition."""
    others = {fdi - 40, fdi + 40} & set(mouth.teeth)
    return fdi not in mouth.teeth and any(not _is_germ(mouth, other) for other in others)


def _usual_distance(first: int, second: int) -> float:
    return (size_of(first).md_crown + size_of(second).md_crown) / 2


def _numbered(
    mouth: Mouth,
    tooth: ToothTopology,
    others: Sequence[int],
    parts: tuple[Mask, Mask],
    spacing: Vector3,
    cores: Cores,
    scale: float,
) -> _Pair | None:
    """Which of the two parts is the tooth and which other tooth the second part is, by volumes and places."""
    corner = coarse_corner_mm(tooth.bodies[0], mouth.labels.spacing, spacing)
    centres = [np.argwhere(part).mean(axis=0) * spacing + corner for part in parts]
    ratios = [np.count_nonzero(part) * float(np.prod(spacing)) / scale for part in parts]
    best, best_cost = None, np.inf
    for other in others:
        for one, two in ((0, 1), (1, 0)):
            shares = (ratios[one] / size_of(tooth.fdi).volume, ratios[two] / size_of(other).volume)
            if min(shares) < PART_SHARE or max(shares) > HIGH_ERROR:
                continue
            cost = float(np.abs(np.log(shares)).sum())
            cost += _misplaced(mouth, {tooth.fdi: centres[one], other: centres[two]})
            cost += OTHER_DENTITION * _of_other_dentition(mouth, other)
            cost += OTHER_DENTITION * _rest_numbered_otherwise(mouth, other)
            # what is left of a tooth lies at the part that was taken from it
            cost -= REST * ((min(tooth.fdi, other), max(tooth.fdi, other)) in contacts(mouth))
            if cost < best_cost:
                best, best_cost = (parts[one], parts[two], other), cost
    if best is None:
        return None
    neck = contact_of(best[0], best[1], spacing)
    if neck is None:
        return None
    sides = np.argwhere(best[0]) * np.asarray(spacing), np.argwhere(best[1]) * np.asarray(spacing)
    share = _share(neck, sides, spacing, spacing)
    return _Pair(best[0], best[1], best[2], cores, share)


def _misplaced(mouth: Mouth, placed: dict[int, Floats], without: Sequence[int] = ()) -> float:
    """How badly two teeth at these places (mm) fit the teeth beside them: mean error of distances in teeth."""
    errors = []
    step = np.asarray(mouth.labels.spacing)
    for fdi, centre in placed.items():
        for other, tooth in mouth.teeth.items():
            apart = abs(arch_place(fdi) - arch_place(other))
            if (
                other in placed
                or other in without
                or teeth.is_upper(other) != teeth.is_upper(fdi)
                or not 0 < apart <= 3
            ):
                continue
            width = _usual_distance(fdi, other)
            distance = float(np.linalg.norm(centre - np.multiply(tooth.bodies[0].centroid, step)))
            errors.append(abs(distance / width - apart))
    return float(np.mean(errors)) if errors else 0.0


def _side_by_side(pair: _Pair, spacing: Vector3, up: Floats) -> bool:
    heights = [np.argwhere(part) * np.asarray(spacing) @ up for part in (pair.own, pair.other)]
    shared = min(h.max() for h in heights) - max(h.min() for h in heights)
    return bool(shared >= SIDE_BY_SIDE * min(np.ptp(h) for h in heights))


def _both_long(mouth: Mouth, tooth: ToothTopology, pair: _Pair, spacing: Vector3, scale: float, missing: bool) -> bool:
    """Whether both parts have about the length of their teeth; of a body that the border of the view cuts it is open.

    ``missing`` tells that the second tooth stands nowhere else.
    """
    if tooth.bodies[0].reaches_border(mouth.labels.array.shape):
        return True
    own, _ = _slenderness(pair.own, tooth.fdi, spacing, scale)
    other, elongated = _slenderness(pair.other, pair.number, spacing, scale)
    if not missing:
        return min(own, other) >= PART_LENGTH_COMPLETE
    usual = PART_LENGTH if elongated >= PART_ELONGATED else PART_LENGTH_COMPLETE
    return own >= PART_LENGTH_WORN and other >= (PART_LENGTH_WORN if teeth.is_deciduous(pair.number) else usual)


def _slenderness(part: Mask, fdi: int, spacing: Vector3, scale: float) -> tuple[float, float]:
    """The length of a part relative to that of a tooth, and relative to its own width."""
    _, extents = long_axis(np.argwhere(part) * np.asarray(spacing))
    length = float(extents[0])
    return length / (size_of(fdi).length * min(scale, 1.0) ** (1 / 3)), length / max(float(extents[1]), min(spacing))


def _merge(mouth: Mouth, tooth: ToothTopology, pair: _Pair, missing: bool) -> Finding:
    labels, body = mouth.labels, tooth.bodies[0]
    seeds = np.where(pair.own & (pair.cores.seeds > 0), 1, np.where(pair.other & (pair.cores.seeds > 0), 2, 0))
    fine = enlarged_seeds(seeds, body.mask.shape, _coarse_spacing(body, labels.spacing), labels.spacing)
    grey = None if mouth.scan is None else mouth.scan.array[body.box].astype(np.float32)
    own, other = split_in_two(body.mask, labels.spacing, fine, grey)
    _, other = narrowest_cut(own, other, labels.spacing, CUT_BAND_MM, grey)
    part = body_of(other, body.box)
    size, whole = (b.voxels * labels.voxel_volume for b in (part, body))
    parts = f"two thick parts {pair.cores.apart_mm:.1f} mm apart"
    parts += f", each with {' and '.join(pair.signs)} of its own," if pair.signs else ""
    text = (
        f"{named(tooth.fdi)} covers two teeth: {parts} are joined by a neck, and its {mm3(whole)} are more than "
        f"it can have; the part of {mm3(size)} is probably tooth {pair.number} ({teeth.name(pair.number)})"
    )
    text += ", which was not found elsewhere." if missing else "; that number stands elsewhere as well."
    repair = "split merge" if missing else None
    # slices through the middle of the body show both teeth; where exactly they are joined is less sure
    place = lps(labels, np.asarray(body.centroid))
    return Finding(0, "merge", "error", (tooth.fdi, pair.number), place, size, text, repair, (part,))


def _coarse_spacing(body: Body, spacing: Vector3) -> Vector3:
    return coarse(body.mask[:1, :1, :1], spacing)[1]


# --- splits


def _share(contact: Contact, sides: tuple[Floats, Floats], grid: Vector3, spacing: Vector3) -> float:
    """:func:`cut_share` of a contact between points in mm that lie ``grid`` mm apart, in voxels of ``spacing``."""
    middle = np.multiply(contact.middle, spacing)
    volume = float(np.prod(grid))
    return cut_share(sides[0], sides[1], volume, middle, np.asarray(contact.normal), contact.area_mm2)


def _splits(mouth: Mouth, contact: Contact) -> list[Finding]:
    found = []
    for one, two in _touching_bodies(mouth, contact):
        finding = _split(mouth, contact, one, two)
        found += [finding] if finding else []
    return found


def _touching_bodies(mouth: Mouth, contact: Contact) -> Iterator[tuple[Body, Body]]:
    """The bodies of the two teeth that touch; without a look at the voxels where either tooth is in one piece."""
    first, second = (mouth.teeth[fdi].bodies for fdi in contact.teeth)
    ones = [body for body in first if _holds(body, contact.first)]
    twos = [body for body in second if _holds(body, contact.second)]
    for one in ones:
        for two in twos:
            yield one, two


def _holds(body: Body, voxels: object) -> bool:
    """Whether any of the voxels (n, 3) belongs to the body."""
    inside = np.asarray(voxels) - [side.start for side in body.box]
    inside = inside[((inside >= 0) & (inside < body.mask.shape)).all(axis=1)]
    return bool(body.mask[tuple(inside.T)].any())


def _split(mouth: Mouth, contact: Contact, one: Body, two: Body) -> Finding | None:
    """A split if two bodies, or one of them and a part of the other, are one tooth, else None."""
    first, second = contact.teeth
    small = min(one.voxels, two.voxels) * mouth.labels.voxel_volume
    if small < SMALLEST_PIECE_MM3 or contact.area_mm2 < CUT_AREA_SHARE * small ** (2 / 3):
        return None
    # nothing else to measure where both teeth are in one piece
    in_one = all(len(mouth.teeth[fdi].bodies) == 1 for fdi in contact.teeth)
    found, share = _measured(mouth, one, two, contact if in_one else None)
    if found is None or share < SUSPECT_SHARE:
        return None
    scale = patient_scale(mouth)
    sizes = relative_volume(mouth, first, [one]) / scale, relative_volume(mouth, second, [two]) / scale
    beside = can_touch(first, second, mouth.teeth)
    if _stand_beside(first, second) and min(sizes) >= WHOLE:
        return None
    alone = ALONE if beside else ALONE_FAR
    limit = CUT_SHARE if min(sizes) < alone else CLEAR_CUT_SHARE
    if any(body.reaches_border(mouth.labels.array.shape) for body in (one, two)):
        # the border of the view leaves small sections too
        limit = max(limit, BORDER_CUT_SHARE)
    if share >= limit and _plausible_union(mouth, contact.teeth, one, two):
        return _one_tooth(mouth, contact.teeth, (one, two), found)
    for rest, own, full, other, size in ((one, first, two, second, sizes[1]), (two, second, one, first, sizes[0])):
        if size >= OVERFULL and (finding := _overreach(mouth, rest, own, full, other)) is not None:
            return finding
    return None


def _stand_beside(first: int, second: int) -> bool:
    """Whether two teeth have places next to each other in one jaw: not a milk tooth and its successor, nor a bite."""
    return teeth.is_upper(first) == teeth.is_upper(second) and abs(arch_place(first) - arch_place(second)) == 1


def _plausible_union(mouth: Mouth, pair: tuple[int, int], one: Body, two: Body) -> bool:
    """Whether two bodies together have the size of one tooth; of teeth that never touch it may be a very large one."""
    volume = (one.voxels + two.voxels) * mouth.labels.voxel_volume / patient_scale(mouth)
    most = UNION[1] if can_touch(*pair, mouth.teeth) else HIGH_WARNING
    return any(UNION[0] <= volume / size_of(fdi).volume <= most for fdi in pair)


def _overreach(mouth: Mouth, rest: Body, own: int, full: Body, other: int) -> Finding | None:
    """A split where a tooth's label has taken a part of the tooth beside it: ``full`` is that tooth and the part."""
    labels, scale = mouth.labels, patient_scale(mouth)
    part = _part_next_to(mouth, full, rest)
    if part is None or part.voxels * labels.voxel_volume < SMALLEST_PIECE_MM3:
        return None
    union = relative_volume(mouth, own, [rest, part]) / scale
    left = relative_volume(mouth, other, [full]) / scale - relative_volume(mouth, other, [part]) / scale
    if not (UNION[0] <= union <= UNION[1] and PART_SHARE <= left <= UNION[1]):
        return None
    remaining = full.mask.copy()
    remaining[
        tuple(slice(p.start - f.start, p.stop - f.start) for p, f in zip(part.box, full.box, strict=True))
    ] &= ~part.mask
    contact, share = _measured(mouth, rest, part)
    _, neck = _measured(mouth, part, body_of(remaining, full.box))
    if contact is None or share < CUT_SHARE or neck > NECK_SHARE_COMPLETE * min(share, 1.0):
        return None
    pair = (own, other) if own < other else (other, own)
    return _split_finding(mouth, pair, own, part, rest, contact)


def _part_next_to(mouth: Mouth, full: Body, rest: Body) -> Body | None:
    """What of a body lies before the neck, seen from the body it meets; None if there is nothing."""
    from scipy import ndimage

    spacing = mouth.labels.spacing
    masks, low = _together(full, rest)
    (small, step), (near, _) = (coarse(mask, spacing) for mask in masks)
    both = coarse(masks[0] | masks[1], spacing)[0]
    near &= both
    depth = ndimage.distance_transform_edt(both, sampling=step)
    away = ndimage.distance_transform_edt(~near, sampling=step)
    far = small & ~near & (away > FAR_SHARE * away[small].max())
    if not near.any() or not far.any():
        return None
    seeds = np.where(far & (depth >= 0.8 * depth[far].max()), 1, np.where(near, 2, 0))
    parts = split_in_two(both, step, seeds)
    # the coarse parts without their rim are the seeds of the exact cut
    deep = [ndimage.binary_erosion(part, np.ones((3, 3, 3))) for part in parts]
    fine = enlarged_seeds(np.where(deep[0], 1, np.where(deep[1], 2, 0)), masks[0].shape, step, spacing)
    fine = np.where(masks[1], 2, np.where(masks[0], fine, 0))
    if not (fine == 1).any():
        return None
    part = split_in_two(masks[0] | masks[1], spacing, fine)[1] & masks[0]
    return body_of(part, _box_at(low, part.shape)) if part.any() else None


def _together(first: Body, second: Body) -> tuple[tuple[Mask, Mask], NDArray[np.int64]]:
    """Two bodies as masks on the box around both, and where that box begins."""
    box = box_around((first, second))
    return (first.in_box(box), second.in_box(box)), np.array([s.start for s in box])


def _box_at(low: NDArray[np.int64], shape: Sequence[int]) -> Box:
    z, y, x = (slice(int(start), int(start + length)) for start, length in zip(low, shape, strict=True))
    return z, y, x


def _measured(mouth: Mouth, first: Body, second: Body, known: Contact | None = None) -> tuple[Contact | None, float]:
    """The contact of two bodies, its middle in the whole array, and how much of a cut it is; ``known`` saves work."""
    spacing, contact = mouth.labels.spacing, known
    if contact is None:
        masks, low = _together(first, second)
        contact = contact_of(masks[0], masks[1], spacing)
        if contact is None:
            return None, 0.0
        z, y, x = np.add(contact.middle, low).tolist()
        contact = replace(contact, middle=(z, y, x))
    sides = points_mm(first, spacing), points_mm(second, spacing)
    return contact, _share(contact, sides, sampled(spacing), spacing)


def _one_tooth(mouth: Mouth, pair: tuple[int, int], bodies: tuple[Body, Body], contact: Contact) -> Finding:
    """The split of a tooth into two bodies: the number that fits it best in size and place stays."""
    step, scale = np.asarray(mouth.labels.spacing), patient_scale(mouth)
    voxels = sum(body.voxels for body in bodies)
    centre = np.sum([np.multiply(body.centroid, body.voxels / voxels) for body in bodies], axis=0) * step
    _, extents = long_axis(np.concatenate([points_mm(body, mouth.labels.spacing) for body in bodies]))
    costs = []
    for number, body in zip(pair, bodies, strict=True):
        size = voxels * mouth.labels.voxel_volume / size_of(number).volume / scale
        length = extents[0] / size_of(number).length / scale ** (1 / 3)
        cost = abs(float(np.log(size))) + abs(float(np.log(length)))
        cost += _misplaced(mouth, {number: centre}, without=pair)
        cost += OTHER_DENTITION * _of_other_dentition(mouth, number)
        cost += 1.0 if body is not mouth.teeth[number].bodies[0] else 0.0
        cost += ELSEWHERE * _elsewhere(mouth, number, bodies)
        # the part that changes its number should be the smaller one
        costs.append(cost - body.voxels / voxels)
    keep = int(np.argmin(costs))
    return _split_finding(mouth, pair, pair[keep], bodies[1 - keep], bodies[keep], contact)


def _elsewhere(mouth: Mouth, number: int, bodies: Sequence[Body]) -> bool:
    """Whether bodies stand in another jaw or on another side than a number says, by the fitted arch."""
    arches = fit_arches(mouth)
    standing = () if arches is None or not arches.jaws_told else arches.standing
    found = [s for s in standing if any(s.tooth.body is body for body in bodies)]
    jaws = [s for s in found if s.upper != teeth.is_upper(number)]
    # near the midline the side is open
    sides = [s for s in found if abs(s.along) > _MIDLINE_MM and (s.along > 0) != teeth.is_left(number)]
    return bool(found) and (len(jaws) == len(found) or len(sides) == len(found))


def _split_finding(
    mouth: Mouth, pair: tuple[int, int], keep: int, moved: Body, rest: Body, contact: Contact
) -> Finding:
    """``moved`` is to get the number ``keep``, which ``rest`` bears."""
    labels = mouth.labels
    size = moved.voxels * labels.voxel_volume
    other = pair[1] if keep == pair[0] else pair[0]
    text = (
        f"{named(keep)} is under two labels: a part of {mm3(size)} is numbered {other}, and the two meet in a cut of "
        f"{contact.area_mm2:.1f} mm2 as wide as the tooth, where two teeth would only touch."
    )
    voxels = moved.voxels + rest.voxels
    place = lps(labels, np.sum([np.multiply(b.centroid, b.voxels / voxels) for b in (moved, rest)], axis=0))
    return Finding(0, "split", "error", pair, place, size, text, "join split", (moved,))
