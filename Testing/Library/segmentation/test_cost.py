"""What is told of time and memory before a scan is segmented."""

from __future__ import annotations

import pytest

from ToothTopoSegLib.segmentation.cost import expected_cost


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
