"""What a model is compared with the integer reference on: whole patches of phantoms and of a scan.

In: a model bundle and perhaps a scan. Out: normalised patches (1, 1, z, y, x), those of a scan where most of its
brightest voxels are, which in a dental scan is at the teeth.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.quantization.bundle import Bundle

Array = NDArray[Any]
FIRST_SEED = 100
PHANTOMS = 2
TILES = 2
BRIGHT_PERCENTILE = 99.0


def reference_patches(bundle: Bundle, scan: Path | None = None) -> Iterator[Array]:
    """Two patches of phantoms never trained on, and the two brightest tiles of ``scan``.

    Raises InputError when the scan cannot be read.
    """
    from ToothTopoSegLib.imaging.read import read_scan
    from ToothTopoSegLib.phantom.write import make_small_phantom

    for seed in range(FIRST_SEED, FIRST_SEED + PHANTOMS):
        yield from brightest_patches(make_small_phantom(seed).scan, bundle, 1)
    if scan is not None:
        yield from brightest_patches(read_scan(scan), bundle, TILES)


def brightest_patches(scan: Volume, bundle: Bundle, count: int) -> Iterator[Array]:
    """The ``count`` tiles of a scan with most bright voxels, the brightest first, as the network would see them."""
    from ToothTopoSegLib.imaging.canonical import to_canonical
    from ToothTopoSegLib.imaging.resample import resample_linear
    from ToothTopoSegLib.segmentation.normalise import grey_scale
    from ToothTopoSegLib.segmentation.tiling import corners, padded

    work = resample_linear(to_canonical(scan), (bundle.spacing,) * 3).array
    grown, _ = padded(work, bundle.patch, float(work.min()))
    bright = grown >= np.percentile(work, BRIGHT_PERCENTILE)
    places = corners(grown.shape, bundle.patch, 0.5)
    tiles = [tuple(slice(c, c + p) for c, p in zip(corner, bundle.patch, strict=True)) for corner in places]
    for tile in sorted(tiles, key=lambda tile: -int(bright[tile].sum()))[:count]:
        yield grey_scale(grown[tile]).apply(grown[tile])[None, None]
