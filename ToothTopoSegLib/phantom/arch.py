"""Dental arches: where each tooth of a random dentition stands and how it is tilted.

Out: placed teeth in head coordinates (LPS axes, mm; origin in the middle of the occlusal plane). The arch is half an
ellipse in front of straight, slightly divergent legs; teeth follow one another along it by their mesiodistal widths,
with the curve of Spee, natural inclinations, individual rotation, gaps and crowding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.phantom.tooth import ToothShape, draw_tooth

Array = NDArray[Any]


@dataclass(frozen=True)
class Arch:
    """Half an ellipse with legs behind it, in mm.

    ``half_width`` and ``depth`` are its half axes along x and y, ``front`` its anterior y, ``middle`` its x. ``flare``
    is the slope dx/dy of the legs; ``skew`` (a share of x) widens the left side and narrows the right one.
    """

    half_width: float
    depth: float
    front: float
    middle: float
    flare: float
    skew: float

    def polyline(self, length: float) -> Array:
        """Points (n, 2) as (x, y) mm every 0.5 mm from the midline towards the patient's left, ``length`` mm far."""
        theta = np.linspace(0, np.pi / 2, 400)
        curve = np.stack([self.half_width * np.sin(theta), self.depth * (1 - np.cos(theta))], 1)
        leg = np.arange(1, 400)[:, None] * np.array([[self.flare * 0.25, 0.25]])
        curve = np.concatenate([curve, curve[-1] + leg])
        s = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(curve, axis=0).T))])
        at = np.arange(0, length, 0.5)
        return np.stack([np.interp(at, s, curve[:, 0]), self.front + np.interp(at, s, curve[:, 1])], 1)

    def side(self, left: bool, length: float) -> Array:
        """The polyline of one side in head coordinates; asymmetry widens one side and narrows the other."""
        points = self.polyline(length)
        sign = 1.0 if left else -1.0
        return np.stack([self.middle + sign * points[:, 0] * (1 + sign * self.skew), points[:, 1]], 1)


@dataclass(frozen=True)
class PlacedTooth:
    """A tooth in the head: ``cervix`` its origin (LPS mm), ``axes`` rows the unit vectors mesial, buccal, occlusal.

    ``material`` is "natural", "filling", "crown", "root filling", "post" (a root filling with metal post and crown) or,
    of a tooth that is gone, "implant". A tooth that is not ``erupted`` lies in the bone.
    """

    fdi: int
    shape: ToothShape
    cervix: Array
    axes: Array
    material: str = "natural"
    bracket: bool = False
    erupted: bool = True


@dataclass(frozen=True)
class Dentition:
    """All teeth of a head with the arches they stand on.

    ``gap`` is how far the jaws are open and ``spee`` the depth of the curve of Spee, both in mm. ``gone`` are lost
    teeth as they once stood; the ridge there has healed.
    """

    teeth: tuple[PlacedTooth, ...]
    upper: Arch
    lower: Arch
    gap: float
    spee: float
    bracketed: bool
    gone: tuple[PlacedTooth, ...] = ()


def _rotation(axis: Array, degrees: float) -> Array:
    """Rotation matrix about a unit axis (Rodrigues)."""
    k = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    angle = np.radians(degrees)
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k


# Mean buccal tilt of the crown in degrees by position 1..8 (incisors proclined, lower molars tilted to the tongue).
INCLINATION = {True: (20, 16, 6, 0, 0, -2, 0, 6), False: (14, 12, 4, -6, -9, -14, -16, -18)}


def _frame(fdi: int, tangent: Array, left: bool, upper: bool, rng: np.random.Generator, disorder: float) -> Array:
    """Unit vectors (mesial, buccal, occlusal) of a tooth standing on a curve whose distal direction is ``tangent``."""
    occlusal = np.array([0, 0, -1.0 if upper else 1.0])
    mesial = -np.array([tangent[0], tangent[1], 0])
    buccal = np.array([tangent[1], -tangent[0], 0]) * (1 if left else -1)
    axes = np.stack([mesial, buccal, occlusal])
    tilt = INCLINATION[upper][fdi % 10 - 1] + rng.normal(0, 4 + 3 * disorder)
    # Turning the occlusal axis towards the buccal one by ``tilt``; then mesiodistal angulation and own rotation.
    turn = _rotation(axes[0], tilt if np.dot(np.cross(axes[0], axes[2]), axes[1]) > 0 else -tilt)
    axes = axes @ turn.T
    lean = rng.normal(5, 3 + 4 * disorder)
    turn = _rotation(axes[1], lean if np.dot(np.cross(axes[1], axes[2]), axes[0]) > 0 else -lean)
    axes = axes @ turn.T
    return np.asarray(axes @ _rotation(axes[2], rng.normal(0, 4 + 9 * disorder)).T)


def _occlusal_height(upper: bool, position: int, y: float, gap: float, overbite: float, spee: float) -> float:
    """Height z in mm of a tooth's occlusal point."""
    height = spee * (max(y, -30.0) / 28) ** 2 - spee * 0.4
    if upper:
        height += gap / 2 - (overbite if position <= 3 else 0.6)
    else:
        height += -gap / 2 + (0.3 if position <= 3 else 0.6)
    return float(height)


