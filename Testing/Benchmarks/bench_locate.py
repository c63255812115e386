"""What it costs to look for teeth in few places only: teeth lost, and time, beside a look at every part of the scan.

usage: .venv/bin/python Testing/Benchmarks/bench_locate.py [SCAN ...] [--heads N] [--seed S] [--page PAGE]

Natural heads of N seeds are shown whole or as faces; scans given are measured too. Each is segmented twice: within the
dental region found by every tile of the scan, the slow way, and within the one found by the program. Counted are the
voxels that the slow way labels as teeth and that lie outside the other region, where no tooth can be found any more,
and, where the truth is known, the mean Dice per tooth of both results. Processor seconds of one thread.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ToothTopoSegLib.evaluation.overlap import evaluate_label_maps
from ToothTopoSegLib.imaging.canonical import to_canonical
from ToothTopoSegLib.imaging.read import read_scan
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.phantom.cone_beam import Field
from ToothTopoSegLib.phantom.head import Pose
from ToothTopoSegLib.phantom.views import View, draw_tilt
from ToothTopoSegLib.phantom.write import make_natural_view
from ToothTopoSegLib.quantization.bundle import Bundle, load_bundle
from ToothTopoSegLib.segmentation.locate import Locate, find_region, region_of_every_tile
from ToothTopoSegLib.segmentation.pipeline import segmented
from ToothTopoSegLib.segmentation.runner import Runner

SPACING = 0.7
SIZES_MM = {"whole head": (195.0, 210.0), "face": (130.0, 160.0)}
CENTRES_MM = {"whole head": (0.0, 45.0, 35.0), "face": (0.0, 22.0, 6.0)}


@dataclass(frozen=True, eq=False)
class Way:
    """A label map, the region it was made in (on the scan's canonical grid), looks taken to find it, and seconds."""

    labels: Volume
    seen: Any
    looks: int
    seconds: float


def head(seed: int) -> tuple[Volume, Volume]:
    """A natural head and its labels: whole for even seeds, a face for odd ones."""
    rng = np.random.default_rng(seed)
    kind = ("whole head", "face")[seed % 2]
    height, width = (n * float(rng.uniform(0.9, 1.1)) for n in SIZES_MM[kind])
    rotation = draw_tilt(rng)
    x, y, z = (c + float(rng.normal(0, 4)) for c in CENTRES_MM[kind])
    depth, side = int(height / SPACING), int(width / SPACING)
    pose = Pose((x, y, z), tuple(tuple(float(v) for v in row) for row in rotation))
    view = View(kind, (depth, side, side), SPACING, pose, Field(radius=width / 2), "minimum")
    made = make_natural_view(seed, view)
    return made.scan, made.labels


def go(scan: Volume, bundle: Bundle, runner: Runner, locate: Locate) -> Way:
    """The scan segmented within the region that ``locate`` finds."""
    looks, seconds, seen = 0, 0.0, None

    def counted(scan: Volume, work: Volume, patch: Any, network: Callable[[Any], Any], progress: Any) -> Any:
        nonlocal looks, seconds, seen

        def look(image: Any) -> Any:
            nonlocal looks
            looks += 1
            return network(image)

        began = time.process_time()
        box = locate(scan, work, patch, look, progress)
        seconds = time.process_time() - began
        seen = None if box is None else inside(scan, work, box)
        return box

    labels = segmented(scan, bundle, runner, locate=counted).labels
    return Way(labels, seen, looks, seconds)


def inside(scan: Volume, work: Volume, box: Any) -> Any:
    """Which voxels (z, y, x) of a canonical scan lie within a box of its working grid."""
    first = scan.lps_to_index(work.index_to_lps(np.array([s.start - 0.5 for s in box])))
    last = scan.lps_to_index(work.index_to_lps(np.array([s.stop - 0.5 for s in box])))
    mask = np.zeros(scan.array.shape, bool)
    z, y, x = (slice(max(int(np.ceil(a)), 0), int(np.floor(b)) + 1) for a, b in zip(first, last, strict=True))
    mask[z, y, x] = True
    return mask


def is_tooth(labels: Any) -> Any:
    """Which voxels of a label map are teeth."""
    return (labels > 0) & (labels < 100)


def compared(name: str, scan: Volume, truth: Volume | None, bundle: Bundle, runner: Runner) -> dict[str, Any]:
    """One row of the table."""
    slow, quick = (go(scan, bundle, runner, way) for way in (region_of_every_tile, find_region))
    teeth = to_canonical(slow.labels).array
    lost = is_tooth(teeth) if quick.seen is None else is_tooth(teeth) & ~quick.seen
    row = {
        "scan": name,
        "tooth_voxels": int(is_tooth(teeth).sum()),
        "lost": int(lost.sum()),
        "looks": (slow.looks, quick.looks),
        "seconds": (slow.seconds, quick.seconds),
        "teeth": tuple(len(np.unique(w.labels.array[is_tooth(w.labels.array)])) for w in (slow, quick)),
    }
    if truth is not None:
        row["dice"] = tuple(evaluate_label_maps(w.labels, truth)["mean_tooth_dice"] for w in (slow, quick))
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table, and their sum."""
    lines = [
        "| scan | tooth voxels of the slow way | outside the region | teeth found | looks | s | Dice per tooth |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        dice = " / ".join("-" if d is None else f"{d:.4f}" for d in r["dice"]) if "dice" in r else ""
        teeth, looks = (" / ".join(map(str, r[key])) for key in ("teeth", "looks"))
        seconds = " / ".join(f"{s:.1f}" for s in r["seconds"])
        lines.append(f"| {r['scan']} | {r['tooth_voxels']} | {r['lost']} | {teeth} | {looks} | {seconds} | {dice} |")
    voxels, lost = sum(r["tooth_voxels"] for r in rows), sum(r["lost"] for r in rows)
    share = 1e5 * lost / max(voxels, 1)
    lines.append("")
    lines.append(f"Lost: {lost} of {voxels} tooth voxels, {share:.2f} in 100 000; slow way / program where two stand.")
    dice = np.array([r["dice"] for r in rows if "dice" in r and None not in r["dice"]])
    if len(dice):
        lines.append(f"Mean Dice per tooth: {dice[:, 0].mean():.4f} / {dice[:, 1].mean():.4f}.")
    return "\n".join(lines)


def main() -> None:
    """Measure and print, and write the page if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("scans", nargs="*", type=Path)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--seed", type=int, default=30_000)
    parser.add_argument("--page", type=Path)
    args = parser.parse_args()
    bundle = load_bundle()
    runner, rows = Runner(bundle, "cpu", 1), []
    for path in args.scans:
        rows.append(compared(path.name, read_scan(path), None, bundle, runner))
        print(table(rows[-1:]), flush=True)
    for seed in range(args.seed, args.seed + args.heads):
        scan, truth = head(seed)
        rows.append(compared(f"head {seed}", scan, truth, bundle, runner))
        print(table(rows[-1:]), flush=True)
    about = __doc__.split("\n\n")[2]
    page = f"# Teeth lost by looking for them in few places\n\n{about}\n{table(rows)}\n"
    print(page)
    if args.page:
        args.page.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
