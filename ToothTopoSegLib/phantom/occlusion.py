"""How natural teeth stand: tight contacts between neighbours, crowding and gaps, the bite, impaction and tooth loss.

Out: a :class:`Dentition` in head coordinates (LPS, mm). Teeth are set along superelliptic arches one after the other,
each pushed against its neighbour until their surfaces are a contact's width apart, and each lower tooth erupts until it
meets the upper ones; so neighbours and antagonists touch and nothing interpenetrates.

Mesiodistal tips are those of L. F. Andrews (*The six keys to normal occlusion*, Am J Orthod 1972;62:296-309); his
inclinations hold for the facial surface and are given here for the long axis. Impaction of third molars follows the
shares of Winter's classes in J. R. Hupp et al., *Contemporary Oral and Maxillofacial Surgery*; upper canines are
impacted in about 2 %.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.anatomy import fdi as teeth
from ToothTopoSegLib.phantom.arch import Arch, Dentition, PlacedTooth
from ToothTopoSegLib.phantom.natural import NaturalTooth, Person, draw_natural, draw_person, twin
from ToothTopoSegLib.phantom.root import shortened

Array = NDArray[Any]

TIP = {True: (5, 8, 10, 3, 3, 5, 5, 2), False: (2, 2, 5, 2, 2, 2, 4, 6)}
"""Mesial tip of the crown in degrees by position 1..8."""
INCLINATION = {True: (21, 17, 6, 0, 0, -2, 0, 5), False: (17, 15, 5, -6, -9, -13, -16, -18)}
"""Buccal inclination of the long axis in degrees by position 1..8."""
MESIOANGULAR, VERTICAL, DISTOANGULAR, HORIZONTAL = (20, 65), (-8, 10), (-40, -15), (75, 100)
WINTER = {
    True: ((VERTICAL, 0.63), (DISTOANGULAR, 0.25), (MESIOANGULAR, 0.12)),
    False: ((MESIOANGULAR, 0.47), (VERTICAL, 0.4), (DISTOANGULAR, 0.08), (HORIZONTAL, 0.05)),
}
"""Tip in degrees and share of impacted third molars, upper and lower."""
LATE = {3: 0.3, 5: 0.3, 7: 0.5}
"""Share by position of the teeth of 11 to 15 year olds that have not come through altogether."""
_UNDER_GUM_MM = 5.5
"""A tooth whose cusps stay this far below the occlusal surface has not come through."""
_ASIDE_MM = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0)
"""How far a lower front tooth is tried to the tongue when the upper ones are in its way."""
LENGTH_MM = 115.0
_TRIES, _CLOSE_MM, _ROOTS_APART_MM = 7, 0.03, 0.3
_SETTLE_MM, _DEEPEST_MM = (-2.5, 1.0), 0.1
"""How far a lower tooth may erupt less or more than its neighbours, and how deep a bite may press two teeth."""


@dataclass(frozen=True)
class CurvedArch(Arch):
    """An arch in front of whose legs stands half a superellipse: ``power`` below 2 tapered, above 2 square."""

    power: float = 2.0

    def polyline(self, length: float) -> Array:
        """Points (n, 2) as (x, y) mm every 0.5 mm from the midline to the patient's left, ``length`` mm far."""
        theta = np.linspace(0, np.pi / 2, 600)
        x = self.half_width * np.sin(theta) ** (2 / self.power)
        curve = np.stack([x, self.depth * (1 - np.cos(theta) ** (2 / self.power))], 1)
        leg = np.arange(1, 2 * int(length))[:, None] * np.array([[self.flare * 0.5, 0.5]])
        curve = np.concatenate([curve, curve[-1] + leg])
        s = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(curve, axis=0).T))])
        at = np.arange(0, length, 0.5)
        return np.stack([np.interp(at, s, curve[:, 0]), self.front + np.interp(at, s, curve[:, 1])], 1)


@dataclass(frozen=True)
class Bite:
    """How a head's teeth are arranged; lengths in mm.

    ``disorder`` is the amount of crowding (0 none, 1 severe), ``spacing`` the mean gap between neighbours where it is
    no crowding, ``diastema`` the gap between the upper central incisors; ``overbite`` is negative in an open bite;
    ``overjet`` what the lower incisors stand behind a contact; ``shift`` moves the lower arch to the left.
    """

    disorder: float
    spacing: float
    diastema: float
    overbite: float
    overjet: float
    spee: float
    shift: float
    gap: float


