"""How bright each tissue is: grey values as scanners give them, and two laws that draw them.

``natural`` is what training sees: values around those of real cone beams (air, fat, soft tissue, marrow, bone and
dentine that overlap, enamel above, metal far above), scattered far more widely than scanners differ. ``foreign`` is
another law, never trained on: a power of the physical density with an error of its own for each tissue, so that bone
may be brighter than dentine and pulp darker than muscle.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.phantom import head
from ToothTopoSegLib.phantom.projection import WATER

Array = NDArray[Any]
TISSUES = head.TITANIUM + 1
MINERAL = (head.TRABECULAR, head.CORTICAL, head.DENTINE, head.ENAMEL)
"""What is mineral in a body."""
DENSITY = {
    head.AIR: 0.0,
    head.FAT: 0.93,
    head.SOFT: 1.04,
    head.MUSCLE: 1.06,
    head.PULP: 1.03,
    head.TRABECULAR: 1.25,
    head.CORTICAL: 1.9,
    head.DENTINE: 2.1,
    head.ENAMEL: 2.9,
}
"""Densities in g/cm3 (ICRU Report 46)."""


def natural_contrast(rng: np.random.Generator) -> Array:
    """Grey values (tissues,), water near 0 and air near -1000, of a scanner as there are."""
    grey = np.zeros(TISSUES)
    grey[head.AIR] = -1000
    soft = rng.uniform(-20, 120)
    grey[[head.SOFT, head.MUSCLE]] = soft, soft + rng.uniform(-10, 60)
    grey[head.FAT] = soft - rng.uniform(20, 180)
    dentine = rng.uniform(500, 1700)
    above = np.zeros(TISSUES)
    above[head.DENTINE] = dentine
    above[head.CORTICAL] = dentine * rng.uniform(0.65, 1.3)
    above[head.TRABECULAR] = above[head.CORTICAL] * rng.uniform(0.05, 0.6)
    above[head.ENAMEL] = enamel = dentine * rng.uniform(1.25, 2.2)
    above[head.PULP] = dentine * rng.uniform(0.0, 0.45)
    for material, attenuation in _draw_materials(rng).items():
        above[material] = max(attenuation / WATER * (soft + 1000), 1.02 * enamel)
    if rng.random() < 0.2:
        above[list(MINERAL)] *= np.exp(rng.normal(0, 0.15, len(MINERAL)))
        above[head.ENAMEL] = max(above[head.ENAMEL], 1.1 * above[head.DENTINE])
    return np.where(above > 0, soft + above, grey)


def foreign_contrast(rng: np.random.Generator) -> Array:
    """Grey values (tissues,) by a power law of density with an error of its own for each tissue."""
    density = np.array([DENSITY.get(tissue, 1.0) for tissue in range(TISSUES)])
    power = rng.uniform(0.7, 1.6)
    error = np.exp(rng.normal(0, 0.18, TISSUES))
    mineral = np.sign(density - 1.04) * np.abs(density - 1.04) ** power
    grey = np.where(density > 1.1, rng.uniform(500, 1400) * mineral * error, 1000 * mineral)
    grey[head.FAT], grey[head.PULP], grey[head.MUSCLE] = rng.uniform(-60, 40), rng.uniform(-120, 120), rng.normal(0, 30)
    grey[head.AIR] = -1000
    for material, attenuation in _draw_materials(rng).items():
        grey[material] = 1000 * attenuation / WATER
    return np.asarray(grey)


def _draw_materials(rng: np.random.Generator) -> dict[int, float]:
    """Attenuation in 1/mm, beyond that of water, of what no body is made of.

    A scanner shows these values as far as its rays come through; what is beyond the limits of the file is saturated.
    """
    zirconia = rng.random() < 0.4
    return {
        head.METAL: float(np.exp(rng.uniform(np.log(0.15), np.log(2.0)))),
        head.TITANIUM: float(rng.uniform(0.08, 0.3)),
        head.CERAMIC: float(rng.uniform(0.15, 0.5) if zirconia else rng.uniform(0.03, 0.08)),
        head.GUTTA: float(rng.uniform(0.04, 0.2)),
    }
