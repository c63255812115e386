"""Label maps of teeth that are anatomically right: what a checker must leave alone, and what faults are planted in.

In goes a seed, out comes an exact label map (FDI numbers, in half of the maps also the jaws' bone around the roots) and
how it was drawn. Only labels are made, no grey values. The seed's remainder by the number of :data:`DENTITIONS` says
which dentition it draws, the rest is chance: the field of view (:data:`VIEWS`), the grid (:data:`GRIDS`), the tilt of
the head and the places of the teeth. Tooth shapes come from :mod:`ToothTopoSegLib.phantom.tooth`; the rows are laid
out here, because they also hold milk teeth, germs, healed gaps and fused roots.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ToothTopoSegLib.anatomy import fdi as teeth
from ToothTopoSegLib.imaging.boxes import label_boxes
from ToothTopoSegLib.imaging.volume import Array, Volume
from ToothTopoSegLib.phantom.arch import INCLINATION, Arch
from ToothTopoSegLib.phantom.tooth import MOLAR, ToothShape, draw_tooth, tooth_distance

DENTITIONS = (
    "full",
    "fused roots",
    "crowded",
    "tilted head",
    "missing teeth",
    "missing incisors",
    "healed gaps",
    "deciduous",
    "mixed",
    "mixed with germs",
)
VIEWS = ("whole", "half", "quadrant", "upper jaw", "lower jaw", "cut")
GRIDS = ("plain", "anisotropic", "turned", "oblique")
_SEES = {"whole": 0.5, "half": 0.12, "quadrant": 0.08, "upper jaw": 0.08, "lower jaw": 0.08, "cut": 0.14}
_MARGIN_MM = 3.0
_CREST_MM = 1.5
"""The crest of the alveolar bone ends this far below the cervix."""
_TOUCH_MM, _SLIT_MM = 0.15, 0.4
"""Teeth that overlap by no more than the first touch; a deeper overlap is parted by the second to either side."""


@dataclass(frozen=True, eq=False)
class CleanMap:
    """A label map without any anatomical error, and how it was drawn (plain values only)."""

    labels: Volume
    described: dict[str, Any]


@dataclass(frozen=True, eq=False)
class _Standing:
    """A tooth in the head: cervix (x, y, z) mm, rows mesial, buccal, occlusal; the bridge that fuses two roots.

    A germ lies in the bone and is left out where there is no room for it.
    """

    fdi: int
    shape: ToothShape
    cervix: Array
    axes: Array
    bridge: tuple[Array, Array, float] | None = None
    germ: bool = False


@dataclass(frozen=True)
class _Row:
    """How the teeth of a mouth follow one another: ``gone`` maps absent teeth to the share of their gap that stays."""

    gone: dict[int, float]
    disorder: float
    scale: float
    gap: float
    spee: float
    overbite: float
    germs: bool


def clean_map(seed: int) -> CleanMap:
    """The clean label map of a seed; the same seed always gives the same map. ValueError for a negative seed."""
    rng = np.random.default_rng(seed)
    dentition = DENTITIONS[seed % len(DENTITIONS)]
    standing, described = _draw_mouth(dentition, rng)
    tilt = _tilt(dentition == "tilted head", rng)
    view = str(rng.choice(VIEWS, p=[_SEES[name] for name in VIEWS]))
    grid = str(rng.choice(GRIDS))
    labels = _empty_grid(_in_view(_reach_lps(standing, tilt), view, rng), grid, rng)
    bone = bool(rng.random() < 0.5)
    _paint(labels, standing, tilt, float(rng.uniform(1.5, 3)) if bone else 0.0, rng)
    _drop_crumbs(labels.array)
    described = {"seed": seed, "dentition": dentition, "view": view, "grid": grid, "bone": bone} | described
    described |= {"spacing_zyx_mm": list(labels.spacing), "shape_zyx": list(labels.array.shape)}
    described["teeth"] = [int(v) for v in np.unique(labels.array) if teeth.is_tooth(int(v))]
    return CleanMap(labels, described)


def _draw_mouth(dentition: str, rng: np.random.Generator) -> tuple[list[_Standing], dict[str, Any]]:
    """All teeth of a mouth in head coordinates (LPS axes, origin in the middle of the occlusal plane)."""
    numbers = _numbers(dentition)
    row = _Row(
        gone=_absent(dentition, rng),
        disorder=float(rng.uniform(0.5, 1.1) if dentition == "crowded" else abs(rng.normal(0, 0.2))),
        scale=float(rng.uniform(0.92, 1.06)),
        gap=float(rng.uniform(0.2, 0.8) if rng.random() < 0.5 else rng.uniform(0.8, 8)),
        spee=float(rng.uniform(0.3, 2.2)),
        overbite=float(rng.uniform(0.3, 2.5)),
        germs=dentition == "mixed with germs",
    )
    standing: list[_Standing] = []
    upper_arch, lower_arch = _arches(len(numbers), row.scale, rng)
    for upper, arch in ((True, upper_arch), (False, lower_arch)):
        for left in (True, False):
            standing += _quadrant(numbers, arch, upper, left, row, rng)
    fused: list[int] = []
    if dentition == "fused roots" or rng.random() < 0.15:
        standing, fused = _with_fused_roots(standing, rng)
    made = {"absent": sorted(row.gone), "fused_roots": fused, "disorder": row.disorder, "jaws_apart_mm": row.gap}
    return standing, made


def _numbers(dentition: str) -> tuple[tuple[int, bool], ...]:
    """The teeth of a quadrant from the midline backwards: place, and whether it is a milk tooth."""
    if dentition == "deciduous":
        return tuple((place, True) for place in range(1, 6))
    if dentition.startswith("mixed"):
        return ((1, False), (2, False), (3, True), (4, True), (5, True), (6, False))
    return tuple((place, False) for place in range(1, 9))


def _absent(dentition: str, rng: np.random.Generator) -> dict[int, float]:
    """Absent teeth with the share of their width that is still open."""
    permanent, milk = list(teeth.PERMANENT), list(teeth.DECIDUOUS)
    gone: dict[int, float] = {}
    if dentition in ("crowded", "tilted head", "missing teeth", "missing incisors", "healed gaps"):
        gone |= {q * 10 + 8: 0.0 for q in (1, 2, 3, 4) if rng.random() < 0.6}
    inner = [t for t in permanent if teeth.position(t) < 8]
    if dentition == "missing teeth":
        gone |= {int(t): 1.0 for t in rng.choice(inner, int(rng.integers(1, 8)), replace=False)}
    if dentition == "healed gaps":
        closed = rng.choice([t for t in inner if teeth.position(t) > 3], int(rng.integers(1, 6)), replace=False)
        gone |= {int(t): float(rng.uniform(0.05, 0.7)) for t in closed}
    if dentition == "missing incisors":
        fronts = [t for t in permanent if teeth.position(t) < 3]
        gone |= {int(t): 1.0 for t in rng.choice(fronts, int(rng.integers(1, 5)), replace=False)}
    if dentition in ("deciduous", "mixed") and rng.random() < 0.4:
        gone |= {int(t): 1.0 for t in rng.choice(milk, int(rng.integers(1, 3)), replace=False)}
    return gone


def _arches(places: int, scale: float, rng: np.random.Generator) -> tuple[Arch, Arch]:
    """Upper and lower arch for rows of 5 (milk), 6 (mixed) or 8 teeth a quadrant."""
    child = {5: 0.78, 6: 0.9, 8: 1.0}[places]
    half_width, depth = (scale * child * float(rng.uniform(*ends)) for ends in ((25, 31), (33, 42)))
    front, overjet = -depth / 2, float(rng.uniform(1.5, 3.5))
    middle, skew = float(rng.normal(0, 0.8)), float(rng.normal(0, 0.02))
    upper = Arch(half_width, depth, front, middle, float(rng.uniform(-0.02, 0.1)), skew)
    narrow = float(rng.uniform(1.5, 3.0))
    lower = Arch(half_width - narrow, depth - 1.0, front + overjet, middle, float(rng.uniform(0.02, 0.14)), skew)
    return upper, lower


def _quadrant(
    numbers: tuple[tuple[int, bool], ...], arch: Arch, upper: bool, left: bool, row: _Row, rng: np.random.Generator
) -> list[_Standing]:
    """The teeth of one quadrant, laid along the arch by their widths."""
    line = arch.side(left, 95)
    along = np.arange(len(line)) * 0.5
    quadrant = (2 if left else 1) if upper else (3 if left else 4)
    at, placed = float(rng.uniform(0, 0.4)), []
    for place, milk in numbers:
        fdi = 10 * (quadrant + 4 * int(milk)) + place
        shape = draw_tooth(fdi, rng, row.scale)
        width = 2 * shape.crown[0]
        if fdi in row.gone:
            at += width * row.gone[fdi]
            continue
        # Crowded teeth overlap along the arch and stand off across it; else there are small gaps between them.
        step = width * (1 - 0.05 * row.disorder * rng.random()) + abs(float(rng.normal(0, 0.2)))
        where = np.array([[np.interp(at + step / 2 + d, along, line[:, i]) for i in (0, 1)] for d in (0, 1.5)])
        placed += _stand(fdi, shape, where, row, rng)
        at += step
    return placed


def _stand(fdi: int, shape: ToothShape, where: Array, row: _Row, rng: np.random.Generator) -> list[_Standing]:
    """One tooth at ``where[0]`` (x, y), the arch running on to ``where[1]``; and the germ under it, if there is one."""
    upper, place = teeth.is_upper(fdi), teeth.position(fdi)
    axes = _leaning(_upright(where, upper, teeth.is_left(fdi)), fdi, row.disorder, rng)
    height = row.spee * ((max(float(where[0, 1]), -30.0) / 28) ** 2 - 0.4)
    height += (row.gap / 2 - (row.overbite if place <= 3 else 0.3)) if upper else (-row.gap / 2 - 0.3)
    tip = np.array([*where[0], height + rng.normal(0, 0.25)]) + axes[1] * rng.normal(0, 0.3 + 1.2 * row.disorder)
    if place == 8 and rng.random() < 0.35:
        # A third molar that has not come through lies deeper and leans forward.
        axes = _turned(axes, 2, 0, float(rng.uniform(5, 40)))
        tip = tip - axes[2] * rng.uniform(2, 6) - axes[0] * rng.uniform(1, 3)
    with_germ = row.germs and teeth.is_deciduous(fdi)
    if with_germ:
        shape = _shortened(shape, float(rng.uniform(0.35, 0.7)))
    cervix = tip - axes[2] * shape.crown_height
    found = [_Standing(fdi, shape, cervix, axes)]
    return [*found, _germ(found[0], row, rng)] if with_germ else found


def _germ(above: _Standing, row: _Row, rng: np.random.Generator) -> _Standing:
    """The permanent successor in the bone under a milk tooth whose root it has resorbed."""
    shape = _shortened(draw_tooth(above.fdi - 40, rng, row.scale), float(rng.uniform(0.1, 0.5)))
    down = above.shape.depth + rng.uniform(0.8, 2.0) + shape.crown_height
    return _Standing(above.fdi - 40, shape, above.cervix - above.axes[2] * down, above.axes, germ=True)


def _shortened(shape: ToothShape, share: float) -> ToothShape:
    """The tooth with roots resorbed, or grown, to this share of their length."""
    roots = tuple(replace(root, length=root.length * share) for root in shape.roots)
    return replace(shape, roots=roots, trunk=shape.trunk * share)


def _upright(where: Array, upper: bool, left: bool) -> Array:
    """Rows mesial, buccal, occlusal for a tooth that stands upright on the arch."""
    x, y = (where[1] - where[0]) / np.linalg.norm(where[1] - where[0])
    side = 1.0 if left else -1.0
    return np.array([[-x, -y, 0.0], [y * side, -x * side, 0.0], [0.0, 0.0, -1.0 if upper else 1.0]])


def _leaning(axes: Array, fdi: int, disorder: float, rng: np.random.Generator) -> Array:
    """Natural inclination and angulation, and the tooth's own rotation about its axis."""
    natural = 0 if teeth.is_deciduous(fdi) else INCLINATION[teeth.is_upper(fdi)][teeth.position(fdi) - 1]
    axes = _turned(axes, 2, 1, natural + rng.normal(0, 3 + 3 * disorder))
    axes = _turned(axes, 2, 0, rng.normal(3, 2.5 + 4 * disorder))
    return _turned(axes, 0, 1, rng.normal(0, 4 + 12 * disorder))


