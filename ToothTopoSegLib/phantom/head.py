"""A head around a dentition, rendered on any grid: tissue map and exact labels.

In: a dentition and a grid (shape, spacing, pose). Out: two uint8 arrays (z, y, x): the tissue of each voxel and its
label (FDI numbers, 101 lower jaw, 102 upper jaw, 0 elsewhere). Jaws, palate, sinuses, soft tissue, airway and spine
are built from distances to the arch curves, which is cheap on fine grids; a smooth random warp makes them individual.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.anatomy.fdi import LOWER_JAW, UPPER_JAW
from ToothTopoSegLib.phantom.arch import Arch, Dentition, PlacedTooth
from ToothTopoSegLib.phantom.arrays import between
from ToothTopoSegLib.phantom.tooth import MOLAR, tooth_distance

Array = NDArray[Any]

AIR, SOFT, MUSCLE, FAT, TRABECULAR, CORTICAL, DENTINE, ENAMEL, PULP, METAL, GUTTA = range(11)
CERAMIC, TITANIUM = 11, 12
"""Only in natural heads."""
NO_BONE_MM, BAND_MM = 3.2, 0.3
"""An alveolar process reaches less far than this from a root; the metal of an orthodontic band is so thick."""


@dataclass(frozen=True)
class Pose:
    """Where the grid lies in the head: LPS mm of its centre and the head's tilt (3x3 rotation)."""

    centre: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rotation: tuple[tuple[float, ...], ...] = ((1, 0, 0), (0, 1, 0), (0, 0, 1))


@dataclass(frozen=True)
class _Map:
    """Distance to an arch curve (outward positive), and arc length from the midline, on a 0.5 mm (y, x) lattice."""

    distance: Array
    along: Array

    LOW = -95.0
    STEP = 0.5

    def look(self, table: Array, x: Array, y: Array) -> Array:
        """Nearest-lattice look-up of one of the tables at points in mm."""
        n = table.shape[0] - 1
        iy = np.clip(((y - self.LOW) / self.STEP + 0.5).astype(np.int32), 0, n)
        ix = np.clip(((x - self.LOW) / self.STEP + 0.5).astype(np.int32), 0, n)
        return np.asarray(table[iy, ix])


def _arch_map(arch: Arch) -> _Map:
    """Distances to the arch over the whole head, by nearest point of its polyline."""
    from scipy.spatial import cKDTree

    sides = [arch.side(left, 120) for left in (False, True)]
    line = np.concatenate([sides[0][::-1], sides[1]])
    along = np.concatenate([np.arange(len(sides[0]))[::-1], np.arange(len(sides[1]))]) * 0.5
    at = np.arange(_Map.LOW, -_Map.LOW, _Map.STEP)
    yy, xx = np.meshgrid(at, at, indexing="ij")
    distance, nearest = cKDTree(line).query(np.stack([xx, yy], -1).reshape(-1, 2))
    # The tongue's side of the curve: between the two legs.
    width = np.interp(yy, sides[1][:, 1], np.abs(sides[1][:, 0] - arch.middle), left=0.0)
    inside = (np.abs(xx - arch.middle) < width) & (yy > arch.front)
    signed = np.where(inside.ravel(), -distance, distance).reshape(xx.shape)
    return _Map(signed.astype(np.float32), along[nearest].reshape(xx.shape).astype(np.float32))


def smooth_noise(shape: tuple[int, ...], cells: int, rng: np.random.Generator) -> Array:
    """Smooth random field on ``shape``, of unit standard deviation at the ``cells`` lattice points it runs between."""
    coarse = rng.normal(0, 1, (cells,) * len(shape)).astype(np.float32)
    # Axis by axis, as small matrix products: linear interpolation is separable, and general zooming took most of the
    # time a scan takes to make.
    for axis, length in enumerate(shape):
        coarse = np.moveaxis(np.tensordot(between(length, cells), coarse, (1, axis)), 0, axis)
    return np.ascontiguousarray(coarse, dtype=np.float32)


