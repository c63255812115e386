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

from ToothTopoSegLib.topology.betti import Box, Mask, body_at
from ToothTopoSegLib.topology.persistence import robustness
from ToothTopoSegLib.training.losses.places import (
    EVERYWHERE,
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

MARGIN = 6
"""Voxels around a fragment in which the way to its tooth is sought; without any it counts as wholly apart."""


@dataclass(frozen=True, eq=False)
class Pieces:
    """The pieces of one tooth that are found in a patch and what they are.

    ``numbered`` gives every voxel of ``box`` its piece (from 1 on, 0 for none), ``sizes`` their voxels, ``fragments``
    the numbers of those that should not be, and ``parts`` for every true piece (mask in the box) the numbers of its
    pieces, the best one first.
    """

    tooth: int
    box: Box
    numbered: NDArray[np.int32]
    sizes: NDArray[np.int64]
    fragments: tuple[int, ...]
    parts: tuple[tuple[Mask, tuple[int, ...]], ...]

    @property
    def kept(self) -> Mask:
        """The voxels of all pieces that are no fragments."""
        stays = np.ones(len(self.sizes), dtype=bool)
        stays[[0, *self.fragments]] = False
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
    sizes, inside = shared.sum(axis=1), shared[:, 1:]
    home = inside.argmax(axis=1) if true_count else np.zeros(count + 1, dtype=np.int64)
    within = inside.max(axis=1, initial=0)
    parts, fragments = [], []
    for number in range(true_count):
        own = [i for i in range(1, count + 1) if home[i] == number and within[i]]
        own.sort(key=lambda i: (-within[i], i))
        stay = [i for place, i in enumerate(own) if place == 0 or 2 * inside[i].sum() >= sizes[i]]
        parts.append((true == number + 1, tuple(stay)))
    kept = {i for _, numbers in parts for i in numbers}
    fragments = sorted({*range(1, count + 1)} - kept, key=lambda i: (-sizes[i], i))
    return Pieces(tooth, box, numbered, sizes, tuple(fragments), tuple(parts))


def component_offences(patch: Patch, every: Sequence[Pieces], config: TopologyConfig) -> Offences:
    """Fragments and splits of the teeth of a patch; counts ``fragments`` and ``splits`` (joins that are missing)."""
    fragments = [(pieces, number) for pieces in every for number in pieces.fragments]
    fragments.sort(key=lambda f: -f[0].sizes[f[1]])
    splits = [(pieces, *part) for pieces in every for part in pieces.parts if len(part[1]) > 1]
    splits.sort(key=lambda s: -s[0].sizes[s[2][1]])
    regions = [_fragment(patch, pieces, number, config) for pieces, number in fragments[: config.most_regions]]
    regions += [_split(patch, *split, config) for split in splits[: config.most_regions]]
    joins = sum(len(numbers) - 1 for *_, numbers in splits)
    return Offences(regions=regions, counts={"fragments": len(fragments), "splits": joins})


def _fragment(patch: Patch, pieces: Pieces, number: int, config: TopologyConfig) -> Region:
    here = np.argwhere(pieces.numbered == number) + offset(pieces.box)
    wide = patch.around(body_at(here).box, MARGIN)
    body = body_at(here - offset(wide))

    def locate(values: Values) -> list[Place]:
        mask = body.in_box(tuple(slice(0, n) for n in values.shape))
        peak = float(values[mask].max())
        pair = robustness(values, body, 0, margin=None) if values.size <= config.largest_roi else None
        # the elder of two pieces, or one alone in the box, stands out by all of its height
        apart = pair.persistence if pair is not None and np.isfinite(pair.persistence) else peak
        centre = shifted(best(values, mask & patch.wrong[wide]), wide)
        return [patch.place(centre, config.radius, apart, config.persistence_power)]

    return Region(wide, pieces.tooth, pieces.tooth, locate)


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
