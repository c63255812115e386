"""One procedural tooth as an implicit shape: crown with cusps or incisal edge, enamel, pulp, tapering roots.

In: the sizes of a tooth (mm) and local coordinates (u mesial, v buccal, w occlusal; origin at the centre of the
cervix). Out: the approximate signed distance to the tooth surface in mm (negative inside) and the tissue of every
point. Sizes come from :mod:`ToothTopoSegLib.anatomy.sizes`; the forms (contact height, cingulum, cusp layout, number
and spread of roots) follow Nelson & Ash, Wheeler's Dental Anatomy, Physiology and Occlusion.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ToothTopoSegLib.phantom.natural import NaturalTooth

Array = NDArray[Any]

ANTERIOR, CANINE, PREMOLAR, MOLAR = "anterior", "canine", "premolar", "molar"


@dataclass(frozen=True)
class Root:
    """A tapering root: centre (u, v) at the cervix and at the apex, half axes at the cervix, length; all mm."""

    base: tuple[float, float]
    apex: tuple[float, float]
    half_axes: tuple[float, float]
    length: float


@dataclass(frozen=True)
class ToothShape:
    """A tooth in its own frame; lengths in mm, half axes as (mesiodistal, buccolingual).

    ``cusps`` are tips as fractions of the crown's half axes and ``cusp_depth`` the fissures' depth as a share of the
    crown's height; ``trunk`` is the undivided part of the roots, ``enamel`` the greatest thickness of enamel and
    ``pulp`` the width of canals and chamber as a share of the root's or cervix's half axis.
    """

    form: str
    crown_height: float
    crown: tuple[float, float]
    cervix: tuple[float, float]
    roots: tuple[Root, ...]
    trunk: float
    cusps: tuple[tuple[float, float], ...]
    cusp_depth: float
    enamel: float
    pulp: float

    @property
    def reach(self) -> float:
        """Distance in mm from the cervix beyond which nothing of the tooth lies, across its axis."""
        spread = max((max(abs(r.apex[0]), abs(r.apex[1])) + max(r.half_axes) for r in self.roots), default=0.0)
        return max(*self.crown, *self.cervix, spread) + 1.5

    @property
    def depth(self) -> float:
        """Length in mm of the longest root."""
        return max((r.length for r in self.roots), default=0.0)


def form_of(fdi: int) -> str:
    """Which family of crown forms the tooth ``fdi`` belongs to."""
    position = fdi % 10
    if fdi >= 50:
        return ANTERIOR if position < 3 else CANINE if position == 3 else MOLAR
    return ANTERIOR if position < 3 else CANINE if position == 3 else PREMOLAR if position < 6 else MOLAR


def _cusps(form: str, upper: bool, rng: np.random.Generator) -> tuple[tuple[float, float], ...]:
    """Cusp tips as fractions (u, v) of the crown's half axes."""
    if form == PREMOLAR:
        tips = [(0.0, 0.5), (0.0, -0.5)]
    elif form == MOLAR:
        tips = [(0.45, 0.5), (-0.4, 0.5), (0.45, -0.5), (-0.4, -0.5)]
        if not upper and rng.random() < 0.6:
            tips.append((-0.75, 0.2))
    else:
        return ()
    return tuple((u + rng.normal(0, 0.05), v + rng.normal(0, 0.05)) for u, v in tips)


def _roots(count: int, upper: bool, length: float, a: float, b: float, rng: np.random.Generator) -> tuple[Root, ...]:
    """Roots of a tooth whose cervix has half axes a (mesiodistal) and b (buccolingual); distal curve of the apex."""
    distal = -abs(rng.normal(0.9, 0.6))
    spread = rng.uniform(0.7, 1.3)
    if count >= 3:
        plan = [((0.35, 0.35), (0.55, 0.75), (0.46, 0.48), 0.95), ((-0.4, 0.33), (-0.5, 0.7), (0.42, 0.44), 0.92)]
        plan.append(((0.0, -0.4), (-0.1, -1.0), (0.55, 0.46), 1.0))
    elif count == 2 and upper:
        plan = [((0.0, 0.42), (0.0, 0.6), (0.75, 0.5), 1.0), ((0.0, -0.42), (0.0, -0.6), (0.72, 0.48), 0.97)]
    elif count == 2:
        plan = [((0.48, 0.0), (0.62, 0.0), (0.42, 0.82), 1.0), ((-0.48, 0.0), (-0.55, 0.0), (0.42, 0.76), 0.96)]
    else:
        plan = [((0.0, 0.0), (0.0, 0.0), (1.0, 1.0), 1.0)]
    return tuple(
        Root(
            (base[0] * a, base[1] * b),
            (apex[0] * a * spread + distal + rng.normal(0, 0.3), apex[1] * b * spread + rng.normal(0, 0.3)),
            (half[0] * a, half[1] * b),
            length * share * rng.uniform(0.95, 1.05),
        )
        for base, apex, half, share in plan
    )


