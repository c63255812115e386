"""What the form of a tooth says of its type, whatever its place in the row: incisor, canine, premolar or molar.

In: the voxels of one tooth. Out: for each of the eight positions of its jaw how likely a tooth of that form is. The
first network counts teeth along the arch and calls a molar a premolar where the premolar before it is gone and the gap
has closed; the form of a tooth does not depend on how its row was counted. Measured are volume, length, and at five
depths under the biting edge the area and the two main widths of the cross-section. Their distribution is a normal one
for each type, with one covariance for all (linear discriminant analysis; Fisher, Annals of Eugenics 1936;7:179-188), so
that what cannot be measured of a short tooth is simply left out. ``training/tooth_shapes.py`` learns means and
covariance from phantoms.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

FILE = "tooth_shapes.json"
DEPTHS_MM = ((1.0, 2.5), (3.0, 5.0), (6.0, 8.0), (9.0, 11.0), (12.0, 14.0))
"""From and to where cross-sections are taken, from the biting edge on."""
FEATURES = 2 + 3 * len(DEPTHS_MM)
POSITIONS = 8
LONG = 1.6
"""A tooth so many times as long as it is wide lies along its longest axis, however it is tilted; another one stands as
upright as one of its main axes does."""
BEVEL_MM = 2.0
"""Where the border of the view cuts roots, it cuts them aslant: so much of what is left is not measured."""
FEWEST_VOXELS = 6
"""With fewer voxels a cross-section is none."""


def form(mask: NDArray[np.bool_], spacing: float, upper: bool, whole: bool = True) -> NDArray[np.float64]:
    """The features (:data:`FEATURES`,) of a tooth (z, y, x) with cubic voxels, logarithms of mm, mm2 and mm3.

    The axis z points up; ``upper`` teeth bite downwards. NaN is what the tooth is too short to tell, and what its roots
    would where it is not ``whole``, because the border of the view cuts them off. Raises ValueError for a mask without
    voxels.
    """
    places = np.argwhere(mask) * spacing
    if len(places) == 0:
        raise ValueError("there is no voxel of the tooth")
    places = places - places.mean(0)
    # a voxel is no point
    own = np.eye(3) * spacing**2 / 12
    spread, axes = np.linalg.eigh(places.T @ places / len(places) + own)
    upright = 2 if spread[2] > LONG**2 * spread[1] else int(np.abs(axes[0]).argmax())
    axis = axes[:, upright] * (-1 if (axes[0, upright] < 0) != upper else 1)
    across = places @ np.delete(axes, upright, axis=1)
    height = places @ axis
    low, high = np.percentile(height, (0.5, 99.5))
    found = [len(places) * spacing**3, high - low + spacing] if whole else [np.nan] * 2
    for first, last in DEPTHS_MM:
        if not whole and last > high - low - BEVEL_MM:
            found += [np.nan] * 3
            continue
        section = across[(high - height >= first) & (high - height < last)]
        found += _section(section, spacing, last - first)
    return np.asarray(np.log(found))


def _section(places: Array, spacing: float, thickness: float) -> list[float]:
    """Area and standard deviations along the two main axes of the places (n, 2) of a slab; NaN where they are few."""
    if len(places) < FEWEST_VOXELS:
        return [np.nan] * 3
    spread = np.linalg.eigvalsh(np.cov(places.T) + np.eye(2) * spacing**2 / 12)
    return [len(places) * spacing**3 / thickness, float(np.sqrt(spread[0])), float(np.sqrt(spread[1]))]


@dataclass(frozen=True, eq=False)
class Forms:
    """What teeth look like: ``means`` (2, 8, features), upper jaw first, and their common ``covariance``."""

    means: Array
    covariance: Array

    def nats(self, features: Array, upper: bool) -> NDArray[np.float64]:
        """Log density (8,) of the features (features,) for the positions of a jaw, up to a constant of the features."""
        there = np.isfinite(features)
        off = features[there] - self.means[0 if upper else 1][:, there]
        whitened = np.linalg.solve(self.covariance[np.ix_(there, there)], off.T)
        return np.asarray(-0.5 * (off.T * whitened).sum(0))


def learnt(features: Array, positions: NDArray[np.intp], upper: NDArray[np.bool_], shrink: float) -> Forms:
    """The forms of teeth (n, features) of known position 0..7 and jaw.

    ``shrink`` is the share of the covariance that is taken without what is between two features, so that rarely seen
    combinations do not count as impossible (Friedman, JASA 1989;84:165-175). Raises ValueError where a type is missing.
    """
    means = np.empty((2, POSITIONS, features.shape[1]))
    rest = np.empty_like(features)
    for jaw in (0, 1):
        for position in range(POSITIONS):
            these = (upper == (jaw == 0)) & (positions == position)
            if not np.isfinite(features[these]).any(0).all():
                raise ValueError(f"too few teeth of position {position + 1}")
            means[jaw, position] = np.nanmean(features[these], 0)
            rest[these] = features[these] - means[jaw, position]
    # values above nothing, so that the whole can be solved
    covariance = covariance_of(rest, 1e-4)
    return Forms(means, (1 - shrink) * covariance + shrink * np.diag(np.diag(covariance)))


def covariance_of(rest: Array, least: float = 0.0) -> NDArray[np.float64]:
    """Covariance of what is left (n, features) of features beside their means, of which some are missing (NaN).

    Each entry has teeth of its own, so that the whole need not be a covariance: no eigenvalue is below ``least``.
    """
    there = np.isfinite(rest)
    filled, counts = np.where(there, rest, 0.0), there.T.astype(float) @ there
    values, vectors = np.linalg.eigh(filled.T @ filled / counts)
    return np.asarray((vectors * np.maximum(values, least)) @ vectors.T)


@lru_cache(maxsize=1)
def forms(path: Path | None = None) -> Forms:
    """The forms that come with this program, or those of another file."""
    from ToothTopoSegLib.resources import resource_folder

    content = json.loads((path or resource_folder() / "Models" / FILE).read_text(encoding="utf-8"))
    return Forms(np.asarray(content["means"]), np.asarray(content["covariance"]))
