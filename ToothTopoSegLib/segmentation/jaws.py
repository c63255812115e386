"""Upper or lower: what stands above the bite is of the upper jaw, and what stands below it of the lower.

In: what the first network calls each piece of a tooth, and where the pieces are. Out: the same, with the numbers of
pieces on the wrong side of the bite given to their antagonists. Behind the last teeth, and where a tooth is cut by the
border of the view, the network at times takes an upper wisdom tooth for the lower one. The bite is a surface between
the teeth of both jaws, level from side to side and curved from front to back (F. Graf von Spee, Archiv fuer Anatomie
und Physiologie 1890:285-294); it is fitted to the teeth whose jaw is certain by least squares.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.anatomy.fdi import is_upper, opposite_jaw
from ToothTopoSegLib.segmentation.classes import TEETH

Array = NDArray[Any]

LEAST_MM3, LEAST_TOLD_MM3 = 100.0, 15.0
"""Smaller pieces may be the end of a root or of a cusp and tell nothing of the bite; and still smaller ones it tells
nothing of."""
SURE, FEWEST = 0.8, 2
"""With which probability a tooth is known to be of a jaw, and how many of both jaws have to be known."""
ROUNDS = 2
"""What the bite has told of teeth tells of others where the view ends above it and cuts the crowns of a jaw."""
NEAREST_MM, FARTHEST_MM = 1.5, 20.0
"""How far from the bite the middle of a tooth is at least, for its jaw to be told by that, and at most, for it to be a
tooth at all: of 2000 teeth of development phantoms those of the upper jaw are all above it, by 1.6 mm and more."""
LEAST_HALF_MM = 3.0
"""The middles of teeth stand at least so far from the bite, on average, or what is fitted is none."""
FLAT = 0.1
"""How much slope is held down, in teeth that say there is none 20 mm from the middle; curve counts ten times that."""

_UPPER = np.array([is_upper(fdi) for fdi in TEETH])
_OPPOSITE = np.array([TEETH.index(opposite_jaw(fdi)) for fdi in TEETH])


def in_one_jaw(probability: Array, volumes: Array, centres: Array) -> Array:
    """The probabilities (n, 32) of the numbers of pieces, those on the wrong side of the bite moved to the other jaw.

    ``volumes`` (n,) are in mm3, ``centres`` (n, 3) as (z, y, x) in mm, z upwards. Nothing moves where too few teeth of
    either jaw are certain.
    """
    for _ in range(ROUNDS):
        probability = _told(probability, volumes, centres)
    return probability


def _told(probability: Array, volumes: Array, centres: Array) -> Array:
    """The same, told by the bite of those teeth whose jaw is certain so far."""
    out = probability.copy()
    total = probability.sum(1)
    upper = probability[:, _UPPER].sum(1) / np.maximum(total, 1e-9)
    known = (volumes >= LEAST_MM3) & (total > 0) & (np.maximum(upper, 1 - upper) >= SURE)
    for n in np.flatnonzero((volumes >= LEAST_TOLD_MM3) & (total > 0)).tolist():
        others = known & (np.arange(len(known)) != n)
        above = upper[others] > 0.5
        if min(above.sum(), (~above).sum()) < FEWEST:
            continue
        height = _above_the_bite(centres[n], centres[others], above)
        if NEAREST_MM <= abs(height) <= FARTHEST_MM:
            own = _UPPER if height > 0 else ~_UPPER
            out[n] = np.where(own, probability[n] + probability[n, _OPPOSITE], 0.0)
    return out


def _above_the_bite(point: Array, others: Array, above: NDArray[np.bool_]) -> float:
    """How many mm a point (z, y, x) is above the bite of other teeth, ``above`` of which are upper ones; else 0."""
    middle = others[:, 1:].mean(0)
    places = np.column_stack([_surface(others[:, 1:] - middle), np.where(above, 1.0, -1.0)])
    held = np.diag([0.0, FLAT, FLAT, 1.0, 0.0])
    *bite, half = np.linalg.solve(places.T @ places + held, places.T @ others[:, 0])
    if half < LEAST_HALF_MM:
        return 0.0
    return float(point[0] - _surface(point[None, 1:] - middle)[0] @ bite)


def _surface(places: Array) -> NDArray[np.float64]:
    """What the height of the bite is made of at places (n, 2) as (y, x) in mm from its middle: (n, 4)."""
    y, x = places.T / 20.0
    return np.stack([np.ones_like(y), y, x, y**2], 1)
