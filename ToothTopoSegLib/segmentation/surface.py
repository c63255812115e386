"""Where teeth end: a second network looks at about half a millimetre at what the first has found at one.

In: the scan, its dental region and the decided class scores of the first network. Out: for every voxel of a finer grid
how sure it is that there is a tooth, and which one. The first network knows which tooth is which but draws its surface
with voxels of 1 mm; the second sees two centimetres at a time and tells *core* and *border* of teeth from the rest, the
border-core representation of ToothSeg (doi 10.1109/JBHI.2025.3650444). Borders part the cores of teeth that touch;
which core is which tooth says :mod:`ToothTopoSegLib.segmentation.instances`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.imaging.pieces import Box, labels_around, small_pieces
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.progress import Progress, silent
from ToothTopoSegLib.segmentation.classes import TEETH
from ToothTopoSegLib.segmentation.instances import tooth_numbers
from ToothTopoSegLib.topology.robust import ToothScores

if TYPE_CHECKING:
    from ToothTopoSegLib.segmentation.runner import Runner

Array = NDArray[Any]
Patch = tuple[int, int, int]

CORE, BORDER = 1, 2
OVERLAP, CONTEXT = 0.25, 12
OWN_GRID, ALIKE = (0.8, 1.2), 1e-3
"""Scans whose cubic voxels have between these shares of the network's own spacing are looked at as they are: what goes
to another grid and back is blurred twice. Of 12 development phantoms of 0.41 to 0.5 mm ten got better surfaces so, and
two worse ones. ``ALIKE`` is the share by which spacings differ that are the same."""
REACH_MM = 2.0
"""Teeth of the first network are looked at with this much around them."""
FARTHEST_MM = 4.0
"""Farther away from them there is no tooth ..."""
UNSEEN_MM, UNSEEN_NATS, UNSEEN_CORE, UNSEEN_MM3 = 10.0, 3.3, 8.0, 30.0
"""... but where the second network is sure of one: a piece that begins so near, has so much evidence for a tooth on
average and so much for its core somewhere, and is so large. The first network misses wisdom teeth in the bone, and ends
of roots. In 103 development phantoms 17 such pieces were teeth and 2 were none; all 9 large ones that were teeth are
among them."""
SMALLEST_PIECE_MM3 = 4.0
"""Smaller pieces apart from everything else are noise of the network."""
STRAY_SHARE = 0.15
"""A piece of a number that is smaller than this part of its largest one belongs to the tooth it sticks to ..."""
APART_MM = 1.0
"""... and to none if it touches no tooth and lies farther than this from its own."""
FAR_MM = 10.0
"""Whatever its size, a piece is none if no tooth lies so near: in development phantoms such pieces were condyle and
skull, 11 to 34 mm from the nearest tooth."""
ENAMEL_PERCENTILE, METAL_RATIO, METAL_SHARE = 90.0, 2.0, 0.65
"""Percentile of a tooth's grey values that its enamel has; how much denser than enamel metal is, above the soft tissue;
how much of a tooth is metal at most: up to 0.58 of those in development phantoms, and 0.71 and more of implants."""
FULL_OF_METAL, METAL_OF_BRIGHTEST = 0.9, 0.65
"""Where a tenth of all that is near teeth is about as bright as anything, what was taken for enamel may be metal too;
there metal begins at this share of the brightest. In development phantoms that tenth has 0.2 to 0.5 of the brightest
between teeth, 0.98 and more between implants, whose darker third has 0.4 to 1.0 and that of sound teeth 0.7 at most."""
SURE = 8.0
"""Largest evidence for or against a tooth, in nats."""
SMOOTH_MM = 0.375
"""Width (sigma) of the Gaussian over the probability of a tooth, which keeps noise from piercing and tearing: over
probabilities, because where both sides are sure of themselves the surface lies half way, however sure either is."""
LEAST_PROBABILITY = 0.52
"""From which on a voxel is a tooth."""


@dataclass(frozen=True, eq=False)
class Surfaces:
    """Evidence for a tooth (float32, nats, above 0 for a tooth) on a grid of its own, and the tooth's FDI number."""

    tooth: Volume
    number: NDArray[np.uint8]

    def kept(self) -> ToothScores:
        """The evidence as what findings are judged by: two bytes a voxel."""
        probability = 1 / (1 + np.exp(-self.tooth.array))
        return ToothScores(self.tooth.with_array(np.rint(probability * 255).astype(np.uint8)), self.number)


