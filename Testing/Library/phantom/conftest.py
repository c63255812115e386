"""Heads rendered once for all phantom tests: one coarse and quick, one as fine as a scan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.phantom.arch import Dentition, draw_dentition
from ToothTopoSegLib.phantom.head import Pose, render

CENTRE = (0.0, 7.0, 0.0)


@dataclass(frozen=True, eq=False)
class Head:
    """A dentition and what was rendered of it; ``labels`` is in head coordinates."""

    dentition: Dentition
    tissue: NDArray[np.uint8]
    labels: Volume

    def centroids(self) -> dict[int, NDArray[np.float64]]:
        """LPS centroid (x, y, z) in mm of every label that is there."""
        array = self.labels.array
        return {
            int(v): self.labels.index_to_lps(np.argwhere(array == v).mean(axis=0)) for v in np.unique(array) if v > 0
        }


def make_head(seed: int, spacing: float, size: tuple[float, float, float], hard: bool = False) -> Head:
    rng = np.random.default_rng(seed)
    dentition = draw_dentition(rng, hard)
    z, y, x = (round(length / spacing) for length in size)
    tissue, labels = render(dentition, (z, y, x), (spacing,) * 3, rng, Pose(CENTRE))
    corner = [c - (n - 1) / 2 * spacing for c, n in zip(CENTRE, (x, y, z), strict=True)]
    return Head(dentition, tissue, Volume(labels, (spacing,) * 3, (corner[0], corner[1], corner[2])))


@pytest.fixture(scope="session")
def coarse_head() -> Callable[..., Head]:
    """The maker of whole heads at 1.5 mm."""

    def make(seed: int, hard: bool = False) -> Head:
        return make_head(seed, 1.5, (78, 90, 93), hard)

    return make


@pytest.fixture(scope="session")
def head(coarse_head: Callable[..., Head]) -> Head:
    """A whole head at 1.5 mm; never write to it."""
    return coarse_head(0)


@pytest.fixture(scope="session")
def fine_head() -> Head:
    """All teeth of a head at 0.5 mm; never write to it."""
    return make_head(2, 0.5, (58, 68, 76), hard=True)
