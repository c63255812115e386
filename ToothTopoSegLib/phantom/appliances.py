"""What dentists add to a natural head: restorations of teeth, implants, pontics, brackets, wires and retainers.

Restorations belong to their tooth and share its label; everything else carries none. Tissues are those of
:mod:`ToothTopoSegLib.phantom.head`; lengths in mm, (u, v, w) the frame of a tooth (mesial, buccal, occlusal).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.anatomy.fdi import is_upper
from ToothTopoSegLib.phantom.arch import PlacedTooth
from ToothTopoSegLib.phantom.fields import Ball, Rod, Shape
from ToothTopoSegLib.phantom.head import CERAMIC, DENTINE, ENAMEL, GUTTA, METAL, PULP, TITANIUM
from ToothTopoSegLib.phantom.tooth import tooth_distance

Array = NDArray[Any]


@dataclass(frozen=True)
class Restoration:
    """How a tooth is restored.

    ``stuff`` is the tissue of filling or crown, ``shell`` the thickness of a crown in mm, ``floor`` the height of a
    cavity's floor and ``width`` its width (shares of the crown's), ``boxes`` whether it is open (mesially, distally),
    ``fill`` how much of the canals' length is filled.
    """

    stuff: int
    shell: float
    floor: float
    width: float
    boxes: tuple[bool, bool]
    fill: float


def draw_restorations(teeth: tuple[PlacedTooth, ...], seed: int) -> tuple[Restoration, ...]:
    """A restoration for every tooth, used where its material asks for one; a head tends to get one stuff.

    It depends on the seed and on the tooth alone, not on which others there are.
    """
    modern = np.random.default_rng(seed).random() < 0.5
    made = []
    for tooth in teeth:
        rng = np.random.default_rng([seed, tooth.fdi])
        metal = rng.random() < (0.2 if modern else 0.75)
        other = ENAMEL if tooth.material == "filling" and rng.random() < 0.5 else CERAMIC
        made.append(
            Restoration(
                stuff=METAL if metal else other,
                shell=float(rng.uniform(0.6, 1.5)),
                floor=float(rng.uniform(0.4, 0.7)),
                width=float(rng.uniform(0.25, 0.55)),
                boxes=(bool(rng.random() < 0.4), bool(rng.random() < 0.4)),
                fill=float(rng.uniform(0.75, 0.97)),
            )
        )
    return tuple(made)


def restored(tooth: PlacedTooth, how: Restoration, local: Array, fields: tuple[Array, Array, Array]) -> Array:
    """Tissue (uint8) of a tooth with its restoration; ``fields`` are what ``tooth_distance`` says at ``local``."""
    distance, enamel, pulp = fields
    w, height = local[2], tooth.shape.crown_height
    tissue = np.where(pulp, PULP, np.where(enamel, ENAMEL, DENTINE)).astype(np.uint8)
    if tooth.material == "filling":
        tissue[_cavity(tooth, how, local) & ~pulp] = how.stuff
    if tooth.material in ("root filling", "post"):
        tissue[pulp & (w > -how.fill * tooth.shape.depth)] = GUTTA
        tissue[_access(tooth, local) & (w > 0.15 * height)] = METAL if tooth.material == "post" else how.stuff
    if tooth.material in ("crown", "post"):
        tissue[(distance > -how.shell) & (w > 0.35)] = how.stuff
    if tooth.material == "post":
        tissue[pulp & (w > -0.6 * tooth.shape.depth)] = METAL
    return tissue


def _access(tooth: PlacedTooth, local: Array) -> Array:
    """The way through the crown to the pulp."""
    a, b = tooth.shape.cervix
    return np.asarray(np.hypot(local[0] / a, local[1] / b) < 0.4)


def _cavity(tooth: PlacedTooth, how: Restoration, local: Array) -> Array:
    """A filled cavity: along the fissures, with boxes on the proximal sides; at the neck of front teeth."""
    u, v, w = local
    a, b = tooth.shape.crown
    height = tooth.shape.crown_height
    if tooth.fdi % 10 < 4:
        side = np.where(how.boxes[0], u, -u)
        return np.asarray((side > 0.45 * a) & (np.abs(w - 0.55 * height) < 0.28 * height))
    occlusal = (np.abs(u) < 0.7 * a) & (np.abs(v) < how.width * b) & (w > how.floor * height)
    deep = (np.abs(v) < (how.width + 0.1) * b) & (w > 0.45 * how.floor * height)
    mesial, distal = (deep & (sign * u > 0.5 * a) for sign in (1, -1))
    return np.asarray(occlusal | (mesial & how.boxes[0]) | (distal & how.boxes[1]))


def bracket(tooth: PlacedTooth, local: Array, distance: Array) -> Array:
    """Where the bracket of a tooth is: pad, tie wings and slot; molars bear a band with a tube."""
    u, v, w = local
    height = w - 0.5 * tooth.shape.crown_height
    facing = (v > 0) & (distance > 0)
    pad = facing & (distance < 0.6) & (np.abs(u) < 1.7) & (np.abs(height) < 1.7)
    wings = facing & (distance < 2.0) & (np.abs(u) < 1.4) & (np.abs(height) < 1.5)
    if tooth.fdi % 10 >= 6:
        band = (distance > 0) & (distance < 0.3) & (np.abs(height) < 0.3 * tooth.shape.crown_height)
        return np.asarray(band | (wings & (np.abs(height) < 1.0) & (np.abs(u) < 2.0)))
    slot = (distance > 0.9) & (np.abs(height) < 0.3)
    return np.asarray(pad | (wings & ~slot & (np.abs(height) > 0.2)))


def implant(tooth: PlacedTooth, crest: float, how: Restoration, local: Array) -> Array:
    """Tissue (uint8, 0 where there is none) of an implant in the place of a tooth: screw, abutment and crown.

    ``crest`` is how far the bone ends below the cervix.
    """
    u, v, w = local
    radius = 0.32 * (tooth.shape.cervix[0] + tooth.shape.cervix[1])
    length = min(12.0, max(7.0, 0.8 * tooth.shape.depth))
    below = -(w + crest)
    turn = np.arctan2(v, u) / (2 * np.pi)
    thread = 0.22 * np.abs(2 * np.mod(below / 0.9 + turn, 1) - 1)
    taper = 1 - 0.25 * np.clip(below / length, 0, 1)
    away = np.hypot(u, v)
    tissue = np.zeros(w.shape, np.uint8)
    tissue[(below > 0) & (below < length) & (away < radius * taper - 0.22 + thread)] = TITANIUM
    tissue[(below <= 0) & (w < 0.55 * tooth.shape.crown_height) & (away < 0.75 * radius)] = TITANIUM
    crown = (tooth_distance(tooth.shape, u, v, w)[0] < 0) & (w > 0.3)
    tissue[crown & (tissue == 0)] = how.stuff
    return tissue


def pontic(tooth: PlacedTooth, how: Restoration, local: Array) -> Array:
    """Tissue (uint8, 0 where there is none) of a bridge's pontic: a crown that stops short of the gum."""
    u, v, w = local
    crown = (tooth_distance(tooth.shape, u, v, w)[0] < 0) & (w > 1.2)
    return np.where(crown, how.stuff, 0).astype(np.uint8)