@overload
def draw_tooth(
    fdi: int, rng: np.random.Generator, scale: float = 1.0, natural: Literal[False] = False
) -> ToothShape: ...


@overload
def draw_tooth(fdi: int, rng: np.random.Generator, scale: float = 1.0, *, natural: Literal[True]) -> NaturalTooth: ...


def draw_tooth(
    fdi: int, rng: np.random.Generator, scale: float = 1.0, natural: bool = False
) -> ToothShape | NaturalTooth:
    """A random tooth of the type ``fdi``: table sizes (mm) times ``scale`` with individual variation.

    With ``natural`` it has the form of its own type (:mod:`ToothTopoSegLib.phantom.natural`). Raises ValueError when
    ``fdi`` is no tooth.
    """
    from ToothTopoSegLib.anatomy.sizes import size_of
    from ToothTopoSegLib.phantom.natural import draw_natural

    if natural:
        return draw_natural(fdi, rng, scale=scale)
    size = size_of(fdi)
    form, upper = form_of(fdi), fdi // 10 in (1, 2, 5, 6)

    def vary(value: float, sd: float) -> float:
        return value * scale * float(np.clip(rng.normal(1, sd), 1 - 2.2 * sd, 1 + 2.2 * sd))

    md, bl = vary(size.md_crown, 0.05), vary(size.bl_crown, 0.06)
    cervix = (md / 2 * size.md_cervix / size.md_crown, bl / 2 * size.bl_cervix / size.bl_crown)
    count = size.roots
    # Third molars often carry fused roots, first upper premolars a single one in about two of five people.
    if fdi < 50 and ((fdi % 10 == 8 and rng.random() < 0.5) or (fdi in (14, 24) and rng.random() < 0.4)):
        count = 1
    length = vary(size.root_length, 0.09)
    return ToothShape(
        form=form,
        crown_height=vary(size.crown_length, 0.07),
        crown=(md / 2, bl / 2),
        cervix=cervix,
        roots=_roots(count, upper, length, *cervix, rng),
        trunk=0.0 if count == 1 else length * float(rng.uniform(0.18, 0.35)),
        cusps=_cusps(form, upper, rng),
        cusp_depth=float(rng.uniform(0.15, 0.28)),
        enamel=float(rng.uniform(0.9, 1.5)) * scale,
        pulp=float(rng.uniform(0.12, 0.3)),
    )


def _rise(t: Array, low: float, peak: float) -> Array:
    """Width factor that rises from ``low`` at the cervix to 1 at height ``peak``."""
    return low + (1 - low) * np.sin(np.clip(t / peak, 0, 1) * (np.pi / 2))


