"""Pieces of a tooth that lie apart from its largest one.

In: a label map with FDI numbers. Out: one small piece after the other, what it touches, or the map without them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.anatomy.fdi import PERMANENT
from ToothTopoSegLib.imaging.boxes import label_boxes

Box = tuple[slice, ...]
_CUBE = np.ones((3, 3, 3))


def small_pieces(labels: NDArray[np.uint8], smaller: Callable[[int], float]) -> Iterator[tuple[Box, NDArray[np.bool_]]]:
    """Where each small piece of a tooth lies, and its mask (z, y, x) in that box, which has a voxel more on each side.

    Small are pieces of fewer voxels than ``smaller`` says of the number of voxels of the tooth's largest one, which is
    none of them. ``labels`` may be changed between two pieces.
    """
    from scipy import ndimage

    for fdi, box in label_boxes(labels, highest=max(PERMANENT)).items():
        if fdi not in PERMANENT:
            continue
        pieces, count = ndimage.label(labels[box] == fdi, _CUBE)
        if count == 1:
            continue
        sizes = np.bincount(pieces.reshape(-1))[1:]
        spots = ndimage.find_objects(pieces)
        for piece in np.flatnonzero(sizes < smaller(int(sizes.max()))).tolist():
            if piece == sizes.argmax():
                continue
            inner = [slice(b.start + s.start, b.start + s.stop) for b, s in zip(box, spots[piece], strict=True)]
            low = [min(s.start, 1) for s in inner]
            where = tuple(slice(s.start - n, s.stop + 1) for s, n in zip(inner, low, strict=True))
            mask = np.zeros(labels[where].shape, bool)
            mask[tuple(slice(n, n + s.stop - s.start) for n, s in zip(low, inner, strict=True))] = (
                pieces[spots[piece]] == piece + 1
            )
            yield where, mask


def labels_around(labels: NDArray[np.uint8], where: Box, mask: NDArray[np.bool_]) -> NDArray[Any]:
    """The labels (n,) of the voxels around a piece, which lies ``where`` its ``mask`` says."""
    from scipy import ndimage

    return np.asarray(labels[where][ndimage.binary_dilation(mask, _CUBE) & ~mask])


def give_away_slivers(labels: NDArray[np.uint8], smaller: float) -> None:
    """Give pieces of teeth in a label map (z, y, x) that are apart from their largest one and of fewer voxels than
    ``smaller`` to the label they touch most, in place."""
    for where, mask in small_pieces(labels, lambda _: smaller):
        labels[where][mask] = np.bincount(labels_around(labels, where, mask)).argmax()
