"""Contacts: which teeth touch, over what area, and which of these contacts no mouth can have.

In goes a label map of FDI numbers or a :class:`~ToothTopoSegLib.topology.mouth.Mouth`, out come the contacts of every
pair of teeth or findings. Teeth touch where voxels share a face. The area of a contact is the length of the vector of
the face areas along the three axes: exact for a flat contact however it lies in the grid, where the plain sum of
faces would be up to 1.7 times too large. Which teeth meet in a bite follows Nelson & Ash, *Wheeler's Dental Anatomy*.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.anatomy import fdi as teeth
from ToothTopoSegLib.anatomy.sizes import size_of
from ToothTopoSegLib.imaging.boxes import label_boxes
from ToothTopoSegLib.imaging.volume import Array, Vector3, Volume
from ToothTopoSegLib.topology.betti import Body, ToothTopology, body_at
from ToothTopoSegLib.topology.findings import Finding, lps, named
from ToothTopoSegLib.topology.mouth import Mouth
from ToothTopoSegLib.topology.shape import Mask, body_of, points_mm, remembered, vertical

Pair = tuple[int, int]

USUAL_BITE_MM2 = 60.0
"""Opposing teeth rarely meet over more than this."""
USUAL_SIDE_SHARE = 0.6
"""Share of the smaller tooth's side (crown length times buccolingual width) that crowded neighbours can share."""
GROSS_BITE, GROSS_SIDE = 2.0, 3.0
"""A contact this many times larger is an error; below, it may be a crowded mouth or a coarse scan."""
APICAL_SHARE = 0.3
"""Opposing teeth meet with their crowns, never with this outermost part of their roots."""
DISPLACED_SHARE = 1.38
"""Teeth next but one whose centres are nearer than this many times half their widths have left the row."""


@dataclass(frozen=True, eq=False)
class Contact:
    """Where two teeth touch.

    ``teeth`` ascending; ``area_mm2`` with the vector of the face areas along (z, y, x) it is the length of; ``normal``
    is the mean unit normal from the first tooth to the second in mm along (z, y, x); ``middle`` is the mean voxel
    index (z, y, x) of the faces; ``first`` and ``second`` are the voxels (n, 3) of either tooth that lie at them, each
    once.
    """

    teeth: Pair
    area_mm2: float
    normal: Vector3
    middle: Vector3
    first: NDArray[np.int64]
    second: NDArray[np.int64]

    @property
    def layer(self) -> Body:
        """The voxels of both teeth at the contact."""
        return body_at(np.concatenate([self.first, self.second]))


Contacts = Mapping[Pair, Contact]


@remembered
def contacts(mouth: Mouth) -> Contacts:
    """Every pair of touching teeth, ascending, with its contact; measured once for each mouth."""
    return _contacts(mouth.labels, {fdi: tooth.bodies for fdi, tooth in mouth.teeth.items()})


def contact_of(first: Mask, second: Mask, spacing: Vector3) -> Contact | None:
    """The contact of two disjoint masks (z, y, x) of one shape as teeth 1 and 2; None if they share no face."""
    both = Volume(first.astype(np.uint8) + np.uint8(2) * second, spacing)
    parts = {value: [body_of(both.array[box] == value, box)] for value, box in label_boxes(both.array).items()}
    return _contacts(both, parts).get((1, 2))


def contact_areas(labels: Volume) -> dict[Pair, float]:
    """Contact area in mm2 of every pair of touching teeth (ascending FDI numbers) in a label map (z, y, x)."""
    return {pair: contact.area_mm2 for pair, contact in contacts(Mouth(labels)).items()}


def forbidden_contacts(labels: Volume, found: Mapping[int, ToothTopology], present: Container[int]) -> list[Pair]:
    """Pairs of teeth that touch in a label map and cannot do so where the patient has the teeth ``present``.

    ``found`` are the map's teeth, by :func:`topology.betti.tooth_topology`.
    """
    touching = _contacts(labels, {fdi: tooth.bodies for fdi, tooth in found.items()})
    return [pair for pair in touching if not can_touch(*pair, present)]


