"""The table of costs, with runs that cost what the test says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ToothTopoSegLib.evaluation import scaling
from ToothTopoSegLib.evaluation.scaling import around_teeth, measure_scaling, page
from ToothTopoSegLib.imaging.read import read_scan
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.imaging.write import write_label_map


class Segmenter:
    """Labels what is bright as a tooth, differently with ``unsteady`` threads, and remembers what it was given."""

    def __init__(self, unsteady: int = 0) -> None:
        self.given: list[tuple[tuple[int, ...], int]] = []
        self._unsteady = unsteady

    def __call__(self, scan: Path, out: Path, threads: int) -> dict[str, Any]:
        volume = read_scan(scan)
        self.given.append((volume.array.shape, threads))
        labels = np.where(volume.array > 500, 36, 0).astype(np.uint8)
        if threads == self._unsteady:
            labels[0, 0, 0] = 11
        out.mkdir()
        write_label_map(volume.with_array(labels), out / "scan_teeth.nii.gz")
        shape = list(volume.array.shape)
        steps = {"read": 0.1, "network": 1.0, "total": 1.1}
        return {
            "input": {"shape_zyx": shape},
            "summary": {"teeth_found": 1},
            "timing_s": steps,
            "peak_rss_mb": 500.0,
        }


@pytest.fixture
def scan_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A scan of 40 x 44 x 48 voxels of 2 mm with one bright block; the larger sizes are 50 and 60."""
    monkeypatch.setattr(scaling, "SIZES", (50, 60))
    grey = np.zeros((40, 44, 48), np.int16)
    grey[18:22, 20:24, 22:26] = 1000
    return scaling._written(Volume(grey, (2.0, 2.0, 2.0)), tmp_path / "head.nii")


def test_every_size_and_number_of_threads_is_run_and_told(scan_file: Path, tmp_path: Path) -> None:
    segmenter = Segmenter()
    report = measure_scaling(scan_file, tmp_path, segmenter)
    assert [run["scan"] for run in report["sizes"]] == ["jaw crop", "the scan", "50 x 50 x 50", "60 x 60 x 60"]
    assert [run["shape_zyx"] for run in report["sizes"][1:]] == [(40, 44, 48), (50, 50, 50), (60, 60, 60)]
    assert [run["threads"] for run in report["threads"]] == [1, 2, 4]
    assert report["same_labels"] and len(segmenter.given) == 7


def test_labels_that_depend_on_the_threads_are_told(scan_file: Path, tmp_path: Path) -> None:
    report = measure_scaling(scan_file, tmp_path, Segmenter(unsteady=4))
    assert not report["same_labels"]
    assert "NOT the same" in page(report | {"command": "c"})


def test_the_page_holds_a_row_a_run(scan_file: Path, tmp_path: Path) -> None:
    report = measure_scaling(scan_file, tmp_path, Segmenter()) | {"command": "./toothtopo bench"}
    text = page(report)
    assert text.count("| read 0.1, network 1.0 |") == 7 and "the same bit for bit" in text


def test_a_crop_around_teeth_has_them_with_a_margin_at_their_place_in_the_world() -> None:
    labels = np.zeros((60, 60, 60), np.uint8)
    labels[30:34, 20:24, 28:32] = 11
    labels[0, 0, 0] = 101
    scan = Volume(np.arange(60**3, dtype=np.float32).reshape(60, 60, 60), (1.0, 1.0, 1.0), (5.0, 6.0, 7.0))
    cut = around_teeth(scan, scan.with_array(labels))
    assert cut.array.shape == (34, 34, 34)
    assert cut.array[0, 0, 0] == scan.array[15, 5, 13] and cut.origin == (18.0, 11.0, 22.0)


def test_without_teeth_the_crop_is_the_scan() -> None:
    scan = Volume(np.zeros((9, 9, 9), np.uint8))
    assert around_teeth(scan, scan) is scan
