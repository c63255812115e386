"""Tunnels: openings that go right through a tooth (b1 > 0), what closes each of them, and what they mean.

In goes a boolean tooth or a :class:`~ToothTopoSegLib.topology.mouth.Mouth`, out come tunnels or findings. A set without
holes that holds the tooth is thinned without changing its topology, from all sides at the same pace, until nothing but
the tooth and thin membranes is left: each membrane spans a tunnel, and filling it closes the tunnel (Z. Aktouf, G.
Bertrand, L. Perroton, *A three-dimensional holes closing algorithm*, Pattern Recognition Letters 23, 2002). A voxel may
go if it is simple for a 26-connected foreground (G. Bertrand, G. Malandain, *A new characterization of
three-dimensional simple points*, Pattern Recognition Letters 15, 1994); neighbourhoods are looked at as 27 bits of one
integer, a whole front of voxels at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.anatomy import fdi as teeth
from ToothTopoSegLib.anatomy.sizes import size_of
from ToothTopoSegLib.imaging.boxes import Box
from ToothTopoSegLib.imaging.volume import Vector3, Volume
from ToothTopoSegLib.topology.betti import Body, Mask, betti_numbers, bodies, euler_number
from ToothTopoSegLib.topology.findings import Finding, lps, mm3, named
from ToothTopoSegLib.topology.mouth import Mouth

Index = tuple[int, int, int]
Flat = NDArray[np.int64]
Codes = NDArray[np.int32]

ERROR_BORE_MM = 0.5
"""Narrower tunnels are ragged edges of a segmentation: one warning for each tooth."""
COARSE_MM = 0.5
"""Voxel size of the grid on which the first set without holes is sought."""
CLOSING_MM = (0.5, 1.0, 1.75, 3.0)
"""Radii of the closings that are tried as this first set after the coarse tooth itself; last comes the whole box."""
LOOK_AROUND_MM = 2.0
"""A membrane may move this far to a narrower place of its tunnel."""
MOST_MOVED = 4
"""So many membranes of a body, the largest, are taken apart and moved."""
MOST_TOLD = 12
"""So many tunnels of a body are findings of their own."""
MOST_MEETING = 4
"""A membrane that closes more tunnels than these is not taken apart."""
FURCATION_HEIGHT_MM = 1.5
"""A gap left between roots that have grown together at their tips is at least this high ..."""
FURCATION_SLENDER = 1.5
"""... and so many times as high as wide, unless it is wider than any drilled or eaten hole:"""
FURCATION_WIDE_MM = 2.0
MEETING_ROOTS_MM = 0.8
"""Where several roots touch here and there, openings up to this wide are left between them."""
BRIDGED_PLUG_MM3 = 1.0
"""Under a bridge of single voxels only a plug up to this size is offered: a larger one may join two roots or cusps."""
UPRIGHT = 0.6
"""A tooth whose long axis is turned further (cosine to the vertical) lies: where its root is cannot be told."""


@dataclass(frozen=True, eq=False)
class Tunnel:
    """One opening through a tooth, or several that share a membrane.

    ``bore_mm`` is the width of its narrowest place (the largest ball that passes), ``place`` the voxel (z, y, x) there,
    ``plug`` the background voxels whose filling closes it, ``closes`` by how much that lowers b1, ``taken`` the
    share of the plug that must not be filled, ``bridged`` whether a bridge of single voxels makes part of its rim.
    """

    bore_mm: float
    place: Index
    plug: Body
    closes: int = 1
    taken: float = 0.0
    bridged: bool = False


def find_tunnels(mouth: Mouth) -> list[Finding]:
    """Tunnels through teeth; those narrower than 0.5 mm are one warning for each body of a tooth.

    Error from 0.5 mm on, unless it can be the gap between grown-together roots (info), lies at the edge of the view,
    under a bridge of single voxels or among several roots that may touch (warning). What another label fills is none.
    """
    holed = [(tooth.fdi, body) for tooth in mouth.teeth.values() if tooth.betti[1] > 0 for body in tooth.bodies]
    return [finding for fdi, body in holed for finding in _findings(mouth.labels, fdi, body)]


def tunnels(mask: Mask, spacing: Vector3, free: Mask | None = None) -> tuple[Tunnel, ...]:
    """The tunnels of a connected boolean tooth (z, y, x), widest first; ``spacing`` is mm in the same order.

    Filling one plug closes its tunnel, filling all of them brings b1 to 0 (voids are left alone). Plugs of tunnels that
    meet may overlap.

    Only ``free`` voxels should be filled (all of the background by default): a plug leads through others where there is
    no other way, and its ``taken`` is then more than 0.
    """
    solid = _without_voids(mask)
    if euler_number(solid) >= 1:
        return ()
    found = _described(solid, ~mask if free is None else free & ~mask, spacing)
    return tuple(sorted(found, key=lambda t: (-t.bore_mm, -t.plug.voxels, t.place)))


def _described(solid: Mask, free: Mask, spacing: Vector3) -> Iterator[Tunnel]:
    """The tunnels of a tooth without voids, at each membrane that is left when a set without holes is thinned."""
    # a border of one voxel gives every voxel of the tooth its neighbours
    start, inside, outside = np.pad(_without_holes(solid, spacing), 1), np.pad(np.ones_like(solid), 1), np.pad(solid, 1)
    taken = np.pad(~free, 1) & ~outside
    membranes = _Neighbourhood(start.shape).thinned(start, outside, [taken, ~outside]) & ~outside
    for number, plug in enumerate(bodies(membranes)):
        closely = number < MOST_MOVED
        margin = [int(np.ceil(LOOK_AROUND_MM / s)) + 1 if closely else 3 for s in spacing]
        box = tuple(
            slice(max(s.start - m, 0), min(s.stop + m, n))
            for s, m, n in zip(plug.box, margin, start.shape, strict=True)
        )
        own = np.zeros([s.stop - s.start for s in box], dtype=bool)
        own[tuple(slice(s.start - o.start, s.stop - o.start) for s, o in zip(plug.box, box, strict=True))] = plug.mask
        membranes[box] &= ~own
        barred = taken[box] | ~inside[box] | _near(membranes[box])
        offset = (box[0].start - 1, box[1].start - 1, box[2].start - 1)
        for tunnel in _Site(outside[box], barred, taken[box], offset, spacing).described(own, closely):
            # where it has moved to is barred for the others
            membranes[tuple(slice(s.start + 1, s.stop + 1) for s in tunnel.plug.box)] |= tunnel.plug.mask
            yield tunnel


def _near(mask: Mask) -> Mask:
    """A mask and all voxels adjacent to it."""
    from scipy import ndimage

    near: Mask = ndimage.binary_dilation(mask, np.ones((3, 3, 3)))
    return near


def _findings(labels: Volume, fdi: int, body: Body) -> list[Finding]:
    found = [tunnel for tunnel in _in_patient_axes(labels, body) if tunnel.taken < 0.5]
    if not found:
        return []
    wide = [tunnel for tunnel in found if tunnel.bore_mm >= ERROR_BORE_MM][:MOST_TOLD]
    pose = _Pose(labels, fdi, body)
    rest = found[len(wide) :]
    return [_wide(labels, fdi, tunnel, pose) for tunnel in wide] + ([_others(labels, fdi, rest)] if rest else [])


def _in_patient_axes(labels: Volume, body: Body) -> list[Tunnel]:
    """The tunnels of a body in voxels of the label map, the same whatever way its array is laid."""
    axes, flipped = _patient_axes(labels)
    free = labels.array[body.box] == 0
    mask, free = (np.flip(crop.transpose(axes), flipped) for crop in (body.mask, free))
    z, y, x = (labels.spacing[axis] for axis in axes)
    return [_moved(tunnel, body.box, axes, flipped) for tunnel in tunnels(mask, (z, y, x), free)]


def _patient_axes(labels: Volume) -> tuple[Index, tuple[int, ...]]:
    """The array axes that come nearest to the patient's (z, y, x), and which of these then run the other way."""
    # columns belong to x, y, z of the image, rows to x, y, z of the patient
    direction = np.asarray(labels.direction)[::-1, ::-1]
    axes = max(permutations(range(3)), key=lambda order: sum(abs(direction[row, k]) for row, k in enumerate(order)))
    return (axes[0], axes[1], axes[2]), tuple(row for row, k in enumerate(axes) if direction[row, k] < 0)


