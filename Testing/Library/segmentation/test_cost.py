"""What is told of time and memory before a scan is segmented."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from ToothTopoSegLib.segmentation.cost import expected_cost, megabytes_of, workers_that_fit


@pytest.mark.parametrize(
    ("shape", "spacing", "threads", "seconds", "megabytes"),
    [
        ((330, 360, 360), (0.5, 0.5, 0.5), 1, 22.0, 977),
        ((330, 360, 360), (0.5, 0.5, 0.5), 2, 18.4, 981),
        ((160, 153, 183), (0.5, 0.5, 0.5), 2, 16.4, 918),
        ((512, 512, 512), (0.322, 0.352, 0.352), 2, 21.8, 1334),
        ((768, 768, 768), (0.215, 0.234, 0.234), 2, 32.8, 2653),
    ],
)
def test_the_measured_scans_are_expected_to_cost_what_they_did(shape, spacing, threads, seconds, megabytes):
    cost = expected_cost(shape, spacing, threads=threads)
    assert cost.seconds == pytest.approx(seconds, rel=0.2)
    assert cost.megabytes == pytest.approx(megabytes, rel=0.2)


def test_more_threads_a_smaller_scan_and_a_faster_computer_take_less_time():
    scan = ((330, 360, 360), (0.5, 0.5, 0.5))
    slow = expected_cost(*scan, threads=1).seconds
    assert expected_cost(*scan, threads=4).seconds < slow
    assert expected_cost(*scan, threads=64).seconds == expected_cost(*scan, threads=8).seconds
    assert expected_cost((330, 360, 180), scan[1], threads=1).seconds < slow
    assert expected_cost(*scan, threads=1, pace=0.5).seconds == pytest.approx(slow / 2)


def test_wider_voxels_take_more_memory():
    assert (
        expected_cost((330, 360, 360), (0.5,) * 3, 4).megabytes
        > expected_cost((330, 360, 360), (0.5,) * 3, 2).megabytes
    )


def test_the_memory_of_a_scan_is_known_from_its_header(tmp_path: Path) -> None:
    image = SimpleITK.GetImageFromArray(np.zeros((40, 50, 60), np.float32))
    SimpleITK.WriteImage(image, str(tmp_path / "a.nii.gz"))
    (tmp_path / "dicom").mkdir()
    (tmp_path / "dicom" / "1.dcm").write_bytes(bytes(2 * 40 * 50 * 60))
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "dicom" / "1.dcm")
    (tmp_path / "broken.nii.gz").write_bytes(b"no scan")
    wide, narrow = (expected_cost((40, 50, 60), (1, 1, 1), size).megabytes for size in (4, 2))
    assert megabytes_of(tmp_path / "a.nii.gz") == pytest.approx(wide)
    assert megabytes_of(tmp_path / "dicom") == megabytes_of(tmp_path / "a.zip") == pytest.approx(narrow)
    empty = expected_cost((0, 0, 0), (1, 1, 1)).megabytes
    assert megabytes_of(tmp_path / "broken.nii.gz") == megabytes_of(tmp_path / "none.nrrd") == empty


@pytest.mark.parametrize(
    ("free", "cores", "workers"),
    [(100_000, 2, 2), (100_000, 16, 4), (4_900, 16, 2), (3_000, 16, 1), (100, 1, 1)],
    ids=["cores", "scans", "memory", "memory for the largest", "at least one"],
)
def test_as_many_workers_as_cores_scans_and_memory_allow(free: float, cores: int, workers: int) -> None:
    assert workers_that_fit([900, 2000, 900, 900], free, cores) == workers
