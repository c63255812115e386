"""The fitted arch: occlusal plane, midline and arch curve of each jaw from the teeth themselves, and FDI numbers by it.

In goes a :class:`~ToothTopoSegLib.topology.mouth.Mouth` (or plain points), out come :class:`Arches` in LPS mm and
numbers. The axes of the scan are a prior only: the head may be tilted by 25 degrees and more. Three robust steps: the
occlusal plane from two layers of teeth whose roots point away from each other; midline and curves from a symmetric
arch, half an ellipse in front of straight legs, drawn once and shared by both jaws; the place of each tooth as its arc
length from the midline. Jaw and side come from where a tooth stands, never from the number it bears; of a number only
the place (second digit) has a say in the midline, and with a bounded loss, so that wrong numbers do not pull.

Numbers are given by order-preserving matching along the arch (dynamic programming as in the alignment of sequences:
S. B. Needleman, C. D. Wunsch, J. Mol. Biol. 1970;48:443-453) over place, distance to the neighbours and size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.anatomy import fdi as teeth
from ToothTopoSegLib.anatomy.sizes import size_of
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.topology.betti import Body, ToothTopology
from ToothTopoSegLib.topology.mouth import Mouth

Floats = NDArray[np.float64]

_SAMPLE_MM = 0.7
_TOOTH_SHARE, _TOOTH_MM3 = 0.3, 30.0
"""A further body of a number counts as a tooth from this share of the largest one and this volume on ..."""
_WHOLE_TOOTH_MM3, _WHOLE_MILK_TOOTH_MM3 = 85.0, 65.0
"""... or if it is as large as the smallest teeth of its dentition, however large the other body is."""
_FEWEST = 3
"""Fewer teeth in view do not show an arch."""


@dataclass(frozen=True, eq=False)
class Seen:
    """One body of tooth size.

    ``fdi`` is the number it bears, ``points`` (n, 3) LPS mm a sample of its voxels, ``volume`` mm3; ``cut`` tells that
    it reaches the border of the scan, so that its length and volume are no measure.
    """

    fdi: int
    body: Body
    points: Floats
    centroid: Floats
    volume: float
    cut: bool


@dataclass(frozen=True, eq=False)
class Arch:
    """The curve of one jaw: ``line`` (m, 3) LPS mm from the patient's right to the left, and how far along it is.

    ``along`` (m,) is the arc length in mm from the midline, negative on the patient's right.
    """

    line: Floats
    along: Floats
    up: Floats

    def place(self, points: Floats) -> tuple[Floats, Floats]:
        """Arc length from the midline and distance outwards (mm) of points (n, 3) LPS mm, seen along the jaw's height.

        A point behind the end of the curve is carried on along its last tangent.
        """
        tangents = np.gradient(self.line, axis=0)
        tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
        outward = np.cross(tangents, self.up)
        apart = points[:, None] - self.line[None]
        flat = apart - (apart @ self.up)[..., None] * self.up
        near = np.argmin(np.sum(flat**2, axis=2), axis=1)
        rows = np.arange(len(points))
        step = np.sum(flat[rows, near] * tangents[near], axis=1)
        return self.along[near] + step, np.sum(flat[rows, near] * outward[near], axis=1)

    def points(self, along: Floats, off: Floats) -> Floats:
        """LPS mm (n, 3) of places on the curve's own height: arc lengths and distances outwards, both (n,) in mm."""
        tangents = np.gradient(self.line, axis=0)
        outward = np.cross(tangents / np.linalg.norm(tangents, axis=1, keepdims=True), self.up)
        on = np.stack([np.interp(along, self.along, self.line[:, i]) for i in range(3)], axis=1)
        out = np.stack([np.interp(along, self.along, outward[:, i]) for i in range(3)], axis=1)
        return np.asarray(on + off[:, None] * out)


@dataclass(frozen=True, eq=False)
class Standing:
    """Where a tooth stands, in mm: arc length from the midline (negative = right), distance outwards from the curve.

    ``depth`` is how far its crown stays away from the occlusal plane on the side of its jaw: teeth that have not come
    through lie deep.
    """

    tooth: Seen
    upper: bool
    along: float
    off: float
    depth: float


@dataclass(frozen=True, eq=False)
class Arches:
    """What the teeth of a scan say about the mouth.

    ``axes`` has the rows left, back and up of the head (LPS unit vectors), ``origin`` (LPS mm) lies on the midline and
    the occlusal plane in front. ``upper`` and ``lower`` are None where that jaw is not seen. ``residual_mm`` is the
    median distance of the teeth from their curve; ``curved`` tells whether the front of the arch is in view, so that
    left and right follow from the teeth and not only from the axes of the scan.
    """

    axes: Floats
    origin: Floats
    upper: Arch | None
    lower: Arch | None
    standing: tuple[Standing, ...]
    residual_mm: float
    curved: bool

    @property
    def jaws_told(self) -> bool:
        """Whether upper and lower follow from the teeth: both jaws are seen, or the roots point one way."""
        evidence = float(np.sum(root_evidence([s.tooth for s in self.standing])))
        return (self.upper is not None and self.lower is not None) or abs(evidence) >= _JAW_SURE

    def of(self, upper: bool) -> tuple[Standing, ...]:
        """The teeth of one jaw from the patient's right to the left."""
        return tuple(sorted((s for s in self.standing if s.upper == upper), key=lambda s: s.along))


