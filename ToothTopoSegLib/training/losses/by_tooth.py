"""The topology of single teeth for a network that tells core and border of teeth, but no tooth from another.

In: scores of the classes no tooth, core and border, and the true tooth classes. Out: scores as a network with a class
for every tooth would have them, twice: of whole teeth (core or border against the rest) and of their cores (against
everything else), each voxel being that of the nearest true tooth, as it is when the network is used. So the
topological loss sees torn teeth, holes, and what joins teeth across a gap in the one, and cores that run into each
other through the borders that should part them in the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.segmentation.surface import BORDER, CORE
from ToothTopoSegLib.training.losses.partial import NEVER
from ToothTopoSegLib.training.losses.places import LAST_TOOTH

if TYPE_CHECKING:
    from torch import Tensor


def by_tooth(scores: Tensor, targets: Tensor, teeth: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Scores (b, 33, z, y, x) and true classes (b, z, y, x) of whole teeth, and the same of their cores.

    ``scores`` (b, 3, z, y, x) are those of no tooth, core and border, ``targets`` (b, z, y, x) the true ones of these
    classes, ``teeth`` (b, z, y, x) the true classes 1..32 of the teeth, any other value being none.
    """
    import torch

    own = torch.where(targets > 0, teeth, 0).long()
    nearest = torch.stack([torch.from_numpy(_nearest(sample)) for sample in own.cpu().numpy()]).to(scores.device)
    none, core, border = scores[:, 0], scores[:, CORE], scores[:, BORDER]
    whole = _spread(none, torch.logaddexp(core, border), nearest)
    cores = _spread(torch.logaddexp(none, border), core, nearest)
    return [(whole, own), (cores, torch.where(targets == CORE, own, 0))]


def _nearest(teeth: NDArray[np.int64]) -> NDArray[np.int64]:
    """The tooth class nearest to every voxel (z, y, x); the first one where there is none."""
    from scipy import ndimage

    if not teeth.any():
        return np.ones_like(teeth)
    places = ndimage.distance_transform_edt(teeth == 0, return_distances=False, return_indices=True)
    return np.asarray(teeth[tuple(places)])


def _spread(none: Tensor, tooth: Tensor, which: Tensor) -> Tensor:
    import torch

    scores = none.new_full((len(none), LAST_TOOTH + 1, *none.shape[1:]), NEVER)
    scores[:, 0] = none
    return torch.scatter(scores, 1, which[:, None], tooth[:, None])
