"""The skull around the jaws, the cervical spine and the hyoid, as depth fields in the skull's frame.

Every bone is a handful of rods and balls whose places (x to the left, y backwards, z up; mm; origin in the middle of
the bite with the upper incisors at y = -20) were read off a real CBCT. The cranial cavity is an ellipsoid above a floor
with three steps (anterior, middle and posterior fossa); the bone around it is a shell of varying thickness. Air cells
are cavities with thin walls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.phantom.fields import Ball, Frame, Rod, Shape, smooth_min

Array = NDArray[Any]

# Left halves; the right ones are their mirror images.
FACE: tuple[Shape, ...] = (
    Ball((41, 3, 40), (6.5, 6.0, 6.5)),  # zygoma
    Rod((34, 3, 36), (46, 5, 41), 4.5, 4.5),
    Rod((45, 4, 42), (46, 1, 72), 3.6, 3.0, (0.8, 1.3, 1.0)),
    Rod((46, 8, 41), (57, 24, 44), 3.6, 2.4, (0.8, 1.0, 1.6)),  # zygomatic arch
    Rod((57, 24, 44), (59, 44, 46), 2.4, 2.4, (0.8, 1.0, 1.5)),
    Rod((59, 44, 46), (54, 60, 48), 2.4, 4.0),
    Rod((8, -20, 76), (30, -17, 80), 4.2, 4.2),  # brow
    Rod((30, -17, 80), (47, 0, 74), 4.2, 4.0),
    Rod((2.5, -20, 70), (3.0, -28, 54), 2.4, 1.2, (1.6, 1, 1)),  # nasal bone
    Rod((14.2, 34, 46), (14.0, 38, 24), 1.2, 1.1, (0.8, 4.5, 1)),  # medial plate of the pterygoid
    Rod((18.5, 36, 46), (25.5, 40, 24), 1.2, 1.1, (0.8, 4.5, 1)),  # lateral plate
    Rod((20, 34, 50), (48, 14, 72), 2.6, 3.4),  # great wing of the sphenoid
)
BASE: tuple[Shape, ...] = (
    Rod((14, 54, 48), (44, 68, 48), 6.5, 8.5),  # petrous bone
    Ball((49, 77, 33), (9.5, 12, 16)),  # mastoid
    Ball((46, 45, 45), (8, 4.5, 4.5)),  # articular eminence
    Ball((53, 58, 50), (8, 12, 4.5)),  # roof of the joint
    Rod((37, 66, 36), (31, 52, 10), 2.0, 1.0),  # styloid process
    Ball((14.5, 74, 25), (5.5, 10, 5.5)),  # occipital condyle
)
MIDDLE: tuple[Shape, ...] = (
    Ball((0, 43, 57), (15, 15, 12), 3.0),  # body of the sphenoid
    Rod((0, 55, 58), (0, 67, 29), 6.0, 3.2, (2.2, 1.0, 1.0)),  # clivus
    Rod((0, 55, 66), (0, 57, 74), 1.5, 1.2, (4, 1, 1)),  # dorsum sellae
    Rod((0, 0, 66), (0, -4, 76), 1.2, 1.2, (1, 4, 1)),  # crista galli
)
CERVICAL = ((-26.0, 57.0), (-43.0, 55.0), (-60.0, 55.0), (-77.0, 57.0), (-94.0, 60.0))
"""Height z and front y of the bodies of C3 to C7."""
SPINE_SIDES: tuple[Shape, ...] = (
    Ball((18.5, 70, 14), (7.5, 9, 7)),  # C1: lateral mass, arches, transverse process
    Rod((13, 62, 16), (0, 56.5, 17), 3.4, 3.8),
    Rod((19, 77, 13), (17, 91, 10), 3.4, 3.2),
    Rod((17, 91, 10), (0, 100, 8), 3.2, 3.8),
    Rod((25, 70, 14), (36, 74, 12), 3.4, 4.0),
    Ball((16, 68, -3), (7, 8, 7)),  # C2
    Rod((16, 74, -7), (0, 95, -13), 3.6, 4.4, (1, 1, 1.6)),
    Rod((18, 66, -6), (26, 68, -9), 2.6, 2.8),
    *(
        shape
        for level, y in CERVICAL
        for shape in (
            Rod((18, y + 9, level + 8), (18, y + 12, level - 6), 5.6, 5.6),
            Rod((17, y + 15, level - 2), (0, y + 31, level - 8), 3.0, 3.8, (1, 1, 1.8)),
            Rod((12, y + 1, level + 1), (24, y + 2, level - 2), 2.6, 3.0),
        )
    ),
)
SPINE_MIDDLE: tuple[Shape, ...] = (
    Rod((0, 66, 20), (0, 63, 0), 4.8, 5.6),  # dens
    Ball((0, 60, -9), (10, 8.5, 8), 3.0),
    Rod((0, 95, -13), (0, 106, -19), 4.6, 4.2),
    *(Ball((0, y, level), (10.5, 8.5, 6.8), 4.0) for level, y in CERVICAL),
    *(Rod((0, y + 31, z - 8), (0, y + 42, z - 15), 3.6, 3.2) for z, y in CERVICAL),
)
CANALS: tuple[Shape, ...] = (Rod((0, 82, 30), (0, 76, -14), 9.0, 8.0), Rod((0, 76, -14), (0, 76, -110), 8.0, 8.0))
FORAMINA: tuple[Shape, ...] = (Rod((27, 68, 24), (25, 62, -110), 2.6, 2.6),)
HYOID: tuple[Shape, ...] = (
    Rod((0, 17, -34), (11, 23, -33), 3.2, 2.6, (1, 1, 1.6)),
    Rod((11, 23, -33), (19, 44, -30), 1.9, 1.6),
)
CELLS: tuple[Shape, ...] = (
    Ball((7, 43, 57), (7, 12, 9), 3.0),  # sphenoid sinus
    Ball((8.5, 22, 59), (3.6, 5, 6), 3.0),  # ethmoid
    Ball((8.8, 11, 60), (3.6, 5, 6), 3.0),
    Ball((8.4, 0, 60), (3.4, 5, 6), 3.0),
    Ball((8.0, -9, 60), (3.0, 3.4, 5), 3.0),
)
EAR_CANAL = Rod((42, 64, 41), (62, 66, 41), 3.2, 3.6)
ORBIT: tuple[Shape, ...] = (Ball((30, -2, 61), (18, 17, 16)), Rod((29, 4, 61), (18, 30, 60), 15.5, 4.0))
EYE = Ball((31, -9, 61), (11.5, 11.5, 11.5))


@dataclass(frozen=True)
class SkullPlan:
    """The random part of a skull, mm.

    ``cavity`` are the radii of the cranial cavity, ``table``, ``thick`` and ``base`` the thickness of its tables and of
    all the bone around and below it, ``frontal`` the half axes of the frontal sinus, ``cells`` how airy the mastoid is
    (0 to 1), ``spine`` how far the neck bends to the left and backwards, ``calcified`` whether its cartilage shows.
    """

    cavity: tuple[float, float, float]
    table: float
    thick: float
    base: float
    frontal: tuple[float, float, float]
    cells: float
    spine: tuple[float, float]
    calcified: bool


def draw_skull_plan(rng: np.random.Generator) -> SkullPlan:
    """The skull of a random head."""
    return SkullPlan(
        cavity=(float(rng.uniform(60, 68)), float(rng.uniform(78, 88)), float(rng.uniform(58, 72))),
        table=float(rng.uniform(0.9, 2.2)),
        thick=float(rng.uniform(4.5, 9.0)),
        base=float(rng.uniform(1.6, 3.2)),
        frontal=(float(rng.uniform(4, 16)), float(rng.uniform(2.5, 6)), float(rng.uniform(4, 15))),
        cells=float(rng.uniform(0.0, 1.0)),
        spine=(float(rng.normal(0, 3)), float(rng.uniform(-4, 5))),
        calcified=bool(rng.random() < 0.3),
    )


@dataclass(frozen=True, eq=False)
class Skull:
    """Depth fields, mm: ``bone`` of all kinds, cranial ``cavity``, its bony ``shell``, ``orbit`` and how far
    ``behind`` its rim a point is, ``cells`` with air,
    ``spongy`` temporal bone that holds the mastoid's cells, and ``eye``."""

    bone: Array
    cavity: Array
    shell: Array
    orbit: Array
    behind: Array
    cells: Array
    spongy: Array
    eye: Array

    def within(self, head: Array) -> Skull:
        """The skull cut to what lies inside of ``head`` (depth in mm)."""
        bone, orbit, eye = (np.minimum(field, head) for field in (self.bone, self.orbit, self.eye))
        return Skull(bone, self.cavity, self.shell, orbit, self.behind, self.cells, self.spongy, eye)


