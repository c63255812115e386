"""The long axis of a tooth, its length along it, and the tips of its roots.

In goes the body of a tooth as voxel positions in LPS mm, out comes a :class:`LongAxis`. The axis runs from the middle
of the root tips to the middle of the crown, as by H. Tong, R. Enciso, D. Van Elslande, P. W. Major, G. T. Sameshima,
*A new method to measure mesiodistal angulation and faciolingual inclination of each whole tooth with volumetric
cone-beam computed tomography images*, Am J Orthod Dentofacial Orthop 2012;142:133-143. Principal axes, which a curved
root or a wide crown pulls aside, are only where the search begins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.topology.shape import tooth_axes

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_CROWN = (0.70, 0.94)
"""Part of the length in which the middle of the crown is taken: without the cusps, whose heights differ."""
_ROOTS_UP_TO = 0.55
"""Root tips lie below this part of the length."""
_ROOT_MM, _ROOT_VOXELS = 0.5, 1.6
"""A root goes so far down on its own, and as many voxels; less is a ripple of its surface. Fused roots part late."""
_TIP_MM, _STEP_MM = 0.6, 0.25
_ROUNDS = 3
_LYING = 0.5
"""Cosine between axis and vertical below which the shape, not the jaw, tells where the crown is."""


@dataclass(frozen=True, eq=False)
class LongAxis:
    """``direction`` is the unit vector (LPS) from the roots to the crown, ``crown`` the middle of the crown and
    ``tips`` (n, 3) the ends of the roots, both LPS mm; ``low`` and ``high`` are the ends of the tooth in mm along the
    direction."""

    direction: Floats
    crown: Floats
    tips: Floats
    low: float
    high: float

    @property
    def length(self) -> float:
        """From the longest root's tip to the highest cusp or the incisal edge, along the axis, in mm."""
        return self.high - self.low

    def heights(self, points: Floats) -> Floats:
        """Height (n,) in mm of points (n, 3) LPS mm over the tip of the longest root, along the axis."""
        return np.asarray(points @ self.direction - self.low)

    def at(self, height: float) -> Floats:
        """The point (3,) LPS mm on the axis so many mm over the tip of the longest root."""
        return np.asarray(self.crown + (self.low + height - self.crown @ self.direction) * self.direction)


def long_axis_of(index: Integers, points: Floats, spacing_mm: float, crownwards: Floats) -> LongAxis:
    """The long axis of the voxels ``index`` (n, 3) of a tooth with positions ``points`` (n, 3) LPS mm.

    ``spacing_mm`` is the mean voxel size and ``crownwards`` the unit vector (LPS) from roots to crowns in its jaw.
    """
    direction = _first_guess(points, crownwards)
    apart = max(_ROOT_MM, _ROOT_VOXELS * spacing_mm)
    for _ in range(_ROUNDS):
        along = points @ direction
        low, length = float(along.min()), float(np.ptp(along))
        crown = points[(along > low + _CROWN[0] * length) & (along < low + _CROWN[1] * length)].mean(axis=0)
        tips = np.stack([points[some].mean(axis=0) for some in _root_tips(index, along, apart)])
        direction = crown - tips.mean(axis=0)
        direction /= np.linalg.norm(direction)
    along = points @ direction
    half = spacing_mm / 2  # voxel centres lie within the tooth
    return LongAxis(direction, crown, tips, float(along.min()) - half, float(along.max()) + half)


def _first_guess(points: Floats, crownwards: Floats) -> Floats:
    """The principal axis towards the crown; a tooth that lies across has its crown where most of it is."""
    direction = tooth_axes(points[:: max(1, len(points) // 5000)], crownwards)[0][0]
    if abs(direction @ crownwards) >= _LYING:
        return np.asarray(direction)
    along = (points - points.mean(axis=0)) @ direction
    return np.asarray(direction if np.mean(along**3) < 0 else -direction)


def _root_tips(index: Integers, along: Floats, apart: float) -> list[Integers]:
    """Which voxels (rows) make the tip of each root: where the tooth, filled from the tips, has most separate parts
    that go down ``apart`` mm on their own."""
    from scipy import ndimage

    low = float(along.min())
    below = np.flatnonzero(along < low + _ROOTS_UP_TO * float(np.ptp(along)))
    place = tuple((index[below] - index[below].min(axis=0)).T)
    height = np.full([int(axis.max()) + 1 for axis in place], np.inf)
    height[place] = along[below]
    best: list[Integers] = [np.flatnonzero(along <= low + _TIP_MM)]
    for level in np.arange(low + apart, float(along[below].max()), _STEP_MM):
        numbered, count = ndimage.label(height < level, np.ones((3, 3, 3)))
        if count <= len(best):
            continue
        part = numbered[place]
        ends = np.full(count + 1, np.inf)
        np.minimum.at(ends, part, along[below])
        roots = np.flatnonzero(level - ends[1:] >= apart) + 1
        if len(roots) > len(best):
            best = [below[(part == root) & (along[below] <= ends[root] + _TIP_MM)] for root in roots]
    return best
