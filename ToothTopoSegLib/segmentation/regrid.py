"""Class scores of the working grid turned into labels on the scan's own grid, slice by slice.

Scores are interpolated linearly and the best class is taken afterwards, which keeps surfaces smooth. Only one slice
of class scores exists beside them at any time, whatever the size of the scan.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.imaging.boxes import label_boxes
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.progress import Progress, silent
from ToothTopoSegLib.segmentation.classes import TEETH

Array = NDArray[Any]

SLIT_MM = 0.35
"""Into a slit, pit or tunnel that no network with voxels of half a millimetre sees fits no ball of this radius ..."""
OWN_VOXEL_MM = 0.6
"""... nor one of a single voxel of the scan, if that is about as small as the network's."""


@dataclass(frozen=True, eq=False)
class Axis:
    """Where the voxels of one target axis lie: their indices, the source voxels below and above, the share of above."""

    inside: Array
    low: Array
    high: Array
    part: NDArray[np.float32]


def _axis(target: int, spacing: float, offset: float, step: float, count: int) -> Axis:
    """The target voxels inside the extent of ``count`` source voxels of ``step`` mm that begin at ``offset`` mm.

    Positions are rounded far below a voxel, so that a scan stored along other axes, whose origin differs in the last
    digit, gets the same labels.
    """
    at = np.round((np.arange(target) * spacing - offset) / step, 6)
    inside = np.flatnonzero((at >= -0.5) & (at <= count - 0.5))
    at = np.clip(at[inside], 0, count - 1)
    low = np.minimum(np.floor(at).astype(int), max(count - 2, 0))
    return Axis(inside, low, np.minimum(low + 1, count - 1), (at - low).astype(np.float32))


def _axes(grid: Volume, scan: Volume) -> tuple[Axis, Axis, Axis]:
    """The voxels of ``scan`` within ``grid`` along z, y and x."""
    offset = scan.lps_to_index(np.asarray(grid.origin)) * np.asarray(scan.spacing)
    z, y, x = (
        _axis(scan.array.shape[i], scan.spacing[i], float(offset[i]), grid.spacing[i], grid.array.shape[i])
        for i in range(3)
    )
    return z, y, x


def mix(first: Array, second: Array, part: Any) -> Array:
    """Linear interpolation: ``first`` where ``part`` is 0, ``second`` where it is 1."""
    return np.asarray(first + (second - first) * part)


def best_classes(scores: Array, rows: Axis, columns: Axis) -> Array:
    """Class with the highest interpolated score (rows, columns) of one slice of scores (classes, y, x).

    Where the four source voxels around agree on a class, no other can lead between them: interpolation, by far the
    largest part of the work, is left to the seams between classes.
    """
    leader = scores.argmax(0)
    corners = [leader[y][:, x] for y in (rows.low, rows.high) for x in (columns.low, columns.high)]
    best = corners[0]
    seam, row_column = np.zeros(best.shape, bool), scores.shape[2]
    for corner in corners[1:]:
        seam |= corner != best
    r, c = np.nonzero(seam)
    # Voxel by voxel, so that all classes of a voxel lie side by side and are fetched at once.
    voxels = np.ascontiguousarray(scores.reshape(len(scores), -1).T)
    along_y, along_x = rows.part[r, None], columns.part[c, None]
    above, below = rows.low[r] * row_column, rows.high[r] * row_column
    left = mix(voxels[above + columns.low[c]], voxels[below + columns.low[c]], along_y)
    right = mix(voxels[above + columns.high[c]], voxels[below + columns.high[c]], along_y)
    best[r, c] = mix(left, right, along_x).argmax(1)
    return best


def labels_on_grid(
    scores: Array, grid: Volume, scan: Volume, labels: NDArray[np.uint8], progress: Progress = silent
) -> NDArray[np.uint8]:
    """Label map uint8 on the grid of ``scan`` (z, y, x) from scores (classes, z, y, x) on ``grid``.

    Both grids share their direction. ``labels`` maps a class index to its label value; outside ``grid`` the label is 0.
    """
    out = np.zeros(scan.array.shape, np.uint8)
    slices, rows, columns = _axes(grid, scan)
    if not (len(rows.inside) and len(columns.inside)):
        return out
    box = slice(rows.inside[0], rows.inside[-1] + 1), slice(columns.inside[0], columns.inside[-1] + 1)
    for done, z in enumerate(slices.inside):
        if done % 16 == 0:
            progress(done / len(slices.inside), "putting labels on the scan")
        sheet = mix(scores[:, slices.low[done]], scores[:, slices.high[done]], slices.part[done])
        out[z][box] = labels[best_classes(sheet, rows, columns)]
    return out