def _turned(axes: Array, first: int, second: int, degrees: float) -> Array:
    """The frame with row ``first`` turned towards row ``second``."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    out = axes.copy()
    out[first], out[second] = c * axes[first] + s * axes[second], c * axes[second] - s * axes[first]
    return out


def _with_fused_roots(standing: list[_Standing], rng: np.random.Generator) -> tuple[list[_Standing], list[int]]:
    """Some molars get two roots that grow together near their tips: a true tunnel through the furcation."""
    out, fused = [], []
    for tooth in standing:
        roots = tooth.shape.roots
        if tooth.shape.form == MOLAR and len(roots) >= 2 and tooth.shape.depth > 7 and rng.random() < 0.5:
            share = float(rng.uniform(0.75, 0.85))
            ends = [_on_root(root, share * min(r.length for r in roots[:2])) for root in roots[:2]]
            tooth = replace(tooth, bridge=(ends[0], ends[1], float(rng.uniform(0.9, 1.3))))
            fused.append(tooth.fdi)
        out.append(tooth)
    return out, sorted(fused)


def _on_root(root: Any, depth: float) -> Array:
    """Centre (u, v, w) of a root at a depth in mm below the cervix, as :mod:`phantom.tooth` bends it."""
    tau = min(depth / root.length, 1.0)
    u = root.base[0] + (root.apex[0] - root.base[0]) * tau**1.4
    v = root.base[1] + (root.apex[1] - root.base[1]) * tau**1.2
    return np.array([u, v, -depth])


def _tilt(much: bool, rng: np.random.Generator) -> Array:
    """Rotation of the head in the scanner: a few degrees, or up to about twenty."""
    from scipy.spatial.transform import Rotation

    angles = rng.uniform(6, 16, 3) * rng.choice([-1, 1], 3) if much else rng.normal(0, 3, 3)
    return np.asarray(Rotation.from_euler("xyz", angles * np.array([1, 0.6, 0.8]), degrees=True).as_matrix())


def _corners(tooth: _Standing) -> Array:
    """Head coordinates (8, 3) of the corners of a box around a tooth."""
    reach, low, high = tooth.shape.reach, -tooth.shape.depth - 0.5, tooth.shape.crown_height + 0.5
    local = np.array([[u, v, w] for u in (-reach, reach) for v in (-reach, reach) for w in (low, high)])
    return tooth.cervix + local @ tooth.axes


def _reach_lps(standing: list[_Standing], tilt: Array) -> Array:
    """Lowest and highest LPS position (2, 3) of any tooth, in mm."""
    ends = np.concatenate([_corners(tooth) for tooth in standing]) @ tilt.T
    return np.stack([ends.min(0), ends.max(0)])


def _in_view(reach: Array, view: str, rng: np.random.Generator) -> Array:
    """Lowest and highest LPS position (2, 3) in mm that the scan shows."""
    low, high = reach[0] - _MARGIN_MM, reach[1] + _MARGIN_MM
    if view in ("half", "quadrant"):
        if rng.random() < 0.5:
            low[0] = rng.uniform(-8, 2)
        else:
            high[0] = rng.uniform(-2, 8)
    if view == "upper jaw" or (view == "quadrant" and rng.random() < 0.5):
        low[2] = rng.uniform(-6, 1)
    elif view in ("lower jaw", "quadrant"):
        high[2] = rng.uniform(-1, 6)
    if view == "cut":
        low += rng.uniform(0, 12, 3) * (rng.random(3) < 0.6) * np.array([1, 0.3, 1])
        high -= rng.uniform(0, 14, 3) * (rng.random(3) < 0.6)
    return np.stack([low, high])


def _empty_grid(seen: Array, grid: str, rng: np.random.Generator) -> Volume:
    """An empty uint8 map whose box covers what is seen."""
    from scipy.spatial.transform import Rotation

    fine = float(rng.uniform(0.3, 0.4))
    spacing = np.full(3, round(fine, 3))  # along the image axes x, y, z
    direction = np.eye(3)
    if grid == "anisotropic":
        spacing[2] = round(float(rng.uniform(0.5, 0.7)), 3)
    elif grid == "turned":
        direction = np.eye(3)[:, rng.permutation(3)] * rng.choice([-1, 1], 3)
    elif grid == "oblique":
        flips = np.diag(rng.choice([-1, 1], 3))
        direction = Rotation.from_euler("xyz", rng.uniform(-15, 15, 3), degrees=True).as_matrix() @ flips
    size = np.abs(np.linalg.inv(np.where(np.abs(direction) > 0.5, direction, 0))) @ (seen[1] - seen[0])
    shape = np.ceil(size / spacing).astype(int)
    origin = seen.mean(0) - direction @ ((shape - 1) / 2 * spacing)
    array = np.zeros(tuple(shape[::-1]), np.uint8)
    a, b, c = (tuple(float(v) for v in line) for line in direction)
    x, y, z = (float(v) for v in origin)
    thick = [float(s) for s in spacing]
    return Volume(array, (thick[2], thick[1], thick[0]), (x, y, z), ((*a,), (*b,), (*c,)))  # type: ignore[arg-type]


def _paint(labels: Volume, standing: list[_Standing], tilt: Array, bone: float, rng: np.random.Generator) -> None:
    """Paint all teeth in place; where two overlap, a voxel goes to the one it is deeper in.

    Real teeth touch, but do not grow into one another: between the two halves of a deep overlap a slit is left.
    """
    nearest = np.full(labels.array.shape, 50, np.float32)
    second = nearest.copy()
    waves = _Waves(rng)
    for tooth in sorted(standing, key=lambda one: one.germ):
        box = _box(labels, tooth, tilt)
        if all(s.stop > s.start for s in box):
            _paint_tooth(labels, nearest, second, tooth, box, tilt, waves, bone)
    labels.array[(second < -_TOUCH_MM) & (second - nearest < 2 * _SLIT_MM)] = 0


class _Waves:
    """A smooth deformation of half a millimetre that makes every mouth individual."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.size = float(rng.uniform(0.1, 0.6))
        self.ways = rng.normal(0, 1, (3, 3)).astype(np.float32)
        self.ways *= (2 * np.pi / rng.uniform(30, 60, (3, 1)) / np.linalg.norm(self.ways, axis=1)[:, None]).astype(
            np.float32
        )
        self.phases = rng.uniform(0, 2 * np.pi, 3)

    def apply(self, points: list[Array]) -> list[Array]:
        """Head coordinates x, y, z (mm), moved."""
        return [
            points[i]
            + np.float32(self.size) * np.sin(sum(w * p for w, p in zip(way, points, strict=True)) + np.float32(phase))
            for i, (way, phase) in enumerate(zip(self.ways, self.phases, strict=True))
        ]


