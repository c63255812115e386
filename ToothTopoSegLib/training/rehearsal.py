"""What a network is not to forget while it learns from a user's few scans: heads it has learnt from before.

In: a folder. Out: samples of synthetic heads, as :mod:`ToothTopoSegLib.training.sampling` draws them, to be mixed among
those of the user's cases (rehearsal, A. Robins, Connection Science 7, 1995). Four scans show neither every tooth nor
every gap, and without the others numbers are unlearnt that were right.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ToothTopoSegLib.progress import Progress, silent
from ToothTopoSegLib.training.cases import FIRST_CRANIUM, FIRST_PLAIN, cache_case, load_case
from ToothTopoSegLib.training.sampling import Patch, draw_sample
from ToothTopoSegLib.training.surface_samples import draw_surface_sample

if TYPE_CHECKING:
    from torch import Tensor

HEADS = (*range(16), *range(FIRST_PLAIN, FIRST_PLAIN + 6), *range(FIRST_CRANIUM, FIRST_CRANIUM + 2))
"""Numbers of the training heads: natural and plain ones, and parts of heads without teeth. About 17 MB each."""


def render_heads(folder: Path, progress: Progress = silent) -> None:
    """Put the heads that are not there into a folder; OSError when it cannot be written."""
    for done, number in enumerate(HEADS):
        progress(done / len(HEADS), f"rendering head {done + 1} of {len(HEADS)} that the model has learnt from before")
        cache_case(folder, number, natural=True)


def draw_head_sample(
    folder: Path, rng: np.random.Generator, patch: Patch, spacing: float, of_surfaces: bool
) -> tuple[Tensor, Tensor]:
    """Image float32 and classes uint8, both (z, y, x) of shape ``patch``, of one of the heads in ``folder``.

    With ``of_surfaces`` it shows the surroundings of a tooth. Raises FileNotFoundError when the head is not there.
    """
    number = HEADS[int(rng.integers(len(HEADS)))]
    draw = draw_surface_sample if of_surfaces else draw_sample
    return draw(load_case(folder, number), rng, patch, spacing, "plain" if number >= FIRST_PLAIN else "natural")
