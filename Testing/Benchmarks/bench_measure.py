"""How far measured lengths and angles are from the truth, over the teeth of phantoms, by tooth type.

usage: .venv/bin/python Testing/Benchmarks/bench_measure.py [--heads N] [--seed S] [--spacing MM] [--setting NAME]

Truth is that of the drawing (ToothTopoSegLib/phantom/measures.py). The phantoms are label maps of the dentitions of
development seeds without the deformation that makes heads individual; no seed is one of the held-out ones. The angle
is that between the measured and the true long axis; tip and torque are against the arch that was fitted to the teeth,
so that they carry its errors too.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ToothTopoSegLib.anatomy import fdi as teeth
from ToothTopoSegLib.measurements.teeth import measured
from ToothTopoSegLib.phantom.arch import draw_dentition
from ToothTopoSegLib.phantom.measures import drawn_labels, true_measures

NAMES = ("length mm", "axis deg", "tip deg", "torque deg", "crown mm")


def errors_of_head(seed: int, spacing: float, natural: bool) -> dict[int, list[float]]:
    """Signed errors of every whole tooth of a head by FDI number; the one of the axis is an angle of at least 0."""
    dentition = draw_dentition(np.random.default_rng(seed), natural=natural)
    found = {tooth.fdi: tooth for tooth in measured(drawn_labels(dentition, spacing))}
    errors = {}
    for tooth in dentition.teeth:
        seen = found.get(tooth.fdi)
        if seen is None or seen.axis is None or seen.length is None or seen.crown_length is None:
            continue
        truth = true_measures(tooth, dentition)
        angle = float(np.degrees(np.arccos(np.clip(np.dot(seen.axis, truth.axis), -1, 1))))
        tip, torque = (
            (a - b) if a is not None else np.nan for a, b in ((seen.tip, truth.tip), (seen.torque, truth.torque))
        )
        errors[tooth.fdi] = [seen.length - truth.length, angle, tip, torque, seen.crown_length - truth.crown_length]
    return errors


def line(name: str, rows: list[list[float]]) -> str:
    """Mean and largest absolute error of each measure."""
    away = np.abs(np.array(rows))
    cells = [f"{mean:6.2f} {most:6.2f}" for mean, most in zip(np.nanmean(away, 0), np.nanmax(away, 0), strict=True)]
    return f"{name:<26} {len(rows):5d}  " + "  ".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--heads", type=int, default=12, metavar="N")
    parser.add_argument("--seed", type=int, default=50_000, metavar="S")
    parser.add_argument("--spacing", type=float, default=0.3, metavar="MM")
    parser.add_argument("--setting", choices=("plain", "natural"), default="plain")
    args = parser.parse_args()
    rows: dict[str, list[list[float]]] = {}
    for seed in range(args.seed, args.seed + args.heads):
        for fdi, errors in errors_of_head(seed, args.spacing, args.setting == "natural").items():
            jaw = "upper" if teeth.is_upper(fdi) else "lower"
            rows.setdefault(f"{jaw} {teeth.kind(fdi)}", []).append(errors)
        print(f"seed {seed} done", file=sys.stderr)
    print(f"{'mean and largest error':<26} teeth  " + "  ".join(f"{name:>13}" for name in NAMES))
    for name in sorted(rows):
        print(line(name, rows[name]))
    print(line("all", [row for some in rows.values() for row in some]))


if __name__ == "__main__":
    main()