def _moved(tunnel: Tunnel, box: Box, axes: Index, flipped: tuple[int, ...]) -> Tunnel:
    """A tunnel of a crop that was transposed and flipped, in the array that it was cropped from."""
    shape = [box[axis].stop - box[axis].start for axis in axes]
    back = np.argsort(axes)
    place, sides = list(tunnel.place), list(tunnel.plug.box)
    for row in flipped:
        place[row] = shape[row] - 1 - place[row]
        sides[row] = slice(shape[row] - sides[row].stop, shape[row] - sides[row].start)
    z, y, x = (place[k] + side.start for k, side in zip(back, box, strict=True))
    low = [slice(sides[k].start + side.start, sides[k].stop + side.start) for k, side in zip(back, box, strict=True)]
    mask = np.flip(tunnel.plug.mask, flipped).transpose(back)
    return replace(tunnel, place=(z, y, x), plug=replace(tunnel.plug, box=(low[0], low[1], low[2]), mask=mask))


class _Pose:
    """How a tooth stands: its axis towards the root, where its crown begins, and where the view cuts it off."""

    def __init__(self, labels: Volume, fdi: int, body: Body) -> None:
        self.labels = labels
        self.fdi = fdi
        self.size = size_of(fdi)
        points = labels.index_to_lps(body.indices)
        rootwards = np.array([0.0, 0.0, 1.0 if teeth.is_upper(fdi) else -1.0])
        _, _, axes = np.linalg.svd(np.cov((points - points.mean(axis=0)).T))
        cosine = float(axes[0] @ rootwards)
        long = np.ptp(points @ axes[0]) > self.size.crown_length + self.size.root_length / 2
        self.lies = bool(long and abs(cosine) < UPRIGHT)
        self.axis = axes[0] * np.sign(cosine) if long and not self.lies else rootwards
        self.start = float(np.min(points @ self.axis))
        self.cut = [
            (axis, edge)
            for axis, (side, length) in enumerate(zip(body.box, labels.array.shape, strict=True))
            for edge in (0, length - 1)
            if side.start <= edge < side.stop
        ]

    def part(self, tunnel: Tunnel) -> str:
        """'crown' or 'root', or 'tooth' where that cannot be told."""
        if self.lies:
            return "tooth"
        level = float(self.labels.index_to_lps(np.array(tunnel.place)) @ self.axis) - self.start
        return "crown" if level < self.size.crown_length else "root"

    def between_roots(self, tunnel: Tunnel) -> bool:
        """Whether it can be the gap that roots leave above their grown-together tips."""
        if self.size.roots < 2 or self.part(tunnel) == "crown":
            return False
        along = self.labels.index_to_lps(tunnel.plug.indices) @ self.axis
        # the part of a voxel that sticks out on both sides
        high = float(np.ptp(along)) + min(self.labels.spacing)
        slender = high >= FURCATION_SLENDER * tunnel.bore_mm or tunnel.bore_mm >= FURCATION_WIDE_MM
        return high >= FURCATION_HEIGHT_MM and (slender or self.lies)

    def where_roots_meet(self, tunnel: Tunnel) -> bool:
        """Whether it is an opening among several roots, which may touch here and there: a narrow one, or one of any
        width in a milk molar, whose roots are resorbed."""
        narrow = tunnel.bore_mm < MEETING_ROOTS_MM or teeth.is_deciduous(self.fdi)
        return self.size.roots >= 2 and self.part(tunnel) == "root" and narrow

    def at_edge(self, tunnel: Tunnel) -> bool:
        """Whether the plug reaches a face of the scan that cuts the tooth off, or ends one voxel before it."""
        return any(tunnel.plug.box[axis].start - 1 <= edge <= tunnel.plug.box[axis].stop for axis, edge in self.cut)


