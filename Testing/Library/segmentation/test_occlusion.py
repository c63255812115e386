"""Upper teeth stay above the bite and lower teeth below it."""

from __future__ import annotations

import numpy as np
import pytest

from ToothTopoSegLib.segmentation.classes import CLASSES
from ToothTopoSegLib.segmentation.occlusion import OVERLAP_MM, REACH_MM, occlusal_plane, strike_out

SHAPE = (90, 50, 50)


def bite(level: float, slope_y: float = 0.0, slope_x: float = 0.0) -> np.ndarray:
    """Class map with 20 mm of upper teeth (class 5) above a plane and of lower teeth (class 20) below it."""
    z, y, x = np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij")
    height = z - level - slope_y * y - slope_x * x
    arch = (np.abs(np.hypot(y - 40, x - 25) - 20) < 4) & (y < 42)
    classes = np.zeros(SHAPE, np.uint8)
    classes[arch & (height > 0) & (height < 20)] = 5
    classes[arch & (height < 0) & (height > -20)] = 20
    return classes


def scores_of(classes: np.ndarray) -> np.ndarray:
    """Scores 2 for the class of the map, 1 for the lower jaw, 0 for all others."""
    scores = np.zeros((CLASSES, *classes.shape), np.float32)
    scores[33] = 1.0
    np.put_along_axis(scores, classes[None].astype(int), 2.0, 0)
    return scores


@pytest.mark.parametrize("slopes", [(0.0, 0.0), (0.25, 0.0), (0.0, -0.2), (-0.2, 0.15)])
def test_the_plane_is_found_whatever_the_tilt_of_the_head(slopes):
    plane = occlusal_plane(bite(45.0, *slopes), 1.0)
    assert plane is not None
    truth = 45.0 + slopes[0] * 30 + slopes[1] * 25
    assert abs(plane.level + plane.slope_y * 30 + plane.slope_x * 25 - truth) < 2.5
    assert abs(plane.slope_y - slopes[0]) < 0.12 and abs(plane.slope_x - slopes[1]) < 0.12


def test_false_teeth_far_from_the_bite_do_not_pull_the_plane_along():
    classes = bite(45.0)
    classes[:6, 10:40, 10:40] = 3  # the mandible's border, taken for an upper tooth
    plane = occlusal_plane(classes, 1.0)
    assert plane is not None and abs(plane.level + plane.slope_y * 30 + plane.slope_x * 25 - 45) < 3


def test_a_tooth_on_the_wrong_side_or_out_of_reach_goes_to_the_next_best_class():
    classes = bite(45.0)
    classes[3:8, 10:20, 10:20] = 3
    classes[82:88, 10:20, 10:20] = 3
    scores = scores_of(classes)
    strike_out(scores, 1.0)
    found = scores.argmax(0)
    assert (found[3:8, 10:20, 10:20] == 33).all() and (found[82:88, 10:20, 10:20] == 33).all()
    teeth = (classes == 5) | (classes == 20)
    assert np.array_equal(found[teeth], classes[teeth])


def test_a_tooth_within_reach_of_the_bite_is_never_touched():
    scores = scores_of(bite(45.0))
    before = scores.copy()
    strike_out(scores, 1.0)
    level = 45
    for index, low, high in ((5, -OVERLAP_MM, REACH_MM), (20, -REACH_MM, OVERLAP_MM)):
        inside = slice(int(level + low) + 3, int(level + high) - 3)
        assert np.array_equal(scores[index, inside], before[index, inside])


@pytest.mark.parametrize("jaw", [5, 20])
def test_with_one_jaw_in_view_nothing_is_struck_out(jaw):
    classes = bite(45.0)
    classes[classes != jaw] = 0
    scores = scores_of(classes)
    before = scores.copy()
    assert occlusal_plane(classes, 1.0) is None
    strike_out(scores, 1.0)
    assert np.array_equal(scores, before)


def test_an_empty_map_has_no_plane():
    assert occlusal_plane(np.zeros(SHAPE, np.uint8), 1.0) is None
