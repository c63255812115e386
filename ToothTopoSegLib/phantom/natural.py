"""Teeth as nature makes them: a crown form, roots, enamel and pulp put together for one tooth of one person.

In: an FDI number and the person it belongs to (size, age, wear, rare traits). Out: a :class:`NaturalTooth`, which gives
the signed distance to its surface and the masks of enamel and pulp at points of its own frame (u mesial, v buccal, w
occlusal; mm; origin in the middle of the cervix at the height of the cervical line's buccal crest).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.anatomy import fdi as teeth
from ToothTopoSegLib.anatomy.sizes import size_of, spread_of
from ToothTopoSegLib.phantom.crown import FORMS, ROOF_STEP, CrownForm, vary_form
from ToothTopoSegLib.phantom.root import Branch, Roots, draw_roots, shortened, trunk_outline
from ToothTopoSegLib.phantom.sections import ANGLES, COS, DIRECTIONS, Stack, join, meet

Array = NDArray[Any]

STEP = 0.25
"""Distance in mm between the sections of a tooth."""
NEAR_MM = 4.0
"""Within this distance of a tooth's reach distances are exact; farther away they are lower bounds."""
SKIN_MM = 0.4
"""Least dentine between pulp and surface."""
FILLET_MM, FLOOR_MM = 1.0, 1.6
"""Rounding between two roots and of the floor between them."""
MILK_FORMS = {1: 1, 2: 2, 3: 3, 4: 7, 5: 6}
"""Position of the permanent tooth that the deciduous one at a position looks like."""


@dataclass(frozen=True)
class Person:
    """What all teeth of a person share.

    ``size`` in standard deviations, ``age`` in years, ``wear`` mm lost from the cusps of a first molar, ``pulp`` the
    width of the pulp in shares of the root, ``resorbed`` the share of the roots' free length that is left,
    ``taurodont`` whether the roots part late.
    """

    size: float
    age: float
    wear: float
    pulp: float
    resorbed: float = 1.0
    taurodont: bool = False


def draw_person(rng: np.random.Generator) -> Person:
    """A random person of 11 to 80 years; the older, the more worn the crowns and the narrower the pulp.

    Three of ten are under 18, as in a practice that scans for orthodontics.
    """
    age = float(rng.uniform(11, 18) if rng.random() < 0.3 else rng.uniform(18, 80))
    worn = max(0.0, (age - 11) / 69 * float(rng.gamma(2.0, 0.3)))
    resorbed = float(rng.uniform(0.6, 0.9)) if rng.random() < 0.06 else 1.0
    pulp = float(np.clip(0.34 - 0.0028 * (age - 11) + rng.normal(0, 0.04), 0.06, 0.42))
    return Person(float(rng.normal()), age, min(worn, 2.2), pulp, resorbed, bool(rng.random() < 0.03))


