"""The holes term: cavities and tunnels of a tooth that the truth does not have.

Labels alone say whether there are any: cavities are background components that the tooth encloses, tunnels follow from
the Euler characteristic, b1 = b0 + b2 - chi. Only then homology is asked where they are: for cavities in a crop around
each (dimension 2, by duality), for tunnels in the box of the tooth, in blocks of voxels if that is large (dimension 1).

A cavity is legal where the truth has one; a tunnel is legal if the truth has any, what closes it is no tooth there and
the voxel that makes it a tunnel is. Anything else is a class of persistent homology with no match in the truth, and as
heavy as it is persistent (Hu et al. 2019; Stucki et al. 2023, see
:mod:`ToothTopoSegLib.training.losses.components`). Where the true tooth is solid it is filled at its death, the
voxel that closes it last; where the truth is background it is opened at its birth, the weakest voxel around it.
Unlike clDice (S. Shit et al., *clDice - a Novel Topology-Preserving Loss Function for Tubular Structure Segmentation*,
CVPR 2021), which compares centre lines of tubes, this sees what a solid body lacks. Fragments are left out: they go
altogether.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ToothTopoSegLib.imaging.boxes import Box
from ToothTopoSegLib.topology.betti import Body, Mask, betti_numbers, bodies, box_around, euler_number, voids
from ToothTopoSegLib.topology.persistence import persistent_homology, robustness
from ToothTopoSegLib.training.losses.components import Pieces
from ToothTopoSegLib.training.losses.places import (
    LEAST,
    LEVEL,
    Offences,
    Patch,
    Place,
    Region,
    Values,
    Voxel,
    best,
    offset,
    shifted,
)

if TYPE_CHECKING:
    from ToothTopoSegLib.training.losses.topology import TopologyConfig

MARGIN = 4
"""Voxels around a cavity in which its weakest wall is sought."""

HINT = 1e-6
"""Far less than what scores differ in, but enough to choose between equal ones."""


def hole_offences(patch: Patch, every: Sequence[Pieces], config: TopologyConfig) -> Offences:
    """Cavities and tunnels of the teeth of a patch; counts ``cavities`` and ``tunnels`` (more than the truth has)."""
    cavities: list[tuple[int, Body]] = []
    bored: list[tuple[int, Box, int, int]] = []
    for pieces in every:
        kept = bodies(pieces.kept, offset=offset(pieces.box))
        hollow = [void for body in kept for void in voids(body)]
        tunnels = sum(len(voids(body)) + 1 - euler_number(body.mask) for body in kept)
        true = patch.truth[pieces.box] == pieces.tooth
        if hollow:
            cavities += [(pieces.tooth, void) for void in _not_in(hollow, true, pieces.box)]
        if tunnels:
            bored.append((pieces.tooth, box_around(kept), tunnels, betti_numbers(true)[1]))
    cavities.sort(key=lambda cavity: -cavity[1].voxels)
    bored.sort(key=lambda tooth: -tooth[2])
    regions = [_cavity(patch, tooth, void, config) for tooth, void in cavities[: config.most_regions]]
    regions += [_tunnels(patch, tooth, box, legal > 0, config) for tooth, box, _, legal in bored[: config.most_regions]]
    extra = sum(max(tunnels - legal, 0) for *_, tunnels, legal in bored)
    return Offences(regions=regions, counts={"cavities": len(cavities), "tunnels": extra})


def _not_in(hollow: Sequence[Body], true: Mask, box: Box) -> list[Body]:
    """The cavities that meet none of the truth."""
    legal = np.zeros(true.shape, dtype=bool)
    for body in bodies(true):
        for void in voids(body):
            legal[void.box] |= void.mask
    return [void for void in hollow if not (void.in_box(box) & legal).any()]


def _cavity(patch: Patch, tooth: int, void: Body, config: TopologyConfig) -> Region:
    wide = patch.around(void.box, MARGIN)
    mask = void.in_box(wide)
    start = offset(wide)
    z, y, x = (slice(s.start - n, s.stop - n) for s, n in zip(void.box, start, strict=True))
    inside = Body((z, y, x), void.mask, void.voxels)

    def locate(values: Values) -> list[Place]:
        pair = robustness(values, inside, 2, margin=None) if values.size <= config.largest_roi else None
        solid = mask & (patch.truth[wide] == tooth)
        # opened, if the truth is hollow all through, at the weakest voxel of the wall that should not be there
        at = best(-values, solid) if solid.any() else _weakest_wall(patch, mask, wide, values)
        if at is None:
            return []
        weight = pair.persistence if pair is not None else LEAST
        return [patch.place(shifted(at, wide), config.radius, weight, config.persistence_power)]

    return Region(wide, tooth, tooth, locate)


def _weakest_wall(patch: Patch, void: Mask, box: Box, values: Values) -> Voxel | None:
    """The wrong voxel with the lowest value of the wall around a cavity."""
    from scipy import ndimage

    wall = ndimage.binary_dilation(void, np.ones((3, 3, 3))) & ~void & patch.wrong[box] & (values > LEVEL)
    return best(-values, wall) if wall.any() else None


def _tunnels(patch: Patch, tooth: int, body_box: Box, legal: bool, config: TopologyConfig) -> Region:
    box = patch.around(body_box, 1)

    def locate(values: Values) -> list[Place]:
        block = max(1, int(np.ceil((values.size / config.largest_roi) ** (1 / 3))))
        # of equal scores those that are right decide: in the true tooth rings close last where they should not be,
        # and what closes them is sought within it first
        pairs = persistent_homology(_blocks(values + HINT * (patch.truth[box] == tooth), block), (1,))
        places = []
        for pair in [p for p in pairs if p.birth > LEVEL >= p.death][: config.most_regions]:
            ends = [_in_patch(place, block, box) for place in (pair.birth_place, pair.death_place) if place]
            at = None if legal and _agrees(patch, tooth, ends) else _centre(patch, tooth, ends, box)
            if at is not None:
                places.append(patch.place(at, config.radius, pair.persistence, config.persistence_power))
        return places

    return Region(box, tooth, tooth, locate)


def _in_patch(place: Voxel, block: int, box: Box) -> Voxel:
    """The voxel in the middle of a block, given by its index in the box in blocks."""
    middle = tuple(block * n + block // 2 for n in place)
    return tuple(min(n, side.stop - 1) for n, side in zip(shifted(middle, box), box, strict=True))


def _agrees(patch: Patch, tooth: int, ends: Sequence[Voxel]) -> bool:
    """Whether a tunnel is born in the true tooth and dies outside of it."""
    birth, death = ends[0], ends[-1]
    return bool(patch.truth[birth] == tooth and patch.truth[death] != tooth)


def _centre(patch: Patch, tooth: int, ends: Sequence[Voxel], box: Box) -> Voxel | None:
    """What to draw of a tunnel: where it dies or else is born if that is wrong, or else the next wrong voxel to it."""
    birth, death = ends[0], ends[-1]
    if patch.truth[death] == tooth != patch.found[death]:
        return death
    if patch.found[birth] == tooth != patch.truth[birth]:
        return birth
    wrong = np.argwhere((patch.found[box] == tooth) != (patch.truth[box] == tooth)) + offset(box)
    if len(wrong) == 0:
        return None
    return tuple(int(n) for n in wrong[((wrong - death) ** 2).sum(axis=1).argmin()])


def _blocks(values: Values, block: int) -> Values:
    """Means of blocks of voxels, the last of each row filled up with its edge."""
    if block == 1:
        return values
    padded = np.pad(values, [(0, -n % block) for n in values.shape], mode="edge")
    z, y, x = (n // block for n in padded.shape)
    means: Values = padded.reshape(z, block, y, block, x, block).mean(axis=(1, 3, 5))
    return means
