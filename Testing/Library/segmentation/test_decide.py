"""Tooth or not is decided before which tooth."""

from __future__ import annotations

import numpy as np

from ToothTopoSegLib.segmentation.classes import CLASSES
from ToothTopoSegLib.segmentation.decide import gather_teeth


def scores_of(values: dict[int, float]) -> np.ndarray:
    """One voxel's scores, -20 where nothing is said."""
    scores = np.full((CLASSES, 1, 1, 1), -20.0, np.float32)
    for index, value in values.items():
        scores[index] = value
    return scores


def test_a_voxel_torn_between_two_numbers_is_a_tooth_rather_than_bone():
    scores = scores_of({6: 1.0, 7: 0.9, 33: 1.3})
    gather_teeth(scores, 1.0)
    assert scores[:, 0, 0, 0].argmax() == 6


def test_bone_stays_bone_where_it_is_likelier_than_all_teeth_together():
    scores = scores_of({6: 1.0, 7: 0.9, 33: 1.8})
    gather_teeth(scores, 1.0)
    assert scores[:, 0, 0, 0].argmax() == 33


def test_the_best_tooth_gets_the_log_of_the_summed_exponentials():
    scores = scores_of({6: 1.0, 7: 0.5})
    gather_teeth(scores, 1.0)
    assert np.isclose(scores[6, 0, 0, 0], np.log(np.exp(1.0) + np.exp(0.5)), atol=1e-5)
    assert np.isclose(scores[6, 0, 0, 0] - scores[7, 0, 0, 0], 0.5, atol=1e-6)


def test_the_scale_of_integer_scores_does_not_change_the_decision():
    rng = np.random.default_rng(0)
    real = rng.normal(0, 3, (CLASSES, 4, 5, 6)).astype(np.float32)
    integer = real / 0.05 + 100
    gather_teeth(real, 1.0)
    gather_teeth(integer, 0.05)
    assert np.array_equal(real.argmax(0), integer.argmax(0))


def test_background_and_jaws_keep_their_scores():
    scores = np.random.default_rng(1).normal(0, 1, (CLASSES, 2, 2, 2)).astype(np.float32)
    before = scores.copy()
    gather_teeth(scores, 1.0)
    assert np.array_equal(scores[[0, 33, 34]], before[[0, 33, 34]])
