"""What segmenting a scan will cost, told before it starts: from the number of voxels and the size in mm.

The constants were measured with the bundled models on two processor cores without VNNI, on a real CBCT of 43 million
voxels (18 s, 977 MB; 22 s with one thread), its dental region (4 million voxels, 16 s, 918 MB) and the scan resampled
to 134 and to 453 million voxels (22 and 33 s, 1334 and 2653 MB). Another computer is faster or slower by a factor,
which whoever has seen a run can hand in.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ToothTopoSegLib.imaging.read import expected_voxels
from ToothTopoSegLib.segmentation.region import LARGEST_MM

START_S = 1.5
NETWORK_S_PER_ML = 0.028
LOCATE_S = 2.0
VOXEL_S_PER_MILLION = 0.04
REGION_ML = 500.0  # the dental region that is left of a scan larger than it
START_MB = 880.0
VOXEL_MB_PER_MILLION = 3.9
MEASURED_VOXEL_BYTES = 2
SPEED_UP = 0.15  # two threads are 2 ** 0.15 = 1.1 times as fast as one: the network takes a third of the time alone
MOST_THREADS = 8


WORKER_MB = 150.0  # of a worker process besides
SHARE_OF_FREE = 0.85  # of the free memory, the rest is for what else goes on


@dataclass(frozen=True)
class Cost:
    """Expected seconds and peak memory in MB of the process that segments."""

    seconds: float
    megabytes: float


def expected_cost(
    shape: Sequence[int], spacing: Sequence[float], voxel_bytes: int = 2, threads: int | None = None, pace: float = 1.0
) -> Cost:
    """The cost of a scan of ``shape`` voxels (z, y, x) of ``spacing`` mm with ``threads`` (all unless given).

    ``pace`` is how many times as long as expected a run took on this computer.
    """
    millions = math.prod(shape) / 1e6
    millilitres = millions * 1e3 * math.prod(spacing)
    seconds = START_S + VOXEL_S_PER_MILLION * millions
    if all(n * s <= limit for n, s, limit in zip(shape, spacing, LARGEST_MM, strict=True)):
        seconds += NETWORK_S_PER_ML * millilitres
    else:
        seconds += LOCATE_S + NETWORK_S_PER_ML * min(millilitres, REGION_ML)
    used = min(threads or os.cpu_count() or 1, MOST_THREADS)
    megabytes = START_MB + (VOXEL_MB_PER_MILLION + voxel_bytes - MEASURED_VOXEL_BYTES) * millions
    return Cost(pace * seconds / used**SPEED_UP, megabytes)


def megabytes_of(scan: Path) -> float:
    """Expected peak memory in MB of the process that segments the scan file or folder, from its header alone."""
    voxels, voxel_bytes = expected_voxels(scan)
    return expected_cost((1, 1, voxels), (1.0, 1.0, 1.0), voxel_bytes).megabytes


def workers_that_fit(megabytes: Sequence[float], free: float, cores: int) -> int:
    """How many scans can be segmented at once: at least 1, at most a scan a core, the largest ones fitting together.

    ``megabytes`` are the peaks of all scans, ``free`` is the free memory in MB.
    """
    room, count = SHARE_OF_FREE * free, 0
    for need in sorted(megabytes, reverse=True)[:cores]:
        room -= need + WORKER_MB
        count += room >= 0
    return max(count, 1)
