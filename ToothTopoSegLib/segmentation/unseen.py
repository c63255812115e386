"""What teeth are that the first network has not seen at all and the second one has: mostly wisdom teeth in the bone.

In: what the first network would call each piece of a tooth, which of them it has not seen, and where they are. Out: the
same, with the unseen ones behind a molar called any of the teeth behind that one. What a network calls that which it
takes for bone says nothing; the row they stand in does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.anatomy.fdi import is_upper, position, quadrant
from ToothTopoSegLib.segmentation.classes import TEETH

Array = NDArray[Any]

LEAST_MM3 = 100.0
"""Smaller pieces are parts of teeth."""
MOLAR, WISDOM = 6, 8
NEAR_MM = 20.0
"""Middles of teeth next to each other are no farther apart."""
MOST_APART = 0.9
"""The probabilities with which teeth are of the upper jaw differ by more only where they are of different jaws."""

_POSITIONS = np.array([position(fdi) for fdi in TEETH])
_QUADRANTS = np.array([quadrant(fdi) for fdi in TEETH])
_UPPER = np.array([is_upper(fdi) for fdi in TEETH])


def behind_the_last(probability: Array, volumes: Array, centres: Array, unseen: NDArray[np.bool_]) -> Array:
    """The probabilities (n, 32) of the numbers of pieces, those of ``unseen`` ones (n,) by the molar in front of them.

    ``volumes`` (n,) are in mm3, ``centres`` (n, 3) as (z, y, x) in mm, y towards the back. A piece that is nearest
    to no molar which was seen, or is in front of it, stays as it is; of one whose jaw is certain (by the bite, see
    :mod:`ToothTopoSegLib.segmentation.jaws`) those of the other jaw are not looked at.
    """
    out = probability.copy()
    large = volumes >= LEAST_MM3
    known = np.flatnonzero(large & ~unseen)
    if len(known) == 0:
        return out
    upper = probability[:, _UPPER].sum(1) / np.maximum(probability.sum(1), 1e-9)
    for n in np.flatnonzero(large & unseen).tolist():
        away = np.linalg.norm(centres[known] - centres[n], axis=1)
        away[np.abs(upper[known] - upper[n]) > MOST_APART] = np.inf
        nearest = int(known[away.argmin()])
        number = int(probability[nearest].argmax())
        place = _POSITIONS[number]
        if away.min() <= NEAR_MM and MOLAR <= place < WISDOM and centres[n, 1] > centres[nearest, 1]:
            behind = (_QUADRANTS[number] == _QUADRANTS) & (place < _POSITIONS)
            out[n] = probability[n].sum() * behind / behind.sum()
    return out