def _points(shape: tuple[int, int, int], spacing: Array, pose: Pose, rng: np.random.Generator, warp: float) -> Array:
    """Head coordinates (3, z, y, x) as (x, y, z) mm of every voxel, with a smooth warp of ``warp`` mm."""
    axes = [((np.arange(n) - (n - 1) / 2) * s).astype(np.float32) for n, s in zip(shape, spacing, strict=True)]
    turn = np.asarray(pose.rotation, dtype=np.float32)
    out = np.empty((3, *shape), np.float32)
    for i in range(3):
        x, y, z = turn[i, 0] * axes[2], turn[i, 1] * axes[1], turn[i, 2] * axes[0]
        out[i] = (x[None, None, :] + y[None, :, None] + z[:, None, None]) + np.float32(pose.centre[i])
        if warp > 0:
            out[i] += warp * smooth_noise(shape, 4, rng)
    return out


def _tooth_box(
    tooth: PlacedTooth, shape: tuple[int, ...], spacing: Array, pose: Pose, margin: float
) -> tuple[slice, ...]:
    """The voxels that can belong to a tooth; ``margin`` mm allow for the warp."""
    reach, low, high = tooth.shape.reach, -tooth.shape.depth - 1, tooth.shape.crown_height + 3
    corners = np.array([[u, v, w] for u in (-reach, reach) for v in (-reach, reach) for w in (low, high)])
    world = tooth.cervix + corners @ tooth.axes
    local = (world - np.asarray(pose.centre)) @ np.asarray(pose.rotation)
    index = local[:, ::-1] / spacing + (np.asarray(shape) - 1) / 2
    first = np.maximum(np.floor(index.min(0) - margin / spacing), 0).astype(int)
    last = np.minimum(np.ceil(index.max(0) + margin / spacing) + 1, shape).astype(int)
    return tuple(slice(int(a), int(max(a, b))) for a, b in zip(first, last, strict=True))


@dataclass
class _Canvas:
    """What is being painted; ``distance`` is the distance to the nearest tooth (mm, large where far)."""

    tissue: Array
    label: Array
    distance: Array


def _paint_tooth(canvas: _Canvas, points: Array, tooth: PlacedTooth, box: tuple[slice, ...], enveloped: bool) -> None:
    """Paint one tooth with its restoration and bracket; where teeth overlap, the voxel goes to the deeper one."""
    local = [
        np.tensordot(axis.astype(np.float32), points[(slice(None), *box)], 1) - np.float32(axis @ tooth.cervix)
        for axis in tooth.axes
    ]
    u, v, w = local
    distance, enamel, pulp = tooth_distance(tooth.shape, u, v, w)
    nearest = canvas.distance[box]
    own = (distance < 0) & (distance < nearest)
    crown_metal = tooth.material == "crown"
    tissue = np.where(pulp, PULP, np.where(enamel, METAL if crown_metal else ENAMEL, DENTINE)).astype(np.uint8)
    if tooth.material == "filling" and tooth.shape.form in (MOLAR, "premolar"):
        deep = tooth.shape.crown_height * 0.55
        ellipse = np.hypot(u / (0.62 * tooth.shape.crown[0]), v / (0.5 * tooth.shape.crown[1])) < 1
        tissue[ellipse & (w > deep)] = METAL
    if tooth.material == "root filling":
        tissue[pulp] = GUTTA
    canvas.tissue[box][own] = tissue[own]
    canvas.label[box][own] = tooth.fdi
    # The crest of the alveolar bone ends 1 to 2 mm below the cervix: only roots count as near for bone.
    reach = np.where(w < -1.5, distance, np.maximum(distance, NO_BONE_MM if enveloped else 0.9))
    np.minimum(nearest, np.where(own, distance, np.maximum(reach, 0)), out=nearest)
    if tooth.bracket:
        metal = _bracket(tooth, u, v, w)
        if enveloped and tooth.shape.form == MOLAR:
            high = np.abs(w - 0.8 * tooth.shape.crown_height) < 0.3 * tooth.shape.crown_height
            metal |= (distance < BAND_MM) & high
        canvas.tissue[box][metal & (distance > 0) & (canvas.label[box] == 0)] = METAL


