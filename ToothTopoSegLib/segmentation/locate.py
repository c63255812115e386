"""Where to look for the teeth of a scan: a few looks of the network instead of one at every part of a head.

In: a canonical scan and its working grid. Out: the dental region of the working grid as :mod:`region` draws it, or None
when the scan shows no teeth. Dense tissue crowds around teeth more than elsewhere, so the network looks there first, on
a grid coarse enough that one look takes in a dentition. Where it meets one, it looks again at the working grid's own
spacing, at an area that grows until it holds all teeth met with their margin. A look at every tile of the scan, which
takes as many looks as the head is large, is left for scans in which none of this meets a dentition: that a scan shows
no teeth is never said on less.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.anatomy.sizes import size_of
from ToothTopoSegLib.imaging.resample import resample_linear
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.progress import Progress, part, silent
from ToothTopoSegLib.segmentation.classes import TEETH
from ToothTopoSegLib.segmentation.region import LARGEST_MM, MARGIN_MM, Box, air_value, dental_region, teeth_box
from ToothTopoSegLib.segmentation.tiling import QUICK_OVERLAP, QuickLook, starts

Array = NDArray[Any]
Network = Callable[[Array], Array]
Patch = tuple[int, int, int]
Locate = Callable[[Volume, Volume, Patch, Network, Progress], Box | None]

COARSE_RATIO = 1.35
"""Coarser by this factor, one patch takes in most of a dentition and the network still knows teeth when it sees them;
at 1.7 it misses half of them in a real scan, at 2 all."""
DENSE_PERCENTILE = 98.0
CROWD_MM = 15.0
BEHIND = 0.5
"""What dense tissue in the back half of a head counts beside that in the front half."""
MOST_LOOKS, MOST_MISTAKES = 12, 3
WORTH = 0.2
"""Places where dense tissue crowds less than this, beside where it does most, are not looked at one by one."""
FEW_TEETH, SEEN_SHARE = 4, 0.25
"""So many numbers, of so much of their volume, are worth looking at more closely."""
MOST_AREAS = 4
LAST_RESORT = 0.5
"""Where the progress of a look at every tile begins."""


def find_region(scan: Volume, work: Volume, patch: Patch, network: Network, progress: Progress = silent) -> Box | None:
    """The dental region (z, y, x) of ``work``, a resampled canonical ``scan``; None when there are no teeth.

    A scan no larger than a dentition is its own region.
    """
    if all(n * s <= limit for n, s, limit in zip(work.array.shape, work.spacing, LARGEST_MM, strict=True)):
        return _whole(work)
    steps = _steps(progress)
    for mistakes, ends in enumerate(_met(scan, work, patch, network, steps), start=1):
        region = _region_around(ends, work, patch, network, steps)
        if region is not None:
            return region
        if mistakes == MOST_MISTAKES:
            break
    return region_of_every_tile(scan, work, patch, network, part(progress, LAST_RESORT, 1.0))


def region_of_every_tile(
    scan: Volume, work: Volume, patch: Patch, network: Network, progress: Progress = silent
) -> Box | None:
    """The same from a look at every part of the scan, however large it is."""
    classes = QuickLook(work.array, patch, network).everywhere(progress)
    return dental_region(classes, work.array, work.spacing[0])


def _whole(work: Volume) -> Box:
    z, y, x = (slice(0, n) for n in work.array.shape)
    return z, y, x


def _steps(progress: Progress) -> Iterator[Progress]:
    """The progress of one look after the other, nobody knows how many: each takes a part of what is left."""
    start = 0.0
    while True:
        end = start + (LAST_RESORT - start) / 4
        yield part(progress, start, end)
        start = end


def _met(scan: Volume, work: Volume, patch: Patch, network: Network, steps: Iterator[Progress]) -> Iterator[Array]:
    """First and last position (2, 3) as (z, y, x) mm of teeth met in each place where dense tissue crowds.

    Positions count from the first voxel of ``work``.
    """
    coarse = resample_linear(scan, (work.spacing[0] * COARSE_RATIO,) * 3)
    shift = work.lps_to_index(np.asarray(coarse.origin)) * work.spacing
    for box in crowded_places(coarse, patch):
        seen = QuickLook(coarse.array[box], patch, network).everywhere(next(steps))
        if teeth_seen(seen, coarse.spacing[0]) >= FEW_TEETH:
            points = np.argwhere((seen >= 1) & (seen <= len(TEETH))) + [s.start for s in box]
            ends = np.percentile(points, (1, 99), axis=0)
            yield np.asarray(ends * coarse.spacing[0] + shift)


def teeth_seen(classes: Array, spacing: float) -> int:
    """How many tooth numbers cover a good part of the volume such a tooth has, in cubic voxels of ``spacing`` mm."""
    counts = np.bincount(classes.reshape(-1), minlength=len(TEETH) + 1)[1 : len(TEETH) + 1] * spacing**3
    return int((counts >= SEEN_SHARE * np.array([size_of(fdi).volume for fdi in TEETH])).sum())


def crowded_places(coarse: Volume, patch: Patch) -> Iterator[Box]:
    """Boxes of the size of a patch (where the scan is as large) around the places where dense tissue crowds most."""
    from scipy import ndimage

    image = coarse.array
    dense = (image >= np.percentile(image[::2, ::2, ::2], DENSE_PERCENTILE)).astype(np.float32)
    crowd = ndimage.gaussian_filter(dense, CROWD_MM / coarse.spacing[0], mode="constant")
    crowd[:, image.shape[1] // 2 :] *= BEHIND
    least = WORTH * crowd.max()
    for _ in range(MOST_LOOKS):
        peak = np.unravel_index(int(crowd.argmax()), crowd.shape)
        if crowd[peak] < least:
            return
        z, y, x = (_around(int(c), p, n) for c, p, n in zip(peak, patch, image.shape, strict=True))
        yield z, y, x
        z, y, x = (slice(max(0, int(c) - p // 4), int(c) + p // 4) for c, p in zip(peak, patch, strict=True))
        crowd[z, y, x] = 0


def _around(centre: int, size: int, length: int) -> slice:
    """``size`` voxels around ``centre`` that lie within ``length``; all of them where there are fewer."""
    first = min(max(centre - size // 2, 0), max(length - size, 0))
    return slice(first, min(first + size, length))


def _region_around(ends: Array, work: Volume, patch: Patch, network: Network, steps: Iterator[Progress]) -> Box | None:
    """The dental region around teeth from ``ends[0]`` to ``ends[1]`` (z, y, x) mm; None when none is to be seen.

    Looks at the working grid's own spacing, at an area that grows for as long as the region reaches beyond it.
    """
    shape, spacing, air = np.asarray(work.array.shape), work.spacing[0], air_value(work.array)
    low, high = (ends[0] - MARGIN_MM) / spacing, (ends[1] + MARGIN_MM) / spacing + 1
    area, looks = area_around(low, high, work.array.shape, patch), QuickLook(work.array, patch, network)
    tiles = [
        [s.start + n for n in starts(s.stop - s.start, size, QUICK_OVERLAP)]
        for s, size in zip(area, patch, strict=True)
    ]
    for _ in range(MOST_AREAS):
        looks.look([(a, b, c) for a in tiles[0] for b in tiles[1] for c in tiles[2]], next(steps))
        box = teeth_box(looks.classes[area], work.array[area], spacing, air)
        if box is None:
            return None
        first, last = np.array([s.start for s in area]), np.array([s.stop for s in area])
        low, high = np.maximum(box[0] + first, 0), np.minimum(box[1] + first, shape)
        if (low >= first).all() and (high <= last).all():
            z, y, x = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
            return z, y, x
        tiles = [grown(t, *sides) for t, sides in zip(tiles, zip(low, high, patch, shape, strict=True), strict=True)]
        z, y, x = (slice(t[0], min(t[-1] + p, n)) for t, p, n in zip(tiles, patch, work.array.shape, strict=True))
        area = z, y, x
    return None


def grown(tiles: list[int], low: float, high: float, size: int, length: int) -> list[int]:
    """First voxels of tiles of ``size`` along an axis of ``length`` voxels, and of more until ``low`` to ``high`` is
    covered as far as the axis goes."""
    step, more = size - math.ceil(size * QUICK_OVERLAP), list(tiles)
    while more[0] > max(low, 0):
        more.insert(0, max(more[0] - step, 0))
    while more[-1] + size < min(high, length):
        more.append(min(more[-1] + step, length - size))
    return more


def area_around(low: Array, high: Array, shape: Sequence[int], patch: Patch) -> Box:
    """The part (z, y, x) of a grid of ``shape`` around ``low`` to ``high`` that as many tiles as these need cover."""
    slices = []
    for first, last, length, size in zip(low, high, shape, patch, strict=True):
        step = size - math.ceil(size * QUICK_OVERLAP)
        tiles = max(math.ceil((last - first - size) / step), 0) + 1
        slices.append(_around(round((first + last) / 2), size + (tiles - 1) * step, length))
    z, y, x = slices
    return z, y, x
