"""Soft tissue of a natural head as depth fields: skin, muscles, fat, tongue, mouth, airway.

In the skull's frame (see :mod:`ToothTopoSegLib.phantom.skull`), mm. What lies below the skin and is none of these is
plain soft tissue; bones and teeth are painted over all of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.phantom.fields import Ball, Frame, Rod, Shape, smooth_max, smooth_min

Array = NDArray[Any]

# Left halves; the right ones are their mirror images.
MUSCLES: tuple[Shape, ...] = (
    Rod((52, 20, 38), (46, 32, -12), 5.0, 5.0, (1, 2.2, 1)),  # masseter
    Rod((60, 28, 90), (54, 26, 46), 5.0, 5.0, (1, 4, 1)),  # temporalis
    Rod((25, 38, 36), (37, 36, -6), 4.5, 4.5, (1, 2, 1)),  # medial pterygoid
    Rod((26, 36, 42), (43, 54, 40), 5.5, 4.0),  # lateral pterygoid
    Rod((50, 82, 18), (30, 45, -70), 7.0, 9.0, (1, 1.5, 1)),  # sternocleidomastoid
    Rod((22, 98, 20), (20, 100, -80), 14, 15, (1.2, 1, 1)),  # neck
    Rod((8, 68, 24), (9, 50, -80), 3.5, 4.0, (1.8, 1, 1)),  # before the spine
    Rod((30, -2, -24), (14, 22, -30), 2.5, 3.0, (1, 1, 1.5)),  # floor of the mouth
)
FAT: tuple[Shape, ...] = (
    Ball((43, 14, 16), (5, 10, 14)),  # cheek
    Ball((27, 40, 14), (3.5, 8, 15)),  # beside the throat
    Ball((0, 4, -32), (22, 10, 3.5)),
    Ball((50, 62, 4), (7, 9, 14)),
)
GLAND = Ball((53, 52, 12), (8, 13, 20))
NOSE: tuple[Shape, ...] = (Rod((0, -22, 62), (0, -38, 34), 8.0, 9.5), Ball((0, -34, 31), (15, 12, 9)))
EARS: tuple[Shape, ...] = (Rod((68, 70, 60), (66, 62, 32), 5.0, 4.0, (0.7, 2.2, 1)),)


@dataclass(frozen=True)
class SoftPlan:
    """The random part of the soft tissue, mm.

    ``profile`` shifts the face's outline and ``width`` is a factor of it, ``fat`` is the layer under the skin,
    ``tongue`` how low the tongue stands below the palate (0 touches it), ``lips`` how far they are open, ``cheek`` how
    far the cheeks stand off the teeth, ``film`` how thick the air right beside crowns is, ``airway`` half axes of the
    throat, ``palate`` the thickness of the soft palate and ``gum`` that of the gum.
    """

    profile: float
    width: float
    fat: float
    tongue: float
    lips: float
    cheek: float
    film: float
    airway: tuple[float, float]
    palate: float
    gum: float


def draw_soft_plan(rng: np.random.Generator, gap: float) -> SoftPlan:
    """The soft tissue of a random head whose jaws are ``gap`` mm apart."""
    return SoftPlan(
        profile=float(rng.uniform(-1.5, 4)),
        width=float(rng.uniform(0.93, 1.12)),
        fat=float(rng.uniform(1.5, 8)),
        tongue=float(rng.uniform(0, 12) if rng.random() < 0.65 else 0),
        lips=float(rng.uniform(0.5, max(1.0, gap + 3)) if rng.random() < 0.25 else 0),
        cheek=float(rng.uniform(1.5, 6) if rng.random() < 0.25 else 0),
        film=float(rng.uniform(0.2, 0.6) if rng.random() < 0.35 else 0),
        airway=(float(rng.uniform(8, 15)), float(rng.uniform(3.5, 8))),
        palate=float(rng.uniform(3.5, 5.5)),
        gum=float(rng.uniform(1.2, 3.0)),
    )


@dataclass(frozen=True, eq=False)
class SoftTissue:
    """Depth fields, mm: below the skin, in muscle, in fat, in gland, and in the air of throat, mouth and nostrils."""

    skin: Array
    muscle: Array
    fat: Array
    gland: Array
    air: Array


# Outline of the face at heights z: front (y), half width and back (y) of the head, mm.
_LEVELS = (-90, -60, -46, -38, -28, -18, -10, -4, 2, 10, 22, 40, 60, 72, 90, 110, 140, 160)
_FRONT = (14, 10, -2, -24, -33, -31, -31, -34, -33, -31, -29, -28, -26, -26, -27, -22, 10, 66)
_WIDTH = (54, 52, 50, 49, 50, 52, 54, 56, 57, 60, 64, 68, 70, 71, 72, 70, 48, 4)
_BACK = (118, 114, 114, 114, 116, 118, 120, 122, 124, 130, 138, 150, 158, 162, 164, 158, 130, 70)


def _skin(frame: Frame, plan: SoftPlan, cavity: Array) -> Array:
    """Depth below the skin."""
    x, y, z = frame.points
    front = np.interp(z, _LEVELS, _FRONT).astype(np.float32) - np.float32(plan.profile)
    width = np.interp(z, _LEVELS, _WIDTH).astype(np.float32) * np.float32(plan.width)
    back = np.interp(z, _LEVELS, _BACK).astype(np.float32)
    middle = np.float32(0.62) * front + np.float32(0.38) * back
    reach = np.where(y < middle, middle - front, back - middle)
    # The face is more pointed than an ellipse, the back of the head less.
    power = np.where(y < middle, np.float32(1.8), np.float32(2.1))
    r = (np.abs(x / width) ** power + np.abs((y - middle) / reach) ** power) ** (1 / power)
    depth = (1 - r) * np.minimum(width, reach) * np.float32(frame.scale)
    frame.join(depth, NOSE, both_sides=False, smooth=5.0)
    frame.join(depth, EARS, smooth=2.0)
    return smooth_max(depth, cavity + 13.0, 3.0)


def _throat(frame: Frame, plan: SoftPlan) -> Array:
    """Depth in the air from the nasopharynx to the larynx, nostrils included; the epiglottis stands in it."""
    wide, deep = plan.airway

    def tube(p: Array) -> Array:
        x, y, z = p
        middle = np.interp(z, (-80, -40, -10, 10, 26, 46), (38, 41, 46, 47, 43, 40)).astype(np.float32)
        half = np.interp(z, (-80, -40, -20, 20, 30, 48), (0.8, 1.3, 1.0, 0.9, 1.1, 0.8)).astype(np.float32)
        thick = np.interp(z, (-80, -40, 10, 26, 44, 50), (1.5, 1.1, 0.8, 1.2, 1.5, 0.6)).astype(np.float32)
        r = np.sqrt((x / (wide * half)) ** 2 + ((y - middle) / (deep * thick)) ** 2)
        return np.minimum((1 - r) * deep * thick, 47 - z)

    field = frame.evaluate((-26, 15, -120), (26, 66, 52), tube)
    lid = frame.empty()
    frame.join(lid, (Rod((0, 36, -34), (0, 43, -18), 1.4, 1.2, (6, 1, 1)),), both_sides=False)
    field = np.minimum(field, -lid)
    frame.join(field, (Rod((5.5, -32, 26), (5, -22, 36), 3.2, 3.6),))
    return field


def _dorsum(frame: Frame, plan: SoftPlan) -> Array:
    """Height z of the back of the tongue."""
    x, y = frame.points[:2]
    low, high = 14.0 - plan.tongue, 25.0 - plan.tongue
    return np.asarray(low + (high - low) * np.exp(-(((y - 14) / 24) ** 2)) - 0.004 * x**2)


def _tongue(frame: Frame, side: Array, dorsum: Array) -> Array:
    """Depth in the tongue, which fills the lower arch."""
    _, y, z = frame.points
    return np.minimum(np.minimum(-side - 1.0, 43 - 0.12 * np.abs(z) - y), np.minimum(dorsum - z, z + 30))


def _air_above_tongue(frame: Frame, side: Array, dorsum: Array) -> Array:
    """Depth in the air between tongue and palate."""
    x, y, z = frame.points
    room = np.minimum(np.minimum(-side - 3, 34 - y), np.minimum(z + 12, 29 - z))
    room = np.minimum(room, 23 - np.abs(x) - 0.7 * np.clip(y - 18, 0, None))
    return np.minimum(room, z - dorsum)


def _air_between_jaws(frame: Frame, side: Array, gap: float) -> Array:
    """Depth in the air between the teeth of jaws that are ``gap`` mm apart."""
    wavy = frame.lattice.points[2] + 0.8 * frame.lattice.rough
    across = np.minimum(smooth_min(1.5 - side, side + 9, 4.0), 30 - frame.points[1])
    return smooth_min(np.float32(gap / 2) - np.abs(wavy), across, 3.0)


def _air_in_vestibule(frame: Frame, side: Array, cheek: float) -> Array:
    """Depth in the air that holds cheeks and lips ``cheek`` mm off the teeth."""
    half = cheek / 2
    pocket = (1 - np.hypot((side - 3.5 - half) / half, frame.points[2] / 9)) * half + 0.6 * frame.lattice.rough
    return np.minimum(pocket, 22 - frame.points[1])


def _air_between_lips(frame: Frame, side: Array, lips: float) -> Array:
    """Depth in the air between lips that are ``lips`` mm apart."""
    x, y, z = frame.points
    return np.minimum(lips / 2 - np.abs(z + 1), np.minimum(side + 1, 20 - np.abs(x) - 0.5 * y))


def _mouth(frame: Frame, side: Array, gap: float, plan: SoftPlan) -> tuple[Array, Array]:
    """Depth in the air of the mouth and in the tongue; ``side`` is the distance outward of the upper arch."""
    dorsum, air = _dorsum(frame, plan), frame.empty()
    if plan.tongue > 0:
        air = np.maximum(air, _air_above_tongue(frame, side, dorsum))
    if gap > 1.5:
        air = np.maximum(air, _air_between_jaws(frame, side, gap))
    if plan.cheek > 0:
        air = np.maximum(air, _air_in_vestibule(frame, side, plan.cheek))
    if plan.lips > 0:
        air = np.maximum(air, _air_between_lips(frame, side, plan.lips))
    return air.astype(np.float32), _tongue(frame, side, dorsum).astype(np.float32)


def make_soft_tissue(frame: Frame, cavity: Array, side: Array, gap: float, plan: SoftPlan) -> SoftTissue:
    """The soft tissue on the lattice of ``frame``; ``cavity`` is the depth in the cranial cavity."""
    skin = _skin(frame, plan, cavity)
    throat = _throat(frame, plan)
    mouth, tongue = _mouth(frame, side, gap, plan)
    muscle, fat, gland = tongue, frame.empty(), frame.empty()
    frame.join(muscle, MUSCLES)
    frame.join(fat, FAT)
    frame.join(gland, (GLAND,))
    soft_palate = frame.empty()
    frame.join(soft_palate, (Rod((0, 28, 25), (0, 40, 8), plan.palate, 2.2, (3, 1, 1)),), both_sides=False)
    muscle = np.maximum(muscle, soft_palate)
    air = np.minimum(np.maximum(throat, mouth), -soft_palate)
    inner = skin - 1.8 - 0.5 * plan.fat
    layer = np.minimum(skin - 1.8, 1.8 + plan.fat - skin)
    muscle, fat, gland = (np.minimum(field, inner) for field in (muscle, fat, gland))
    return SoftTissue(skin, muscle, np.maximum(fat, layer), gland, air)
