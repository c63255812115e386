"""Parallel projections of axial slices, what a detector measures of them, and the way back.

Sparse matrices project square slices and project them back; a band-limited ramp filter makes the return a
reconstruction (Kak & Slaney, Principles of Computerized Tomographic Imaging, chapter 3). Between the two lies the
detector: a beam of two energies, scatter and a limited number of photons (ibid., chapters 4 and 5). Only what these
*change* is reconstructed and added to an image, so that the image keeps its own sharpness.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ToothTopoSegLib.phantom.arrays import Array, ArrayLibrary

WATER = 0.02
"""Attenuation of water in 1/mm at the energies of a dental cone beam."""
SCATTERED = float(np.exp(-3.5))
"""Scattered radiation is given in shares of what comes through a head unscattered."""


@dataclass(frozen=True)
class Beam:
    """How a detector sees line integrals.

    ``hardening`` is how far the two energies lie apart (share of the mean attenuation), ``uncorrected`` the share of
    it that is left in water, ``scatter`` the scattered radiation in shares of :data:`SCATTERED`, ``photons`` the number
    a ray starts with, and ``blind`` the share of half a turn, from the last angle back, that is not measured.
    """

    hardening: float
    uncorrected: float
    scatter: float
    photons: float
    blind: float = 0.0


@dataclass(frozen=True, eq=False)
class Projector:
    """Sparse matrices from the voxels of a square slice to rays (angles x bins) and back; lengths are in voxels."""

    forward: Any
    back: Any
    angles: int
    bins: int


@lru_cache(maxsize=1)  # hundreds of megabytes for large slices
def projector(side: int, angles: int) -> Projector:
    """Projections of slices of ``side`` x ``side`` voxels; rays lie one voxel apart and miss no corner."""
    from scipy.sparse import csr_matrix

    theta = (np.arange(angles) + 0.5) * np.pi / angles
    at = np.arange(side) - (side - 1) / 2
    bins = int(np.ceil(side * np.sqrt(2))) + 2
    ray = at[:, None, None] * np.sin(theta) + at[None, :, None] * np.cos(theta) + (bins - 1) / 2
    first = np.floor(ray).astype(np.int32)
    share = (ray - first).astype(np.float32)
    first += np.arange(angles, dtype=np.int32) * bins
    rays = np.stack([first, first + 1], -1).reshape(-1)
    weights = np.stack([1 - share, share], -1).reshape(-1)
    rows = np.arange(side * side + 1) * 2 * angles
    back = csr_matrix((weights, rays, rows), (side * side, angles * bins))
    return Projector(back.T.tocsr(), back, angles, bins)


@lru_cache(maxsize=8)
def ramp(bins: int) -> NDArray[np.float32]:
    """Weights (bins, bins) of the ramp filter of Ramachandran and Lakshminarayanan, smoothed over three bins."""
    apart = np.abs(np.arange(bins + 2)[:, None] - np.arange(bins + 2))
    kernel = np.where(apart % 2 == 1, -1 / (np.pi * np.maximum(apart, 1)) ** 2, 0.0)
    kernel[apart == 0] = 0.25
    smooth = 0.7 * kernel[1:-1, 1:-1] + 0.15 * (kernel[1:-1, :-2] + kernel[1:-1, 2:])
    return np.asarray(smooth, np.float32)


def measured(soft: Array, metal: Array, beam: Beam, library: ArrayLibrary) -> Array:
    """Line integrals as the detector measures them, from those of tissue, which the maker corrects, and of metal."""
    through, excess = _through(soft, metal, beam, library.xp)
    noise = library.xp.sqrt(through / beam.photons) * library.normal(tuple(soft.shape))
    return excess - library.xp.log(library.xp.clip(through + noise, 1 / beam.photons, None))


def _through(soft: Array, metal: Array, beam: Beam, xp: Any) -> tuple[Array, Array]:
    """The share of a ray that arrives, and what the correction for water adds to its line integral."""
    half = beam.hardening
    low, high = (xp.exp(-(1 + e / 2) * soft) * 0.5 for e in (-half, half))
    excess = (1 - beam.uncorrected) * (soft + xp.log(low + high))
    arrived = low * xp.exp(-(1 - half) * metal) + high * xp.exp(-(1 + half) * metal)
    return arrived + beam.scatter * SCATTERED, excess


def _lost_beyond(length: float, beam: Beam) -> float:
    """How much less than the line integral ``length`` of water a detector without noise measures."""
    through, excess = _through(np.float64(length), np.float64(0), beam, np)
    return float(length - excess + np.log(through))


def reconstruction_error(
    soft: Array, metal: Array, step: float, beyond: float, beam: Beam, angles: int, library: ArrayLibrary
) -> Array:
    """What the detector adds to the attenuation ``soft`` (z, y, x) of each voxel, in 1/mm, metal included.

    ``soft`` and ``metal`` are attenuations in 1/mm on voxels of ``step`` mm (y, x); their sum is that of the body, and
    metal is what no body is made of. ``beyond`` is the line integral of what lies outside the slice on every ray; its
    own error is left out, as it is the same for all rays. Metal is so bright that it is itself reconstructed from the
    projections there are: too few of them leave rays around it.
    """
    depth, height, width = metal.shape
    rays = library.projector(max(height, width), angles)
    through, hard = (rays.forward @ (_columns(part, library) * step) for part in (soft, metal))
    seen = measured(through + beyond, hard, beam, library) - (beyond - _lost_beyond(beyond, beam))
    if beam.blind:
        kept = np.repeat(np.arange(rays.angles) < round(rays.angles * (1 - beam.blind)), rays.bins)
        seen = seen * library.constant(kept)[:, None]
    filtered = library.constant(ramp(rays.bins)) @ (seen - through).reshape(rays.angles, rays.bins, depth)
    image = rays.back @ filtered.reshape(-1, depth) * (np.pi / rays.angles / step)
    side = max(height, width)
    return image.T.reshape(depth, side, side)[:, :height, :width]


def _columns(image: Array, library: ArrayLibrary) -> Array:
    """Slices (z, y, x) as columns (voxels of a square, z), filled up with empty voxels behind the last ones."""
    depth, height, width = image.shape
    side = max(height, width)
    padded = library.constant(np.zeros((depth, side, side), np.float32))
    padded[:, :height, :width] = image
    return padded.reshape(depth, -1).T
