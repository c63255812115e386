"""Time of the topological loss beside naive persistent homology and beside a training step, in one run.

usage: .venv/bin/python Testing/Benchmarks/bench_topology_loss.py [--size N] [--spacing MM] [--repeat N]

The patch is cut out of a phantom's dentition where twelve teeth stand, or as near to that as may be. The scores are
blurred labels with noise; the faulty ones have voids, bores, crumbs, cuts, wrong numbers and gaps grown together.
Naive is gudhi's cubical complex of the whole patch for every class; it is measured on a few classes and scaled, which
the printed line says. Everything runs on one thread, and seconds are those of the processor.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ToothTopoSegLib.phantom.arch import draw_dentition
from ToothTopoSegLib.phantom.head import render
from ToothTopoSegLib.segmentation.classes import CLASSES, to_classes
from ToothTopoSegLib.training.losses.overlap import deep_supervision_loss
from ToothTopoSegLib.training.losses.topology import TopologyConfig, topology_loss
from ToothTopoSegLib.training.network import Plan, build_network

EXTENT_MM = 84.0
SURENESS, NOISE = 8.0, 0.7
Labels = NDArray[np.uint8]


def teeth_in(labels: Labels) -> NDArray[np.int64]:
    """Classes of the teeth that a patch holds more than a tip of, the largest first."""
    voxels = np.bincount(labels.ravel(), minlength=CLASSES)[1:33]
    order = np.argsort(-voxels, kind="stable")
    return order[voxels[order] > 1500] + 1


def patch_of(size: int, spacing: float, teeth: int = 12) -> Labels:
    """Class indices of a cube with as nearly so many teeth as the dentition offers."""
    rng = np.random.default_rng(5)
    side = round(EXTENT_MM / spacing)
    _, labels = render(draw_dentition(rng), (side,) * 3, (spacing,) * 3, rng, warp=0.3)
    classes = to_classes(labels)
    starts = range(0, max(side - size, 0) + 1, 8)
    corners = [(z, y, x) for z in starts for y in starts for x in starts]
    patches = [classes[tuple(slice(n, n + size) for n in corner)] for corner in corners]
    return min(patches, key=lambda patch: abs(len(teeth_in(patch)) - teeth)).copy()


def damaged(truth: Labels) -> Labels:
    """Two each of: a void, a bore, a crumb, a cut, a crown with a number far from its own, a gap grown together."""
    found, teeth = truth.copy(), teeth_in(truth).tolist()
    for place, tooth in enumerate(teeth[:10]):
        z, y, x = (round(n) for n in ndimage.center_of_mass(truth == tooth))
        part, other = [
            ((slice(z - 2, z + 3), slice(y - 2, y + 3), slice(x - 2, x + 3)), 0),
            ((slice(z - 1, z + 2), slice(None), slice(x - 1, x + 2)), 0),
            ((slice(2, 5), slice(2 + 4 * place, 5 + 4 * place), slice(2, 5)), tooth),
            ((slice(z - 1, z + 2), slice(None), slice(None)), 0),
            ((slice(z, None), slice(None), slice(None)), (tooth + 15) % 32 + 1),
        ][place % 5]
        own = np.isin(found[part], (0, tooth)) if other == tooth else found[part] == tooth
        found[part][own] = other
    for first, second, gap in gaps_in(truth)[:2]:
        found[gap] = np.where(np.indices(gap.shape)[2][gap] % 2, first, second)
    return found


def gaps_in(truth: Labels) -> list[tuple[int, int, NDArray[np.bool_]]]:
    """Pairs of teeth that stand close together without touching, and what lies between them, the narrowest first."""
    away = {tooth: ndimage.distance_transform_edt(truth != tooth) for tooth in teeth_in(truth).tolist()}
    found = []
    for first, second in combinations(sorted(away), 2):
        apart = float(away[first][truth == second].min())
        if 2 <= apart <= 5:
            gap = (truth == 0) & (away[first] + away[second] <= apart + 1)
            found.append((apart, first, second, gap))
    return [(first, second, gap) for _, first, second, gap in sorted(found, key=lambda pair: pair[:3])]


def scores_of(found: Labels) -> torch.Tensor:
    """Scores (1, c, z, y, x) with soft outlines and smooth noise whose labels are nearly ``found``."""
    rng = np.random.default_rng(6)
    scores = np.empty((CLASSES, *found.shape), dtype=np.float32)
    for number in range(CLASSES):
        noise = ndimage.gaussian_filter(rng.standard_normal(found.shape, dtype=np.float32), 1.5)
        soft = ndimage.gaussian_filter((found == number).astype(np.float32), 0.6)
        scores[number] = SURENESS * soft + NOISE * noise / noise.std() / 3
    return torch.from_numpy(scores)[None]


def seconds(work: Callable[[], object], repeat: int) -> float:
    """Processor time of the fastest of some runs."""
    times = []
    for _ in range(repeat):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)


def loss_with_gradient(scores: torch.Tensor, classes: torch.Tensor, config: TopologyConfig) -> Callable[[], object]:
    """The loss and its gradient by the scores."""

    def work() -> object:
        leaf = scores.detach().requires_grad_()
        terms = topology_loss(leaf, classes, config, 0)
        return torch.autograd.grad(terms.total, leaf)

    return work


def training_step(size: int, classes: torch.Tensor) -> Callable[[], object]:
    """Forward and backward pass of the bundled network with its loss."""
    network = build_network(Plan()).to(memory_format=torch.channels_last_3d)
    image = torch.randn(1, 1, size, size, size).to(memory_format=torch.channels_last_3d)
    return lambda: deep_supervision_loss(network(image), classes).backward()


def naive(scores: torch.Tensor, numbers: list[int]) -> None:
    """Persistent homology of whole probability maps."""
    import gudhi

    probability = scores.softmax(1)[0]
    for number in numbers:
        cubical = gudhi.CubicalComplex(top_dimensional_cells=-probability[number].numpy())
        cubical.compute_persistence()
        cubical.cofaces_of_persistence_pairs()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, default=96, help="voxels along each side (default: 96)")
    parser.add_argument("--spacing", type=float, default=0.5, help="mm per voxel (default: 0.5)")
    parser.add_argument("--repeat", type=int, default=3, help="runs, of which the fastest counts (default: 3)")
    parser.add_argument("--naive-classes", type=int, default=2, help="classes gudhi is measured on (default: 2)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    truth = patch_of(options.size, options.spacing)
    classes = torch.from_numpy(truth)[None]
    print(f"{options.size}^3 voxels, {CLASSES} classes, {len(teeth_in(truth))} teeth, one thread")
    legal, faulty = scores_of(truth), scores_of(damaged(truth))
    step = seconds(training_step(options.size, classes), options.repeat)
    print(f"training step, forward and backward          {step:8.2f} s")
    counts = topology_loss(faulty, classes, TopologyConfig(), 0).counts
    print("offences: " + ", ".join(f"{number} {kind}" for kind, number in counts.items()))
    noise = torch.randn(legal.shape, generator=torch.Generator().manual_seed(7))
    rows = {name: (scores, TopologyConfig()) for name, scores in (("legal patch", legal), ("all terms", faulty))}
    for term in ("components", "adjacency", "holes"):
        weights = dict.fromkeys(("components", "adjacency", "holes"), 0.0) | {term: 1.0}
        rows[f"{term} alone"] = (faulty, TopologyConfig(**weights))
    rows["all terms on pure noise"] = (noise, TopologyConfig())
    taken = {}
    for name, (scores, config) in rows.items():
        taken[name] = seconds(loss_with_gradient(scores, classes, config), options.repeat)
        print(f"topological loss, {name:<26} {taken[name]:8.3f} s   {taken[name] / step:6.1%} of a step")
    present = np.unique(truth)[1 : options.naive_classes + 1].tolist()
    gudhi = seconds(lambda: naive(faulty, present), 1) * CLASSES / len(present)
    print(f"gudhi on every class of the whole patch      {gudhi:8.1f} s   {len(present)} classes, times {CLASSES}")
    print(f"ratio: {gudhi / taken['all terms']:.0f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