def find_contacts(mouth: Mouth) -> list[Finding]:
    """Contacts of teeth that cannot touch, and areas that no real pair has.

    Errors, but warnings where a crowded mouth may explain it: a tooth out of its row, or an area that is not gross.
    A pair that is one tooth under two labels is told as a split alone.
    """
    # a split rests on the contacts in turn
    from ToothTopoSegLib.topology.detect.bodies import find_splits

    found, cut = [], {finding.teeth for finding in find_splits(mouth)}
    for pair, contact in contacts(mouth).items():
        if pair in cut:
            continue
        reason = _impossible(mouth, contact)
        if reason:
            severity = "warning" if _displaced(mouth, contact) else "error"
        else:
            reason, severity = _too_large(contact)
        if reason:
            found.append(_finding(mouth.labels, contact, reason, severity))
    return found


def arch_place(fdi: int) -> float:
    """Place along the arch in teeth from the midline, the right negative; a milk tooth has its successor's."""
    place = teeth.position(fdi) - 0.5
    return place if teeth.is_left(fdi) else -place


def can_touch(first: int, second: int, present: Container[int]) -> bool:
    """Whether two teeth can touch in some mouth with these teeth ``present``.

    Neighbours can, teeth next but one where nothing stands between them, and opposing teeth up to two places apart.
    A milk tooth and its successor share one place.
    """
    apart = abs(arch_place(first) - arch_place(second))
    if teeth.is_upper(first) != teeth.is_upper(second):
        return apart <= 2
    return apart <= 1 or (apart == 2 and not any(between in present for between in between_teeth(first, second)))


def between_teeth(first: int, second: int) -> tuple[int, ...]:
    """The teeth, permanent and deciduous, whose places lie between those of two teeth of one jaw."""
    low, high = sorted((arch_place(first), arch_place(second)))
    upper = teeth.is_upper(first)
    arches = teeth.arch_order(upper), teeth.arch_order(upper, True)
    return tuple(fdi for arch in arches for fdi in arch if low < arch_place(fdi) < high)


def _contacts(labels: Volume, parts: Mapping[int, Sequence[Body]]) -> Contacts:
    """Contacts between labels given as bodies: each is looked at in its own box, which crumbs far away leave small."""
    found: dict[Pair, list[_Faces]] = {}
    for fdi, bodies in parts.items():
        for body in bodies:
            for faces in _faces_of(labels.array, fdi, body):
                found.setdefault((fdi, faces.other), []).append(faces)
    return {pair: _contact(pair, found[pair], np.asarray(labels.spacing)) for pair in sorted(found)}


@dataclass(frozen=True, eq=False)
class _Faces:
    """Faces across one axis between a tooth and another one in one sense: voxels (n, 3) on the tooth's side."""

    other: int
    axis: int
    sense: int
    voxels: NDArray[np.int64]


def _faces_of(array: Array, fdi: int, body: Body) -> Iterator[_Faces]:
    """Faces between a body of a tooth and the teeth of higher number, so that each pair is seen once."""
    wide = tuple(slice(max(s.start - 1, 0), min(s.stop + 1, n)) for s, n in zip(body.box, array.shape, strict=True))
    crop = array[wide]
    own = body.in_box(wide)
    # jaw labels lie above all teeth
    higher = (crop > fdi) & (crop < teeth.LOWER_JAW)
    corner = np.array([s.start for s in wide])
    for axis in range(3):
        low = tuple(slice(None, -1) if a == axis else slice(None) for a in range(3))
        high = tuple(slice(1, None) if a == axis else slice(None) for a in range(3))
        for sense, (mine, its) in ((1, (low, high)), (-1, (high, low))):
            faces = own[mine] & higher[its]
            if not faces.any():
                continue
            at = np.argwhere(faces)
            others = crop[its][tuple(at.T)]
            at[:, axis] += int(sense < 0)
            for other in np.unique(others):
                yield _Faces(int(other), axis, sense, at[others == other] + corner)