def _place_side(
    arch: Arch,
    left: bool,
    upper: bool,
    gap: float,
    spee: float,
    scale: float,
    disorder: float,
    rng: np.random.Generator,
) -> list[PlacedTooth]:
    """The eight teeth of a quadrant from the midline backwards."""
    line = arch.side(left, 95)
    s = np.arange(len(line)) * 0.5
    quadrant = (2 if left else 1) if upper else (3 if left else 4)
    overbite = float(rng.uniform(0.5, 3.2))
    at, placed = float(rng.uniform(0, 0.5)), []
    for position in range(1, 9):
        fdi = quadrant * 10 + position
        shape = draw_tooth(fdi, rng, scale)
        width = 2 * shape.crown[0]
        # Crowding lets neighbours overlap along the arch (they are then pushed apart across it), spacing leaves gaps.
        step = width * (1 - 0.12 * disorder * rng.random()) + max(0.0, float(rng.normal(0.05, 0.25)))
        middle = np.array([np.interp(at + step / 2, s, line[:, 0]), np.interp(at + step / 2, s, line[:, 1])])
        ahead = np.array([np.interp(at + step / 2 + 1.5, s, line[:, i]) for i in (0, 1)])
        tangent = (ahead - middle) / np.linalg.norm(ahead - middle)
        axes = _frame(fdi, tangent, left, upper, rng, disorder)
        height = _occlusal_height(upper, position, float(middle[1]), gap, overbite, spee) + rng.normal(0, 0.3)
        across = axes[1] * rng.normal(0, 0.35 + 1.6 * disorder)
        tip = np.array([middle[0], middle[1], height]) + across
        if position == 8 and rng.random() < 0.35:
            # A third molar that has not come through lies deeper and leans forward.
            axes = axes @ _rotation(axes[1], rng.normal(0, 30)).T
            tip = tip - axes[2] * rng.uniform(2, 7) - axes[0] * rng.uniform(-1, 3)
        placed.append(PlacedTooth(fdi, shape, tip - axes[2] * shape.crown_height, axes))
        at += step
    return placed


def _absent(rng: np.random.Generator, hard: bool) -> set[int]:
    """FDI numbers that this head lacks: often third molars, now and then others, rarely a whole end or arch."""
    gone = set()
    all_eights = rng.random() < 0.3
    for quadrant in (1, 2, 3, 4):
        if all_eights or rng.random() < 0.45:
            gone.add(quadrant * 10 + 8)
        share = 0.03 if rng.random() < 0.75 else 0.25 if hard else 0.15
        gone |= {quadrant * 10 + p for p in range(1, 8) if rng.random() < share}
    if rng.random() < 0.04:
        upper = rng.random() < 0.5
        gone |= {q * 10 + p for q in ((1, 2) if upper else (3, 4)) for p in range(1, 9)}
    return gone


def draw_dentition(rng: np.random.Generator, hard: bool = False) -> Dentition:
    """A random dentition; ``hard`` means more crowding, more missing teeth and more metal."""
    disorder = float(abs(rng.normal(0, 0.45 if hard else 0.25)))
    scale = float(rng.uniform(0.9, 1.08))
    half_width, depth = scale * float(rng.uniform(25, 31)), scale * float(rng.uniform(34, 44))
    middle, skew = float(rng.normal(0, 0.6)), float(rng.normal(0, 0.02))
    front = -depth / 2
    overjet = float(rng.uniform(1.5, 3.5))
    upper = Arch(half_width, depth, front, middle, float(rng.uniform(-0.02, 0.1)), skew)
    lower = Arch(
        half_width=half_width - rng.uniform(1.5, 3.5),
        depth=depth - rng.uniform(0, 2),
        front=front + overjet,
        middle=middle,
        flare=rng.uniform(0.02, 0.14),
        skew=skew,
    )
    gap = float(rng.uniform(0.0, 0.6) if rng.random() < 0.6 else rng.uniform(0.6, 9))
    spee = float(rng.uniform(0.3, 2.5))
    teeth = [
        tooth
        for arch, is_upper in ((upper, True), (lower, False))
        for left in (True, False)
        for tooth in _place_side(arch, left, is_upper, gap, spee, scale, disorder, rng)
    ]
    gone = _absent(rng, hard)
    bracketed = bool(rng.random() < (0.3 if hard else 0.2))
    heavy = rng.random() < (0.5 if hard else 0.25)
    kept = []
    for tooth in teeth:
        if tooth.fdi in gone:
            continue
        material = "natural"
        if tooth.fdi % 10 >= 4 and rng.random() < (0.2 if heavy else 0.04):
            material = str(rng.choice(["filling", "filling", "crown", "root filling"]))
        bracket = bracketed and tooth.fdi % 10 < 8
        kept.append(PlacedTooth(tooth.fdi, tooth.shape, tooth.cervix, tooth.axes, material, bracket))
    return Dentition(tuple(kept), upper, lower, gap, spee, bracketed)
