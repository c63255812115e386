"""Upper teeth above the bite, lower teeth below it: an anatomical prior on the blended class scores.

In: class scores of the dental region. Out: the same, with the scores of tooth classes struck out where no such tooth
can be: on the wrong side of the occlusal plane or farther from it than crown and root are long. Dense cortical bone at
the border of the mandible or in the cheekbone then goes to its next best class, the jaw or the background.

The plane is fitted to the scores' own upper and lower teeth as the least-squares border between them, tilted at most as
far as heads are; with one jaw in view nothing is struck out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

UPPER = slice(1, 17)
LOWER = slice(17, 33)
REACH_MM = 34.0
"""Longest distance of a root tip from the bite: the longest canines measure 27 to 32 mm over all (Nelson & Ash)."""
OVERLAP_MM = 8.0
"""How far crowns may cross the plane: overbite, the curves of Spee and Wilson, a closed bite."""
LARGEST_SLOPE = 0.6
FEWEST_VOXELS = 60


@dataclass(frozen=True)
class Plane:
    """Height z = ``level`` + ``slope_y`` y + ``slope_x`` x of the bite, all in voxels of the region."""

    level: float
    slope_y: float
    slope_x: float

    def height(self, shape: tuple[int, int, int]) -> NDArray[np.float32]:
        """Signed height (z, y, x) in voxels above the plane."""
        z, y, x = (np.arange(n, dtype=np.float32) for n in shape)
        return np.asarray(z[:, None, None] - self.level - self.slope_y * y[:, None] - self.slope_x * x, np.float32)


def _border(upper: NDArray[np.intp], lower: NDArray[np.intp]) -> Plane:
    """Least-squares border between two clouds of points (n, 3) as (z, y, x), both weighing the same."""
    points = np.concatenate([upper, lower]).astype(float)
    side = np.concatenate([np.ones(len(upper)), -np.ones(len(lower))])
    weight = np.concatenate([np.full(len(upper), 1 / len(upper)), np.full(len(lower), 1 / len(lower))])
    system = np.column_stack([points, np.ones(len(points))]) * np.sqrt(weight)[:, None]
    z, y, x, constant = np.linalg.lstsq(system, side * np.sqrt(weight), rcond=None)[0]
    if z <= 1e-6:  # upside down or unrelated: the level border is the best guess
        return Plane(float((upper[:, 0].mean() + lower[:, 0].mean()) / 2), 0.0, 0.0)
    slope_y, slope_x = (float(np.clip(-v / z, -LARGEST_SLOPE, LARGEST_SLOPE)) for v in (y, x))
    middle = (upper.mean(0) + lower.mean(0)) / 2
    level = -constant / z if abs(y / z) < LARGEST_SLOPE and abs(x / z) < LARGEST_SLOPE else None
    return Plane(
        float(middle[0] - slope_y * middle[1] - slope_x * middle[2]) if level is None else float(level),
        slope_y,
        slope_x,
    )


def occlusal_plane(classes: NDArray[np.uint8], spacing: float) -> Plane | None:
    """The plane between upper and lower teeth of a class map (z, y, x, upwards); None unless both jaws show teeth.

    Fitted three times, each time on the teeth that lie within a tooth's reach of the plane before.
    """
    upper = np.argwhere((classes >= UPPER.start) & (classes < UPPER.stop))
    lower = np.argwhere((classes >= LOWER.start) & (classes < LOWER.stop))
    plane = None
    for _ in range(4):
        if min(len(upper), len(lower)) < FEWEST_VOXELS:
            return plane
        plane = _border(upper, lower)
        high, low = (p[:, 0] - plane.level - p[:, 1:] @ (plane.slope_y, plane.slope_x) for p in (upper, lower))
        near, over = REACH_MM / spacing, OVERLAP_MM / spacing
        upper, lower = upper[(high > -over) & (high < near)], lower[(low < over) & (low > -near)]
    return plane


def strike_out(scores: NDArray[np.float32], spacing: float) -> None:
    """Lower the scores (classes, z, y, x) of impossible teeth below all others, in place."""
    plane = occlusal_plane(scores.argmax(0).astype(np.uint8), spacing)
    if plane is None:
        return
    height = plane.height((scores.shape[1], scores.shape[2], scores.shape[3])) * np.float32(spacing)
    least = float(scores.min()) - 1.0
    for teeth, h in ((UPPER, height), (LOWER, -height)):
        impossible = (h < -OVERLAP_MM) | (h > REACH_MM)
        for index in range(teeth.start, teeth.stop):
            scores[index][impossible] = least
