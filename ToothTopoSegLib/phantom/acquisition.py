"""Settings of a cone-beam scanner and how they are drawn at random.

Two settings: ``natural`` is what training sees, ``foreign`` another contrast law with another mix of artefacts, never
trained on, for honest tests of a model. What the settings do is in :mod:`ToothTopoSegLib.phantom.cone_beam`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ToothTopoSegLib.phantom import contrast, head
from ToothTopoSegLib.phantom.projection import Beam

SETTINGS = ("plain", "natural", "foreign")
"""``plain`` is the generator of :mod:`ToothTopoSegLib.phantom.scanner`."""


@dataclass(frozen=True)
class Move:
    """From a share of the exposure on (0 to 1), the patient is displaced by so many mm (z, y, x)."""

    start: float
    mm: tuple[float, float, float]


@dataclass(frozen=True)
class Response:
    """How grey values end up in a file: limits, bend, number of levels, and the values of the limits there."""

    floor: float
    top: float
    gamma: float
    levels: int
    low: float
    high: float


@dataclass(frozen=True)
class Foreign:
    """Artefacts of the foreign setting alone, in shares of contrast: blotchy noise, slices that flicker, moire."""

    blotches: float = 0.0
    flicker: float = 0.0
    moire: float = 0.0
    moire_waves: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Acquisition:
    """One scanner with one patient in it.

    ``grey`` is the grey value of each tissue. Shares of the contrast between dentine and soft tissue: ``texture`` (with
    a grain of ``texture_mm``), ``noise`` (with a grain in voxels), ``rings``. ``blur_mm`` is the deviation of the point
    spread (z, y, x); ``smear`` adds so many mm along z for each mm from the mid-plane. ``veil`` is scattered light, a
    share of the attenuation within ``veil_mm``; ``bias`` a share of the grey value above air, ``truncation`` a share of
    soft tissue above air, fading ``truncation_mm`` into the view. The exposure of ``moves`` begins at ``first_angle``,
    in half turns. ``sharpen`` times what a blur of ``sharpen_mm`` takes away is added at the end (negative: smoothed).
    ``beam`` is None for a scanner without errors of projection.
    """

    grey: tuple[float, ...]
    texture: float
    texture_mm: float
    blur_mm: tuple[float, float, float]
    smear: float
    beam: Beam | None
    veil: float
    veil_mm: float
    bias: float
    truncation: float
    truncation_mm: float
    rings: float
    moves: tuple[Move, ...]
    first_angle: float
    noise: float
    noise_grain: float
    sharpen: float
    sharpen_mm: float
    response: Response
    foreign: Foreign = Foreign()

    @property
    def span(self) -> float:
        """Grey values from air to soft tissue."""
        return self.grey[head.SOFT] - self.grey[head.AIR]

    @property
    def contrast(self) -> float:
        """Grey values from soft tissue to dentine."""
        return self.grey[head.DENTINE] - self.grey[head.SOFT]


def _at_times(rng: np.random.Generator, share: float, low: float, high: float) -> float:
    """A value between two limits in a share of draws, 0 in the others."""
    value, there = float(rng.uniform(low, high)), rng.random() < share
    return value if there else 0.0


def _draw_beam(rng: np.random.Generator, hard: bool, foreign: bool) -> Beam:
    return Beam(
        hardening=float(rng.uniform(0.1, 0.85 if hard else 0.7)),
        uncorrected=float(rng.uniform(0, 0.5)),
        scatter=float(rng.uniform(0, 1.0 if hard else 0.7)),
        photons=float(np.exp(rng.uniform(np.log(2e4 if hard else 5e4), np.log(3e6)))),
        blind=_at_times(rng, 0.5, 0.01, 0.06) if foreign else 0.0,
    )


def _draw_moves(rng: np.random.Generator, share: float) -> tuple[Move, ...]:
    """One or two moves of some tenths of a millimetre, in a share of scans."""
    if rng.random() >= share:
        return ()
    starts = np.sort(rng.uniform(0.1, 0.9, int(rng.integers(1, 3))))
    size = rng.uniform(0.2, 1.1)
    return tuple(Move(float(s), _triple(rng.normal(0, 1, 3) * size * np.array([0.5, 1, 1]))) for s in starts)


def _triple(values: np.ndarray) -> tuple[float, float, float]:
    z, y, x = (float(v) for v in values)
    return z, y, x


def _draw_response(rng: np.random.Generator, grey: np.ndarray) -> Response:
    """Limits and depth of the file: Hounsfield-like, unsigned 12 bits, or an export of 8 bits through some window."""
    air, soft, dentine, enamel = (float(grey[t]) for t in (head.AIR, head.SOFT, head.DENTINE, head.ENAMEL))
    enamel = max(enamel, dentine + 0.1 * (dentine - soft))
    # Many scanners cut off at or well above air; others leave room for its noise.
    floor = air + (soft - air) * float(rng.choice([-0.3, 0.0, rng.uniform(0, 0.7)]))
    top = dentine + (enamel - dentine) * float(rng.uniform(0.9, 4.0))
    kind = rng.choice(["hounsfield", "unsigned", "shifted", "8 bits"])
    gamma = float(np.exp(rng.normal(0, 0.12)))
    if kind == "8 bits":
        if rng.random() < 0.4:
            top = dentine + (enamel - dentine) * float(rng.uniform(0.3, 1.0))
        return Response(floor, top, gamma, 255, 0.0, 255.0)
    if kind == "unsigned":
        return Response(floor, top, gamma, 4095, 0.0, 4095.0)
    slope, offset = (1.0, 0.0) if kind == "hounsfield" else (rng.uniform(0.3, 1.6), rng.uniform(-500, 1500))
    low, high = float(floor * slope + offset), float(top * slope + offset)
    return Response(floor, top, gamma, max(1, round(high - low)), low, high)


def draw_acquisition(
    rng: np.random.Generator, hard: bool = False, setting: str = "natural", scanner: int | None = None
) -> Acquisition:
    """A random scanner of a setting, "natural" or "foreign"; ``hard`` means more blur, noise, motion and metal.

    It is the same one whenever ``scanner`` is the same seed, and only motion and the first angle follow from ``rng``.
    Raises ValueError for another setting.
    """
    if scanner is not None:
        own, drawn = (draw_acquisition(r, hard, setting) for r in (np.random.default_rng(scanner), rng))
        return replace(own, moves=drawn.moves, first_angle=drawn.first_angle)
    if setting not in SETTINGS[1:]:
        raise ValueError(f"The setting {setting!r} has no cone beam; it must be one of {', '.join(SETTINGS[1:])}.")
    foreign = setting == "foreign"
    grey = contrast.foreign_contrast(rng) if foreign else contrast.natural_contrast(rng)
    blur = rng.uniform(0.1, 0.4) + _at_times(rng, 0.3, 0.0, 0.35) + (0.1 if hard else 0)
    return Acquisition(
        grey=tuple(float(g) for g in grey),
        texture=float(rng.uniform(0.0, 0.4)),
        texture_mm=float(rng.uniform(0.6, 3.0)),
        blur_mm=_triple(blur * np.exp(rng.normal(0, 0.25 if rng.random() < 0.4 else 0.05, 3))),
        smear=_at_times(rng, 0.4, 0.002, 0.015),
        beam=_draw_beam(rng, hard, foreign) if rng.random() < 0.8 else None,
        veil=_at_times(rng, 0.5, 0.02, 0.25),
        veil_mm=float(rng.uniform(12, 40)),
        bias=float(abs(rng.normal(0, 0.06))),
        truncation=_at_times(rng, 0.6, 0.05, 0.8),
        truncation_mm=float(rng.uniform(1, 8)),
        rings=_at_times(rng, 0.15 if foreign else 0.3, 0.01, 0.06),
        moves=_draw_moves(rng, 0.4 if hard else 0.2),
        first_angle=float(rng.random()),
        noise=float(rng.uniform(0.0, 0.2 if hard else 0.14) * rng.random()),
        noise_grain=_at_times(rng, 0.6, 0.3, 1.2),
        sharpen=_at_times(rng, 0.5, -0.5, 1.5),
        sharpen_mm=float(rng.uniform(0.3, 0.9)),
        response=_draw_response(rng, grey),
        foreign=_draw_foreign(rng) if foreign else Foreign(),
    )


def _draw_foreign(rng: np.random.Generator) -> Foreign:
    return Foreign(
        blotches=_at_times(rng, 0.7, 0.02, 0.12),
        flicker=_at_times(rng, 0.4, 0.01, 0.06),
        moire=_at_times(rng, 0.3, 0.01, 0.06),
        moire_waves=(float(rng.uniform(0.2, 1.2)), float(rng.uniform(0.2, 1.2))),
    )
