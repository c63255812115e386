"""Which tooth it is must agree with where along the arch it stands: a prior on the blended class scores.

In: class scores of the dental region, tooth or not already decided. Out: the same, with the numbers weighed by place.
The arch is fitted to the teeth found so far (:mod:`ToothTopoSegLib.topology.arch`, in which wrong numbers have next to
no say), its midline and scale to the numbers most of them bear. A network that looks at 8 cm at a time mistakes a tooth
for its neighbour where little of the arch is in view; the whole arch knows better. What is tooth and what is not stays
as it was.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.anatomy import fdi
from ToothTopoSegLib.anatomy.sizes import size_of
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.segmentation.classes import TEETH, class_to_label

SPREAD_MM = 2.0
"""Standard deviation of where a tooth's own half width ends, besides the scale and midline of the dentition."""
LARGEST_PENALTY = 16.0
"""In nats: however far off, a number the network is certain of can stay."""
FARTHEST_MM = 6.0
THIRD_MOLAR_SHARE = 0.1
PASSES = 2
WORST_FIT_MM = 2.0
"""Teeth that lie farther than this from their curve (median) show no arch to go by; sound ones lie within 1.5 mm."""
SCALES = np.arange(0.85, 1.13, 0.03)


def follow_arch(scores: NDArray[np.float32], region: Volume, scale: float) -> None:
    """Weigh the tooth classes of ``scores`` (classes, z, y, x) by their place along the arch, in place.

    ``region`` has the geometry of the scores, ``scale`` is what one unit of them is worth in nats. The arch is fitted
    twice, the second time to what the first has made of the numbers. Nothing changes where no arch fits the teeth.
    """
    _strike_out_third_molars(scores, region.voxel_volume)
    labels = class_to_label()[scores.argmax(0)].astype(np.uint8)
    inside = np.isin(labels, TEETH)
    evidence = scores[1 : len(TEETH) + 1, inside]
    for _ in range(PASSES):
        weighed = _weighed(evidence, labels, inside, region, scale)
        if weighed is None:
            return
        labels[inside] = np.array(TEETH, np.uint8)[weighed.argmax(0)]
        scores[1 : len(TEETH) + 1, inside] = weighed


def _weighed(
    evidence: NDArray[np.float32], labels: NDArray[np.uint8], inside: NDArray[np.bool_], region: Volume, scale: float
) -> NDArray[np.float32] | None:
    """Tooth scores (32, n) of the voxels ``inside``, weighed on the arch of ``labels``; None where none fits.

    The best tooth of a voxel keeps the score the best one had, so that what is tooth stays tooth.
    """
    from ToothTopoSegLib.topology.arch import fit_arches
    from ToothTopoSegLib.topology.mouth import Mouth

    arches = fit_arches(Mouth(region.with_array(labels.copy())))
    if arches is None or arches.residual_mm > WORST_FIT_MM:
        return None
    points, borne, teeth = region.index_to_lps(np.argwhere(inside)), labels[inside], evidence.copy()
    for upper, arch in ((True, arches.upper), (False, arches.lower)):
        if arch is not None:
            own = [index for index, tooth in enumerate(TEETH) if fdi.is_upper(tooth) == upper]
            teeth[own] -= _penalties(arch.place(points)[0], borne, upper) / np.float32(scale)
    return np.asarray(teeth + (evidence.max(0) - teeth.max(0)))


def _strike_out_third_molars(scores: NDArray[np.float32], voxel_volume: float) -> None:
    """Lower third molars that the network hardly saw below all other classes: most often absent, they must not be
    made up by an arch that is drawn a little too short."""
    counts = np.bincount(scores.argmax(0).reshape(-1), minlength=len(scores)) * voxel_volume
    least = float(scores.min()) - 1.0
    for index, tooth in enumerate(TEETH, 1):
        if fdi.position(tooth) == 8 and counts[index] < THIRD_MOLAR_SHARE * size_of(tooth).volume:
            scores[index] = least


def _penalties(along: NDArray[Any], borne: NDArray[Any], upper: bool) -> NDArray[np.float32]:
    """Penalty in nats (16, n) of each number of a jaw, in the order of TEETH, for arc lengths ``along`` (n,) in mm."""
    from ToothTopoSegLib.topology.arch import places

    numbers = [tooth for tooth in TEETH if fdi.is_upper(tooth) == upper]
    expected = places(upper)
    own = np.isin(borne, numbers)
    scale, shift = _frame(along[own], np.array([expected[int(tooth)] for tooth in borne[own]]))
    rows = []
    for tooth in numbers:
        off = np.abs(along - expected[tooth] * scale - shift) - size_of(tooth).md_crown / 4
        rows.append(np.minimum(0.5 * (np.maximum(off, 0) / SPREAD_MM) ** 2, LARGEST_PENALTY))
    return np.asarray(rows, np.float32)


def _frame(along: NDArray[Any], expected: NDArray[Any]) -> tuple[float, float]:
    """Scale and shift (mm) of a dentition that put most voxels where their number is expected."""
    if not len(along):
        return 1.0, 0.0
    best = (np.inf, 1.0, 0.0)
    for scale in SCALES.tolist():
        apart = along - expected * scale
        shift = float(np.median(apart))
        misfit = np.minimum(np.abs(apart - shift), FARTHEST_MM).mean() + 3 * abs(scale - 1) + 0.05 * abs(shift)
        best = min(best, (float(misfit), scale, shift))
    return best[1], best[2]
