"""The alveolar ridge of a jaw: a swept section that follows the teeth, those that stand and those that were lost.

The places of all teeth are read along the curve of the jaw (arc length ``along``, negative on the right; ``side``
outward of the curve) and joined to tables: how high the crest and the root tips lie, how far the middle of the ridge
is from the curve there, and how wide it is. Where teeth are gone the ridge has healed lower and thinner (Cawood &
Howell 1988, classes III to V).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.anatomy.fdi import is_upper
from ToothTopoSegLib.phantom.arch import PlacedTooth
from ToothTopoSegLib.phantom.fields import smooth_min

Array = NDArray[Any]

REACH = 130.0
STEP = 0.5


@dataclass(frozen=True, eq=False)
class Curve:
    """Arc length and signed distance (outward positive) of a curve in the (x, y) plane, on a 1 mm (y, x) lattice.

    ``sides`` are the polylines of the right and the left side from the midline backwards.
    """

    along: Array
    side: Array
    sides: tuple[Array, Array]

    LOW = -110.0

    @staticmethod
    def of(right: Array, left: Array) -> Curve:
        """The curve with these sides (n, 2), points (x, y) mm every 0.5 mm from the midline backwards."""
        from scipy.spatial import cKDTree

        line = np.concatenate([right[::-1], left])
        arc = np.concatenate([-np.arange(len(right))[::-1], np.arange(len(left))]) * STEP
        at = np.arange(Curve.LOW, -Curve.LOW + 1)
        yy, xx = np.meshgrid(at, at, indexing="ij")
        distance, nearest = cKDTree(line).query(np.stack([xx, yy], -1).reshape(-1, 2))
        low, high = (np.interp(yy, s[:, 1], s[:, 0]) for s in (right, left))
        inside = (xx > low) & (xx < high) & (yy > max(right[0, 1], left[0, 1]))
        signed = np.where(inside.ravel(), -distance, distance).reshape(xx.shape)
        return Curve(arc[nearest].reshape(xx.shape).astype(np.float32), signed.astype(np.float32), (right, left))

    def look(self, x: Array, y: Array) -> tuple[Array, Array]:
        """(along, side) in mm of points in mm."""
        from scipy.ndimage import map_coordinates

        where = np.stack([y - self.LOW, x - self.LOW])
        side = map_coordinates(self.side, where, order=1, mode="nearest")
        # Arc lengths jump where the two sides are equally near: take the nearest value, never one between.
        return map_coordinates(self.along, where, order=0, mode="nearest"), side


@dataclass(frozen=True)
class ToothSocket:
    """How bone holds one tooth; mm.

    ``crest`` is how far the bone ends below the cervix; ``buccal`` and ``lingual`` are the least thickness of the
    plates; ``slope`` is how much lower the crest lies mesially than distally for each mm; ``dehiscence`` lowers the
    buccal crest. ``ligament`` is the gap around the root and ``lamina`` the compact bone around that.
    """

    crest: float
    buccal: float
    lingual: float
    slope: float
    dehiscence: float
    ligament: float
    lamina: float
    follicle: float


def draw_sockets(teeth: tuple[PlacedTooth, ...], seed: int) -> tuple[ToothSocket, ...]:
    """A socket for every tooth: alike within a head, with horizontal and vertical loss of bone in some.

    A tooth's socket depends on the seed and on the tooth alone, not on which others there are.
    """
    rng = np.random.default_rng(seed)
    level = float(rng.uniform(0.8, 2.0)) + (float(rng.uniform(0.5, 3.0)) if rng.random() < 0.2 else 0.0)
    thick, gap, lamina = float(rng.uniform(0.45, 1.1)), float(rng.uniform(0.15, 0.32)), float(rng.uniform(0.25, 0.6))
    made = []
    for tooth in teeth:
        rng = np.random.default_rng([seed, tooth.fdi])
        vertical = rng.random() < 0.06
        made.append(
            ToothSocket(
                crest=float(np.clip(level + rng.normal(0, 0.3) + (rng.uniform(1, 4) if vertical else 0), 0.5, 7.0)),
                buccal=float(np.clip(thick * rng.uniform(0.6, 1.4) + (0.5 if tooth.fdi % 10 > 5 else 0), 0.3, 2.0)),
                lingual=float(np.clip(thick * rng.uniform(1.0, 2.2), 0.4, 2.4)),
                slope=float(rng.normal(0, 0.25) if vertical else rng.normal(0, 0.04)),
                dehiscence=float(rng.uniform(2, 6) if rng.random() < 0.06 else 0),
                ligament=float(gap + rng.uniform(-0.05, 0.08)),
                lamina=float(lamina * rng.uniform(0.8, 1.2)),
                follicle=float(rng.uniform(0.6, 2.5)),
            )
        )
    return tuple(made)


@dataclass(frozen=True)
class Healing:
    """How the ridge healed where a tooth was lost: ``lower`` by so many mm and ``thinner`` by a factor.

    A ``fresh`` socket has not healed yet.
    """

    lower: float
    thinner: float
    fresh: bool


def draw_healing(gone: tuple[PlacedTooth, ...], seed: int) -> tuple[Healing, ...]:
    """How each lost tooth's place healed, alike within a head; around implants the ridge keeps its height."""
    rng = np.random.default_rng(seed)
    lower, thinner = float(rng.uniform(2, 7)), float(rng.uniform(0.55, 0.85))
    made = []
    for tooth in gone:
        rng = np.random.default_rng([seed, tooth.fdi])
        if tooth.material == "implant":
            made.append(Healing(float(rng.uniform(0.5, 1.5)), float(rng.uniform(0.85, 1.0)), False))
        elif rng.random() < 0.1:
            made.append(Healing(0.5, 1.0, True))
        else:
            made.append(Healing(float(lower * rng.uniform(0.7, 1.3)), thinner, False))
    return tuple(made)