def draw_bite(rng: np.random.Generator, hard: bool) -> Bite:
    kind = rng.random()
    overbite = rng.uniform(4, 6) if kind < 0.1 else rng.uniform(-5, -0.5) if kind < 0.18 else rng.uniform(1, 3.5)
    return Bite(
        disorder=min(1.2, float(abs(rng.normal(0, 0.5 if hard else 0.28)))),
        spacing=float(rng.uniform(0.3, 1.0)) if rng.random() < 0.1 else 0.0,
        diastema=float(rng.uniform(0.4, 2.5)) if rng.random() < 0.08 else 0.0,
        overbite=float(overbite),
        overjet=float(rng.uniform(1, 5)) if rng.random() < 0.2 else float(rng.uniform(0, 0.3)),
        spee=float(rng.uniform(0.3, 2.8)),
        shift=float(rng.choice([-1, 1]) * rng.uniform(2.5, 4.5)) if rng.random() < 0.06 else float(rng.normal(0, 0.4)),
        gap=float(rng.uniform(0.6, 9)) if rng.random() < 0.4 else 0.0,
    )


def _draw_arches(person: Person, bite: Bite, rng: np.random.Generator) -> tuple[CurvedArch, CurvedArch]:
    """Upper and lower arch: narrow or wide, tapered or square, a little asymmetric; one of twenty upper ones too narrow
    for the lower (crossbite)."""
    scale = float(np.exp(0.04 * person.size))
    half, depth = scale * float(rng.uniform(21.5, 27)), scale * float(rng.uniform(34, 43))
    power, skew = float(rng.uniform(1.8, 2.5)), float(rng.normal(0, 0.02))
    middle = float(rng.normal(0, 0.6))
    narrow = float(rng.uniform(3, 5)) if rng.random() < 0.05 else 0.0
    inside = float(rng.uniform(1.5, 2.8))
    upper = CurvedArch(half - narrow, depth, -depth / 2, middle, float(rng.uniform(0.0, 0.12)), skew, power)
    lower = CurvedArch(
        half - inside,
        depth - 1.5,
        -depth / 2 + 4.0,
        middle + bite.shift,
        float(rng.uniform(0.04, 0.16)),
        skew,
        power + float(rng.uniform(-0.25, 0.1)),
    )
    return upper, lower


@dataclass(frozen=True)
class _Attitude:
    """Own deviations of a tooth: degrees of tilt, tip and turn, mm to buccal and to occlusal."""

    tilt: float
    tip: float
    turn: float
    across: float
    up: float


def _draw_attitude(upper: bool, position: int, bite: Bite, rng: np.random.Generator) -> _Attitude:
    front = 1.0 if position <= 3 else 0.6 if position <= 5 else 0.3
    return _Attitude(
        INCLINATION[upper][position - 1] + float(rng.normal(0, 3.5 + 2 * bite.disorder)),
        TIP[upper][position - 1] + float(rng.normal(0, 2.5 + 3 * bite.disorder)),
        float(rng.normal(0, 3 + 14 * bite.disorder * front)),
        float(rng.normal(0, 0.2 + 1.7 * bite.disorder * front)),
        float(rng.normal(0, 0.15 + 0.3 * bite.disorder)),
    )


def _axes(tangent: Array, left: bool, upper: bool, slope: float, attitude: _Attitude) -> Array:
    """Rows mesial, buccal, occlusal of a tooth on a curve that runs distally along ``tangent`` (x, y)."""
    occlusal = np.array([0.0, 0.0, -1.0 if upper else 1.0])
    mesial = -np.array([tangent[0], tangent[1], 0.0])
    buccal = np.array([tangent[1], -tangent[0], 0.0]) * (1 if left else -1)
    # The curve of Spee stands lower teeth upright on a surface that rises to distal, so that they tip to mesial.
    tip = attitude.tip + np.degrees(np.arctan(slope)) * (-1 if upper else 1)
    occlusal, buccal = _turned(occlusal, buccal, attitude.tilt)
    occlusal, mesial = _turned(occlusal, mesial, tip)
    mesial, buccal = _turned(mesial, buccal, attitude.turn)
    return np.stack([mesial, buccal, occlusal])


