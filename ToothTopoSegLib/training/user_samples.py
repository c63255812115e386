"""Training samples of a user's case: cut out at a random place, tilt and size, augmented, at times as in a mirror.

In: a case of :mod:`ToothTopoSegLib.training.user_cache`. Out: image and class indices on the network's grid, as
:func:`ToothTopoSegLib.training.sampling.draw_sample` makes them of phantoms, or around a tooth for the network that
draws surfaces, as :func:`ToothTopoSegLib.training.surface_samples.draw_surface_sample` does. The scanner is the user's
own, so that nothing of it is drawn anew; augmentations are those of nnU-Net, milder than for training from nothing,
because the scans to come are made on the same machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ToothTopoSegLib.segmentation.classes import TEETH
from ToothTopoSegLib.segmentation.tiling import SURROUNDINGS
from ToothTopoSegLib.training import natural, sampling
from ToothTopoSegLib.training.losses.partial import IGNORED
from ToothTopoSegLib.training.sampling import FINER, Patch, Window
from ToothTopoSegLib.training.surface_samples import SPREAD_MM, TOOTH_SHARE, magnified, stride
from ToothTopoSegLib.training.user_cache import UserSamples

if TYPE_CHECKING:
    from torch import Tensor

    from ToothTopoSegLib.phantom.arrays import ArrayLibrary

ELSEWHERE_SHARE = 0.08
"""Share of samples from anywhere in the case, seen as the first, coarse look of segmentation sees it."""
ANGLES = (5.0, 4.0, 5.0)
"""Standard deviations in degrees of the turns about the z, y and x axes."""
SCALE, STRETCH, JITTER_MM = 0.06, 0.03, 3.0
"""Deviation of the size (logarithm), largest stretch of an axis, deviation of the place."""
SURFACE_PATCH: Patch = (48, 64, 64)
"""Most voxels of a sample around a tooth: what the bundled network learnt from, two for the time of one whole tile."""
THINNED = 3
"""Every so many voxels of a tile its grey scale is measured."""


def draw_user_sample(
    case: UserSamples, rng: np.random.Generator, patch: Patch, spacing: float
) -> tuple[Tensor, Tensor]:
    """Image float32 and classes uint8, both (z, y, x) of shape ``patch``, at about ``spacing`` mm, on the CPU.

    Classes hold ``IGNORED`` where nothing can be learnt. Beyond the case lies background of mean grey.
    """
    library = _library(rng)
    window = _draw_window(case, rng, patch, spacing)
    view = _drawn_view(window, patch, rng, library)
    image = view.grey(case, FINER)
    image = image.clamp(*case.limits) if window.dental else sampling._normalised(image, image.reshape(-1)[::FINER])
    return _varied(image, view.classes(case), rng, library)


def draw_user_surface_sample(
    case: UserSamples, rng: np.random.Generator, patch: Patch, spacing: float
) -> tuple[Tensor, Tensor]:
    """The same around a tooth, at most :data:`SURFACE_PATCH` of a tile of ``patch``, for the second network.

    The grey scale is that of the tile and its surroundings, as :mod:`ToothTopoSegLib.segmentation.surface` measures it.
    The classes are those of the teeth, each by its number.
    """
    library = _library(rng)
    window = _draw_surface_window(case, rng, patch, spacing)
    view = _drawn_view(window, surface_patch(patch), rng, library)
    image = sampling._normalised(view.grey(case), _in_and_around(case, window, patch, view.step))
    return _varied(image, view.classes(case), rng, library)


def surface_patch(patch: Patch) -> Patch:
    """Shape (z, y, x) of a sample around a tooth: of a tile of ``patch``, at most :data:`SURFACE_PATCH`."""
    z, y, x = (min(n, most) for n, most in zip(patch, SURFACE_PATCH, strict=True))
    return z, y, x


def plain_sample(case: UserSamples, place: float, patch: Patch, spacing: float) -> Tensor:
    """An image (z, y, x) of the dental region as it is; ``place`` from 0 to 1 goes through the region diagonally."""
    low, high = _centres(case, patch, spacing)
    window = Window(low + place * (high - low), np.eye(3), spacing, True)
    return _View(window, patch, np.full(3, spacing)).grey(case, FINER).clamp(*case.limits)


def plain_surface_sample(case: UserSamples, place: float, patch: Patch, spacing: float) -> Tensor:
    """A tile (z, y, x) around a tooth as it is; ``place`` from 0 to 1 goes through the teeth from below."""
    teeth = _places_of_teeth(case)
    centre = teeth[round(place * (len(teeth) - 1))] if len(teeth) else _size(case) / 2
    window = Window(_moved_inside(centre, case, patch, spacing), np.eye(3), spacing, True)
    step = np.full(3, spacing)
    return sampling._normalised(_View(window, patch, step).grey(case), _in_and_around(case, window, patch, step))


# ---- where


def _draw_window(case: UserSamples, rng: np.random.Generator, patch: Patch, spacing: float) -> Window:
    turn = sampling._turn(rng.normal(0, ANGLES))
    scaled = spacing * float(np.exp(rng.normal(0, SCALE)))
    if rng.random() < ELSEWHERE_SHARE:
        return Window(rng.uniform(0, case.image.shape) * case.spacing, turn, scaled, False)
    low, high = _centres(case, patch, spacing)
    return Window(rng.uniform(low, high) + rng.normal(0, JITTER_MM, 3), turn, scaled, True)


def _draw_surface_window(case: UserSamples, rng: np.random.Generator, patch: Patch, spacing: float) -> Window:
    turn = sampling._turn(rng.normal(0, ANGLES))
    scaled = spacing * magnified(rng)
    teeth, centre = _places_of_teeth(case), rng.uniform(0, _size(case))
    if len(teeth) and rng.random() < TOOTH_SHARE:
        centre = teeth[rng.integers(len(teeth))] + rng.normal(0, SPREAD_MM, 3)
    return Window(_moved_inside(centre, case, patch, scaled), turn, scaled, True)


def _centres(case: UserSamples, patch: Patch, spacing: float) -> tuple[Any, Any]:
    """Between which places (z, y, x) mm the middle of a tile of the dental region lies."""
    low, high = np.array(case.region).T * case.spacing
    half = np.minimum(np.array(patch) * spacing, high - low) / 2
    return low + half, high - half


def _size(case: UserSamples) -> Any:
    """Extent (z, y, x) mm of a case."""
    return np.array(case.image.shape) * case.spacing


def _moved_inside(centre: Any, case: UserSamples, patch: Patch, spacing: float) -> Any:
    """The middle of a tile that does not reach beyond the case, as tiles of a scan do not."""
    half = np.minimum(np.array(patch) * spacing, _size(case)) / 2
    return np.clip(centre, half, _size(case) - half)


def _places_of_teeth(case: UserSamples) -> Any:
    """Places (n, 3) of tooth voxels, (z, y, x) mm, some of them along each axis."""
    step = stride(case.spacing)
    thinned = np.asarray(case.classes[::step, ::step, ::step])
    return (np.argwhere((thinned >= 1) & (thinned <= len(TEETH))) * step + 0.5) * case.spacing


# ---- what is to be seen there


@dataclass(frozen=True, eq=False)
class _View:
    """Points of a case, ``step`` mm apart around the middle of a window, ``shape`` (z, y, x) of them."""

    window: Window
    shape: Patch
    step: Any
    bend: sampling.Bend | None = None

    def places(self, case: UserSamples, finer: int = 1) -> list[Tensor]:
        """The index of every point along each axis of the case, on a grid ``finer`` times as fine."""
        z, y, x = (n * finer for n in self.shape)
        grid = sampling._Grid(self.window, (z, y, x), self.step / finer)
        return list(grid.places(np.full(3, -0.5), case.spacing, self.bend, "cpu"))

    def grey(self, case: UserSamples, finer: int = 1) -> Tensor:
        """Grey values between the voxels, averaged over the points of a finer grid; 0 beyond the case."""
        import torch
        from torch.nn import functional

        # grid_sample wants x first, and -1 to 1 from the outer edge of the first voxel to that of the last.
        at = [(2 * p + 1) / n - 1 for p, n in zip(self.places(case, finer), case.image.shape, strict=True)]
        grey = torch.from_numpy(case.image.astype(np.float32))[None, None]
        image = functional.grid_sample(grey, torch.stack(at[::-1], -1)[None], align_corners=False)
        return functional.avg_pool3d(image, finer)[0, 0]

    def inside(self, case: UserSamples) -> Tensor:
        """Which points lie in the case."""
        import torch

        seen = torch.ones(self.shape, dtype=torch.bool)
        for at, n in zip(self.places(case), case.image.shape, strict=True):
            seen &= (at >= -0.5) & (at < n - 0.5)
        return seen

    def classes(self, case: UserSamples) -> Tensor:
        """The class nearest to each point, 0 beyond the case."""
        import torch

        flat = torch.zeros(self.shape, dtype=torch.int64)
        for n, at in zip(case.classes.shape, self.places(case), strict=True):
            flat = flat * n + at.round().clamp(0, n - 1).long()
        # The map on disk is read only where the patch lies.
        found = torch.from_numpy(case.classes.reshape(-1)[flat.numpy()])
        return found.masked_fill(~self.inside(case), 0)


def _library(rng: np.random.Generator) -> ArrayLibrary:
    import torch

    return natural.torch_library(torch.Generator().manual_seed(int(rng.integers(2**62))))


def _drawn_view(window: Window, shape: Patch, rng: np.random.Generator, library: ArrayLibrary) -> _View:
    """What is seen in a window, stretched a little and at times bent."""
    step = window.spacing * rng.uniform(1 - STRETCH, 1 + STRETCH, 3)
    bend = natural._smooth_bend(rng, library) if rng.random() < sampling.BEND_SHARE else None
    return _View(window, shape, step, bend)


def _in_and_around(case: UserSamples, window: Window, tile: Patch, step: Any) -> Tensor:
    """Grey values in a tile and its surroundings, thinned, NaN beyond the case."""
    z, y, x = ((n + 2 * SURROUNDINGS) // THINNED for n in tile)
    view = _View(window, (z, y, x), step * THINNED)
    return view.grey(case).masked_fill(~view.inside(case), float("nan")).reshape(-1)


def _varied(image: Tensor, classes: Tensor, rng: np.random.Generator, library: ArrayLibrary) -> tuple[Tensor, Tensor]:
    """A sample with the augmentations of grey values, at times as in a mirror."""
    image = natural._augmented(image, rng, library)
    if rng.random() < sampling.MIRROR_SHARE:
        ignored = classes == IGNORED
        classes = sampling._mirrored(classes.masked_fill(ignored, 0)).masked_fill(ignored, IGNORED).flip(-1)
        image = image.flip(-1)
    return image.contiguous(), classes.contiguous()
