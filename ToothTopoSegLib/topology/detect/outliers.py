"""Outliers: teeth of a size or shape that no such tooth has.

In goes a :class:`~ToothTopoSegLib.topology.mouth.Mouth`, out come findings. Sizes are held against
:mod:`ToothTopoSegLib.anatomy.sizes`, scaled to the patient. The shape is wrong where something sticks out: a lump
beyond a neck, a branch across the long axis, more crown on one side than opposite, a root that widens towards its tip.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ToothTopoSegLib.anatomy import fdi as teeth
from ToothTopoSegLib.anatomy.sizes import size_of
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.topology.betti import Body, ToothTopology
from ToothTopoSegLib.topology.detect.bodies import HIGH_ERROR, HIGH_WARNING, find_merges, find_splits
from ToothTopoSegLib.topology.findings import Finding, lps, mm3, named
from ToothTopoSegLib.topology.mouth import Mouth
from ToothTopoSegLib.topology.shape import (
    Floats,
    branches_mm,
    find_lump,
    long_axis,
    one_sided_mm,
    patient_scale,
    points_mm,
    relative_volume,
    root_spread_mm,
    sampled,
    vertical,
)

LOW_ERROR, LOW_WARNING, LOW_ERROR_VARIABLE, LOW_WARNING_VARIABLE = 0.3, 0.45, 0.12, 0.22
LONG_ERROR, LONG_WARNING = 1.5, 1.3
WIDE_ERROR, WIDE_WARNING, WIDE_TWO_ROOTS = 1.5, 1.42, 1.27
SPREAD_ROOTS = 1.15
"""Three roots may spread so much wider than the crown that stands on them; two roots hardly do."""
WHOLE_LENGTH = 0.85
"""A tooth shorter than this share of its length, as milk teeth and germs are, has no sure axis to be wide across."""
END_MM = 1.5
"""What lies this near to the point that reaches farthest is the end of what makes a tooth too long or too wide."""
SPUR_MM, SPUR_ERROR_MM, SPUR_MM3, SPUR_FROM_MM = 1.25, 2.5, 4.0, 0.5
"""A lump sticks out this far (an error from the second on) and has this volume farther out than the last."""
TOUCHING_MM2 = 14.0
"""A section at the border of the view up to this is that of a root's tip or of a lump, not of a tooth cut in two."""
SPUR_SINGLE_MM, SPUR_SINGLE_MM3 = 0.9, 2.0
"""The crowns of teeth with one root are more even."""
SLENDER_SHARE, SPUR_END = 0.35, 0.85
"""What has less than this share of the volume of a ball that sticks out as far is a spur; its end is what lies farther
out than the second share."""
SPREAD_MM, SPREAD_SINGLE_MM = 2.5, 0.9
"""Roots with a spur or lump are this much wider there than nearer to the crown; the second of a single root, in any
direction."""
LUMP_MM, THIN_LUMP_MM = 1.3, 1.75
"""Radius of a lump, at least, and of one that may well be a spur."""
LUMP_NECK_MM, LUMP_NECK_ROOTS_MM, LUMP_ERROR_MM = 0.38, 0.53, 1.0
"""A tooth tapers from its thickest place on; a thick place beyond a neck so much narrower (radius) is a lump, an error
from the last on. Where several roots leave the trunk, each may get a little thicker again."""
LARGEST_BALL = 1.15
"""No ball thicker than the crown is wide, by so much, fits into a tooth: where one does is the lump."""
BRANCH_ERROR_MM = 4.0
"""A thin branch across the tooth that reaches this far is an error, a shorter one a warning."""


def find_outliers(mouth: Mouth) -> list[Finding]:
    """Teeth of a size or shape no such tooth has: error if gross, warning otherwise.

    A tooth that the border of the view cuts is never too small, and merged or split teeth are told as such.
    """
    told = {fdi for finding in (*find_merges(mouth), *find_splits(mouth)) for fdi in finding.teeth}
    found = []
    for fdi, tooth in mouth.teeth.items():
        if fdi not in told:
            finding = _outlier(mouth, tooth)
            found += [finding] if finding else []
    return found


