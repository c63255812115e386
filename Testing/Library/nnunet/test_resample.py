"""Resampling beside scikit-image, which nnU-Net resizes images with."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.transform import resize

from ToothTopoSegLib.nnunet.plans import Resampling
from ToothTopoSegLib.nnunet.resample import new_shape, resized_image, separate_axis

AUTO = Resampling(3, 0, None)


@pytest.mark.parametrize("shape", [(9, 30, 12), (40, 8, 25), (17, 21, 13)])
@pytest.mark.parametrize("order", [1, 3])
def test_an_image_is_resized_as_scikit_image_does(shape, order):
    image = np.random.default_rng(0).normal(size=(17, 21, 13)).astype(np.float32)
    expected = resize(image.astype(float), shape, order, mode="edge", anti_aliasing=False)
    found = resized_image(image, shape, Resampling(order, 0, None), None)
    assert np.abs(found - expected).max() < 1e-5


def test_an_axis_by_itself_takes_the_nearest_slice_of_slices_resized_alone():
    image = np.random.default_rng(0).normal(size=(5, 12, 14)).astype(np.float32)
    found = resized_image(image, (9, 20, 21), AUTO, 0)
    nearest = [0, 0, 1, 1, 2, 3, 3, 4, 4]  # (i + 0.5) * 5 / 9 - 0.5, rounded
    for plane, source in zip(found, nearest, strict=True):
        expected = resize(image[source].astype(float), (20, 21), 3, mode="edge", anti_aliasing=False)
        assert np.abs(plane - expected).max() < 1e-5


@pytest.mark.parametrize(
    ("before", "after", "axis"),
    [
        ((1, 1, 1), (2, 2, 2), None),
        ((4, 1, 1), (1, 1, 1), 0),
        ((1, 1, 1), (1, 4, 1), 1),
        ((3, 1, 1), (1, 1, 1), None),  # three times is not more than three times
        ((0.2, 1, 1), (1, 1, 1), None),  # two long axes are taken together with the third
    ],
)
def test_long_voxels_are_taken_by_themselves(before, after, axis):
    assert separate_axis(AUTO, before, after) == axis
    assert separate_axis(Resampling(3, 0, False), before, after) is None


def test_a_new_shape_keeps_the_extent():
    assert new_shape((10, 20, 31), (2.0, 1.0, 1.0), (1.0, 1.0, 2.0)) == (20, 20, 16)
