"""Tooth or not is decided before which tooth."""

from __future__ import annotations

import numpy as np

from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.segmentation.classes import CLASSES
from ToothTopoSegLib.segmentation.decide import drop_specks, gather_teeth, scores_kept


def scores_of(values: dict[int, float]) -> np.ndarray:
    """One voxel's scores, -20 where nothing is said."""
    scores = np.full((CLASSES, 1, 1, 1), -20.0, np.float32)
    for index, value in values.items():
        scores[index] = value
    return scores


def test_a_voxel_torn_between_two_numbers_is_a_tooth_rather_than_bone():
    scores = scores_of({6: 1.0, 7: 0.9, 33: 1.3})
    gather_teeth(scores, 1.0, 1.0)
    assert scores[:, 0, 0, 0].argmax() == 6


def test_bone_stays_bone_where_it_is_likelier_than_all_teeth_together():
    scores = scores_of({6: 1.0, 7: 0.9, 33: 1.8})
    gather_teeth(scores, 1.0, 1.0)
    assert scores[:, 0, 0, 0].argmax() == 33


def test_the_best_tooth_gets_the_log_of_the_summed_exponentials():
    scores = scores_of({6: 1.0, 7: 0.5})
    gather_teeth(scores, 1.0, 1.0)
    assert np.isclose(scores[6, 0, 0, 0], np.log(np.exp(1.0) + np.exp(0.5)), atol=1e-5)
    assert np.isclose(scores[6, 0, 0, 0] - scores[7, 0, 0, 0], 0.5, atol=1e-6)


def test_the_scale_of_integer_scores_does_not_change_the_decision():
    rng = np.random.default_rng(0)
    real = rng.normal(0, 3, (CLASSES, 4, 5, 6)).astype(np.float32)
    integer = real / 0.05 + 100
    gather_teeth(real, 1.0, 1.0)
    gather_teeth(integer, 0.05, 1.0)
    assert np.array_equal(real.argmax(0), integer.argmax(0))


def test_background_and_jaws_keep_their_scores():
    scores = np.random.default_rng(1).normal(0, 1, (CLASSES, 2, 2, 2)).astype(np.float32)
    before = scores.copy()
    gather_teeth(scores, 1.0, 1.0)
    assert np.array_equal(scores[[0, 33, 34]], before[[0, 33, 34]])


def test_a_few_voxels_with_another_number_follow_the_tooth_around_them():
    scores = np.full((CLASSES, 12, 12, 12), -8.0, np.float32)
    scores[6] = 2.0
    scores[7, 5:7, 5:7, 5:7] = 3.0
    gather_teeth(scores, 1.0, 1.0)
    assert (scores.argmax(0) == 6).all()


def test_the_surface_of_a_tooth_stays_where_it_was():
    scores = np.full((CLASSES, 16, 16, 16), -8.0, np.float32)
    scores[0] = 0.0
    scores[6, 4:12, 5:11, 5:11] = 2.0
    before = scores.argmax(0)
    gather_teeth(scores, 1.0, 1.0)
    assert np.array_equal(scores.argmax(0), before)


def teeth_of(blocks: dict[int, tuple[slice, slice, slice]]) -> np.ndarray:
    """Scores of a 30 mm cube of lower jaw with blocks of teeth in it, one voxel a mm."""
    scores = np.full((CLASSES, 30, 30, 30), -8.0, np.float32)
    scores[33] = 0.0
    for index, block in blocks.items():
        scores[(index, *block)] = 2.0
    return scores


def test_a_number_on_a_few_voxels_is_dropped_and_a_whole_tooth_stays():
    whole, speck = (slice(4, 20), slice(4, 11), slice(4, 11)), (slice(24, 26), slice(20, 22), slice(20, 22))
    scores = teeth_of({19: whole, 20: speck})
    drop_specks(scores, 1.0)
    found = scores.argmax(0)
    assert (found[whole] == 19).all() and (found[speck] == 33).all()


def test_a_speck_at_the_border_of_the_view_may_be_the_end_of_a_tooth():
    speck = (slice(0, 2), slice(20, 22), slice(20, 22))
    scores = teeth_of({20: speck})
    drop_specks(scores, 1.0)
    assert (scores.argmax(0)[speck] == 20).all()


CUT = (slice(0, 2), slice(20, 26), slice(20, 26))
ABOVE = (slice(2, 16), slice(19, 27), slice(19, 27))


def test_the_end_of_a_crown_cut_off_between_the_jaws_is_no_tooth_of_the_other_jaw():
    scores = teeth_of({7: ABOVE, 23: CUT})
    scores[(7, *CUT)] = 1.0
    drop_specks(scores, 1.0)
    assert (scores.argmax(0)[CUT] == 7).all()


def test_the_tip_of_an_antagonist_stays_where_its_jaw_shows_a_tooth():
    scores = teeth_of({7: ABOVE, 23: CUT, 19: (slice(0, 10), slice(4, 11), slice(4, 11))})
    drop_specks(scores, 1.0)
    assert (scores.argmax(0)[CUT] == 23).all()


def test_a_sliver_carved_out_of_its_neighbours_goes_back_to_them():
    """Class 20 covers 100 mm3 between two teeth that stand where its own is missing."""
    sliver = (slice(6, 16), slice(5, 10), slice(9, 11))
    beside = {19: (slice(4, 20), slice(4, 11), slice(2, 9)), 21: (slice(4, 20), slice(4, 11), slice(11, 18))}
    scores = teeth_of(beside | {20: sliver})
    scores[(19, *sliver)] = 1.0
    drop_specks(scores, 1.0)
    assert (scores.argmax(0)[sliver] == 19).all()


def test_a_small_tooth_that_stands_alone_stays():
    small = (slice(6, 16), slice(5, 10), slice(9, 11))
    scores = teeth_of({20: small, 24: (slice(4, 20), slice(20, 27), slice(2, 9))})
    drop_specks(scores, 1.0)
    assert (scores.argmax(0)[small] == 20).all()


def test_what_is_kept_of_the_scores_is_the_probability_of_a_tooth_and_its_number():
    values = {6: 1.0, 7: 0.5, 33: 2.0, 0: 1.0}
    kept = scores_kept(scores_of(values) * 4, 0.25, Volume(np.zeros((1, 1, 1))))
    others = np.exp(2.0) + np.exp(1.0) + np.exp(-20.0)
    assert kept.tooth.array.dtype == kept.number.dtype == np.uint8
    assert abs(kept.tooth.array.item() / 255 - np.exp(1.0) / (np.exp(1.0) + others)) < 1 / 255
    assert kept.number.item() == 16
    assert kept.of(16).item() > 0 and kept.of(17).item() == 0
