"""The rows of the experiment summed up: means with intervals, differences, table and picture."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from numpy.typing import NDArray

from ToothTopoSegLib.evaluation import comparison
from ToothTopoSegLib.evaluation.comparison import MEASURES
from ToothTopoSegLib.training import experiment_table
from ToothTopoSegLib.training.experiment_table import estimate, fewer_wrong, grid, markdown


def rows_of(model: str, wrong: NDArray[np.float64]) -> list[comparison.Row]:
    """Rows of a model with these shares of wrong teeth (training seeds, scans)."""
    return [
        {"model": model, "seed": seed, "scan": scan, "treatment": treatment}
        | dict.fromkeys(MEASURES, 0.5)
        | {"teeth_wrong": float(wrong[seed, scan]), "teeth_wrong_6": 1.0, "hd95_mm": None}
        for seed in range(wrong.shape[0])
        for scan in range(wrong.shape[1])
        for treatment in comparison.TREATMENTS
    ]


def test_a_mean_lies_within_its_interval_and_equal_values_have_none() -> None:
    values = np.random.default_rng(1).normal(0.5, 0.1, (3, 20))
    found = estimate(values, 500)
    assert found.low < found.mean < found.high and found.mean == pytest.approx(values.mean())
    assert estimate(np.full((2, 5), 0.25), 50) == experiment_table.Estimate(0.25, 0.25, 0.25)
    assert estimate(values, 500) == found, "the same each time"


def test_values_that_are_missing_are_left_out_and_nothing_at_all_is_an_error() -> None:
    assert estimate(np.array([[0.2, np.nan, 0.2]]), 50).mean == pytest.approx(0.2)
    with pytest.raises(ValueError, match="nothing to take a mean of"):
        estimate(np.full((1, 2), np.nan))


def test_scans_in_which_half_as_many_teeth_are_wrong_are_half_as_wrong() -> None:
    wrong = np.random.default_rng(2).uniform(0.2, 0.6, (3, 10))
    rows = rows_of("qat", wrong) + rows_of("qat_topology", wrong / 2)
    assert fewer_wrong(rows, "qat_topology", "qat", "raw").mean == pytest.approx(0.5)
    with pytest.raises(ValueError, match="no tooth that is wrong"):
        fewer_wrong(rows_of("a", wrong) + rows_of("b", wrong * 0), "a", "b", "raw")


def test_the_table_has_a_line_a_model_and_a_part_a_treatment() -> None:
    rows = rows_of("ptq", np.full((2, 3), 0.25))
    text = markdown(rows, {"ptq": "PTQ INT8"})
    (raw, tidy) = text.split("**Tidied**")
    assert "| PTQ INT8 |" in raw and "| PTQ INT8 |" in tidy
    assert "25.0 (25.0 to 25.0)" in raw and "| - |" in raw, "what was never measured is a dash"
    assert "100.0 (100.0 to 100.0)" in markdown(rows, {"ptq": "PTQ INT8"}, "_6")


def test_rows_and_picture_are_written(tmp_path) -> None:
    rows = rows_of("ptq", np.full((2, 3), 0.25))
    experiment_table.write_csv(rows, tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open(encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert len(read) == len(rows) and read[0]["teeth_wrong"] == "0.25" and read[0]["hd95_mm"] == ""
    experiment_table.draw(rows, {"ptq": "PTQ INT8"}, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_a_grid_has_a_line_a_training_seed() -> None:
    wrong = np.arange(6.0).reshape(2, 3) / 10
    assert np.array_equal(grid(rows_of("qat", wrong), "qat", "raw", "teeth_wrong"), wrong)
