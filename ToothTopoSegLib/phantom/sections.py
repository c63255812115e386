"""Bodies made of sections: a centre line and, around it, a radius for every direction and height.

A crown, the trunk of a molar and each root are such a star-shaped stack. In: outlines of the sections as half axes to
four sides, computed on small tables. Out: the signed distance in mm of any points, first-order exact at the surface,
and smooth unions and intersections of such distances.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

DIRECTIONS = 96
"""Directions around the centre line in which radii are kept."""
ANGLES = np.arange(DIRECTIONS) * (2 * np.pi / DIRECTIONS)
COS, SIN = np.cos(ANGLES), np.sin(ANGLES)
_STEEPEST = 0.3
"""Distances along a wall that is steeper against the axis than this cosine are no longer corrected."""


@dataclass(frozen=True, eq=False)
class Outline:
    """Superelliptic outlines of sections, one a level: all arrays (n,), lengths in mm.

    ``mesial``, ``distal``, ``buccal`` and ``lingual`` are the half axes to the four sides, ``power`` the exponent (2 an
    ellipse, larger squarer), ``taper`` by what share the lingual half is narrower than the middle, ``shear`` how far (a
    share of the height across) the buccal half is shifted to mesial: a rhomboid.
    """

    mesial: Array
    distal: Array
    buccal: Array
    lingual: Array
    power: Array
    taper: Array
    shear: Array

    def radii(self) -> Array:
        """Distance (n, DIRECTIONS) in mm from the centre to the outline, by halving intervals along each ray."""
        low = np.zeros((len(self.mesial), DIRECTIONS))
        high = np.full_like(low, 1.6 * max(float(np.max(side)) for side in self._sides()) + 1)
        for _ in range(14):
            middle = (low + high) / 2
            inside = self._measure(middle * COS, middle * SIN) < 1
            low, high = np.where(inside, middle, low), np.where(inside, high, middle)
        return (low + high) / 2

    def _sides(self) -> tuple[Array, Array, Array, Array]:
        return self.mesial, self.distal, self.buccal, self.lingual

    def _measure(self, u: Array, v: Array) -> Array:
        """Value (n, DIRECTIONS) that is 1 on the outline and grows outwards."""
        mesial, distal, buccal, lingual = (side[:, None] for side in self._sides())
        across = v / np.where(v > 0, buccal, lingual)
        along = (u - self.shear[:, None] * v) / np.where(u > self.shear[:, None] * v, mesial, distal)
        # The widest place of a tapering section lies buccal of its middle; there the half axes hold.
        taper = self.taper[:, None]
        along = along / np.clip((1 + taper * np.clip(across, -1.2, 0.15)) / (1 + 0.15 * taper), 0.25, None)
        power = self.power[:, None]
        return np.abs(along) ** power + np.abs(across) ** power


@dataclass(frozen=True, eq=False)
class Stack:
    """Sections one above the other, every ``step`` mm from height ``low`` upwards.

    ``centre`` (n, 2) are the (u, v) mm of their middles, ``radius`` (n, DIRECTIONS) their outlines in mm, direction 0
    being mesial and a quarter turn buccal.
    """

    low: float
    step: float
    centre: Array
    radius: Array

    @property
    def high(self) -> float:
        """Height in mm of the last section."""
        return self.low + self.step * (len(self.radius) - 1)

    @cached_property
    def slope(self) -> Array:
        """Cosine (n, DIRECTIONS) between the wall's normal and the direction away from the centre."""
        around = (np.roll(self.radius, -1, 1) - np.roll(self.radius, 1, 1)) / (2 * (ANGLES[1] - ANGLES[0]))
        drift = np.gradient(self.centre, self.step, axis=0)
        up = np.gradient(self.radius, self.step, axis=0) + drift[:, :1] * COS + drift[:, 1:] * SIN
        around = around / np.maximum(self.radius, 0.3)
        return np.maximum(1 / np.sqrt(1 + around**2 + up**2), _STEEPEST)

    def look(self, tables: tuple[Array, ...], u: Array, v: Array, w: Array) -> tuple[list[Array], Array]:
        """Values of tables (n, DIRECTIONS) at points (m,), and the distance (m,) of the points from the centre line."""
        level = np.clip((w - self.low) / self.step, 0, len(self.radius) - 1.001)
        below = level.astype(np.int32)
        part = (level - below).astype(np.float32)
        centre = self.centre.astype(np.float32)
        du = u - (centre[below, 0] * (1 - part) + centre[below + 1, 0] * part)
        dv = v - (centre[below, 1] * (1 - part) + centre[below + 1, 1] * part)
        turn = np.arctan2(dv, du) * np.float32(DIRECTIONS / (2 * np.pi)) + DIRECTIONS
        first = turn.astype(np.int32)
        share = (turn - first).astype(np.float32)
        at = below * DIRECTIONS
        one, two = at + first % DIRECTIONS, at + (first + 1) % DIRECTIONS
        values = []
        for table in tables:
            flat = table.astype(np.float32).ravel()
            lower = flat[one] * (1 - share) + flat[two] * share
            upper = flat[one + DIRECTIONS] * (1 - share) + flat[two + DIRECTIONS] * share
            values.append(lower * (1 - part) + upper * part)
        return values, np.hypot(du, dv)

    def wall(self, u: Array, v: Array, w: Array) -> tuple[Array, Array]:
        """Signed distance (m,) in mm to the wall and the share (m,) of the way from the centre line to it."""
        (radius, slope), away = self.look((self.radius, self.slope), u, v, w)
        return (away - radius) * slope, away / np.maximum(radius, 0.05)

    def distance(self, u: Array, v: Array, w: Array) -> Array:
        """Signed distance (m,) in mm to the stack, which ends flat below and is open above."""
        return meet(self.wall(u, v, w)[0], self.low - w)


def meet(one: Array, other: Array, rounding: float = 0.0) -> Array:
    """Distance to what two bodies have in common, with the edge rounded off by ``rounding`` mm."""
    both = (one > 0) & (other > 0)
    sharp = np.maximum(one, other)
    if rounding > 0:
        sharp = sharp + np.maximum(rounding - np.abs(one - other), 0) ** 2 / (4 * rounding)
    return np.where(both, np.maximum(np.hypot(one, other), sharp), sharp)


def join(one: Array, other: Array, fillet: float) -> Array:
    """Distance to two bodies together, with a fillet of about ``fillet`` mm between them."""
    return np.minimum(one, other) - np.maximum(fillet - np.abs(one - other), 0) ** 2 / (4 * fillet)
