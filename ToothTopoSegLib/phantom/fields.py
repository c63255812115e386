"""Implicit shapes of a natural head: what they are measured with and where they are evaluated.

A head is a set of *depth fields*: how many mm a point lies inside a structure, negative outside. They are smooth, so
they are evaluated on a lattice of about 1 mm and read from there on any finer grid, which costs a small part of
evaluating them on every voxel. Everything random is a function of head coordinates (LPS mm), never of the grid: the
same place of the same head shows the same tissue whatever grid shows it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.phantom.head import Pose

Array = NDArray[Any]
Box = tuple[slice, ...]
Point = tuple[float, float, float]

PITCH_MM, WIDEST_MM, LATTICE_POINTS = 1.0, 1.6, 1_200_000
"""Depth fields are evaluated at points this far apart, or at every voxel of a coarser grid. Where that takes more than
so many points, as in whole skulls, they stand wider apart, up to the second figure."""
OUTSIDE = -40.0
"""Depth (mm) where nothing was painted."""


@dataclass(frozen=True, eq=False)
class Wave:
    """A smooth periodic random field (count, n, n, n) over head coordinates with nodes every ``pitch`` mm."""

    nodes: Array
    pitch: float

    @staticmethod
    def draw(rng: np.random.Generator, pitch: float, count: int = 1, nodes: int = 14) -> Wave:
        """Fields of unit standard deviation at their nodes; they repeat after ``nodes * pitch`` mm."""
        return Wave(rng.normal(0, 1, (count, nodes, nodes, nodes)).astype(np.float32), pitch)

    def at(self, points: Array) -> Array:
        """Values (count, ...) at points (3, ...) in mm."""
        from scipy.ndimage import map_coordinates

        where = points[::-1] / self.pitch
        return np.stack([map_coordinates(node, where, order=3, mode="grid-wrap") for node in self.nodes])


@dataclass(frozen=True, eq=False)
class Grain:
    """Fine periodic noise (n, n, n) of unit standard deviation in steps of ``step`` mm, by nearest look-up."""

    table: Array
    step: float

    @staticmethod
    def draw(rng: np.random.Generator, size_mm: float, step: float = 0.4, length: int = 96) -> Grain:
        """Noise whose blobs are about ``size_mm`` across."""
        from scipy.ndimage import gaussian_filter

        white = rng.standard_normal((length,) * 3, dtype=np.float32)
        table = gaussian_filter(white, size_mm / 2.5 / step, mode="wrap")
        return Grain((table / table.std()).astype(np.float32), step)

    def at(self, x: Array, y: Array, z: Array) -> Array:
        """Values at points in mm."""
        n = len(self.table)
        index = [np.rint(c / self.step).astype(np.int32) % n for c in (z, y, x)]
        return np.asarray(self.table[tuple(index)])


def _spread(values: Array, at: tuple[Array, Array, Array]) -> Array:
    """Linear interpolation of (z, y, x) values at every combination of fractional indices ``at``."""
    first = [int(np.floor(a[0])) for a in at]
    last = [int(np.ceil(a[-1])) + 1 for a in at]
    out = values[tuple(slice(a, b) for a, b in zip(first, last, strict=True))]
    z, y, x = (
        np.clip(1 - np.abs(a[:, None] - np.arange(f, b)), 0, 1).astype(np.float32)
        for a, f, b in zip(at, first, last, strict=True)
    )
    out = (z @ out.reshape(out.shape[0], -1)).reshape(len(z), *out.shape[1:])
    return np.asarray(np.matmul(np.matmul(y, out), x.T))


def _fractions(fine: int, coarse: int) -> Array:
    """Fractional indices on ``coarse`` lattice points of ``fine`` voxels; both begin and end at the same places."""
    return np.linspace(0, coarse - 1, fine)


@dataclass(frozen=True, eq=False)
class Lattice:
    """The points a head is evaluated at for one grid.

    ``points`` (3, z, y, x) are head coordinates as (x, y, z) mm, warp included, of the coarse lattice; ``shape`` is
    the grid's own. ``long`` (3, z, y, x) and ``rough`` (z, y, x) are random fields of unit standard deviation there.
    """

    points: Array
    shape: tuple[int, int, int]
    spacing: Array
    pose: Pose
    warp: float
    long: Array
    rough: Array

    def support(self, values: Array, above: float, box: Box) -> Box:
        """The part of a box of the grid in which a field can exceed ``above``."""
        found = []
        coarse = [_fractions(n, c)[s] for n, c, s in zip(self.shape, values.shape, box, strict=True)]
        crop = tuple(slice(int(a[0]), int(np.ceil(a[-1])) + 1) for a in coarse)
        there = values[crop] > above
        for axis, (at, cut, span) in enumerate(zip(coarse, crop, box, strict=True)):
            some = np.flatnonzero(there.any(axis=tuple(k for k in range(3) if k != axis))) + cut.start
            if not len(some):
                return (slice(0, 0),) * 3
            inside = np.flatnonzero((at > some[0] - 1) & (at < some[-1] + 1))
            found.append(slice(span.start + int(inside[0]), span.start + int(inside[-1]) + 1))
        return tuple(found)

    def fine(self, values: Array, box: Box) -> Array:
        """A field of the lattice on the voxels of a box of the grid."""
        at = [_fractions(n, c)[s] for n, c, s in zip(self.shape, values.shape, box, strict=True)]
        return _spread(values, (at[0], at[1], at[2]))

    def fine_points(self, box: Box) -> Array:
        """Head coordinates (3, z, y, x) of the voxels of a box of the grid."""
        return np.stack([self.fine(axis, box) for axis in self.points])

    def box(self, low: Array, high: Array) -> Box:
        """The voxels of the grid that can show the cuboid from ``low`` to ``high`` (x, y, z mm)."""
        return self._box(low, high, self.shape)

    def coarse_box(self, low: Array, high: Array) -> Box:
        """The points of the lattice that can lie in the cuboid from ``low`` to ``high`` (x, y, z mm)."""
        z, y, x = self.points.shape[1:]
        return self._box(low, high, (z, y, x))

    def _box(self, low: Array, high: Array, shape: tuple[int, int, int]) -> Box:
        corners = np.array([[(low, high)[i >> k & 1][k] for k in range(3)] for i in range(8)])
        return self.box_around(corners, 3 * self.warp, shape)

    def box_around(self, corners: Array, margin: float, shape: tuple[int, int, int] | None = None) -> Box:
        """The voxels around the corners (n, 3) of a body, ``margin`` mm wider; empty slices where it is not shown."""
        shape = shape or self.shape
        local = ((corners - np.asarray(self.pose.centre)) @ np.asarray(self.pose.rotation))[:, ::-1]
        reach = (np.asarray(self.shape) - 1) * self.spacing
        step = np.maximum(reach, 1e-6) / np.maximum(np.asarray(shape) - 1, 1)
        first = np.floor((local.min(0) - margin + reach / 2) / step)
        last = np.ceil((local.max(0) + margin + reach / 2) / step) + 1
        first, last = np.clip(first, 0, shape).astype(int), np.clip(last, 0, shape).astype(int)
        return tuple(slice(int(a), int(max(a, b))) for a, b in zip(first, last, strict=True))


def is_empty(box: Box) -> bool:
    """Whether a box has no voxel."""
    return any(s.stop <= s.start for s in box)


def _turned(axes: list[Array], pose: Pose) -> Array:
    """Head coordinates (3, z, y, x) of a grid's own (z, y, x) axes in mm."""
    turn = np.asarray(pose.rotation, dtype=np.float32)
    out = np.empty((3, *(len(a) for a in axes)), np.float32)
    for i in range(3):
        x, y, z = turn[i, 0] * axes[2], turn[i, 1] * axes[1], turn[i, 2] * axes[0]
        out[i] = (x[None, None, :] + y[None, :, None] + z[:, None, None]) + np.float32(pose.centre[i])
    return out


