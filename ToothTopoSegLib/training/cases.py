"""The cache of training cases: phantoms rendered once on a fine grid and kept as tissue and label maps.

Grey values are drawn anew each time a case is used (:mod:`ToothTopoSegLib.training.sampling`), so that one head is
seen by many scanners. Cases are numbered; number and seed base determine a case exactly.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CASE_SHAPE = (192, 212, 206)
CASE_SPACING = 0.5
CASE_CENTRE = (0.0, 8.0, 2.0)
FIRST_CRANIUM = 1000
"""Cases with numbers from here on show parts of a head without jaws."""
FIRST_PLAIN = 2000
"""Cases with numbers from here on are plain heads, also beside natural ones: 2000 is the plain case 0."""
FIRST_HARD = 3000
"""Cases with numbers from here on are plain heads of which all are hard: crowded, gappy and full of metal."""
TRAINING_SEED = 1_000_000
"""Training heads use seeds from here on; smaller seeds belong to the phantom command and to held-out tests."""


def make_case(number: int, natural: bool = False) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Tissue and label map, uint8 (z, y, x), of training case ``number`` (0 or more) at 0.5 mm.

    Of plain heads every other one has an alveolar process that envelops its roots.
    """
    from ToothTopoSegLib.phantom.arch import draw_dentition
    from ToothTopoSegLib.phantom.cranium import render_cranium, render_elsewhere
    from ToothTopoSegLib.phantom.head import Pose, render

    if FIRST_PLAIN <= number < FIRST_HARD:
        return make_case(number - FIRST_PLAIN)
    rng = np.random.default_rng(TRAINING_SEED + number)
    cranium, hard = FIRST_CRANIUM <= number < FIRST_PLAIN, number >= FIRST_HARD
    if cranium and natural:
        return render_elsewhere(draw_dentition(rng, natural=True), CASE_SHAPE, CASE_SPACING, rng)
    if cranium:
        return render_cranium(CASE_SHAPE, CASE_SPACING, rng)
    natural = natural and not hard
    dentition = draw_dentition(rng, hard=bool(rng.random() < 0.5) or hard, natural=natural)
    pose = Pose(centre=CASE_CENTRE)
    spacing, warp = (CASE_SPACING,) * 3, float(rng.uniform(0.2, 1.6))
    if natural:
        return render(dentition, CASE_SHAPE, spacing, rng, pose, warp, natural=True)
    return render(dentition, CASE_SHAPE, spacing, rng, pose, warp, enveloped=number % 2 == 1)


def case_path(folder: Path, number: int) -> Path:
    """Where case ``number`` lies in the cache."""
    return folder / f"case_{number:05d}.npy"


def cache_case(folder: Path, number: int, natural: bool = False) -> Path:
    """Make case ``number`` unless it is there already; uint8 array (2, z, y, x) of tissue and labels.

    Two processes may make the same case at once; a case that is there is whole. Raises OSError when the folder cannot
    be written.
    """
    path = case_path(folder, number)
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        staged = path.with_name(f".{path.stem}-{os.getpid()}.npy")
        try:
            np.save(staged, np.stack(make_case(number, natural)))
            staged.replace(path)
        finally:
            staged.unlink(missing_ok=True)
    return path


def load_case(folder: Path, number: int) -> NDArray[Any]:
    """Case ``number`` as a memory map (2, z, y, x); FileNotFoundError when it is not in the cache."""
    return np.asarray(np.load(case_path(folder, number), mmap_mode="r"))


def fill_cache(folder: Path, numbers: range) -> None:
    """Make all cases of ``numbers`` one after another (run several processes on separate ranges)."""
    for number in numbers:
        cache_case(folder, number)