# ---------------------------------------------------------------------------------------------------- measuring


def seen_teeth(mouth: Mouth) -> tuple[Seen, ...]:
    """Every body of tooth size in a mouth, by number and size."""
    found = []
    for tooth in mouth.teeth.values():
        found += [seen_body(mouth.labels, tooth.fdi, body) for body in tooth_bodies(tooth, mouth.labels.voxel_volume)]
    return tuple(found)


def tooth_bodies(tooth: ToothTopology, voxel_volume: float) -> tuple[Body, ...]:
    """The bodies of a number that are large enough for a tooth, largest first; the largest one always is."""
    least = max(_TOOTH_SHARE * tooth.bodies[0].voxels, _TOOTH_MM3 / voxel_volume)
    whole = _WHOLE_MILK_TOOTH_MM3 if teeth.is_deciduous(tooth.fdi) else _WHOLE_TOOTH_MM3
    least = min(least, whole / voxel_volume)
    return tooth.bodies[:1] + tuple(body for body in tooth.bodies[1:] if body.voxels > least)


def seen_body(labels: Volume, fdi: int, body: Body) -> Seen:
    """A body as a tooth of this number."""
    steps = [max(1, round(_SAMPLE_MM / spacing)) for spacing in labels.spacing]
    picked = np.argwhere(body.mask[tuple(slice(step // 2, None, step) for step in steps)])
    start = [side.start + step // 2 for side, step in zip(body.box, steps, strict=True)]
    indices = picked * steps + start if len(picked) else body.indices
    points = np.asarray(labels.index_to_lps(indices))
    cut = body.reaches_border(labels.array.shape)
    return Seen(fdi, body, points, points.mean(axis=0), body.voxels * labels.voxel_volume, cut)


# ---------------------------------------------------------------------------------------------------- fitting

_TILT_DEGREES = 12.0
"""How far a head is tilted, nodded or turned against the axes of the scan (standard deviation of the prior)."""
_LARGEST_TILT = 36
_LAYER_MM = 3.0
_LEAST_APART_MM = 7.0
_SECOND_LAYER_COST = 4.0
_STRANGE_SPLIT = 1.5
_ROOT_WEIGHT, _ROOT_LIMIT = 5.0, 2.5
_JAW_SURE = 3.0
"""Of a single jaw in view, the roots together tell which it is from this evidence (log odds) on."""

_FITTED: WeakKeyDictionary[Mouth, Arches | None] = WeakKeyDictionary()


def fit_arches(mouth: Mouth) -> Arches | None:
    """Midline, occlusal plane and arch curves of a mouth; None for fewer than three teeth or where no arch fits them.

    The result is kept as long as the mouth is, so that detectors and repairs share one fit.
    """
    if mouth not in _FITTED:
        _FITTED[mouth] = fit_teeth(seen_teeth(mouth))
    return _FITTED[mouth]


def fit_teeth(seen: Sequence[Seen], use_numbers: bool = True) -> Arches | None:
    """The same from teeth alone; with ``use_numbers`` False the numbers they bear have no say in the midline either."""
    if len(seen) < _FEWEST:
        return None
    standing = _without_germs(seen) if use_numbers else seen
    up, above = _layers(standing, use_numbers)
    up = _levelled(standing, above, up)
    upper = _in_upper_layer(seen, standing, above, up)
    back = np.array([0.0, 1.0, 0.0]) - up[1] * up
    back /= np.linalg.norm(back)
    axes = np.stack([np.cross(back, up), back, up])
    crowns = np.stack([_crown(tooth, up, is_upper) for tooth, is_upper in zip(seen, upper, strict=True)])
    return _Curve(seen, upper, axes, crowns, _crown_ends(seen, upper, up) @ up, use_numbers).arches()


def _without_germs(seen: Sequence[Seen]) -> Sequence[Seen]:
    """The teeth without those that lie behind the milk tooth they are to replace, if enough are left to show an arch.

    Germs are in no layer and on no plane; a mouth with many of them would look like that of a tilted head.
    """
    borne = {tooth.fdi for tooth in seen}
    standing = [tooth for tooth in seen if teeth.is_deciduous(tooth.fdi) or tooth.fdi + 40 not in borne]
    return standing if len(standing) >= _FEWEST else seen


def _in_upper_layer(
    seen: Sequence[Seen], standing: Sequence[Seen], above: NDArray[np.bool_], up: Floats
) -> NDArray[np.bool_]:
    """Which of all teeth are upper ones: those that stand as told (``above``), the others by the layer they are in."""
    told = {tooth.body: bool(is_upper) for tooth, is_upper in zip(standing, above, strict=True)}
    heights = np.array([tooth.centroid @ up for tooth in standing])
    if above.all() or not above.any():
        return np.full(len(seen), bool(above.all()))
    bound = (heights[~above].max() + heights[above].min()) / 2
    return np.array([told.get(tooth.body, bool(tooth.centroid @ up > bound)) for tooth in seen])


def _layers(seen: Sequence[Seen], use_numbers: bool) -> tuple[Floats, NDArray[np.bool_]]:
    """The up direction of the head (LPS) and which teeth are upper ones, over a grid of tilts.

    Under the right tilt the centres of the teeth lie in one or two flat layers, and roots point away from the bite.
    Numbers speak only against a split that goes through both jaws, whichever of the two they call the upper one: milk
    teeth and the germs behind them are two layers as well.
    """
    angles = np.radians(np.arange(-_LARGEST_TILT, _LARGEST_TILT + 1, 4))
    nod, roll = (side.ravel() for side in np.meshgrid(angles, angles))
    ups = np.stack([np.sin(roll), np.cos(roll) * np.sin(nod), np.cos(roll) * np.cos(nod)], 1)
    tilts = np.degrees(np.arccos(np.clip(ups[:, 2], -1, 1)))
    heights = ups @ np.stack([tooth.centroid for tooth in seen]).T
    order = np.argsort(heights, axis=1)
    cost = _splits(np.take_along_axis(heights, order, 1)) + 0.5 * (tilts[:, None] / _TILT_DEGREES) ** 2
    # the roots of upper teeth point up; a tooth below a split counts as lower
    roots = root_evidence(seen)[order]
    cost += _below(np.maximum(roots, 0)) + _above(np.maximum(-roots, 0))
    if use_numbers:
        borne = np.array([float(teeth.is_upper(tooth.fdi)) for tooth in seen])[order]
        strange = _below(borne) + _above(1 - borne)
        cost += _STRANGE_SPLIT * np.minimum(strange, len(seen) - strange)
    best, count = np.unravel_index(int(np.argmin(cost)), cost.shape)
    upper = np.ones(len(seen), dtype=bool)
    upper[order[best, :count]] = False
    return ups[best], upper


def _below(values: Floats) -> Floats:
    """Sums (m, n + 1) of the first k of n values (m, n) for k = 0..n."""
    return np.pad(np.cumsum(values, axis=1), ((0, 0), (1, 0)))


def _above(values: Floats) -> Floats:
    """Sums (m, n + 1) of all but the first k of n values (m, n) for k = 0..n."""
    return np.asarray(_below(values[:, ::-1])[:, ::-1])


def _splits(heights: Floats) -> Floats:
    """Cost (m, n + 1) of calling the first k of n ascending heights (m, n) lower teeth: how thick the layers are."""
    count = heights.shape[1]
    sums, squares = _below(heights), _below(heights**2)
    low = np.arange(count + 1)
    high = count - low
    means = sums / np.maximum(low, 1), (sums[:, -1:] - sums) / np.maximum(high, 1)
    spread = squares[:, -1:] - low * means[0] ** 2 - high * means[1] ** 2
    cost = spread / (2 * _LAYER_MM**2)
    two = (low > 0) & (high > 0)
    cost[:, two] += _SECOND_LAYER_COST
    cost[two & (means[1] - means[0] < _LEAST_APART_MM)] = np.inf
    return np.asarray(cost)


def root_evidence(seen: Sequence[Seen]) -> Floats:
    """How much each tooth's own shape says that its root points up (positive) or down, in log odds.

    A tooth tapers towards its root, so that the distribution of its voxels has a long tail there. A tooth cut by the
    border of the scan has lost its tail and says nothing.
    """
    evidence = np.zeros(len(seen))
    for at, tooth in enumerate(seen):
        if tooth.cut or len(tooth.points) < 8:
            continue
        heights = tooth.points[:, 2] - tooth.centroid[2]
        skew = np.mean(heights**3) / max(np.mean(heights**2) ** 1.5, 1e-9)
        evidence[at] = np.clip(_ROOT_WEIGHT * skew, -_ROOT_LIMIT, _ROOT_LIMIT)
    return evidence


def _levelled(seen: Sequence[Seen], upper: NDArray[np.bool_], up: Floats) -> Floats:
    """The up direction refined: normal of the planes through the crown ends of both jaws (two parallel planes).

    Germs have no place in such a plane; where they are many, the refined direction can be that of no head.
    """
    rough = up
    for _ in range(3):
        ends = _crown_ends(seen, upper, up)
        side = np.array([1.0, 0.0, 0.0]) - up[0] * up
        side /= np.linalg.norm(side)
        basis = np.stack([side, np.cross(up, side)])
        flat = (ends - ends.mean(axis=0)) @ basis.T
        design = np.column_stack([flat, upper, ~upper]).astype(float)
        slope = _robust_plane(design, (ends - ends.mean(axis=0)) @ up, basis)
        up = up - slope @ basis
        up = up / np.linalg.norm(up)
    return np.asarray(up if up[2] >= np.cos(np.radians(_LARGEST_TILT + 4)) else rough)


def _robust_plane(design: Floats, heights: Floats, basis: Floats) -> Floats:
    """Slopes (2,) of parallel planes by least squares with Huber weights; the prior holds up to the scan's z axis."""
    # slopes that would bring up back to z, weighed against teeth that lie within about 1.5 mm of their plane
    prior = np.zeros((4, 4))
    prior[0, 0] = prior[1, 1] = 1.5 / np.tan(np.radians(_TILT_DEGREES))
    prior[2, 2] = prior[3, 3] = 1e-6
    upright = np.array([*(-basis[:, 2]), 0.0, 0.0])
    weights = np.ones(len(heights))
    solution = np.zeros(4)
    for _ in range(6):
        rows = np.concatenate([design * weights[:, None], prior])
        solution = np.linalg.lstsq(rows, np.concatenate([heights * weights, prior @ upright]), rcond=None)[0]
        off = np.abs(heights - design @ solution)
        weights = np.sqrt(np.minimum(1, 1.5 / np.maximum(off, 1e-9)))
    return np.asarray(solution[:2])


def _crown_ends(seen: Sequence[Seen], upper: NDArray[np.bool_], up: Floats) -> Floats:
    """Occlusal end (n, 3) of each tooth: above its centre where the crown reaches 95 % of its height."""
    ends = []
    for tooth, is_upper in zip(seen, upper, strict=True):
        heights = (tooth.points - tooth.centroid) @ up
        rank = int((0.05 if is_upper else 0.95) * (len(heights) - 1))
        ends.append(tooth.centroid + up * np.partition(heights, rank)[rank])
    return np.stack(ends)


def crown_points(tooth: Seen, up: Floats, upper: bool) -> Floats:
    """The points (n, 3) of the crown half of a tooth of the upper or lower jaw; ``up`` is the head's (LPS)."""
    heights = (tooth.points - tooth.centroid) @ up * (-1 if upper else 1)
    return np.asarray(tooth.points[heights >= np.median(heights)])


def _crown(tooth: Seen, up: Floats, upper: bool) -> Floats:
    """Centre of the crown half of a tooth, which stands on the arch better than its roots do."""
    return np.asarray(crown_points(tooth, up, upper).mean(axis=0))


_OFF_MM = 1.5
_NUMBER_MM = 5.0
_WORST_RESIDUAL_MM = 5.0
_FRONT_SHARE = 0.45
"""The front is in view if teeth stand on both sides of this share of half the arch's width, or nearer to its middle."""
_LEG_MM = 40.0
_NARROW_MM = 34.0
_YAW, _MIDDLE, _FRONT, _WIDTH, _DEPTH, _FLARE = 0, 1, slice(2, 4), slice(4, 6), 6, 7
_STEP = np.array([0.1, 2.0, 2.0, 2.0, 2.0, 2.0, 3.0, 0.05])
_PRIORS = 6
_MEAN_WIDTH, _MEAN_DEPTH, _MEAN_FLARE, _LOWER_INSET = 28.0, 38.0, 0.05, 2.5
_DECIDUOUS_WIDTH, _DECIDUOUS_DEPTH = 22.0, 28.0


class _Curve:
    """The symmetric arch through the crowns of both jaws, seen from above: maximum a posteriori under a robust loss.

    Its unknowns are yaw (rad), x of the midline, front y of the upper and lower arch, their half widths, and depth
    and flare of both (mm); the first two axes of ``axes`` are x and y.
    """

    def __init__(
        self,
        seen: Sequence[Seen],
        upper: NDArray[np.bool_],
        axes: Floats,
        crowns: Floats,
        ends: Floats,
        use_numbers: bool,
    ) -> None:
        self.seen, self.upper, self.axes = seen, upper, axes
        self.ends, self.level = ends, float(np.median(ends))
        self.crowns = crowns
        self.flat = crowns @ axes[:2].T
        milk = np.array([teeth.is_deciduous(tooth.fdi) for tooth in seen])
        share = float(np.mean(milk))
        self.width = _MEAN_WIDTH + share * (_DECIDUOUS_WIDTH - _MEAN_WIDTH)
        self.depth = _MEAN_DEPTH + share * (_DECIDUOUS_DEPTH - _MEAN_DEPTH)
        self.expected = np.array([abs(places(u)[tooth.fdi]) for tooth, u in zip(seen, upper, strict=True)])
        self.number_weight = 1.0 / _NUMBER_MM if use_numbers else 0.0

    def arches(self) -> Arches | None:
        """The best of several starts; None if the teeth stand nowhere near an arch."""
        rough, cost = self._descend(self._starts(), 7)
        best, _ = self._descend(rough[np.argmin(cost)][None], 12)
        return self._made(best[0])

    def _descend(self, unknown: Floats, rounds: int) -> tuple[Floats, Floats]:
        """Levenberg-Marquardt steps from several starts (b, 8) at once; where they end and what they cost (b,)."""
        damping = np.full(len(unknown), 0.1)
        residuals = self._residuals(unknown)
        for _ in range(rounds):
            slopes = self._slopes(unknown, residuals)
            weighted = slopes * self._weights(residuals)[..., None]
            square = np.einsum("bri,brj->bij", weighted, slopes)
            pull = np.einsum("bri,br->bi", weighted, residuals)
            square += damping[:, None, None] * np.eye(len(_STEP))
            moved = unknown - np.linalg.solve(square, pull[..., None])[..., 0] * _STEP
            after = self._residuals(moved)
            better = self._cost(after) < self._cost(residuals)
            unknown = np.where(better[:, None], moved, unknown)
            residuals = np.where(better[:, None], after, residuals)
            damping = np.where(better, damping / 4, damping * 8)
        return unknown, self._cost(residuals)

    def _slopes(self, unknown: Floats, residuals: Floats) -> Floats:
        """Derivatives (b, r, 8) of the residuals by finite differences, in units of the typical steps."""
        count, length = unknown.shape
        nudged = unknown[:, None] + 0.02 * np.diag(_STEP)
        after = self._residuals(nudged.reshape(-1, length)).reshape(count, length, -1)
        return np.swapaxes((after - residuals[:, None]) / 0.02, 1, 2)

    def _weights(self, residuals: Floats) -> Floats:
        """Weights of the soft L1 loss for the teeth, 1 for the prior."""
        weights = 1 / np.sqrt(1 + residuals**2)
        weights[:, -_PRIORS:] = 1
        return np.asarray(weights)

    def _cost(self, residuals: Floats) -> Floats:
        robust = 2 * (np.sqrt(1 + residuals[:, :-_PRIORS] ** 2) - 1)
        return np.asarray(robust.sum(axis=1) + np.sum(residuals[:, -_PRIORS:] ** 2, axis=1))

    def _starts(self) -> Floats:
        """Turned heads, and for narrow views the arch to either side of the teeth."""
        starts = []
        for yaw in np.radians([-18.0, 0.0, 18.0]):
            x, y = (self.flat @ _turn(yaw).T).T
            low, high = np.percentile(x, [5, 95])
            middles = [(low + high) / 2] if high - low > _NARROW_MM else [low, (low + high) / 2, high]
            front = float(np.percentile(y, 10))
            start = np.array([yaw, 0, front, front, self.width, self.width - _LOWER_INSET, self.depth, _MEAN_FLARE])
            for middle in middles:
                starts.append(start.copy())
                starts[-1][_MIDDLE] = middle
        return np.stack(starts)

    def _residuals(self, unknown: Floats) -> Floats:
        """Residuals (b, r) of several arches (b, 8): distance from the curve, place of the number, prior."""
        along, off = self._project(unknown)
        numbers = (np.abs(along) - self.expected) * self.number_weight
        front, width = unknown[:, _FRONT], unknown[:, _WIDTH]
        prior = [
            np.degrees(unknown[:, _YAW]) / _TILT_DEGREES,
            front[:, 1] - front[:, 0] - _LOWER_INSET,
            (width[:, 0] - self.width) / 3.0,
            (width[:, 0] - width[:, 1] - _LOWER_INSET) / 1.2,
            (unknown[:, _DEPTH] - self.depth) / 4.0,
            (unknown[:, _FLARE] - _MEAN_FLARE) / 0.07,
        ]
        return np.concatenate([off / _OFF_MM, numbers, np.stack(prior, 1)], axis=1)

    def _turned(self, unknown: Floats) -> Floats:
        """The teeth (b, n, 2) from the midline and turned with the head, for several arches (b, 8)."""
        cos, sin = np.cos(unknown[:, _YAW, None]), np.sin(unknown[:, _YAW, None])
        x = cos * self.flat[:, 0] + sin * self.flat[:, 1] - unknown[:, _MIDDLE, None]
        return np.stack([x, cos * self.flat[:, 1] - sin * self.flat[:, 0]], axis=2)

    def _project(self, unknown: Floats) -> tuple[Floats, Floats]:
        """Arc length from the midline and distance outwards (b, n) of all teeth, for several arches (b, 8)."""
        turned = self._turned(unknown)
        along, off = np.zeros(turned.shape[:2]), np.zeros(turned.shape[:2])
        for jaw, chosen in enumerate((self.upper, ~self.upper)):
            if chosen.any():
                lines = _half_arch(unknown[:, _WIDTH][:, jaw], unknown[:, _DEPTH], unknown[:, _FLARE])
                points = np.abs(turned[:, chosen] * (1, 0)) + turned[:, chosen] * (0, 1)
                points[..., 1] -= unknown[:, _FRONT][:, jaw, None]
                along[:, chosen], off[:, chosen] = _beside(points, *lines)
        return along * np.where(turned[..., 0] < 0, -1, 1), off

    def _made(self, unknown: Floats) -> Arches | None:
        along, off = (found[0] for found in self._project(unknown[None]))
        residual = float(np.median(np.abs(off)))
        if residual > _WORST_RESIDUAL_MM:
            return None
        axes = np.concatenate([_turn(unknown[_YAW]) @ self.axes[:2], self.axes[2:]])
        origin = np.array([unknown[_MIDDLE], unknown[_FRONT].min(), self.level]) @ axes
        curves = [self._line(unknown, jaw, axes) for jaw in (0, 1)]
        standing = tuple(
            Standing(tooth, bool(u), float(s), float(d), float(deep))
            for tooth, u, s, d, deep in zip(self.seen, self.upper, along, off, self._depths(), strict=True)
        )
        beside = self._turned(unknown[None])[0, :, 0] / unknown[_WIDTH][0]
        curved = bool(np.count_nonzero(np.abs(beside) < _FRONT_SHARE) >= 2 or beside.min() < 0 < beside.max())
        upper, lower = (
            Arch(*curve, axes[2]) if chosen.any() else None
            for curve, chosen in zip(curves, (self.upper, ~self.upper), strict=True)
        )
        return Arches(axes, origin, upper, lower, standing, residual, curved)

    def _depths(self) -> Floats:
        depths = np.zeros(len(self.seen))
        for chosen, sign in ((self.upper, 1.0), (~self.upper, -1.0)):
            if chosen.any():
                depths[chosen] = sign * (self.ends[chosen] - np.median(self.ends[chosen]))
        return depths

    def _line(self, unknown: Floats, jaw: int, axes: Floats) -> tuple[Floats, Floats]:
        shape = np.array([[unknown[_WIDTH][jaw]], [unknown[_DEPTH]], [unknown[_FLARE]]])
        line, arc = (found[0] for found in _half_arch(*shape))
        both = np.concatenate([line[:0:-1] * (-1, 1), line])
        flat = both + np.array([unknown[_MIDDLE], unknown[_FRONT][jaw]])
        height = np.full((len(flat), 1), self.level)
        return np.concatenate([flat, height], axis=1) @ axes, np.concatenate([-arc[:0:-1], arc])


def _turn(angle: float) -> Floats:
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def _half_arch(width: Floats, depth: Floats, flare: Floats) -> tuple[Floats, Floats]:
    """Halves of arches (b,) from the midline to the left: points (b, m, 2) as (x, y) mm from the front, arc (b, m) mm.

    Half an ellipse of half axes ``width`` and ``depth``, with straight legs of slope dx/dy ``flare`` behind it.
    """
    angle = np.linspace(0, np.pi / 2, 19)
    curve = np.stack([width[:, None] * np.sin(angle), depth[:, None] * (1 - np.cos(angle))], axis=2)
    leg = np.linspace(0, _LEG_MM, 3)[1:]
    behind = np.stack([flare[:, None] * leg, np.broadcast_to(leg, (len(flare), len(leg)))], axis=2)
    lines = np.concatenate([curve, curve[:, -1:] + behind], axis=1)
    arc = np.cumsum(np.linalg.norm(np.diff(lines, axis=1), axis=2), axis=1)
    return lines, np.pad(arc, ((0, 0), (1, 0)))


def _beside(points: Floats, lines: Floats, arc: Floats) -> tuple[Floats, Floats]:
    """Arc length and distance outwards (b, n) of points (b, n, 2) from polylines (b, m, 2) with ``arc`` (b, m)."""
    steps = np.diff(lines, axis=1)
    lengths = np.linalg.norm(steps, axis=2)[:, None]
    tangents = (steps / lengths[:, 0, :, None])[:, None]
    apart = points[:, :, None] - lines[:, None, :-1]
    run = np.sum(apart * tangents, axis=3)
    held = np.clip(run, 0, lengths)
    # carried on behind the end
    held[..., -1] = np.maximum(run[..., -1], 0)
    across = apart[..., 0] * tangents[..., 1] - apart[..., 1] * tangents[..., 0]
    away = np.hypot(across, run - held)
    near = np.argmin(away, axis=2)[..., None]
    along = np.take_along_axis(arc[:, None, :-1] + held, near, 2)[..., 0]
    outwards = np.take_along_axis(np.where(across < 0, -away, away), near, 2)[..., 0]
    return along, outwards


@cache
def places(upper: bool) -> dict[int, float]:
    """Mean arc length from the midline (mm, negative = patient's right) of every number, seen from this jaw.

    Half the tooth's own average width after those of all teeth between it and the midline, for both dentitions. A
    number of the other jaw gets the place it would have in this one.
    """
    found = {}
    for fdi in teeth.TEETH:
        own = fdi if teeth.is_upper(fdi) == upper else teeth.opposite_jaw(fdi)
        first = own - teeth.position(own) + 1
        widths = [size_of(tooth).md_crown for tooth in range(first, own + 1)]
        found[fdi] = (sum(widths) - widths[-1] / 2) * (1 if teeth.is_left(fdi) else -1)
    return found


# ---------------------------------------------------------------------------------------------------- numbering

_PLACE_MM = 5.0
_NEIGHBOUR_MM = 1.8
_MISSING_COST, _LAST_MISSING_COST = 2.0, 0.7
_EXTRA_COST = 12.0
_WORST_PLACE, _WORST_GAP = 8.0, 8.0
_SHIFTS_MM = np.arange(-12.0, 12.1, 1.5)
_SHIFT_MM = 3.0
_SCALES = (0.90, 0.96, 1.02, 1.08)
_MOST_EXTRA = 2
_VOLUME_SPREAD, _WIDTH_SPREAD = 0.22, 0.12
_WORST_SIZE = 6.0
_BORNE_BONUS = 5.0


def match_arch(points_lps: NDArray[Any], evidence: NDArray[Any], numbers: Sequence[int], arch: Arch) -> tuple[int, ...]:
    """FDI numbers of the teeth of one jaw: the cheapest assignment that keeps their order along the arch.

    ``points_lps`` (n, 3) LPS mm are the centres of the teeth (crowns rather than whole teeth), ``numbers`` the k FDI
    numbers in question in arch order from the patient's right to the left, ``evidence`` (n, k) what each number costs
    each tooth besides its place: the negative logarithm of its probability. Every number is given once at most, gaps
    are allowed, and a tooth that fits nowhere gets 0. The size of the dentition and a shift of its midline are found
    along with the numbers. Raises ValueError where the shapes do not fit.
    """
    points, costs = np.asarray(points_lps, dtype=float), np.asarray(evidence, dtype=float)
    if points.ndim != 2 or points.shape[1:] != (3,) or costs.shape != (len(points), len(numbers)):
        raise ValueError(f"{points.shape} points and {costs.shape} costs do not fit {len(numbers)} numbers")
    if not len(points) or not numbers:
        return (0,) * len(points)
    along, _ = arch.place(points)
    order = np.argsort(along, kind="stable")
    matched = _aligned(along[order], costs[order], numbers)
    given = [0] * len(points)
    for at, column in zip(order, matched, strict=True):
        given[at] = numbers[column] if column >= 0 else 0
    return tuple(given)


def _aligned(along: Floats, costs: Floats, numbers: Sequence[int]) -> list[int]:
    """Column of the number of each tooth in arch order, -1 for none, by dynamic programming over all frames at once."""
    shifts, scales = (side.ravel() for side in np.meshgrid(_SHIFTS_MM, _SCALES))
    own = _place_costs(along, numbers, shifts, scales) + costs[:, None]
    skipped = _skipped(numbers)
    count, columns = len(along), len(numbers)
    total = np.full((count, len(shifts), columns), np.inf)
    came = np.full((count, len(shifts), columns), -1)
    for i in range(count):
        total[i] = i * _EXTRA_COST + skipped[None, 0, 1:-1]
        for before in range(max(0, i - 1 - _MOST_EXTRA), i):
            step = _gap_costs(float(along[i] - along[before]), numbers, scales) + skipped[1:-1, 1:-1]
            ways = total[before][:, :, None] + step + (i - 1 - before) * _EXTRA_COST
            source = np.argmin(ways, axis=1)
            cheapest = np.take_along_axis(ways, source[:, None], 1)[:, 0]
            better = cheapest < total[i]
            total[i] = np.where(better, cheapest, total[i])
            came[i] = np.where(better, before * columns + source, came[i])
        total[i] += own[i]
    ends = total + skipped[1:-1, -1] + (count - 1 - np.arange(count))[:, None, None] * _EXTRA_COST
    ends = ends + (0.5 * (shifts / _SHIFT_MM) ** 2 + 0.5 * ((scales - 1) / 0.06) ** 2)[None, :, None]
    i, frame, column = (int(v) for v in np.unravel_index(int(np.argmin(ends)), ends.shape))
    return _traced(came[:, frame], i, column, columns)


def _traced(came: NDArray[Any], i: int, column: int, columns: int) -> list[int]:
    matched = [-1] * len(came)
    while True:
        matched[i] = column
        source = int(came[i, column])
        if source < 0:
            return matched
        i, column = divmod(source, columns)


def _place_costs(along: Floats, numbers: Sequence[int], shifts: Floats, scales: Floats) -> Floats:
    """Cost (n, frames, k) of each number for the place where a tooth stands."""
    upper = teeth.is_upper(numbers[0])
    expected = np.array([places(upper)[number] for number in numbers]) * scales[:, None] + shifts[:, None]
    return np.minimum(0.5 * ((along[:, None, None] - expected) / _PLACE_MM) ** 2, _WORST_PLACE)


def _gap_costs(gap: float, numbers: Sequence[int], scales: Floats) -> Floats:
    """Cost (frames, k, k) of a distance between two successive teeth: from closed to full gaps nothing."""
    upper = teeth.is_upper(numbers[0])
    expected = np.array([places(upper)[number] for number in numbers])
    half: Floats = np.array([size_of(number).md_crown for number in numbers]) / 2
    full = (expected[None, :] - expected[:, None]) * scales[:, None, None]
    closed = np.minimum((half[None, :] + half[:, None]) * scales[:, None, None], full)
    off = gap - np.clip(gap, closed, full)
    # a gap that has closed is less likely than one that has not
    drifted = (full - np.clip(gap, closed, full)) / np.maximum(full - closed, 1.0)
    cost = np.minimum(0.5 * (off / _NEIGHBOUR_MM) ** 2, _WORST_GAP) + drifted
    return np.where(np.tri(len(numbers), dtype=bool), np.inf, cost)


def _skipped(numbers: Sequence[int]) -> Floats:
    """Cost (k + 2, k + 2) of the absent numbers between two present ones; the first and last stand for the ends."""
    each = np.array([_LAST_MISSING_COST if teeth.position(number) == 8 else _MISSING_COST for number in numbers])
    total = np.concatenate([[0.0], np.cumsum(each)])
    between = np.zeros((len(numbers) + 2,) * 2)
    inner = total[:-1][None, :] - total[1:][:, None]
    between[1:-1, 1:-1] = np.maximum(inner, 0)
    # an end may as well lie outside the view
    between[0, 1:-1] = 0.3 * total[:-1]
    between[1:-1, -1] = 0.3 * (total[-1] - total[1:])
    return between


def assign_numbers(seen: Mouth | Sequence[Seen], use_numbers: bool = True) -> dict[Body, int]:
    """The FDI number of every body of tooth size by place along its arch, order and size; 0 where none fits.

    With ``use_numbers`` a tooth keeps the number it bears unless the others speak clearly against it. A deciduous
    number makes a tooth deciduous; without it all teeth are taken for permanent ones. Empty where no arch fits.
    """
    if isinstance(seen, Mouth):
        arches = fit_arches(seen) if use_numbers else fit_teeth(seen_teeth(seen), False)
    else:
        arches = fit_teeth(seen, use_numbers)
    return {} if arches is None else numbers_on(arches, use_numbers)


def numbers_on(arches: Arches, use_numbers: bool = True) -> dict[Body, int]:
    """The numbers of all teeth standing on fitted arches, see :func:`assign_numbers`."""
    given: dict[Body, int] = {}
    for upper in (True, False):
        for milk in (False, True):
            row = [s for s in arches.of(upper) if milk == (use_numbers and teeth.is_deciduous(s.tooth.fdi))]
            arch = arches.upper if upper else arches.lower
            if not row or arch is None:
                continue
            numbers = teeth.arch_order(upper, milk)
            crowns = np.stack([_crown(s.tooth, arches.axes[2], upper) for s in row])
            costs = np.stack([_size_costs(s, arches, numbers) for s in row])
            if use_numbers:
                costs -= _BORNE_BONUS * (np.array([s.tooth.fdi for s in row])[:, None] == np.array(numbers))
            found = match_arch(crowns, costs, numbers, arch)
            given |= {s.tooth.body: number for s, number in zip(row, found, strict=True)}
    return _kept(arches, given) if use_numbers else given


def _kept(arches: Arches, given: dict[Body, int]) -> dict[Body, int]:
    """A tooth that fits nowhere, such as an impacted one out of its row, keeps the number it bears if that is free."""
    taken = set(given.values())
    for s in arches.standing:
        if not given.get(s.tooth.body) and s.tooth.fdi not in taken:
            given[s.tooth.body] = s.tooth.fdi
            taken.add(s.tooth.fdi)
    return given


def _size_costs(standing: Standing, arches: Arches, numbers: Sequence[int]) -> Floats:
    """Cost (k,) of each number for the size of a tooth; one cut by the border of the scan could be any."""
    if standing.tooth.cut:
        return np.zeros(len(numbers))
    expected = np.log([size_of(number).volume for number in numbers])
    off = (np.log(standing.tooth.volume) - expected) / _VOLUME_SPREAD
    return np.minimum(0.5 * off**2, _WORST_SIZE)
