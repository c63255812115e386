"""The rows of :mod:`ToothTopoSegLib.evaluation.comparison` summed up: means with confidence intervals, table and plot.

The interval is that of the hierarchical percentile bootstrap (Efron and Tibshirani, *An Introduction to the Bootstrap*,
1993): training seeds and scans are drawn anew with replacement, the same scans for every model, so that differences of
two models are paired.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.evaluation.comparison import MEASURES, TREATMENTS, Row

DRAWS = 4000
TITLES = {
    "dice": "Dice",
    "tp_dice": "TP-Dice",
    "f1": "F1",
    "hd95_mm": "HD95, mm",
    "b0_error": "mean abs. Δb0",
    "b1_error": "mean abs. Δb1",
    "b2_error": "mean abs. Δb2",
    "teeth_wrong": "teeth wrong, %",
    "scan_wrong": "scans wrong, %",
    "forbidden_contacts": "forbidden contacts a scan",
}
_PERCENT = ("teeth_wrong", "scan_wrong")


@dataclass(frozen=True)
class Estimate:
    """A mean over training seeds and scans with the ends of its 95 % confidence interval."""

    mean: float
    low: float
    high: float

    def text(self, decimals: int, factor: float = 1.0) -> str:
        """For people: mean (low to high)."""
        mean, low, high = (f"{factor * value:.{decimals}f}" for value in (self.mean, self.low, self.high))
        return f"{mean} ({low} to {high})"


def grid(rows: Sequence[Row], model: str, treatment: str, measure: str) -> NDArray[np.float64]:
    """The values (training seeds, scans) of one model; NaN where there was nothing to measure or no such row."""
    own = [row for row in rows if row["model"] == model and row["treatment"] == treatment]
    seeds, scans = sorted({row["seed"] for row in own}), sorted({row["scan"] for row in rows})
    values = np.full((len(seeds), len(scans)), np.nan)
    for row in own:
        value = row[measure]
        values[seeds.index(row["seed"]), scans.index(row["scan"])] = np.nan if value is None else float(value)
    return values


def estimate(values: NDArray[np.float64], draws: int = DRAWS) -> Estimate:
    """Mean and interval of values (training seeds, scans); raises ValueError where there is none."""
    if not np.isfinite(values).any():
        raise ValueError("there is nothing to take a mean of")
    chance = np.random.default_rng(0)
    seeds = chance.integers(len(values), size=(draws, len(values), 1))
    scans = chance.integers(values.shape[1], size=(draws, 1, values.shape[1]))
    means = _means(values[seeds, scans].reshape(draws, -1))
    low, high = np.nanpercentile(means, (2.5, 97.5))
    return Estimate(float(np.nanmean(values)), float(low), float(high))


def _means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    there = np.isfinite(values)
    sums = np.where(there, values, 0.0).sum(axis=1)
    counts = there.sum(axis=1)
    return np.divide(sums, counts, out=np.full(len(values), np.nan), where=counts > 0)


def fewer_wrong(rows: Sequence[Row], model: str, than: str, treatment: str) -> Estimate:
    """By which share fewer teeth have a wrong Betti number with ``model`` than with another one, on the same scans.

    Each training seed is held against the mean of the other model's seeds on that scan.
    """
    mine, other = (grid(rows, name, treatment, "teeth_wrong") for name in (model, than))
    base = float(np.nanmean(other))
    if base == 0:
        raise ValueError(f"{than} has no tooth that is wrong")
    return estimate((np.nanmean(other, axis=0)[None] - mine) / base)


def markdown(rows: Sequence[Row], names: Mapping[str, str], suffix: str = "") -> str:
    """A table for each treatment: a line a model (``names`` gives titles and order), a column a measure.

    ``suffix`` "_6" takes the Betti numbers of a 6-connected foreground.
    """
    parts = []
    for treatment in TREATMENTS:
        head = ["model", *(TITLES[name] for name in MEASURES)]
        lines = [f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
        for model, title in names.items():
            cells = [_cell(grid(rows, model, treatment, _column(name, suffix, rows)), name) for name in MEASURES]
            lines.append(f"| {' | '.join([title, *cells])} |")
        parts.append(f"**{treatment.capitalize()}**\n\n" + "\n".join(lines))
    return "\n\n".join(parts)


def _column(measure: str, suffix: str, rows: Sequence[Row]) -> str:
    return measure + suffix if measure + suffix in rows[0] else measure


def _cell(values: NDArray[np.float64], measure: str) -> str:
    if not np.isfinite(values).any():
        return "-"
    share = measure in _PERCENT
    return estimate(values).text(1 if share else 3 if measure != "hd95_mm" else 2, 100 if share else 1)


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """All rows as they are."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)


def read_csv(path: Path) -> list[Row]:
    """The rows that :func:`write_csv` wrote."""
    with path.open(newline="", encoding="utf-8") as file:
        return [{name: _value(name, text) for name, text in line.items()} for line in csv.DictReader(file)]


def _value(name: str, text: str) -> str | int | float | bool | None:
    if name in ("model", "treatment"):
        return text
    if name in ("seed", "scan"):
        return int(text)
    return {"": None, "True": True, "False": False}[text] if text in ("", "True", "False") else float(text)


def draw(rows: Sequence[Row], names: Mapping[str, str], path: Path) -> None:
    """A picture (PNG) of the share of teeth with a wrong Betti number and of Dice, a bar a model and treatment."""
    # matplotlib: axes, error bars and legends are solved problems.
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(11, 0.5 * len(names) + 1.6), sharey=True, layout="constrained")
    for axis, measure, factor in ((axes[0], "teeth_wrong", 100.0), (axes[1], "dice", 1.0)):
        _bars(axis, rows, names, measure, factor)
    axes[0].set_yticks(range(len(names)), list(names.values()))
    axes[0].invert_yaxis()
    axes[0].set_xlim(left=0)
    axes[1].legend(loc="lower right", fontsize="small")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _bars(axis: Any, rows: Sequence[Row], names: Mapping[str, str], measure: str, factor: float) -> None:
    lowest = 1.0
    for number, (treatment, colour) in enumerate(zip(TREATMENTS, ("#c0504d", "#4f81bd"), strict=True)):
        found = [estimate(grid(rows, model, treatment, measure)) for model in names]
        means = np.array([factor * one.mean for one in found])
        ends = np.array([[factor * (e.mean - e.low), factor * (e.high - e.mean)] for e in found]).T.clip(0)
        places = np.arange(len(names)) + (number - 0.5) * 0.36
        axis.barh(places, means, 0.34, xerr=ends, color=colour, label=treatment, error_kw={"elinewidth": 1})
        lowest = min(lowest, float((means - ends[0]).min()))
    axis.set_xlabel(TITLES[measure])
    if measure == "dice":
        axis.set_xlim(max(0.0, lowest - 0.05), 1.0)
