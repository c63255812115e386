"""The scanner: grey values as a cone-beam CT would show them, from a tissue map.

In: tissue map uint8 (z, y, x) of :mod:`ToothTopoSegLib.phantom.head`. Out: float32 grey values on a random scale that
need not be Hounsfield units: contrast, marrow texture, point spread, metal streaks, cupping, bias and noise all vary
(domain randomisation after Billot et al., SynthSeg, Medical Image Analysis 2023), so that a network trained on these
scans takes a real one for one more variation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.phantom import head

Array = NDArray[Any]


@dataclass(frozen=True)
class Imaging:
    """One scanner setting.

    ``grey`` is the grey value per tissue, ``blur_mm`` and ``noise`` standard deviations in mm and grey values,
    ``noise_grain`` the grain of the noise in voxels. ``texture`` and ``streaks`` are shares of the contrast between
    dentine and soft tissue, ``bias`` and ``cupping`` shares of the grey value above air. Values end at ``saturation``
    times the range from air to enamel; ``bits`` is the depth of rounding (above 12 as 12).
    """

    grey: tuple[float, ...]
    texture: float
    blur_mm: float
    noise: float
    noise_grain: float
    bias: float
    cupping: float
    streaks: float
    gamma: float
    bits: int
    saturation: float


def draw_imaging(rng: np.random.Generator, hard: bool = False) -> Imaging:
    """A random scanner; ``hard`` means more blur, noise and metal artefact."""
    grey = np.zeros(11)
    soft = rng.uniform(-20, 120)
    grey[head.AIR] = rng.uniform(-1050, -450)
    grey[[head.SOFT, head.MUSCLE]] = soft, soft + rng.uniform(-10, 90)
    grey[head.FAT] = soft - rng.uniform(20, 200)
    grey[head.TRABECULAR] = soft + rng.uniform(60, 650)
    dentine = soft + rng.uniform(550, 1500)
    grey[head.DENTINE] = dentine
    grey[head.CORTICAL] = soft + (dentine - soft) * rng.uniform(0.55, 1.2)
    grey[head.ENAMEL] = dentine + (dentine - soft) * rng.uniform(0.2, 1.3)
    grey[head.PULP] = soft + (dentine - soft) * rng.uniform(0.0, 0.45)
    grey[head.METAL] = grey[head.ENAMEL] * rng.uniform(1.1, 3.0)
    grey[head.GUTTA] = grey[head.ENAMEL] * rng.uniform(0.9, 1.6)
    spread = (dentine - soft) * (1.6 if hard else 1.0)
    return Imaging(
        grey=tuple(float(g) for g in grey),
        texture=float(rng.uniform(0.0, 0.35)),
        blur_mm=float(rng.uniform(0.1, 0.6) + (0.15 if hard else 0)),
        noise=float(spread * rng.uniform(0.0, 0.22) * rng.random()),
        noise_grain=float(rng.uniform(0.0, 0.9)),
        bias=float(abs(rng.normal(0, 0.1))),
        cupping=float(rng.uniform(-0.05, 0.25)),
        streaks=float(rng.uniform(0.0, 0.5 if hard else 0.35)),
        gamma=float(np.exp(rng.normal(0, 0.15))),
        bits=int(rng.choice([8, 12, 16, 16])),
        saturation=float(rng.uniform(1.0, 1.8)),
    )


def _add_streaks(grey: Array, metal: Array, spacing: Array, strength: float, rng: np.random.Generator) -> None:
    """Bright and dark rays in the axial slices through metal, fading with distance, in place."""
    slices = np.flatnonzero(metal.any(axis=(1, 2)))
    if not len(slices):
        return
    rays = [(int(rng.integers(3, 17)), rng.uniform(0, 2 * np.pi), rng.normal()) for _ in range(5)]
    reach = rng.uniform(10, 35)
    yy, xx = np.meshgrid(np.arange(metal.shape[1]), np.arange(metal.shape[2]), indexing="ij")
    sources = np.argwhere(metal[slices].any(axis=0))
    for cy, cx in sources[rng.choice(len(sources), min(4, len(sources)), replace=False)]:
        dy, dx = (yy - cy) * spacing[1], (xx - cx) * spacing[2]
        angle, radius = np.arctan2(dy, dx), np.hypot(dy, dx)
        fan = sum(a * np.cos(n * angle + p) for n, p, a in rays) * np.exp(-radius / reach)
        near = slices[metal[slices, max(cy - 2, 0) : cy + 3, max(cx - 2, 0) : cx + 3].any(axis=(1, 2))]
        grey[near] += (strength * fan * rng.uniform(0.5, 1.5)).astype(np.float32)


def expose(tissue: Array, spacing: tuple[float, float, float], imaging: Imaging, rng: np.random.Generator) -> Array:
    """Grey values, float32 (z, y, x), of a tissue map seen by a scanner; ``spacing`` (z, y, x) in mm.

    White noise is left to :func:`add_noise`, because it belongs to the grid of the finished scan.
    """
    from scipy.ndimage import gaussian_filter

    step = np.asarray(spacing)
    table = np.asarray(imaging.grey, dtype=np.float32)
    grey = table[tissue]
    contrast = float(table[head.DENTINE] - table[head.SOFT])
    if imaging.texture > 0:
        grain = head.smooth_noise(tissue.shape, max(6, int(min(np.asarray(tissue.shape) * step) / 3)), rng)
        grey += (imaging.texture * contrast * 0.5) * grain * (tissue == head.TRABECULAR)
        grey += 0.04 * contrast * grain * ((tissue == head.DENTINE) | (tissue == head.CORTICAL))
    metal = tissue == head.METAL
    grey = gaussian_filter(grey, imaging.blur_mm / step, output=np.float32)
    _add_streaks(grey, metal, step, imaging.streaks * contrast, rng)
    axes = [np.linspace(-1, 1, n, dtype=np.float32) for n in tissue.shape]
    centre = 1 - axes[1][None, :, None] ** 2 * 0.5 - axes[2][None, None, :] ** 2 * 0.5
    floor = float(table[head.AIR])
    field = 1 + imaging.bias * head.smooth_noise(tissue.shape, 3, rng) - imaging.cupping * centre
    grey = (grey - floor) * field + floor
    top = floor + (float(table[head.ENAMEL]) - floor) * imaging.saturation
    unit = np.clip((grey - floor) / (top - floor), 0, 1)
    return np.asarray(unit**imaging.gamma * (top - floor) + floor, dtype=np.float32)


def add_noise(grey: Array, imaging: Imaging, rng: np.random.Generator) -> Array:
    """Grey values with white and grainy noise and the scanner's rounding, float32 of the same shape."""
    from scipy.ndimage import gaussian_filter

    noise = rng.standard_normal(grey.shape, dtype=np.float32)
    if imaging.noise_grain > 0.3:
        noise = gaussian_filter(noise, imaging.noise_grain)
        noise /= max(float(noise.std()), 1e-6)
    noisy = grey + imaging.noise * noise
    low, high = float(grey.min()), float(grey.max())
    levels = 2 ** min(imaging.bits, 12) - 1
    step = max(high - low, 1e-3) / levels
    return np.asarray(np.round((np.clip(noisy, low, high) - low) / step) * step + low, dtype=np.float32)
