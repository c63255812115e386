"""Figures one can repeat: time and memory of a scan, and accuracy on phantoms never trained on.

``./toothtopo bench --scan SCAN`` segments a scan in a process of its own, so that the peak memory is the whole
program's and nothing else's. ``./toothtopo bench --phantoms N`` measures the integer model beside its float twin.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ToothTopoSegLib.errors import InputError, ModelError
from ToothTopoSegLib.evaluation.demo import DEMO_SEED
from ToothTopoSegLib.phantom.write import write_phantoms
from ToothTopoSegLib.progress import Progress, part, silent


def bench_scan(
    scan: Path | None = None, threads: int | None = None, model: Path | None = None, progress: Progress = silent
) -> dict[str, Any]:
    """Seconds per step, peak memory (MB) and teeth found of segmenting ``scan`` once in a fresh process.

    Without a scan, the demo's phantom is made and used. Raises InputError with the program's own sentence when the
    scan cannot be segmented.
    """
    with tempfile.TemporaryDirectory(prefix="toothtopo-") as folder:
        scan = scan or _made(Path(folder), part(progress, 0.0, 0.4))
        progress(0.4, f"segmenting {scan.name}")
        report = segment_apart(scan, Path(folder) / "out", threads, model)
    progress(1.0, "done")
    return {
        "scan": scan.name,
        "shape_zyx": report["input"]["shape_zyx"],
        "threads": threads or "all",
        "timing_s": report["timing_s"],
        "peak_rss_mb": report["peak_rss_mb"],
        "teeth_found": report["summary"]["teeth_found"],
        "findings": report["summary"],
    }


def bench_scaling(
    scan: Path | None = None, model: Path | None = None, page_path: Path | None = None, progress: Progress = silent
) -> dict[str, Any]:
    """How the cost of a scan grows with its size and with threads: see :mod:`ToothTopoSegLib.evaluation.scaling`.

    ``page_path`` is where the figures go as a page. Raises as :func:`bench_scan` does, and OutputError
    when the page cannot be written.
    """
    from ToothTopoSegLib.evaluation.scaling import measure_scaling, page
    from ToothTopoSegLib.imaging.write import output_folder

    with tempfile.TemporaryDirectory(prefix="toothtopo-") as name:
        folder = Path(name)
        scan = scan or _made(folder, part(progress, 0.0, 0.1))

        def segment(path: Path, out: Path, threads: int) -> dict[str, Any]:
            return segment_apart(path, out, threads, model)

        report = measure_scaling(scan, folder, segment, progress)
    report = {"command": f"./toothtopo bench --scan {scan.name} --scaling"} | report
    if page_path is not None:
        with output_folder(page_path.parent) as staged:
            (staged / page_path.name).write_text(page(report), encoding="utf-8")
    return report


def _made(folder: Path, progress: Progress) -> Path:
    """The demo's phantom as a file."""
    made = write_phantoms(folder, 1, DEMO_SEED, progress=progress)["phantoms"][0]
    return folder / str(made["scan"])


def segment_apart(scan: Path, out: Path, threads: int | None = None, model: Path | None = None) -> dict[str, Any]:
    """The report of segmenting ``scan`` into ``out`` in a process of its own, whose peak memory is nothing else's.

    Raises InputError with the program's own sentence when the scan cannot be segmented.
    """
    command = [sys.executable, "-m", "ToothTopoSegLib", "segment", str(scan), "-o", str(out), "--json"]
    command += ["--threads", str(threads)] if threads else []
    command += ["--model", str(model)] if model else []
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    if done.returncode != 0:
        raise InputError((done.stderr.strip().splitlines() or ["the scan could not be segmented"])[-1])
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def bench_phantoms(
    count: int,
    seed: int | None = None,
    hard: bool = False,
    model: Path | None = None,
    card: bool = False,
    setting: str = "plain",
    progress: Progress = silent,
) -> dict[str, Any]:
    """Mean tooth Dice of the integer model and of its float twin on ``count`` phantoms, by default the held-out ones.

    ``setting`` says how heads and scanners are drawn. ``card`` writes the means into the bundle's card. Raises
    ModelError when a file of the bundle is missing or the model is an imported one.
    """
    from ToothTopoSegLib.evaluation.held_out import HELD_OUT_SEED, measure
    from ToothTopoSegLib.quantization.bundle import load_bundle
    from ToothTopoSegLib.quantization.export import float_bundle, record_metrics
    from ToothTopoSegLib.segmentation.runner import Runner

    bundle = load_bundle(model)
    if bundle.is_nnunet:
        raise ModelError(
            f"The model {bundle.path.name} is an imported one, which phantoms cannot measure beside a float twin; "
            "segment labelled scans with it and evaluate the results."
        )
    runners = {"integer": Runner(bundle), "float": Runner(float_bundle(bundle))}
    first = HELD_OUT_SEED if seed is None else seed
    measured = measure(bundle, runners, range(first, first + count), hard, setting, progress)
    if card:
        record_metrics(bundle.path, measured)
    return measured
