"""Which teeth may touch, which gaps stay open, and that contact is never demanded."""

from __future__ import annotations

import numpy as np
import pytest

from Testing.Library.training.losses.patches import ALL, ALONG, PAIR, blank, brick, class_of
from ToothTopoSegLib.training.losses.adjacency import adjacency_offences, forbidden, touching_pairs
from ToothTopoSegLib.training.losses.places import Patch


def side_by_side(first: int, second: int, gap: int = 0) -> np.ndarray:
    """Two teeth of four voxels' width."""
    return brick(second, ALONG, ALONG, slice(7 + gap, 11 + gap), brick(first, ALONG, ALONG, slice(3, 7), blank()))


def counts(found: np.ndarray, truth: np.ndarray) -> tuple[int, int]:
    """Contacts and bridges."""
    found_counts = adjacency_offences(Patch(found, truth), ALL).counts
    return found_counts["contacts"], found_counts["bridges"]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (13, 14, False),  # arch neighbours
        (11, 21, False),  # midline partners
        (16, 46, False),  # antagonists: the namesake ...
        (16, 47, False),  # ... and the one distal to it
        (16, 45, True),
        (11, 12, False),
        (11, 13, True),
        (13, 23, True),
        (18, 28, True),
        (34, 44, True),
    ],
)
def test_teeth_may_touch_their_neighbours_and_antagonists_alone(first, second, expected):
    table = forbidden()
    assert table[class_of(first), class_of(second)] == table[class_of(second), class_of(first)] == expected


def test_no_tooth_is_forbidden_to_touch_itself_or_the_background():
    assert not forbidden().diagonal().any() and not forbidden()[0].any()


@pytest.mark.parametrize(("first", "second", "contacts"), ((11, 13, 1), (11, 12, 0), (11, 21, 0), (11, 41, 0)))
def test_contact_offends_between_teeth_that_cannot_touch(first, second, contacts):
    assert counts(side_by_side(first, second), blank())[0] == contacts


def test_teeth_that_touch_in_this_truth_may_touch():
    """A canine next to a central incisor, the lateral one missing; found with another outline."""
    truth = side_by_side(11, 13)
    assert counts(truth, truth) == (0, 0)
    assert counts(np.roll(truth, 1, axis=1), truth) == (0, 0)
    assert counts(np.roll(truth, 1, axis=2), truth) == (0, 0)


def test_contact_is_never_demanded():
    assert counts(side_by_side(11, 12, gap=2), side_by_side(11, 12)) == (0, 0)


@pytest.mark.parametrize("label", (11, 21))
def test_a_gap_of_true_neighbours_that_is_filled_is_a_bridge_whatever_number_fills_it(label):
    assert counts(brick(label, slice(5, 9), slice(6, 10), slice(8, 11), PAIR), PAIR) == (0, 1)


@pytest.mark.parametrize("filled", (1, 2))
def test_a_gap_that_is_narrowed_but_not_closed_is_none(filled):
    assert counts(brick(11, ALONG, slice(4, 12), slice(8, 8 + filled), PAIR), PAIR) == (0, 0)


def test_a_gap_between_antagonists_may_close():
    truth = side_by_side(11, 41, gap=2)
    assert counts(brick(11, ALONG, ALONG, slice(7, 9), truth), truth) == (0, 0)


def test_a_contact_is_drawn_at_its_wrong_voxels():
    """Half of a tooth has the number of one that it cannot touch: four by four faces, the wrong side of them."""
    truth = brick(11, slice(2, 10), slice(4, 8), slice(4, 8), blank())
    found = brick(13, slice(6, 10), slice(4, 8), slice(4, 8), truth)
    (place,) = adjacency_offences(Patch(found, truth), ALL).places
    assert len(place.voxels) == place.wrong == 16
    assert (place.voxels[:, 0] == 6).all()


def test_a_bridge_is_cut_at_its_weakest_voxel_first_and_then_all_through():
    truth = brick(
        21, slice(1, 3), slice(1, 12), slice(7, 9), brick(11, slice(1, 3), slice(1, 12), slice(1, 3), blank())
    )
    found = brick(11, slice(1, 2), slice(1, 12), slice(3, 7), truth)
    (region,) = adjacency_offences(Patch(found, truth), ALL).regions
    values = np.where(found > 0, 0.9, 0.1)
    values[1, 5, 3:7] = 0.95  # the best way ...
    values[1, 5, 5] = 0.92  # ... and its weakest voxel
    places = region.locate(values[region.box])
    assert places[0].voxels[places[0].voxels[:, 0] == 1].mean(axis=0).tolist() == [1, 5, 5]
    cut = found.copy()
    for place in places:
        cut[tuple(place.voxels.T)] = truth[tuple(place.voxels.T)]
    assert len(places) > 1 and counts(cut, truth) == (0, 0)


def test_touching_pairs_are_those_with_a_common_face_edge_or_corner():
    labels = np.zeros((3, 3, 3), dtype=np.uint8)
    labels[0, 0, 0], labels[1, 1, 1], labels[1, 1, 2] = 5, 3, 33
    assert touching_pairs(labels) == {(3, 5)}
