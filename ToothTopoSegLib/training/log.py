"""The log of a training: every term of the objective and the measures, as CSV and, where installed, for TensorBoard.

In: rows of numbers by column. Out: ``log.csv`` in the run folder and, beside it, the folder ``tensorboard``, which
``tensorboard --logdir`` shows as curves. A training that goes on from a checkpoint logs the steps since then again:
what the log knew of them is forgotten first.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ToothTopoSegLib.training.losses.objective import LOG_COLUMNS

MEASURES = ("dice_teeth", "dice_any_tooth")
COLUMNS = ("step", "rate", "loss", *LOG_COLUMNS[1:], *MEASURES, "seconds")
"""``loss`` is the mean of the total over the steps since the row before; the terms are those of the row's own step."""


class TrainingLog:
    """The log of the run in a folder, from a step on."""

    def __init__(self, folder: Path, step: int) -> None:
        self._path = folder / "log.csv"
        self._rewind(step)
        self._board = _board(folder / "tensorboard", step)

    def add(self, step: int, rate: float, loss: float, seconds: float, values: Mapping[str, float]) -> None:
        """Add a row; ``values`` are terms and measures, those that are missing stay empty."""
        row = {"step": step, "rate": f"{rate:.2e}", "loss": f"{loss:.4f}", "seconds": f"{seconds:.0f}"}
        row |= {name: f"{value:.4f}" for name, value in values.items() if name in COLUMNS}
        new = not self._path.exists()
        with self._path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, restval="")
            if new:
                writer.writeheader()
            writer.writerow(row)
        if self._board is not None:
            for name, value in {"loss": loss, "rate": rate, **values}.items():
                self._board.add_scalar(name, value, step)
            self._board.flush()

    def close(self) -> None:
        """End the log."""
        if self._board is not None:
            self._board.close()

    def _rewind(self, step: int) -> None:
        if not self._path.exists():
            return
        with self._path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if int(row["step"]) <= step]
        staged = self._path.with_suffix(".part")
        with staged.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, restval="", extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
        staged.replace(self._path)


def _board(folder: Path, step: int) -> Any:
    """TensorBoard's writer; None where TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=step + 1)