def _turned(one: Array, other: Array, degrees: float) -> tuple[Array, Array]:
    """Both vectors after the first has turned by ``degrees`` towards the second."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return c * one + s * other, c * other - s * one


def clearance(points: Array, tooth: PlacedTooth) -> float:
    """Smallest signed distance in mm from points (n, 3) of the head to a natural tooth; 9 if none is near."""
    shape = _shape(tooth)
    local = (points - tooth.cervix) @ tooth.axes.T
    near = np.hypot(local[:, 0], local[:, 1]) < shape.reach + 2
    near &= (local[:, 2] < shape.crown_height + 3) & (local[:, 2] > -shape.depth - 3)
    if not near.any():
        return 9.0
    u, v, w = local[near].T.astype(np.float32)
    return float(shape.surface_distance(u, v, w).min())


def _shape(tooth: PlacedTooth) -> NaturalTooth:
    """The shape of a tooth of this module, which is always a natural one."""
    if not isinstance(tooth.shape, NaturalTooth):
        raise TypeError(
            f"Tooth {tooth.fdi} is a {type(tooth.shape).__name__}; only natural teeth can be measured here."
        )
    return tooth.shape


def surface(tooth: PlacedTooth) -> Array:
    """Points (n, 3) in the head, LPS mm, on the surface of a natural tooth."""
    return _shape(tooth).outside @ tooth.axes + tooth.cervix


def _least(points: Array, others: Sequence[PlacedTooth]) -> float:
    return min((clearance(points, other) for other in others), default=9.0)


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A tooth looking for its place on one side of an arch: ``line`` (n, 2) every 0.5 mm, ``points`` (m, 3) of its
    surface in its own frame, ``level`` the height z in mm its tip has at arc length 0, ``spee`` that of the curve,
    ``lowest`` the arc length it may not go below."""

    fdi: int
    shape: NaturalTooth
    line: Array
    points: Array
    attitude: _Attitude
    level: float
    spee: float
    lowest: float = -np.inf

    def at(self, s: float, up: float = 0.0) -> PlacedTooth:
        """The tooth at arc length ``s`` mm, ``up`` mm farther to occlusal than the curve asks."""
        arc = np.arange(len(self.line)) * 0.5
        x, y = (float(np.interp(s, arc, self.line[:, i])) for i in (0, 1))
        ahead, behind = (np.array([np.interp(s + d, arc, self.line[:, i]) for i in (0, 1)]) for d in (1.5, -1.5))
        tangent = (ahead - behind) / np.linalg.norm(ahead - behind)
        upper = teeth.is_upper(self.fdi)
        y_low = max(y, -30.0)
        slope = 2 * self.spee * y_low / 28**2
        axes = _axes(tangent, teeth.is_left(self.fdi), upper, slope, self.attitude)
        z = self.level + self.spee * ((y_low / 28) ** 2 - 0.4) + (self.attitude.up + up) * (-1 if upper else 1)
        tip = np.array([x, y, z]) + self.attitude.across * axes[1] * (1, 1, 0)
        return PlacedTooth(self.fdi, self.shape, tip - axes[2] * self.shape.crown_height, axes)

    def world(self, tooth: PlacedTooth, above: float = -99.0) -> Array:
        """Surface points (n, 3) in the head of the tooth as placed, those higher than ``above`` mm over the cervix."""
        chosen = self.points[self.points[:, 2] > above]
        return chosen @ tooth.axes + tooth.cervix


def _push(c: _Candidate, s: float, up: float, gap: float, others: Sequence[PlacedTooth], above: float) -> float:
    """The arc length near ``s`` at which the tooth is ``gap`` mm from the nearest of ``others``."""
    for _ in range(_TRIES):
        off = gap - min(_least(c.world(c.at(s, up), above), others), 2.0)
        if abs(off) < _CLOSE_MM:
            break
        s = max(s + off, c.lowest)
    return s


def _from_midline(c: _Candidate, middle: float, gap: float) -> float:
    """The arc length at which a central incisor is ``gap`` mm from the plane between left and right."""
    s, sign = c.shape.crown[0], 1 if teeth.is_left(c.fdi) else -1
    for _ in range(_TRIES):
        off = gap - float((sign * (c.world(c.at(s))[:, 0] - middle)).min())
        s += off
        if abs(off) < _CLOSE_MM:
            break
    return s