def _outlier(mouth: Mouth, tooth: ToothTopology) -> Finding | None:
    """The size of a tooth, or what sticks out of it: that makes the tooth too large as well, but says where to look."""
    size = _size_outlier(mouth, tooth)
    if size is not None and relative_volume(mouth, tooth.fdi, tooth.bodies[:1]) > HIGH_ERROR:
        return size
    detectors = (_lump, _branch, _reaching_out)
    spur = next((finding for detect in detectors if (finding := detect(mouth, tooth)) is not None), None)
    if size is None or spur is None:
        return size or spur
    return replace(spur, severity="error") if size.severity == "error" else spur


def _size_outlier(mouth: Mouth, tooth: ToothTopology) -> Finding | None:
    """A volume, length or width no such tooth has."""
    labels, fdi, body = mouth.labels, tooth.fdi, tooth.bodies[0]
    points, size = points_mm(body, labels.spacing), size_of(fdi)
    axes, (length, width, _) = long_axis(points)
    by_volume = _by_volume(mouth, tooth)
    by_length, by_width = _by_extents(fdi, length, width, patient_scale(mouth) ** (1 / 3))
    severity = _worst(by_volume, by_length, by_width)
    if not severity:
        return None
    volume = body.voxels * labels.voxel_volume
    text = (
        f"{named(fdi)} has {mm3(volume)} and measures {length:.1f} by {width:.1f} mm; such a tooth has about "
        f"{size.volume * patient_scale(mouth):.0f} mm3 and {size.length:.0f} by {_crown_width(fdi):.0f} mm."
    )
    # what makes a tooth of usual volume too long or wide is where it reaches farthest
    far = _farthest(points, axes[0]) if by_length else _widest(mouth, tooth, points, axes[1])
    place = np.asarray(body.centroid) if by_volume else far / np.asarray(labels.spacing)
    return Finding(0, "outlier", severity, (fdi,), lps(labels, place), volume, text, None, (body,))


def _by_volume(mouth: Mouth, tooth: ToothTopology) -> str:
    """How severe the volume of a tooth is; one that the border of the view cuts may be as small as it likes."""
    body, scale = tooth.bodies[0], patient_scale(mouth)
    share = relative_volume(mouth, tooth.fdi, [body])
    return _worst(
        "" if body.reaches_border(mouth.labels.array.shape) else _low(tooth.fdi, min(share, share / scale)),
        _high(max(share, share / scale), HIGH_WARNING, HIGH_ERROR),
    )


def _by_extents(fdi: int, length: float, width: float, enlarged: float) -> tuple[str, str]:
    """How severe length and width (mm) of a tooth are in a patient whose teeth are ``enlarged`` times as long."""
    size = size_of(fdi)
    usual = size.length * enlarged
    slender = size.roots == 2 and length >= WHOLE_LENGTH * usual
    wide = _crown_width(fdi) * (SPREAD_ROOTS if size.roots > 2 else 1.0) * (enlarged if slender else max(1.0, enlarged))
    by_width = _high(width / wide, WIDE_TWO_ROOTS if slender else WIDE_WARNING, WIDE_ERROR)
    return _high(length / usual, LONG_WARNING, LONG_ERROR), by_width


def _crown_width(fdi: int) -> float:
    return max(size_of(fdi).md_crown, size_of(fdi).bl_crown)


def _farthest(points: Floats, axis: Floats) -> Floats:
    """The middle of the end of points (n, 3) that reaches farther from their middle along an axis."""
    along = (points - np.median(points, axis=0)) @ axis
    tip = points[int(np.argmax(np.abs(along)))]
    return np.asarray(points[np.linalg.norm(points - tip, axis=1) <= END_MM].mean(axis=0))


def _widest(mouth: Mouth, tooth: ToothTopology, points: Floats, axis: Floats) -> Floats:
    """Where a tooth is wide: on one side of its crown or at its root, whichever tells more, or else its farther end."""
    body, spacing, crownwards = tooth.bodies[0], mouth.labels.spacing, _crownwards(mouth, tooth.fdi)
    excess = one_sided_mm(points, crownwards)
    place, grown = root_spread_mm(body, spacing, crownwards, each_way=size_of(tooth.fdi).roots == 1)
    if max(float(excess.max()), grown) <= SPUR_FROM_MM:
        return _farthest(points, axis)
    size = np.count_nonzero(excess > SPUR_FROM_MM) * float(np.prod(sampled(spacing)))
    return _middle_of_lump(points, excess, size) if excess.max() > grown else place


