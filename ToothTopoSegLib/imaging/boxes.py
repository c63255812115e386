"""Bounding boxes of the labels of a map, found without looking long at what is empty: most of a large scan is."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Box: TypeAlias = tuple[slice, slice, slice]
"""Slices z, y, x."""


def label_boxes(labels: NDArray[Any], highest: int | None = None) -> dict[int, Box]:
    """Bounding box of every label from 1 to ``highest``, or of all above 0, of an integer label map (z, y, x)."""
    from scipy import ndimage

    around = _filled(labels, highest)
    near = labels[around]
    boxes = ndimage.find_objects(near, max_label=highest or 0) if near.size else []
    return {value: _moved(box, around) for value, box in enumerate(boxes, start=1) if box is not None}


def _filled(labels: NDArray[Any], highest: int | None) -> Box:
    """The box around all labels asked for; an empty one without any."""
    planes, lines = np.zeros(labels.shape[0], dtype=bool), np.zeros(labels.shape[1:], dtype=bool)
    for at, plane in enumerate(labels):
        if plane.size and plane.max() > 0:
            some = (plane > 0) if highest is None else (plane > 0) & (plane <= highest)
            planes[at] = some.any()
            lines |= some
    used = [np.flatnonzero(some) for some in (planes, lines.any(axis=1), lines.any(axis=0))]
    z, y, x = (slice(int(some[0]), int(some[-1]) + 1) if len(some) else slice(0, 0) for some in used)
    return z, y, x


def _moved(box: Box, around: Box) -> Box:
    z, y, x = (slice(a.start + s.start, a.start + s.stop) for s, a in zip(box, around, strict=True))
    return z, y, x