def _floor(p: Array) -> Array:
    """Height z (mm) of the floor of the cranial cavity: anterior, middle and posterior fossa."""
    from scipy.special import expit

    x, y = np.abs(p[0]), p[1]

    def step(value: Array, at: Array | float, width: float) -> Array:
        return np.asarray(expit((value - at) / width))

    anterior = 68.0 + 11.0 * step(x, 13, 2.0)
    middle = 68.0 - 19.0 * step(x, 15, 2.5)
    posterior = 27.0 + 0.10 * np.maximum(y - 80, 0) + 26 * step(x, 42, 6) + 6 * np.exp(-(((y - 62) / 7) ** 2))
    front = step(y, 31 - 0.25 * np.maximum(x - 15, 0), 2.0)
    back = step(y, 58 + 0.35 * x, 2.5)
    return np.asarray(anterior * (1 - front) + front * (middle * (1 - back) + posterior * back))


def make_skull(frame: Frame, plan: SkullPlan) -> Skull:
    """The skull on the lattice of ``frame``."""
    rx, ry, rz = plan.cavity
    dome = Ball((0, -17 + plan.thick + ry, 84), (rx, ry, rz), 2.2)
    vault = dome.depth(frame.points) * np.float32(frame.scale)
    rough, long = frame.lattice.rough, frame.lattice.long[0]
    above = (frame.points[2] - _floor(frame.points)) * np.float32(0.8 * frame.scale) + 1.2 * rough
    cavity = smooth_min(vault, above, 4.0)
    high = np.clip((frame.points[2] - 64) / 14, 0, 1)
    uneven = np.maximum(1 + 0.15 * long + 0.06 * rough, 0.4)
    shell = (cavity + uneven * (plan.base + (plan.thick - plan.base) * high)).astype(np.float32)
    bone, orbit, cells, spongy, eye = (frame.empty() for _ in range(5))
    for shapes, both in ((FACE, True), (BASE, True), (MIDDLE, False)):
        frame.join(bone, shapes, both, smooth=2.0)
    frame.join(orbit, ORBIT, smooth=4.0)
    frame.join(cells, CELLS)
    fx, fy, fz = plan.frontal
    frame.join(cells, (Ball((0.7 * fx, -16, 74 + 0.7 * fz), (fx, fy, fz), 2.5),))
    frame.join(spongy, (Ball((49, 77, 33), (8, 10.5, 14.5)), Ball((46, 68, 49), (9, 7, 5))))
    frame.join(eye, (EYE,))
    bone = np.minimum(np.maximum(bone, _spine(frame, plan)), -cavity)
    spongy = np.minimum(spongy, np.maximum(bone, shell) - 1)
    cells = np.minimum(cells, -cavity)
    frame.join(cells, (EAR_CANAL,))
    return Skull(bone, cavity, shell, orbit, _behind(frame), cells, spongy, eye)