def surfaces(
    scan: Volume,
    region: Volume,
    scores: NDArray[np.float32],
    runner: Runner,
    patch: Patch,
    spacing: float,
    progress: Progress = silent,
) -> Surfaces:
    """The surfaces of the teeth in ``region``, a grid within ``scan`` with ``scores`` (classes, z, y, x) in nats.

    Both have the same direction. ``runner`` is the second network, for patches (z, y, x) of about ``spacing`` mm; the
    grid of the surfaces is that of the scan if that will do (:func:`grid_spacing`).
    """
    from ToothTopoSegLib.imaging.resample import onto, resample_linear

    spacing = grid_spacing(scan.spacing, spacing)
    fine = resample_linear(scan, (spacing,) * 3, _box(scan, region))
    teeth = scores[1 : len(TEETH) + 1]
    first = onto(teeth.max(0) - np.maximum(scores[0], scores[len(TEETH) + 1 :].max(0)), region, fine, 1)
    near = _near(first > 0, REACH_MM / spacing)
    evidence, core = _evidence(fine.array, near, runner, patch, progress)
    evidence = _smooth(evidence, SMOOTH_MM / spacing)
    evidence[_too_far(first > 0, evidence, core, spacing)] = -SURE
    tooth = _without_crumbs(evidence > 0, spacing)
    number = tooth_numbers(core, tooth, fine, teeth, region, first > 0)
    strike_out_implants(number, tooth, near, fine.array)
    tooth &= number > 0
    give_away_strays(tooth, number, spacing)
    evidence[~tooth] = np.minimum(evidence[~tooth], -1e-3)
    return Surfaces(fine.with_array(evidence), number)


def grid_spacing(scan: Sequence[float], network: float) -> float:
    """Side in mm of the cubic voxels in which a network for voxels of ``network`` mm looks at a scan of a spacing.

    It is the scan's own where its voxels are cubes of about that size, see :data:`OWN_GRID`.
    """
    smallest, largest = min(scan), max(scan)
    cubes = largest <= smallest * (1 + ALIKE)
    fits = OWN_GRID[0] / (1 + ALIKE) <= largest / network <= OWN_GRID[1] * (1 + ALIKE)
    return float(scan[0]) if cubes and fits else network


def _box(scan: Volume, region: Volume) -> tuple[Patch, Patch]:
    """The voxels of ``scan``, first and behind last, that cover the extent of ``region``."""
    half = np.asarray(region.spacing) / np.asarray(scan.spacing) / 2
    first = scan.lps_to_index(np.asarray(region.origin)) - half
    last = first + np.asarray(region.array.shape) * half * 2
    low = np.clip(np.floor(np.round(first + 0.5, 6)).astype(int), 0, np.asarray(scan.array.shape) - 1)
    high = np.clip(np.ceil(np.round(last + 0.5, 6)).astype(int), low + 1, scan.array.shape)
    (a, b, c), (d, e, f) = low.tolist(), high.tolist()
    return (a, b, c), (d, e, f)


def _near(mask: NDArray[np.bool_], voxels: float) -> NDArray[np.bool_]:
    from scipy.ndimage import binary_dilation

    return np.asarray(binary_dilation(mask, iterations=round(voxels)))


def _too_far(seen: NDArray[np.bool_], evidence: Array, core: Array, spacing: float) -> NDArray[np.bool_]:
    """Which voxels (z, y, x) are no tooth because the first network has ``seen`` none near them, however they look.

    ``evidence`` for a tooth and for its ``core`` are those of the second network, in nats.
    """
    from scipy import ndimage

    far = ~_near(seen, FARTHEST_MM / spacing)
    pieces = ndimage.label(far & (evidence > 0))[0]
    large = np.bincount(pieces.reshape(-1)) * spacing**3 >= UNSEEN_MM3
    for n, box in enumerate(ndimage.find_objects(pieces), 1):
        mask = pieces[box] == n if large[n] else None
        if mask is None or evidence[box][mask].mean() < UNSEEN_NATS or core[box][mask].max() < UNSEEN_CORE:
            continue
        if _within(box, mask, seen, UNSEEN_MM / spacing):
            far[box] &= ~mask
    return far


