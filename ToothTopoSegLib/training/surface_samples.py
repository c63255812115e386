"""Training samples of the second network, which draws the surfaces of teeth: see segmentation.surface.

In: a case (2, z, y, x) of tissue and labels. Out: an image patch around a tooth with its classes, and what is learnt of
them: whether a voxel is no tooth, the core of one or its border: the outermost layer of voxels, which parts teeth that
touch. The scanners and the augmentations are those of :mod:`ToothTopoSegLib.training.sampling` and
:mod:`ToothTopoSegLib.training.natural`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.segmentation.classes import TEETH
from ToothTopoSegLib.segmentation.surface import BORDER, CORE
from ToothTopoSegLib.training import sampling
from ToothTopoSegLib.training.cases import CASE_CENTRE, spacing_of
from ToothTopoSegLib.training.sampling import Patch, Window

if TYPE_CHECKING:
    from torch import Tensor

TOOTH_SHARE = 0.9
"""Share of samples around a tooth; the others show anything between and beside the jaws."""
SPREAD_MM = 4.0
MAGNIFIED = (0.76, 1.25)
"""Voxels are smaller or larger than the recipe says by a factor between these: the network looks at scans on their own
grids (``OWN_GRID`` of segmentation.surface)."""
STEP_MM = 1.5
"""So far apart are the places of a case that are looked at for a tooth."""


def draw_surface_window(case: Tensor | NDArray[Any], rng: np.random.Generator, spacing: float) -> Window:
    """A random window around a tooth of a case (2, z, y, x), turned a little and magnified."""
    voxel = spacing_of(case.shape[1:])
    step = stride(voxel)
    thinned = case[1, ::step, ::step, ::step]
    labels = np.asarray(thinned if isinstance(thinned, np.ndarray) else thinned.cpu())
    teeth = np.argwhere(np.isin(labels, TEETH)) * step
    centre = np.array([rng.normal(0, 25), rng.normal(0, 20), rng.normal(0, 20)])
    if len(teeth) and rng.random() < TOOTH_SHARE:
        origin = (np.array(case.shape[1:]) - 1) / 2 - np.asarray(CASE_CENTRE[::-1]) / voxel
        centre = (teeth[rng.integers(len(teeth))] - origin) * voxel + rng.normal(0, SPREAD_MM, 3)
    turn = sampling._turn(np.array([rng.normal(0, 8), rng.normal(0, 8), rng.normal(0, 12)]))
    return Window(centre, turn, spacing * magnified(rng), dental=True)


def stride(voxel: float) -> int:
    """How many voxels of ``voxel`` mm lie between places, see :data:`STEP_MM`."""
    return max(1, round(STEP_MM / voxel))


def magnified(rng: np.random.Generator) -> float:
    """A factor by which voxels are larger than the recipe says, see :data:`MAGNIFIED`."""
    return float(np.exp(rng.uniform(*np.log(MAGNIFIED))))


def draw_surface_sample(
    case: Tensor | NDArray[Any],
    rng: np.random.Generator,
    patch: Patch,
    spacing: float,
    setting: str = "plain",
    hard: float = sampling.HARD_SHARE,
) -> tuple[Tensor, Tensor]:
    """A sample around a tooth, else as ``draw_sample``: its classes are those of the teeth, each by its number."""
    return sampling.draw_sample(case, rng, patch, spacing, setting, draw_surface_window(case, rng, spacing), hard)


def core_and_border(classes: Tensor) -> Tensor:
    """``CORE`` and ``BORDER`` of the teeth among class indices (b, z, y, x), uint8: borders have another class beside.

    Everything else is 0.
    """
    import torch
    from torch.nn import functional

    grown = functional.max_pool3d(classes.float(), 3, 1, 1)
    shrunk = -functional.max_pool3d(-classes.float(), 3, 1, 1)
    tooth = (classes >= 1) & (classes <= len(TEETH))
    return torch.where(tooth, torch.where(grown != shrunk, BORDER, CORE), 0).to(torch.uint8)
