"""One training sample: a cached head, seen by a random scanner, cut out at a random place, tilt and size.

In: a case (2, z, y, x) of tissue and labels at 0.6 mm. Out: a normalised image patch and its class indices on the
network's grid. Augmentations follow nnU-Net (rotation, scaling, noise, blur, gamma, low resolution); the scanner
itself is randomised in :mod:`ToothTopoSegLib.phantom.scanner`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.phantom import scanner
from ToothTopoSegLib.segmentation.classes import to_classes
from ToothTopoSegLib.segmentation.normalise import grey_scale
from ToothTopoSegLib.training.cases import CASE_CENTRE, CASE_SPACING

Array = NDArray[Any]


@dataclass(frozen=True)
class Window:
    """Where a patch lies in the head: centre (z, y, x) mm, rotation (3x3, acting on z, y, x), mm per voxel."""

    centre: Array
    rotation: Array
    spacing: float
    dental: bool


def _turn(angles: Array) -> Array:
    """Rotation matrix on (z, y, x) from three angles in degrees about the z, y and x axes."""
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_euler("xyz", angles, degrees=True).as_matrix())


def draw_window(rng: np.random.Generator, spacing: float) -> Window:
    """A random window: mostly around the teeth, sometimes anywhere in the head."""
    dental = bool(rng.random() < 0.88)
    if dental:
        centre = np.array([rng.normal(0, 7), rng.normal(2, 7), rng.normal(0, 5)])
        # Single quadrants and one-jaw fields of view are common in dental practice.
        if rng.random() < 0.2:
            centre += np.array([rng.choice([-16, 0, 16]), rng.uniform(-15, 15), rng.choice([-22, 0, 22])])
    else:
        centre = np.array([rng.uniform(-45, 50), rng.uniform(-35, 55), rng.uniform(-45, 45)])
    rotation = _turn(np.array([rng.normal(0, 6), rng.normal(0, 5), rng.normal(0, 9)]))
    return Window(centre, rotation, spacing * float(np.exp(rng.normal(0, 0.07))), dental)


def _grid(window: Window, patch: tuple[int, int, int], case_shape: tuple[int, ...]) -> Array:
    """Fractional case indices (z, y, x, 3) as (z, y, x) of every voxel of the patch."""
    axes = [(np.arange(n, dtype=np.float32) - (n - 1) / 2) * window.spacing for n in patch]
    mesh = np.stack(np.meshgrid(*axes, indexing="ij"), -1) @ window.rotation.T.astype(np.float32)
    head_mm = mesh + window.centre.astype(np.float32)
    middle = (np.asarray(case_shape, dtype=np.float32) - 1) / 2
    return np.asarray((head_mm - np.asarray(CASE_CENTRE[::-1], np.float32)) / np.float32(CASE_SPACING) + middle)


def _box(grid: Array, case_shape: tuple[int, ...], margin: Array) -> tuple[slice, ...]:
    """The part of the case, at least 8 voxels wide, that holds the patch and ``margin`` voxels around it."""
    flat = grid.reshape(-1, 3)
    low = np.clip(np.floor(flat.min(0) - margin), 0, np.asarray(case_shape) - 9).astype(int)
    high = np.clip(np.ceil(flat.max(0) + margin) + 1, low + 8, case_shape).astype(int)
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))


def _resample(volume: Array, grid: Array, mode: str) -> Array:
    """Values of ``volume`` (z, y, x) at fractional indices; outside, the border value is repeated."""
    import torch
    from torch.nn import functional

    size = np.asarray(volume.shape, dtype=np.float32)
    unit = torch.from_numpy((2 * grid / (size - 1) - 1)[..., ::-1].astype(np.float32, copy=True))
    source = torch.from_numpy(np.ascontiguousarray(volume, dtype=np.float32))
    out = functional.grid_sample(source[None, None], unit[None], mode=mode, padding_mode="border", align_corners=True)
    return np.asarray(out[0, 0].numpy())


def _view(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.bool_]:
    """A random field of view (z, y, x) that ends within the patch: at a plane, most often between the jaws, or at a
    cylinder; scanners show one jaw, one side or a few teeth as often as whole dentitions."""
    axes = [np.linspace(-1, 1, n, dtype=np.float32) for n in shape]
    if rng.random() < 0.75:
        axis = int(rng.choice([0, 0, 0, 1, 2, 2]))
        along = [1, 1, 1]
        along[axis] = -1
        seen = (axes[axis] * rng.choice([-1, 1]) < rng.uniform(0.0, 0.8)).reshape(along)
        return np.asarray(np.broadcast_to(seen, shape))
    y, x = axes[1][:, None] - rng.uniform(-0.4, 0.4), axes[2][None, :] - rng.uniform(-0.4, 0.4)
    return np.asarray(np.broadcast_to(np.hypot(y, x) < rng.uniform(0.4, 1.0), shape))


def draw_sample(
    case: Array, rng: np.random.Generator, patch: tuple[int, int, int], spacing: float
) -> tuple[Array, Array]:
    """Image float32 (z, y, x) and class indices uint8 (z, y, x) of shape ``patch`` at about ``spacing`` mm."""
    from scipy.ndimage import gaussian_filter

    window = draw_window(rng, spacing)
    grid = _grid(window, patch, case.shape[1:])
    margin = rng.uniform(0, 12 if window.dental else 60, 3) / CASE_SPACING
    box = _box(grid, case.shape[1:], margin)
    start = np.array([s.start for s in box], dtype=np.float32)
    imaging = scanner.draw_imaging(rng, hard=bool(rng.random() < 0.3))
    grey = scanner.expose(np.asarray(case[0][box]), (CASE_SPACING,) * 3, imaging, rng)
    image = _resample(grey, grid - start, "bilinear")
    if rng.random() < 0.25:
        image = gaussian_filter(image, rng.uniform(0.3, 0.9, 3))
    image = scanner.add_noise(image, imaging, rng)
    index = np.rint(grid).astype(np.int32)
    size = np.asarray(case.shape[1:])
    seen = ((index >= 0) & (index < size)).all(-1)
    index = np.clip(index, 0, size - 1)
    classes = to_classes(np.asarray(case[1])[index[..., 0], index[..., 1], index[..., 2]])
    if rng.random() < 0.4:
        # A scan that ends here is also normalised on what it shows.
        view = _view(patch, rng)
        seen &= view
        image = grey_scale(image[view], 200_000).apply(image)
        image[~view] = rng.choice([image.min(), 0.0])
    else:
        image = grey_scale(grey, 200_000).apply(image)
    if rng.random() < 0.3:
        image = image * np.float32(rng.uniform(0.8, 1.25)) + np.float32(rng.normal(0, 0.15))
    classes[~seen] = 0
    return np.ascontiguousarray(image, dtype=np.float32), classes
