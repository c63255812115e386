"""Labelled scans of the scene as files for fine-tuning: real nodes in, read back by the engine."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from ToothTopoSegLib.errors import Cancelled, InputError, OutputError
from ToothTopoSegLib.imaging.read import read_label_map, read_scan

NAMES = {"36": 36, "37": 37, "11": 11, "lower jaw": 101}


@pytest.fixture
def case_files(slicer_core):
    return importlib.import_module("ToothTopoSegGui.case_files")


@pytest.fixture
def write(case_files, tmp_path):
    """Writes a case at once and gives the scan, the labels and the notes as they are read back."""
    at_once = importlib.import_module("ToothTopoSegGui.steps").at_once

    def written(volume, segmentation):
        scan, labels, notes = at_once(case_files.write_case_steps(volume, segmentation, tmp_path, "case_01"))
        return read_scan(scan), read_label_map(labels), notes

    return written


@pytest.fixture
def filled(make_volume, teeth_array, oblique):
    """A scan of random values on an oblique, anisotropic grid."""
    values = np.random.default_rng(0).integers(-1000, 3000, teeth_array.shape).astype(np.int16)
    return make_volume(values, (0.3, 0.4, 0.5), oblique, (10, -20, 30))


def same_grid(one, other):
    return all(
        np.allclose(getattr(one, what), getattr(other, what), atol=1e-9) for what in ("spacing", "origin", "direction")
    )


def test_a_scan_and_its_teeth_are_read_back_as_they_are(nodes, write, filled, make_segmentation, teeth_array):
    scan, labels, notes = write(filled, make_segmentation((teeth_array, NAMES), like=filled))
    expected = nodes.volume_of(filled)
    assert np.array_equal(scan.array, expected.array) and np.array_equal(labels.array, teeth_array)
    assert same_grid(scan, expected) and same_grid(labels, expected) and notes == ()


def test_teeth_on_another_grid_are_written_on_that_of_the_scan(
    write, filled, make_volume, make_segmentation, teeth_array, oblique
):
    coarse = make_volume(np.zeros((10, 12, 14), np.int16), (0.6, 0.8, 1.0), oblique, (10, -20, 30), "Coarse")
    scan, labels, _ = write(filled, make_segmentation((teeth_array[::2, ::2, ::2], NAMES), like=coarse))
    assert labels.array.shape == scan.array.shape and same_grid(scan, labels)
    assert set(np.unique(labels.array)) == {0, 11, 36, 37, 101}


def test_a_transform_above_both_moves_both(
    nodes, write, filled, make_segmentation, make_transform, teeth_array, oblique
):
    segmentation = make_segmentation((teeth_array, NAMES), like=filled)
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = oblique, (5, 6, 7)
    for node in (filled, segmentation):
        node.SetAndObserveTransformNodeID(make_transform(matrix).GetID())
    scan, labels, _ = write(filled, segmentation)
    assert np.array_equal(labels.array, teeth_array) and same_grid(scan, nodes.volume_of(filled))


def test_overlapping_teeth_are_noted(write, filled, make_segmentation, teeth_array):
    other = (teeth_array == 36).astype(np.uint8)
    _, _, notes = write(filled, make_segmentation((teeth_array, NAMES), (other, {"35": 1}), like=filled))
    assert any("overlap" in note for note in notes)


def test_what_cannot_be_a_case_is_refused_and_leaves_no_file(write, filled, make_segmentation, tmp_path, scene):
    with pytest.raises(InputError):
        write(filled, make_segmentation(like=filled))
    with pytest.raises(InputError):
        write(None, make_segmentation(like=filled))
    assert not list(tmp_path.iterdir())


def test_a_cancelled_case_leaves_no_file(case_files, filled, make_segmentation, teeth_array, tmp_path):
    at_once = importlib.import_module("ToothTopoSegGui.steps").at_once
    segmentation = make_segmentation((teeth_array, NAMES), like=filled)

    def cancel_at_the_end(fraction, text):
        if fraction == 1.0:
            raise Cancelled("Cancelled.")

    with pytest.raises(Cancelled):
        at_once(case_files.write_case_steps(filled, segmentation, tmp_path, "case_01"), cancel_at_the_end)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_none_is_told(case_files, filled, make_segmentation, teeth_array, tmp_path):
    at_once = importlib.import_module("ToothTopoSegGui.steps").at_once
    place = tmp_path / "file"
    place.touch()
    with pytest.raises(OutputError):
        at_once(case_files.write_case_steps(filled, make_segmentation((teeth_array, NAMES), like=filled), place, "c"))


def test_the_stamp_tells_whether_teeth_or_scan_have_changed(case_files, filled, make_segmentation, teeth_array, scene):
    segmentation = make_segmentation((teeth_array, NAMES), like=filled)
    stamp = case_files.stamp_of(filled, segmentation)
    filled.SetName("Another name")
    assert case_files.stamp_of(filled, segmentation) == stamp
    filled.SetOrigin(1, 2, 3)
    moved = case_files.stamp_of(filled, segmentation)
    assert moved != stamp
    segmentation.GetSegmentation().GetNthSegment(0).SetName("38")
    assert case_files.stamp_of(filled, segmentation) != moved
    scene.RemoveNode(segmentation)
    assert case_files.stamp_of(filled, segmentation) == ()
