"""Saddles against persistent homology, and the small parts that the terms share."""

from __future__ import annotations

import numpy as np
import pytest

from Testing.Library.training.losses.patches import TRUTH, blank, brick
from ToothTopoSegLib.topology.persistence import persistent_homology
from ToothTopoSegLib.training.losses.places import LEAST, Patch, Place, agreeing, saddles


def landscape(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((6, 7, 8))


def test_two_pieces_join_at_the_lowest_voxel_of_the_best_way():
    """A row 9 5 7 3 9: the ends join over 3, whatever the other voxels are."""
    values, terminals = np.array([[[9.0, 5, 7, 3, 9]]]), np.array([[[1, -1, -1, -1, 2]]], dtype=np.int32)
    (found,) = saddles(values, terminals)
    assert found.voxel == (0, 0, 3) and found.value == 3


def test_a_way_round_is_taken_if_it_is_better_and_voxels_that_are_closed_are_not():
    values = np.array([[[9.0, 1, 9], [4, 5, 6]]])
    assert saddles(values, np.array([[[1, -1, 2], [-1, -1, -1]]], dtype=np.int32))[0].voxel == (0, 1, 1)
    assert saddles(values, np.array([[[1, -1, 2], [0, 0, 0]]], dtype=np.int32))[0].voxel == (0, 0, 1)
    assert saddles(values, np.array([[[1, 0, 2], [0, 0, 0]]], dtype=np.int32)) == []


@pytest.mark.parametrize("seed", range(5))
def test_with_the_peaks_as_terminals_saddles_are_the_deaths_of_the_pieces(seed):
    values = landscape(seed)
    pairs = [p for p in persistent_homology(values, (0,)) if p.death_place]
    births = [p.birth_place for p in persistent_homology(values, (0,))]
    terminals = np.full(values.shape, -1, dtype=np.int32)
    for number, place in enumerate(births, start=1):
        terminals[place] = number
    found = saddles(values, terminals, [values[place] for place in births])
    assert {(births[s.younger - 1], s.voxel) for s in found} == {(p.birth_place, p.death_place) for p in pairs}
    assert [s.value for s in found] == sorted((s.value for s in found), reverse=True)


@pytest.mark.parametrize("terminals", (0, 1, -1))
def test_where_nothing_can_join_there_is_no_saddle(terminals):
    assert saddles(landscape(0), np.full((6, 7, 8), terminals, dtype=np.int32)) == []


def test_values_are_moved_to_the_side_that_the_labels_show():
    moved = agreeing(np.array([0.5, 0.5, 0.9, 0.4]), np.array([True, False, True, True]))
    assert (moved > 0.5).tolist() == [True, False, True, True] and moved[2] == 0.9


def test_a_place_is_a_ball_inside_the_patch_whose_weight_its_wrong_voxels_share():
    """A ball of radius 1 in a corner: the corner and three neighbours, two of them wrong."""
    found = blank()
    found[0, 0, :2] = 1
    place = Patch(found, blank()).place((0, 0, 0), 1.0, 0.25, power=0.5)
    assert sorted(map(tuple, place.voxels.tolist())) == [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)]
    assert place.weight == 0.5 and place.wrong == 2


def test_the_faintest_offence_still_has_a_weight_and_none_has_more_than_1():
    found = brick(11, slice(0, 2), slice(0, 2), slice(0, 2), blank())

    def place(persistence: float) -> Place:
        return Patch(found, blank()).place((0, 0, 0), 1.0, persistence, power=1.0)

    assert place(0.0).weight == LEAST and place(float("inf")).weight == 1


def test_boxes_hold_what_is_found_and_what_is_true_of_a_tooth():
    found = brick(12, slice(1, 3), slice(1, 3), slice(1, 3), blank())
    patch = Patch(found, TRUTH)
    assert patch.boxes == {1: (slice(2, 14), slice(4, 12), slice(3, 10)), 2: (slice(1, 3),) * 3}
    assert set(patch.true_boxes) == {1}
