"""Accuracy against cost of the tiles: how large they are and how much neighbours share, for both networks.

usage: .venv/bin/python Testing/Benchmarks/bench_tiles.py [--plain SEED ...] [--natural SEED ...] [-o PAGE]

Phantoms of development, plain and natural, are segmented with today's tiles and with ways that differ from them in one
thing: the size of the tiles or the overlap of neighbours, of the first network (1 mm voxels, each tile seen twice, as
it is and mirrored) or of the second (0.5 mm). The networks are folded convolutions, which take tiles of any multiple of
their strides (16 and 8 voxels) with the same weights. The dental region is the same for all ways, found with today's
tiles. Told are the mean Dice per tooth, the share of teeth whose Betti numbers are wrong, how often the network looks
at a tile of a scan in the mean, and the processor seconds of segmenting all scans, with one thread, beside today's:
seconds of the processor, not of the clock, so that what else the computer does hardly counts. Tiles are spread evenly,
so that few of them often share more than they must: where as many looks stand as for today, the tiles are the same.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ToothTopoSegLib.evaluation.held_out import teeth_wrong
from ToothTopoSegLib.evaluation.overlap import evaluate_label_maps
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.phantom.write import make_phantom
from ToothTopoSegLib.quantization.bundle import Bundle, load_bundle, surface_bundle
from ToothTopoSegLib.segmentation import pipeline, surface
from ToothTopoSegLib.segmentation.locate import find_region
from ToothTopoSegLib.segmentation.runner import Runner

Patch = tuple[int, int, int]
OVERLAPS = (0.25, 0.375, 0.5)
SMALLER, LARGER = ((32, 64, 64), (48, 64, 64)), ((64, 96, 96), (80, 96, 96))
"""Tiles (z, y, x) of the first and the second network."""
NETWORKS = ("first", "second")
SURE = 3.0
"""A mean difference to today's way of fewer standard errors than this may be chance, as many ways are compared."""
WORTH = 0.1
"""Seconds spared, as a share of today's, for which a way that is no worse is better."""


@dataclass(frozen=True)
class Way:
    """Tiles (z, y, x) and overlaps of both networks."""

    tiles: tuple[Patch, Patch]
    overlaps: tuple[float, float]

    def differs(self, other: Way) -> int | None:
        """Which network's tiles are others than those of ``other``; None where all are the same."""
        mine, theirs = (list(zip(w.tiles, w.overlaps, strict=True)) for w in (self, other))
        return next((n for n, (a, b) in enumerate(zip(mine, theirs, strict=True)) if a != b), None)


@dataclass(frozen=True)
class Measured:
    """What came of one scan in one way."""

    setting: str
    dice: float
    wrong: float
    looks: tuple[int, int]
    seconds: float


class Counted(Runner):
    """A runner that counts its looks at tiles, and keeps the one that it makes of the second network."""

    looks = 0
    second: Counted | None = None

    def beside(self, bundle: Bundle) -> Runner:
        """A counted runner of another bundle."""
        self.second = Counted(bundle, "cpu", 1)
        return self.second

    def __call__(self, patch: Any) -> Any:
        """Scores of a patch."""
        self.looks += 1
        return super().__call__(patch)


def ways(today: Way) -> Iterator[Way]:
    """Today's way and those that differ from it in one thing."""
    yield today
    for n in range(len(NETWORKS)):
        for overlap in OVERLAPS:
            if overlap != today.overlaps[n]:
                yield replace(today, overlaps=_put(today.overlaps, n, overlap))
        for tiles in (SMALLER, LARGER):
            yield replace(today, tiles=_put(today.tiles, n, tiles[n]))


def _put(pair: tuple[Any, Any], at: int, value: Any) -> tuple[Any, Any]:
    return (value, pair[1]) if at == 0 else (pair[0], value)