def _axes(shape: tuple[int, int, int], spacing: Array, pitch: float) -> list[Array]:
    """The (z, y, x) axes in mm of points at most ``pitch`` mm apart, or of every voxel, from end to end of a grid."""
    reach = (np.asarray(shape) - 1) * spacing
    counts = [min(n, max(2, int(np.ceil(r / pitch)) + 1)) for n, r in zip(shape, reach, strict=True)]
    return [np.linspace(-r / 2, r / 2, n).astype(np.float32) for r, n in zip(reach, counts, strict=True)]


def _pitch(shape: tuple[int, int, int], spacing: Array) -> float:
    """How far apart (mm) the points of the lattice of a grid stand."""
    volume = float(np.prod((np.asarray(shape) - 1) * spacing))
    return float(np.clip((volume / LATTICE_POINTS) ** (1 / 3), PITCH_MM, WIDEST_MM))


def _waving(shape: tuple[int, int, int], spacing: Array, pose: Pose, wave: Wave) -> Array:
    """Values (count, z, y, x) of smooth random fields on the lattice of a grid, by way of fewer nodes."""
    nodes = _axes(shape, spacing, wave.pitch / 4)
    values = wave.at(_turned(nodes, pose))
    coarse = _axes(shape, spacing, _pitch(shape, spacing))
    at = [_fractions(len(c), len(n)) for c, n in zip(coarse, nodes, strict=True)]
    return np.stack([_spread(v, (at[0], at[1], at[2])) for v in values])