def _evidence(
    image: Array, near: NDArray[np.bool_], runner: Runner, patch: Patch, progress: Progress
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Evidence for a tooth and for the core of one, in nats, from tiles laid over ``near``; none beyond them."""
    from ToothTopoSegLib.segmentation.normalise import grey_scale
    from ToothTopoSegLib.segmentation.tiling import SURROUNDINGS, Blend, corners_around, padded, tile_at

    grown, inside = padded(image, patch, float(image.min()))
    wanted = np.zeros(grown.shape, bool)
    wanted[inside] = near
    mean = Blend(3, grown.shape, patch)
    places = corners_around(wanted, patch, OVERLAP, CONTEXT)
    for i, place in enumerate(places):
        progress(i / len(places), "looking at the surfaces")
        tile = tile_at(place, patch)
        around = tuple(slice(max(0, s.start - SURROUNDINGS), s.stop + SURROUNDINGS) for s in tile)
        mean.add(tile, runner(grey_scale(grown[around], 200_000).apply(grown[tile])))
    nats = mean.scores()[(slice(None), *inside)] * np.float32(runner.score_scale)
    tooth = np.clip(np.logaddexp(nats[CORE], nats[BORDER]) - nats[0], -SURE, SURE)
    tooth[~mean.looked_at()[inside]] = -SURE
    return tooth, nats[CORE] - np.logaddexp(nats[0], nats[BORDER])


def _smooth(evidence: NDArray[np.float32], width: float) -> NDArray[np.float32]:
    """Evidence in nats, above 0 for a tooth, from that of each voxel alone; ``width`` in voxels."""
    from scipy.ndimage import gaussian_filter
    from scipy.special import expit, logit

    probability = gaussian_filter(expit(evidence), width, mode="nearest")
    certain = expit(np.float32(SURE))
    nats = logit(np.clip(probability, 1 - certain, certain)) - np.float32(logit(LEAST_PROBABILITY))
    return np.asarray(nats, np.float32)


def _without_crumbs(tooth: NDArray[np.bool_], spacing: float) -> NDArray[np.bool_]:
    from scipy import ndimage

    pieces, count = ndimage.label(tooth, np.ones((3, 3, 3)))
    volumes = np.bincount(pieces.reshape(-1), minlength=count + 1) * spacing**3
    keep = volumes >= SMALLEST_PIECE_MM3
    keep[0] = False
    return np.asarray(keep[pieces])


def strike_out_implants(
    number: NDArray[np.uint8], tooth: NDArray[np.bool_], near: NDArray[np.bool_], grey: Array
) -> None:
    """Give what is metal through and through the number 0, in place: implants and pontics, which are no teeth.

    All arrays are (z, y, x): FDI numbers, which voxels are teeth, which are teeth or lie near one, and grey values. A
    tooth under a metal crown or around a post is metal for the smaller part.
    """
    labels = np.where(tooth, number, 0)
    numbers = [int(n) for n in np.unique(labels) if n]
    if not numbers or not (near & ~tooth).any():
        return
    soft = float(np.median(grey[near & ~tooth]))
    # Of the teeth the duller ones, because half of a mouth may be crowned.
    enamel = float(np.percentile([np.percentile(grey[labels == n], ENAMEL_PERCENTILE) for n in numbers], 25))
    metal = grey > soft + METAL_RATIO * (enamel - soft)
    dark, brightest = float(np.median(grey[~tooth])), float(grey.max())
    if np.percentile(grey[near & ~tooth], 90) >= dark + FULL_OF_METAL * (brightest - dark):
        metal |= grey > dark + METAL_OF_BRIGHTEST * (brightest - dark)
    for n in numbers:
        if metal[labels == n].mean() > METAL_SHARE:
            number[labels == n] = 0


def give_away_strays(tooth: NDArray[np.bool_], number: NDArray[np.uint8], spacing: float) -> None:
    """Give small pieces of a number apart from its largest one to the tooth they touch most, in place.

    Such pieces that touch only each other are no tooth to go to. What touches no tooth keeps its number where it may be
    a root that noise cut off. Where it lies farther from the large pieces of its number than noise cuts, it is no
    tooth, and no more is a large piece far from every tooth. ``spacing`` is that of the cubic voxels in mm.
    """
    labels, waiting = np.where(tooth, number, 0), []
    for where, mask in small_pieces(labels, lambda largest: STRAY_SHARE * largest):
        waiting.append((where, mask, int(labels[where][mask][0])))
        labels[where][mask] = 0
    alone: list[tuple[Box, NDArray[np.bool_], int]] = []
    while len(alone) != len(waiting):
        alone, waiting = waiting, []
        for where, mask, own in alone:
            around = labels_around(labels, where, mask)
            touched = np.bincount(around[around > 0], minlength=1)
            if touched.any():
                number[where][mask] = labels[where][mask] = touched.argmax()
            else:
                waiting.append((where, mask, own))
    for where, mask, own in alone:
        if not _within(where, mask, labels == own, APART_MM / spacing):
            tooth[where][mask] = False
    for where, mask in small_pieces(labels, lambda _: np.inf):
        if not _within(where, mask, labels > 0, FAR_MM / spacing):
            tooth[where][mask] = False


def _within(where: Box, mask: NDArray[np.bool_], others: NDArray[np.bool_], reach: float) -> bool:
    """Whether any of ``others`` (z, y, x) beside a piece, ``mask`` in the box ``where``, is at most so many voxels from
    it."""
    from scipy import ndimage

    margin = int(reach)
    low = [min(s.start, margin) for s in where]
    wide = tuple(slice(s.start - n, s.stop + margin) for s, n in zip(where, low, strict=True))
    around = others[wide]
    piece = np.zeros(around.shape, bool)
    piece[tuple(slice(n, n + m) for n, m in zip(low, mask.shape, strict=True))] = mask
    around = around & ~piece
    return bool(around.any() and ndimage.distance_transform_edt(~piece)[around].min() <= reach)
