"""Time and memory of ``evaluate`` on a 400 x 400 x 400 pair, beside the obvious way, in one run.

usage: .venv/bin/python Testing/Benchmarks/bench_evaluate.py [--size N] [--teeth N]

The reference is a full dentition of 32 ellipsoid teeth of 0.25 mm voxels, each with a pulp of its own left out of its
root (so that b1 = 1 or b2 = 1 in half of them), the prediction the same moved by a voxel, with crumbs, two swapped
numbers and holes bored through some teeth. The obvious way goes label by label over the whole array: Dice, and a
Euclidean distance transform of either border for HD95, ASSD and NSD; nothing of topology. It is measured on
``--teeth`` of the teeth (default 1) and scaled to all, which the printed line says.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ToothTopoSegLib.anatomy import fdi
from ToothTopoSegLib.anatomy.sizes import size_of
from ToothTopoSegLib.evaluation.evaluate import evaluate_label_maps
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.topology.report import peak_rss_mb

SPACING = 0.25


def dentition(size: int) -> np.ndarray:
    """32 teeth on two parabolas, upright, in a cube of ``size`` voxels."""
    labels = np.zeros((size,) * 3, dtype=np.uint8)
    for upper in (True, False):
        arch = fdi.arch_order(upper)
        widths = np.array([size_of(tooth).md_crown for tooth in arch])
        along = np.cumsum(widths) - widths / 2 - widths.sum() / 2
        for tooth, arc, width in zip(arch, along, widths, strict=True):
            angle = arc / (widths.sum() / 2) * 1.35
            centre = np.array([61.5 if upper else 38.5, 62 - 38 * np.cos(angle), 50 + 34 * np.sin(angle)])
            put_tooth(labels, tooth, centre / SPACING * size / 400, width)
    return labels


def put_tooth(labels: np.ndarray, tooth: int, centre: np.ndarray, width: float) -> None:
    """One ellipsoid; molars and premolars are hollow, every other one of them open at the tip."""
    half = np.array([size_of(tooth).length, width, width]) / 2 / SPACING
    low = np.maximum(np.floor(centre - half).astype(int), 0)
    high = np.minimum(np.ceil(centre + half).astype(int) + 1, labels.shape)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    away = [(np.arange(s.start, s.stop) - c) / h for s, c, h in zip(box, centre, half, strict=True)]
    z, y, x = np.meshgrid(*away, indexing="ij")
    inside = z**2 + y**2 + x**2 <= 1
    if fdi.position(tooth) > 3:
        inside &= (y**2 + x**2 > 0.04) | ((np.abs(z) > 0.6) if tooth % 2 else (np.abs(z) > 2))
    labels[box][inside & (labels[box] == 0)] = tooth


def predicted(labels: np.ndarray) -> np.ndarray:
    """The reference as a network might give it back: moved, with crumbs, two numbers swapped, some teeth bored."""
    found = np.roll(labels, (0, 0, 1), axis=(0, 1, 2))
    rng = np.random.default_rng(0)
    crumbs = rng.integers(0, np.array(found.shape) - 3, (100, 3))
    for (z, y, x), tooth in zip(crumbs, rng.choice(fdi.PERMANENT, len(crumbs)), strict=True):
        crumb = found[z : z + 2, y : y + 2, x : x + 2]
        crumb[crumb == 0] = tooth
    swapped = np.arange(256, dtype=np.uint8)
    swapped[[14, 15]] = 15, 14
    found = swapped[found]
    for tooth in (11, 26, 36, 43):
        z, y, x = np.argwhere(found == tooth).mean(axis=0).astype(int)
        bore = found[z : z + 3, :, x : x + 3]
        bore[bore == tooth] = 0
    return found


def obvious(prediction: np.ndarray, reference: np.ndarray, teeth: tuple[int, ...]) -> None:
    """Dice, HD95, ASSD and NSD of some teeth, each on the whole array."""
    from scipy import ndimage

    for tooth in teeth:
        first, second = prediction == tooth, reference == tooth
        _ = 2 * (first & second).sum() / (first.sum() + second.sum())
        edges = [mask & ~ndimage.binary_erosion(mask) for mask in (first, second)]
        fields = [ndimage.distance_transform_edt(~edge, sampling=(SPACING,) * 3) for edge in edges]
        there, back = fields[1][edges[0]], fields[0][edges[1]]
        _ = max(np.percentile(there, 95), np.percentile(back, 95)), np.concatenate([there, back]).mean()


def timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Seconds by the clock and of computing, and the result."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return time.perf_counter() - wall, time.process_time() - cpu, result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=400, help="voxels along each axis (default: 400)")
    parser.add_argument("--teeth", type=int, default=1, help="teeth to measure the obvious way with (default: 1)")
    args = parser.parse_args()
    reference = dentition(args.size)
    prediction = predicted(reference)
    maps = (Volume(labels, (SPACING,) * 3) for labels in (prediction, reference))
    wall, cpu, metrics = timed(lambda: evaluate_label_maps(*maps))
    memory = peak_rss_mb()
    topology = metrics["topology"]["teeth"]
    print(f"{args.size}^3 voxels, {len(metrics['teeth'])} teeth, {(reference > 0).sum() / 1e6:.1f} M tooth voxels")
    print(f"evaluate:        {wall:6.1f} s by the clock, {cpu:6.1f} s of computing, {memory:.0f} MB at most")
    print(f"                 teeth with a topological error {topology['share_with_error']:.2f}")
    some = fdi.PERMANENT[: args.teeth]
    _, other, _ = timed(lambda: obvious(prediction, reference, some))
    scaled = other * 32 / len(some)
    of_all = f"from {other:.1f} s for {len(some)} of 32 teeth; without topology"
    print(f"the obvious way: {scaled:6.1f} s of computing, {of_all}")
    print(f"ratio:           {scaled / cpu:6.1f}")


if __name__ == "__main__":
    main()