def make_lattice(
    shape: tuple[int, int, int], spacing: Array, pose: Pose, warp: float, bend: Wave, rough: Wave
) -> Lattice:
    """The lattice of a grid; ``bend`` (three fields) times ``warp`` mm deforms the head."""
    points = _turned(_axes(shape, spacing, _pitch(shape, spacing)), pose)
    long = _waving(shape, spacing, pose, bend)
    return Lattice(
        points + np.float32(warp) * long, shape, spacing, pose, warp, long, _waving(shape, spacing, pose, rough)[0]
    )


# ---- shapes: depth in mm inside, negative outside


def ellipsoid(p: Array, centre: Point, radii: Point, power: float = 2.0) -> Array:
    """Depth (first order) in a (super-)ellipsoid; with a high ``power`` it nears a box."""
    r, slope = np.zeros(p.shape[1:], np.float32), np.zeros(p.shape[1:], np.float32)
    for i in range(3):
        scaled = np.abs(p[i] - np.float32(centre[i])) * np.float32(1 / radii[i])
        less = scaled if power == 2.0 else scaled ** np.float32(power - 1)
        r += less * scaled
        slope += np.square(less * np.float32(1 / radii[i]))
    size = np.sqrt(r) if power == 2.0 else r ** np.float32(1 / power)
    # Distance to the surface along the gradient; near the middle, where that vanishes, the least radius.
    gradient = np.sqrt(slope) / np.maximum(size, 1e-6) ** np.float32(power - 1)
    return np.asarray((1 - size) * np.minimum(1 / np.maximum(gradient, 1e-6), max(radii)))


@dataclass(frozen=True)
class Rod:
    """A round rod that tapers from radius ``start`` at ``a`` to ``end`` at ``b``; mm.

    ``flat`` stretches its section along one axis (x, y, z), which makes it a plate of about that many times its width.
    """

    a: Point
    b: Point
    start: float
    end: float
    flat: Point = (1.0, 1.0, 1.0)

    @property
    def bounds(self) -> tuple[Array, Array]:
        """The corners (x, y, z) of the cuboid that holds the rod and 3 mm around it."""
        ends, reach = np.array([self.a, self.b]), max(self.start, self.end) * np.array(self.flat) + 3
        return ends.min(0) - reach, ends.max(0) + reach

    def depth(self, p: Array) -> Array:
        """Depth (mm) in the rod at points (3, ...)."""
        squeeze = np.array(self.flat)
        a, b = np.array(self.a) / squeeze, np.array(self.b) / squeeze
        along, to = b - a, [p[i] / np.float32(squeeze[i]) - np.float32(a[i]) for i in range(3)]
        length = max(float(along @ along), 1e-9)
        t = np.clip(sum(to[i] * np.float32(along[i] / length) for i in range(3)), 0, 1)
        away = np.sqrt(sum((to[i] - t * np.float32(along[i])) ** 2 for i in range(3)))
        return np.asarray(self.start + (self.end - self.start) * t - away)