def _crown(shape: ToothShape, u: Array, v: Array, w: Array) -> tuple[Array, Array]:
    """Signed distances (mm) to the crown's side wall and to its occlusal surface."""
    t = np.clip(w / shape.crown_height, 0, 1)
    low_a, low_b = shape.cervix[0] / shape.crown[0], shape.cervix[1] / shape.crown[1]
    top = np.full_like(u, shape.crown_height)
    if shape.form in (ANTERIOR, CANINE):
        edge = 0.06 if shape.form == ANTERIOR else 0.45
        a = shape.crown[0] * _rise(t, low_a, 0.7) * (1 - edge * np.clip((t - 0.7) / 0.3, 0, 1) ** 2)
        b = shape.crown[1] * np.minimum(_rise(t, low_b, 0.18), 1 - 0.74 * np.clip((t - 0.18) / 0.82, 0, 1))
        power = 2.3
        if shape.form == CANINE:
            top -= 0.18 * shape.crown_height * np.clip(np.abs(u) / shape.crown[0], 0, 1)
    else:
        a = shape.crown[0] * _rise(t, low_a, 0.65) * (1 - 0.12 * np.clip((t - 0.65) / 0.35, 0, 1) ** 2)
        b = shape.crown[1] * _rise(t, low_b, 0.4) * (1 - 0.3 * np.clip((t - 0.4) / 0.6, 0, 1) ** 2)
        power = 2.8 if shape.form == MOLAR else 2.4
        hill = np.zeros_like(u)
        for cu, cv in shape.cusps:
            du, dv = u / shape.crown[0] - cu, v / shape.crown[1] - cv
            hill = np.maximum(hill, np.exp(-(du**2 + dv**2) / 0.18))
        top -= shape.cusp_depth * shape.crown_height * (1 - hill)
    radius = ((np.abs(u) / a) ** power + (np.abs(v) / b) ** power) ** (1 / power)
    return (radius - 1) * np.minimum(a, b), w - top


def _ellipse(u: Array, v: Array, a: Array | float, b: Array | float) -> Array:
    """Approximate signed distance (mm) to an ellipse with half axes a, b."""
    return (np.hypot(u / a, v / b) - 1) * np.minimum(a, b)


def _root(root: Root, u: Array, v: Array, w: Array) -> tuple[Array, Array]:
    """Signed distance (mm) to one root and to the axis of its canal."""
    tau = np.clip(-w / root.length, 0, 1)
    size = np.maximum((1 - tau**1.5) ** 0.6 * (1 - 0.35 * tau), 0.02)
    cu = root.base[0] + (root.apex[0] - root.base[0]) * tau**1.4
    cv = root.base[1] + (root.apex[1] - root.base[1]) * tau**1.2
    side = _ellipse(u - cu, v - cv, root.half_axes[0] * size, root.half_axes[1] * size)
    return np.maximum(side, -w - root.length), np.hypot(u - cu, v - cv)


def tooth_distance(shape: ToothShape | NaturalTooth, u: Array, v: Array, w: Array) -> tuple[Array, Array, Array]:
    """Signed distance to the tooth, and masks of enamel and pulp, at local points.

    ``u``, ``v``, ``w`` are arrays of one shape in mm. Returns (distance mm, enamel bool, pulp bool); the masks are
    meaningful where the distance is negative.
    """
    if not isinstance(shape, ToothShape):
        return shape.distance(u, v, w)
    wall, roof = _crown(shape, u, v, w)
    crown = np.maximum(np.maximum(wall, roof), -w)
    distance = crown
    canal = np.full_like(u, np.inf)
    for root in shape.roots:
        side, axis = _root(root, u, v, w)
        distance = np.minimum(distance, np.where(w <= 0, side, np.inf))
        taper = np.clip(1 + w / (root.length * 0.95), 0.15, 1)
        canal = np.minimum(canal, np.where(w <= 0, axis - (0.25 + shape.pulp * min(root.half_axes) * taper), np.inf))
    if shape.trunk > 0:
        scale = 1 + 0.1 * w / max(shape.trunk, 1e-6)
        trunk = _ellipse(u, v, shape.cervix[0] * np.clip(scale, 0.5, 1), shape.cervix[1] * np.clip(scale, 0.5, 1))
        distance = np.minimum(distance, np.where((w <= 0), np.maximum(trunk, -w - shape.trunk), np.inf))
    # Enamel thins out towards the cervix and is thickest over the cusps and the incisal edge.
    thickness = shape.enamel * np.clip(0.25 + 1.1 * w / shape.crown_height, 0, 1)
    enamel = (w > 0.3) & (np.maximum(wall, roof * 0.8) > -thickness)
    chamber_top = 0.45 * shape.crown_height
    chamber = np.maximum(
        _ellipse(u, v, shape.cervix[0] * (0.25 + shape.pulp * 0.6), shape.cervix[1] * (0.25 + shape.pulp * 0.6)),
        np.maximum(w - chamber_top, -w - max(shape.trunk, 0.5)),
    )
    return distance, enamel, (np.minimum(canal, chamber) < 0) & ~enamel