def _low(fdi: int, share: float) -> str:
    """Roots of milk teeth are resorbed and third molars may be germs: they are never gross by being small."""
    variable = teeth.is_deciduous(fdi) or teeth.position(fdi) == 8
    if share < (LOW_ERROR_VARIABLE if variable else LOW_ERROR):
        return "error"
    if variable:
        return "warning" if share < LOW_WARNING_VARIABLE else "info" if share < LOW_ERROR else ""
    return "warning" if share < LOW_WARNING else ""


def _high(share: float, warning: float, error: float) -> str:
    return "error" if share > error else "warning" if share > warning else ""


def _worst(*severities: str) -> str:
    return next((severity for severity in ("error", "warning", "info") if severity in severities), "")


def _branch(mouth: Mouth, tooth: ToothTopology) -> Finding | None:
    """A thin branch that runs across the tooth, where a root would run along it."""
    labels, body = mouth.labels, tooth.bodies[0]
    if body.reaches_border(labels.array.shape):
        return None
    found = branches_mm(body, labels.spacing, _crownwards(mouth, tooth.fdi))
    if not found:
        return None
    points, reach = max(found, key=lambda branch: branch[1])
    size = len(points) * float(np.prod(sampled(labels.spacing)))
    text = (
        f"{named(tooth.fdi)} has a spur that sticks out {reach:.1f} mm across its long axis; its end has {mm3(size)}."
    )
    place = lps(labels, points.mean(axis=0) / np.asarray(labels.spacing))
    severity = "error" if reach >= BRANCH_ERROR_MM else "warning"
    return Finding(0, "outlier", severity, (tooth.fdi,), place, size, text, None, (body,))


def _is_cut(labels: Volume, body: Body) -> bool:
    """Whether the border of the view cuts a good part of a tooth off, rather than just touching it."""
    spacing, section = labels.spacing, 0.0
    for axis, (side, length) in enumerate(zip(body.box, labels.array.shape, strict=True)):
        face = float(np.prod(spacing)) / spacing[axis]
        ends = [0] * (side.start == 0) + [-1] * (side.stop == length)
        section += sum(face * np.count_nonzero(np.take(body.mask, end, axis)) for end in ends)
    return section > TOUCHING_MM2


def _lump(mouth: Mouth, tooth: ToothTopology) -> Finding | None:
    """A thick place beside the thickest one, beyond a neck, for teeth taper; a thin one that is a branch is told so."""
    labels, body = mouth.labels, tooth.bodies[0]
    if _is_cut(labels, body):
        return None
    lump = find_lump(body, labels.spacing, tunnels=tooth.betti[1] > 0, voids=tooth.betti[2] > 0)
    least = LUMP_NECK_MM if size_of(tooth.fdi).roots == 1 else LUMP_NECK_ROOTS_MM
    if lump is None or lump.neck_mm < least or lump.radius_mm < LUMP_MM:
        return None
    widest = LARGEST_BALL * min(size_of(tooth.fdi).md_crown, size_of(tooth.fdi).bl_crown) / 2
    place, radius = (lump.beside, lump.beside_mm) if lump.beside_mm > widest else (lump.place, lump.radius_mm)
    size = 4 / 3 * np.pi * radius**3
    text = (
        f"{named(tooth.fdi)} has a lump of about {mm3(size)}: the tooth gets {2 * lump.neck_mm:.1f} mm thicker again "
        "beyond a neck, where teeth taper."
    )
    where = lps(labels, place / np.asarray(labels.spacing))
    branch = _branch(mouth, tooth) if radius < THIN_LUMP_MM else None
    severity = "error" if lump.neck_mm >= LUMP_ERROR_MM else "warning"
    return branch or Finding(0, "outlier", severity, (tooth.fdi,), where, size, text, None, (body,))


