"""Cavities, fragments and duplicates: what the separate bodies and the enclosed voids of one label tell.

In goes a :class:`~ToothTopoSegLib.topology.mouth.Mouth`, out come findings; a body is a connected set of voxels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.anatomy import fdi as teeth
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.topology.arch import assign_numbers, fit_arches, tooth_bodies
from ToothTopoSegLib.topology.betti import Body, ToothTopology
from ToothTopoSegLib.topology.detect.contacts import arch_place
from ToothTopoSegLib.topology.detect.gaps import GERM_MM, partner_dentition
from ToothTopoSegLib.topology.findings import Finding, lps, mm3, named
from ToothTopoSegLib.topology.mouth import Mouth
from ToothTopoSegLib.topology.shape import patient_scale, relative_volume, remembered

CRUMB_MM3 = 1.0
"""Voids and pieces below this are told in one finding for each tooth, and are no errors."""
FRAGMENT_ERROR_MM3 = 5.0
"""A loose piece from this size on is as large as a cusp or a root tip."""
ADHERES_SHARE = 0.25
"""A piece belongs to another tooth if that tooth makes up this share of what touches it."""
JOIN_MM, FACING_SHARE = 1.3, 0.2
"""A piece was cut off its tooth if the gap is this narrow and this share of its surface looks across it."""


def find_cavities(mouth: Mouth) -> list[Finding]:
    """Enclosed voids in a tooth: error from 1 mm3 on; a void that another label fills is none."""
    labels, found = mouth.labels, []
    for tooth in mouth.teeth.values():
        holes = [hole for void in tooth.voids if (hole := _unlabelled(labels, void)) is not None]
        large, small = _by_size(holes, labels.voxel_volume)
        found += [_cavity(labels, tooth.fdi, [hole]) for hole in large]
        found += [_cavity(labels, tooth.fdi, small)] if small else []
    return found


def find_fragments(mouth: Mouth) -> list[Finding]:
    """Extra pieces of a tooth that are too small to be a tooth of their own: error from 5 mm3 on."""
    labels, found = mouth.labels, []
    for tooth in mouth.teeth.values():
        pieces = tooth.bodies[len(tooth_bodies(tooth, labels.voxel_volume)) :]
        large, small = _by_size(pieces, labels.voxel_volume)
        found += [_fragment(labels, tooth, [piece]) for piece in large]
        found += [_fragment(labels, tooth, small)] if small else []
    return found


def find_duplicates(mouth: Mouth) -> list[Finding]:
    """One FDI number on two bodies each of tooth size."""
    return [
        _duplicate(mouth, tooth, body)
        for tooth in mouth.teeth.values()
        for body in tooth_bodies(tooth, mouth.labels.voxel_volume)[1:]
    ]


def _unlabelled(labels: Volume, void: Body) -> Body | None:
    """The part of a void that no tooth fills; bone within a tooth is as impossible as nothing."""
    inside = labels.array[void.box]
    mask = void.mask & ((inside == 0) | (inside >= teeth.LOWER_JAW))
    voxels = int(np.count_nonzero(mask))
    return Body(void.box, mask, voxels) if voxels else None


def _by_size(found: Sequence[Body], voxel_volume: float) -> tuple[list[Body], list[Body]]:
    large = [body for body in found if body.voxels * voxel_volume >= CRUMB_MM3]
    return large, [body for body in found if body.voxels * voxel_volume < CRUMB_MM3]


def _cavity(labels: Volume, fdi: int, holes: Sequence[Body]) -> Finding:
    size = sum(hole.voxels for hole in holes) * labels.voxel_volume
    large = len(holes) == 1 and size >= CRUMB_MM3
    what = f"an enclosed hole of {mm3(size)}"
    if len(holes) > 1:
        what = f"{len(holes)} enclosed holes smaller than {CRUMB_MM3:.0f} mm3 ({mm3(size)} together)"
    place = lps(labels, np.asarray(_largest(holes).centroid))
    text = f"{named(fdi)} has {what}."
    severity = "error" if large else "warning"
    return Finding(0, "cavity", severity, (fdi,), place, size, text, "fill cavity", tuple(holes))


def _fragment(labels: Volume, tooth: ToothTopology, pieces: Sequence[Body]) -> Finding:
    size = sum(piece.voxels for piece in pieces) * labels.voxel_volume
    severity = "error" if len(pieces) == 1 and size >= FRAGMENT_ERROR_MM3 else "warning"
    parted = all(body.reaches_border(labels.array.shape) for body in (tooth.bodies[0], *pieces))
    away = _gap_mm(labels, tooth.bodies[0], pieces)
    text = f"{named(tooth.fdi)} is in {len(tooth.bodies)} separate pieces; "
    if len(pieces) > 1:
        text += f"{len(pieces)} of them are crumbs smaller than {CRUMB_MM3:.0f} mm3 ({mm3(size)} together)"
        text += f", the nearest {away:.1f} mm away."
    else:
        which = "the smaller one" if len(tooth.bodies) == 2 else "one of them"
        text += f"{which} ({mm3(size)}) lies {away:.1f} mm away."
    place = lps(labels, np.asarray(_largest(pieces).centroid))
    if parted:
        text += " The edge of the scan parts them: they may meet outside of it."
        return Finding(0, "fragment", "info", (tooth.fdi,), place, size, text, None, tuple(pieces))
    repair = _mending(labels, tooth, pieces[0], away) if len(pieces) == 1 else "drop fragment"
    return Finding(0, "fragment", severity, (tooth.fdi,), place, size, text, repair, tuple(pieces))


def _mending(labels: Volume, tooth: ToothTopology, piece: Body, away: float) -> str:
    """What becomes of a piece: it adheres to another tooth, it was cut off its own, or it is nothing."""
    if adhering_to(labels, piece, tooth.fdi):
        return "reassign fragment"
    cut_off = away <= JOIN_MM and piece.voxels * labels.voxel_volume >= CRUMB_MM3
    if cut_off and _facing_share(labels, tooth.bodies[0], piece, away) > FACING_SHARE:
        return "join fragment"
    return "drop fragment"


def adhering_to(labels: Volume, piece: Body, own: int) -> int:
    """The other tooth that a piece of tooth ``own`` sticks to; 0 if it does not."""
    around = neighbourhood(labels, piece)
    others = sorted(teeth.TEETH - {own}, key=lambda fdi: -int(around[fdi]))
    return others[0] if around[others].sum() > ADHERES_SHARE * around.sum() else 0


def around_it(labels: Volume, piece: Body) -> int:
    """What a piece lies in apart from teeth: a jaw or 0, whichever touches it most."""
    around = neighbourhood(labels, piece)
    return max((0, *teeth.JAWS), key=lambda value: int(around[value]))


def neighbourhood(labels: Volume, body: Body) -> NDArray[np.int64]:
    """How many voxels of each label value (0..255) touch a body by face, edge or corner; its own voxels left out."""
    from scipy import ndimage

    box = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in body.box)
    around = labels.array[box]
    inner = tuple(slice(s.start - b.start, s.stop - b.start) for s, b in zip(body.box, box, strict=True))
    own = np.zeros(around.shape, bool)
    own[inner] = body.mask
    shell = ndimage.binary_dilation(own, np.ones((3, 3, 3))) & ~own
    return np.bincount(around[shell], minlength=256)


def _facing_share(labels: Volume, main: Body, piece: Body, away: float) -> float:
    """Share of a piece's surface voxels that look at the main body from about the least distance.

    Of a root tip that was cut off it is the whole cut; of a lump beside a tooth hardly more than a point.
    """
    from scipy import ndimage
    from scipy.spatial import cKDTree

    rim = np.argwhere(piece.mask & ~ndimage.binary_erosion(piece.mask)) + [s.start for s in piece.box]
    distance, _ = cKDTree(main.indices * labels.spacing).query(rim * labels.spacing, distance_upper_bound=away + 0.6)
    return float(np.isfinite(distance).mean())


@remembered
def _numbers_by_place(mouth: Mouth) -> dict[Body, int]:
    return assign_numbers(mouth)


def lost_number(mouth: Mouth, fdi: int, body: Body) -> tuple[Body, int] | None:
    """Which of two bodies of one number is another tooth, and which: where the teeth beside it or the arch tell.

    ``body`` is one of the further bodies of tooth ``fdi``. None where neither gives one of them a free number.
    """
    both = mouth.teeth[fdi].bodies[0], body
    beside = zip(both, (_number_between(mouth, one) for one in both), strict=True)
    lost = [(one, number) for one, number in beside if number and number not in {*mouth.teeth, fdi - 40, fdi + 40}]
    if len(lost) == 1:
        return lost[0]
    by_place = _numbers_by_place(mouth)
    numbers = [by_place.get(one, 0) for one in both]
    if numbers.count(fdi) != 1:
        return None
    other = numbers.index(fdi) ^ 1
    number = _of_its_dentition(mouth, numbers[other], both[other]) if numbers[other] else 0
    return (both[other], number) if number and number not in mouth.teeth else None


def _number_between(mouth: Mouth, body: Body) -> int:
    """The number of the one place between the teeth that stand beside a body in its row; 0 if there is not just one."""
    arches = fit_arches(mouth)
    own = next((s for s in arches.standing if s.tooth.body is body), None) if arches is not None else None
    if arches is None or own is None:
        return 0
    row = [s for s in arches.of(own.upper) if s.depth <= GERM_MM or s is own]
    at = row.index(own)
    beside = [s.tooth.fdi for s in (*row[max(at - 1, 0) : at], *row[at + 1 : at + 2])]
    if len(beside) < 2 or any(teeth.is_upper(fdi) != own.upper for fdi in beside):
        return 0
    first, last = (arch_place(fdi) for fdi in beside)
    if last - first != 2:
        return 0
    number = _of_place((first + last) / 2, own.upper)
    return _of_its_dentition(mouth, number + 40 if all(map(teeth.is_deciduous, beside)) else number, body)


def _of_place(place: float, upper: bool) -> int:
    """The permanent tooth of a place along the arch as :func:`arch_place` counts them."""
    quadrant = (2 if place > 0 else 1) if upper else (3 if place > 0 else 4)
    return 10 * quadrant + round(abs(place) + 0.5)


def _of_its_dentition(mouth: Mouth, number: int, body: Body) -> int:
    """A number by place, of the dentition that stands in the mirrored place or, where nothing does, that fits the size
    of the body: the place alone does not tell which."""
    other, deciduous = number + (-40 if teeth.is_deciduous(number) else 40), partner_dentition(mouth, number)
    if not teeth.is_tooth(other) or deciduous == teeth.is_deciduous(number):
        return number
    if deciduous is not None:
        return other
    if body.reaches_border(mouth.labels.array.shape):
        return number
    scale = patient_scale(mouth)
    return min(number, other, key=lambda fdi: abs(float(np.log(relative_volume(mouth, fdi, [body]) / scale))))


def _duplicate(mouth: Mouth, tooth: ToothTopology, body: Body) -> Finding:
    labels = mouth.labels
    size, main = (b.voxels * labels.voxel_volume for b in (body, tooth.bodies[0]))
    away = _gap_mm(labels, tooth.bodies[0], [body])
    text = (
        f"The number {tooth.fdi} ({teeth.name(tooth.fdi)}) is on two bodies of tooth size ({mm3(main)} and "
        f"{mm3(size)}), {away:.1f} mm apart; "
    )
    lost = lost_number(mouth, tooth.fdi, body)
    if lost is None:
        text += "one of them is probably another tooth."
    else:
        body, number = lost
        text += f"by its place this one is tooth {number} ({teeth.name(number)}), which was not found elsewhere."
    size, place = body.voxels * labels.voxel_volume, lps(labels, np.asarray(body.centroid))
    repair = None if lost is None else "renumber"
    return Finding(0, "duplicate", "error", (tooth.fdi,), place, size, text, repair, (body,))


def _gap_mm(labels: Volume, main: Body, others: Sequence[Body]) -> float:
    """Distance in mm between the nearest voxel centres of a body and any of the others."""
    from scipy.spatial import cKDTree

    points = np.concatenate([other.indices for other in others])
    distance, _ = cKDTree(main.indices * labels.spacing).query(points * labels.spacing)
    return float(np.min(distance))


def _largest(found: Sequence[Body]) -> Body:
    return max(found, key=lambda body: body.voxels)