def _bracket(tooth: PlacedTooth, u: Array, v: Array, w: Array) -> Array:
    """Where the bracket of a tooth and its piece of the wire are, in the frame of the tooth (mm)."""
    height, wall = 0.5 * tooth.shape.crown_height, tooth.shape.crown[1]
    pad = (np.abs(u) < 1.6) & (np.abs(w - height) < 1.5) & (v > 0.5 * wall) & (v < wall + 1.6)
    wire = (np.abs(w - height) < 0.3) & (np.abs(v - wall - 0.9) < 0.3) & (np.abs(u) < tooth.shape.crown[0] + 0.6)
    return np.asarray(pad | wire)


def _shell(depth: Array, thickness: float, texture: Array) -> Array:
    """Cortical where bone is less than ``thickness`` mm deep, trabecular (with marrow holes) inside."""
    inner = np.where(texture > 0.9, FAT, TRABECULAR)
    return np.where(depth < thickness + 0.35 * texture, CORTICAL, inner).astype(np.uint8)


def _mandible(points: Array, table: _Map, d: Dentition, rng: np.random.Generator) -> Array:
    """Depth in mm inside the mandible (negative outside)."""
    x, y, z = points
    height = float(rng.uniform(24, 34))
    crest = -d.gap / 2 - rng.uniform(9.0, 11.0)
    flare = 1 + 0.006 * np.clip(crest - z, 0, 40)
    along = table.look(table.along, x / flare, y / flare)
    side = table.look(table.distance, x / flare, y / flare)
    back = np.clip(along - rng.uniform(52, 60), 0, None)
    top = crest + back * rng.uniform(1.3, 2.0)
    base = crest - height + back * 0.35 - 3 * np.exp(-((along / 12) ** 2))
    ramus = np.clip(back / 14, 0, 1)
    half = (4.6 + 1.6 * np.clip((crest - z) / 12, 0, 1)) * (1 - 0.35 * ramus)
    half = half + 1.2 * np.exp(-(((along - 42) / 14) ** 2))
    side = side - 1.5 * ramus - 1.0 * np.clip((crest - z - 14) / 12, 0, 1)
    depth = np.minimum(half * rng.uniform(0.85, 1.15) - np.abs(side), np.minimum(top - z, z - base))
    behind = along > rng.uniform(88, 96)
    return np.where(behind, -1, depth).astype(np.float32)


def _maxilla(points: Array, table: _Map, d: Dentition, rng: np.random.Generator) -> tuple[Array, Array]:
    """Depth in mm inside the maxilla (negative outside), and the mask of nasal and sinus air."""
    x, y, z = points
    crest = d.gap / 2 + rng.uniform(7.0, 9.0)
    along, side = table.look(table.along, x, y), table.look(table.distance, x, y)
    roof = crest + rng.uniform(13, 18)
    last = rng.uniform(56, 66)
    half = (4.6 + 1.8 * np.clip(along / 35, 0, 1)) * rng.uniform(0.85, 1.15)
    ridge = np.minimum(half - np.abs(side), np.minimum(z - crest, roof + 3 - z))
    ridge = np.where(along > last, -1, ridge)
    into = np.clip(-side - half, 0, None)
    vault = crest + (roof - crest - 2) * (1 - np.exp(-into / rng.uniform(4, 9)))
    palate = np.minimum(z - vault, vault + rng.uniform(2.2, 4) - z)
    palate = np.where((side < 0) & (along < last - 4), palate, -1)
    face = np.minimum(2.6 - np.abs(side + 1.5 + 0.12 * (z - roof)), np.minimum(z - roof + 2, roof + 26 - z))
    face = np.where((along < last) & (along > 9), face, -1)
    depth = np.maximum(np.maximum(ridge, palate), face)
    air = (np.hypot((np.abs(x) - 6) / 5.5, (z - roof - 14) / 13) < 1) & (y > table.LOW + 60) & (y < 40) & (side < -3)
    for sign in (-1, 1):
        centre = (sign * rng.uniform(24, 29), rng.uniform(-2, 8), roof + rng.uniform(9, 14))
        radii = (rng.uniform(8, 12), rng.uniform(12, 17), rng.uniform(9, 15))
        r = np.sqrt(sum(((p - c) / q) ** 2 for p, c, q in zip((x, y, z), centre, radii, strict=True)))
        wall = (1.12 - r) * min(radii)
        depth = np.where((r > 1) & (wall > 0), np.maximum(depth, np.minimum(wall, (r - 1) * min(radii) + 0.3)), depth)
        air |= r < 1
    air &= depth < 2.5
    return depth.astype(np.float32), air