def _behind(frame: Frame) -> Array:
    """How far (mm) behind the rims of the orbits a point lies, where they have walls."""
    x, y, z = frame.points
    return np.asarray(np.minimum(y + 12 - 0.35 * np.maximum(np.abs(x) - 25, 0), 84 - z), np.float32)


def _spine(frame: Frame, plan: SkullPlan) -> Array:
    """Depth in vertebrae and hyoid; the spine bends and its canal and foramina are open."""
    field, hollow = frame.empty(), frame.empty()
    bent = frame.points.copy()
    below = np.clip(-bent[2], 0, None) / 50
    bent[0] -= plan.spine[0] * below
    bent[1] -= plan.spine[1] * below**2 * 3
    leaning = Frame(frame.lattice, bent, frame.shift, frame.scale)
    leaning.join(field, SPINE_SIDES, smooth=1.5)
    leaning.join(field, SPINE_MIDDLE, both_sides=False)
    leaning.join(hollow, CANALS, both_sides=False)
    leaning.join(hollow, FORAMINA)
    field = np.minimum(field, -hollow)
    frame.join(field, HYOID)
    if plan.calcified:
        frame.join(field, (Rod((3, 16, -46), (16, 34, -52), 1.2, 1.0, (1, 1, 4)),))  # thyroid cartilage
    return field