def _wide(labels: Volume, fdi: int, tunnel: Tunnel, pose: _Pose) -> Finding:
    size = tunnel.plug.voxels * labels.voxel_volume
    mendable = tunnel.taken == 0
    bore, part = f"{tunnel.bore_mm:.1f} mm bore", pose.part(tunnel)
    if pose.at_edge(tunnel):
        severity, text = "warning", f"has a tunnel of {bore} at the edge of the scan, where the tooth is cut off"
    elif pose.between_roots(tunnel):
        severity, mendable = "info", False
        text = f"has an opening of {bore} between its roots, as roots leave it whose tips have grown together"
    elif tunnel.bridged:
        severity, mendable = "warning", mendable and size <= BRIDGED_PLUG_MM3
        text = f"has an opening of {bore} in its {part} under a bridge of single voxels, which may be a false contact"
    elif pose.where_roots_meet(tunnel):
        severity, text = "warning", f"has an opening of {bore} in its root, as roots may leave it where they meet"
    else:
        severity, text = "error", f"has a tunnel of {bore} right through its {part}, where no tooth has one"
    place = lps(labels, np.array(tunnel.place))
    repair = "close tunnel" if mendable else None
    return Finding(0, "tunnel", severity, (fdi,), place, size, f"{named(fdi)} {text}.", repair, (tunnel.plug,))