def _part_roots(c: _Candidate, s: float, gap: float, others: Sequence[PlacedTooth]) -> tuple[_Candidate, float]:
    """The tooth against its neighbours with its crown, tipped until its roots stand clear of theirs."""
    for _ in range(5):
        s = _push(c, s, 0.0, gap, others, -1.0)
        deep = c.points[c.points[:, 2] < -3.0]
        tooth = c.at(s)
        free = _least(deep @ tooth.axes + tooth.cervix, others)
        if free > _ROOTS_APART_MM:
            break
        turn = float(np.degrees((_ROOTS_APART_MM + 0.2 - free) / 9.0))
        c = replace(c, attitude=replace(c.attitude, tip=c.attitude.tip + min(turn, 6.0)))
    return c, _push(c, s, 0.0, gap, others, -99.0) if free < 0 else s


def _settle(c: _Candidate, s: float, contact: float, antagonists: Sequence[PlacedTooth]) -> float:
    """How far (mm) the tooth erupts until it is ``contact`` mm from the teeth it bites on."""
    up = 0.0
    for _ in range(_TRIES):
        free = _least(c.world(c.at(s, up), 0.0), antagonists)
        if free >= 9.0 or abs(free - contact) < _CLOSE_MM:
            break
        up = float(np.clip(up + (free - contact), *_SETTLE_MM))
    return up


@dataclass(frozen=True)
class Fate:
    """What became of the teeth of a head: FDI numbers lost with their place kept, or without a trace."""

    gone: frozenset[int]
    closed: frozenset[int]
    eights: frozenset[int]


def draw_fate(rng: np.random.Generator, person: Person, hard: bool) -> Fate:
    """Which teeth are lost: none but third molars in most; sparse, free-end, a whole arch, or all (2 %)."""
    formed = 0.65 if rng.random() < 0.72 else 0.0
    eights = {q * 10 + 8 for q in (1, 2, 3, 4) if rng.random() < formed}
    gone: set[int] = set()
    older = (0.4 + person.age / 60) * (1.8 if hard else 1.0)
    share = 0.2 if rng.random() < 0.12 * older else 0.02 * older
    gone |= {q * 10 + p for q in (1, 2, 3, 4) for p in range(1, 8) if rng.random() < share * (0.5 if p < 4 else 1.2)}
    for q in (1, 2, 3, 4):
        if rng.random() < 0.04 * older:
            gone |= {q * 10 + p for p in range(int(rng.integers(4, 7)), 8)}
    whole, all_of = rng.random(), rng.random()
    if all_of < 0.02 or whole < 0.03:
        arches = (1, 2, 3, 4) if all_of < 0.02 else (1, 2) if whole < 0.02 else (3, 4)
        gone |= {q * 10 + p for q in arches for p in range(1, 8)}
        eights -= {q * 10 + 8 for q in arches}
    closed = _closed_gaps(rng, gone)
    return Fate(frozenset(gone), frozenset(closed), frozenset(eights))


def _closed_gaps(rng: np.random.Generator, gone: set[int]) -> set[int]:
    """Teeth whose place has been closed: premolars taken out for orthodontics, upper laterals that never formed."""
    if gone or rng.random() > 0.1:
        return set()
    return {12, 22} if rng.random() < 0.15 else {q * 10 + 4 for q in ((1, 2, 3, 4) if rng.random() < 0.6 else (1, 2))}


def _draw_shapes(person: Person, rng: np.random.Generator) -> dict[int, NaturalTooth]:
    """All 32 teeth of a person; left ones are twins of the right ones, but for one in ten."""
    shapes = {}
    for right in (q * 10 + p for q in (1, 4) for p in range(1, 9)):
        shapes[right] = draw_natural(right, rng, person)
        same = rng.random() < 0.9
        shapes[teeth.mirrored(right)] = twin(shapes[right], rng) if same else draw_natural(right, rng, person)
    return shapes


