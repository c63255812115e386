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
from ToothTopoSegLib.phantom.fields import OUTSIDE, Box, Frame, Grain, Lattice, Wave, is_empty, make_lattice
from ToothTopoSegLib.phantom.head import AIR, CORTICAL, FAT, METAL, MUSCLE, SOFT, TITANIUM, TRABECULAR, Pose
from ToothTopoSegLib.phantom.jaws import JawPlan, Jaws, draw_jaw_plan, make_jaws
from ToothTopoSegLib.phantom.ridge import ToothSocket, draw_sockets
from ToothTopoSegLib.phantom.skull import EYE, Skull, SkullPlan, draw_skull_plan, make_skull
from ToothTopoSegLib.phantom.soft_tissue import SoftPlan, SoftTissue, draw_soft_plan, make_soft_tissue
from ToothTopoSegLib.phantom.tooth import tooth_distance

Array = NDArray[Any]

LIGAMENT, LAMINA, BARE = 1, 2, 3
"""What a voxel near a tooth is: gap around the root, compact bone around that, or no bone for it is above the crest."""
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
    restorations: tuple[appliances.Restoration, ...]
    bend: Wave
    uneven: Wave
    fine: Grain
    coarse: Grain
    cortex: tuple[float, float]
    marrow: float
    wire: float
    retainers: tuple[bool, bool]
    seed: int


def draw_head(dentition: Dentition, rng: np.random.Generator) -> HeadPlan:
    """A random head for a dentition."""
    size = np.clip(dentition.upper.half_width / 28, 0.9, 1.1)
    return HeadPlan(
        dentition=dentition,
        scale=float(size * rng.uniform(0.97, 1.06)),
        jaws=draw_jaw_plan(rng),
        skull=draw_skull_plan(rng),
        soft=draw_soft_plan(rng, dentition.gap),
        sockets=draw_sockets(dentition.teeth, rng),
        restorations=appliances.draw_restorations(dentition.teeth + dentition.gone, rng),
        bend=Wave.draw(rng, 28.0, 3),
        uneven=Wave.draw(rng, 9.0, 1, 30),
        fine=Grain.draw(rng, float(rng.uniform(0.9, 1.4))),
        coarse=Grain.draw(rng, float(rng.uniform(1.8, 3.0))),
        cortex=(float(rng.uniform(0.6, 1.5)), float(rng.uniform(1.2, 2.6))),
        marrow=float(rng.uniform(-0.3, 1.2)),
        wire=float(rng.uniform(0.2, 0.32)),
        retainers=(bool(rng.random() < 0.04), bool(rng.random() < 0.08)),
        seed=int(rng.integers(2**31)),
    )


# ---- teeth and their sockets, on the grid