def retiled(bundle: Bundle, patch: Patch) -> Bundle:
    """The bundle of an integer network for patches of another size (z, y, x), a multiple of its strides."""
    import onnx
    from onnx import numpy_helper

    if patch == bundle.patch:
        return bundle
    model = onnx.load_from_string(bundle.model)
    for told in (*model.graph.input, *model.graph.output):
        for dimension, size in zip(told.type.tensor_type.shape.dim[2:], patch, strict=True):
            dimension.dim_value = size
    # Pixel shuffles alone know the size of the patch: as the last three numbers of what they reshape to.
    sizes = {name for node in model.graph.node if node.op_type == "Reshape" for name in node.input[1:]}
    for constant in model.graph.initializer:
        if constant.name in sizes:
            value = numpy_helper.to_array(constant).copy()
            value[-3:] = [n * new // old for n, new, old in zip(value[-3:], patch, bundle.patch, strict=True)]
            constant.CopyFrom(numpy_helper.from_array(value, constant.name))
    card = bundle.card | {"plan": bundle.card["plan"] | {"patch": list(patch)}}
    return replace(bundle, model=model.SerializeToString(), card=card)


@contextmanager
def overlapping(overlaps: tuple[float, float]) -> Iterator[None]:
    """The pipeline with these overlaps of both networks."""
    with mock.patch.object(pipeline, "OVERLAP", overlaps[0]), mock.patch.object(surface, "OVERLAP", overlaps[1]):
        yield


def scans(plain: Iterable[int], natural: Iterable[int]) -> Iterator[tuple[str, int, Volume, Volume]]:
    """Setting, seed, scan and labels of the phantoms that have teeth."""
    for setting, seeds in (("plain", plain), ("natural", natural)):
        for seed in seeds:
            made = make_phantom(seed, setting=setting)
            if ((made.labels.array > 0) & (made.labels.array < 100)).any():
                yield setting, seed, made.scan, made.labels


def measured(setting: str, scan: Volume, truth: Volume, bundle: Bundle, way: Way) -> Measured:
    """A scan segmented in one way and compared with the truth."""
    second = surface_bundle(bundle)
    assert second is not None
    usual = Runner(bundle, "cpu", 1)
    tiled = replace(retiled(bundle, way.tiles[0]), second=retiled(second, way.tiles[1]))
    runner = Counted(tiled, "cpu", 1)

    def as_today(scan: Volume, work: Volume, patch: Patch, network: Any, progress: Any) -> Any:
        return find_region(scan, work, bundle.patch, usual, progress)

    began = time.process_time()
    with overlapping(way.overlaps):
        found = pipeline.segmented(scan, tiled, runner, locate=as_today).labels
    seconds = time.process_time() - began
    dice, wrong = evaluate_label_maps(found, truth)["mean_tooth_dice"], teeth_wrong(found, truth)
    looks = runner.looks, runner.second.looks if runner.second else 0
    return Measured(setting, float(dice or 0.0), float(wrong or 0.0), looks, seconds)


def table(rows: dict[Way, list[Measured]], today: Way) -> str:
    """The ways as a Markdown table, today's marked."""
    lines = [
        "| network | tile (z, y, x) | overlap | looks | Dice per tooth | plain | natural | wrong teeth | seconds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for way, found in rows.items():
        n = way.differs(today)
        told = [(size(way.tiles[i]), str(way.overlaps[i]), f"{looks(found, i):.1f}") for i in range(len(NETWORKS))]
        if n is None:
            what = " | ".join(["both, **today**", *map(" and ".join, zip(*told, strict=True))])
        else:
            what = " | ".join([NETWORKS[n], *told[n]])
        scores = [mean(r.dice for r in found if s in (r.setting, "all")) for s in ("all", "plain", "natural")]
        dice = " | ".join("-" if s is None else f"{s:.4f}" for s in scores)
        wrong = mean(r.wrong for r in found)
        lines.append(f"| {what} | {dice} | {100 * (wrong or 0):.1f} % | {cost(found, rows[today]):.2f} |")
    return "\n".join(lines)


def size(tile: Patch) -> str:
    """A tile as people write it."""
    return " x ".join(map(str, tile))


def looks(found: list[Measured], network: int) -> float:
    """How often a network looks at a tile of a scan, in the mean."""
    return float(np.mean([row.looks[network] for row in found]))


def mean(values: Iterable[float]) -> float | None:
    """The mean, None without any value."""
    there = list(values)
    return float(np.mean(there)) if there else None


def cost(found: list[Measured], today: list[Measured]) -> float:
    """Processor seconds of a way beside today's."""
    pairs = list(zip(found, today, strict=True))
    return sum(a.seconds for a, _ in pairs) / sum(b.seconds for _, b in pairs)


def difference(found: list[Measured], today: list[Measured], what: str) -> tuple[float, float]:
    """Mean difference of a measure to today's over the scans, and its standard error."""
    apart = [getattr(a, what) - getattr(b, what) for a, b in zip(found, today, strict=True)]
    return float(np.mean(apart)), float(np.std(apart, ddof=1) / np.sqrt(len(apart))) if len(apart) > 1 else np.inf


def is_better(found: list[Measured], today: list[Measured]) -> bool:
    """Whether a way is more accurate beyond chance for no more seconds, or no less accurate for clearly fewer."""
    dice, wrong = (difference(found, today, what) for what in ("dice", "wrong"))
    higher, lower = dice[0] > SURE * dice[1], dice[0] < -SURE * dice[1]
    fewer, more = wrong[0] < -SURE * wrong[1], wrong[0] > SURE * wrong[1]
    if lower or more:
        return False
    beside = cost(found, today)
    return beside < 1 - WORTH or ((higher or fewer) and beside < 1 + WORTH)


def verdict(rows: dict[Way, list[Measured]], today: Way) -> str:
    """How each way compares with today's, a line each, and which of them is better."""
    lines, better = [], []
    for way, found in rows.items():
        n = way.differs(today)
        if n is None:
            continue
        dice, wrong = (difference(found, rows[today], what) for what in ("dice", "wrong"))
        name = f"{NETWORKS[n]} network, {size(way.tiles[n])}, overlap {way.overlaps[n]}"
        lines.append(
            f"| {name} | {dice[0]:+.4f} &plusmn; {dice[1]:.4f} | {100 * wrong[0]:+.1f} &plusmn; {100 * wrong[1]:.1f} |"
        )
        better += [name] if is_better(found, rows[today]) else []
    head = "| beside today | Dice per tooth, standard error | wrong teeth in points, standard error |\n|---|---|---|\n"
    rule = (
        f"A way is better than today's where its Dice is higher or its share of wrong teeth lower by more than "
        f"{SURE:g} standard errors, neither is worse by as much, and it takes less than {WORTH:.0%} more seconds; or "
        f"where neither is worse and it takes {WORTH:.0%} fewer. Used is today's"
    )
    told = f", though better: {'; '.join(better)}." if better else ", because no other is better."
    return head + "\n".join(lines) + "\n\n" + textwrap.fill(rule + told, 120)


def main() -> None:
    """Measure and print, and write the page if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--plain", type=int, nargs="*", metavar="SEED", default=list(range(300, 312)))
    parser.add_argument("--natural", type=int, nargs="*", metavar="SEED", default=list(range(40_000, 40_012)))
    parser.add_argument("-o", "--page", type=Path)
    args = parser.parse_args()
    bundle = load_bundle()
    second = surface_bundle(bundle)
    assert second is not None
    today = Way((bundle.patch, second.patch), (pipeline.OVERLAP, surface.OVERLAP))
    rows: dict[Way, list[Measured]] = {way: [] for way in ways(today)}
    for place, (setting, seed, scan, truth) in enumerate(scans(args.plain, args.natural)):
        if place == 0:
            measured(setting, scan, truth, bundle, today)  # what is loaded once counts for no way
        # Each way is at times the first of a scan, which finds the processor's caches cold.
        for way in (*list(rows)[place % len(rows) :], *list(rows)[: place % len(rows)]):
            rows[way].append(measured(setting, scan, truth, bundle, way))
            print(seed, way.tiles, way.overlaps, rows[way][-1], file=sys.stderr, flush=True)
    about = __doc__.split("\n\n")[2].strip()
    listed = [", ".join(map(str, seeds)) for seeds in (args.plain, args.natural)]
    count = f"{len(rows[today])} scans; seeds: plain {listed[0]}; natural {listed[1]}, those without teeth left out."
    seeds = textwrap.fill(count, 120)
    page = f"# Tiles of both networks\n\n{about}\n\n{seeds}\n\n{table(rows, today)}\n\n{verdict(rows, today)}\n"
    print(page)
    if args.page:
        args.page.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
