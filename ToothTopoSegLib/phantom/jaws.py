"""The jaws of a natural head as depth fields: mandible with ramus, condyle and canal; maxilla with palate and sinuses.

In: a lattice, the skull's frame and a dentition. The mandible is a plate whose outline in the plane of its own curve
(arc length, height) is a polygon from chin to condyle and coronoid process, swept with a thickness that varies along
it; the alveolar ridges (:mod:`ToothTopoSegLib.phantom.ridge`) are united with it. Sizes follow a real adolescent CBCT
that was measured landmark by landmark, and vary around it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.phantom.arch import Arch, Dentition
from ToothTopoSegLib.phantom.fields import Ball, Frame, Rod, smooth_max, smooth_min
from ToothTopoSegLib.phantom.ridge import STEP, Curve, Healing, Ridge, ToothSocket, make_ridge

Array = NDArray[Any]

OUT_OF_CANAL = 30.0
"""Way (mm) to the canal's axis that stands for none, before its end and beyond its entrance."""
CONDYLE = (47.0, 57.0, 40.0)
GONION = (41.5, 33.0)
"""Left condyle (x, y, z) and angle of the mandible (x, y) in the skull's frame, mm."""


@dataclass(frozen=True, eq=False)
class Jaws:
    """Depth fields on the lattice, mm.

    ``lower`` and ``upper`` are bone, ``body`` the mandible without its alveolar ridge; ``sinus`` and ``nose`` are
    cavities, ``wall`` how far inside a point lies of where the sinuses have walls of their own, ``septum`` the distance
    to the plane of the nose's septum, which is bone where ``vomer`` is positive, and ``turbinates`` the bones in there.
    ``canal`` (2, ...) holds the components across and along height of the way to the axis of the mandibular canal,
    ``side`` the distance outward of the upper arch.
    """

    lower: Array
    body: Array
    upper: Array
    sinus: Array
    wall: Array
    nose: Array
    septum: Array
    vomer: Array
    turbinates: Array
    canal: Array
    side: Array


@dataclass(frozen=True)
class JawPlan:
    """The random part of the jaws, in mm of the skull's frame.

    ``height`` is the height of the chin below the bite and ``chin`` how far it stands forward, ``thick`` and ``ramus``
    are factors of the mandible's thickness and coronoid process, ``vault`` and ``palate`` height and thickness of the
    palate, ``sinus`` the half axes of the maxillary sinuses and ``sinus_floor`` how far down they reach, ``lining`` and
    ``wall`` the thickness of their mucosa and bone, ``filled`` whether there is no air in the (right, left) one,
    ``partition`` where (y) a bony septum rises from their floors, ``septum`` how far that of the nose deviates,
    ``turbinate`` how swollen the turbinates are, ``canal`` the radius of the mandibular canal and ``foramen`` the arc
    length of its end.
    """

    height: float
    thick: float
    chin: float
    ramus: float
    vault: float
    palate: float
    sinus: tuple[float, float, float]
    sinus_floor: float
    lining: float
    wall: float
    filled: tuple[bool, bool]
    partition: float | None
    septum: float
    turbinate: float
    canal: float
    foramen: float


def draw_jaw_plan(rng: np.random.Generator) -> JawPlan:
    """Jaws of a random head."""
    return JawPlan(
        height=float(rng.uniform(33, 43)),
        thick=float(rng.uniform(0.85, 1.2)),
        chin=float(rng.uniform(0.5, 4.0)),
        ramus=float(rng.uniform(0.9, 1.15)),
        vault=float(rng.uniform(18, 25)),
        palate=float(rng.uniform(1.5, 3.0)),
        sinus=(float(rng.uniform(8, 13)), float(rng.uniform(13, 18)), float(rng.uniform(9, 16))),
        sinus_floor=float(rng.uniform(17, 30)),
        lining=float(rng.uniform(0.3, 1.2) if rng.random() < 0.7 else rng.uniform(1.2, 6)),
        wall=float(rng.uniform(0.7, 1.4)),
        filled=(bool(rng.random() < 0.06), bool(rng.random() < 0.06)),
        partition=float(rng.uniform(6, 22)) if rng.random() < 0.3 else None,
        septum=float(rng.normal(0, 1.8)),
        turbinate=float(rng.uniform(0.7, 2.0)),
        canal=float(rng.uniform(0.9, 1.6)),
        foramen=float(rng.uniform(25, 31)),
    )


