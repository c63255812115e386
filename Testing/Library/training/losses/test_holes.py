"""Cavities and tunnels: which the truth allows, where they are filled and where they are opened."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from Testing.Library.training.losses.patches import ALL, ALONG, TRUTH, blank, brick, class_of
from ToothTopoSegLib.training.losses.components import pieces_of
from ToothTopoSegLib.training.losses.holes import hole_offences
from ToothTopoSegLib.training.losses.places import Offences, Patch, Place
from ToothTopoSegLib.training.losses.topology import TopologyConfig

OWN = class_of(11)
RING = brick(0, slice(6, 9), slice(0, 16), slice(5, 8), TRUTH)
HOLLOW = brick(0, slice(6, 9), slice(6, 9), slice(5, 8), TRUTH)


def offences(found: np.ndarray, truth: np.ndarray, config: TopologyConfig = ALL) -> Offences:
    patch = Patch(found, truth)
    return hole_offences(patch, [pieces_of(patch, tooth) for tooth in patch.boxes], config)


def counts(found: np.ndarray, truth: np.ndarray) -> tuple[int, int]:
    """Cavities and tunnels."""
    found_counts = offences(found, truth).counts
    return found_counts["cavities"], found_counts["tunnels"]


def places(found: np.ndarray, truth: np.ndarray, values: np.ndarray | None = None, config: TopologyConfig = ALL):
    every = np.where(found == OWN, 0.9, 0.1) if values is None else values
    drawn: list[Place] = []
    for region in offences(found, truth, config).regions:
        drawn += region.locate(every[region.box])
    return drawn


def middles(drawn: list[Place]) -> list[list[float]]:
    return [place.voxels.mean(axis=0).tolist() for place in drawn]


def test_cavities_and_tunnels_that_the_truth_lacks_are_counted():
    assert counts(TRUTH, TRUTH) == (0, 0)
    assert counts(HOLLOW, TRUTH) == (1, 0)
    assert counts(RING, TRUTH) == (0, 1)


def test_those_that_the_truth_has_are_legal_even_with_another_outline():
    for damaged in (HOLLOW, RING):
        assert counts(damaged, damaged) == (0, 0)
        assert places(damaged, damaged) == []
        wider = brick(0, slice(7, 10), slice(6, 9), slice(5, 8), damaged)
        assert counts(wider, damaged) == (0, 0)
        assert places(wider, damaged) == []


def test_an_open_dent_and_one_that_the_border_of_the_patch_cuts_are_no_cavities():
    assert counts(brick(0, slice(6, 9), slice(0, 8), slice(5, 8), TRUTH), TRUTH) == (0, 0)
    block = brick(11, slice(0, 16), slice(0, 16), slice(0, 16), blank())
    assert counts(brick(0, slice(6, 9), slice(6, 9), slice(0, 8), block), block) == (0, 0)


def test_a_cavity_filled_with_another_class_is_one():
    assert counts(brick(12, slice(6, 9), slice(6, 9), slice(5, 8), TRUTH), TRUTH) == (1, 0)


def test_holes_of_fragments_do_not_count():
    ring = brick(0, slice(3, 4), slice(4, 5), slice(13, 14), brick(11, slice(3, 4), slice(3, 6), slice(12, 15), TRUTH))
    assert counts(ring, TRUTH) == (0, 0)


def test_a_cavity_of_a_solid_tooth_is_filled_where_it_would_close_last():
    values = np.where(HOLLOW == OWN, 0.9, 0.2)
    values[7, 7, 7] = 0.05
    drawn = places(HOLLOW, TRUTH, values)
    assert middles(drawn) == [[7, 7, 7]]
    assert drawn[0].weight == pytest.approx(0.9 - 0.05)


def test_a_cavity_that_closes_around_true_background_is_opened_at_its_weakest_wall():
    """The true tooth is a cup; a lid of one voxel closes it."""
    cup = brick(0, slice(6, 9), slice(6, 12), slice(5, 8), TRUTH)
    closed = brick(11, slice(6, 9), slice(11, 12), slice(5, 8), cup)
    values = np.where(closed == OWN, 0.9, 0.1)
    values[7, 11, 6] = 0.6
    drawn = places(closed, cup, values)
    assert counts(closed, cup) == (1, 0)
    assert middles(drawn) == [[7, 11, 6]]
    assert drawn[0].weight == pytest.approx(0.6 - 0.1)


def test_a_tunnel_through_a_solid_tooth_is_closed_within_it():
    (place,) = places(RING, TRUTH)
    centre = tuple(int(n) for n in place.voxels.mean(axis=0))
    assert TRUTH[centre] == OWN != RING[centre]
    assert place.weight == pytest.approx(0.8)


def test_a_ring_where_the_truth_is_open_is_cut_at_its_weakest_voxel():
    """The true tooth is a horseshoe whose ends are found joined by one row."""
    shoe = brick(0, slice(7, 8), slice(5, 16), slice(5, 8), brick(11, slice(7, 8), slice(4, 12), ALONG, blank()))
    joined = brick(11, slice(7, 8), slice(11, 12), slice(5, 8), shoe)
    values = np.where(joined == OWN, 0.9, 0.1)
    values[7, 11, 6] = 0.6
    assert counts(joined, shoe) == (0, 1)
    assert middles(places(joined, shoe, values)) == [[7, 11, 6]]


def test_one_of_two_tunnels_is_legal_if_the_truth_has_one():
    two = brick(0, slice(11, 13), slice(0, 16), slice(5, 8), RING)
    assert counts(two, RING) == (0, 1)
    (place,) = places(two, RING)
    assert 10 <= place.voxels.mean(axis=0)[0] <= 13


def test_a_large_tooth_is_looked_at_in_blocks_and_the_place_is_still_a_wrong_voxel():
    found = RING.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    truth = TRUTH.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    (place,) = places(found, truth, config=replace(ALL, largest_roi=2000))
    centre = tuple(int(n) for n in place.voxels.mean(axis=0))
    assert truth[centre] == OWN != found[centre]


def test_a_large_cavity_counts_without_its_persistence():
    drawn = places(HOLLOW, TRUTH, config=replace(ALL, largest_roi=100))
    assert len(drawn) == 1 and 0 < drawn[0].weight < 0.1