def _others(labels: Volume, fdi: int, found: Sequence[Tunnel]) -> Finding:
    """One finding, at the widest, for all tunnels that are too narrow or too many to be told one by one."""
    plugs = tuple(tunnel.plug for tunnel in found)
    size = sum(plug.voxels for plug in plugs) * labels.voxel_volume
    count, widest = sum(tunnel.closes for tunnel in found), found[0]
    bore = f"{widest.bore_mm:.2g} mm bore"
    what = f"a tiny tunnel of {bore}" if count == 1 else f"{count} small tunnels, the widest of {bore}"
    text = f"{named(fdi)} has {what} ({mm3(size)} to fill), as ragged labels have them."
    repair = "close tunnel" if all(tunnel.taken == 0 for tunnel in found) else None
    place = lps(labels, np.array(widest.place))
    return Finding(0, "tunnel", "warning", (fdi,), place, size, text, repair, plugs)


class _Site:
    """The surroundings of one membrane: small arrays of the tooth, of voxels not to fill and of other membranes."""

    def __init__(self, solid: Mask, barred: Mask, taken: Mask, offset: Index, spacing: Vector3) -> None:
        self.solid = solid
        self.barred = barred
        self.taken = taken
        self.offset = offset
        self.spacing = spacing
        self.around = _Neighbourhood(solid.shape)

    def described(self, plug: Mask, closely: bool) -> list[Tunnel]:
        """The tunnels that a membrane closes, ``closely`` one by one and each at its narrowest place."""
        closes = self._closes(plug)
        if closes <= 0:
            return []
        if not closely:
            return [self._tunnel(plug)]
        parts = self._parts(plug, closes) if 1 < closes <= MOST_MEETING else [plug]
        return [self._tunnel(self._at_narrowest(part) if len(parts) == 1 else part) for part in parts]

    def _tunnel(self, plug: Mask) -> Tunnel:
        bore, (z, y, x) = self._bore(plug)
        sides = [slice(s.start + k, s.stop + k) for s, k in zip(_box(plug, 0), self.offset, strict=True)]
        body = Body((sides[0], sides[1], sides[2]), plug[_box(plug, 0)], int(np.count_nonzero(plug)))
        place = (z + self.offset[0], y + self.offset[1], x + self.offset[2])
        taken = np.count_nonzero(plug & self.taken) / body.voxels
        return Tunnel(bore, place, body, self._closes(plug), taken, self._bridged(plug))

    def _closes(self, plug: Mask) -> int:
        """By how much filling lowers b1: all that changes, as no piece is added and no void enclosed."""
        return euler_number(self.solid | plug) - euler_number(self.solid)

    def _parts(self, plug: Mask, closes: int) -> list[Mask]:
        """One membrane for each tunnel: all others are pierced, those already found first, and thinned away."""
        found: list[Mask] = []
        for _ in range(closes):
            rest = plug
            for other in found:
                rest = self._pierced(rest, other & rest)
            while self._closes(rest) > 1:
                rest = self._pierced(rest, rest)
            if self._closes(rest) != 1:  # one voxel of it closes several
                return [plug]
            found.append(rest)
        together = self.solid | np.logical_or.reduce(found)
        # two parts may span the same tunnel and leave another open
        return found if betti_numbers(together) == betti_numbers(self.solid | plug) else [plug]

    def _pierced(self, plug: Mask, where: Mask) -> Mask:
        if not where.any():
            return plug
        depth = _depth(self.solid, self.spacing) * where
        opened = plug | self.solid
        opened[np.unravel_index(int(np.argmax(depth)), depth.shape)] = False
        left: Mask = self.around.thinned(opened, self.solid, [plug]) & ~self.solid
        return left

    def _at_narrowest(self, plug: Mask) -> Mask:
        """The membrane moved to where its tunnel is narrowest near by, where that is clearly narrower."""
        step = max(self.spacing)
        depth = _depth(self.solid, self.spacing)
        deepest = float(depth[plug].max())
        if deepest < 1.5 * step or _opens_twice(depth > deepest - 0.75 * step, plug):
            return plug
        room = ~self.solid & ~self.barred & (depth <= deepest + step)
        grown = self.around.grown(self.solid | plug, room)
        levels = [depth > level for level in np.arange(deepest - step / 2, step, -step / 2)]
        moved: Mask = self.around.thinned(grown, self.solid, [*levels, ~self.solid]) & ~self.solid
        better = moved.any() and depth[moved].max() < deepest - 0.75 * step
        return moved if better and self._closes(moved) == self._closes(plug) else plug

    def _bore(self, plug: Mask) -> tuple[float, Index]:
        """Bore in mm, and the voxel in the middle of the opening.

        A ball that fits between voxels is up to a voxel smaller than the hole that they stand for; within that range
        the area of the plug decides.
        """
        box = _box(plug, 2)
        depth = _room(self.solid[box], self.spacing) * plug[box]
        ball = 2 * float(depth.max())
        voxel = float(np.prod(self.spacing)) ** (1 / 3)
        disc = 2 * float(np.sqrt(np.count_nonzero(plug) / np.pi)) * voxel
        widest = np.argwhere(depth >= depth.max() - 1e-6)
        middle = np.argwhere(plug[box]).mean(axis=0)
        nearest = widest[np.argmin(np.sum(((widest - middle) * self.spacing) ** 2, axis=1))]
        z, y, x = (int(n) + s.start for n, s in zip(nearest, box, strict=True))
        return max(ball, min(disc, ball + min(self.spacing))), (z, y, x)

    def _bridged(self, plug: Mask) -> bool:
        """Whether the rim has a voxel that alone holds two parts of the tooth together but for the plug."""
        rim = np.flatnonzero(_kernel(_near(plug) & self.solid))
        apart, mended = (self.around.codes(m.ravel().astype(np.int32), rim) for m in (self.solid, self.solid | plug))
        return bool(np.any(~_joined(apart) & _joined(mended)))