def teeth_on_grid(
    labels: NDArray[np.uint8], tooth: Volume, number: NDArray[np.uint8], scan: Volume, progress: Progress = silent
) -> None:
    """Write teeth into ``labels`` (z, y, x) on the grid of ``scan``, in place: where the linear interpolation of
    ``tooth`` is above 0, with the ``number`` that weighs most among the voxels it is interpolated from.

    Both grids share their direction; voxels of ``scan`` outside that of ``tooth`` stay as they are.
    """
    slices, rows, columns = _axes(tooth, scan)
    if not (len(rows.inside) and len(columns.inside)):
        return
    box = slice(rows.inside[0], rows.inside[-1] + 1), slice(columns.inside[0], columns.inside[-1] + 1)
    for done, z in enumerate(slices.inside):
        if done % 16 == 0:
            progress(done / len(slices.inside), "putting teeth on the scan")
        below, above, part = slices.low[done], slices.high[done], slices.part[done]
        sheet = mix(tooth.array[below], tooth.array[above], part)
        along_y = mix(sheet[rows.low], sheet[rows.high], rows.part[:, None])
        inside = mix(along_y[:, columns.low], along_y[:, columns.high], columns.part) > 0
        r, c = np.nonzero(inside)
        corners, weights = [], []
        for level, share_z in ((below, 1 - part), (above, part)):
            for row, share_y in ((rows.low[r], 1 - rows.part[r]), (rows.high[r], rows.part[r])):
                for column, share_x in ((columns.low[c], 1 - columns.part[c]), (columns.high[c], columns.part[c])):
                    corners.append(number[level, row, column])
                    weights.append(share_z * share_y * share_x)
        labels[z][box][r, c] = _heaviest(np.array(corners), np.array(weights, np.float32))


def _heaviest(values: NDArray[np.uint8], weights: NDArray[np.float32]) -> NDArray[np.uint8]:
    """For each column of ``values`` (8, n) the value whose ``weights`` sum to most; the first of equals."""
    best, out = np.zeros(values.shape[1], np.float32), values[0].copy()
    mixed = np.flatnonzero((values != values[0]).any(0))
    for value in values[:, mixed]:
        weight = np.where(values[:, mixed] == value, weights[:, mixed], 0).sum(0)
        heavier = weight > best[mixed]
        out[mixed[heavier]] = value[heavier]
        best[mixed] = np.maximum(best[mixed], weight)
    return out


def close_slits(labels: NDArray[np.uint8], spacing: tuple[float, float, float]) -> None:
    """Close each tooth of a label map by a ball of :data:`SLIT_MM` or one voxel, in place; others lose nothing to it.

    ``spacing`` (z, y, x) is in mm; voxels coarser than :data:`OWN_VOXEL_MM` leave teeth as they are. So looks a surface
    smoothed at the size of the network's voxels, whether it had tunnels or not (Serra, *Image Analysis and Mathematical
    Morphology*, 1982).
    """
    from ToothTopoSegLib.imaging.itk import import_sitk

    sitk = import_sitk()  # its closing by a ball looks at surfaces alone, which is many times faster than scipy's
    radius = [max(int(SLIT_MM / s), int(s <= OWN_VOXEL_MM)) for s in spacing]
    if not any(radius):
        return
    for fdi, box in label_boxes(labels, highest=max(TEETH)).items():
        if fdi not in TEETH:
            continue
        inside = labels[box]
        image = sitk.GetImageFromArray(np.pad(inside == fdi, [(r, r) for r in radius]).astype(np.uint8))
        closed = sitk.GetArrayFromImage(sitk.BinaryMorphologicalClosing(image, radius[::-1], sitk.sitkBall)) > 0
        closed = closed[tuple(slice(r, r + n) for r, n in zip(radius, inside.shape, strict=True))]
        inside[closed & ((inside == 0) | (inside > max(TEETH)))] = fdi
