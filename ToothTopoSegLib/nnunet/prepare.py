"""A scan as the input of an imported nnU-Net, by nnU-Net's definitions: transposed, cropped, normalised, resampled.

In: a scan of any kind and the preprocessing of the model's card. Out: the image on the network's grid, and what is
needed to put labels back. Like nnU-Net it takes the axes of the file as they come, unless the model's reader turns
them.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.imaging.canonical import from_canonical, to_canonical
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.nnunet.plans import Preprocessing, Size3
from ToothTopoSegLib.nnunet.resample import new_shape, resized_image, separate_axis

Array = NDArray[Any]
Box = tuple[slice, slice, slice]
BRIGHT_PERCENTILE = 99.0


@dataclass(frozen=True, eq=False)
class Prepared:
    """The network's image (z, y, x), and the transposed scan's shape, spacing in mm and box that the image covers."""

    image: NDArray[np.float32]
    shape: Size3
    spacing: tuple[float, float, float]
    box: Box


def prepare(scan: Volume, how: Preprocessing) -> Prepared:
    """The network's image of a scan."""
    turned = _reoriented(scan) if how.reorient else scan
    array = turned.array.transpose(how.transpose)
    z, y, x = (turned.spacing[axis] for axis in how.transpose)
    spacing = (z, y, x)
    box = nonzero_box(array)
    image = normalised(array[box], how)
    shape = new_shape(image.shape, spacing, how.spacing)
    image = resized_image(image, shape, how.image, separate_axis(how.image, spacing, how.spacing))
    depth, height, width = array.shape
    return Prepared(image, (depth, height, width), spacing, box)


def from_network_axes(labels: Array, how: Preprocessing, scan: Volume) -> Array:
    """Labels on the transposed grid, back on the grid of ``scan``."""
    back = np.ascontiguousarray(labels.transpose(np.argsort(how.transpose)))
    return _reoriented_back(back, scan) if how.reorient else back


def nonzero_box(array: Array) -> Box:
    """The box around all voxels that are not zero."""
    boxes = []
    for axis in range(3):
        hit = np.flatnonzero([np.any(plane) for plane in np.moveaxis(array, axis, 0)])
        boxes.append(slice(int(hit[0]), int(hit[-1]) + 1))
    return boxes[0], boxes[1], boxes[2]


def normalised(array: Array, how: Preprocessing) -> NDArray[np.float32]:
    """Grey values as the network was taught them, float32 of the same shape."""
    image = array.astype(np.float32)
    if how.normalisation == "CTNormalization":
        np.clip(image, how.intensity["percentile_00_5"], how.intensity["percentile_99_5"], out=image)
        image -= how.intensity["mean"]
        image /= max(how.intensity["std"], 1e-8)
    elif how.normalisation == "ZScoreNormalization":
        _to_unit_variance(image, how.use_mask)
    elif how.normalisation == "RescaleTo01Normalization":
        image -= image.min()
        image /= max(image.max(), 1e-8)
    elif how.normalisation == "RGBTo01Normalization":
        image /= 255.0
    return image


def _to_unit_variance(image: NDArray[np.float32], use_mask: bool) -> None:
    """Mean 0 and standard deviation 1, in place; with a mask over, and of, what is not zero, holes included."""
    from scipy.ndimage import binary_fill_holes

    if not use_mask:
        image -= image.mean()
        image /= max(image.std(), 1e-8)
        return
    mask = binary_fill_holes(image != 0)
    inside = image[mask]
    image[mask] = (inside - inside.mean()) / max(inside.std(), 1e-8)


def _reoriented(scan: Volume) -> Volume:
    """The scan with its x, y, z axes along R, A, S (to the left, to the back, up, all but the last reversed)."""
    canonical = to_canonical(scan)
    return canonical.with_array(np.ascontiguousarray(canonical.array[:, ::-1, ::-1]))


def _reoriented_back(labels: Array, scan: Volume) -> Array:
    return from_canonical(np.ascontiguousarray(labels[:, ::-1, ::-1]), scan).array


def brightest_patches(scan: Volume, how: Preprocessing, count: int) -> list[Array]:
    """The ``count`` patches (1, 1, z, y, x) of a prepared scan with most bright voxels: in a dental scan, at teeth."""
    image = prepare(scan, how).image
    missing = [max(0, p - n) for n, p in zip(image.shape, how.patch, strict=True)]
    image = np.pad(image, [(n // 2, n - n // 2) for n in missing])
    bright = image >= np.percentile(image, BRIGHT_PERCENTILE)
    corners = [range(0, n - p + 1, max(1, p // 2)) for n, p in zip(image.shape, how.patch, strict=True)]
    places = itertools.product(*corners)
    tiles = [tuple(slice(a, a + p) for a, p in zip(place, how.patch, strict=True)) for place in places]
    best = sorted(tiles, key=lambda tile: -int(bright[tile].sum()))[:count]
    return [np.ascontiguousarray(image[tile])[None, None] for tile in best]
