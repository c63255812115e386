"""Time and memory of ``check`` on a 400 x 400 x 400 map with 32 teeth, beside the obvious way, in one run.

usage: .venv/bin/python Testing/Benchmarks/bench_check.py [--size N]

The map is a phantom's dentition with all 32 teeth at 0.25 mm, its copy the same with a void, a bore and a crumb in each
of eight teeth. The obvious way to the Betti numbers alone labels the whole array tooth by tooth with scipy, foreground
and background, and takes gudhi's cubical complex of the whole array; both are measured on one tooth, gudhi at a quarter
of the size, and scaled, which the printed lines say.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ToothTopoSegLib.anatomy import fdi
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.phantom.arch import Dentition, draw_dentition
from ToothTopoSegLib.phantom.head import Pose, render
from ToothTopoSegLib.topology.check import check_volume
from ToothTopoSegLib.topology.report import peak_rss_mb

EXTENT_MM = 100.0


def whole_dentition() -> Dentition:
    """The first random dentition that lacks no tooth."""
    for seed in range(10_000):
        dentition = draw_dentition(np.random.default_rng(seed))
        if len(dentition.teeth) == 32:
            return dentition
    raise RuntimeError("no complete dentition was drawn")


def label_map(size: int) -> Volume:
    """All 32 teeth in a cube of ``size`` voxels; painted at half the resolution and doubled."""
    spacing = EXTENT_MM / size
    shape = (size // 2,) * 3
    _, labels = render(
        whole_dentition(), shape, (2 * spacing,) * 3, np.random.default_rng(0), Pose((0.0, 8.0, 0.0)), warp=0.3
    )
    for axis in range(3):
        labels = labels.repeat(2, axis)
    return Volume(labels, (spacing,) * 3)


def damaged(labels: Volume) -> Volume:
    """A void of 2 mm, a bore of 1 mm and a crumb in or beside eight teeth."""
    array, n = labels.array.copy(), max(1, round(1.0 / labels.spacing[0]))
    for tooth in (16, 14, 23, 27, 36, 34, 45, 47):
        z, y, x = np.argwhere(labels.array == tooth).mean(axis=0).astype(int)
        array[z - n : z + n, y - n : y + n, x - n : x + n] = 0
        bore = array[z + 2 * n : z + 3 * n, :, x : x + n]
        bore[bore == tooth] = 0
        array[4 : 4 + n, 4 : 4 + n, 4 + tooth : 4 + tooth + n] = tooth
    return labels.with_array(array)


def timed(name: str, work: object, factor: float = 1.0, note: str = "") -> float:
    began, cpu = time.perf_counter(), time.process_time()
    work()  # type: ignore[operator]
    seconds = (time.perf_counter() - began) * factor
    print(f"{name:<44} {seconds:9.2f} s   (processor {(time.process_time() - cpu) * factor:.2f} s){note}")
    return seconds


def scipy_per_label(array: np.ndarray, tooth: int) -> None:
    """Pieces, voids and Euler number of one tooth on the whole array."""
    from scipy import ndimage
    from skimage.measure import euler_number

    mask = array == tooth
    ndimage.label(mask, np.ones((3, 3, 3)))
    ndimage.label(~mask)
    euler_number(mask, connectivity=3)


def gudhi_whole(array: np.ndarray) -> None:
    """Persistent homology of one tooth on the whole array."""
    import gudhi

    values = np.where(array == 36, 0.0, 1.0)
    cubical = gudhi.CubicalComplex(top_dimensional_cells=values)
    cubical.compute_persistence()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=400, help="voxels along each side (default: 400)")
    size = parser.parse_args().size
    clean = label_map(size)
    present = [v for v in np.unique(clean.array).tolist() if fdi.is_tooth(v)]
    print(f"{size}^3 voxels of {clean.spacing[0]:.3f} mm, {len(present)} teeth")
    before = peak_rss_mb()
    ours = timed("check, clean map", lambda: check_volume(clean))
    hurt = damaged(clean)
    timed("check, 8 teeth with a void, a bore, a crumb", lambda: check_volume(hurt))
    print(f"memory: {peak_rss_mb():.0f} MB at most, {before:.0f} MB of it before the first check")
    note = f"   one tooth, times {len(present)}"
    scipy = timed("scipy label by label, Betti numbers alone", lambda: scipy_per_label(clean.array, 36), 32, note)
    small = clean.array[::4, ::4, ::4].copy()
    note = "   one tooth at a quarter of the size, times 64 and the teeth"
    gudhi = timed("gudhi on the whole, Betti numbers alone", lambda: gudhi_whole(small), 64.0 * len(present), note)
    print(f"ratio: {scipy / ours:.0f} (scipy), {gudhi / ours:.0f} (gudhi)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