def _soft_tissue(points: Array, upper: _Map, d: Dentition, rng: np.random.Generator) -> Array:
    """Skin outline, cheeks, tongue, oral air, airway: a tissue map without any bone."""
    x, y, z = points
    front = d.upper.front - rng.uniform(9, 15)
    centre_y = front + rng.uniform(88, 100)
    chin = np.clip((-z - 38) / 30, 0, 1)
    outline = np.hypot(x / (rng.uniform(64, 78) - 8 * chin), (y - centre_y) / (centre_y - front - 22 * chin))
    tissue = np.where(outline < 1, SOFT, AIR).astype(np.uint8)
    tissue[(outline > 0.8) & (outline < 0.96)] = FAT
    side = upper.look(upper.distance, x, y)
    tissue[(side > 7) & (side < 15) & (outline < 0.8) & (y > 0)] = MUSCLE
    mouth = (side < -3) & (y < 45)
    tissue[mouth & (z < 10) & (z > -28)] = MUSCLE
    if rng.random() < 0.7:
        low = rng.uniform(-6, 10)
        tissue[mouth & (z > low) & (z < low + rng.uniform(1.5, 14))] = AIR
    if rng.random() < 0.4:
        tissue[(np.abs(z) < max(d.gap / 2, 0.8)) & (side > -8) & (side < rng.uniform(4, 9)) & (y < 35)] = AIR
    throat = np.hypot(x / rng.uniform(8, 15), (y - front - rng.uniform(72, 84)) / rng.uniform(4, 8)) < 1
    tissue[throat] = AIR
    return tissue


def _distractors(points: Array, tissue: Array, front: float, rng: np.random.Generator) -> None:
    """Spine, hyoid and pieces of skull base: bone that is no jaw, painted in place."""
    x, y, z = points
    spine_y = front + rng.uniform(92, 106)
    level = np.mod(z + rng.uniform(0, 20), rng.uniform(17, 21))
    body = np.hypot(x / rng.uniform(9, 14), (y - spine_y) / rng.uniform(8, 11))
    tissue[(body < 1) & (level > 4)] = TRABECULAR
    tissue[(body < 1) & (body > 0.82) & (level > 3.5)] = CORTICAL
    for _ in range(int(rng.integers(2, 7))):
        centre = np.array([rng.uniform(-45, 45), rng.uniform(-10, 70), rng.uniform(34, 75)])
        if rng.random() < 0.25:
            centre = np.array([rng.uniform(-25, 25), rng.uniform(25, 60), rng.uniform(-65, -42)])
        radii = rng.uniform(3, 14, 3)
        r = np.sqrt(sum(((p - c) / q) ** 2 for p, c, q in zip(points, centre, radii, strict=True)))
        tissue[r < 1] = TRABECULAR if rng.random() < 0.5 else CORTICAL if rng.random() < 0.5 else AIR
        tissue[(r < 1) & (r > 1 - 1.8 / radii.min())] = CORTICAL


