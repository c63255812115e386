"""Roots by tooth type: how many, how they part, their sections, taper and curvature.

Numbers of roots and canals follow B. M. Cleghorn, W. H. Christie, C. C. S. Dong (J Endod 2006;32:813-821 upper first
molar, 2007;33:1031-1037 lower second premolar, and the chapters of *Mosby's Dental Anatomy* they grew into), O. V. de
Pablo et al. (lower first molar, J Endod 2010;36:1919-1931: a third root in about 13 %, mostly in East Asia) and F. J.
Vertucci (Endodontic Topics 2005;10:3-29: canals). In: half axes of the cervix and the root's length in mm. Out: the
branches of a root in the frame of the tooth.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.phantom.sections import ANGLES, COS, DIRECTIONS, SIN, Stack

Array = NDArray[Any]


@dataclass(frozen=True)
class Branch:
    """One root: middle (u, v) where it leaves the trunk and at its tip, half axes (md, bl) there; all mm.

    ``length`` is that from the cervix; ``bend`` how far its last third turns to distal (mm); ``groove`` the depth of
    the grooves on its mesial and distal side as a share of its radius; ``taper`` the exponents (p, q) of the
    width (1 - tau^p)^q along the free part; ``canals`` their number.
    """

    base: tuple[float, float]
    apex: tuple[float, float]
    half_axes: tuple[float, float]
    length: float
    bend: float = 0.0
    groove: float = 0.0
    taper: tuple[float, float] = (1.5, 0.62)
    canals: int = 1

    def width(self, tau: Array) -> Array:
        """Width at shares ``tau`` of the free length, relative to that at its start."""
        p, q = self.taper
        return np.maximum(1 - np.clip(tau, 0, 1) ** p, 0.0) ** q

    def middle(self, tau: Array) -> Array:
        """Middle (n, 2) in mm at shares ``tau`` (n,) of the free length."""
        tau = np.clip(tau, 0, 1)
        straight = np.array(self.base) + (np.array(self.apex) - np.array(self.base)) * tau[:, None] ** 1.15
        return straight - np.stack([self.bend * np.clip((tau - 0.35) / 0.65, 0, 1) ** 2, np.zeros_like(tau)], 1)

    def section(self) -> Array:
        """Radii (DIRECTIONS,) in mm of the section at the start of the free part."""
        ellipse = 1 / np.hypot(COS / self.half_axes[0], SIN / self.half_axes[1])
        sides = np.exp(-((np.sin(ANGLES) * self.half_axes[1] / (0.55 * self.half_axes[0] + 0.3)) ** 2))
        return ellipse * (1 - self.groove * sides)

    def stack(self, trunk: float, step: float) -> Stack:
        """The branch from its tip up into a trunk of ``trunk`` mm."""
        w = np.arange(-self.length, -0.4 * trunk + step, step)
        tau = (-w - trunk) / (self.length - trunk)
        # Inside the trunk the root fades, so that no edge of it shows on the trunk's wall.
        buried = 1 - 0.5 * np.clip((w + trunk) / (0.6 * trunk), 0, 1)
        radius = np.maximum((self.width(tau) * buried)[:, None] * self.section(), 0.05)
        return Stack(-self.length, step, self.middle(tau), radius)


@dataclass(frozen=True)
class _Plan:
    """A branch in shares: of the cervix's half axes, of the root length."""

    base: tuple[float, float]
    apex: tuple[float, float]
    half: tuple[float, float]
    length: float
    groove: float = 0.0
    canals: int = 1


_SINGLE = {
    (True, 1): (0.0, (2.0, 0.58)),
    (True, 2): (0.03, (2.0, 0.58)),
    (True, 3): (0.06, (2.0, 0.6)),
    (True, 4): (0.16, (1.9, 0.55)),
    (True, 5): (0.12, (1.8, 0.58)),
    (False, 1): (0.1, (2.2, 0.46)),
    (False, 2): (0.1, (2.2, 0.46)),
    (False, 3): (0.09, (2.0, 0.62)),
    (False, 4): (0.06, (1.7, 0.62)),
    (False, 5): (0.06, (1.6, 0.66)),
}
"""Depth of the grooves and taper of single roots by (upper, position)."""

_UPPER_MOLAR = (
    _Plan((0.46, 0.46), (0.62, 0.7), (0.36, 0.46), 0.95, 0.12, 2),
    _Plan((-0.46, 0.44), (-0.66, 0.62), (0.34, 0.38), 0.92),
    _Plan((-0.04, -0.5), (-0.06, -1.05), (0.52, 0.4), 1.02),
)
_LOWER_MOLAR = (
    _Plan((0.56, 0.0), (0.8, 0.0), (0.34, 0.82), 1.0, 0.2, 2),
    _Plan((-0.54, 0.0), (-0.72, 0.0), (0.35, 0.74), 0.95, 0.1),
)
_TWO_UPPER = (
    _Plan((0.0, 0.46), (0.0, 0.75), (0.72, 0.46), 0.98),
    _Plan((0.0, -0.46), (0.0, -0.7), (0.7, 0.44), 0.95),
)
_LINGUAL_THIRD = _Plan((-0.5, -0.62), (-0.6, -0.95), (0.3, 0.3), 0.85)
_BUCCAL_LINGUAL = (
    _Plan((0.05, 0.45), (0.1, 0.6), (0.8, 0.45), 1.0),
    _Plan((0.0, -0.45), (0.0, -0.6), (0.72, 0.42), 0.9),
)