def mandible_curve(arch: Arch, frame: Frame) -> Curve:
    """The curve that the mandible follows: the lower arch in front, then outwards to angle and condyle."""
    sides = []
    for left in (False, True):
        sign = 1 if left else -1
        front = arch.side(left, 36)[::8]
        back = [np.array([sign * x, y]) for x, y in (GONION, CONDYLE[:2], (CONDYLE[0] + 3, CONDYLE[1] + 25))]
        line = np.concatenate([front, np.array(back) * frame.scale + frame.shift[:2]])
        sides.append(_even(line))
    return Curve.of(sides[0], sides[1])


def _even(line: Array) -> Array:
    """A smooth polyline through the points with a point every STEP mm."""
    from scipy.interpolate import PchipInterpolator

    s = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    fine = PchipInterpolator(s, line)(np.arange(0, s[-1], 0.1))
    s = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(fine, axis=0).T))])
    at = np.arange(0, s[-1], STEP)
    return np.stack([np.interp(at, s, fine[:, i]) for i in (0, 1)], 1)


def upper_curve(arch: Arch) -> Curve:
    """The curve of the maxilla: the upper arch."""
    return Curve.of(arch.side(False, 75), arch.side(True, 75))


def _outline(plan: JawPlan, condyle: float) -> Array:
    """The mandible's outline (n, 2) as (arc length, height) mm; ``condyle`` is the arc length of the condyle."""
    h, r = plan.height, plan.ramus
    back = condyle - 92.0
    points = [
        *((-4, -h + 1.5), (6, -h), (20, -0.97 * h), (42, -0.82 * h), (60, -0.66 * h), (70, -0.52 * h)),
        *((77, -0.30 * h), (81, 2), (88, 28), (94, 35), (95, 39), (90, 40), (86, 36), (81, 26), (73, 21)),
        *((66, 29 * r), (60, 42 * r), (58, 40 * r), (57, 22), (56, 8), (53, -4), (47, -14), (20, -18), (-4, -19)),
    ]
    line = np.array(points, float)
    line[:, 0] += back * np.clip((line[:, 0] - 40) / 50, 0, 1)
    return line


def _polygon_depth(s: Array, z: Array, line: Array) -> Array:
    """Depth (mm) in a closed polygon at points (s, z)."""
    away = np.full(s.shape, np.inf, np.float32)
    inside = np.zeros(s.shape, bool)
    for (s0, z0), (s1, z1) in zip(line, np.roll(line, -1, axis=0), strict=True):
        ds, dz = np.float32(s1 - s0), np.float32(z1 - z0)
        ps, pz = s - np.float32(s0), z - np.float32(z0)
        t = np.clip((ps * ds + pz * dz) / max(float(ds * ds + dz * dz), 1e-6), 0, 1)
        away = np.minimum(away, (ps - t * ds) ** 2 + (pz - t * dz) ** 2)
        if dz:
            inside ^= ((z0 <= z) != (z1 <= z)) & (ps < pz * (ds / dz))
    return np.where(inside, 1, -1).astype(np.float32) * np.sqrt(away)


def _condyle_at(curve: Curve, frame: Frame) -> float:
    """Arc length (mm of the skull's frame) at which the mandible's curve passes below the condyle."""
    place = np.array(CONDYLE[:2]) * frame.scale + frame.shift[:2]
    return float(np.argmin(np.hypot(*(curve.sides[1] - place).T)) * STEP) / frame.scale


