"""Bounding boxes of labels against those of each label by itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ToothTopoSegLib.imaging.boxes import label_boxes


def boxes_one_by_one(labels):
    """Of every label above 0: first and last index along each axis."""
    places = {value: np.argwhere(labels == value) for value in np.unique(labels[labels > 0]).tolist()}
    return {value: tuple(map(slice, at.min(0), at.max(0) + 1)) for value, at in places.items()}


@given(arrays(np.uint8, st.tuples(*[st.integers(1, 5)] * 3), elements=st.sampled_from([0, 0, 0, 1, 3, 7])))
def test_every_label_has_the_box_of_its_voxels(labels):
    expected = boxes_one_by_one(labels)
    assert label_boxes(labels) == expected
    assert label_boxes(labels, highest=3) == {value: box for value, box in expected.items() if value <= 3}


@pytest.mark.parametrize("shape", [(0, 0, 0), (2, 0, 3), (2, 3, 4)])
def test_a_map_without_labels_has_no_boxes(shape):
    assert label_boxes(np.zeros(shape, np.uint8)) == {}
    assert label_boxes(np.zeros(shape, np.int16), highest=48) == {}


def test_boxes_are_the_same_in_a_map_that_is_stored_in_another_order():
    labels = np.zeros((4, 5, 6), np.int16)
    labels[1:3, 2, 1:4] = 11
    labels[2:, 4, 5] = 48
    assert label_boxes(labels) == {11: np.s_[1:3, 2:3, 1:4], 48: np.s_[2:4, 4:5, 5:6]}
    assert label_boxes(np.asfortranarray(labels)) == label_boxes(labels)
    assert label_boxes(labels.transpose(2, 1, 0)) == {v: b[::-1] for v, b in label_boxes(labels).items()}