@dataclass(frozen=True)
class Roots:
    """The branches of a tooth's root and the length in mm of the trunk they leave."""

    branches: tuple[Branch, ...]
    trunk: float


def _plans(upper: bool, position: int, rng: np.random.Generator) -> tuple[tuple[_Plan, ...], bool]:
    """The branches of a tooth type and whether they are fused, drawn by their frequencies."""
    chance = rng.random()
    if position >= 6 and upper:
        return _UPPER_MOLAR, chance < {6: 0.04, 7: 0.25, 8: 0.6}[position]
    if position >= 6:
        plans: tuple[_Plan, ...] = _LOWER_MOLAR
        if position == 6 and rng.random() < 0.06:
            plans = (*plans, _LINGUAL_THIRD)
        return plans, chance < {6: 0.02, 7: 0.16, 8: 0.45}[position]
    two = {(True, 4): 0.57, (True, 5): 0.09, (False, 3): 0.03, (False, 4): 0.02}.get((upper, position), 0.0)
    if chance < two:
        return (_TWO_UPPER if upper else _BUCCAL_LINGUAL), False
    return (), False


def _branch(
    plan: _Plan, length: float, trunk: float, half: tuple[float, float], spread: float, rng: np.random.Generator
) -> Branch:
    """A branch in mm with individual course; ``spread`` scales how far it diverges."""
    # Short free ends leave little room for curves.
    room = min(1.0, (1 - trunk) * length / 8)
    base = (plan.base[0] * half[0], plan.base[1] * half[1])
    out = ((plan.apex[0] - plan.base[0]) * spread * half[0], (plan.apex[1] - plan.base[1]) * spread * half[1])
    return Branch(
        base,
        (base[0] + out[0] + room * float(rng.normal(0, 0.3)), base[1] + out[1] + room * float(rng.normal(0, 0.25))),
        (plan.half[0] * half[0], plan.half[1] * half[1]),
        length * plan.length * float(rng.uniform(0.96, 1.04)),
        room * max(-0.4, float(rng.normal(1.0, 0.7))),
        plan.groove * float(rng.uniform(0.5, 1.5)),
        (float(rng.uniform(1.5, 2.0)), float(rng.uniform(0.6, 0.75))),
        plan.canals,
    )


def draw_roots(
    upper: bool,
    position: int,
    length: float,
    half: tuple[float, float],
    rng: np.random.Generator,
    trunk: float | None = None,
) -> Roots:
    """The roots of a tooth with cervical half axes ``half`` (md, bl) and mean root length, in mm.

    ``trunk`` is the undivided share of the root if that is peculiar (a taurodont).
    """
    plans, fused = _plans(upper, position, rng)
    if not plans:
        groove, taper = _SINGLE.get((upper, position), (0.05, (1.7, 0.62)))
        shift = (-abs(float(rng.normal(0.5, 0.4))), float(rng.normal(0, 0.4)))
        bend = max(-0.3, float(rng.normal(0.7, 0.7)))
        two = rng.random() < {1: 0.3, 2: 0.3, 4: 0.25, 5: 0.12}.get(position, 0.05) and not upper
        vary = (taper[0] * float(rng.uniform(0.9, 1.15)), taper[1] * float(rng.uniform(0.88, 1.12)))
        one = Branch((0.0, 0.0), shift, half, length, bend, groove * float(rng.uniform(0.4, 1.6)), vary, 1 + two)
        return Roots((one,), 0.0)
    if fused:
        share, spread = float(rng.uniform(0.55, 0.8)), float(rng.uniform(0.0, 0.3))
        # Where fused roots part at last, the root has become as narrow as a single one would be there.
        half = (half[0] * (1 - share**2) ** 0.6, half[1] * (1 - share**2) ** 0.6)
    else:
        share = trunk or float(rng.uniform(0.24, 0.36) + (0.15 if len(plans) == 2 and position < 6 else 0.0))
        spread = float(rng.uniform(0.5, 1.4)) * {6: 1.0, 7: 0.65, 8: 0.4}.get(position, 0.8)
    return Roots(tuple(_branch(plan, length, share, half, spread, rng) for plan in plans), share * length)


def shortened(roots: Roots, share: float) -> Roots:
    """The roots cut to ``share`` of their free length with a blunt tip, as resorption leaves them."""
    return Roots(
        tuple(
            replace(b, length=roots.trunk + (b.length - roots.trunk) * share, taper=(3.0, 0.5), bend=b.bend * share)
            for b in roots.branches
        ),
        roots.trunk,
    )


def trunk_outline(roots: Roots) -> Array:
    """Radii (DIRECTIONS,) in mm around all branches where they part, with the grooves between them."""
    reach = np.arange(0.0, 9.0, 0.1)
    u, v = reach * COS[:, None], reach * SIN[:, None]
    inside = np.zeros(u.shape, bool)
    for branch in roots.branches:
        du, dv = u - branch.base[0], v - branch.base[1]
        turn = np.rint(np.arctan2(dv, du) * (DIRECTIONS / (2 * np.pi))).astype(int) % DIRECTIONS
        inside |= np.hypot(du, dv) < branch.section()[turn]
    furthest = np.where(inside.any(1), reach[len(reach) - 1 - inside[:, ::-1].argmax(1)], 0.0)
    furthest = np.maximum(furthest, 0.55 * furthest.max())
    kernel = np.array([1, 2, 3, 2, 1]) / 9
    return np.convolve(np.concatenate([furthest[-2:], furthest, furthest[:2]]), kernel, "valid")