def _section(s: Array, low: Array, plan: JawPlan) -> tuple[Array, Array]:
    """Half thickness of the mandible and how far its middle lies outward of the curve, at (arc length, height)."""
    body = np.clip(1 - (s - 40) / 22, 0, 1)
    deep = np.clip(-(low + 16) / (plan.height - 16), 0, 1)
    chin = np.exp(-((s / 13) ** 2))
    half = plan.thick * (3.1 + body * (1.0 + deep * (0.9 + 1.3 * chin))) + 0.8 * np.clip((s - 84) / 8, 0, 1)
    middle = body * (deep * (plan.chin * chin + 6.0 * (1 - chin) * np.clip(s / 30, 0, 1)) - 0.6)
    return half, middle


def _mandible(
    frame: Frame, along: Array, side: Array, condyle: float, gap: float, plan: JawPlan
) -> tuple[Array, Array]:
    """Depth in the mandible's body, and the components (2, ...) of the way to its canal's axis.

    ``along`` and ``side`` are on the mandible's curve, ``condyle`` is the arc length of the condyle.
    """
    s, side = np.abs(along) / frame.scale, side / frame.scale
    # The jaw opens about its condyles: nothing there, the whole gap at the teeth (the skull rests on the upper teeth).
    swing = gap * np.clip(1 - s / condyle, 0, 1) / frame.scale
    low = frame.points[2] + swing.astype(np.float32)
    half, middle = _section(s, low, plan)
    across = half + 0.5 * frame.lattice.rough - np.abs(side - middle)
    plate, near = frame.empty(), across > -6
    plate[near] = _polygon_depth(s[near], low[near], _outline(plan, condyle))
    depth = smooth_min(across, plate, 6.0) * np.float32(frame.scale)
    frame.join(depth, (Ball(CONDYLE, (9.5, 4.4, 4.6)), Rod((43, 52, 28), CONDYLE, 3.0, 4.2)), smooth=2.0)
    return depth, _canal(s, low, side - middle, plan) * np.float32(frame.scale)


def _canal(s: Array, z: Array, side: Array, plan: JawPlan) -> Array:
    """Components (2, ...), mm, of the way to the axis of the mandibular canal: from the lingula to the foramen."""
    height = np.interp(s, (20, plan.foramen, 40, 52, 62, 72), (-21, -21, -25, -22.5, -9, 6))
    across = np.interp(s, (plan.foramen - 1.5, plan.foramen + 4, 36, 50, 72), (7.5, 1.5, 0.0, -1.2, -2.2))
    out = np.where((s > plan.foramen - 2) & (s < 73), 0, OUT_OF_CANAL)
    return np.stack([side - across + out, z - height + out]).astype(np.float32)


def _sinuses(frame: Frame, plan: JawPlan) -> Array:
    """Depth in the maxillary sinuses' cavities (lining included): pyramids that narrow downwards and backwards."""
    rx, ry, rz = plan.sinus
    roof, low = 46.0, plan.sinus_floor
    middle = (26.0, 14.0, max(roof - rz, (roof + low) / 2))

    def pyramid(p: Array) -> Array:
        x, y, z = np.abs(p[0]), p[1], p[2]
        folded = np.stack([x + 0.32 * (y - 14) - 0.22 * (z - 38), y, z])
        room = Ball(middle, (rx, ry, roof - middle[2]), 2.6).depth(folded)
        lobe = Ball((24.0, 16.0, low + 6.0), (0.62 * rx, 0.7 * ry, 6.5)).depth(np.stack([x, y, z]))
        return smooth_max(room, lobe, 6.0)

    field = frame.evaluate((-50, -12, low - 10), (50, 44, 54), pyramid)
    field = field + 1.1 * frame.lattice.rough + 1.2 * frame.lattice.long[1]
    if plan.partition is not None:
        wall = np.abs(frame.points[1] + 0.2 * frame.points[0] - plan.partition) - 1.0
        field = np.minimum(field, np.maximum(wall, frame.points[2] - low - 9) * np.float32(frame.scale))
    return field


