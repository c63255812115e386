"""Crown forms by tooth type: contours of the four sides, outline, cusps, ridges and fissures, cervical line.

The numbers describe what S. J. Nelson and M. M. Ash, *Wheeler's Dental Anatomy, Physiology and Occlusion*, draw of
each type: where the contours are highest (contacts between neighbours, buccal and lingual height of contour), how far
the crown narrows to the lingual side, the place and height of every cusp, and how much the cervical line rises between
teeth (table "measurements of the teeth", curvature of the cervical line). Lengths are in mm or, where so named, shares
of the crown's half axes and height; u runs to mesial, v to buccal, w to occlusal.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.phantom.sections import ANGLES, Outline

Array = NDArray[Any]

ROOF_STEP = 0.15
"""Step in mm of the table of an occlusal surface."""


@dataclass(frozen=True)
class Side:
    """Contour of one side.

    ``peak`` is the height (share of the crown) of its greatest width, ``top`` the share of that width left at the
    occlusal margin, ``power`` how it falls from one to the other (below 1 hollow, above 1 bulging).
    """

    peak: float
    top: float
    power: float

    def contour(self, t: Array, cervix: float) -> Array:
        """Half axis (share of the greatest) at heights ``t`` (shares of the crown), ``cervix`` that at the cervix."""
        rise = cervix + (1 - cervix) * np.sin(np.clip(t / self.peak, 0, 1) * (np.pi / 2))
        fall = 1 - (1 - self.top) * np.clip((t - self.peak) / (1 - self.peak), 0, 1) ** self.power
        return np.minimum(rise, fall)


@dataclass(frozen=True)
class Ridge:
    """A ridge from ``start`` to ``end`` (shares of the half axes), ``drop`` mm below the top, falling to both sides by
    ``slope`` mm a mm."""

    start: tuple[float, float]
    end: tuple[float, float]
    drop: float
    slope: float


@dataclass(frozen=True)
class Cusp:
    """A cusp tip at (``u``, ``v``) in shares of the half axes, ``drop`` mm below the highest one."""

    u: float
    v: float
    drop: float
    slope: float


@dataclass(frozen=True)
class Relief:
    """A bulge (``height`` above 0) or hollow of a side wall, as a share of its radius.

    ``angle`` is its direction in degrees (0 mesial, 90 buccal), ``width`` its half width in degrees, ``at`` and
    ``extent`` its place and half length in shares of the crown's height.
    """

    angle: float
    width: float
    at: float
    extent: float
    height: float


@dataclass(frozen=True)
class CrownForm:
    """The form of a crown without its size.

    ``sides`` are the contours to mesial, distal, buccal, lingual; ``power`` the outline's exponent at the cervix and at
    the contour; ``taper`` and ``shear`` as in :class:`Outline`; ``pit`` the depth in mm of the fissures; ``line`` the
    rise in mm of the cervical line to mesial and distal; ``rounding`` that of the occlusal margin in mm.
    """

    sides: tuple[Side, Side, Side, Side]
    power: tuple[float, float]
    taper: float
    shear: float
    cusps: tuple[Cusp, ...]
    ridges: tuple[Ridge, ...]
    relief: tuple[Relief, ...]
    pit: float
    line: tuple[float, float]
    rounding: float

    def outline(self, t: Array, crown: tuple[float, float], cervix: tuple[float, float]) -> Outline:
        """Sections at heights ``t`` (n,) of a crown with half axes ``crown`` and ``cervix`` (md, bl) in mm."""
        low = (cervix[0] / crown[0], cervix[0] / crown[0], cervix[1] / crown[1], cervix[1] / crown[1])
        half = (crown[0], crown[0], crown[1], crown[1])
        axes = [side.contour(t, c) * h for side, c, h in zip(self.sides, low, half, strict=True)]
        grown = np.clip(t / 0.4, 0, 1)
        power = self.power[0] + (self.power[1] - self.power[0]) * grown
        return Outline(axes[0], axes[1], axes[2], axes[3], power, np.full_like(t, self.taper), self.shear * grown)

    def carve(self, t: Array, radius: Array) -> Array:
        """Radii (n, DIRECTIONS) at heights ``t`` (n,) with the bulges and hollows of the side walls."""
        for relief in self.relief:
            turn = (ANGLES - np.radians(relief.angle) + np.pi) % (2 * np.pi) - np.pi
            across = np.exp(-((turn / np.radians(relief.width)) ** 2))
            along = np.exp(-(((t - relief.at) / relief.extent) ** 2))
            radius = radius * (1 + relief.height * along[:, None] * across)
        return radius

    def roof(self, crown: tuple[float, float]) -> tuple[Array, float]:
        """Depth (n, n) in mm of the occlusal surface below the highest tip over (u, v), and its half extent in mm."""
        from scipy.ndimage import gaussian_filter

        half = max(crown) * 1.3 + 1
        at = np.arange(-half, half + ROOF_STEP, ROOF_STEP)
        u, v = np.meshgrid(at / crown[0], at / crown[1], indexing="ij")
        tips = [Ridge((c.u, c.v), (c.u, c.v), c.drop, c.slope) for c in self.cusps]
        depth = np.full(u.shape, np.inf)
        for ridge in (*tips, *self.ridges):
            depth = np.minimum(depth, ridge.drop + ridge.slope * _to_segment(u, v, ridge, crown))
        depth = gaussian_filter(np.minimum(depth, self.pit), 0.22 / ROOF_STEP)
        return depth - depth.min(), half


def _to_segment(u: Array, v: Array, ridge: Ridge, crown: tuple[float, float]) -> Array:
    """Distance in mm of points (shares of the half axes) from the line of a ridge."""
    (a, b), (c, d) = ridge.start, ridge.end
    along = np.array([(c - a) * crown[0], (d - b) * crown[1]])
    du, dv = (u - a) * crown[0], (v - b) * crown[1]
    share = np.clip((du * along[0] + dv * along[1]) / max(float(along @ along), 1e-9), 0, 1)
    # Cusps are longer ridges mesiodistally than buccolingually.
    return np.hypot((du - share * along[0]) * (0.8 if a == c and b == d else 1.0), dv - share * along[1])


def _margins(drop: float, half: float = 0.4, at: float = 0.84) -> tuple[Ridge, Ridge]:
    """The mesial and distal marginal ridges, ``drop`` mm below the highest cusp."""
    return (
        Ridge((at, -half), (at, half), drop, 0.75),
        Ridge((-at, -half), (-at, half), drop + 0.3, 0.75),
    )


def _incisor(mesial: Side, distal: Side, labial: Side, lingual: Side, line: tuple[float, float]) -> CrownForm:
    """An incisor: straight edge with a rounded distal corner, cingulum and lingual fossa."""
    edge = Ridge((0.78, 0.0), (-0.55, 0.0), 0.0, 0.45)
    fossa = Relief(-90, 30, 0.62, 0.2, -0.16)
    lobes = (Relief(75, 9, 0.75, 0.3, -0.025), Relief(108, 9, 0.75, 0.3, -0.025))
    return CrownForm(
        (mesial, distal, labial, lingual), (2.1, 2.5), 0.32, 0.0, (), (edge,), (fossa, *lobes), 3.0, line, 0.35
    )


def _canine(mesial: Side, distal: Side, labial: Side, lingual: Side, line: tuple[float, float]) -> CrownForm:
    """A canine: one cusp with a short mesial and a long distal ridge, a labial and a lingual ridge."""
    tip = (Cusp(0.06, 0.0, 0.0, 0.72),)
    relief = (Relief(90, 25, 0.6, 0.35, 0.04), Relief(-50, 18, 0.6, 0.22, -0.08), Relief(-130, 18, 0.6, 0.22, -0.08))
    return CrownForm((mesial, distal, labial, lingual), (2.1, 2.3), 0.32, 0.0, tip, (), relief, 4.0, line, 0.45)


def _premolar(
    sides: tuple[Side, Side, Side, Side], taper: float, cusps: tuple[Cusp, ...], line: tuple[float, float]
) -> CrownForm:
    """A premolar: buccal cusp, one or two lingual ones, marginal ridges, a central groove."""
    lingual = min(c.drop for c in cusps[1:])
    ridges = _margins(1.4 + 0.5 * lingual, 0.3)
    relief = (Relief(90, 28, 0.6, 0.4, 0.03),)
    return CrownForm(sides, (2.1, 2.4), taper, 0.0, cusps, ridges, relief, 2.3 + 0.6 * lingual, line, 0.55)


def _molar(
    sides: tuple[Side, Side, Side, Side],
    taper: float,
    shear: float,
    cusps: tuple[Cusp, ...],
    ridges: tuple[Ridge, ...],
    grooves: tuple[float, ...],
) -> CrownForm:
    """A molar: marginal ridges, fissures between the cusps and ``grooves`` (directions in degrees) down its sides."""
    relief = tuple(Relief(angle, 11, 0.85, 0.3, -0.045) for angle in grooves)
    return CrownForm(sides, (2.35, 2.9), taper, shear, cusps, (*_margins(1.3), *ridges), relief, 2.4, (1.0, 0.2), 0.6)


_UPPER_MOLAR = (Side(0.66, 0.86, 2.0), Side(0.58, 0.82, 2.0), Side(0.22, 0.7, 1.6), Side(0.45, 0.72, 1.9))
_LOWER_MOLAR = (Side(0.66, 0.88, 2.0), Side(0.6, 0.84, 2.0), Side(0.24, 0.56, 1.6), Side(0.5, 0.84, 2.0))
_OBLIQUE = Ridge((0.3, -0.4), (-0.36, 0.42), 1.1, 0.7)

FORMS: dict[tuple[bool, int], CrownForm] = {
    (True, 1): _incisor(
        Side(0.86, 0.95, 2), Side(0.7, 0.86, 2), Side(0.16, 0.24, 1.7), Side(0.2, 0.1, 0.9), (3.5, 2.5)
    ),
    (True, 2): _incisor(Side(0.78, 0.9, 2), Side(0.6, 0.76, 2), Side(0.16, 0.26, 1.7), Side(0.2, 0.1, 0.9), (3, 2)),
    (True, 3): _canine(
        Side(0.66, 0.8, 1.6), Side(0.52, 0.68, 1.6), Side(0.2, 0.26, 1.5), Side(0.22, 0.14, 0.9), (2.5, 1.5)
    ),
    (True, 4): _premolar(
        (Side(0.62, 0.84, 2), Side(0.58, 0.84, 2), Side(0.26, 0.64, 1.6), Side(0.46, 0.64, 1.9)),
        0.14,
        (Cusp(-0.04, 0.5, 0.0, 0.72), Cusp(0.1, -0.46, 0.9, 0.68)),
        (1.0, 0.3),
    ),
    (True, 5): _premolar(
        (Side(0.62, 0.84, 2), Side(0.58, 0.84, 2), Side(0.26, 0.64, 1.6), Side(0.46, 0.66, 1.9)),
        0.08,
        (Cusp(0.02, 0.5, 0.0, 0.62), Cusp(0.08, -0.48, 0.35, 0.62)),
        (1.0, 0.3),
    ),
    (True, 6): _molar(
        _UPPER_MOLAR,
        -0.02,
        0.1,
        (
            Cusp(0.45, 0.52, 0.2, 0.62),
            Cusp(-0.42, 0.5, 0.5, 0.62),
            Cusp(0.3, -0.48, 0.0, 0.55),
            Cusp(-0.5, -0.52, 1.0, 0.55),
        ),
        (_OBLIQUE,),
        (88, -112),
    ),
    (True, 7): _molar(
        _UPPER_MOLAR,
        0.1,
        0.13,
        (
            Cusp(0.46, 0.52, 0.1, 0.62),
            Cusp(-0.4, 0.48, 0.6, 0.62),
            Cusp(0.25, -0.46, 0.0, 0.55),
            Cusp(-0.5, -0.46, 1.4, 0.6),
        ),
        (_OBLIQUE,),
        (88, -118),
    ),
    (True, 8): _molar(
        _UPPER_MOLAR,
        0.2,
        0.12,
        (Cusp(0.44, 0.48, 0.1, 0.55), Cusp(-0.4, 0.44, 0.6, 0.55), Cusp(0.1, -0.44, 0.1, 0.5)),
        (),
        (88,),
    ),
    (False, 1): _incisor(
        Side(0.84, 0.96, 2), Side(0.82, 0.95, 2), Side(0.15, 0.12, 1.7), Side(0.18, 0.24, 1.05), (3.0, 2.0)
    ),
    (False, 2): _incisor(
        Side(0.82, 0.95, 2), Side(0.78, 0.9, 2), Side(0.15, 0.12, 1.7), Side(0.18, 0.24, 1.05), (3.0, 2.0)
    ),
    (False, 3): _canine(
        Side(0.74, 0.9, 1.8), Side(0.6, 0.74, 1.6), Side(0.18, 0.18, 1.5), Side(0.22, 0.22, 0.9), (2.5, 1.0)
    ),
    (False, 4): _premolar(
        (Side(0.64, 0.84, 2), Side(0.62, 0.84, 2), Side(0.28, 0.44, 1.6), Side(0.52, 0.78, 2.0)),
        0.24,
        (Cusp(0.04, 0.18, 0.0, 0.85), Cusp(0.12, -0.62, 1.7, 0.6)),
        (1.0, 0.3),
    ),
    (False, 5): _premolar(
        (Side(0.64, 0.86, 2), Side(0.62, 0.86, 2), Side(0.28, 0.52, 1.6), Side(0.5, 0.8, 2.0)),
        0.06,
        (Cusp(0.04, 0.3, 0.0, 0.66), Cusp(0.16, -0.56, 0.9, 0.6)),
        (1.0, 0.3),
    ),
    (False, 6): _molar(
        _LOWER_MOLAR,
        0.1,
        0.0,
        (
            Cusp(0.5, 0.36, 0.3, 0.6),
            Cusp(-0.12, 0.42, 0.4, 0.6),
            Cusp(-0.66, 0.16, 1.1, 0.6),
            Cusp(0.44, -0.56, 0.0, 0.62),
            Cusp(-0.4, -0.56, 0.3, 0.62),
        ),
        (),
        (76, 138, -90),
    ),
    (False, 7): _molar(
        _LOWER_MOLAR,
        0.06,
        0.0,
        (
            Cusp(0.44, 0.38, 0.3, 0.6),
            Cusp(-0.44, 0.38, 0.4, 0.6),
            Cusp(0.44, -0.56, 0.0, 0.62),
            Cusp(-0.44, -0.56, 0.2, 0.62),
        ),
        (),
        (90, -90),
    ),
    (False, 8): _molar(
        _LOWER_MOLAR,
        0.08,
        0.0,
        (
            Cusp(0.42, 0.36, 0.2, 0.52),
            Cusp(-0.4, 0.34, 0.4, 0.52),
            Cusp(0.42, -0.52, 0.0, 0.55),
            Cusp(-0.42, -0.5, 0.3, 0.55),
        ),
        (),
        (90, -90),
    ),
}
"""Crown forms by (upper, position)."""

THREE_LINGUAL = (Cusp(0.02, 0.3, 0.0, 0.66), Cusp(0.4, -0.56, 0.8, 0.6), Cusp(-0.36, -0.56, 1.4, 0.6))
"""Cusps of a lower second premolar with two lingual ones: the more frequent form (Wheeler)."""
CARABELLI = Relief(-58, 15, 0.55, 0.17, 0.07)


def vary_form(form: CrownForm, upper: bool, position: int, rng: np.random.Generator) -> CrownForm:
    """The form of one person: variants with their frequencies, cusps shifted and steeper or flatter.

    Three cusps on six of ten lower second premolars and a Carabelli trait on four of ten upper first molars (Wheeler);
    upper second molars without a distolingual cusp on one of four.
    """
    cusps, relief = form.cusps, form.relief
    if not upper and position == 5 and rng.random() < 0.6:
        cusps = THREE_LINGUAL
    if upper and position == 7 and rng.random() < 0.25:
        cusps = cusps[:3]
    if upper and position == 6 and rng.random() < 0.4:
        relief = (*relief, replace(CARABELLI, height=float(rng.uniform(0.04, 0.11))))
    if not upper and position == 8 and rng.random() < 0.4:
        cusps = FORMS[False, 6].cusps
    steep = float(rng.uniform(0.85, 1.15))
    cusps = tuple(
        Cusp(
            c.u + float(rng.normal(0, 0.03)),
            c.v + float(rng.normal(0, 0.03)),
            max(0.0, c.drop + float(rng.normal(0, 0.12))),
            c.slope * steep,
        )
        for c in cusps
    )
    taper, shear = form.taper + float(rng.normal(0, 0.03)), form.shear * float(rng.uniform(0.6, 1.4))
    power = (form.power[0], form.power[1] + float(rng.normal(0, 0.15)))
    pit = form.pit * float(rng.uniform(0.85, 1.15))
    return replace(form, cusps=cusps, relief=relief, taper=taper, shear=shear, power=power, pit=pit)
