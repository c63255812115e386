"""Throughput and memory of a batch by worker processes, beside what the same processors could do at best.

usage: .venv/bin/python Testing/Benchmarks/bench_batch.py [SCAN ...] [--scans N] [--workers W] [--page PAGE]

N copies of the SCANs (by default of phantoms) are segmented by W workers of one thread each, and each SCAN alone in a
process of its own: with one thread, of which W at once are the ideal that nobody in between can beat, and with W
threads, which is what a batch one after the other does. Where other programs run beside, compare the processor's
seconds of a scan, which they change little. Ideal and batch count from the first scan to the last: the
start of the workers is told by itself. Workers tell their memory before each scan, by process; what it grows by is the
median of the last quarter of their scans less that of the second quarter: the first ones load and warm up.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ToothTopoSegLib.imaging.write import output_folder
from ToothTopoSegLib.phantom.write import write_phantoms
from ToothTopoSegLib.progress import Progress, silent
from ToothTopoSegLib.segmentation import cluster
from ToothTopoSegLib.segmentation.pipeline import segment_to_folder

ROOT = Path(__file__).resolve().parents[2]
ALONE = """
import sys, time
from pathlib import Path
from ToothTopoSegLib.segmentation.pipeline import segment_to_folder
for scan in map(Path, sys.argv[3:]):
    for turn in range(2):  # the first loads what a worker loads once
        began = time.perf_counter(), time.process_time()
        segment_to_folder(scan, Path(sys.argv[1]), threads=int(sys.argv[2]))
    print(time.perf_counter() - began[0], time.process_time() - began[1])
"""


@dataclass(frozen=True)
class Done:
    """What a worker tells of one scan: its process, its memory in MB before, and the scan's and processor's seconds."""

    process: int
    megabytes: float
    seconds: float
    processor: float


def work(item: tuple[Path, Path], progress: Progress) -> tuple[int, float, float, float]:
    """Segment one scan on a worker, as a batch does it."""
    import psutil

    began, processor = time.perf_counter(), time.process_time()
    scan, out = item
    megabytes = psutil.Process().memory_info().rss / 1e6  # what the scans before have left
    segment_to_folder(scan, out, threads=1, progress=progress)
    return os.getpid(), megabytes, time.perf_counter() - began, time.process_time() - processor


def alone(scans: Sequence[Path], threads: int, out: Path) -> list[tuple[float, float]]:
    """Seconds and processor's seconds that each scan takes by itself, the second time in its process."""
    command = [sys.executable, "-c", ALONE, str(out), str(threads), *map(str, scans)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    told = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    times = [tuple(map(float, line.split())) for line in told.splitlines()]
    return [(seconds, processor) for seconds, processor in times]


def batch(scans: Sequence[Path], workers: int, out: Path) -> tuple[float, float, list[Done]]:
    """Seconds until the workers stood ready, seconds of all scans, and what was told of each in the order of the ends.

    Ready are workers that have each segmented one scan, as those have that are timed alone.
    """
    began = time.perf_counter()
    with cluster.local_workers(workers) as client:
        items = [(scan, out / str(number)) for number, scan in enumerate(scans)]
        names = [scan.name for scan in scans]
        list(cluster.spread(client, work, items[:workers], names[:workers], silent))
        ready = time.perf_counter()
        with closing(cluster.spread(client, work, items, names, silent)) as results:
            told = [Done(*result) for _, result in results if not isinstance(result, cluster.Lost)]
        return ready - began, time.perf_counter() - ready, told


def growth(told: Sequence[Done]) -> dict[int, tuple[int, float, float]]:
    """Scans, MB in the second quarter of them and MB in the last, by worker."""
    by_process: dict[int, list[float]] = defaultdict(list)
    for one in told:
        by_process[one.process].append(one.megabytes)
    quarters = {process: (len(values), max(len(values) // 4, 1)) for process, values in by_process.items()}
    return {
        process: (
            count,
            statistics.median(by_process[process][quarter : 2 * quarter] or by_process[process]),
            statistics.median(by_process[process][-quarter:]),
        )
        for process, (count, quarter) in quarters.items()
    }


def table(scans: Sequence[Path], workers: int, folder: Path) -> str:
    """All measurements as a page."""
    sources = sorted(set(scans))
    one, several = (dict(zip(sources, alone(sources, n, folder / "alone"), strict=True)) for n in (1, workers))
    start, seconds, told = batch(scans, workers, folder / "batch")
    processors = sum(one[scan][0] for scan in scans) / workers
    in_turn = sum(several[scan][0] for scan in scans)
    lines = [
        f"{len(scans)} scans by {workers} workers of one thread each: {seconds:.1f} s, {start:.1f} s to start.",
        "",
        "| ideal | s | reached |",
        "|---|---|---|",
        f"| {workers} scans at once, each as alone with one thread | {processors:.1f} | {processors / seconds:.2f} |",
        f"| one scan after the other with {workers} threads | {in_turn:.1f} | {in_turn / seconds:.2f} |",
        "",
        "| a scan (medians) | s | processor's s |",
        "|---|---|---|",
        _timing("alone with one thread", list(one.values())),
        _timing(f"alone, threads: {workers}", list(several.values())),
        _timing("on a worker", [(done.seconds, done.processor) for done in told]),
        "",
        "| worker | scans | MB in its second quarter | MB in its last |",
        "|---|---|---|---|",
    ]
    for number, (count, early, late) in enumerate(growth(told).values(), 1):
        lines.append(f"| {number} | {count} | {early:.0f} | {late:.0f} |")
    return "\n".join(lines) + "\n"


def _timing(name: str, times: Sequence[tuple[float, float]]) -> str:
    seconds, processor = (statistics.median(column) for column in zip(*times, strict=True))
    return f"| {name} | {seconds:.1f} | {processor:.1f} |"


def main() -> None:
    """Measure and print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scans", nargs="*", type=Path, metavar="SCAN")
    parser.add_argument("--scans", dest="count", type=int, default=6, metavar="N")
    parser.add_argument("--workers", type=int, default=2, metavar="W")
    parser.add_argument("--page", type=Path, metavar="PAGE")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench_batch-"))
    try:
        if not args.scans:
            write_phantoms(folder / "phantoms", min(args.count, 2), 0)
        found = args.scans or sorted(
            path for path in (folder / "phantoms").glob("*.nii.gz") if not path.name.endswith("_labels.nii.gz")
        )
        page = table([found[number % len(found)] for number in range(args.count)], args.workers, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(page)
    if args.page is not None:
        with output_folder(args.page.parent) as staged:
            (staged / args.page.name).write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
