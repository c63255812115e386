"""Right or left: teeth that stand above, below and behind each other are of one side.

In: what the first network calls each piece of a tooth, and where the pieces are. Out: the same, with the numbers of
back teeth of one place all on one side. Where little of the arch is in view, the network at times calls the upper teeth
right and the lower ones under them left, or takes every other one for its mirror image. Premolars and molars of the two
sides are centimetres apart, so that what belongs together is told by place, and its side by all of it together.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.anatomy.fdi import is_left, mirrored, position
from ToothTopoSegLib.segmentation.classes import TEETH

Array = NDArray[Any]

BACK = 4
"""The first position of a back tooth."""
REACH_MM = 12.0
"""Back teeth no farther apart than this, seen from above, belong together."""
LEAST_MM3 = 40.0
MOST_NATS = 3.0
"""How sure a single tooth is of its side at most."""

_RIGHT = ~np.array([is_left(fdi) for fdi in TEETH])
_POSITIONS = np.array([position(fdi) for fdi in TEETH])
_MIRROR = np.array([TEETH.index(mirrored(fdi)) for fdi in TEETH])


def on_one_side(probability: Array, volumes: Array, centres: Array) -> Array:
    """The probabilities (n, 32) of the numbers of pieces, those of back teeth moved to the side of their place.

    ``volumes`` (n,) are in mm3, ``centres`` (n, 2) in mm in the horizontal plane.
    """
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial.distance import cdist

    total = np.maximum(probability.sum(1), 1e-9)
    back = np.flatnonzero((probability @ _POSITIONS / total >= BACK) & (volumes >= LEAST_MM3))
    out = probability.copy()
    if len(back) == 0:
        return out
    groups = connected_components(cdist(centres[back], centres[back]) <= REACH_MM, directed=False)[1]
    right = probability[back][:, _RIGHT].sum(1) / total[back]
    odds = np.clip(np.log(right + 1e-3) - np.log(1 - right + 1e-3), -MOST_NATS, MOST_NATS)
    votes = np.bincount(groups, odds * volumes[back])
    for n, group in zip(back.tolist(), groups.tolist(), strict=True):
        side = _RIGHT if votes[group] > 0 else ~_RIGHT
        out[n] = np.where(side, probability[n] + probability[n, _MIRROR], 0.0)
    return out
