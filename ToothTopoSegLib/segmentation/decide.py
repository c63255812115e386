"""Tooth or not first, which tooth second.

In: blended class scores. Out: the same, rewritten so that argmax decides in two steps. Whether a voxel is a tooth
rests on the evidence for *any* tooth: where the network is sure of a tooth but torn between two numbers, plain argmax
would let bone win against either. Which tooth it is rests on the probabilities of the numbers in the neighbourhood: a
number holds for a whole tooth, so that single voxels have no say against those around them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.segmentation.classes import TEETH
from ToothTopoSegLib.topology.robust import ToothScores

NEIGHBOURHOOD_MM = 2.0
"""Width (sigma) of the Gaussian over which numbers are averaged: about a quarter of a tooth."""


SPECK_SHARE = 0.1
"""A number that covers less than this share of its tooth's average volume stands on no tooth ..."""
SLIVER_SHARE, ADHERES = 0.3, 0.25
"""... nor does one that covers less than this share and of whose surface this much touches teeth of other numbers: it
was carved out of them, as where a tooth is missing."""


def _log_sum(scores: NDArray[Any], scale: float) -> NDArray[np.float32]:
    """Log of the summed exponentials of ``scale * scores`` over the classes; slice by slice, to spare memory."""
    out = np.empty(scores.shape[1:], np.float32)
    for level in range(scores.shape[1]):
        plane = scores[:, level] * np.float32(scale)
        most = plane.max(0)
        out[level] = most + np.log(np.exp(plane - most).sum(0))
    return out


def gather_teeth(scores: NDArray[np.float32], scale: float, spacing: float) -> None:
    """Rewrite the tooth classes 1..32 of ``scores`` (classes, z, y, x) in place; cubic voxels of ``spacing`` mm.

    Real scores are ``scale * scores`` up to a constant. The best tooth of a voxel gets the log of the summed
    exponentials of all teeth, the others follow by the logarithm of their smoothed probabilities.
    """
    from scipy.ndimage import gaussian_filter

    teeth = scores[1 : len(TEETH) + 1]
    everything, any_tooth = _log_sum(scores, scale), _log_sum(teeth, scale)
    for index in range(len(teeth)):
        probability = np.exp(teeth[index] * np.float32(scale) - everything)
        gaussian_filter(probability, NEIGHBOURHOOD_MM / spacing, output=teeth[index], mode="nearest", truncate=3.0)
    most = np.maximum(teeth.max(0), np.float32(1e-20))
    for index in range(len(teeth)):
        teeth[index] = (any_tooth + np.log(teeth[index] / most + np.float32(1e-6))) / np.float32(scale)


def drop_specks(scores: NDArray[np.float32], spacing: float) -> None:
    """Strike out, in place, numbers that stand on no tooth of their own in ``scores`` (classes, z, y, x).

    Voxels are cubes of ``spacing`` mm; those struck out go to the next best class. A speck at the border of the view
    can be the end of a tooth and stays, unless no tooth of its jaw is seen to more than a sliver and it adheres to a
    tooth of the other jaw: scans that end between the jaws show crowns cut off, which look like tips of antagonists.
    """
    from ToothTopoSegLib.anatomy.sizes import size_of

    best = scores.argmax(0)
    volumes = np.bincount(best.reshape(-1), minlength=len(scores)) * spacing**3
    faces = [np.take(best, (0, -1), axis) for axis in range(3)]
    at_border = set(np.concatenate([face.reshape(-1) for face in faces]).tolist())
    least = float(scores.min()) - 1.0
    shares = {index: volumes[index] / size_of(fdi).volume for index, fdi in enumerate(TEETH, 1)}
    for index, share in shares.items():
        jaw = _jaw_of(index)
        if not 0 < share < SLIVER_SHARE:
            continue
        if index in at_border:
            seen = any(shares[other] >= SLIVER_SHARE for other in jaw)
            stray = not seen and _adherence(best, index, jaw) > ADHERES
        else:
            stray = share < SPECK_SHARE or _adherence(best, index, range(index, index + 1)) > ADHERES
        if stray:
            scores[index] = least


def scores_kept(scores: NDArray[np.float32], scale: float, region: Volume) -> ToothScores:
    """What is kept of decided class scores (classes, z, y, x) on the grid of ``region``: two bytes a voxel."""
    teeth = scores[1 : len(TEETH) + 1]
    rest = np.stack([scores[0], *scores[len(TEETH) + 1 :]])
    sure = teeth.max(0) * np.float32(scale) - _log_sum(rest, scale)
    probability = 1 / (1 + np.exp(-np.clip(sure, -30, 30)))
    number = np.asarray(TEETH, np.uint8)[teeth.argmax(0)]
    return ToothScores(region.with_array(np.rint(probability * 255).astype(np.uint8)), number)


def _jaw_of(index: int) -> range:
    """The tooth classes of the jaw of a tooth class."""
    half = len(TEETH) // 2
    return range(1, half + 1) if index <= half else range(half + 1, len(TEETH) + 1)


def _adherence(best: NDArray[Any], index: int, own_kind: range) -> float:
    """Share of the voxels around a class that are teeth of classes outside ``own_kind``."""
    from scipy import ndimage

    box = ndimage.find_objects((best == index).astype(np.uint8))[0]
    around = best[tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in box)]
    own = around == index
    shell = around[ndimage.binary_dilation(own, np.ones((3, 3, 3))) & ~own]
    others = (shell >= 1) & (shell <= len(TEETH)) & ~np.isin(shell, own_kind)
    return float(others.mean())
