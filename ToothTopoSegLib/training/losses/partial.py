"""Labels that say less than the network can: jaws that nobody labelled, and voxels that teach nothing.

Whoever labels teeth seldom labels the bone around them. To a network with classes for the jaws, "background" then means
"no tooth": the scores of background and of jaws without labels are added up (log of summed exponentials) before any
loss sees them, so that nothing pulls jaw voxels towards background or away from it, while tooth against the rest is
learnt as ever. Where nothing can be learnt, scores are replaced by certainty: loss and gradient are zero there, for
every term, whatever it looks at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ToothTopoSegLib.training.losses.overlap import coarser

if TYPE_CHECKING:
    from torch import Tensor

NEVER = -1e4
"""Score of a class that is out of the question."""
IGNORED = 255
"""Class of voxels that teach nothing."""


def partly_labelled(
    outputs: Sequence[Tensor], classes: Tensor, merged: Sequence[Sequence[int]]
) -> tuple[list[Tensor], Tensor]:
    """Scores and classes for an objective that knows nothing of this.

    ``outputs`` are scores (b, c, z, y, x) from the finest to the coarsest, each half the size of the one before,
    ``classes`` (b, z, y, x) hold ``IGNORED`` where nothing can be learnt, and ``merged`` names for every sample the
    classes that count as background.
    """
    ignored = classes == IGNORED
    seen = [_with_merged(scores, merged) for scores in outputs]
    if bool(ignored.any()):
        seen = [_certain(scores, coarser(ignored, level)) for level, scores in enumerate(seen)]
    return seen, classes.masked_fill(ignored, 0)


def _with_merged(scores: Tensor, merged: Sequence[Sequence[int]]) -> Tensor:
    import torch

    if not any(merged):
        return scores
    return torch.stack([_merged(sample, list(others)) for sample, others in zip(scores, merged, strict=True)])


def _merged(scores: Tensor, others: list[int]) -> Tensor:
    import torch

    if not others:
        return scores
    background = torch.logsumexp(scores[[0, *others]], 0, keepdim=True)
    gone = torch.zeros(len(scores) - 1, dtype=torch.bool, device=scores.device)
    gone[[other - 1 for other in others]] = True
    return torch.cat([background, scores[1:].masked_fill(gone[:, None, None, None], NEVER)])


def _certain(scores: Tensor, where: Tensor) -> Tensor:
    """Background, and nothing else, where asked (b, z, y, x)."""
    import torch

    sure = torch.full_like(scores[:, :1], -NEVER)
    never = torch.full_like(scores[:, 1:], NEVER)
    return torch.where(where[:, None], torch.cat([sure, never], 1), scores)