class _Builder:
    """Sets the teeth of one head, upper arch first."""

    def __init__(self, person: Person, bite: Bite, fate: Fate, rng: np.random.Generator) -> None:
        self.person, self.bite, self.fate, self.rng = person, bite, fate, rng
        self.shapes = _draw_shapes(person, rng)
        self.placed: dict[int, PlacedTooth] = {}

    def arch(self, arch: CurvedArch, upper: bool) -> None:
        """Set both sides of an arch from the midline backwards."""
        for left in (True, False):
            quadrant = (2 if left else 1) if upper else (3 if left else 4)
            line, s = arch.side(left, LENGTH_MM), 0.0
            for position in range(1, 9):
                number = quadrant * 10 + position
                if number in self.fate.closed or (position == 8 and number not in self.fate.eights):
                    continue
                candidate = self._candidate(number, line)
                if position == 8:
                    self._third_molar(candidate, s)
                    continue
                s = self._next(candidate, s, arch.middle)

    def incisor_clearance(self, arch: CurvedArch) -> float:
        """Distance in mm between the lower left central incisor, were it set on ``arch``, and the upper teeth."""
        state = self.rng.bit_generator.state
        candidate = self._candidate(31, arch.side(True, LENGTH_MM), calm=True)
        self.rng.bit_generator.state = state
        tooth = candidate.at(candidate.shape.crown[0])
        return _least(candidate.world(tooth, 0.0), self._antagonists(31))

    def _candidate(self, number: int, line: Array, calm: bool = False) -> _Candidate:
        upper, position = teeth.is_upper(number), teeth.position(number)
        attitude = _draw_attitude(upper, position, replace(self.bite, disorder=0.0) if calm else self.bite, self.rng)
        shape = self.shapes[number]
        level = 0.0 if position > 3 else self._front_level(upper)
        return _Candidate(number, shape, line, shape.outside, attitude, level, self.bite.spee)

    def _front_level(self, upper: bool) -> float:
        """Height z in mm of the incisal edges: both arches share the overbite, an open bite is one of the upper."""
        if self.bite.overbite < 0:
            return -self.bite.overbite if upper else 0.0
        return (-0.65 if upper else 0.35) * self.bite.overbite

    def _neighbours(self, number: int) -> list[PlacedTooth]:
        """Teeth of the same arch that are set and near, lost ones excepted."""
        return [
            t
            for t in self.placed.values()
            if teeth.is_upper(t.fdi) == teeth.is_upper(number) and t.fdi not in self.fate.gone
        ]

    def _antagonists(self, number: int) -> list[PlacedTooth]:
        if teeth.is_upper(number):
            return []
        return [t for t in self.placed.values() if teeth.is_upper(t.fdi) and t.fdi not in self.fate.gone]

    def _gap(self) -> float:
        """Width in mm of one contact: mostly next to nothing."""
        if self.bite.spacing > 0:
            return float(self.rng.gamma(2.0, self.bite.spacing / 2))
        return float(self.rng.uniform(0.15, 0.5) if self.rng.random() < 0.08 else self.rng.uniform(0.0, 0.12))

    def _next(self, c: _Candidate, s: float, middle: float) -> float:
        """Set a tooth behind the one that ends at arc length ``s``; returns where it ends itself."""
        half, late = c.shape.crown[0], self._lateness(c.fdi)
        if late > 0:
            c = _growing(c, float(self.rng.uniform(0.5, 0.9)))
        if teeth.position(c.fdi) == 1:
            wide = self.bite.diastema if teeth.is_upper(c.fdi) else self.bite.spacing
            at = _from_midline(c, middle, wide / 2 + self._gap() / 2)
        else:
            others = self._neighbours(c.fdi)
            after_loss = c.fdi - 1 in self.fate.gone
            # A tooth behind a gap drifts into it; a lost tooth is set where it stood.
            start = s + half - (float(self.rng.uniform(0, 2.5)) if after_loss else 0.0)
            # A crowded tooth stands in front of or behind its neighbour, but never past it.
            c = replace(c, lowest=start - 0.8 * half)
            c, at = self._against(c, start, others, loose=after_loss or c.fdi in self.fate.gone)
        c, up = (c, -late) if late > 0 else self._meet_antagonists(c, at)
        if teeth.position(c.fdi) > 1 and c.fdi not in self.fate.gone:
            at = _push(c, at, up, 0.05, self._neighbours(c.fdi), -99.0) if self._hits(c, at, up) else at
        self.placed[c.fdi] = replace(c.at(at, up), erupted=up > -_UNDER_GUM_MM)
        return at + half

    def _hits(self, c: _Candidate, at: float, up: float) -> bool:
        return _least(c.world(c.at(at, up)), self._neighbours(c.fdi)) < -_CLOSE_MM

    def _meet_antagonists(self, c: _Candidate, at: float) -> tuple[_Candidate, float]:
        """The tooth and how far it erupts; a lower front tooth gives way to the tongue where it cannot erupt."""
        start, tried = c, _ASIDE_MM if teeth.position(c.fdi) <= 3 and not teeth.is_upper(c.fdi) else (0.0,)
        up = self._erupted(c, at)
        for aside in tried:
            c = replace(start, attitude=replace(start.attitude, across=start.attitude.across - aside))
            if _least(c.world(c.at(at, up), 0.0), self._antagonists(c.fdi)) > -0.1:
                break
        return c, up

    def _against(
        self, c: _Candidate, start: float, others: Sequence[PlacedTooth], loose: bool
    ) -> tuple[_Candidate, float]:
        if not loose:
            return _part_roots(c, start, self._gap(), others)
        close = _least(c.world(c.at(start)), others)
        return c, _push(c, start, 0.0, 0.05, others, -99.0) if close < 0.05 else start

    def _lateness(self, number: int) -> float:
        """How far (mm) a tooth has still to come: canines, second premolars and molars of the young."""
        position = teeth.position(number)
        chance = LATE.get(position, 0.0) if self.person.age < 15 and number not in self.fate.gone else 0.0
        return float(self.rng.uniform(1, 9 if position == 7 else 7)) if self.rng.random() < chance else 0.0

    def _erupted(self, c: _Candidate, at: float) -> float:
        """Eruption beyond the curve in mm, to the antagonists' contact."""
        if teeth.is_upper(c.fdi) or (self.bite.overbite < 0 and teeth.position(c.fdi) <= 3):
            return 0.0
        contact = float(self.rng.uniform(0.0, 0.12) if self.rng.random() < 0.8 else self.rng.uniform(0.1, 0.8))
        return _settle(c, at, contact, self._antagonists(c.fdi))

    def _third_molar(self, c: _Candidate, s: float) -> None:
        """Set a third molar: through like the others, or impacted in one of Winter's classes."""
        young = self.person.age < 18
        if young:
            c = _growing(c, float(np.clip((self.person.age - 12) / 9, 0.3, 0.9)))
        through = not young and self.rng.random() < (0.65 if teeth.is_upper(c.fdi) else 0.55)
        others = [*self._neighbours(c.fdi), *self._antagonists(c.fdi)]
        if through:
            c, at = _part_roots(c, s + c.shape.crown[0], self._gap(), self._neighbours(c.fdi))
            self.placed[c.fdi] = c.at(at, _settle(c, at, 0.1, self._antagonists(c.fdi)))
            return
        tip, deep = self._impaction(teeth.is_upper(c.fdi), young)
        c = replace(c, attitude=replace(c.attitude, tip=tip))
        # The height is that of the middle of the occlusal surface: one that lies on its side reaches higher.
        deep += c.shape.crown[0] * abs(np.sin(np.radians(tip)))
        at = s + c.shape.crown[0]
        for _ in range(_TRIES):
            at = _push(c, at, -deep, float(self.rng.uniform(0.05, 0.3)), others, -99.0)
            if _least(c.world(c.at(at, -deep)), others) > -0.1:
                break
            at += 1.0
        self.placed[c.fdi] = replace(c.at(at, -deep), erupted=deep < _UNDER_GUM_MM)

    def _impaction(self, upper: bool, young: bool) -> tuple[float, float]:
        """Tip in degrees and depth in mm of an impacted third molar."""
        classes = WINTER[upper]
        low, high = classes[int(self.rng.choice(len(classes), p=[share for _, share in classes]))][0]
        deep = self.rng.uniform(5, 10) if young or upper else self.rng.uniform(1, 8)
        return float(self.rng.uniform(low, high)), float(deep)