TURBINATES = (
    Rod((7.3, -8, 36.5), (7.6, 34, 36.5), 4.0, 3.9, (0.95, 1, 1.6)),
    Rod((12.0, -4, 40), (12.0, 32, 40), 2.0, 2.0),
    Rod((5.2, -2, 50), (5.6, 32, 50), 2.7, 2.6, (0.9, 1, 2.2)),
    Rod((4.2, 12, 60), (4.2, 30, 58), 1.3, 1.3, (0.9, 1, 2.0)),
)
TURBINATE_BONES = (
    Rod((7.8, -2, 36.5), (8.2, 30, 36.5), 0.7, 0.6, (1, 1, 5)),
    Rod((10.0, -2, 40), (10.0, 30, 40), 0.6, 0.6, (3, 1, 1)),
    Rod((5.4, 3, 50), (5.8, 29, 50), 0.7, 0.6, (1, 1, 6)),
)


def _hung(p: Array, bottom: float) -> Array:
    """Points of either side of the nose, moved so that turbinates hang as far above its floor as that lies."""
    return np.stack([np.abs(p[0]), p[1], p[2] - (bottom - 28.0) * np.clip((50 - p[2]) / 20, 0, 1)])


def _nasal_room(p: Array, bottom: float) -> Array:
    """Depth in the nasal cavity as if there were nothing in it; ``bottom`` is the height of its floor."""
    x, y, z = np.abs(p[0]), p[1], p[2]
    floor = bottom + 1.0 - 2.0 * np.clip((y + 10) / 40, 0, 1)
    wide = np.interp(z, (24, 30, 40, 50, 58, 66), (11.5, 12.5, 12.0, 8.5, 5.5, 3.0))
    wide = wide * np.interp(y, (-30, -18, -6, 36), (0.45, 0.65, 1.0, 1.05))
    roof = np.interp(y, (-30, -20, -8, 22, 40), (44, 54, 66, 66, 52))
    return np.minimum(np.minimum(wide - x, z - floor), np.minimum(roof - z, np.minimum(y + 27, 44 - y)))


def _nose(frame: Frame, plan: JawPlan) -> tuple[Array, Array, Array]:
    """Depth in the air of the nasal cavity, distance to the plane of its septum, depth in its turbinates' bones."""
    bottom = plan.vault + plan.palate + 2.0

    def air(p: Array) -> Array:
        swollen = np.maximum.reduce([t.depth(_hung(p, bottom)) for t in TURBINATES]) + plan.turbinate - 1
        return np.minimum(_nasal_room(p, bottom), -swollen)

    def bones(p: Array) -> Array:
        return np.maximum.reduce([bone.depth(_hung(p, bottom)) for bone in TURBINATE_BONES])

    x, z = frame.points[0], frame.points[2]
    plane = x - plan.septum * np.sin(np.clip((z - 28) / 34, 0, 1) * np.pi) + 0.7 * frame.lattice.long[2]
    field = frame.evaluate((-18, -32, 20), (18, 48, 72), air) + 0.3 * frame.lattice.rough
    nose = np.minimum(field, np.abs(plane) - 1.3)
    return nose, plane, frame.evaluate((-18, -8, 20), (18, 36, 66), bones)


def _palate(frame: Frame, along: Array, side: Array, ridge: Ridge, plan: JawPlan) -> Array:
    """Depth in the hard palate, whose lower face rises from the ridge to the vault."""
    index, z = ridge.index(along), frame.lattice.points[2]
    into = np.clip(-(side - ridge.crest_side[index]) - ridge.crest_half[index], 0, None)
    vault = plan.vault * frame.scale + np.float32(frame.shift[2])
    crest = ridge.crest_z[index]
    face = crest + (vault - crest) * (1 - np.exp(-into / np.float32(4.5)))
    face = np.minimum(face, vault)
    y = frame.points[1]
    thick = plan.palate + 1.5 * np.exp(-((frame.points[0] / 4) ** 2)) + 3.0 * np.clip(-(y + 6) / 10, 0, 1)
    plate = np.minimum(z - face, vault + thick - z)
    return np.asarray(np.minimum(plate, np.minimum(30 - y, 1.0 - side)))


