"""The patches the integer reference is run on, and the bundled model's equality with it on a real scan."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ToothTopoSegLib.evaluation.reference_patches import brightest_patches, reference_patches
from ToothTopoSegLib.imaging.read import read_scan
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.quantization.bundle import Bundle, load_bundle
from ToothTopoSegLib.quantization.reference import compare_with_reference


def _bundle(patch: tuple[int, int, int]) -> Bundle:
    return Bundle(Path("none.onnx"), b"", {"plan": {"patch": patch, "spacing": 1.0}})


def test_patches_are_taken_where_most_bright_voxels_are() -> None:
    array = np.zeros((20, 20, 40), np.float32)
    array[12:18, 2:8, 30:36] = 1000.0
    array[0, 0, 0] = 1000.0
    first, second = brightest_patches(Volume(array, (1.0, 1.0, 1.0)), _bundle((10, 10, 10)), 2)
    assert first.shape == (1, 1, 10, 10, 10) and first.dtype == np.float32
    assert first.max() > 0 and (first > 0).sum() >= (second > 0).sum() > 0


def test_a_scan_smaller_than_a_patch_is_grown() -> None:
    array = np.random.default_rng(0).normal(size=(5, 6, 7)).astype(np.float32)
    (only,) = brightest_patches(Volume(array, (1.0, 1.0, 1.0)), _bundle((8, 8, 8)), 3)
    assert only.shape == (1, 1, 8, 8, 8)


def test_without_a_scan_there_are_patches_of_two_phantoms() -> None:
    bundle = load_bundle()
    patches = list(reference_patches(bundle))
    assert [p.shape for p in patches] == [(1, 1, *bundle.patch)] * 2
    assert not np.array_equal(*patches)


def test_the_bundled_model_equals_the_reference_bit_by_bit_at_the_teeth_of_a_real_scan(shared_data: Path) -> None:
    bundle = load_bundle()
    scan = read_scan(shared_data / "predental_cbct" / "predental.nii.gz")
    found = compare_with_reference(bundle.model, brightest_patches(scan, bundle, 1))
    assert found.scores == 35 * np.prod(bundle.patch)
    assert (found.differing_scores, found.differing_classes) == (0, 0)
