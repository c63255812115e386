"""What is true of a drawn tooth by its drawing: long axis, length, cervix and inclination, for judging measurements.

In goes a placed tooth with the arch it was placed on, out come its measures without any voxel grid of a scan: root tips
and cervix are parameters of the drawing, the rest is taken from its signed distance. :func:`drawn_labels` is the label
map of all teeth of a dentition without the deformation that makes heads individual, so that these measures hold in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.anatomy import fdi as teeth
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.phantom.arch import Dentition, PlacedTooth
from ToothTopoSegLib.phantom.tooth import ToothShape, tooth_distance

Floats = NDArray[np.float64]

STEP_MM = 0.2
_MARGIN_MM = 1.0
_ARCH_MM = 95.0
_CROWN = (0.5, 0.9)
"""Part of the crown's height in which its middle is taken."""


@dataclass(frozen=True, eq=False)
class TrueMeasures:
    """``axis`` is the unit vector (LPS of the head) from the middle of the root tips to the middle of the crown;
    lengths in mm along it; ``tip`` and ``torque`` its angles in degrees against the arch, as in
    :class:`ToothTopoSegLib.measurements.frame.Inclination`; ``volume`` mm3 that of the tooth drawn alone."""

    axis: Floats
    length: float
    crown_length: float
    tip: float
    torque: float
    volume: float


def true_measures(tooth: PlacedTooth, dentition: Dentition) -> TrueMeasures:
    """The measures of a drawn tooth; the length is exact to about :data:`STEP_MM`."""
    points = _solid(tooth)
    height = tooth.shape.crown_height
    crown = points[(points[:, 2] > _CROWN[0] * height) & (points[:, 2] < _CROWN[1] * height)].mean(axis=0)
    axis = crown - root_tips(tooth).mean(axis=0)
    axis /= np.linalg.norm(axis)
    along = points @ axis
    half = STEP_MM / 2
    world = axis @ tooth.axes
    mesial, buccal, occlusal = _frame(tooth, dentition)
    tip, torque = (float(np.degrees(np.arctan2(world @ way, world @ occlusal))) for way in (mesial, buccal))
    # the cervix is the origin of the tooth's own frame
    length, volume = float(np.ptp(along)) + 2 * half, len(points) * STEP_MM**3
    return TrueMeasures(world, length, float(along.max()) + half, tip, torque, volume)


def root_tips(tooth: PlacedTooth) -> Floats:
    """The ends (n, 3) of the roots in the tooth's own frame (mesial, buccal, occlusal), in mm."""
    if isinstance(tooth.shape, ToothShape):
        return np.array([[*root.apex, -root.length] for root in tooth.shape.roots])
    return np.array([[*branch.middle(np.array([1.0]))[0], -branch.length] for branch in tooth.shape.roots])


def drawn_labels(dentition: Dentition, spacing: float, margin_mm: float = 2.0) -> Volume:
    """The label map (FDI numbers) of all teeth of a dentition on a cubic grid, a voxel's owner the tooth it is deepest
    in; LPS mm are those of the head."""
    boxes = [_corners(tooth) for tooth in dentition.teeth]
    low = np.min([box[0] for box in boxes], axis=0) - margin_mm
    shape = np.ceil((np.max([box[1] for box in boxes], axis=0) + margin_mm - low) / spacing).astype(int)[::-1]
    label, nearest = np.zeros(shape, np.uint8), np.zeros(shape, np.float32)
    volume = Volume(label, (spacing,) * 3, (float(low[0]), float(low[1]), float(low[2])))
    for tooth, ends in zip(dentition.teeth, boxes, strict=True):
        first, last = (np.floor((end - low) / spacing).astype(int)[::-1] for end in ends)
        box = tuple(slice(int(a), int(b) + 2) for a, b in zip(first, last, strict=True))
        # along x, y and z for themselves: adding three lines up is faster than turning every voxel
        sides = [low[i] + spacing * np.arange(s.start, s.stop) - tooth.cervix[i] for i, s in enumerate(box[::-1])]
        lines = [[(axis[i] * sides[i]).astype(np.float32) for i in range(3)] for axis in tooth.axes]
        local = [x + y[:, None] + z[:, None, None] for x, y, z in lines]
        distance = tooth_distance(tooth.shape, *local)[0]
        own = distance < nearest[box]
        label[box][own], nearest[box][own] = tooth.fdi, distance[own]
    return volume


def _corners(tooth: PlacedTooth) -> tuple[Floats, Floats]:
    """The ends of the box (LPS mm) in which a tooth lies."""
    shape, ends = tooth.shape, (-tooth.shape.reach, tooth.shape.reach)
    heights = (-shape.depth - _MARGIN_MM, shape.crown_height + _MARGIN_MM)
    corners = tooth.cervix + np.array([[u, v, w] for u in ends for v in ends for w in heights]) @ tooth.axes
    return corners.min(axis=0), corners.max(axis=0)


def _solid(tooth: PlacedTooth) -> Floats:
    """Points (n, 3) in the tooth's own frame that fill it, every :data:`STEP_MM`."""
    shape = tooth.shape
    across = np.arange(-shape.reach, shape.reach, STEP_MM)
    up = np.arange(-shape.depth - STEP_MM, shape.crown_height + STEP_MM, STEP_MM)
    grid: list[Any] = list(np.meshgrid(across, across, up, indexing="ij"))
    inside = tooth_distance(shape, *(side.astype(np.float32) for side in grid))[0] < 0
    return np.stack([side[inside] for side in grid], axis=1)


def occlusal_normal(dentition: Dentition) -> Floats:
    """Upward unit normal (LPS) of the occlusal plane: least squares through the tops of the crowns that have come
    through, by two parallel planes, one a jaw. Third molars have no say: many are drawn deep in the bone."""
    standing = [tooth for tooth in dentition.teeth if tooth.erupted and teeth.position(tooth.fdi) != 8]
    tops = np.array([tooth.cervix + tooth.shape.crown_height * tooth.axes[2] for tooth in standing])
    upper = np.array([teeth.is_upper(tooth.fdi) for tooth in standing])
    design = np.column_stack([tops[:, :2], upper, ~upper]).astype(float)
    slope = np.linalg.lstsq(design, tops[:, 2], rcond=None)[0]
    normal = np.array([-slope[0], -slope[1], 1.0])
    return np.asarray(normal / np.linalg.norm(normal))


def _frame(tooth: PlacedTooth, dentition: Dentition) -> tuple[Floats, Floats, Floats]:
    """Unit vectors (LPS) mesial, buccal and occlusal of the arch beside a tooth's cervix."""
    left, upper = teeth.is_left(tooth.fdi), teeth.is_upper(tooth.fdi)
    up = occlusal_normal(dentition)
    line = (dentition.upper if upper else dentition.lower).side(left, _ARCH_MM)
    near = int(np.clip(np.argmin(np.linalg.norm(line - tooth.cervix[:2], axis=1)), 1, len(line) - 2))
    mesial = np.append(line[near - 1] - line[near + 1], 0.0)
    mesial -= mesial @ up * up
    mesial /= np.linalg.norm(mesial)
    outward = np.cross(up, mesial) * (1 if left else -1)
    return mesial, outward, -up if upper else up
