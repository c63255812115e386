"""How far measured lengths and angles are from the truth, over the teeth of phantoms, by tooth type.

usage: .venv/bin/python Testing/Benchmarks/bench_measure.py [--heads N] [--seed S] [--spacing MM] [--setting NAME]

Truth is that of the drawing of each tooth alone (ToothTopoSegLib/phantom/measures.py). The phantoms are label maps of
the dentitions of development seeds without the deformation that makes heads individual; no seed is one of the held-out
ones. The angle is that between the measured and the true long axis; tip and torque are against the arch that was
fitted to the teeth, so that they carry its errors too.

Where drawings overlap, as in crowding, a tooth's label lacks what its neighbour got: no measurement of the label can be
that of the drawing. Such teeth are in all rows; the last but one and but two tell those that kept at least 95 % of
their volume from the others. Every tooth beyond 0.5 mm or 2 degrees is listed with the share that it kept.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ToothTopoSegLib.anatomy import fdi as teeth
from ToothTopoSegLib.measurements.teeth import measured
from ToothTopoSegLib.phantom.arch import draw_dentition
from ToothTopoSegLib.phantom.measures import drawn_labels, true_measures

NAMES = ("length mm", "axis deg", "tip deg", "torque deg", "crown mm")
LIMITS = (0.5, 2.0, 2.0, 2.0)
WHOLE = 0.95
"""From this share of its volume on a tooth counts as whole in the labels."""


@dataclass(frozen=True)
class Measured:
    """One tooth: head, FDI number, share of its drawn volume in the labels, and signed errors in the order of NAMES."""

    seed: int
    fdi: int
    kept: float
    errors: tuple[float, ...]

    @property
    def beyond(self) -> bool:
        """Whether an error is larger than its limit."""
        return any(abs(error) > limit for error, limit in zip(self.errors, LIMITS, strict=False))


def teeth_of_head(seed: int, spacing: float, natural: bool) -> list[Measured]:
    """Every tooth of a head whose axis was measured; the error of the axis is an angle of at least 0."""
    dentition = draw_dentition(np.random.default_rng(seed), natural=natural)
    found = {tooth.fdi: tooth for tooth in measured(drawn_labels(dentition, spacing))}
    rows = []
    for tooth in dentition.teeth:
        seen = found.get(tooth.fdi)
        if seen is None or seen.axis is None or seen.length is None or seen.crown_length is None:
            continue
        truth = true_measures(tooth, dentition)
        angle = float(np.degrees(np.arccos(np.clip(np.dot(seen.axis, truth.axis), -1, 1))))
        tip, torque = apart(seen.tip, truth.tip), apart(seen.torque, truth.torque)
        errors = (seen.length - truth.length, angle, tip, torque, seen.crown_length - truth.crown_length)
        rows.append(Measured(seed, tooth.fdi, seen.volume / truth.volume, errors))
    return rows


def apart(angle: float | None, truth: float) -> float:
    """The difference of two angles in degrees, the short way round; NaN where there is none."""
    return float("nan") if angle is None else (angle - truth + 180) % 360 - 180


def line(name: str, rows: list[Measured]) -> str:
    """Mean and largest absolute error of each measure."""
    away = np.abs(np.array([row.errors for row in rows]))
    cells = [f"{mean:6.2f} {most:6.2f}" for mean, most in zip(np.nanmean(away, 0), np.nanmax(away, 0), strict=True)]
    return f"{name:<26} {len(rows):5d}  " + "  ".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--heads", type=int, default=12, metavar="N")
    parser.add_argument("--seed", type=int, default=50_000, metavar="S")
    parser.add_argument("--spacing", type=float, default=0.3, metavar="MM")
    parser.add_argument("--setting", choices=("plain", "natural"), default="plain")
    args = parser.parse_args()
    rows: list[Measured] = []
    for seed in range(args.seed, args.seed + args.heads):
        rows += teeth_of_head(seed, args.spacing, args.setting == "natural")
        print(f"seed {seed} done", file=sys.stderr)
    kinds: dict[str, list[Measured]] = {}
    for row in rows:
        jaw = "upper" if teeth.is_upper(row.fdi) else "lower"
        kinds.setdefault(f"{jaw} {teeth.kind(row.fdi)}", []).append(row)
    groups = dict(sorted(kinds.items()))
    groups["whole in the labels"] = [row for row in rows if row.kept >= WHOLE]
    groups["cut by a neighbour"] = [row for row in rows if row.kept < WHOLE]
    groups["all"] = rows
    print(f"{'mean and largest error':<26} teeth  " + "  ".join(f"{name:>13}" for name in NAMES))
    for name, some in groups.items():
        if some:
            print(line(name, some))
    print(f"\nbeyond {LIMITS[0]} mm or {LIMITS[1]:g} degrees: {sum(row.beyond for row in rows)} of {len(rows)}")
    for row in (row for row in rows if row.beyond):
        figures = "  ".join(f"{name} {error:+.2f}" for name, error in zip(NAMES, row.errors, strict=True))
        print(f"seed {row.seed} tooth {row.fdi} kept {row.kept:.0%}: {figures}")


if __name__ == "__main__":
    main()
