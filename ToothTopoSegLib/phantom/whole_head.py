"""A natural head around a dentition, rendered on any grid: tissue map and exact labels.

In: a dentition and a grid. Out: two uint8 arrays (z, y, x) as :func:`ToothTopoSegLib.phantom.head.render` gives them.
The head is drawn first, as plans and random fields over head coordinates; then its structures are evaluated as depth
fields on a coarse lattice (:mod:`ToothTopoSegLib.phantom.fields`) and painted slab by slab on the grid, from the skin
inwards. Teeth, their sockets and what dentists added are evaluated on the grid itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.anatomy.fdi import LOWER_JAW, UPPER_JAW, is_upper
from ToothTopoSegLib.phantom import appliances
from ToothTopoSegLib.phantom.arch import Dentition, PlacedTooth
from ToothTopoSegLib.phantom.fields import OUTSIDE, Box, Frame, Grain, Lattice, Shape, Wave, is_empty, make_lattice
from ToothTopoSegLib.phantom.head import AIR, CORTICAL, FAT, METAL, MUSCLE, SOFT, TRABECULAR, Pose
from ToothTopoSegLib.phantom.jaws import JawPlan, Jaws, draw_jaw_plan, make_jaws
from ToothTopoSegLib.phantom.ridge import Healing, ToothSocket, draw_healing, draw_sockets
from ToothTopoSegLib.phantom.skull import Skull, SkullPlan, draw_skull_plan, make_skull
from ToothTopoSegLib.phantom.soft_tissue import SoftPlan, SoftTissue, draw_soft_plan, make_soft_tissue
from ToothTopoSegLib.phantom.tooth import tooth_distance

Array = NDArray[Any]

LIGAMENT, LAMINA, BARE = 1, 2, 3
"""What a voxel near a tooth is: gap around the root, compact bone around that, or beside its neck, free of ridge."""
NOTHING = 255
SLAB_VOXELS = 1_500_000


@dataclass(frozen=True, eq=False)
class HeadPlan:
    """Everything random about a head but its teeth; the same on every grid.

    ``sockets`` belong to the teeth, ``restorations`` to the teeth and then to those gone. ``cortex`` is the thickness
    of compact bone in the (upper, lower) jaw and ``marrow`` the share of marrow spaces, in standard deviations.
    """

    dentition: Dentition
    scale: float
    jaws: JawPlan
    skull: SkullPlan
    soft: SoftPlan
    sockets: tuple[ToothSocket, ...]
    healing: tuple[Healing, ...]
    restorations: tuple[appliances.Restoration, ...]
    bend: Wave
    rough: Wave
    fine: Grain
    coarse: Grain
    cortex: tuple[float, float]
    marrow: float
    wire: float
    retainers: tuple[bool, bool]
    holders: tuple[Shape, ...]
    jewels: tuple[Shape, ...]
    seed: int


def draw_head(dentition: Dentition, rng: np.random.Generator) -> HeadPlan:
    """A random head for a dentition."""
    seeds = [int(s) for s in rng.integers(2**31, size=4)]
    size = np.clip(dentition.upper.half_width / 28, 0.9, 1.1)
    return HeadPlan(
        dentition=dentition,
        scale=float(size * rng.uniform(0.97, 1.06)),
        jaws=draw_jaw_plan(rng),
        skull=draw_skull_plan(rng),
        soft=draw_soft_plan(rng, dentition.gap),
        sockets=draw_sockets(dentition.teeth, seeds[0]),
        healing=draw_healing(dentition.gone, seeds[1]),
        restorations=appliances.draw_restorations(dentition.teeth + dentition.gone, seeds[2]),
        bend=Wave.draw(rng, 28.0, 3),
        rough=Wave.draw(rng, 9.0, 1, 30),
        fine=Grain.draw(rng, float(rng.uniform(0.9, 1.4))),
        coarse=Grain.draw(rng, float(rng.uniform(1.4, 2.4))),
        cortex=(float(rng.uniform(0.6, 1.5)), float(rng.uniform(1.6, 3.4))),
        marrow=float(rng.uniform(0.2, 1.8)),
        wire=float(rng.uniform(0.2, 0.32)),
        retainers=(bool(rng.random() < 0.04), bool(rng.random() < 0.08)),
        holders=tuple(shape for shape in appliances.HOLDERS if rng.random() < 0.12),
        jewels=tuple(shape for shape in appliances.JEWELS if rng.random() < 0.04),
        seed=seeds[3],
    )


# ---- teeth and their sockets, on the grid


@dataclass(frozen=True, eq=False)
class TeethLayer:
    """Teeth, sockets and appliances on the grid, arrays (z, y, x).

    ``tissue`` is NOTHING where there is none; ``label`` FDI numbers; ``distance`` mm to the nearest tooth; ``near``
    LIGAMENT, LAMINA or BARE; ``process`` depth (mm) in the bone that envelops roots and ``jaw`` whose it is. Nothing
    lies outside of the box ``extent``.
    """

    tissue: Array
    label: Array
    distance: Array
    near: Array
    process: Array
    jaw: Array
    extent: Box

    @staticmethod
    def empty(shape: tuple[int, int, int], extent: Box) -> TeethLayer:
        return TeethLayer(
            np.full(shape, NOTHING, np.uint8),
            np.zeros(shape, np.uint8),
            np.full(shape, 50, np.float32),
            np.zeros(shape, np.uint8),
            np.full(shape, OUTSIDE, np.float32),
            np.zeros(shape, np.uint8),
            extent,
        )


def _tooth_box(tooth: PlacedTooth, lattice: Lattice) -> Box:
    """The voxels that can belong to a tooth, its socket or its bracket."""
    reach, low, high = tooth.shape.reach + 1.5, -tooth.shape.depth - 3, tooth.shape.crown_height + 1
    corners = np.array([[u, v, w] for u in (-reach, reach) for v in (-reach, reach) for w in (low, high)])
    return lattice.box_around(tooth.cervix + corners @ tooth.axes, 2.0 * lattice.warp)


def _local(tooth: PlacedTooth, points: Array) -> Array:
    """Points (3, z, y, x) in the frame of a tooth."""
    axes = tooth.axes.astype(np.float32)
    moved = np.tensordot(axes, points, 1)
    moved -= (tooth.axes @ tooth.cervix).astype(np.float32)[:, None, None, None]
    return np.asarray(moved)


def _paint_tooth(
    layer: TeethLayer, lattice: Lattice, tooth: PlacedTooth, socket: ToothSocket, how: appliances.Restoration
) -> None:
    """Paint one tooth, its socket and its bracket; where teeth overlap, a voxel goes to the deeper one."""
    box = _tooth_box(tooth, lattice)
    if is_empty(box):
        return
    local = _local(tooth, lattice.fine_points(box))
    fields = tooth_distance(tooth.shape, *local)
    distance = fields[0].astype(np.float32)
    nearest = layer.distance[box]
    own = (distance < 0) & (distance < nearest)
    tissues = (distance[own], fields[1][own], fields[2][own])
    layer.tissue[box][own] = appliances.restored(tooth, how, local[:, own], tissues)
    layer.label[box][own] = tooth.fdi
    _paint_socket(layer, box, tooth, socket, local, distance, nearest)
    np.minimum(nearest, distance, out=nearest)
    if tooth.bracket and tooth.erupted:
        metal = appliances.bracket(tooth, local, distance) & (layer.label[box] == 0)
        layer.tissue[box][metal] = METAL


def _paint_socket(
    layer: TeethLayer, box: Box, tooth: PlacedTooth, socket: ToothSocket, local: Array, distance: Array, nearest: Array
) -> None:
    """Unite the bone around a root with the process; mark ligament, lamina dura and bare neck of the nearest tooth."""
    depth = np.asarray(-local[2] - socket.crest + socket.slope * local[0], np.float32)  # below the crest
    bone, mark = _socket(tooth, socket, local, depth, distance)
    better = bone > layer.process[box]
    layer.process[box][better] = bone[better]
    layer.jaw[box][better & (bone > 0)] = UPPER_JAW if is_upper(tooth.fdi) else LOWER_JAW
    closer = (distance < nearest) & (distance > 0) & (mark > 0)
    layer.near[box][closer] = mark[closer]


def _socket(
    tooth: PlacedTooth, socket: ToothSocket, local: Array, depth: Array, distance: Array
) -> tuple[Array, Array]:
    """Depth (mm) in the bone that envelops a root, and the marks around it; ``depth`` is that below the crest."""
    u, v, w = local
    root = depth > 0 if tooth.erupted else np.ones(w.shape, bool)
    gap = socket.ligament if tooth.erupted else np.where(w > 0, socket.follicle, socket.ligament)
    plate = np.where(v > 0, socket.buccal, socket.lingual).astype(np.float32)
    if socket.dehiscence:
        plate -= (plate + 1) * ((v > 0) & (depth < socket.dehiscence) & (np.abs(u) < 0.6 * tooth.shape.cervix[0]))
    bone = np.where(root, np.minimum(plate + gap - distance, np.maximum(depth, 0.3)), OUTSIDE)
    # Beside the neck the crest slopes away from the tooth.
    neck = ~root & (distance < np.clip(0.8 - 1.4 * depth, 1.0, 4.0))
    mark = np.where(neck, BARE, 0).astype(np.uint8)
    mark[root & (distance < gap + socket.lamina)] = LAMINA
    mark[(w < 1.0 if tooth.erupted else root) & (distance < gap)] = LIGAMENT
    return bone, mark


def _paint_substitute(
    layer: TeethLayer, lattice: Lattice, tooth: PlacedTooth, how: appliances.Restoration, crest: float | None
) -> None:
    """Paint an implant in bone that ends ``crest`` mm below the cervix, or a pontic (None); neither has a label."""
    box = _tooth_box(tooth, lattice)
    if is_empty(box):
        return
    local = _local(tooth, lattice.fine_points(box))
    made = appliances.pontic(tooth, how, local) if crest is None else appliances.implant(tooth, crest, how, local)
    there = (made > 0) & (layer.label[box] == 0)
    layer.tissue[box][there] = made[there]


def _paint_fresh_socket(layer: TeethLayer, lattice: Lattice, tooth: PlacedTooth) -> None:
    """Mark the empty socket of a tooth that was just taken out."""
    box = _tooth_box(tooth, lattice)
    if is_empty(box):
        return
    local = _local(tooth, lattice.fine_points(box))
    distance = tooth_distance(tooth.shape, *local)[0]
    open_ = (local[2] < -1.0) & (layer.label[box] == 0) & (layer.near[box] == 0)
    layer.near[box][open_ & (distance < 0.5)] = LAMINA
    layer.near[box][open_ & (distance < 0)] = LIGAMENT


def _paint_line(layer: TeethLayer, lattice: Lattice, line: Array, radius: float, tissue: int) -> None:
    """Paint a round wire along a polyline (n, 3), outside of teeth; no wire gets thinner than a voxel."""
    radius = max(radius, 0.5 * float(lattice.spacing.min()))
    for start in range(0, len(line) - 1, 8):
        piece = line[start : start + 9]
        box = lattice.box_around(piece, radius + 2.0 * lattice.warp)
        if not is_empty(box):
            near = appliances.near_line(lattice.fine_points(box), piece) < radius
            layer.tissue[box][near & (layer.label[box] == 0)] = tissue


def _make_teeth(plan: HeadPlan, lattice: Lattice) -> TeethLayer:
    """All teeth, sockets and appliances of a head on the grid."""
    d = plan.dentition
    extent: Box = (slice(0, 0),) * 3
    for tooth in d.teeth + d.gone:
        extent = _hull(extent, _tooth_box(tooth, lattice))
    layer = TeethLayer.empty(lattice.shape, extent)
    for tooth, socket, how in zip(d.teeth, plan.sockets, plan.restorations, strict=False):
        _paint_tooth(layer, lattice, tooth, socket, how)
    _paint_lost(layer, lattice, plan)
    for line in appliances.arch_wires(d.teeth):
        _paint_line(layer, lattice, line, plan.wire, METAL)
    for upper, worn in zip((True, False), plan.retainers, strict=True):
        retainer = appliances.retainer(d.teeth, upper) if worn and not d.bracketed else None
        if retainer is not None:
            _paint_line(layer, lattice, retainer, 0.35, METAL)
    return layer


def _paint_lost(layer: TeethLayer, lattice: Lattice, plan: HeadPlan) -> None:
    """Paint what is where teeth are gone: implants, pontics, sockets that have not healed yet."""
    d = plan.dentition
    level = plan.sockets[0].crest if plan.sockets else 1.5
    for tooth, how, healed in zip(d.gone, plan.restorations[len(d.teeth) :], plan.healing, strict=True):
        if tooth.material == "implant":
            _paint_substitute(layer, lattice, tooth, how, level + healed.lower)
        elif appliances.bridged(tooth, d.teeth):
            _paint_substitute(layer, lattice, tooth, how, None)
        if healed.fresh:
            _paint_fresh_socket(layer, lattice, tooth)


# ---- the head around them, slab by slab


@dataclass(frozen=True, eq=False)
class Structures:
    """The depth fields of a head on its lattice."""

    jaws: Jaws
    skull: Skull
    soft: SoftTissue
    gum: Array
    cortex: Array
    holders: Array
    jewels: Array


def _make_structures(plan: HeadPlan, lattice: Lattice) -> Structures:
    """All structures but teeth."""
    d, rng = plan.dentition, np.random.default_rng(plan.seed)
    frame = Frame.of(lattice, (d.upper.middle, d.upper.front + 20 * plan.scale, d.gap / 2), plan.scale)
    jaws = make_jaws(frame, d, plan.sockets, plan.healing, plan.jaws, rng)
    skull = make_skull(frame, plan.skull)
    soft = make_soft_tissue(frame, skull.cavity, jaws.side, d.gap, plan.soft)
    bone = np.maximum(np.maximum(jaws.lower, jaws.upper), np.minimum(jaws.sinus + 1.5, jaws.wall))
    gum = np.minimum(bone + plan.soft.gum, -1 - np.maximum(jaws.nose, jaws.sinus))
    # Compact bone is thin at the alveolus and thick at the lower border.
    low = np.clip(-(frame.points[2] + 8) / 18, 0, 1)
    cortex = (1 + 0.2 * lattice.rough) * (0.7 + (plan.cortex[1] - 0.7) * low)
    holders, jewels = frame.empty(), frame.empty()
    frame.join(holders, plan.holders, both_sides=True)
    frame.join(jewels, plan.jewels, both_sides=True)
    holders = np.minimum(holders, -soft.skin)
    return Structures(jaws, skull.within(soft.skin - 1.5), soft, gum, cortex.astype(np.float32), holders, jewels)


@dataclass(frozen=True, eq=False)
class _Window:
    """A box of the grid while it is painted; ``tissue`` and ``label`` are views of the whole maps."""

    lattice: Lattice
    plan: HeadPlan
    box: Box
    tissue: Array
    label: Array

    def part(self, box: Box) -> _Window:
        """A box of the grid within this one."""
        inner = tuple(slice(p.start - b.start, p.stop - b.start) for p, b in zip(box, self.box, strict=True))
        return _Window(self.lattice, self.plan, box, self.tissue[inner], self.label[inner])

    def around(self, field: Array, above: float) -> _Window:
        """The part in which a field of the lattice can exceed ``above``; it may be empty."""
        return self.part(self.lattice.support(field, above, self.box))

    @property
    def is_empty(self) -> bool:
        return is_empty(self.box)

    def at(self, field: Array) -> Array:
        """A field of the lattice on the voxels of the window."""
        return self.lattice.fine(field, self.box)

    def paint(self, where: Array, tissue: int) -> None:
        self.tissue[where] = tissue

    def fill(self, field: Array, tissue: int, above: float = 0.0) -> None:
        """Paint where a field exceeds ``above``."""
        part = self.around(field, above)
        if not part.is_empty:
            part.paint(part.at(field) > above, tissue)

    def texture(self, where: Array, grain: Grain) -> Array:
        """Noise of the head at some voxels of the window."""
        turn, centre = np.asarray(self.lattice.pose.rotation), self.lattice.pose.centre
        index = [i.astype(np.float32) for i in np.nonzero(where)]
        mm = [
            (i + s.start - (n - 1) / 2) * step
            for i, s, n, step in zip(index, self.box, self.lattice.shape, self.lattice.spacing, strict=True)
        ]
        points = [turn[k, 0] * mm[2] + turn[k, 1] * mm[1] + turn[k, 2] * mm[0] + centre[k] for k in range(3)]
        return grain.at(points[0], points[1], points[2])

    def paint_bone(self, depth: Array, cortex: Array | float, grain: Grain) -> None:
        """Bone where ``depth`` is positive: compact outside, spongy with marrow spaces inside."""
        inside = depth > 0
        self.paint(inside, CORTICAL)
        spongy = inside & (depth > cortex)
        noise = self.texture(spongy, grain)
        self.tissue[spongy] = np.where(noise > self.plan.marrow, FAT, TRABECULAR)


def _paint_soft(window: _Window, soft: SoftTissue) -> None:
    """Skin, fat, muscles, mouth and throat."""
    window.fill(soft.skin, SOFT)
    for field, tissue in ((soft.fat, FAT), (soft.gland, SOFT), (soft.muscle, MUSCLE), (soft.air, AIR)):
        window.fill(field, tissue)


def _paint_skull(window: _Window, skull: Skull) -> None:
    """Brain, orbits, skull, spine and their air cells."""
    plan = window.plan
    for field, tissue in ((skull.cavity, SOFT), (skull.orbit, FAT), (skull.eye, SOFT)):
        window.fill(field, tissue)
    part = window.around(np.minimum(skull.shell, 1.5 - skull.cavity), 0.0)
    if not part.is_empty:
        shell = np.minimum(part.at(skull.shell), -part.at(skull.cavity))
        part.paint_bone(shell, plan.skull.table, plan.fine)
    part = window.around(skull.bone, 0.0)
    if not part.is_empty:
        part.paint_bone(part.at(skull.bone), 1.0 + 0.3 * plan.cortex[0], plan.fine)
    part = window.around(skull.spongy, 0.0)
    if not part.is_empty:
        spongy = part.at(skull.spongy) > 0
        noise = part.texture(spongy, plan.coarse)
        part.tissue[spongy] = np.where(noise > 0.9 - 1.4 * plan.skull.cells, AIR, CORTICAL)
    _wall(window, skull.cells, 0.6, None)
    window.fill(skull.cells, AIR, 0.0)
    _wall(window, skull.orbit, 0.9, skull.behind)


def _wall(window: _Window, cavity: Array, thick: float, region: Array | None) -> None:
    """Compact bone ``thick`` mm around a cavity, where ``region`` is positive."""
    part = window.around(cavity, -thick)
    if not part.is_empty:
        depth = part.at(cavity)
        around = (depth > -thick) & (depth <= 0)
        part.paint(around if region is None else around & (part.at(region) > 0), CORTICAL)


def _paint_cavities(window: _Window, jaws: Jaws) -> None:
    """Nasal cavity and sinuses with their mucosa."""
    plan = window.plan.jaws
    window.fill(jaws.turbinates, CORTICAL)
    window.fill(jaws.nose, AIR, 0.6)
    part = window.around(np.minimum(jaws.vomer, 1.5 - np.abs(jaws.septum)), 0.0)
    if not part.is_empty:
        part.paint((np.abs(part.at(jaws.septum)) < 0.45) & (part.at(jaws.vomer) > 0), CORTICAL)
    window.fill(jaws.sinus, SOFT)
    part = window.around(jaws.sinus, plan.lining)
    if not part.is_empty and not all(plan.filled):
        left = part.at(jaws.septum) > 0
        closed = left if plan.filled[1] else ~left if plan.filled[0] else False
        part.paint((part.at(jaws.sinus) > plan.lining) & ~np.broadcast_to(closed, left.shape), AIR)


def _hull(first: Box, second: Box) -> Box:
    """The least box around two boxes, of which one may be empty."""
    if is_empty(first) or is_empty(second):
        return second if is_empty(first) else first
    return tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(first, second, strict=True))


def _overlap(first: Box, second: Box) -> Box:
    """What two boxes share."""
    pairs = [(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(first, second, strict=True)]
    return tuple(slice(a, max(a, b)) for a, b in pairs)


def _paint_jaws(window: _Window, s: Structures, teeth: TeethLayer) -> None:
    """Gum, both jaws and the sockets of their teeth."""
    near_bone = window.lattice.support(s.gum, 0.0, window.box)
    part = window.part(_hull(near_bone, _overlap(window.box, teeth.extent)))
    if part.is_empty:
        return
    plan, process = part.plan, teeth.process[part.box]
    part.paint((part.tissue == AIR) & ((part.at(s.gum) > 0) | (process > -plan.soft.gum)), SOFT)
    free, jaw = teeth.near[part.box] != BARE, teeth.jaw[part.box]
    sinus = part.at(s.jaws.sinus)
    maxilla = np.maximum(part.at(s.jaws.upper), np.minimum(sinus + plan.jaws.wall, part.at(s.jaws.wall)))
    for field, value, cortex, grain in (
        (np.where(sinus > 0, OUTSIDE, maxilla), UPPER_JAW, plan.cortex[0], plan.fine),
        (part.at(s.jaws.lower), LOWER_JAW, part.at(s.cortex), plan.coarse),
    ):
        depth = np.maximum(field, np.where(jaw == value, process, OUTSIDE))
        bone = np.where(free, depth, part.at(s.jaws.body) if value == LOWER_JAW else OUTSIDE)
        part.paint_bone(bone, cortex, grain)
        part.label[bone > 0] = value
    _paint_canal(part, s.jaws)
    _paint_sockets(part, teeth.near[part.box])


def _paint_canal(window: _Window, jaws: Jaws) -> None:
    """The canal of the mandible with its wall; it belongs to the jaw, and opens at the mental foramen."""
    radius = window.plan.jaws.canal
    window = window.around(-np.hypot(*jaws.canal), -radius - 1.5)
    if window.is_empty:
        return
    way = np.hypot(*(window.at(c) for c in jaws.canal))
    bone = window.at(jaws.lower)
    window.paint((bone > 0.2) & (way < radius + 0.6), CORTICAL)
    window.paint((bone > -0.5) & (way < radius), SOFT)


def _paint_sockets(window: _Window, near: Array) -> None:
    """Lamina dura where there is bone, and the gap around every root."""
    window.paint((window.label > 0) & (near == LAMINA), CORTICAL)
    ligament = near == LIGAMENT
    window.paint(ligament, SOFT)
    window.label[ligament] = 0


def _paint_teeth(window: _Window, teeth: TeethLayer) -> None:
    """Air beside crowns, then the teeth themselves and what is fixed to them."""
    window = window.part(_overlap(window.box, teeth.extent))
    if window.is_empty:
        return
    tissue, label = teeth.tissue[window.box], teeth.label[window.box]
    near = np.isin(teeth.near[window.box], (LIGAMENT, LAMINA), invert=True)
    film = near & (teeth.distance[window.box] < window.plan.soft.film) & (window.label == 0)
    window.paint(film & (teeth.process[window.box] < -window.plan.soft.gum), AIR)
    there = tissue != NOTHING
    window.tissue[there] = tissue[there]
    window.label[there] = label[there]


def draw_teeth(
    dentition: Dentition,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    rng: np.random.Generator,
    pose: Pose,
) -> Array:
    """Label map (uint8, z, y, x) of the teeth of a natural head alone, on a grid with ``spacing`` (z, y, x) in mm."""
    plan = draw_head(dentition, rng)
    lattice = make_lattice(shape, np.asarray(spacing, np.float32), pose, 0.0, plan.bend, plan.rough)
    return _make_teeth(plan, lattice).label


def render_whole_head(
    dentition: Dentition,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    rng: np.random.Generator,
    pose: Pose,
    warp: float,
) -> tuple[Array, Array]:
    """Tissue and label maps, both uint8 (z, y, x), of a natural head on a grid with ``spacing`` (z, y, x) in mm."""
    plan = draw_head(dentition, rng)
    lattice = make_lattice(shape, np.asarray(spacing, np.float32), pose, warp, plan.bend, plan.rough)
    teeth = _make_teeth(plan, lattice)
    structures = _make_structures(plan, lattice)
    tissue, label = np.full(shape, AIR, np.uint8), np.zeros(shape, np.uint8)
    thick = max(1, SLAB_VOXELS // (shape[1] * shape[2]))
    for start in range(0, shape[0], thick):
        box = (slice(start, min(start + thick, shape[0])), slice(0, shape[1]), slice(0, shape[2]))
        slab = _Window(lattice, plan, box, tissue[box], label[box])
        slab.fill(structures.holders, SOFT)
        _paint_soft(slab, structures.soft)
        _paint_skull(slab, structures.skull)
        _paint_cavities(slab, structures.jaws)
        _paint_jaws(slab, structures, teeth)
        _paint_teeth(slab, teeth)
        slab.fill(structures.jewels, METAL)
    return tissue, label