def _box(labels: Volume, tooth: _Standing, tilt: Array) -> tuple[slice, slice, slice]:
    index = labels.lps_to_index(_corners(tooth) @ tilt.T)
    room = 1.5 / np.asarray(labels.spacing)
    first = np.clip(np.floor(index.min(0) - room), 0, labels.array.shape).astype(int)
    last = np.clip(np.ceil(index.max(0) + room) + 1, 0, labels.array.shape).astype(int)
    z, y, x = (slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
    return z, y, x


def _head_points(labels: Volume, box: tuple[slice, slice, slice], tilt: Array) -> list[Array]:
    """Head coordinates x, y, z in mm of the voxels of a box."""
    step = tilt.T @ (np.asarray(labels.direction) * np.asarray(labels.spacing)[::-1])
    start = tilt.T @ np.asarray(labels.origin)
    z, y, x = (np.arange(s.start, s.stop, dtype=np.float32) for s in box)
    z, y, x = z[:, None, None], y[None, :, None], x[None, None, :]
    return [
        x * np.float32(line[0]) + y * np.float32(line[1]) + (z * np.float32(line[2]) + np.float32(offset))
        for line, offset in zip(step, start, strict=True)
    ]


def _paint_tooth(
    labels: Volume,
    nearest: Array,
    second: Array,
    tooth: _Standing,
    box: tuple[slice, slice, slice],
    tilt: Array,
    waves: _Waves,
    bone: float,
) -> None:
    head = _head_points(labels, box, tilt)
    u, v, w = _local(head, tooth)
    reach, low, high = tooth.shape.reach, -tooth.shape.depth - 1.5, tooth.shape.crown_height + 1.5
    # A slanting tooth fills little of its upright box: the rest is not worth measuring.
    near = (np.abs(u) < reach) & (np.abs(v) < reach) & (w > low) & (w < high)
    u, v, w = _local(waves.apply([p[near] for p in np.broadcast_arrays(*head)]), tooth)
    distance, _, _ = tooth_distance(tooth.shape, u, v, w)
    if tooth.bridge is not None:
        distance = np.minimum(distance, _capsule(*tooth.bridge, u, v, w))
    before, depth = labels.array[box][near], nearest[box][near]
    if tooth.germ and (depth[distance < 0.3] < 0).any():
        return
    own = (distance < 0) & (distance < depth)
    after = np.where(own, np.uint8(tooth.fdi), before)
    if bone > 0:
        jaw = teeth.UPPER_JAW if teeth.is_upper(tooth.fdi) else teeth.LOWER_JAW
        after[(after == 0) & (w < -_CREST_MM) & (distance < bone)] = jaw
    labels.array[box][near] = after
    second[box][near] = np.minimum(second[box][near], np.maximum(distance, depth))
    nearest[box][near] = np.where(own, distance, depth)


def _local(head: list[Array], tooth: _Standing) -> tuple[Array, Array, Array]:
    """Coordinates mesial, buccal, occlusal in mm of points x, y, z of the head."""
    centred = [p - np.float32(c) for p, c in zip(head, tooth.cervix, strict=True)]
    u, v, w = (sum(np.float32(a) * p for a, p in zip(axis, centred, strict=True)) for axis in tooth.axes)
    return np.asarray(u), np.asarray(v), np.asarray(w)


def _capsule(first: Array, last: Array, radius: float, u: Array, v: Array, w: Array) -> Array:
    """Signed distance in mm to a rod with round ends."""
    way = last - first
    share = ((u - first[0]) * way[0] + (v - first[1]) * way[1] + (w - first[2]) * way[2]) / float(way @ way)
    share = np.clip(share, 0, 1)
    gaps = (p - first[i] - share * way[i] for i, p in enumerate((u, v, w)))
    return np.asarray(np.sqrt(sum(gap**2 for gap in gaps)) - radius)


def _drop_crumbs(array: Array) -> None:
    """Give crumbs cut off by overlapping to the tooth around them; parts at the border may belong together outside."""
    from scipy import ndimage

    for value, box in label_boxes(array).items():
        if not teeth.is_tooth(value):
            continue
        pieces, count = ndimage.label(array[box] == value, np.ones((3, 3, 3)))
        if count == 1:
            continue
        sizes = np.bincount(pieces.ravel())[1:]
        for number in range(1, count + 1):
            if number != 1 + int(np.argmax(sizes)):
                _drop(array, box, pieces == number)


def _drop(array: Array, box: tuple[slice, ...], piece: Array) -> None:
    from scipy import ndimage

    places = np.argwhere(piece) + [s.start for s in box]
    if (places == 0).any() or (places == np.array(array.shape) - 1).any():
        return
    around = tuple(slice(int(a) - 1, int(b) + 2) for a, b in zip(places.min(0), places.max(0), strict=True))
    mask = np.zeros([s.stop - s.start for s in around], bool)
    mask[tuple((places - [s.start for s in around]).T)] = True
    ring = array[around][ndimage.binary_dilation(mask) & ~mask]
    beside = ring[np.isin(ring, list(teeth.TEETH))]
    mostly = len(beside) > len(ring) / 2
    array[around][mask] = np.bincount(beside).argmax() if mostly else 0