def bridged(gone: PlacedTooth, teeth: tuple[PlacedTooth, ...]) -> bool:
    """Whether both neighbours of a lost tooth bear crowns that can hold a bridge."""
    crowned = {t.fdi for t in teeth if t.material in ("crown", "post")}
    position = gone.fdi % 10
    mesial = gone.fdi - 1 if position > 1 else {10: 21, 20: 11, 30: 41, 40: 31}[gone.fdi - 1]
    return mesial in crowned and (gone.fdi + 1) in crowned


# In the skull's frame, mm: what holds a head in a scanner, of plastic, and jewellery, of metal.
HOLDERS: tuple[Shape, ...] = (
    Rod((-16, -36, -43), (16, -36, -43), 3.5, 3.5, (1, 3.5, 1)),  # chin rest
    Rod((0, -19, 0), (0, -70, -3), 4.0, 4.0, (1.6, 1, 0.8)),  # bite block
    Rod((-30, -34, 92), (30, -34, 92), 4.0, 4.0, (1, 1, 2)),  # forehead rest
    Rod((72, 66, 41), (105, 66, 41), 4.0, 5.0),  # ear rod
    Rod((-70, 174, 60), (70, 174, 60), 5.0, 5.0, (1, 1, 8)),  # head rest
)
JEWELS: tuple[Shape, ...] = (
    Ball((67, 64, 27), (1.6, 1.6, 1.6)),  # earring
    Rod((67, 62, 24), (68, 68, 20), 1.0, 1.0),
    Ball((10, -35, 30), (1.3, 1.3, 1.3)),  # nostril
    Ball((9, -37, -9), (1.4, 1.6, 1.4)),  # lip
)


