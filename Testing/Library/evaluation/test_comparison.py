"""Models side by side: what is measured of a label map, and how the rows are summed up."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from ToothTopoSegLib.evaluation import comparison, comparison_table
from ToothTopoSegLib.evaluation.comparison import MEASURES, compare, held_out_scan, measures, tidied
from ToothTopoSegLib.evaluation.comparison_table import estimate, fewer_wrong, grid, markdown
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.phantom.write import Phantom
from ToothTopoSegLib.quantization.bundle import load_bundle
from ToothTopoSegLib.segmentation.runner import Runner


def drawn() -> NDArray[np.uint8]:
    """Two blocks of teeth."""
    labels = np.zeros((12, 14, 26), np.uint8)
    labels[2:10, 2:12, 2:12] = 36
    labels[2:10, 2:12, 14:24] = 37
    return labels


def volume(labels: NDArray[np.uint8]) -> Volume:
    return Volume(labels, (0.5, 0.5, 0.5))


def test_the_truth_itself_has_no_error() -> None:
    found = measures(volume(drawn()), volume(drawn()))
    assert found["dice"] == found["tp_dice"] == found["f1"] == 1.0
    assert not any(found[name] for name in ("hd95_mm", "b0_error", "teeth_wrong", "scan_wrong", "forbidden_contacts"))


def test_wrong_betti_numbers_are_counted_by_tooth_in_both_connectivities() -> None:
    labels = drawn()
    labels[5:7, 6:8, 6:8] = 0  # a cavity
    labels[10, 12, 12] = 36  # joined by a corner: a piece of its own for faces alone
    found = measures(volume(labels), volume(drawn()))
    assert (found["b0_error"], found["b2_error"], found["teeth_wrong"]) == (0.0, 0.5, 0.5)
    assert (found["b0_error_6"], found["b2_error_6"], found["scan_wrong_6"]) == (0.5, 0.5, True)


def test_a_tooth_that_is_missed_counts_as_wrong() -> None:
    labels = np.where(drawn() == 37, 0, drawn()).astype(np.uint8)
    found = measures(volume(labels), volume(drawn()))
    assert (found["teeth_wrong"], found["dice"]) == (0.5, 0.5)


def test_tidying_keeps_the_largest_piece_and_fills_its_voids_but_no_other_tooth() -> None:
    labels = drawn()
    labels[5:7, 6:8, 6:8] = 0
    labels[6, 7, 7], labels[5, 6, 6] = 37, 38  # a piece of a tooth beside, and all that is found of another
    labels[0, 0, 0] = 36
    after = tidied(volume(labels)).array
    assert after[0, 0, 0] == 0 and (after[5:7, 6:8, 6:8] == 36).sum() == 7 and after[5, 6, 6] == 38
    assert labels[0, 0, 0] == 36, "the label map that was given is left alone"


def test_a_scan_fills_one_tile_and_is_the_same_each_time() -> None:
    bundle = load_bundle()
    small = replace(bundle, card={**bundle.card, "plan": {"patch": [16, 32, 32], "spacing": 1.0}})
    first, second = (held_out_scan(7000, small) for _ in range(2))
    assert np.array_equal(first.scan.array, second.scan.array)
    extent = np.multiply(first.scan.array.shape, first.scan.spacing)
    assert (extent <= (16, 32, 32)).all() and (extent > (15, 31, 31)).all()


def test_each_scan_gives_a_row_raw_and_one_tidied() -> None:
    bundle = load_bundle()
    grey = np.random.default_rng(0).normal(0, 100, (12, 20, 20)).astype(np.int16)
    scan = Volume(grey, (1.0, 1.0, 1.0))
    phantom = Phantom(scan, scan.with_array(np.full(grey.shape, 36, np.uint8)), {})
    rows = compare("qat", 3, bundle, Runner(bundle, threads=1), [(7000, phantom)])
    assert [(r["model"], r["seed"], r["scan"], r["treatment"]) for r in rows] == [
        ("qat", 3, 7000, "raw"),
        ("qat", 3, 7000, "tidied"),
    ]
    assert all(name in row for row in rows for name in MEASURES)


# ---- summing up


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
    assert estimate(np.full((2, 5), 0.25), 50) == comparison_table.Estimate(0.25, 0.25, 0.25)
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
    comparison_table.write_csv(rows, tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open(encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert len(read) == len(rows) and read[0]["teeth_wrong"] == "0.25" and read[0]["hd95_mm"] == ""
    comparison_table.draw(rows, {"ptq": "PTQ INT8"}, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_a_grid_has_a_line_a_training_seed() -> None:
    wrong = np.arange(6.0).reshape(2, 3) / 10
    assert np.array_equal(grid(rows_of("qat", wrong), "qat", "raw", "teeth_wrong"), wrong)