def render(
    dentition: Dentition,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    rng: np.random.Generator,
    pose: Pose | None = None,
    warp: float = 0.8,
    enveloped: bool = False,
    natural: bool = False,
) -> tuple[Array, Array]:
    """Tissue and label maps, both uint8 (z, y, x), of a head on a grid with ``spacing`` (z, y, x) in mm.

    ``warp`` is the size in mm of the smooth deformation that makes heads individual. With ``enveloped`` the alveolar
    process follows each root, however far it lies from the body of its jaw, and molars with brackets bear bands. A
    ``natural`` head is another one altogether: see :mod:`ToothTopoSegLib.phantom.whole_head`.
    """
    pose = pose or Pose()
    if natural:
        from ToothTopoSegLib.phantom.whole_head import render_whole_head

        return render_whole_head(dentition, shape, spacing, rng, pose, warp)
    step = np.asarray(spacing, dtype=np.float32)
    points = _points(shape, step, pose, rng, warp)
    upper, lower = _arch_map(dentition.upper), _arch_map(dentition.lower)
    soft = _soft_tissue(points, upper, dentition, rng)
    canvas = _Canvas(soft, np.zeros(shape, np.uint8), np.full(shape, 50, np.float32))
    _distractors(points, canvas.tissue, dentition.upper.front, rng)
    texture = smooth_noise(shape, max(8, int(min(shape) * step.min() / 2.5)), rng)
    top, air = _maxilla(points, upper, dentition, rng)
    bottom = _mandible(points, lower, dentition, rng)
    canvas.tissue[air] = AIR
    for depth, value, cortex in ((top, UPPER_JAW, rng.uniform(0.8, 1.6)), (bottom, LOWER_JAW, rng.uniform(1.4, 2.6))):
        inside = depth > 0
        canvas.tissue[inside] = _shell(depth[inside], float(cortex), texture[inside])
        canvas.label[inside] = value
    _paint_nerve_canal(canvas, bottom > 0, points, lower, dentition, rng)
    for tooth in dentition.teeth:
        box = _tooth_box(tooth, shape, step, pose, 3.0)
        if all(s.stop > s.start for s in box):
            _paint_tooth(canvas, points, tooth, box, enveloped)
    _paint_sockets(canvas, points, rng, enveloped)
    return canvas.tissue, canvas.label


def _paint_nerve_canal(
    canvas: _Canvas, mandible: Array, points: Array, table: _Map, d: Dentition, rng: np.random.Generator
) -> None:
    """The canal of the inferior alveolar nerve: a soft tube in the mandible behind the premolars."""
    x, y, z = points
    along, side = table.look(table.along, x, y), table.look(table.distance, x, y)
    canal = np.hypot(side + 1, z + d.gap / 2 + 30 - 0.12 * along) < rng.uniform(0.9, 1.6)
    canvas.tissue[canal & mandible & (along > 28)] = SOFT


def _paint_sockets(canvas: _Canvas, points: Array, rng: np.random.Generator, enveloped: bool) -> None:
    """Periodontal gap and bone around roots, also where a root would stick out of the jaw."""
    gap = float(rng.uniform(0.15, 0.35))
    free = ((canvas.label == 0) | (canvas.label >= LOWER_JAW)) & (canvas.distance > 0) & (canvas.tissue != METAL)
    added = _alveolar_process(canvas, free, rng) if enveloped else _thin_plates(canvas, free, rng)
    canvas.label[added & (points[2] > 0)] = UPPER_JAW
    canvas.label[added & (points[2] <= 0)] = LOWER_JAW
    canvas.tissue[free & (canvas.distance < gap)] = SOFT


def _thin_plates(canvas: _Canvas, free: Array, rng: np.random.Generator) -> Array:
    """Paint compact bone close to roots and return where it is."""
    bony = free & (canvas.distance < min(float(rng.uniform(0.6, 1.3)), 0.89))
    canvas.tissue[bony] = CORTICAL
    return np.asarray(bony)


def _alveolar_process(canvas: _Canvas, free: Array, rng: np.random.Generator) -> Array:
    """Paint lamina dura and the bone that envelops the roots beyond the body of the jaw; return where that is."""
    lamina, plate = float(rng.uniform(0.3, 1.0)), float(rng.uniform(0.7, NO_BONE_MM - 0.2))
    cortex = float(rng.uniform(0.4, 1.0))
    added = free & (canvas.label == 0) & (canvas.distance < plate)
    canvas.tissue[added] = TRABECULAR
    canvas.tissue[(free & (canvas.distance < lamina)) | (added & (canvas.distance > plate - cortex))] = CORTICAL
    return np.asarray(added)