def _basal_bone(frame: Frame, along: Array, side: Array, ridge: Ridge, plan: JawPlan) -> Array:
    """Depth in the bone between the ridge of the upper jaw, the floor of the nose and the sinuses."""
    apex, z = float(ridge.apex_z.mean()), frame.lattice.points[2]
    height = np.minimum(z - (apex - 2), (plan.vault + plan.palate + 4 - frame.points[2]) * frame.scale)
    # The face of the jaw is hollow between the root tips and the floor of the nose.
    hollow = 3.0 * np.clip((z - (apex - 3)) / 8, 0, 1)
    across = np.minimum(4.0, np.minimum(2.0 - hollow - side, side + 7.5))
    return np.asarray(np.minimum(np.minimum(height, across), ridge.ends(along)))


MAXILLA = (
    Rod((9.5, -15, 28), (7.5, -17, 62), 3.4, 1.6, (0.8, 1.2, 1)),  # frontal process
    Rod((10.0, -14, 48), (32, -4, 43), 2.2, 2.4),  # lower rim of the orbit
    Rod((27, 6, 30), (34, 4, 37), 5.0, 5.5),  # zygomatic process
    Rod((22, 31, 24), (20, 33, 40), 4.5, 3.0),  # tuberosity
)
NASAL_SPINE = Rod((0, -14, 27), (0, -22, 29), 3.0, 1.0)


def _maxilla(frame: Frame, along: Array, side: Array, ridge: Ridge, cavities: Array, plan: JawPlan) -> Array:
    """Depth in the bone of the maxilla; ``cavities`` is the depth in its sinuses or the nose."""
    x, y, z = frame.points
    plate = _palate(frame, along, side, ridge, plan)
    bone = smooth_max(ridge.depth(along, side, frame.lattice.points[2]), plate, 2.0)
    bone = smooth_max(bone, _basal_bone(frame, along, side, ridge, plan), 2.0)
    frame.join(bone, MAXILLA, smooth=2.0)
    frame.join(bone, (NASAL_SPINE,), both_sides=False, smooth=2.0)
    incisive = np.hypot(x, y + 9 - 0.25 * (z - 24)) - 1.1
    bone = np.minimum(bone, np.where(z > 12, incisive, np.float32(30)))
    return np.minimum(bone, -cavities).astype(np.float32)


def make_jaws(
    frame: Frame,
    d: Dentition,
    sockets: tuple[ToothSocket, ...],
    healing: tuple[Healing, ...],
    plan: JawPlan,
    rng: np.random.Generator,
) -> Jaws:
    """Both jaws of a dentition on the lattice of ``frame``; ``rng`` draws how wide their ridges are."""
    below, above = mandible_curve(d.lower, frame), upper_curve(d.upper)
    lower_ridge = make_ridge(d.teeth, sockets, d.gone, healing, below, False, -d.gap / 2, rng)
    upper_ridge = make_ridge(d.teeth, sockets, d.gone, healing, above, True, d.gap / 2, rng)
    x, y, z = frame.lattice.points
    along, side = below.look(x, y)
    body, canal = _mandible(frame, along, side, _condyle_at(below, frame), d.gap, plan)
    lower = smooth_max(body, lower_ridge.depth(along, side, z), 3.0)
    along, side = above.look(x, y)
    sinus = _sinuses(frame, plan)
    nose, septum, turbinates = _nose(frame, plan)
    upper = _maxilla(frame, along, side, upper_ridge, np.maximum(sinus, nose), plan)
    return Jaws(lower, body, upper, sinus, _walled(frame), nose, septum, _vomer(frame, plan), turbinates, canal, side)


def _vomer(frame: Frame, plan: JawPlan) -> Array:
    """How far inside a point lies of where the septum of the nose is bone; in front it is cartilage."""
    _, y, z = frame.points
    bottom = plan.vault + plan.palate
    return np.asarray(np.minimum(np.minimum(y + 12 - 0.4 * (z - bottom), 40 - y), np.minimum(z - bottom, 64 - z)))


def _walled(frame: Frame) -> Array:
    """How far inside a point lies of where the maxillary sinuses have walls of their own."""
    y, z = frame.points[1:]
    return np.asarray(np.minimum(50 - z, np.minimum(36 - y, y + 24)), np.float32)
