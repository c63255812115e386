"""Faults planted in clean label maps: what a checker of teeth must find.

In go a label map of FDI numbers and a kind of fault, out comes the map with one fault of random size and place, and the
exact truth: which findings are right. Faults are planted by code that knows nothing of the detectors (nothing of
:mod:`ToothTopoSegLib.topology` is imported); each is what its name says by the way it is made. The kinds are those of
the report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.anatomy import fdi as teeth
from ToothTopoSegLib.anatomy.sizes import size_of
from ToothTopoSegLib.imaging.boxes import Box, label_boxes
from ToothTopoSegLib.imaging.volume import Array, Vector3, Volume

Mask = NDArray[np.bool_]

SMALLEST_MM3, LARGEST_MM3 = 1.0, 60.0
"""Sizes of cavities and loose pieces."""
BORES_MM = (0.5, 3.0)
PIECE_SHARE = 0.2
"""A loose piece is a smaller share of its tooth, or it would be a second tooth."""
WIDE_CONTACT_MM2 = 60.0
_TRIES = 40
_FULL = np.ones((3, 3, 3), bool)


@dataclass(frozen=True)
class Accepted:
    """One right way to report a fault: findings of ``kind`` near one of ``places_lps_mm`` naming only ``teeth``.

    Together these findings must name all of ``must`` and at least ``least`` of ``teeth``.
    """

    kind: str
    teeth: frozenset[int]
    must: frozenset[int]
    places_lps_mm: tuple[Vector3, ...]
    least: int = 1


@dataclass(frozen=True, eq=False)
class Planted:
    """A label map with one fault: its kind, the teeth and the place (LPS mm), its size, and how it was made.

    ``accept`` lists the right reports. ``bore_mm`` is the width of a tunnel, 0 for other kinds.
    """

    labels: Volume
    kind: str
    teeth: tuple[int, ...]
    position_lps_mm: Vector3
    size_mm3: float
    described: dict[str, Any]
    accept: tuple[Accepted, ...]
    bore_mm: float = 0.0


def plant(labels: Volume, kind: str, rng: np.random.Generator) -> Planted | None:
    """The map with one fault of a kind at a random place, or None when this map has no room for one.

    Raises ValueError for a kind that is none.
    """
    if kind not in _PLANTERS:
        raise ValueError(f"there is no fault of kind {kind!r}; expected one of {', '.join(_PLANTERS)}")
    return _PLANTERS[kind](_Teeth(labels), rng)


class _Teeth:
    """A label map with its teeth looked up once; ``mm`` is the spacing (z, y, x)."""

    def __init__(self, labels: Volume) -> None:
        self.labels = labels
        self.array: Array = labels.array
        self.mm = np.asarray(labels.spacing, dtype=float)
        self.coarse = float(self.mm.max())
        self.boxes: dict[int, Box] = {v: box for v, box in label_boxes(self.array).items() if teeth.is_tooth(v)}

    @cached_property
    def whole(self) -> list[int]:
        """Teeth in one piece that the border does not cut and that are more than a scrap."""
        return [fdi for fdi in self.boxes if self._is_whole(fdi)]

    def _is_whole(self, fdi: int) -> bool:
        ends = zip(self.boxes[fdi], self.array.shape, strict=True)
        if any(s.start == 0 or s.stop == n for s, n in ends):
            return False
        mask = self.array[self.boxes[fdi]] == fdi
        return self.volume(mask) > 40 and _pieces(mask) == 1

    def volume(self, mask: Mask) -> float:
        """Volume of a mask in mm3."""
        return float(np.count_nonzero(mask)) * self.labels.voxel_volume

    def around(self, which: Iterable[int], room_mm: float) -> Box:
        """The box around some teeth with room on all sides, as far as the array goes."""
        boxes = [self.boxes[fdi] for fdi in which]
        room = np.ceil(room_mm / self.mm).astype(int)
        first = np.maximum(np.min([[s.start for s in box] for box in boxes], 0) - room, 0)
        last = np.minimum(np.max([[s.stop for s in box] for box in boxes], 0) + room, self.array.shape)
        z, y, x = (slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
        return z, y, x

    def mask(self, fdi: int) -> tuple[Box, Mask]:
        """A tooth in its box with two voxels of room."""
        box = self.around([fdi], 2 * self.coarse)
        return box, self.array[box] == fdi

    def free(self, box: Box) -> Mask:
        """Voxels of a box that belong to no tooth."""
        return ~np.isin(self.array[box], list(self.boxes))

    def distance(self, mask: Mask) -> Array:
        """Distance in mm to the nearest voxel of a mask (far away where it is empty)."""
        from scipy import ndimage

        if not mask.any():
            return np.full(mask.shape, np.inf)
        return np.asarray(ndimage.distance_transform_edt(~mask, sampling=self.mm))

    def lps(self, box: Box, index: Array) -> Vector3:
        """LPS position in mm of an index (z, y, x) within a box."""
        x, y, z = self.labels.index_to_lps(np.asarray(index, float) + [s.start for s in box]).tolist()
        return x, y, z

    def centre(self, box: Box, mask: Mask) -> Vector3:
        """LPS centre of mass of a mask in a box."""
        return self.lps(box, np.argwhere(mask).mean(0))

    @cached_property
    def centres(self) -> dict[int, Vector3]:
        """LPS centre of mass of every tooth."""
        return {fdi: self.centre(box, self.array[box] == fdi) for fdi, box in self.boxes.items()}

    def changed(self, box: Box, mask: Mask, value: int) -> Volume:
        """The map with a mask in a box set to a value."""
        array = self.array.copy()
        array[box][mask] = value
        return self.labels.with_array(array)

    def renamed(self, new: dict[int, int]) -> Volume:
        """The map with teeth renumbered."""
        table = np.arange(256, dtype=np.uint8)
        for old, value in new.items():
            table[old] = value
        return self.labels.with_array(table[self.array])

    def long_axis(self, box: Box, mask: Mask) -> tuple[Array, Array]:
        """Height in mm of every voxel of a mask (n,) along the long axis towards the root tip, and that LPS axis."""
        points = self.labels.index_to_lps(np.argwhere(mask) + [s.start for s in box])
        centred = points - points.mean(0)
        axis = np.linalg.svd(centred.T @ centred)[0][:, 0]
        apical = 1.0 if teeth.is_upper(int(self.array[box][mask][0])) else -1.0
        axis = axis * (1.0 if axis[2] * apical > 0 else -1.0)
        return centred @ axis, axis


def _pieces(mask: Mask) -> int:
    from scipy import ndimage

    return int(ndimage.label(mask, _FULL)[1])


def _pick(rng: np.random.Generator, choices: Sequence[Any] | Array) -> Any:
    return choices[int(rng.integers(len(choices)))]


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _way(rng: np.random.Generator) -> Array:
    way = rng.normal(0, 1, 3)
    return np.asarray(way / np.linalg.norm(way))


def _one(kind: str, which: Iterable[int], places: Iterable[Vector3]) -> tuple[Accepted, ...]:
    """The only right report names exactly these teeth."""
    named = frozenset(which)
    return (Accepted(kind, named, named, tuple(places), len(named)),)


def _slot(fdi: int) -> int:
    """Place along the arch from the patient's right to the left, 0..15; a milk tooth stands in its successor's."""
    permanent = fdi - 40 if teeth.is_deciduous(fdi) else fdi
    return teeth.arch_order(teeth.is_upper(fdi)).index(permanent)


def _jaw_slots(which: Iterable[int], upper: bool) -> dict[int, list[int]]:
    slots: dict[int, list[int]] = {}
    for fdi in which:
        if teeth.is_upper(fdi) == upper:
            slots.setdefault(_slot(fdi), []).append(fdi)
    return slots


# --- voids and pieces --------------------------------------------------------------------------------------------


def _ellipsoid(mouth: _Teeth, shape: tuple[int, ...], centre: Array, semi: Array, rng: np.random.Generator) -> Mask:
    """Voxels of an ellipsoid with half axes in mm, randomly turned, around an index."""
    turn = np.linalg.qr(rng.normal(0, 1, (3, 3)))[0]
    rest = [((np.arange(n) - c) * s) for n, c, s in zip(shape, centre, mouth.mm, strict=True)]
    z, y, x = rest[0][:, None, None], rest[1][None, :, None], rest[2][None, None, :]
    return np.asarray(sum(((a * z + b * y + c * x) / h) ** 2 for (a, b, c), h in zip(turn, semi, strict=True)) <= 1)


def _half_axes(volume: float, rng: np.random.Generator) -> Array:
    ratio = rng.uniform(0.65, 1, 3)
    return np.asarray((3 * volume / (4 * np.pi * ratio.prod())) ** (1 / 3) * ratio)


def _cavity(mouth: _Teeth, rng: np.random.Generator) -> Planted | None:
    """An ellipsoid void with a wall of tooth all around."""
    wanted = _log_uniform(rng, SMALLEST_MM3 * 1.1, LARGEST_MM3)
    for _ in range(_TRIES if mouth.whole else 0):
        fdi = _pick(rng, mouth.whole)
        box, mask = mouth.mask(fdi)
        semi = _half_axes(wanted, rng)
        deep = np.argwhere(mouth.distance(~mask) > semi.max() + max(0.5, 1.8 * mouth.coarse))
        if not len(deep):
            continue
        void = _ellipsoid(mouth, mask.shape, _pick(rng, deep), semi, rng)
        size = mouth.volume(void)
        if SMALLEST_MM3 <= size <= LARGEST_MM3 and _connected_by_faces(void):
            place = mouth.centre(box, void)
            return Planted(
                labels=mouth.changed(box, void, 0),
                kind="cavity",
                teeth=(fdi,),
                position_lps_mm=place,
                size_mm3=size,
                described={"half_axes_mm": _rounded(semi)},
                accept=_one("cavity", [fdi], [place]),
            )
    return None


def _connected_by_faces(mask: Mask) -> bool:
    from scipy import ndimage

    return bool(ndimage.label(mask)[1] == 1)


def _rounded(values: Iterable[float]) -> list[float]:
    return [round(float(v), 2) for v in values]


def _tunnel(mouth: _Teeth, rng: np.random.Generator) -> Planted | None:
    """A drilled cylinder that enters and leaves, with a closed ring of tooth around it on the way."""
    bore = _log_uniform(rng, *BORES_MM)
    wall = max(0.6, 1.6 * mouth.coarse)
    for _ in range(2 * _TRIES if mouth.whole else 0):
        fdi = _pick(rng, mouth.whole)
        box, mask = mouth.mask(fdi)
        deep = np.argwhere(mouth.distance(~mask) > bore / 2 + wall)
        if not len(deep):
            continue
        centre, way = _pick(rng, deep), _way(rng)
        drilled = mask & _cylinder(mouth, mask.shape, centre, way, bore / 2)
        on_axis = _axis_inside(mouth, mask, centre, way)
        if _walled(mouth, mask, centre, way, on_axis, bore / 2 + wall) and _pierces(mouth, box, mask, drilled):
            places = [mouth.lps(box, centre + way * t / mouth.mm) for t in on_axis[::5]]
            middle = mouth.lps(box, centre + way * on_axis.mean() / mouth.mm)
            return Planted(
                labels=mouth.changed(box, drilled, 0),
                kind="tunnel",
                teeth=(fdi,),
                position_lps_mm=middle,
                size_mm3=mouth.volume(drilled),
                described={"length_mm": round(float(np.ptp(on_axis)), 2)},
                # The whole bore is the fault: a place anywhere along its axis is right.
                accept=_one("tunnel", [fdi], [middle, *places]),
                bore_mm=bore,
            )
    return None


def _cylinder(mouth: _Teeth, shape: tuple[int, ...], centre: Array, way: Array, radius: float) -> Mask:
    """Voxels within ``radius`` mm of a line, and all voxels that the line crosses."""
    rest = [((np.arange(n) - c) * s) for n, c, s in zip(shape, centre, mouth.mm, strict=True)]
    z, y, x = rest[0][:, None, None], rest[1][None, :, None], rest[2][None, None, :]
    along = way[0] * z + way[1] * y + way[2] * x
    out: Mask = np.asarray((z**2 + y**2 + x**2 - along**2) <= radius**2)
    steps = np.arange(-60, 60, 0.01)[:, None] * way / mouth.mm + centre
    crossed = np.rint(steps).astype(int)
    crossed = crossed[((crossed >= 0) & (crossed < shape)).all(1)]
    out[tuple(crossed.T)] = True
    return out


def _inside(mask: Mask, index: Array) -> Mask:
    """Whether fractional indices (..., 3) lie in a mask."""
    at = np.rint(index).astype(int)
    within = np.asarray(((at >= 0) & (at < mask.shape)).all(-1))
    looked: Mask = mask[tuple(np.moveaxis(np.where(within[..., None], at, 0), -1, 0))]
    return looked & within


def _axis_inside(mouth: _Teeth, mask: Mask, centre: Array, way: Array) -> Array:
    """Places in mm along a line, every 0.1, from where it enters the mask to where it leaves it around ``centre``."""
    at = np.arange(-400, 401) * 0.1
    inside = _inside(mask, centre + at[:, None] * way / mouth.mm)
    outside = np.flatnonzero(~inside)
    return at[outside[outside < 400].max() + 1 : outside[outside > 400].min()]


def _walled(mouth: _Teeth, mask: Mask, centre: Array, way: Array, on_axis: Array, reach: float) -> bool:
    """Whether a closed tube of tooth at least 1 mm long surrounds the bore."""
    side = np.cross(way, [1.0, 0, 0] if abs(way[0]) < 0.8 else [0, 1.0, 0])
    side /= np.linalg.norm(side)
    up = np.cross(way, side)
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)[:, None]
    ring = np.cos(turn) * side + np.sin(turn) * up
    radii = np.linspace(0.5, 1, 4)[:, None, None] * reach
    rings = (radii * ring)[None] + on_axis[:, None, None, None] * way
    closed = _inside(mask, centre + rings / mouth.mm).all((1, 2))
    runs = np.split(closed, np.flatnonzero(~closed))
    return max(int(run.sum()) for run in runs) * 0.1 >= 1.0


def _pierces(mouth: _Teeth, box: Box, mask: Mask, drilled: Mask) -> bool:
    """Whether a drilled mask is one hole with two mouths that neighbours do not shut, in a tooth that stays whole."""
    from scipy import ndimage

    mouths, count = ndimage.label(drilled & ndimage.binary_dilation(~mask), _FULL)
    left = mask & ~drilled
    # One handle more: not two, where a thread of tooth is left standing across a mouth.
    if count != 2 or not _connected_by_faces(drilled) or _pieces(left) != 1 or _euler(mask) - _euler(left) != 1:
        return False
    open_to = mouth.free(box) & ~mask
    return all((open_to & ndimage.binary_dilation(mouths == n)).any() for n in (1, 2))


def _euler(mask: Mask) -> int:
    """Vertices - edges + faces - cubes of the closed voxels of a mask."""
    chi = 0
    for joined in range(8):
        cells, axes = np.pad(mask, 1), [axis for axis in range(3) if joined >> axis & 1]
        for axis in axes:
            length = cells.shape[axis]
            cells = np.take(cells, range(length - 1), axis) | np.take(cells, range(1, length), axis)
        chi += (-1) ** (len(axes) + 1) * int(np.count_nonzero(cells))
    return chi


def _fragment(mouth: _Teeth, rng: np.random.Generator) -> Planted | None:
    """A lump of the tooth's label off the tooth, or a root tip cut off."""
    if not mouth.whole:
        return None
    wanted = _log_uniform(rng, SMALLEST_MM3 * 1.1, LARGEST_MM3)
    plans = (_lump, _cut_tip) if rng.random() < 0.7 else (_cut_tip, _lump)
    for make in plans:
        for _ in range(_TRIES // 2):
            fdi = _pick(rng, mouth.whole)
            if (made := make(mouth, fdi, wanted, rng)) is not None:
                return made
    return None


def _lump(mouth: _Teeth, fdi: int, wanted: float, rng: np.random.Generator) -> Planted | None:
    """An ellipsoid of the tooth's label in free space or bone, at least one voxel off."""
    box = mouth.around([fdi], 13)
    mask = mouth.array[box] == fdi
    away, semi = mouth.distance(mask), _half_axes(wanted, rng)
    near = semi.max() + 2 * mouth.coarse
    places = np.argwhere((away > near) & (away < near + rng.uniform(0.3, 8)) & mouth.free(box))
    if not len(places):
        return None
    lump = _ellipsoid(mouth, mask.shape, _pick(rng, places), semi, rng) & mouth.free(box)
    size = mouth.volume(lump)
    if not SMALLEST_MM3 <= size <= min(LARGEST_MM3, PIECE_SHARE * mouth.volume(mask)) or _pieces(lump) != 1:
        return None
    labels, place = mouth.changed(box, lump, fdi), mouth.centre(box, lump)
    how = {"how": "lump", "gap_mm": round(float(away[lump].min()), 2)}
    return Planted(labels, "fragment", (fdi,), place, size, how, _one("fragment", [fdi], [place]))


def _cut_tip(mouth: _Teeth, fdi: int, wanted: float, rng: np.random.Generator) -> Planted | None:
    """A slice taken out of a root, so that its tip is a piece of its own."""
    from scipy import ndimage

    box, mask = mouth.mask(fdi)
    height = np.full(mask.shape, -np.inf)
    height[mask], _ = mouth.long_axis(box, mask)
    count = int(wanted / mouth.labels.voxel_volume)
    cut = np.sort(height[mask])[-min(count, int(mask.sum()))]
    # Wider than a voxel's diagonal: the two sides must not touch at corners.
    roots, number = ndimage.label(height > cut - 2 * mouth.coarse, _FULL)
    root = roots == int(rng.integers(1, number + 1))
    slab, tip = root & (height <= cut), root & (height > cut)
    size, whole = mouth.volume(tip), mouth.volume(mask)
    if not SMALLEST_MM3 <= size <= min(LARGEST_MM3, PIECE_SHARE * whole) or _pieces(tip) != 1:
        return None
    if _pieces(mask & ~slab) != 2:
        return None
    labels, place = mouth.changed(box, slab, 0), mouth.centre(box, tip)
    return Planted(labels, "fragment", (fdi,), place, size, {"how": "cut root tip"}, _one("fragment", [fdi], [place]))


# --- one label, two teeth, and the other way round ---------------------------------------------------------------


def _merge(mouth: _Teeth, rng: np.random.Generator) -> Planted | None:
    """One number takes over its neighbour, wholly or for the most part; a bridge joins them if they do not touch."""
    pairs = _neighbouring(mouth)
    for _ in range(_TRIES if pairs else 0):
        keeps, loses = rng.permutation(_pick(rng, pairs)).tolist()
        box = mouth.around([keeps, loses], 2 * mouth.coarse)
        first, second = mouth.array[box] == keeps, mouth.array[box] == loses
        to_first, to_second = mouth.distance(first), mouth.distance(second)
        gap = float(to_first[second].min())
        if gap > 2.5:
            continue
        joint = _joint(to_first, to_second, mouth, rng)
        taken, share = _taken(mouth, box, first, second, rng)
        bridge = joint & mouth.free(box)
        if _pieces(first | taken | bridge) != 1:
            continue
        array = mouth.array.copy()
        array[box][taken | bridge] = keeps
        # To look at where they are joined, or at either of the two teeth, or at the whole body, is all right.
        parts = (joint, first, second, first | taken)
        places = [mouth.centre(box, part) for part in parts]
        return Planted(
            labels=mouth.labels.with_array(array),
            kind="merge",
            teeth=(keeps, loses),
            position_lps_mm=places[0],
            size_mm3=mouth.volume(taken),
            described={"taken": round(share, 2), "gap_mm": round(gap, 2)},
            accept=_one("merge", (keeps, loses), places),
        )
    return None


def _neighbouring(mouth: _Teeth) -> list[tuple[int, int]]:
    """Whole teeth side by side in one jaw."""
    return [
        (a, b)
        for a in mouth.whole
        for b in mouth.whole
        if a < b and teeth.is_upper(a) == teeth.is_upper(b) and abs(_slot(a) - _slot(b)) == 1
    ]


def _joint(to_first: Array, to_second: Array, mouth: _Teeth, rng: np.random.Generator) -> Mask:
    """A ball around the place where two teeth are nearest to one another."""
    index = np.unravel_index(int(np.argmin(to_first + to_second)), to_first.shape)
    rest = [(np.arange(n) - c) * s for n, c, s in zip(to_first.shape, index, mouth.mm, strict=True)]
    z, y, x = rest[0][:, None, None], rest[1][None, :, None], rest[2][None, None, :]
    nearest = float((to_first + to_second).min())
    return np.asarray(z**2 + y**2 + x**2 <= (nearest / 2 + rng.uniform(0.9, 1.8) * max(1.0, mouth.coarse)) ** 2)


def _taken(mouth: _Teeth, box: Box, first: Mask, second: Mask, rng: np.random.Generator) -> tuple[Mask, float]:
    """All of the second tooth, or all but its far side; and the share of it."""
    share = 1.0 if rng.random() < 0.65 else float(rng.uniform(0.7, 0.95))
    points = np.argwhere(second) * mouth.mm
    from_first = (points - np.argwhere(first).mean(0) * mouth.mm) @ (
        points.mean(0) - np.argwhere(first).mean(0) * mouth.mm
    )
    taken = np.zeros_like(second)
    taken[second] = from_first <= np.quantile(from_first, share)
    return taken, share


def _split(mouth: _Teeth, rng: np.random.Generator) -> Planted | None:
    """About half of a tooth gets a number that no tooth of the map has."""
    for _ in range(_TRIES if mouth.whole else 0):
        fdi = _pick(rng, mouth.whole)
        numbers = [n for n in _confusable(fdi) if n not in mouth.boxes]
        if not numbers:
            continue
        new, (box, mask) = _pick(rng, numbers), mouth.mask(fdi)
        half, how = _half(mouth, box, mask, rng)
        if _pieces(half) != 1 or _pieces(mask & ~half) != 1:
            continue
        places = [mouth.centre(box, part) for part in (mask, half, mask & ~half)]
        return Planted(
            labels=mouth.changed(box, half, new),
            kind="split",
            teeth=(fdi, new),
            position_lps_mm=places[0],
            size_mm3=mouth.volume(half),
            described={"cut": how, "number": new},
            # The tooth's middle lies on the cut; either half is also a place to look at.
            accept=_one("split", (fdi, new), places),
        )
    return None


def _confusable(fdi: int) -> list[int]:
    """Numbers that a network gives by mistake: neighbours, the mirrored and the opposite tooth, the milk tooth."""
    other = fdi - 40 if teeth.is_deciduous(fdi) else fdi + 40
    near = [*teeth.neighbours(fdi), teeth.mirrored(fdi), teeth.opposite_jaw(fdi)]
    return near + ([other] if teeth.is_tooth(other) else [])


def _half(mouth: _Teeth, box: Box, mask: Mask, rng: np.random.Generator) -> tuple[Mask, str]:
    """35 to 65 % of a tooth on one side of a plane across its long axis or along it."""
    height, axis = mouth.long_axis(box, mask)
    how = "across the axis"
    if rng.random() < 0.5:
        how = "along the axis"
        side = np.cross(axis, _way(rng))
        points = mouth.labels.index_to_lps(np.argwhere(mask) + [s.start for s in box])
        height = points @ (side / np.linalg.norm(side))
    half = np.zeros_like(mask)
    half[mask] = height <= np.quantile(height, rng.uniform(0.35, 0.65))
    return half, how


# --- numbers -----------------------------------------------------------------------------------------------------


def _missing(mouth: _Teeth, rng: np.random.Generator) -> Planted | None:
    """A tooth taken out between two others; never a third molar, never at the edge of the view."""
    found = []
    for upper in (True, False):
        slots, whole = _jaw_slots(mouth.boxes, upper), set(mouth.whole)
        for slot, standing in slots.items():
            beside = slots.get(slot - 1, []) + slots.get(slot + 1, [])
            between = slot - 1 in slots and slot + 1 in slots
            if between and len(standing) == 1 and teeth.position(standing[0]) < 8 and whole.issuperset(beside):
                found += [fdi for fdi in standing if fdi in whole]
    if not found:
        return None
    fdi = _pick(rng, found)
    box, mask = mouth.mask(fdi)
    # Nothing is left to tell the height from: the tooth's middle and places along its axis towards the middle of the
    # crown's half, where a dentist would look, and of the root's half are all right.
    height, _ = mouth.long_axis(box, mask)
    points = np.argwhere(mask)
    crown, root = (points[part].mean(0) for part in (height < np.median(height), height >= np.median(height)))
    places = [mouth.lps(box, crown + share * (root - crown)) for share in (0.5, 0.0, 0.25, 0.75, 1.0)]
    return Planted(
        labels=mouth.changed(box, mask, 0),
        kind="missing",
        teeth=(fdi,),
        position_lps_mm=places[0],
        size_mm3=mouth.volume(mask),
        described={},
        accept=(Accepted("missing", frozenset(_names_of_place(mouth, fdi)), frozenset(), tuple(places)),),
    )


def _names_of_place(mouth: _Teeth, fdi: int) -> list[int]:
    """The tooth; in a mouth that changes its teeth a place between milk teeth has two right names."""
    if not teeth.is_deciduous(fdi):
        return [fdi]
    jaw = [t for t in mouth.boxes if teeth.is_upper(t) == teeth.is_upper(fdi)]
    return [fdi] if all(teeth.is_deciduous(t) for t in jaw) else [fdi, fdi - 40]


def _duplicate(mouth: _Teeth, rng: np.random.Generator) -> Planted | None:
    """A tooth loses its own number to that of another tooth which it does not touch."""
    for _ in range(_TRIES if len(mouth.whole) > 1 else 0):
        number, other = (int(t) for t in rng.choice(mouth.whole, 2, replace=False))
        box = mouth.around([number, other], mouth.coarse)
        if _pieces(np.isin(mouth.array[box], (number, other))) != 2:
            continue
        centres = [mouth.centres[other], mouth.centres[number]]
        size = mouth.volume(mouth.array == other)
        return Planted(
            labels=mouth.renamed({other: number}),
            kind="duplicate",
            teeth=(number,),
            position_lps_mm=centres[0],
            size_mm3=size,
            described={"own_number": other},
            # It is open which of the two bears its own number; the lost number may be named with it.
            accept=(Accepted("duplicate", frozenset((number, other)), frozenset((number,)), tuple(centres)),),
        )
    return None


def _swap(mouth: _Teeth, rng: np.random.Generator) -> Planted | None:
    """Two teeth next to each other, or next but one, exchange their numbers."""
    pairs = [
        (a, b)
        for a in mouth.whole
        for b in mouth.whole
        if a < b and teeth.is_upper(a) == teeth.is_upper(b) and 1 <= abs(_slot(a) - _slot(b)) <= 2
    ]
    pairs = [p for p in pairs if sum(teeth.is_upper(t) == teeth.is_upper(p[0]) for t in mouth.boxes) >= 4]
    if not pairs:
        return None
    first, second = _pick(rng, pairs)
    return _exchange(mouth, "swap", {first: second, second: first}, {"apart": abs(_slot(first) - _slot(second))})


def _exchange(mouth: _Teeth, kind: str, new: dict[int, int], described: dict[str, Any]) -> Planted:
    """Two teeth with exchanged numbers, or one with another's number; right places: either tooth, or between them."""
    named = frozenset(new) | frozenset(new.values())
    centres = [mouth.centres[t] for t in new]
    x, y, z = np.mean(centres, 0).tolist()
    must = frozenset(new.values())
    kinds = {kind}
    if len(new) == 2 and {teeth.position(t) for t in new} == {1} and len({teeth.is_upper(t) for t in new}) == 1:
        # The central incisors are neighbours and each other's mirror image: both names say the same.
        kinds = {"swap", "mirrored"}
    accept = tuple(Accepted(k, named, must, (*centres, (x, y, z)), len(must)) for k in sorted(kinds))
    size = mouth.volume(np.isin(mouth.array, list(new)))
    return Planted(mouth.renamed(new), kind, tuple(sorted(must)), centres[0], size, described, accept)


def _mirrored(mouth: _Teeth, rng: np.random.Generator) -> Planted | None:
    """Left and right, or upper and lower, exchanged: for whole jaws or for one tooth."""
    plans: list[Callable[[_Teeth, np.random.Generator], Planted | None]] = [_rows_mirrored, _tooth_mirrored]
    for at in rng.permutation(2):
        if (made := plans[int(at)](mouth, rng)) is not None:
            return made
    return None


def _rows_mirrored(mouth: _Teeth, rng: np.random.Generator) -> Planted | None:
    how = _pick(rng, ("sides of the upper jaw", "sides of the lower jaw", "sides of both jaws", "jaws"))
    turn = teeth.opposite_jaw if how == "jaws" else teeth.mirrored
    jaws = {"sides of the upper jaw": (True,), "sides of the lower jaw": (False,)}.get(how, (True, False))
    which = [fdi for fdi in mouth.boxes if teeth.is_upper(fdi) in jaws]
    if len(which) < 4:
        return None
    new = {fdi: turn(fdi) for fdi in which}
    middle = np.mean([mouth.centres[fdi] for fdi in which], 0)
    x, y, z = middle.tolist()
    places = [(x, y, z), *(mouth.centres[fdi] for fdi in which), *_row_middles(mouth, which)]
    named = frozenset(new.values())
    # Such a fault may be told in one finding or tooth by tooth; half of the teeth must be named.
    accept = (Accepted("mirrored", named, frozenset(), tuple(places), -(-len(named) // 2)),)
    size = mouth.volume(np.isin(mouth.array, which))
    return Planted(mouth.renamed(new), "mirrored", tuple(sorted(named)), places[0], size, {"how": how}, accept)


def _row_middles(mouth: _Teeth, which: Sequence[int]) -> list[Vector3]:
    """Middles of the jaws and of the quadrants."""
    groups: dict[tuple[bool, int], list[int]] = {}
    for fdi in which:
        for side in (0, 1 + int(teeth.is_left(fdi))):
            groups.setdefault((teeth.is_upper(fdi), side), []).append(fdi)
    means = (np.mean([mouth.centres[fdi] for fdi in group], 0).tolist() for group in groups.values())
    return [(x, y, z) for x, y, z in means]


def _tooth_mirrored(mouth: _Teeth, rng: np.random.Generator) -> Planted | None:
    """One tooth and its partner exchange numbers; or it takes the number of a partner that is not there."""
    for _ in range(_TRIES if mouth.whole else 0):
        fdi = _pick(rng, mouth.whole)
        across = bool(rng.random() < 0.6)
        partner = teeth.mirrored(fdi) if across else teeth.opposite_jaw(fdi)
        how = {"how": "one tooth, other side" if across else "one tooth, other jaw"}
        if partner in mouth.whole:
            return _exchange(mouth, "mirrored", {fdi: partner, partner: fdi}, how)
        between = range(min(_slot(fdi), _slot(partner)) + 1, max(_slot(fdi), _slot(partner)))
        standing = _jaw_slots(mouth.boxes, teeth.is_upper(fdi))
        # With nothing between the two places nobody can tell which of them a lone tooth stands in.
        if partner not in mouth.boxes and (not across or any(slot in standing for slot in between)):
            return _exchange(mouth, "mirrored", {fdi: partner}, how)
    return None


# --- shapes ------------------------------------------------------------------------------------------------------


def _contact(mouth: _Teeth, rng: np.random.Generator) -> Planted | None:
    """A bridge between two teeth that cannot touch, or neighbours grown together over a large face."""
    plans: list[Callable[[_Teeth, np.random.Generator], Planted | None]] = [_bridge, _wide_contact]
    for plan in plans if rng.random() < 0.6 else plans[::-1]:
        if (made := plan(mouth, rng)) is not None:
            return made
    return None


def _apart(mouth: _Teeth) -> list[tuple[int, int]]:
    """Pairs that never touch: next but one with the tooth between in place, or far places of the two jaws."""
    filled = {upper: _jaw_slots(mouth.boxes, upper) for upper in (True, False)}
    out = []
    for a in mouth.whole:
        for b in mouth.whole:
            steps = abs(_slot(a) - _slot(b))
            if a < b and teeth.is_upper(a) != teeth.is_upper(b) and 3 <= steps <= 6:
                out.append((a, b))
            elif a < b and teeth.is_upper(a) == teeth.is_upper(b) and steps == 2:
                middle = (_slot(a) + _slot(b)) // 2
                out += [(a, b)] if middle in filled[teeth.is_upper(a)] else []
    return out


def _bridge(mouth: _Teeth, rng: np.random.Generator) -> Planted | None:
    """A rod of one tooth's label that bends around what lies between and ends on the other tooth."""
    from scipy.spatial import cKDTree

    pairs = _apart(mouth)
    for _ in range(_TRIES if pairs else 0):
        ends = rng.permutation(_pick(rng, pairs)).tolist()
        bodies = [np.argwhere(mouth.array[box] == t) + [s.start for s in box] for t in ends for box in [mouth.boxes[t]]]
        trees = [cKDTree(body * mouth.mm) for body in bodies]
        for _ in range(2 * _TRIES):
            radius = float(rng.uniform(0.6, 1.5))
            knee = (bodies[0].mean(0) + bodies[1].mean(0)) / 2 * mouth.mm + _way(rng) * rng.uniform(0, 12)
            feet = [body[tree.query(knee)[1]] for body, tree in zip(bodies, trees, strict=True)]
            path = _bent_path(feet[0], knee / mouth.mm, feet[1])
            if _length(path, mouth) < 25 and _clear(mouth, path, radius + 1.2, ends):
                made = _bridged(mouth, path, radius, ends)
                if made is not None:
                    return made
    return None


def _bent_path(first: Array, knee: Array, last: Array) -> Array:
    """Indices (n, 3) along two straight lines."""
    share = np.linspace(0, 1, 80)[:, None]
    return np.concatenate([first + share * (knee - first), knee + share[1:] * (last - knee)])


def _clear(mouth: _Teeth, path: Array, reach: float, ends: Sequence[int]) -> bool:
    """Whether no other tooth comes within ``reach`` mm of a path that stays inside the map."""
    way = np.stack(np.meshgrid(*[[-1, -0.5, 0, 0.5, 1]] * 3), -1).reshape(-1, 3)
    way = way / np.maximum(np.linalg.norm(way, axis=1), 1)[:, None]
    around = np.rint(path[:, None] + way * reach / mouth.mm).astype(int)
    if (around < 0).any() or (around >= mouth.array.shape).any():
        return False
    met = np.unique(mouth.array[tuple(np.moveaxis(around, -1, 0))])
    return not any(teeth.is_tooth(int(value)) and value not in ends for value in met)


def _bridged(mouth: _Teeth, path: Array, radius: float, ends: Sequence[int]) -> Planted | None:
    first, second = ends
    box = mouth.around(ends, 16)
    local = path - [s.start for s in box]
    mine, other = mouth.array[box] == first, mouth.array[box] == second
    rod = _rod(mouth, mine.shape, local, radius) & mouth.free(box)
    if _pieces(mine | rod) != 1 or _pieces(mine | rod | other) != 1:
        return None
    places = [mouth.lps(box, local[at]) for at in (-1, len(local) // 2)]
    length = round(_length(path, mouth), 1)
    return Planted(
        labels=mouth.changed(box, rod, first),
        kind="contact",
        teeth=(first, second),
        position_lps_mm=places[0],
        size_mm3=mouth.volume(rod),
        described={"how": "bridge", "length_mm": length, "radius_mm": round(radius, 2)},
        # They touch where the rod ends; its middle is the place of what should not be there.
        accept=_one("contact", (first, second), places),
    )


def _length(path: Array, mouth: _Teeth) -> float:
    return float(np.linalg.norm(np.diff(path, axis=0) * mouth.mm, axis=1).sum())


def _rod(mouth: _Teeth, shape: tuple[int, ...], path: Array, radius: float) -> Mask:
    """Voxels within ``radius`` mm of a path of indices, measured near the path only."""
    at = np.clip(np.rint(path).astype(int), 0, np.array(shape) - 1)
    room = np.ceil(radius / mouth.mm).astype(int) + 1
    first, last = np.maximum(at.min(0) - room, 0), np.minimum(at.max(0) + room + 1, shape)
    line = np.zeros(last - first, bool)
    line[tuple((at - first).T)] = True
    out = np.zeros(shape, bool)
    out[tuple(slice(a, b) for a, b in zip(first, last, strict=True))] = mouth.distance(line) <= radius
    return out


def _wide_contact(mouth: _Teeth, rng: np.random.Generator) -> Planted | None:
    """The gap between two neighbours filled by both, so that they touch over a face no real pair has."""
    pairs = _neighbouring(mouth)
    for _ in range(_TRIES // 2 if pairs else 0):
        first, second = _pick(rng, pairs)
        box = mouth.around([first, second], 3)
        here = mouth.array[box]
        to_first, to_second = mouth.distance(here == first), mouth.distance(here == second)
        reach = float(rng.uniform(0.8, 2.5))
        between = mouth.free(box) & (to_first <= reach) & (to_second <= reach)
        grown = here.copy()
        grown[between] = np.where(to_first <= to_second, first, second)[between]
        before, _ = _touching(mouth, here, first, second)
        after, face = _touching(mouth, grown, first, second)
        if after < max(WIDE_CONTACT_MM2, 2.5 * before) or any(_pieces(grown == t) != 1 for t in (first, second)):
            continue
        array, place = mouth.array.copy(), mouth.lps(box, face.mean(0))
        array[box] = grown
        return Planted(
            labels=mouth.labels.with_array(array),
            kind="contact",
            teeth=(first, second),
            position_lps_mm=place,
            size_mm3=mouth.volume(between),
            described={"how": "wide", "area_mm2": round(after, 1), "before_mm2": round(before, 1)},
            accept=_one("contact", (first, second), [place]),
        )
    return None


def _touching(mouth: _Teeth, here: Array, first: int, second: int) -> tuple[float, Array]:
    """Area in mm2 over which two labels meet, and the middles (n, 3) of the voxel faces there as indices.

    The sum of the faces would be up to 1.7 times the area of an oblique contact: it counts every step of the staircase.
    """
    areas, faces = [], []
    for axis in range(3):
        low, high = (np.take(here, range(*ends), axis) for ends in ((0, here.shape[axis] - 1), (1, here.shape[axis])))
        meet = ((low == first) & (high == second)) | ((low == second) & (high == first))
        at = np.argwhere(meet).astype(float)
        at[:, axis] += 0.5
        faces.append(at)
        areas.append(len(at) * float(np.prod(mouth.mm) / mouth.mm[axis]))
    return float(np.linalg.norm(areas)), np.concatenate(faces)


def _outlier(mouth: _Teeth, rng: np.random.Generator) -> Planted | None:
    """A tooth far too small or too large, or with a lump or spur of several mm on it."""
    plans = (_shrunk, _inflated, _lump_on, _spur_on)
    lone = [t for t in mouth.whole if len(_jaw_slots(mouth.boxes, teeth.is_upper(t))[_slot(t)]) == 1]
    for _ in range(_TRIES if lone else 0):
        # A place with milk tooth and successor is left alone: germs have any size.
        if (made := _pick(rng, plans)(mouth, _pick(rng, lone), rng)) is not None:
            return made
    return None


def _shrunk(mouth: _Teeth, fdi: int, rng: np.random.Generator) -> Planted | None:
    from scipy import ndimage

    box, mask = mouth.mask(fdi)
    wanted = float(rng.uniform(0.06, 0.2)) * size_of(fdi).volume
    scale = (wanted / mouth.volume(mask)) ** (1 / 3)
    centre = np.argwhere(mask).mean(0)
    small = ndimage.affine_transform(mask.astype(np.uint8), np.full(3, 1 / scale), centre * (1 - 1 / scale), order=0)
    small = (small > 0) & (mask | mouth.free(box))
    if mouth.volume(small) < 5 or _pieces(small) != 1:
        return None
    array = mouth.array.copy()
    array[box][mask] = 0
    array[box][small] = fdi
    place, size = mouth.centre(box, small), mouth.volume(mask) - mouth.volume(small)
    how = {"how": "shrunk", "share": round(mouth.volume(small) / size_of(fdi).volume, 2)}
    labels = mouth.labels.with_array(array)
    return Planted(labels, "outlier", (fdi,), place, size, how, _one("outlier", [fdi], [place]))


def _inflated(mouth: _Teeth, fdi: int, rng: np.random.Generator) -> Planted | None:
    """The tooth grown evenly into free space, away from other teeth, far beyond its plausible size."""
    box = mouth.around([fdi], 7)
    mask = mouth.array[box] == fdi
    away, room = mouth.distance(mask), _room(mouth, box, fdi)
    wanted = float(rng.uniform(2.6, 3.4)) * size_of(fdi).volume
    growth = np.sort(away[room & (away <= 6)])
    count = int((wanted - mouth.volume(mask)) / mouth.labels.voxel_volume)
    if not 0 < count < len(growth):
        return None
    return _added(mouth, fdi, box, room & (away <= growth[count]), "inflated")


def _lump_on(mouth: _Teeth, fdi: int, rng: np.random.Generator) -> Planted | None:
    box = mouth.around([fdi], 9)
    mask, room = mouth.array[box] == fdi, _room(mouth, box, fdi)
    radius = float(rng.uniform(2, 4))
    away = mouth.distance(mask)
    places = np.argwhere(room & (np.abs(away - 0.7 * radius) < mouth.coarse))
    if not len(places):
        return None
    ball = _ellipsoid(mouth, mask.shape, _pick(rng, places), np.full(3, radius), rng)
    lump = ball & room
    if mouth.volume(lump) < 0.5 * 4.19 * radius**3:
        return None
    return _added(mouth, fdi, box, lump, "lump")


def _spur_on(mouth: _Teeth, fdi: int, rng: np.random.Generator) -> Planted | None:
    box = mouth.around([fdi], 13)
    mask, room = mouth.array[box] == fdi, _room(mouth, box, fdi)
    away, length, radius = mouth.distance(mask), float(rng.uniform(4, 10)), float(rng.uniform(0.8, 1.5))
    tips = np.argwhere(room & (np.abs(away - length) < mouth.coarse))
    if not len(tips):
        return None
    tip, body = _pick(rng, tips), np.argwhere(mask)
    foot = body[np.argmin((((body - tip) * mouth.mm) ** 2).sum(1))]
    path = foot + np.linspace(0, 1, 80)[:, None] * (tip - foot)
    rod = _rod(mouth, mask.shape, path, radius) & ~mask
    if np.count_nonzero(rod & room) < 0.9 * np.count_nonzero(rod):
        return None
    return _added(mouth, fdi, box, rod & room, "spur")


def _room(mouth: _Teeth, box: Box, fdi: int) -> Mask:
    """Free voxels with a gap to all other teeth."""
    free = mouth.free(box)
    return free & (mouth.distance(~free & (mouth.array[box] != fdi)) > 2 * mouth.coarse)


def _added(mouth: _Teeth, fdi: int, box: Box, added: Mask, how: str) -> Planted | None:
    """The tooth with voxels added, if it stays in one piece."""
    grown = added | (mouth.array[box] == fdi)
    if _pieces(grown) != 1 or not added.any():
        return None
    places = [mouth.centre(box, added)]
    if how == "inflated" or mouth.volume(grown) > size_of(fdi).volume_range[1]:
        # The size of the whole tooth is wrong, so its middle is a right place.
        places = [mouth.centre(box, grown), *places]
    if how == "spur":
        points = np.argwhere(added)
        far = mouth.distance(mouth.array[box] == fdi)[added]
        places += [mouth.lps(box, points[int(np.argmax(far))]), mouth.lps(box, points[int(np.argmin(far))])]
    made = {"how": how, "share": round(mouth.volume(grown) / size_of(fdi).volume, 2)}
    return Planted(
        labels=mouth.changed(box, added, fdi),
        kind="outlier",
        teeth=(fdi,),
        position_lps_mm=places[0],
        size_mm3=mouth.volume(added),
        described=made,
        accept=_one("outlier", [fdi], places),
    )


_PLANTERS: dict[str, Callable[[_Teeth, np.random.Generator], Planted | None]] = {
    "cavity": _cavity,
    "tunnel": _tunnel,
    "fragment": _fragment,
    "merge": _merge,
    "split": _split,
    "missing": _missing,
    "duplicate": _duplicate,
    "swap": _swap,
    "mirrored": _mirrored,
    "contact": _contact,
    "outlier": _outlier,
}
KINDS = tuple(_PLANTERS)
"""The kinds of fault that can be planted."""
