"""Same-Class Neighbour Penalization (SCNP): every score is replaced by that of its worst neighbour of the same class.

J. M. Valverde, D. P. Papadopoulos, R. Larsen, A. B. Dahl, *Towards High-Quality Image Segmentation: Improving Topology
Accuracy by Penalizing Neighbor Pixels*, CVPR 2026 (arXiv 2603.18671). Before cross-entropy and Dice, with y the true
class and W(v) the voxels around v,

    z'_c(v) = min of z_c(u) over u in W(v) with y(u) = c    if y(v) = c
    z'_c(v) = max of z_c(u) over u in W(v) with y(u) != c   otherwise

so that a voxel is only as good as the poorest of its neighbours, and the gradient goes there. In training alone: the
network's output stays as it is.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def penalised(scores: Tensor, classes: Tensor, size: int = 3) -> Tensor:
    """Scores (b, c, z, y, x) as seen through their worst neighbours in a window of ``size`` voxels, of the same type.

    ``classes`` (b, z, y, x) are the true ones. Raises ValueError for a window that has no middle. With a window of one
    voxel nothing changes.
    """
    from torch.nn import functional

    if size < 1 or size % 2 == 0:
        raise ValueError(f"the window has {size} voxels; expected an odd number of at least 1")
    if scores.numel() == 0 or size == 1:
        return scores
    index = classes.long()[:, None]
    # in place, because a new tensor would not have classes side by side as the scores have: the windows below then take
    # a third of the time
    rivals = scores.clone().scatter_(1, index, _lowest(scores))
    # a window of size^3 is one of size voxels along each axis in turn
    for axis in range(3):
        window = tuple(size if a == axis else 1 for a in range(3))
        rivals = functional.max_pool3d(rivals, window, stride=1, padding=tuple(n // 2 for n in window))
    return rivals.scatter_(1, index, _poorest(scores.gather(1, index), index, size))


def _poorest(own: Tensor, classes: Tensor, size: int) -> Tensor:
    """The lowest of the scores (b, 1, z, y, x) of the true class around a voxel, among voxels of its class."""
    import torch
    from torch.nn import functional

    half = size // 2
    around = functional.pad(own, (half,) * 6)
    labels = functional.pad(classes, (half,) * 6, value=-1)
    poorest = own
    for steps in product(range(size), repeat=3):
        there = (..., *(slice(a, a + n) for a, n in zip(steps, own.shape[2:], strict=True)))
        poorest = torch.minimum(poorest, torch.where(labels[there] == classes, around[there], own))
    return poorest


def _lowest(scores: Tensor) -> float:
    import torch

    return float(torch.finfo(scores.dtype).min)
