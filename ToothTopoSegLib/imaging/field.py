"""What a cylindrical field of view does not show: the corners of the file, which hold one value.

In: a canonical scan. Out: which columns of voxels were never seen, and the scan with something likelier there. A
scanner for a few teeth sees a cylinder 4 to 8 cm wide; its files are boxes, filled up with the smallest value, zero or
the mean. To a network that knows teeth by their surroundings, a black corner beside a molar is the air beyond a cheek,
on the side where there may be none.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

RIM = (0.85, 0.97)
"""What lies farther from the middle than the first share of the field's radius may not have been seen. Most of what
lies between the two has to show something, or the corners are air that was seen."""
LEAST_SHARE = 0.1
"""The corners around a circle in a square are 0.21 of it."""


def unseen_columns(array: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Which columns (y, x) of a scan (z, y, x) lie outside its cylindrical field of view; None where it has none."""
    _, rows, columns = array.shape
    corners = array[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    if min(rows, columns) < 8 or (corners != corners[0, 0]).any():
        return None
    y, x = np.indices((rows, columns))
    radius = np.hypot((2 * y - rows + 1) / rows, (2 * x - columns + 1) / columns)
    constant = (array == corners[0, 0]).all(axis=0)
    rim = (radius > RIM[0]) & (radius <= RIM[1])
    unseen = constant & (radius > RIM[0])
    if unseen.mean() < LEAST_SHARE or constant[rim].mean() > 0.5:
        return None
    return np.asarray(unseen)


def continued(array: NDArray[Any], unseen: NDArray[np.bool_]) -> NDArray[Any]:
    """The scan (z, y, x) with each column that was not seen (y, x) like the nearest one that was."""
    rows, columns = nearest_seen(unseen)
    return np.asarray(array[:, rows, columns])


def nearest_seen(unseen: NDArray[np.bool_]) -> NDArray[np.intp]:
    """For every column (y, x) the nearest one that was seen: indices (2, y, x) along y and x."""
    from scipy import ndimage

    nearest = ndimage.distance_transform_edt(unseen, return_distances=False, return_indices=True)
    return np.asarray(nearest, np.intp)
