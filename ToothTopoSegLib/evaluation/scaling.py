"""How time and memory of segmenting grow with the size of a scan and with threads.

In: a scan. Out: one row a run, each in a process of its own: the part of the scan around its teeth, the scan, and the
scan resampled to finer grids, then the scan once more and with other numbers of threads, with the SHA-256 of the labels
written.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.progress import Progress, silent

SIZES = (512, 768)
THREADS = (1, 2, 4)
USUAL_THREADS = 2
CROP_MARGIN_MM = 15.0
Segment = Callable[[Path, Path, int], dict[str, Any]]
"""Segments a scan file into a folder with that many threads, in a process of its own; gives its report."""


@dataclass(frozen=True)
class Run:
    """What one run cost: voxels (z, y, x), seconds in all and per step, peak memory in MB, the labels' SHA-256.

    ``processor_s`` are the seconds that the processor worked for it (0 on Windows), which other programs change little.
    """

    scan: str
    shape_zyx: tuple[int, int, int]
    threads: int
    seconds: float
    processor_s: float
    steps_s: dict[str, float]
    peak_mb: float
    teeth: int
    labels_sha256: str


def measure_scaling(scan: Path, folder: Path, segment: Segment, progress: Progress = silent) -> dict[str, Any]:
    """Rows of all runs on the scan file ``scan``, made in ``folder``; whether equal input gave equal labels."""
    from ToothTopoSegLib.imaging.read import read_scan

    first = _run("the scan", scan, folder / "first", USUAL_THREADS, segment)
    volume = read_scan(scan)
    rows = []
    for i, (name, made) in enumerate(_sizes(volume, _labels(folder / "first"), folder)):
        progress(0.1 + 0.4 * i / 3, f"measuring {name}")
        rows.append(_run(name, made, folder / f"size{i}", USUAL_THREADS, segment))
        made.unlink()
    threads = []
    for i, count in enumerate(THREADS):
        progress(0.5 + 0.4 * i / len(THREADS), f"measuring {count} threads")
        threads.append(_run("the scan", scan, folder / f"threads{count}", count, segment))
    same = len({run.labels_sha256 for run in (first, *threads)}) == 1
    result: dict[str, Any] = {
        "sizes": [asdict(r) for r in (rows[0], first, *rows[1:])],
        "threads": [asdict(r) for r in threads],
    }
    result |= {"same_labels": same, "larger_over_crop": round(rows[1].processor_s / max(rows[0].processor_s, 1e-9), 2)}
    return result


def _run(name: str, scan: Path, out: Path, threads: int, segment: Segment) -> Run:
    began, worked = time.perf_counter(), _processor_seconds()
    report = segment(scan, out, threads)
    seconds, work = round(time.perf_counter() - began, 2), round(_processor_seconds() - worked, 2)
    z, y, x = report["input"]["shape_zyx"]
    digest = hashlib.sha256(_labels(out).array.tobytes()).hexdigest()
    found = report["summary"]["teeth_found"]
    return Run(name, (z, y, x), threads, seconds, work, report["timing_s"], report["peak_rss_mb"], found, digest)


def _processor_seconds() -> float:
    """Of all processes started here that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def _labels(out: Path) -> Volume:
    from ToothTopoSegLib.imaging.read import read_label_map

    return read_label_map(next(out.glob("*_teeth.nii.gz")))


def _sizes(scan: Volume, labels: Volume, folder: Path) -> list[tuple[str, Path]]:
    """Scans of other sizes as files, each with its name: around the teeth, then larger ones of the same extent."""
    from ToothTopoSegLib.imaging.resample import resample_linear

    made = [("jaw crop", _written(around_teeth(scan, labels), folder / "crop.nii"))]
    for size in SIZES:
        spacing = [n * s / size for n, s in zip(scan.array.shape, scan.spacing, strict=True)]
        larger = resample_linear(scan, (spacing[0], spacing[1], spacing[2]))
        made.append((f"{size} x {size} x {size}", _written(larger, folder / f"size{size}.nii")))
    return made


def around_teeth(scan: Volume, labels: Volume) -> Volume:
    """The part of a scan that a scanner of the jaws would show: its teeth with a margin, or all of it without teeth."""
    from ToothTopoSegLib.imaging.resample import crop
    from ToothTopoSegLib.segmentation.classes import TEETH

    points = np.argwhere(np.isin(labels.array, TEETH))
    if not len(points):
        return scan
    margin = np.ceil(CROP_MARGIN_MM / np.asarray(scan.spacing)).astype(int)
    low = np.maximum(points.min(0) - margin, 0).tolist()
    high = np.minimum(points.max(0) + margin + 1, scan.array.shape).tolist()
    return crop(scan, (low[0], low[1], low[2]), (high[0], high[1], high[2]))


def _written(scan: Volume, path: Path) -> Path:
    from ToothTopoSegLib.imaging.itk import image_from_volume, import_sitk

    whole = np.rint(scan.array).astype(np.int16)
    import_sitk().WriteImage(image_from_volume(scan, np.ascontiguousarray(whole)), str(path))
    return path


def page(report: dict[str, Any]) -> str:
    """The figures as a Markdown page."""
    lines = ["# Time and memory of a scan by its size and by threads", "", f"Printed by `{report['command']}`.", ""]
    lines += [
        "| scan | voxels | threads | s | processor s | peak MB | teeth | steps, s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for run in (*report["sizes"], *report["threads"]):
        steps = ", ".join(f"{name} {value:.1f}" for name, value in run["steps_s"].items() if name != "total")
        voxels = " x ".join(map(str, run["shape_zyx"]))
        costs = f"{run['seconds']:.1f} | {run['processor_s']:.1f} | {run['peak_mb']:.0f}"
        lines.append(f"| {run['scan']} | {voxels} | {run['threads']} | {costs} | {run['teeth']} | {steps} |")
    same = "the same" if report["same_labels"] else "NOT the same"
    lines += ["", f"Labels of the scan are {same} bit for bit in every run. The first of the larger grids takes"]
    lines += [f"{report['larger_over_crop']} times the processor seconds of the jaw crop."]
    return "\n".join(lines) + "\n"