def _contact(pair: Pair, faces: list[_Faces], spacing: Array) -> Contact:
    area, normal = np.zeros(3), np.zeros(3)
    first, second, middles = [], [], []
    for some in faces:
        face = float(np.prod(spacing) / spacing[some.axis])
        area[some.axis] += face * len(some.voxels)
        normal[some.axis] += some.sense * face * len(some.voxels)
        step = np.eye(3, dtype=np.int64)[some.axis] * some.sense
        first.append(some.voxels)
        second.append(some.voxels + step)
        middles.append(np.column_stack([some.voxels + step / 2, np.full(len(some.voxels), face)]))
    weighted = np.concatenate(middles)
    middle = np.average(weighted[:, :3], axis=0, weights=weighted[:, 3])
    length = float(np.linalg.norm(normal))
    z, y, x = (normal / length if length else normal).tolist()
    i, j, k = middle.tolist()
    sides = (np.unique(np.concatenate(side), axis=0) for side in (first, second))
    return Contact(pair, float(np.linalg.norm(area)), (z, y, x), (i, j, k), *sides)


def _impossible(mouth: Mouth, contact: Contact) -> str:
    """Why these teeth cannot touch, or nothing."""
    first, second = contact.teeth
    if teeth.is_upper(first) != teeth.is_upper(second):
        if not can_touch(first, second, mouth.teeth):
            return "one stands in the upper and one in the lower jaw, and they do not bite on each other"
        return _not_with_crowns(mouth, contact)
    if can_touch(first, second, mouth.teeth):
        return ""
    between = [fdi for fdi in between_teeth(first, second) if fdi in mouth.teeth]
    if between:
        return f"tooth {between[0]} stands between them" if len(between) == 1 else _several_between(between)
    return "they stand too far apart in the arch"


def _several_between(between: list[int]) -> str:
    return f"teeth {', '.join(map(str, between[:-1]))} and {between[-1]} stand between them"


def _displaced(mouth: Mouth, contact: Contact) -> bool:
    """Whether two teeth next but one stand as close as neighbours: one leans across, or the middle one left the row."""
    first, second = contact.teeth
    if teeth.is_upper(first) != teeth.is_upper(second) or abs(arch_place(first) - arch_place(second)) > 2:
        return False
    if teeth.is_deciduous(first) != teeth.is_deciduous(second):
        # a germ may lie below any of them
        return True
    step = np.asarray(mouth.labels.spacing)
    one, other = (np.multiply(mouth.teeth[fdi].bodies[0].centroid, step) for fdi in contact.teeth)
    usual = (size_of(first).md_crown + size_of(second).md_crown) / 2
    return float(np.linalg.norm(one - other)) < DISPLACED_SHARE * usual


def _not_with_crowns(mouth: Mouth, contact: Contact) -> str:
    """Why opposing teeth that may meet cannot meet there, or nothing: they meet with their crowns."""
    for fdi in contact.teeth:
        body = mouth.teeth[fdi].bodies[0]
        if body.reaches_border(mouth.labels.array.shape):
            continue
        heights = points_mm(body, mouth.labels.spacing) @ vertical(mouth.labels)
        at = float(np.multiply(contact.middle, mouth.labels.spacing) @ vertical(mouth.labels))
        share = (at - heights.min()) / max(np.ptp(heights), 1e-6)
        if (share if teeth.is_upper(fdi) else 1 - share) > 1 - APICAL_SHARE:
            return f"the contact lies at the root tip of tooth {fdi}, and opposing teeth meet with their crowns"
    return ""


def _too_large(contact: Contact) -> tuple[str, str]:
    """Why the contact is larger than a real one and how severe that is; twice nothing if it is not."""
    first, second = contact.teeth
    if teeth.is_upper(first) != teeth.is_upper(second):
        usual, gross, who = USUAL_BITE_MM2, GROSS_BITE, "opposing teeth"
    else:
        side = min(size_of(fdi).crown_length * size_of(fdi).bl_crown for fdi in contact.teeth)
        usual, gross, who = USUAL_SIDE_SHARE * side, GROSS_SIDE, "such neighbours"
    if contact.area_mm2 <= usual:
        return "", ""
    severity = "error" if contact.area_mm2 > gross * usual else "warning"
    return f"{who} share at most about {usual:.0f} mm2", severity


def _finding(labels: Volume, contact: Contact, reason: str, severity: str) -> Finding:
    first, second = contact.teeth
    layer = contact.layer
    text = (
        f"{named(first)} and tooth {second} ({teeth.name(second)}) touch over {contact.area_mm2:.1f} mm2, but {reason}."
    )
    place = lps(labels, np.asarray(contact.middle))
    size = layer.voxels * labels.voxel_volume
    return Finding(0, "contact", severity, contact.teeth, place, size, text, None, (layer,))
