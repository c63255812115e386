"""Pieces of a tooth: which are legal, which are fragments and which parts of a split."""

from __future__ import annotations

import numpy as np
import pytest

from Testing.Library.training.losses.patches import ALL, ALONG, TRUTH, blank, brick, class_of
from ToothTopoSegLib.training.losses.components import component_offences, pieces_of
from ToothTopoSegLib.training.losses.places import Patch, Place

OWN = class_of(11)


def counts(found: np.ndarray, truth: np.ndarray) -> tuple[int, int]:
    """Fragments and splits."""
    patch = Patch(found, truth)
    offences = component_offences(patch, [pieces_of(patch, tooth) for tooth in patch.boxes], ALL)
    return offences.counts["fragments"], offences.counts["splits"]


def places(found: np.ndarray, truth: np.ndarray, values: float | np.ndarray | None = None) -> list[Place]:
    """The places of all offences, with certainty of 0.9 where the class of the region is found."""
    patch = Patch(found, truth)
    regions = component_offences(patch, [pieces_of(patch, tooth) for tooth in patch.boxes], ALL).regions
    every = np.where(found == OWN, 0.9, 0.1) if values is None else values
    return [place for region in regions for place in region.locate(every[region.box])]


def test_two_pieces_of_a_tooth_cut_by_the_border_are_legal():
    """Two roots whose crown lies outside of the patch, found exactly and with a wrong outline."""
    roots = brick(11, slice(0, 8), ALONG, slice(2, 5), brick(11, slice(0, 8), ALONG, slice(9, 12), blank()))
    thicker = brick(11, slice(0, 9), ALONG, slice(1, 6), roots)
    assert counts(roots, roots) == counts(thicker, roots) == (0, 0)


def test_a_root_that_is_cut_once_more_is_a_split():
    roots = brick(11, slice(0, 8), ALONG, slice(2, 5), brick(11, slice(0, 8), ALONG, slice(9, 12), blank()))
    assert counts(brick(0, slice(4, 5), ALONG, slice(2, 5), roots), roots) == (0, 1)


def test_a_piece_outside_of_the_true_tooth_is_a_fragment_and_one_inside_a_part():
    assert counts(brick(11, slice(0, 1), slice(0, 2), slice(0, 2), TRUTH), TRUTH) == (1, 0)
    assert counts(brick(0, slice(6, 7), ALONG, slice(0, 16), TRUTH), TRUTH) == (0, 1)


@pytest.mark.parametrize(("inside", "expected"), ((1, (1, 0)), (3, (0, 1))))
def test_of_a_piece_across_the_outline_the_larger_part_counts(inside, expected):
    """A rod of four voxels apart from the rest of the tooth, of which some lie inside the true one."""
    found = brick(0, slice(10, 14), ALONG, slice(0, 16), TRUTH)
    found[12, 6, 10 - inside : 14 - inside] = OWN
    assert counts(found, TRUTH) == expected


def test_the_piece_that_covers_most_is_the_tooth_however_much_lies_outside():
    shifted = np.roll(TRUTH, 5, axis=2)
    assert counts(shifted, TRUTH) == (0, 0)


def test_every_piece_of_a_tooth_that_is_not_there_is_a_fragment():
    found = brick(12, slice(1, 3), slice(0, 2), slice(0, 2), brick(12, slice(5, 7), slice(0, 2), slice(0, 2), TRUTH))
    assert counts(found, TRUTH) == (2, 0)


def test_a_missing_tooth_is_left_to_the_other_losses():
    assert counts(blank(), TRUTH) == (0, 0)


def test_pieces_that_touch_at_a_corner_are_one():
    found, truth = blank(), blank()
    found[2:4, 2:4, 2:4] = found[4:6, 4:6, 4:6] = OWN
    truth[2:6, 2:6, 2:6] = OWN
    assert counts(found, truth) == (0, 0)


def test_a_fragment_is_drawn_at_its_peak_and_weighs_what_it_stands_out():
    found = brick(11, slice(3, 4), slice(5, 6), slice(12, 15), TRUTH)
    values = np.where(found == OWN, 0.8, 0.3)
    values[3, 5, 13] = 0.95
    (place,) = places(found, TRUTH, values)
    assert place.voxels.mean(axis=0).tolist() == [3, 5, 13]
    assert place.weight == pytest.approx(0.95 - 0.3, abs=0.01)


def test_a_fragment_with_nothing_near_stands_out_by_all_its_height():
    found = brick(11, slice(4, 6), slice(4, 6), slice(4, 6), blank())
    (place,) = places(found, blank())
    assert place.weight == pytest.approx(0.9)


def test_a_split_is_joined_where_the_scores_need_to_rise_least():
    found = brick(0, slice(7, 8), ALONG, slice(0, 16), TRUTH)
    values = np.where(found == OWN, 0.9, 0.1)
    values[7, 6, 5] = 0.4
    values[7, 2, 12] = 0.45  # outside of the true tooth
    (place,) = places(found, TRUTH, values)
    assert place.voxels.mean(axis=0).tolist() == [7, 6, 5]
    assert place.weight == pytest.approx(0.9 - 0.4)


def test_a_tooth_in_three_parts_needs_two_joins():
    found = brick(0, slice(5, 6), ALONG, slice(0, 16), brick(0, slice(9, 10), ALONG, slice(0, 16), TRUTH))
    assert counts(found, TRUTH) == (0, 2)
    assert sorted(int(place.voxels.mean(axis=0)[0]) for place in places(found, TRUTH)) == [5, 9]


def test_of_many_fragments_the_largest_are_looked_at_and_all_are_counted():
    found = np.zeros((5, 5, 101), dtype=np.uint8)
    found[2, 2, ::2] = OWN
    found[1:4, 1:4, 50] = OWN
    patch = Patch(found, np.zeros_like(found))
    offences = component_offences(patch, [pieces_of(patch, OWN)], ALL)
    assert offences.counts["fragments"] == 51 and len(offences.regions) == ALL.most_regions
    assert offences.regions[0].box[2] == slice(46, 55)