class _Reach(NamedTuple):
    """What sticks out of a tooth, and how far."""

    finding: Finding
    mm: float


def _reaching_out(mouth: Mouth, tooth: ToothTopology) -> Finding | None:
    """What sticks out of the crown or of the root; one at one end turns the axis, which shows at the other as well."""
    crown, root = _spur(mouth, tooth), _root_spur(mouth, tooth)
    if crown is None or root is None:
        return next((reach.finding for reach in (crown, root) if reach is not None), None)
    # roots that spread are no sign against a lump on the crown
    single = size_of(tooth.fdi).roots == 1
    return root.finding if single and root.mm > crown.mm else crown.finding


def _root_spur(mouth: Mouth, tooth: ToothTopology) -> _Reach | None:
    """A spur or lump on a root, which makes it wider there; roots that meet again do as well, but around a hole."""
    labels, body = mouth.labels, tooth.bodies[0]
    if body.reaches_border(labels.array.shape) or tooth.betti[1]:
        return None
    single = size_of(tooth.fdi).roots == 1
    place, grown = root_spread_mm(body, labels.spacing, _crownwards(mouth, tooth.fdi), each_way=single)
    if grown < (SPREAD_SINGLE_MM if single else SPREAD_MM):
        return None
    text = f"{named(tooth.fdi)} has a spur on its root, which is {grown:.1f} mm wider there than nearer to the crown."
    where, size = lps(labels, place / np.asarray(labels.spacing)), body.voxels * labels.voxel_volume
    return _Reach(Finding(0, "outlier", "warning", (tooth.fdi,), where, size, text, None, (body,)), grown)


def _crownwards(mouth: Mouth, fdi: int) -> Floats:
    return vertical(mouth.labels) * (-1 if teeth.is_upper(fdi) else 1)


def _spur(mouth: Mouth, tooth: ToothTopology) -> _Reach | None:
    """A lump on one side of the crown, which has no roots there: the crown reaches far out on that side alone."""
    labels, body = mouth.labels, tooth.bodies[0]
    if _is_cut(labels, body):
        return None
    single = size_of(tooth.fdi).roots == 1
    least_mm, least_mm3 = (SPUR_SINGLE_MM, SPUR_SINGLE_MM3) if single else (SPUR_MM, SPUR_MM3)
    voxel_mm3 = float(np.prod(sampled(labels.spacing)))
    points = points_mm(body, labels.spacing)
    excess = one_sided_mm(points, _crownwards(mouth, tooth.fdi))
    lump = excess > SPUR_FROM_MM
    if float(excess.max()) < least_mm or np.count_nonzero(lump) * voxel_mm3 < least_mm3:
        return None
    # a large lump turns the long axis that it was measured from
    again = one_sided_mm(points, _crownwards(mouth, tooth.fdi), trunk=points[~lump])
    if np.count_nonzero(again > SPUR_FROM_MM) * voxel_mm3 >= least_mm3:
        excess, lump = again, again > SPUR_FROM_MM
    far, size = float(excess.max()), np.count_nonzero(lump) * voxel_mm3
    text = f"{named(tooth.fdi)} has a lump of {mm3(size)} that sticks out {far:.1f} mm from one side of its crown."
    place = lps(labels, _middle_of_lump(points, excess, size) / np.asarray(labels.spacing))
    severity = "error" if far >= SPUR_ERROR_MM else "warning"
    return _Reach(Finding(0, "outlier", severity, (tooth.fdi,), place, size, text, None, (body,)), far)


def _middle_of_lump(points: Floats, excess: Floats, size_mm3: float) -> Floats:
    """Where a lump is, of points (n, 3) in mm that stick out by ``excess`` (n,): its middle, or the end of a spur."""
    far = float(excess.max())
    if size_mm3 < SLENDER_SHARE * np.pi / 6 * far**3:
        return np.asarray(points[excess > SPUR_END * far].mean(axis=0))
    lump = excess > SPUR_FROM_MM
    # what sticks out farthest tells where the lump is; its rim may run far around the crown
    return np.asarray(np.average(points[lump], axis=0, weights=excess[lump] ** 2))