class _Neighbourhood:
    """Simple voxels of flat arrays of one shape, whose outermost voxels never change."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        strides = np.array([shape[1] * shape[2], shape[2], 1])
        self.steps: Flat = np.array([np.dot(step, strides) for step in product((-1, 0, 1), repeat=3)])
        odd = [(np.arange(n) % 2).astype(np.uint8) for n in shape]
        self.subfield = (odd[0][:, None, None] * 4 + odd[1][:, None] * 2 + odd[2]).ravel()
        self.interior = _kernel(np.ones(shape, dtype=bool))

    def thinned(self, start: Mask, keep: Mask, order: Sequence[Mask]) -> Mask:
        """``start`` without all simple voxels but those of ``keep``; the voxels of the first of ``order`` go first."""
        filled = start.ravel().astype(np.int32)
        for layer in order:
            self._eroded(filled, (layer & ~keep & self.interior).ravel())
        return filled.reshape(self.shape).astype(bool)

    def grown(self, start: Mask, room: Mask) -> Mask:
        """``start`` with all voxels of ``room`` that can be added one after the other without changing the topology."""
        empty = (~start).ravel().astype(np.int32)
        self._eroded(empty, (room & self.interior).ravel(), growing=True)
        return ~empty.reshape(self.shape).astype(bool)

    def _eroded(self, filled: Codes, mortal: NDArray[np.bool_], growing: bool = False) -> None:
        """Take simple voxels off ``filled`` in sweeps from all sides; two voxels of one subfield are never adjacent."""
        front = np.flatnonzero(mortal & (filled != 0))
        front = front[~filled[front[:, None] + self.steps[[4, 10, 12, 14, 16, 22]]].all(axis=1)]
        near = np.zeros(len(filled), dtype=bool)
        while len(front):
            gone = [self._field_eroded(filled, part, growing) for part in self._fields(front)]
            near[:] = False
            near[(np.concatenate(gone)[:, None] + self.steps).ravel()] = True
            near &= mortal
            front = np.flatnonzero(near)
            front = front[filled[front] != 0]

    def _fields(self, front: Flat) -> list[Flat]:
        fields = self.subfield[front]
        return [front[fields == field] for field in range(8)]

    def _field_eroded(self, filled: Codes, part: Flat, growing: bool) -> Flat:
        if len(part):
            codes = self.codes(filled, part)
            part = part[_simple(~codes & _ALL_BUT_CENTRE if growing else codes)]
            filled[part] = 0
        return part

    def codes(self, filled: Codes, at: Flat) -> Codes:
        """The 26 neighbours of voxels as bits; bit 13, the voxel itself, is 0."""
        code = np.zeros(len(at), dtype=np.int32)
        for bit, step in enumerate(self.steps):
            if bit != 13:
                code |= filled.take(at + step) << bit
        return code


def _bits(chosen: Iterable[bool]) -> np.int32:
    return np.int32(sum(1 << bit for bit, yes in enumerate(chosen) if yes))


_STEPS = tuple(product((-1, 0, 1), repeat=3))
_ALL_BUT_CENTRE = _bits(any(step) for step in _STEPS)
_FACES = _bits(sum(map(abs, step)) == 1 for step in _STEPS)
_FACES_AND_EDGES = _bits(sum(map(abs, step)) in (1, 2) for step in _STEPS)
_NOT_FIRST = tuple(_bits(step[axis] != -1 for step in _STEPS) for axis in range(3))
_NOT_LAST = tuple(_bits(step[axis] != 1 for step in _STEPS) for axis in range(3))
_SHIFT = (9, 3, 1)


def _beside(code: Codes, axis: int) -> Codes:
    """The bits of both neighbours along an axis."""
    return (code & _NOT_LAST[axis]) << _SHIFT[axis] | (code & _NOT_FIRST[axis]) >> _SHIFT[axis]


def _spread_26(code: Codes) -> Codes:
    for axis in range(3):
        code = code | _beside(code, axis)
    return code


def _spread_6(code: Codes) -> Codes:
    return code | _beside(code, 0) | _beside(code, 1) | _beside(code, 2)


def _one_piece(
    room: Codes, seed: Codes, spread: Callable[[Codes], Codes], wanted: Codes | None = None
) -> NDArray[np.bool_]:
    """Whether spreading from ``seed`` within ``room`` reaches all of ``wanted`` (``room`` itself if not given)."""
    reached = seed
    while True:
        further = spread(reached) & room
        if np.array_equal(further, reached):
            return reached & (room if wanted is None else wanted) == (room if wanted is None else wanted)
        reached = further


def _simple(code: Codes) -> NDArray[np.bool_]:
    """Whether taking a voxel with these filled neighbours away changes no Betti number."""
    empty = ~code & _FACES_AND_EDGES
    faces = empty & _FACES
    simple = (code != 0) & (faces != 0)
    some = np.flatnonzero(simple)
    outside = _one_piece(empty[some], faces[some] & -faces[some], _spread_6, faces[some])
    some, left = some[outside], np.zeros(len(code), dtype=bool)
    left[some[_joined(code[some])]] = True
    return left


def _joined(code: Codes) -> NDArray[np.bool_]:
    """Whether the filled neighbours are one 26-connected piece without the voxel itself."""
    return _one_piece(code, code & -code, _spread_26)


def _without_voids(mask: Mask) -> Mask:
    from scipy import ndimage

    numbered, _ = ndimage.label(np.pad(~mask, 1, constant_values=True))
    outside: Mask = numbered[1:-1, 1:-1, 1:-1] == numbered[0, 0, 0]
    return ~outside


def _without_holes(solid: Mask, spacing: Vector3) -> Mask:
    """A set of Betti numbers (1, 0, 0) around a tooth: one of some closings on a coarser grid, else its box.

    Not the first closing that will do but the next one: the first may fill a long tunnel here and there only.
    """
    factor = [max(1, int(COARSE_MM / s + 1e-6)) for s in spacing]
    fitting = None
    for closed in _closings(_pooled(solid, factor), np.multiply(spacing, factor)):
        fits = euler_number(closed) == 1 and betti_numbers(closed) == (1, 0, 0)
        wider, fitting = fitting is not None, closed if fits else fitting
        if wider:
            break
    return np.ones_like(solid) if fitting is None else _repeated(fitting, factor, solid.shape)


def _repeated(mask: Mask, factor: Sequence[int], shape: tuple[int, ...]) -> Mask:
    """Voxels as blocks of voxels, cut to a shape."""
    for axis, times in enumerate(factor):
        mask = np.repeat(mask, times, axis=axis)
    return mask[tuple(slice(n) for n in shape)]


def _pooled(mask: Mask, factor: Sequence[int]) -> Mask:
    """Blocks of voxels as one voxel, filled if any of them is."""
    for axis, times in enumerate(factor):
        starts = np.arange(0, mask.shape[axis], times)
        mask = np.logical_or.reduceat(mask, starts, axis=axis)
    return mask


def _closings(mask: Mask, spacing: NDArray[np.float64]) -> Iterator[Mask]:
    """Closings with balls of growing radius, voids filled."""
    from scipy import ndimage

    yield _without_voids(mask)
    for radius in CLOSING_MM:
        margins = np.ceil(radius / spacing).astype(int) + 1
        wide = np.pad(mask, [(m, m) for m in margins])
        spread = ndimage.distance_transform_edt(~wide, spacing) <= radius
        closed = wide | (ndimage.distance_transform_edt(spread, spacing) > radius)
        yield _without_voids(closed[tuple(slice(m, n - m) for m, n in zip(margins, wide.shape, strict=True))])


def _opens_twice(room: Mask, plug: Mask) -> bool:
    """Whether the plug has room on two sides that leads on to the border: its tunnel is no narrower there."""
    from scipy import ndimage

    numbered, _ = ndimage.label(room & ~plug)
    leading = np.unique(numbered[~_kernel(np.ones_like(room))])
    touching = np.unique(numbered[ndimage.binary_dilation(plug)])
    return len(np.intersect1d(leading[leading > 0], touching)) > 1


def _depth(solid: Mask, spacing: Vector3) -> NDArray[np.float64]:
    """Distance in mm of every voxel centre to the nearest centre of a filled voxel."""
    from scipy import ndimage

    depth: NDArray[np.float64] = ndimage.distance_transform_edt(~solid, spacing)
    return depth


def _room(solid: Mask, spacing: Vector3) -> NDArray[np.float64]:
    """Radius in mm of the largest ball around any point of a voxel (centre, corners, middles of faces and edges).

    The distance is that to the cubes of the filled voxels and not to their centres: exact on a grid of half voxels.
    """
    from scipy import ndimage

    fine = np.zeros([2 * n + 1 for n in solid.shape], dtype=bool)
    for step in product(range(3), repeat=3):
        fine[tuple(slice(k, k + 2 * n - 1, 2) for k, n in zip(step, solid.shape, strict=True))] |= solid
    depth = ndimage.distance_transform_edt(~fine, [s / 2 for s in spacing])
    room: NDArray[np.float64] = ndimage.maximum_filter(depth, 3)[1::2, 1::2, 1::2]
    return room


def _kernel(mask: Mask) -> Mask:
    """The mask without the outermost voxels of the array."""
    inner = np.zeros_like(mask)
    inner[1:-1, 1:-1, 1:-1] = mask[1:-1, 1:-1, 1:-1]
    return inner


def _box(mask: Mask, margin: int | Sequence[int]) -> Box:
    """Bounding box of a mask that is not empty, wider by ``margin`` voxels where the array allows it."""
    margins = [margin] * 3 if isinstance(margin, int) else margin
    sides = []
    for axis, more in enumerate(margins):
        used = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        sides.append(slice(max(int(used[0]) - more, 0), min(int(used[-1]) + 1 + more, mask.shape[axis])))
    return sides[0], sides[1], sides[2]
