"""Models side by side: what is measured of a label map, and of which scans."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.evaluation.comparison import MEASURES, compare, held_out_scan, measures, tidied
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
