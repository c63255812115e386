"""Training samples of a user's case: cut out at a random place, tilt and size, augmented, at times as in a mirror.

In: a case of :mod:`ToothTopoSegLib.training.user_cache`. Out: image and class indices on the network's grid, as
:func:`ToothTopoSegLib.training.sampling.draw_sample` makes them of phantoms. The scanner is the user's own, so that
nothing of it is drawn anew; augmentations are those of nnU-Net, milder than for training from nothing, because the
scans to come are made on the same machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ToothTopoSegLib.training import natural, sampling
from ToothTopoSegLib.training.losses.partial import IGNORED
from ToothTopoSegLib.training.sampling import FINER, Patch, Window
from ToothTopoSegLib.training.user_cache import UserSamples

if TYPE_CHECKING:
    from torch import Tensor

ELSEWHERE_SHARE = 0.08
"""Share of samples from anywhere in the case, seen as the first, coarse look of segmentation sees it."""
ANGLES = (5.0, 4.0, 5.0)
"""Standard deviations in degrees of the turns about the z, y and x axes."""
SCALE, STRETCH, JITTER_MM = 0.06, 0.03, 3.0
"""Deviation of the size (logarithm), largest stretch of an axis, deviation of the place."""


def draw_user_sample(
    case: UserSamples, rng: np.random.Generator, patch: Patch, spacing: float
) -> tuple[Tensor, Tensor]:
    """Image float32 and classes uint8, both (z, y, x) of shape ``patch``, at about ``spacing`` mm, on the CPU.

    Classes hold ``IGNORED`` where nothing can be learnt. Beyond the case lies background of mean grey.
    """
    import torch

    chance = torch.Generator().manual_seed(int(rng.integers(2**62)))
    library = natural.torch_library(chance)
    window = _draw_window(case, rng, patch, spacing)
    step = window.spacing * rng.uniform(1 - STRETCH, 1 + STRETCH, 3)
    bend = natural._smooth_bend(rng, library) if rng.random() < sampling.BEND_SHARE else None
    image, classes = _look_up(case, window, patch, step, bend)
    if not window.dental:
        image = sampling._normalised(image, image.reshape(-1)[::FINER])
    image = natural._augmented(image, rng, library)
    if rng.random() < sampling.MIRROR_SHARE:
        ignored = classes == IGNORED
        classes = sampling._mirrored(classes.masked_fill(ignored, 0)).masked_fill(ignored, IGNORED).flip(-1)
        image = image.flip(-1)
    return image.contiguous(), classes.contiguous()


def plain_sample(case: UserSamples, place: float, patch: Patch, spacing: float) -> Tensor:
    """An image (z, y, x) of the dental region as it is; ``place`` from 0 to 1 goes through the region diagonally."""
    low, high = _centres(case, patch, spacing)
    window = Window(low + place * (high - low), np.eye(3), spacing, True)
    return _look_up(case, window, patch, np.full(3, spacing), None)[0]


def _draw_window(case: UserSamples, rng: np.random.Generator, patch: Patch, spacing: float) -> Window:
    turn = sampling._turn(rng.normal(0, ANGLES))
    scaled = spacing * float(np.exp(rng.normal(0, SCALE)))
    if rng.random() < ELSEWHERE_SHARE:
        return Window(rng.uniform(0, case.image.shape) * case.spacing, turn, scaled, False)
    low, high = _centres(case, patch, spacing)
    return Window(rng.uniform(low, high) + rng.normal(0, JITTER_MM, 3), turn, scaled, True)


def _centres(case: UserSamples, patch: Patch, spacing: float) -> tuple[Any, Any]:
    """Between which places (z, y, x) mm the middle of a tile of the dental region lies."""
    low, high = np.array(case.region).T * case.spacing
    half = np.minimum(np.array(patch) * spacing, high - low) / 2
    return low + half, high - half


def _look_up(
    case: UserSamples, window: Window, patch: Patch, step: Any, bend: sampling.Bend | None
) -> tuple[Tensor, Tensor]:
    """Grey values, averaged over the points of a finer grid, and classes of the patch's points."""
    import torch
    from torch.nn import functional

    z, y, x = (n * FINER for n in patch)
    origin, size = np.full(3, -0.5), case.image.shape
    fine = sampling._Grid(window, (z, y, x), step / FINER).places(origin, case.spacing, bend, "cpu")
    # grid_sample wants x first, and -1 to 1 from the outer edge of the first voxel to that of the last.
    at = [(2 * places + 1) / n - 1 for places, n in zip(fine, size, strict=True)]
    grey = torch.from_numpy(case.image.astype(np.float32))[None, None]
    image = functional.grid_sample(grey, torch.stack(at[::-1], -1)[None], align_corners=False)
    coarse = sampling._Grid(window, patch, step).places(origin, case.spacing, bend, "cpu")
    return functional.avg_pool3d(image, FINER)[0, 0], _nearest(case.classes, list(coarse))


def _nearest(classes: Any, places: list[Tensor]) -> Tensor:
    """The class nearest to each point, 0 beyond the case."""
    import torch

    flat, seen = torch.zeros_like(places[0], dtype=torch.int64), torch.ones_like(places[0], dtype=torch.bool)
    for n, at in zip(classes.shape, places, strict=True):
        seen &= (at >= -0.5) & (at < n - 0.5)
        flat = flat * n + at.round().clamp(0, n - 1).long()
    # The map on disk is read only where the patch lies.
    return torch.from_numpy(classes.reshape(-1)[flat.numpy()]).masked_fill(~seen, 0)