@dataclass(frozen=True)
class Ball:
    """An ellipsoid with half axes ``radii`` mm around ``centre``; a high ``power`` makes it nearly a box."""

    centre: Point
    radii: Point
    power: float = 2.0

    @property
    def bounds(self) -> tuple[Array, Array]:
        """The corners (x, y, z) of the cuboid that holds the ball and 3 mm around it."""
        centre, reach = np.array(self.centre), np.array(self.radii) + 3
        return centre - reach, centre + reach

    def depth(self, p: Array) -> Array:
        """Depth (mm) in the ball at points (3, ...)."""
        return ellipsoid(p, self.centre, self.radii, self.power)


Shape = Rod | Ball


def smooth_max(a: Array, b: Array, width: float) -> Array:
    """The greater of two depths, rounded where they differ by less than ``width`` mm (polynomial smooth maximum)."""
    h = np.maximum(width - np.abs(a - b), 0) / width
    return np.asarray(np.maximum(a, b) + h * h * (width / 4))


def smooth_min(a: Array, b: Array, width: float) -> Array:
    """The lesser of two depths, rounded where they differ by less than ``width`` mm."""
    return -smooth_max(-a, -b, width)


@dataclass(frozen=True, eq=False)
class Frame:
    """The skull's own frame on a lattice: ``points`` are (head - shift) / scale, so that every skull has one size."""

    lattice: Lattice
    points: Array
    shift: Array
    scale: float

    @staticmethod
    def of(lattice: Lattice, shift: Point, scale: float) -> Frame:
        offset = np.asarray(shift, np.float32)
        points = (lattice.points - offset[:, None, None, None]) / np.float32(scale)
        return Frame(lattice, points, np.asarray(shift), scale)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.points.shape[1:]

    def empty(self) -> Array:
        """A field that is nowhere inside."""
        return np.full(self.shape, OUTSIDE, np.float32)

    def box(self, low: Array, high: Array) -> Box:
        """The lattice points of a cuboid given in the skull's frame."""
        return self.lattice.coarse_box(np.asarray(low) * self.scale + self.shift, high * self.scale + self.shift)

    def join(self, field: Array, shapes: tuple[Shape, ...], both_sides: bool = True, smooth: float = 0.0) -> None:
        """Unite a field with shapes, in place; of ``both_sides`` the shapes lie on the left and are mirrored."""
        for shape in shapes:
            low, high = shape.bounds
            if both_sides:
                low, high = low.copy(), high.copy()
                low[0], high[0] = -max(abs(low[0]), abs(high[0])), max(abs(low[0]), abs(high[0]))
            box = self.box(low, high)
            if is_empty(box):
                continue
            p = self.points[(slice(None), *box)]
            if both_sides:
                p = np.stack([np.abs(p[0]), p[1], p[2]])
            depth = shape.depth(p) * np.float32(self.scale)
            field[box] = smooth_max(field[box], depth, smooth) if smooth else np.maximum(field[box], depth)

    def evaluate(self, low: Point, high: Point, depth: Callable[[Array], Array]) -> Array:
        """A field that is ``depth(points)`` in a cuboid of the skull's frame and nowhere inside elsewhere."""
        field = self.empty()
        box = self.box(np.array(low), np.array(high))
        if not is_empty(box):
            field[box] = depth(self.points[(slice(None), *box)]) * np.float32(self.scale)
        return field