@dataclass(frozen=True, eq=False)
class Ridge:
    """Tables over ``along`` (from -REACH to REACH in steps of STEP): z, offset from the curve and half width in mm.

    ``up`` is -1 in the upper jaw, whose crest looks down, and +1 in the lower. ``last`` is where the ridge ends on the
    right and on the left.
    """

    crest_z: Array
    crest_side: Array
    crest_half: Array
    apex_z: Array
    apex_side: Array
    apex_half: Array
    up: int
    last: tuple[float, float]

    def index(self, along: Array) -> Array:
        """Which row of the tables holds at an arc length in mm."""
        return np.clip(np.rint((along + REACH) / STEP), 0, len(self.crest_z) - 1).astype(np.int32)

    def ends(self, along: Array) -> Array:
        """How far (mm) an arc length is before the ends of the ridge."""
        return np.minimum(along - self.last[0], self.last[1] - along)

    def depth(self, along: Array, side: Array, z: Array) -> Array:
        """Depth (mm) in the ridge at points of one shape."""
        index = self.index(along)
        crest_half, up = self.crest_half[index], np.float32(self.up)
        top, bottom = self.crest_z[index] * up - crest_half, self.apex_z[index] * up
        height = np.maximum(top - bottom, 0.5)
        lean = (self.crest_side[index] - self.apex_side[index]) / height
        t = np.clip((up * z - bottom) / height, 0, 1)
        middle = self.apex_side[index] + lean * height * t
        half = self.apex_half[index] * (1 - t) + crest_half * t
        over = np.maximum(np.maximum(up * z - top, bottom - up * z), 0)
        section = half - np.hypot(side - middle, over)
        return smooth_min(section, self.ends(along), 5.0).astype(np.float32)


def _stands(tooth: PlacedTooth, curve: Curve) -> tuple[float, float, float]:
    """Arc length of a tooth on the curve and the sides of its cervix and of its root tip."""
    tip = tooth.cervix - 0.9 * tooth.shape.depth * tooth.axes[2]
    xy = np.stack([tooth.cervix, tip])[:, :2].astype(np.float32)
    along, side = curve.look(xy[:, 0], xy[:, 1])
    return float(along[0]), float(side[0]), float(side[1])


def make_ridge(
    teeth: tuple[PlacedTooth, ...],
    sockets: tuple[ToothSocket, ...],
    gone: tuple[PlacedTooth, ...],
    healing: tuple[Healing, ...],
    curve: Curve,
    upper: bool,
    bite: float,
    rng: np.random.Generator,
) -> Ridge:
    """The ridge of one jaw; ``bite`` is the z in mm that stands in for teeth where there never were any."""
    up = -1 if upper else 1
    # Plates follow every root on their own; the ridge between them is a little thinner than the teeth.
    extra = float(rng.uniform(-0.6, 0.6))
    rows: list[tuple[float, ...]] = []
    bare = sockets[0] if sockets else draw_sockets(gone[:1], 0)[0] if gone else None
    places = [(t, s, Healing(0.0, 1.0, False)) for t, s in zip(teeth, sockets, strict=True) if t.erupted]
    places += [(t, bare, h) for t, h in zip(gone, healing, strict=True) if bare]
    for tooth, socket, healed in places:
        if is_upper(tooth.fdi) != upper:
            continue
        along, side, tip_side = _stands(tooth, curve)
        crest = float(tooth.cervix[2]) - up * (socket.crest + healed.lower)
        tip = float(tooth.cervix[2] - tooth.shape.depth * tooth.axes[2][2])
        half = healed.thinner * (0.9 * tooth.shape.cervix[1] + 0.3 * (socket.buccal + socket.lingual) + extra)
        low, high = tip_side - 0.85 * half - 0.5, tip_side + 0.85 * half + 0.5
        if not upper:
            high = max(high, 0.5)  # the ridge of the last molars leans on the ramus, which lies farther out
        tip = min(up * tip, up * crest - 5.0) * up
        rows.append((along, crest, side, half, tip, (low + high) / 2, (high - low) / 2))
    return _tables(rows, up, bite, rng)


def _tables(rows: list[tuple[float, ...]], up: int, bite: float, rng: np.random.Generator) -> Ridge:
    """Tables through the teeth, smoothed over 1.5 mm; teeth that lean across the jaw move its ends, not its middle."""
    from scipy.ndimage import gaussian_filter1d

    if not rows:
        low = bite - up * float(rng.uniform(10, 15))
        half = float(rng.uniform(2.5, 4.5))
        rows = [(s, low, 0.0, half, low - up * 8.0, 0.0, half + 1.5) for s in (-45.0, -20.0, 20.0, 45.0)]
    table = np.array(sorted(rows))
    at = np.arange(-REACH, REACH + STEP / 2, STEP)
    columns = [gaussian_filter1d(np.interp(at, table[:, 0], table[:, i]), 1.5 / STEP) for i in range(1, 7)]
    z, side, half, tip, tip_side, tip_half = (c.astype(np.float32) for c in columns)
    tail = float(rng.uniform(5.5, 8.5)) if up < 0 else float(rng.uniform(7.0, 10.0))
    last = (float(table[0, 0]) - tail, float(table[-1, 0]) + tail)
    return Ridge(z, side, half, tip, tip_side, tip_half, up, last)
