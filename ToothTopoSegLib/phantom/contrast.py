"""How bright each tissue is: grey values as scanners give them, and two laws that draw them.

``natural`` is what training sees: values around those of real cone beams (air, fat, soft tissue, marrow, bone and
dentine that overlap, enamel above, metal saturated), scattered far more widely than scanners differ. ``foreign`` is
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
    head.GUTTA: 3.2,
    head.CERAMIC: 3.2,
    head.TITANIUM: 4.5,
    head.METAL: 9.0,
}
"""Densities in g/cm3 (ICRU Report 46 for tissues)."""


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
    above[head.GUTTA] = enamel * rng.uniform(0.95, 1.7)
    above[head.CERAMIC] = enamel * rng.uniform(0.9, 2.2)
    above[head.TITANIUM] = enamel * rng.uniform(1.1, 2.5)
    above[head.METAL] = enamel * rng.uniform(1.3, 4.0)
    if rng.random() < 0.2:
        above[list(MINERAL)] *= np.exp(rng.normal(0, 0.15, len(MINERAL)))
    return np.where(above > 0, soft + above, grey)


def foreign_contrast(rng: np.random.Generator) -> Array:
    """Grey values (tissues,) by a power law of density with an error of its own for each tissue."""
    density = np.array([DENSITY[tissue] for tissue in range(TISSUES)])
    power = rng.uniform(0.7, 1.6)
    error = np.exp(rng.normal(0, 0.18, TISSUES))
    mineral = np.sign(density - 1.04) * np.abs(density - 1.04) ** power
    grey = np.where(density > 1.1, rng.uniform(500, 1400) * mineral * error, 1000 * mineral)
    grey[head.FAT], grey[head.PULP], grey[head.MUSCLE] = rng.uniform(-60, 40), rng.uniform(-120, 120), rng.normal(0, 30)
    grey[head.AIR] = -1000
    return np.asarray(grey)


def draw_density_of_metal(rng: np.random.Generator) -> dict[int, float]:
    """Attenuation in 1/mm beyond that of water of what no body is made of: steel and amalgam to glass ceramic."""
    return {
        head.METAL: float(rng.uniform(0.35, 2.5)),
        head.TITANIUM: float(rng.uniform(0.18, 0.4)),
        head.CERAMIC: float(rng.choice([rng.uniform(0.05, 0.15), rng.uniform(0.4, 1.2)])),
        head.GUTTA: float(rng.uniform(0.08, 0.3)),
    }


def dense_attenuation(grey: Array, metal: dict[int, float]) -> Array:
    """Attenuation in 1/mm of each tissue beyond that of soft tissue; metal has its own, whatever its grey value."""
    excess = np.maximum(grey - grey[head.SOFT], 0) * WATER / (grey[head.SOFT] - grey[head.AIR])
    excess[head.MUSCLE] = excess[head.PULP] = 0
    for tissue, value in metal.items():
        excess[tissue] = value
    return excess