def _growing(c: _Candidate, share: float) -> _Candidate:
    """The tooth with only ``share`` of its free root formed and an open apex."""
    shape = replace(c.shape, root=shortened(c.shape.root, share), open_apex=True)
    return replace(c, shape=shape, points=shape.outside)


def _impact_canine(builder: _Builder, rng: np.random.Generator) -> None:
    """Move an upper canine, if it is that one in fifty, to the palate above its neighbours' roots."""
    for number in (13, 23):
        tooth = builder.placed.get(number)
        if tooth is None or number in builder.fate.gone or rng.random() > 0.02:
            continue
        mesial, buccal, occlusal = tooth.axes
        occlusal, mesial = _turned(occlusal, mesial, float(rng.uniform(15, 40)))
        axes = np.stack([mesial, buccal, occlusal])
        others = [t for t in builder.placed.values() if t.fdi != number and teeth.is_upper(t.fdi)]
        points = _shape(tooth).outside
        start = tooth.cervix - occlusal * float(rng.uniform(7, 11)) - buccal * (1, 1, 0) * 3.0
        for back in np.arange(0.0, 8.0, 0.5):
            moved = PlacedTooth(number, tooth.shape, start - back * buccal * (1, 1, 0), axes, erupted=False)
            if _least(points @ axes + moved.cervix, others) > 0.3:
                builder.placed[number] = moved
                break


