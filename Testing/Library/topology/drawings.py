"""Small shapes and dentitions whose topology is known by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.anatomy import fdi
from ToothTopoSegLib.anatomy.sizes import size_of
from ToothTopoSegLib.imaging.volume import Vector3, Volume
from ToothTopoSegLib.phantom.arch import draw_dentition
from ToothTopoSegLib.phantom.head import render

Mask = NDArray[np.bool_]
Field = Callable[[Any, Any, Any], Any]
"""Whether places z, y, x in mm lie in a shape."""
TOOTH_HEIGHT = 20
"""Voxels; with the widths of :func:`shape_of` every brick has a volume such a tooth can have."""
BITE = 25
"""Height of the plane between the jaws in a :func:`dentition`."""


def ball(radius: float, size: int = 15) -> Mask:
    """A ball in the middle of a cube."""
    z, y, x = np.indices((size,) * 3) - (size - 1) / 2
    filled: Mask = z**2 + y**2 + x**2 <= radius**2
    return filled


def ring(size: int = 7) -> Mask:
    """A square ring one voxel thick, lying in the plane z = 1."""
    mask = np.zeros((3, size + 2, size + 2), dtype=bool)
    mask[1, 1:-1, 1:-1] = True
    mask[1, 2:-2, 2:-2] = False
    return mask


def double_ring() -> Mask:
    """A figure of eight: two square rings that share a side."""
    mask = np.zeros((3, 9, 15), dtype=bool)
    mask[1, 1:-1, 1:-1] = True
    mask[1, 2:-2, 2:7] = False
    mask[1, 2:-2, 8:-2] = False
    return mask


def linked_rings() -> Mask:
    """Two rings that pass through each other without touching."""
    flat, upright = np.zeros((2, 15, 15, 19), dtype=bool)
    flat[7, 2:13, 2:13] = True
    flat[7, 3:12, 3:12] = False
    upright[2:13, 7, 7:18] = True
    upright[3:12, 7, 8:17] = False
    return flat | upright


def dentition(absent: tuple[int, ...] = (), also: dict[int, int] | None = None) -> Volume:
    """A full permanent dentition of separate bricks (1 mm voxels), as large and laid out as in a patient (LPS).

    ``also`` puts other FDI numbers in the place of a tooth: {place: number}.
    """
    labels = np.zeros((2 * BITE, 72, 84), dtype=np.uint8)
    for tooth in fdi.PERMANENT:
        number = (also or {}).get(tooth, tooth)
        shape = np.array(shape_of(number))
        spare = np.subtract(shape_of(tooth), shape)
        # another tooth in this place stands in its middle, with its crown at the bite
        first = place_of(tooth) + np.array([0 if fdi.is_upper(tooth) else spare[0], *(spare[1:] // 2)])
        z, y, x = (slice(int(a), int(b)) for a, b in zip(first, first + shape, strict=True))
        labels[z, y, x] = 0 if tooth in absent else number
    return Volume(labels)


def place_of(tooth: int) -> tuple[int, int, int]:
    """First voxel (z, y, x) of a brick of :func:`dentition`; the face looks to -y, the right side lies at small x."""
    angle = np.pi * (fdi.arch_order(fdi.is_upper(tooth)).index(tooth) + 0.5) / 16
    half = shape_of(tooth)[1] / 2
    y, x = round(60 - 48 * np.sin(angle) - half), round(42 - 32 * np.cos(angle) - half)
    return BITE + 1 if fdi.is_upper(tooth) else BITE - 1 - TOOTH_HEIGHT, y, x


def shape_of(tooth: int) -> tuple[int, int, int]:
    """Voxels (z, y, x) of a brick of :func:`dentition`: narrow enough to stay clear of its neighbours."""
    side = int(0.65 * size_of(tooth).md_crown)
    return TOOTH_HEIGHT * 3 // 4 if fdi.is_deciduous(tooth) else TOOTH_HEIGHT, side, side


def drawn(spacing: float, *shapes: Field) -> Mask:
    """Shapes in a box of 30 by 28 by 28 mm; the axis y = x = 0 runs upwards through its middle, from z = 0."""
    z, y, x = (np.indices([round(length / spacing) for length in (30, 28, 28)]) + 0.5) * spacing
    filled: Mask = np.any([shape(z, y - 14, x - 14) for shape in shapes], axis=0)
    return filled


def stump(z: Any, y: Any, x: Any) -> Any:
    """A tooth as wide at its root as at its crown: a rod of 8 mm from z = 10 to 24."""
    return (np.hypot(y, x) <= 4) & (z >= 10) & (z <= 24)


def tapering(z: Any, y: Any, x: Any) -> Any:
    """A tooth of 20 mm whose radius grows from 1 mm at its tip, z = 4, to 4 mm."""
    return (np.hypot(y, x) <= 1 + 0.15 * (z - 4)) & (z >= 4) & (z <= 24)


def bar(reach: float) -> Field:
    """A rod of 2 mm across a tooth at z = 16, from its axis to x = reach."""
    return lambda z, y, x: (np.hypot(z - 16, y) <= 1) & (x * np.sign(reach) >= 0) & (np.abs(x) <= abs(reach))


def lump(z: float, y: float, radius: float = 3.0) -> Field:
    """A ball around a place on x = 0."""
    return lambda at, aside, x: (at - z) ** 2 + (aside - y) ** 2 + x**2 <= radius**2


def phantom_teeth(seed: int, spacing: Vector3, hard: bool = False) -> Volume:
    """Teeth of a phantom in a view of 76 x 74 x 78 mm (z, y, x) that holds both rows, without the jaws."""
    rng = np.random.default_rng(seed)
    z, y, x = (round(length / step) for length, step in zip((76, 74, 78), spacing, strict=True))
    _, labels = render(draw_dentition(rng, hard), (z, y, x), spacing, rng, warp=0.5)
    labels[labels >= fdi.LOWER_JAW] = 0
    return Volume(labels, spacing)


def copied(labels: Volume) -> Volume:
    """A label map to paint in."""
    return labels.with_array(labels.array.copy())
