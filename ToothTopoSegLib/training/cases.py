"""The cache of training cases: phantoms rendered once on a fine grid and kept as tissue and label maps.

Grey values are drawn anew each time a case is used (:mod:`ToothTopoSegLib.training.sampling`), so that one head is
seen by many scanners. Cases are numbered; number and seed base determine a case exactly.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CASE_SHAPE = (192, 212, 206)
CASE_SPACING = 0.5
CASE_CENTRE = (0.0, 8.0, 2.0)
FINE = 0.6
"""Voxels of fine cases are so much smaller, and the cases as large: 0.3 mm, of which a network that looks at half a
millimetre sees no steps. A fine case takes 77 MB."""
FIRST_CRANIUM = 1000
"""Cases with numbers from here on show parts of a head without jaws."""
FIRST_PLAIN = 2000
"""Cases with numbers from here on are plain heads, also beside natural ones: 2000 is the plain case 0."""
FIRST_HARD = 3000
"""Cases with numbers from here on are plain heads of which all are hard: crowded, gappy and full of metal."""
TRAINING_SEED = 1_000_000
"""Training heads use seeds from here on; smaller seeds belong to the phantom command and to held-out tests."""


def make_case(number: int, natural: bool = False, fine: bool = False) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Tissue and label map, uint8 (z, y, x), of training case ``number`` (0 or more) at 0.5 mm, or 0.3 mm if ``fine``.

    Of plain heads every other one has an alveolar process that envelops its roots.
    """
    from ToothTopoSegLib.phantom.arch import draw_dentition
    from ToothTopoSegLib.phantom.cranium import render_cranium, render_elsewhere
    from ToothTopoSegLib.phantom.head import Pose, render

    if FIRST_PLAIN <= number < FIRST_HARD:
        return make_case(number - FIRST_PLAIN, fine=fine)
    shape, step = _grid(fine)
    rng = np.random.default_rng(TRAINING_SEED + number)
    cranium, hard = FIRST_CRANIUM <= number < FIRST_PLAIN, number >= FIRST_HARD
    if cranium and natural:
        return render_elsewhere(draw_dentition(rng, natural=True), shape, step, rng)
    if cranium:
        return render_cranium(shape, step, rng)
    natural = natural and not hard
    dentition = draw_dentition(rng, hard=bool(rng.random() < 0.5) or hard, natural=natural)
    pose = Pose(centre=CASE_CENTRE)
    spacing, warp = (step,) * 3, float(rng.uniform(0.2, 1.6))
    if natural:
        return render(dentition, shape, spacing, rng, pose, warp, natural=True)
    return render(dentition, shape, spacing, rng, pose, warp, enveloped=number % 2 == 1)


def _grid(fine: bool) -> tuple[tuple[int, int, int], float]:
    """Shape (z, y, x) and spacing in mm of a case."""
    if not fine:
        return CASE_SHAPE, CASE_SPACING
    z, y, x = (round(n / FINE) for n in CASE_SHAPE)
    return (z, y, x), CASE_SPACING * FINE


def spacing_of(size: Sequence[int]) -> float:
    """Spacing in mm of a case of ``size`` voxels (z, y, x), fine or not."""
    return CASE_SPACING * CASE_SHAPE[0] / size[0]


def case_path(folder: Path, number: int, fine: bool = False) -> Path:
    """Where case ``number`` lies in the cache."""
    return folder / f"case_{number:05d}{'_fine' if fine else ''}.npy"


def cache_case(folder: Path, number: int, natural: bool = False, fine: bool = False) -> Path:
    """Make case ``number`` unless it is there already; uint8 array (2, z, y, x) of tissue and labels.

    Two processes may make the same case at once; a case that is there is whole. Raises OSError when the folder cannot
    be written.
    """
    path = case_path(folder, number, fine)
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        staged = path.with_name(f".{path.stem}-{os.getpid()}.npy")
        try:
            np.save(staged, np.stack(make_case(number, natural, fine)))
            staged.replace(path)
        finally:
            staged.unlink(missing_ok=True)
    return path


def load_case(folder: Path, number: int, fine: bool = False) -> NDArray[Any]:
    """Case ``number`` as a memory map (2, z, y, x); FileNotFoundError when it is not in the cache."""
    return np.asarray(np.load(case_path(folder, number, fine), mmap_mode="r"))


def fill_cache(folder: Path, numbers: range) -> None:
    """Make all cases of ``numbers`` one after another (run several processes on separate ranges)."""
    for number in numbers:
        cache_case(folder, number)