@dataclass(frozen=True, eq=False)
class TeethLayer:
    """Teeth, sockets and appliances on the grid, arrays (z, y, x).

    ``tissue`` is NOTHING where there is none; ``label`` FDI numbers; ``distance`` mm to the nearest tooth; ``near``
    LIGAMENT, LAMINA or BARE; ``process`` depth (mm) in the bone that envelops roots and ``jaw`` whose it is.
    """

    tissue: Array
    label: Array
    distance: Array
    near: Array
    process: Array
    jaw: Array

    @staticmethod
    def empty(shape: tuple[int, int, int]) -> TeethLayer:
        return TeethLayer(
            np.full(shape, NOTHING, np.uint8),
            np.zeros(shape, np.uint8),
            np.full(shape, 50, np.float32),
            np.zeros(shape, np.uint8),
            np.full(shape, OUTSIDE, np.float32),
            np.zeros(shape, np.uint8),
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
    moved -= np.float32(tooth.axes @ tooth.cervix)[:, None, None, None]
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
    layer.tissue[box][own] = appliances.restored(tooth, how, local[:, own], tuple(f[own] for f in fields))
    layer.label[box][own] = tooth.fdi
    _paint_socket(layer, box, tooth, socket, local, distance, nearest)
    np.minimum(nearest, distance, out=nearest)
    if tooth.bracket and tooth.erupted:
        metal = appliances.bracket(tooth, local, distance) & (layer.label[box] == 0)
        layer.tissue[box][metal] = METAL


def _paint_socket(
    layer: TeethLayer, box: Box, tooth: PlacedTooth, socket: ToothSocket, local: Array, distance: Array, nearest: Array
) -> None:
    """Mark ligament, lamina dura and the bare neck of a tooth; unite the bone around its root with the process."""
    u, v, w = local
    depth = _below_crest(tooth, socket, local)
    root = depth > 0 if tooth.erupted else np.ones(w.shape, bool)
    gap = np.where(w > 0, socket.follicle, socket.ligament) if not tooth.erupted else socket.ligament
    plate = np.where(v > 0, socket.buccal, socket.lingual).astype(np.float32)
    if socket.dehiscence:
        plate -= (plate + 1) * ((v > 0) & (depth < socket.dehiscence) & (np.abs(u) < 0.6 * tooth.shape.cervix[0]))
    bone = np.where(root, np.minimum(plate + gap - distance, np.maximum(depth, 0.3)), OUTSIDE)
    better = bone > layer.process[box]
    layer.process[box][better] = bone[better]
    layer.jaw[box][better & (bone > 0)] = UPPER_JAW if is_upper(tooth.fdi) else LOWER_JAW
    mark = np.where(~root & (distance < 1.8), BARE, 0).astype(np.uint8)
    mark[root & (distance < gap + socket.lamina)] = LAMINA
    mark[(w < 1.0 if tooth.erupted else root) & (distance < gap)] = LIGAMENT
    closer = (distance < nearest) & (distance > 0) & (mark > 0)
    layer.near[box][closer] = mark[closer]


def _below_crest(tooth: PlacedTooth, socket: ToothSocket, local: Array) -> Array:
    """How far (mm) points lie below the crest of the bone at a tooth."""
    return np.asarray(-local[2] - socket.crest + socket.slope * local[0], np.float32)


def _paint_substitute(
    layer: TeethLayer, lattice: Lattice, tooth: PlacedTooth, how: appliances.Restoration, bridge: bool
) -> None:
    """Paint an implant or a pontic where a tooth is gone; neither carries a label."""
    box = _tooth_box(tooth, lattice)
    if is_empty(box) or not (bridge or tooth.material == "implant"):
        return
    local = _local(tooth, lattice.fine_points(box))
    made = appliances.pontic(tooth, how, local) if bridge else appliances.implant(tooth, 3.0, how, local)
    there = (made > 0) & (layer.label[box] == 0)
    layer.tissue[box][there] = made[there]
    if not bridge:
        titanium = made == TITANIUM
        layer.near[box][there & titanium] = 0


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
    layer, d = TeethLayer.empty(lattice.shape), plan.dentition
    for tooth, socket, how in zip(d.teeth, plan.sockets, plan.restorations, strict=False):
        _paint_tooth(layer, lattice, tooth, socket, how)
    for tooth, how in zip(d.gone, plan.restorations[len(d.teeth) :], strict=True):
        _paint_substitute(layer, lattice, tooth, how, appliances.bridged(tooth, d.teeth))
    for line in appliances.arch_wires(d.teeth):
        _paint_line(layer, lattice, line, plan.wire, METAL)
    for upper, worn in zip((True, False), plan.retainers, strict=True):
        retainer = appliances.retainer(d.teeth, upper) if worn and not d.bracketed else None
        if retainer is not None:
            _paint_line(layer, lattice, retainer, 0.35, METAL)
    return layer


# ---- the head around them, slab by slab


@dataclass(frozen=True, eq=False)
class Structures:
    """The depth fields of a head on its lattice."""

    jaws: Jaws
    skull: Skull
    soft: SoftTissue
    eye: Array
    cortex: Array


def _make_structures(plan: HeadPlan, lattice: Lattice) -> Structures:
    """All structures but teeth."""
    d, rng = plan.dentition, np.random.default_rng(plan.seed)
    frame = Frame.of(lattice, (d.upper.middle, d.upper.front + 20 * plan.scale, d.gap / 2), plan.scale)
    jaws = make_jaws(frame, d, plan.sockets, plan.jaws, rng)
    skull = make_skull(frame, plan.skull, plan.uneven)
    soft = make_soft_tissue(frame, skull.cavity, jaws.upper_at[1], d.gap, plan.soft)
    eye = frame.empty()
    frame.join(eye, (EYE,))
    # Compact bone is thin at the alveolus and thick at the lower border.
    low = np.clip(-(frame.points[2] + 10) / 20, 0, 1)
    uneven = 1 + 0.25 * plan.uneven.at(frame.points)[0]
    cortex = uneven * (0.6 + (plan.cortex[1] - 0.6) * low)
    return Structures(jaws, skull, soft, eye, cortex.astype(np.float32))


@dataclass(frozen=True, eq=False)
class _Slab:
    """Some slices of the grid while they are painted."""

    lattice: Lattice
    plan: HeadPlan
    box: Box
    tissue: Array
    label: Array

    def at(self, field: Array) -> Array:
        """A field of the lattice on the voxels of the slab."""
        return self.lattice.fine(field, self.box)

    def paint(self, where: Array, tissue: int) -> None:
        np.putmask(self.tissue, where, tissue)

    def texture(self, where: Array, grain: Grain) -> Array:
        """Noise of the head at some voxels of the slab."""
        turn, centre = np.asarray(self.lattice.pose.rotation), self.lattice.pose.centre
        index = [i.astype(np.float32) for i in np.nonzero(where)]
        mm = [
            (i + s.start - (n - 1) / 2) * step
            for i, s, n, step in zip(index, self.box, self.lattice.shape, self.lattice.spacing, strict=True)
        ]
        points = [turn[k, 0] * mm[2] + turn[k, 1] * mm[1] + turn[k, 2] * mm[0] + centre[k] for k in range(3)]
        return grain.at(points[0], points[1], points[2])

    def paint_bone(self, depth: Array, cortex: Array | float, marrow: float, coarse: bool = False) -> None:
        """Bone where ``depth`` is positive: compact outside, spongy with marrow spaces inside."""
        inside = depth > 0
        self.paint(inside, CORTICAL)
        spongy = inside & (depth > cortex)
        noise = self.texture(spongy, self.plan.coarse if coarse else self.plan.fine)
        self.tissue[spongy] = np.where(noise > marrow, FAT, TRABECULAR)


def _paint_soft(slab: _Slab, s: Structures) -> None:
    """Skin, fat, muscles, mouth and throat."""
    plan, soft = slab.plan.soft, s.soft
    skin = slab.at(soft.skin)
    slab.paint(skin > 0, SOFT)
    slab.paint((skin > 1.8) & (skin < 1.8 + plan.fat), FAT)
    inner = skin > 1.8 + 0.5 * plan.fat
    slab.paint((slab.at(soft.fat) > 0) & inner, FAT)
    slab.paint((slab.at(soft.gland) > 0) & inner, SOFT)
    slab.paint((slab.at(soft.muscle) > 0) & inner, MUSCLE)
    slab.paint((slab.at(soft.throat) > 0) | (slab.at(soft.mouth) > 0), AIR)


def _paint_skull(slab: _Slab, s: Structures) -> None:
    """Brain, orbits, skull, spine and their air cells."""
    plan, skull = slab.plan, s.skull
    cavity, orbit = slab.at(skull.cavity), slab.at(skull.orbit)
    inside = slab.at(s.soft.skin) > 1.5
    slab.paint(cavity > 0, SOFT)
    slab.paint((orbit > 0) & inside, FAT)
    slab.paint((slab.at(s.eye) > 0) & inside, SOFT)
    slab.paint_bone(np.minimum(slab.at(skull.shell), -cavity), plan.skull.table, plan.marrow)
    bone = slab.at(skull.bone)
    slab.paint_bone(np.where(inside, bone, -1), 1.0 + 0.3 * plan.cortex[0], plan.marrow)
    spongy = (slab.at(skull.spongy) > 0) & (np.maximum(bone, slab.at(skull.shell)) > 1.0)
    noise = slab.texture(spongy, plan.coarse)
    slab.tissue[spongy] = np.where(noise > 0.9 - 1.4 * plan.skull.cells, AIR, CORTICAL)
    slab.paint((slab.at(skull.cells) > 0.4) & (cavity < 0), AIR)


def _paint_nose(slab: _Slab, s: Structures) -> None:
    """Nasal cavity and sinuses with their mucosa."""
    plan, jaws = slab.plan.jaws, s.jaws
    sinus, nose = slab.at(jaws.sinus), slab.at(jaws.nose)
    slab.paint((sinus > 0) | (nose > 0), SOFT)
    slab.paint(nose > 0.6, AIR)
    plane = slab.at(jaws.septum)
    for side, filled in zip((-1, 1), plan.filled, strict=True):
        if not filled:
            slab.paint((sinus > plan.lining) & (plane * side > 0), AIR)


def _paint_jaws(slab: _Slab, s: Structures, teeth: TeethLayer) -> None:
    """Gum, both jaws and the sockets of their teeth."""
    plan, box = slab.plan, slab.box
    process, jaw, near = teeth.process[box], teeth.jaw[box], teeth.near[box]
    lower, upper = slab.at(s.jaws.lower), slab.at(s.jaws.upper)
    canal = np.hypot(*(slab.at(c) for c in s.jaws.canal))
    free = near != BARE
    for depth, value, cortex in ((upper, UPPER_JAW, plan.cortex[0]), (lower, LOWER_JAW, slab.at(s.cortex))):
        own = np.where(jaw == value, process, OUTSIDE)
        bone = np.where(free, np.maximum(depth, own), OUTSIDE)
        gum = np.maximum(depth, own) > -plan.soft.gum
        slab.paint(gum & (slab.tissue == AIR) & (slab.at(s.jaws.nose) < -1) & (slab.at(s.jaws.sinus) < -1), SOFT)
        slab.paint_bone(bone, cortex, plan.marrow, coarse=value == LOWER_JAW)
        np.putmask(slab.label, bone > 0, value)
        if value == LOWER_JAW:
            radius = plan.jaws.canal
            slab.paint((bone > 0.2) & (canal < radius + 0.6), CORTICAL)
            slab.paint((bone > -0.5) & (canal < radius), SOFT)
    bony = slab.label > 0
    slab.paint(bony & (near == LAMINA), CORTICAL)
    ligament = near == LIGAMENT
    slab.paint(ligament, SOFT)
    slab.label[ligament] = 0


def _paint_teeth(slab: _Slab, teeth: TeethLayer) -> None:
    """Air beside crowns, then the teeth themselves and what is fixed to them."""
    tissue, label = teeth.tissue[slab.box], teeth.label[slab.box]
    film = (teeth.distance[slab.box] < slab.plan.soft.film) & (teeth.near[slab.box] == 0) & (slab.label == 0)
    slab.paint(film & (slab.tissue != CORTICAL), AIR)
    there = tissue != NOTHING
    slab.tissue[there] = tissue[there]
    slab.label[there] = label[there]


def render_natural(
    dentition: Dentition,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    rng: np.random.Generator,
    pose: Pose,
    warp: float,
) -> tuple[Array, Array]:
    """Tissue and label maps, both uint8 (z, y, x), of a natural head on a grid with ``spacing`` (z, y, x) in mm."""
    plan = draw_head(dentition, rng)
    lattice = make_lattice(shape, np.asarray(spacing, np.float32), pose, warp, plan.bend)
    teeth = _make_teeth(plan, lattice)
    structures = _make_structures(plan, lattice)
    tissue, label = np.full(shape, AIR, np.uint8), np.zeros(shape, np.uint8)
    thick = max(1, SLAB_VOXELS // (shape[1] * shape[2]))
    for start in range(0, shape[0], thick):
        box = (slice(start, min(start + thick, shape[0])), slice(0, shape[1]), slice(0, shape[2]))
        slab = _Slab(lattice, plan, box, tissue[box], label[box])
        _paint_soft(slab, structures)
        _paint_skull(slab, structures)
        _paint_nose(slab, structures)
        _paint_jaws(slab, structures, teeth)
        _paint_teeth(slab, teeth)
    return tissue, label
