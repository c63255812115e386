"""Against what the inclination of a tooth is measured: the occlusal plane and the direction of the arch beside it.

In go the fitted arches of a mouth (:mod:`ToothTopoSegLib.topology.arch`), which are made to number teeth and stay near
the mean arch, and the tops of the crowns on their long axes; out come unit vectors (LPS). The occlusal plane is the two
parallel planes, one a jaw, nearest to the tops; third molars have no say, for they often lie deep, and no more have
other teeth that have not come through. The arch of each jaw is the fitted one, moved, turned and stretched a little to
run through its tops.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.anatomy import fdi as teeth
from ToothTopoSegLib.topology.arch import Arch, Arches

Floats = NDArray[np.float64]

_FEWEST = 3
"""Fewer tops show no plane."""
_DEEP_MM = 4.0
"""A crown that stays so far behind the others of its jaw has not come through."""
_LEVEL_DEGREES = 3.0
"""How far the fitted plane is from the true one (standard deviation of the prior), for heights that vary by 1 mm."""
_ROUNDS = 4
_OFF_MM = 0.8
"""How far a tooth stands beside its arch."""
_PRIORS = np.array([np.radians(1.5), 0.5, 1.0, 0.018, 0.05, 0.03])
"""How far the fitted arch is from that of the tops (standard deviations): turned (rad), to the left and backwards (mm),
wider, deeper, and wider at the back (shares)."""
_BACK_MM = 40.0
_SEEN = float(np.cos(np.radians(45)))
"""Least share of a long axis in the plane of an angle: a tooth seen more from its end shows no inclination there."""
_STEP = 1e-3
"""Share of the standard deviations over which slopes are taken."""


@dataclass(frozen=True, eq=False)
class CrownTop:
    """Where the long axis of a tooth leaves its crown (LPS mm), and in which jaw it stands."""

    fdi: int
    upper: bool
    point: Floats


@dataclass(frozen=True)
class Inclination:
    """Angles in degrees of a long axis against the arch at its place.

    ``tip`` (mesiodistal) is positive where the crown leans to mesial, ``torque`` (buccolingual) where it leans to the
    lips or the cheek. Of a tooth that lies down in one of these planes the other angle is None: there every degree of
    the arch's own direction would count several times.
    """

    tip: float | None
    torque: float | None


def inclination(axis: Floats, mesial: Floats, buccal: Floats, occlusal: Floats) -> Inclination:
    """Tip and torque of a long axis towards the crown against the unit vectors of the arch at its place (all LPS)."""
    return Inclination(*(_leaning(float(axis @ way), float(axis @ occlusal)) for way in (mesial, buccal)))


def _leaning(aside: float, out: float) -> float | None:
    """Angle in degrees of a long axis seen in a plane, where it shows enough of itself."""
    return float(np.degrees(np.arctan2(aside, out))) if np.hypot(aside, out) >= _SEEN else None


def arch_frame(arch: Arch, point: Floats, up: Floats, upper: bool) -> tuple[Floats, Floats, Floats]:
    """Unit vectors (LPS) mesial, buccal and occlusal of an arch beside a point (3,) LPS mm."""
    along = float(arch.place(point[None])[0][0])
    # between the vertices of the curve its direction turns evenly; that of its straight pieces would jump
    tangents = np.gradient(arch.line, arch.along, axis=0)
    left = np.array([np.interp(along, arch.along, tangents[:, i]) for i in range(3)])
    left -= left @ up * up
    left /= np.linalg.norm(left)
    return left * (-1 if along > 0 else 1), np.cross(left, up), -up if upper else up


def occlusal_up(arches: Arches, tops: Sequence[CrownTop]) -> Floats:
    """The upward unit normal (LPS) of the occlusal plane; that of the arches where too few crowns show it."""
    first = arches.axes[2]
    chosen = [top for top in tops if teeth.position(top.fdi) != 8]
    if len(chosen) < _FEWEST:
        return first
    points, upper = np.stack([top.point for top in chosen]), np.array([top.upper for top in chosen])
    points = points - points.mean(axis=0)
    up = first
    for _ in range(_ROUNDS):
        side = np.array([1.0, 0.0, 0.0]) - up[0] * up
        side /= np.linalg.norm(side)
        basis = np.stack([side, np.cross(up, side)])
        come = ~_deep(points @ up, upper)
        design = np.column_stack([points @ basis.T, upper, ~upper])[come].astype(float)
        # slopes that bring the plane back to the fitted one, and nothing for a jaw that is not there
        prior = np.diag([1 / np.tan(np.radians(_LEVEL_DEGREES))] * 2 + [1e-6] * 2)
        back = np.array([*(-(basis @ first) / (up @ first)), 0.0, 0.0])
        heights = np.concatenate([(points @ up)[come], prior @ back])
        slope = np.linalg.lstsq(np.concatenate([design, prior]), heights, rcond=None)[0][:2]
        up = up - slope @ basis
        up = up / np.linalg.norm(up)
    return np.asarray(up)


def _deep(heights: Floats, upper: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which of the tops at these heights (n,) in mm stay behind those of their jaw."""
    behind = np.zeros(len(heights))
    for jaw, sign in ((upper, 1.0), (~upper, -1.0)):
        if jaw.any():
            behind[jaw] = sign * (heights[jaw] - np.median(heights[jaw]))
    return behind > _DEEP_MM


def arch_through(arch: Arch, back: Floats, points: Floats) -> Arch:
    """The arch moved, turned and stretched to run through points (n, 3) LPS mm, as far as :data:`_PRIORS` let it.

    ``back`` is the unit vector (LPS) backwards. Least squares with Huber weights, by Gauss-Newton steps.
    """

    def residuals(unknown: Floats) -> Floats:
        return np.concatenate([_changed(arch, back, unknown * _PRIORS).place(points)[1] / _OFF_MM, unknown])

    unknown = np.zeros(len(_PRIORS))
    for _ in range(_ROUNDS):
        now = residuals(unknown)
        slopes = np.stack([(residuals(unknown + step) - now) / _STEP for step in _STEP * np.eye(len(unknown))], axis=1)
        weights = np.sqrt(np.minimum(1, 1 / np.maximum(np.abs(now), 1e-9)))
        weights[len(points) :] = 1.0
        unknown = unknown - np.linalg.lstsq(slopes * weights[:, None], now * weights, rcond=None)[0]
    return _changed(arch, back, unknown * _PRIORS)


def _changed(arch: Arch, back: Floats, by: Floats) -> Arch:
    """The arch changed by the six unknowns of :data:`_PRIORS`; its front stays where it is but for the movement."""
    turned, leftwards, backwards, wider, deeper, wider_back = by
    left = np.cross(back, arch.up)
    front = arch.line[int(np.argmin(np.abs(arch.along)))]
    apart = arch.line - front
    x, y, z = apart @ left, apart @ back, apart @ arch.up
    x = x * (1 + wider + wider_back * y / _BACK_MM)
    y = y * (1 + deeper)
    cos, sin = np.cos(turned), np.sin(turned)
    x, y = cos * x - sin * y + leftwards, sin * x + cos * y + backwards
    line = front + x[:, None] * left + y[:, None] * back + z[:, None] * arch.up
    steps = np.linalg.norm(np.diff(line, axis=0), axis=1)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    return Arch(line, along - along[int(np.argmin(np.abs(arch.along)))], arch.up)