def _opening(placed: dict[int, PlacedTooth], gone: frozenset[int]) -> float:
    """How far (mm) the jaws must open for no lower tooth that is present to lie inside an upper one."""
    lower = [t for t in placed.values() if not teeth.is_upper(t.fdi) and t.fdi not in gone]
    upper = [t for t in placed.values() if teeth.is_upper(t.fdi) and t.fdi not in gone]
    apart = 0.0
    for cloud in map(surface, lower):
        while (free := _least(cloud - np.array([0.0, 0.0, apart]), upper)) < -_DEEPEST_MM:
            apart -= free
    return apart


def _treated(
    placed: dict[int, PlacedTooth], fate: Fate, bracketed: bool, heavy: bool, rng: np.random.Generator
) -> Iterator[PlacedTooth]:
    """The teeth with their restorations and brackets, and implants in place of some lost ones."""
    implants = rng.random() < 0.35
    for number, tooth in placed.items():
        if number in fate.gone:
            implant = implants and rng.random() < 0.4
            yield replace(tooth, material="implant" if implant else "natural")
            continue
        chance = (0.22 if heavy else 0.04) * (1.0 if number % 10 >= 4 else 0.35) * (0.3 if number % 10 == 8 else 1.0)
        material = "natural"
        if tooth.erupted and rng.random() < chance:
            material = str(rng.choice(["filling", "filling", "filling", "crown", "root filling", "post"]))
        yield replace(tooth, material=material, bracket=bracketed and number % 10 < 8 and tooth.erupted)


def draw_natural_dentition(rng: np.random.Generator, hard: bool = False) -> Dentition:
    """A random dentition of natural teeth; ``hard`` means more crowding, more missing teeth and more metal."""
    person, bite = draw_person(rng), draw_bite(rng, hard)
    fate = draw_fate(rng, person, hard)
    upper, lower = _draw_arches(person, bite, rng)
    builder = _Builder(person, bite, fate, rng)
    builder.arch(upper, True)
    _impact_canine(builder, rng)
    for _ in range(3):
        free = min(builder.incisor_clearance(lower), 2.0)
        lower = replace(lower, front=lower.front + float(np.clip(bite.overjet - free, -2, 2)))
    builder.arch(lower, False)
    # What still bites too deep opens the jaws; then the head is opened as far as it is on this scan.
    apart = bite.gap + _opening(builder.placed, fate.gone)
    moved = {
        n: replace(t, cervix=t.cervix + np.array([0.0, 0.0, apart / 2 if teeth.is_upper(n) else -apart / 2]))
        for n, t in builder.placed.items()
    }
    bracketed = bool(rng.random() < (0.3 if hard else 0.2))
    heavy = bool(rng.random() < (0.6 if hard else 0.3))
    everyone = list(_treated(moved, fate, bracketed, heavy, rng))
    present = tuple(t for t in everyone if t.fdi not in fate.gone)
    lost = tuple(t for t in everyone if t.fdi in fate.gone)
    return Dentition(present, upper, lower, apart, bite.spee, bracketed, lost)