@dataclass(frozen=True)
class NaturalTooth:
    """A tooth in its own frame; lengths in mm, half axes as (mesiodistal, buccolingual).

    ``crown_height`` is that left after ``wear`` mm were lost; ``enamel`` the thickness over the middle of the crown;
    ``pulp`` the width of chamber and canals as a share of the tooth's; ``open_apex`` whether the root still grows.
    """

    form: str
    crown_height: float
    crown: tuple[float, float]
    cervix: tuple[float, float]
    anatomy: CrownForm
    root: Roots
    wear: float
    enamel: float
    pulp: float
    open_apex: bool = False

    @property
    def roots(self) -> tuple[Branch, ...]:
        """The branches of the root."""
        return self.root.branches

    @property
    def trunk(self) -> float:
        """Length in mm of the undivided root of a tooth with several; 0 for a single root."""
        return self.root.trunk

    @property
    def cusps(self) -> tuple[tuple[float, float], ...]:
        """Cusp tips as fractions (u, v) of the crown's half axes."""
        return tuple((c.u, c.v) for c in self.anatomy.cusps)

    @property
    def reach(self) -> float:
        """Distance in mm from the cervix beyond which nothing of the tooth lies, across its axis."""
        spread = max(
            float(np.hypot(*b.apex)) + abs(b.bend) + 0.4 * max(b.half_axes) if b.apex != b.base else max(b.half_axes)
            for b in self.roots
        )
        return max(1.35 * max(self.crown), *self.cervix, spread) + 0.6

    @property
    def depth(self) -> float:
        """Length in mm of the longest root."""
        return max(b.length for b in self.roots)

    @cached_property
    def body(self) -> Stack:
        """Crown and trunk, or crown and the single root, as one stack of sections."""
        single = self.trunk == 0
        low = -self.depth if single else -self.trunk
        w = np.arange(low, self.crown_height + self.wear + 2 * STEP, STEP)
        t = np.clip(w / (self.crown_height + self.wear), 0, 1)
        radius = self.anatomy.carve(t, self.anatomy.outline(t, self.crown, self.cervix).radii())
        neck = radius[min(int(np.searchsorted(w, 0)), len(w) - 1)]
        below = w < 0
        centre = np.zeros((len(w), 2))
        if single:
            branch, tau = self.roots[0], -w[below] / self.depth
            grown = np.clip(tau / 0.25, 0, 1)[:, None]
            section = neck * (1 - grown) + np.minimum(branch.section(), 1.02 * neck) * grown
            radius[below] = np.maximum(branch.width(tau)[:, None] * section, 0.05)
            centre[below] = branch.middle(tau)
        else:
            s = np.clip(-w[below] / self.trunk, 0, 1)[:, None]
            radius[below] = neck * (1 - s) + trunk_outline(self.root) * s
        return Stack(low, STEP, centre, radius)

    @cached_property
    def branches(self) -> tuple[Stack, ...]:
        """The free roots of a tooth with several; none for a single root."""
        return tuple(b.stack(self.trunk, STEP) for b in self.roots) if self.trunk > 0 else ()

    @cached_property
    def roof(self) -> tuple[Array, Array, float]:
        """Tables over (u, v): height (mm) of the unworn surface, cosine of its slope; and their half extent."""
        depth, half = self.anatomy.roof(self.crown)
        rise, run = np.gradient(depth, ROOF_STEP)
        height = self.crown_height + self.wear - depth
        return height.astype(np.float32), (1 / np.sqrt(1 + rise**2 + run**2)).astype(np.float32), half

    @cached_property
    def line(self) -> Array:
        """Height (DIRECTIONS,) in mm of the cervical line: it rises between neighbouring teeth."""
        rise = np.where(COS > 0, self.anatomy.line[0], self.anatomy.line[1])
        return np.asarray(0.25 + rise * np.abs(COS) ** 1.7)

    @cached_property
    def coat(self) -> Array:
        """Thickness (n, DIRECTIONS) in mm of enamel over the sections of the body; 0 below the cervical line."""
        w = self.body.low + STEP * np.arange(len(self.body.radius))
        up = (w[:, None] - self.line) / (0.5 * (self.crown_height + self.wear))
        return np.asarray(self.enamel * np.clip(up, 0, 1) ** 0.6)

    def heights(self, u: Array, v: Array) -> tuple[Array, Array]:
        """Height in mm of the unworn occlusal surface and cosine of its slope at points (m,)."""
        height, slope, half = self.roof
        last = len(height) - 1.001
        x, y = (np.clip((c + half) / ROOF_STEP, 0, last) for c in (u, v))
        i, j = x.astype(np.int32), y.astype(np.int32)
        p, q = x - i, y - j
        at, row = i * height.shape[1] + j, height.shape[1]
        flat = height.ravel()
        low, high = flat[at] * (1 - q) + flat[at + 1] * q, flat[at + row] * (1 - q) + flat[at + row + 1] * q
        return low * (1 - p) + high * p, slope.ravel()[at]

    def distance(self, u: Array, v: Array, w: Array) -> tuple[Array, Array, Array]:
        """Signed distance (mm), enamel and pulp at points of one shape; the masks hold where it is negative."""
        out = np.maximum(np.hypot(u, v) - self.reach, np.maximum(w - self.crown_height, -w - self.depth))
        out = np.asarray(out, dtype=np.float32)
        enamel, pulp = np.zeros(out.shape, bool), np.zeros(out.shape, bool)
        near = out < NEAR_MM
        out[near], enamel[near], pulp[near] = self._near(*(np.asarray(c, np.float32)[near] for c in (u, v, w)))
        return out, enamel, pulp

    def surface_distance(self, u: Array, v: Array, w: Array) -> Array:
        """Signed distance in mm alone, at points (m,)."""
        top, _ = self._top(u, v, w)
        return self._with_roots(meet(self.body.wall(u, v, w)[0], top, self.anatomy.rounding), u, v, w)

    def _top(self, u: Array, v: Array, w: Array) -> tuple[Array, Array]:
        """Signed distances (mm) to the occlusal surface as it is and as it was before wear."""
        height, slope = self.heights(u, v)
        unworn = (w - height) * slope
        return np.maximum(unworn, w - self.crown_height), unworn

    def _with_roots(self, crown: Array, u: Array, v: Array, w: Array) -> Array:
        low = self.body.low - w
        if not self.branches:
            return np.where(low > 0, np.hypot(np.maximum(crown, 0), low), np.maximum(crown, low))
        out = meet(crown, low, FLOOR_MM)
        for stack in self.branches:
            part = w < stack.high
            free = stack.distance(u[part], v[part], w[part])
            free = np.where(w[part] > stack.high - 0.5, np.maximum(free, w[part] - stack.high + 0.2), free)
            out[part] = join(out[part], free, FILLET_MM)
        return out

    def _near(self, u: Array, v: Array, w: Array) -> tuple[Array, Array, Array]:
        body = self.body
        (radius, slope, coat), away = body.look((body.radius, body.slope, self.coat), u, v, w)
        wall = (away - radius) * slope
        top, unworn = self._top(u, v, w)
        distance = self._with_roots(meet(wall, top, self.anatomy.rounding), u, v, w)
        enamel = (coat > 0) & ((wall > -coat) | (unworn > -1.2 * self.enamel)) & (w > 0)
        pulp = self._pulp(away / np.maximum(radius, 0.05), u, v, w) & ~enamel
        skin = np.where(w < -0.85 * self.depth, 0.0, -SKIN_MM) if self.open_apex else -SKIN_MM
        return distance, enamel, pulp & (distance < skin)

    def _pulp(self, share: Array, u: Array, v: Array, w: Array) -> Array:
        """Chamber, a small copy of the crown with horns under its cusps, and canals down to the tips of the roots."""
        wide = 0.16 + 0.8 * self.pulp
        high = 0.42 + 0.6 * self.pulp
        roof, _ = self.heights(u / max(wide, 0.3), v / max(wide, 0.3))
        floor = -self.trunk + (1.2 if self.trunk > 0 else 0.0)
        chamber = (share < wide) & (w < high * roof) & (w > floor)
        if not self.branches:
            return chamber & (w >= 0) | self._canal(self.body, self.roots[0], u, v, w)
        for stack, branch in zip(self.branches, self.roots, strict=True):
            chamber |= self._canal(stack, branch, u, v, w)
        return chamber

    def _canal(self, stack: Stack, branch: Branch, u: Array, v: Array, w: Array) -> Array:
        """Canal or canals of one root; two run beside one another and meet in the chamber and near the tip."""
        out = np.zeros(u.shape, bool)
        part = (w < min(stack.high, 0.0) + STEP) & (w > -branch.length)
        (radius,), away = stack.look((stack.radius,), u[part], v[part], w[part])
        tau = np.clip(-w[part] / branch.length, 0, 1)
        wide = (0.16 + 0.8 * self.pulp) * (0.55 if self.open_apex else 1 - 0.65 * tau)
        if self.open_apex:
            wide = np.maximum(wide, 0.75 * np.clip((tau - 0.6) / 0.4, 0, 1))
        inside = away < np.maximum(wide * radius, min(0.2, 2 * self.pulp))
        if branch.canals == 2:
            level = np.clip((w[part] - stack.low) / stack.step, 0, len(stack.radius) - 1).astype(int)
            across = np.abs(v[part] - stack.centre[level, 1]) / stack.radius[level, DIRECTIONS // 4]
            between = (tau > 0.3) & (tau < 0.85)
            spot = np.hypot(u[part] - stack.centre[level, 0], (across - 0.5) * stack.radius[level, DIRECTIONS // 4])
            inside = np.where(between, spot < np.maximum(0.5 * wide * stack.radius[level, 0], 0.2), inside)
        out[part] = inside
        return out

    @cached_property
    def outside(self) -> Array:
        """Points (n, 3) in mm spread over the surface of crown and roots, about one a square millimetre."""
        stacks = (self.body, *self.branches)
        each = int(np.sqrt(1200 / len(stacks)))
        points = [_surface_of(stack, each, each) for stack in stacks]
        points.append(self._occlusal(each))
        found = np.concatenate(points)
        found = found[found[:, 2] <= self.crown_height]
        return found[np.abs(self.surface_distance(*found.T.astype(np.float32))) < 0.25]

    def _occlusal(self, each: int) -> Array:
        """Points (n, 3) on the occlusal surface, as it is worn."""
        at = np.linspace(-0.9, 0.9, each + 6)
        u, v = (g.ravel() for g in np.meshgrid(at * self.crown[0], at * self.crown[1]))
        return np.stack([u, v, np.minimum(self.heights(u, v)[0], self.crown_height)], 1)


def _surface_of(stack: Stack, levels: int, directions: int) -> Array:
    """Points (n, 3) on the wall of a stack."""
    rows = np.unique(np.linspace(0, len(stack.radius) - 1, 2 * levels).astype(int))
    columns = np.unique(np.linspace(0, DIRECTIONS, directions, endpoint=False).astype(int))
    radius = stack.radius[np.ix_(rows, columns)]
    u = stack.centre[rows, :1] + radius * np.cos(ANGLES[columns])
    v = stack.centre[rows, 1:] + radius * np.sin(ANGLES[columns])
    w = np.broadcast_to((stack.low + stack.step * rows)[:, None], radius.shape)
    return np.stack([u.ravel(), v.ravel(), w.ravel()], 1)


def draw_natural(fdi: int, rng: np.random.Generator, person: Person | None = None, scale: float = 1.0) -> NaturalTooth:
    """A tooth of the type ``fdi`` as ``person`` (a random one by default) has it; lengths times ``scale``.

    Sizes are spread log-normally about the table's means (:func:`ToothTopoSegLib.anatomy.sizes.spread_of`); half of
    their variance is shared by all teeth of a person. Raises ValueError when ``fdi`` is no tooth.
    """
    from ToothTopoSegLib.phantom.tooth import form_of

    size, spread = size_of(fdi), spread_of(fdi)
    person = person or draw_person(rng)
    upper = teeth.is_upper(fdi)
    like = MILK_FORMS[teeth.position(fdi)] if teeth.is_deciduous(fdi) else teeth.position(fdi)
    own = float(rng.normal())

    def vary(mean: float, sd: float, shared: float = 0.5) -> float:
        z = np.sqrt(shared) * person.size + np.sqrt(0.3) * own + np.sqrt(max(0.0, 0.7 - shared)) * rng.normal()
        return float(mean * scale * np.exp(sd * np.clip(z, -2.4, 2.4)))

    md, bl = vary(spread.md_mean, spread.md), vary(size.bl_crown, spread.bl)
    # Front teeth keep nearly all of their depth at the cervix: their greatest depth lies just above it.
    keep = max(size.bl_cervix / size.bl_crown, 0.93 if like <= 3 else 0.0)
    cervix = (md / 2 * size.md_cervix / size.md_crown, bl / 2 * keep)
    height, length = vary(size.crown_length, spread.crown, 0.3), vary(size.root_length, spread.root, 0.3)
    trunk = float(rng.uniform(0.5, 0.65)) if person.taurodont else None
    root = draw_roots(upper, like, length, cervix, rng, trunk)
    if person.resorbed < 1:
        root = shortened(root, min(1.0, person.resorbed * float(rng.uniform(0.9, 1.15))))
    wear = person.wear * float(rng.uniform(0.5, 1.2)) * (0.5 if like == 8 else 1.0)
    return NaturalTooth(
        form=form_of(fdi),
        crown_height=height - min(wear, 0.3 * height),
        crown=(md / 2, bl / 2),
        cervix=cervix,
        anatomy=vary_form(FORMS[upper, like], upper, like, rng),
        root=root,
        wear=min(wear, 0.3 * height),
        enamel=scale * float(rng.normal(1, 0.1)) * (1.3 if like >= 6 else 1.1 if like >= 4 else 0.9),
        pulp=float(np.clip(person.pulp * rng.uniform(0.75, 1.25), 0.05, 0.45)),
        open_apex=bool(like == 8 and person.age < 19),
    )


def twin(tooth: NaturalTooth, rng: np.random.Generator) -> NaturalTooth:
    """The tooth of the other side: the same form, with widths and lengths that differ by 1 to 3 %."""
    md, bl, height, long = (float(f) for f in rng.normal(1, (0.015, 0.015, 0.02, 0.03)))
    branches = tuple(
        replace(
            b,
            base=(b.base[0] * md, b.base[1] * bl),
            apex=(b.apex[0] * md + float(rng.normal(0, 0.25)), b.apex[1] * bl + float(rng.normal(0, 0.25))),
            half_axes=(b.half_axes[0] * md, b.half_axes[1] * bl),
            length=tooth.trunk + (b.length - tooth.trunk) * long,
        )
        for b in tooth.roots
    )
    return replace(
        tooth,
        crown=(tooth.crown[0] * md, tooth.crown[1] * bl),
        cervix=(tooth.cervix[0] * md, tooth.cervix[1] * bl),
        crown_height=tooth.crown_height * height,
        root=Roots(branches, tooth.trunk),
    )
