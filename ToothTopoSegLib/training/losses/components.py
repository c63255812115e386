"""The components term: a tooth is as many pieces as the truth shows inside the patch.

A tooth cut by the border of the patch may well be two pieces in the truth too, so pieces are compared with the pieces
of that tooth inside the patch and not with the number 1. A piece belongs to the true piece that it covers best; of
several on one true piece, the best one is the tooth. The others are

- *fragments*, if less than half of their voxels are that tooth: drawn towards the truth around their peak, the birth of
  a dimension-0 class that the truth does not have;
- parts of a *split* tooth otherwise: joined at the saddle, the death of that class, on the best way through the true
  tooth, where the scores need to rise least.

The weight of either is the persistence birth - death of the class. Taking critical points of persistent homology as the
voxels to move is the idea of X. Hu, F. Li, D. Samaras, C. Chen, *Topology-Preserving Deep Image Segmentation*, NeurIPS
2019, and J. R. Clough et al., *A Topological Loss Function for Deep-Learning Based Image Segmentation Using Persistent
Homology*, IEEE TPAMI 2020; that a class must be matched in space with one of the truth and not only counted is that of
N. Stucki, J. C. Paetzold, S. Shit, B. Menze, U. Bauer, *Topologically Faithful Image Segmentation via Induced Matching
of Persistence Barcodes*, ICML 2023, done here by overlap. A tooth that is missing altogether is left to cross-entropy
and Dice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.imaging.boxes import Box
from ToothTopoSegLib.topology.betti import Mask, body_at
from ToothTopoSegLib.training.losses.places import (
    EVERYWHERE,
    LEVEL,
    Offences,
    Patch,
    Place,
    Region,
    Values,
    best,
    offset,
    saddles,
    shifted,
    shifted_box,
)

if TYPE_CHECKING:
    from ToothTopoSegLib.training.losses.topology import TopologyConfig

MARGIN = 4
"""Voxels around a fragment in which the way to its tooth is sought; without any it counts as wholly apart."""
BISECTIONS = 7
"""Levels tried for the death of a fragment: its persistence is a weight and need not be known better than to 1/256."""


@dataclass(frozen=True, eq=False)
class Pieces:
    """The pieces of one tooth that are found in a patch and what they are.

    ``numbered`` gives every voxel of ``box`` its piece (from 1 on, 0 for none), ``sizes`` their voxels, ``fragments``
    the numbers of those that should not be, the largest first, and ``parts`` for every true piece (mask in the box)
    the numbers of its pieces, the best one first.
    """

    tooth: int
    box: Box
    numbered: NDArray[np.int32]
    sizes: NDArray[np.int64]
    fragments: NDArray[np.int64]
    parts: tuple[tuple[Mask, tuple[int, ...]], ...]

    @property
    def kept(self) -> Mask:
        """The voxels of all pieces that are no fragments."""
        stays = np.arange(len(self.sizes)) > 0
        stays[self.fragments] = False
        kept: Mask = stays[self.numbered]
        return kept


def pieces_of(patch: Patch, tooth: int) -> Pieces:
    """The pieces of a tooth that is found in the patch or true, matched with those of the truth."""
    from scipy import ndimage

    box = patch.boxes[tooth]
    numbered, count = ndimage.label(patch.found[box] == tooth, EVERYWHERE)
    true, true_count = ndimage.label(patch.truth[box] == tooth, EVERYWHERE)
    shared = np.bincount((numbered * (true_count + 1) + true).ravel(), minlength=(count + 1) * (true_count + 1))
    shared = shared.reshape(count + 1, true_count + 1)
    sizes, matched = shared.sum(axis=1), _matched(shared)
    stray = np.ones(count + 1, dtype=bool)
    stray[[0, *(number for numbers in matched for number in numbers)]] = False
    fragments = np.flatnonzero(stray)
    fragments = fragments[np.argsort(-sizes[fragments], kind="stable")]
    parts = tuple((true == number, numbers) for number, numbers in enumerate(matched, start=1))
    return Pieces(tooth, box, numbered, sizes, fragments, parts)


def _matched(shared: NDArray[np.int64]) -> list[tuple[int, ...]]:
    """For every true piece the pieces that belong to it, the best one first.

    ``shared`` counts the voxels that a found piece (row) and a true one (column) have in common, 0 being none of them.
    """
    sizes, inside = shared.sum(axis=1), shared[:, 1:]
    if inside.shape[1] == 0:
        return []
    home, covered = inside.argmax(axis=1), inside.max(axis=1)
    covered[0] = 0
    matched = []
    for number in range(inside.shape[1]):
        own = np.flatnonzero((home == number) & (covered > 0))
        own = own[np.argsort(-covered[own], kind="stable")]
        own = own[(own == own[:1]) | (2 * inside[own].sum(axis=1) >= sizes[own])]
        matched.append(tuple(own.tolist()))
    return matched


def component_offences(patch: Patch, every: Sequence[Pieces], config: TopologyConfig) -> Offences:
    """Fragments and splits of the teeth of a patch; counts ``fragments`` and ``splits`` (joins that are missing)."""
    fragments = [(pieces, int(number)) for pieces in every for number in pieces.fragments[: config.most_regions]]
    fragments.sort(key=lambda f: -f[0].sizes[f[1]])
    splits = [(pieces, *part) for pieces in every for part in pieces.parts if len(part[1]) > 1]
    splits.sort(key=lambda s: -s[0].sizes[s[2][1]])
    regions = [_fragment(patch, pieces, number, config) for pieces, number in fragments[: config.most_regions]]
    regions += [_split(patch, *split, config) for split in splits[: config.most_regions]]
    joins = sum(len(numbers) - 1 for *_, numbers in splits)
    return Offences(regions=regions, counts={"fragments": sum(len(p.fragments) for p in every), "splits": joins})


def _fragment(patch: Patch, pieces: Pieces, number: int, config: TopologyConfig) -> Region:
    here = np.argwhere(pieces.numbered == number) + offset(pieces.box)
    wide = patch.around(body_at(here).box, MARGIN)
    body = body_at(here - offset(wide))

    def locate(values: Values) -> list[Place]:
        mask = body.in_box(tuple(slice(0, n) for n in values.shape))
        rest = (patch.found[wide] == pieces.tooth) & ~mask
        apart = float(values[mask].max()) - _joined_at(values, mask, rest)
        centre = shifted(best(values, mask & patch.wrong[wide]), wide)
        return [patch.place(centre, config.radius, apart, config.persistence_power)]

    return Region(wide, pieces.tooth, pieces.tooth, locate)


def _joined_at(values: Values, piece: Mask, rest: Mask) -> float:
    """The value at which a piece dies, because it joins the rest when the level falls: by bisection; 0 if never."""
    from scipy import ndimage

    if not rest.any():
        return 0.0
    apart, joined, start = LEVEL, 0.0, best(values, piece)
    for _ in range(BISECTIONS):
        level = (apart + joined) / 2
        numbered, _ = ndimage.label(values >= level, EVERYWHERE)
        if (numbered[rest] == numbered[start]).any():
            joined = level
        else:
            apart = level
    return joined


def _split(patch: Patch, pieces: Pieces, true: Mask, numbers: Sequence[int], config: TopologyConfig) -> Region:
    used = numbers[: config.most_regions + 1]
    order = np.zeros(len(pieces.sizes), dtype=np.int32)
    order[list(used)] = np.arange(1, len(used) + 1)
    everywhere = order[pieces.numbered]
    everywhere[true & (pieces.numbered == 0)] = -1
    # fragments far away may have made the box of the tooth large
    near = body_at(np.argwhere(everywhere)).box
    terminals, box = everywhere[near], shifted_box(near, pieces.box)

    def locate(values: Values) -> list[Place]:
        peaks = [float(values[terminals == n + 1].max()) for n in range(len(used))]
        return [
            patch.place(
                shifted(saddle.voxel, box),
                config.radius,
                peaks[saddle.younger - 1] - saddle.value,
                config.persistence_power,
            )
            for saddle in saddles(values, terminals, peaks)
        ]

    return Region(box, pieces.tooth, pieces.tooth, locate)