def _surface(tooth: PlacedTooth, height: float, lingual: bool, off: float) -> Array:
    """LPS point (3,) that lies ``off`` mm outside of a crown's facial or lingual face at a height (mm)."""
    out = np.arange(0, tooth.shape.reach + 1, 0.1, dtype=np.float32) * (-1 if lingual else 1)
    level = np.full_like(out, height)
    outside = tooth_distance(tooth.shape, np.zeros_like(out), out, level)[0] > 0
    v = float(out[int(np.argmax(outside))]) + (-off if lingual else off)
    return np.asarray(tooth.cervix + v * tooth.axes[1] + height * tooth.axes[2])


def _around_the_arch(tooth: PlacedTooth) -> int:
    """Order of a tooth along its arch from the right to the left."""
    return tooth.fdi % 10 * (1 if tooth.fdi // 10 in (2, 3) else -1)


def _smooth_line(points: list[Array]) -> Array:
    """A smooth polyline (n, 3) through points, every 0.5 mm."""
    from scipy.interpolate import PchipInterpolator

    knots = np.array(points)
    s = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(knots, axis=0), axis=1))])
    return np.asarray(PchipInterpolator(s, knots)(np.arange(0, s[-1], 0.5)))


def arch_wires(teeth: tuple[PlacedTooth, ...]) -> list[Array]:
    """One continuous line (n, 3), LPS mm, through the slots of all brackets of each arch."""
    lines = []
    for upper in (True, False):
        worn = [t for t in teeth if t.bracket and t.erupted and is_upper(t.fdi) == upper]
        worn.sort(key=_around_the_arch)
        if len(worn) > 2:
            lines.append(_smooth_line([_surface(t, 0.5 * t.shape.crown_height, False, 1.3) for t in worn]))
    return lines


def retainer(teeth: tuple[PlacedTooth, ...], upper: bool) -> Array | None:
    """The line (n, 3) of a wire bonded behind the front teeth of an arch, or None where fewer than four stand there."""
    front = [t for t in teeth if t.erupted and is_upper(t.fdi) == upper and t.fdi % 10 <= 3]
    front.sort(key=_around_the_arch)
    if len(front) < 4:
        return None
    return _smooth_line([_surface(t, 0.5 * t.shape.crown_height, True, 0.3) for t in front])


def near_line(points: Array, line: Array) -> Array:
    """Distance (mm) of points (3, ...) to a polyline (n, 3)."""
    away = np.full(points.shape[1:], np.inf, np.float32)
    for a, b in pairwise(line):
        along, to = (b - a).astype(np.float32), points - a.astype(np.float32).reshape(3, 1, 1, 1)
        t = np.clip(np.tensordot(along, to, 1) / max(float(along @ along), 1e-9), 0, 1)
        away = np.minimum(away, sum((to[i] - t * along[i]) ** 2 for i in range(3)))
    return np.asarray(np.sqrt(away))
