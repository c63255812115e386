"""The panoramic picture, on crude teeth whose places are known exactly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ToothTopoSegLib.anatomy import fdi
from ToothTopoSegLib.evaluation.panoramic import Panoramic, panoramic, tooth_boxes, tooth_centres
from ToothTopoSegLib.imaging.volume import Volume


@pytest.fixture(scope="module")
def view(full_mouth) -> Panoramic:
    return panoramic(*full_mouth)


def columns_of(view: Panoramic, teeth: tuple[int, ...]) -> list[float]:
    return [float(np.nonzero(view.labels == tooth)[1].mean()) for tooth in teeth if (view.labels == tooth).any()]


def test_every_tooth_is_seen(view, full_mouth) -> None:
    assert set(np.unique(view.labels)) == set(np.unique(full_mouth[1].array))


@pytest.mark.parametrize("upper", [True, False])
def test_teeth_run_from_the_patients_right_at_the_pictures_left(view, upper) -> None:
    columns = columns_of(view, fdi.arch_order(upper))
    assert len(columns) == 14
    assert columns == sorted(columns)


def test_upper_teeth_are_above_lower_teeth(view) -> None:
    rows = {tooth: np.nonzero(view.labels == tooth)[0].mean() for tooth in (11, 16, 26, 31, 36, 46)}
    assert max(rows[11], rows[16], rows[26]) < min(rows[31], rows[36], rows[46])


def test_the_picture_position_of_a_tooth_shows_that_tooth(view, full_mouth, true_centre) -> None:
    for tooth in tooth_centres(full_mouth[1], tooth_boxes(full_mouth[1])):
        row, column = np.rint(view.to_picture(true_centre(tooth))).astype(int)
        assert view.labels[row, column] == tooth


def test_picture_positions_lead_back_to_the_patient(view) -> None:
    position = np.array([[3.0, 10.0], [100.5, 200.25], [150.0, 301.0]])
    assert view.to_picture(view.to_lps(position)) == pytest.approx(position, abs=1e-6)


def test_depth_runs_outward_to_the_lips(view) -> None:
    middle = np.array([50.0, view.grey.shape[1] / 2])
    assert view.to_lps(middle, depth_mm=5.0)[1] < view.to_lps(middle)[1] - 4.5
    assert view.distance_mm(view.to_lps(middle, depth_mm=5.0)) == pytest.approx(5.0, abs=0.1)


def test_a_pixel_is_as_wide_as_it_is_high(view) -> None:
    steps = np.linalg.norm(np.diff(view.curve, axis=0), axis=1)
    assert steps == pytest.approx(view.pixel_mm, rel=0.02)


def test_tooth_is_brighter_than_what_surrounds_it(view) -> None:
    row = np.nonzero(view.labels == 11)[0].mean().astype(int)
    assert view.grey[row][view.labels[row] > 0].min() > np.median(view.grey[row][view.labels[row] == 0])


def test_the_picture_reaches_12_mm_beyond_the_teeth_but_not_beyond_the_scan(crude_scan, true_centre) -> None:
    scan, labels = crude_scan((31, 36, 41, 46))
    view = panoramic(scan, labels)
    rows = np.nonzero((view.labels > 0).any(axis=1))[0]
    bottom = view.top_mm - len(view.grey) * view.pixel_mm
    assert rows[0] * view.pixel_mm == pytest.approx(12.0, abs=1.0)
    assert bottom == pytest.approx(scan.origin[2], abs=view.pixel_mm)


def test_one_misplaced_tooth_does_not_bend_the_arch(full_mouth, true_centre) -> None:
    scan, labels = full_mouth
    array = labels.array.copy()
    array[array == 16] = 0
    array[60:66, 85:91, 55:61] = 16
    view = panoramic(scan, labels.with_array(array))
    away = [view.distance_mm(true_centre(tooth)) for tooth in (11, 21, 14, 17, 26, 36, 46)]
    assert max(away) < 1.5


def test_the_middle_of_each_ray_lies_in_the_slab_even_if_the_jaws_differ(crude_scan, true_centre) -> None:
    scan, labels = crude_scan((11, 21, 13, 23, 15, 25, 17, 27))
    view = panoramic(scan, labels)
    assert max(float(view.distance_mm(true_centre(t))) for t in (11, 13, 15, 17, 27)) < 1.0


def test_one_quadrant_is_placed_on_its_side(crude_scan) -> None:
    view = panoramic(*crude_scan((31, 32, 33, 34, 35, 36, 37)))
    columns = columns_of(view, (31, 32, 33, 34, 35, 36, 37))
    assert len(columns) == 7 and columns == sorted(columns)


@pytest.mark.parametrize("teeth", [(), (46,), (11, 36, 46)], ids=len)
def test_few_teeth_or_none_still_give_a_picture_that_shows_them(crude_scan, teeth) -> None:
    view = panoramic(*crude_scan(teeth))
    assert set(np.unique(view.labels)) - {0} == set(teeth)
    assert np.isfinite(view.grey).all() and view.grey.std() > 0


def test_a_tooth_hides_the_jaw_behind_it(full_mouth) -> None:
    scan, labels = full_mouth
    array = np.where(labels.array == 0, fdi.LOWER_JAW, labels.array)
    view = panoramic(scan, labels.with_array(array))
    assert {fdi.LOWER_JAW, 31, 41, 11, 36} <= set(np.unique(view.labels))
    assert (view.labels == 11).sum() > 1000


def test_a_turned_grid_shows_the_same_teeth_in_the_same_places(full_mouth, view) -> None:
    turn = np.deg2rad(5.0)
    direction = ((np.cos(turn), -np.sin(turn), 0.0), (np.sin(turn), np.cos(turn), 0.0), (0.0, 0.0, 1.0))
    scan, labels = (replace(volume, direction=direction) for volume in full_mouth)
    turned = panoramic(scan, labels)
    teeth = fdi.arch_order(upper=True)
    # Only the distance along the arch is kept, since the picture may begin elsewhere.
    assert np.diff(columns_of(turned, teeth)) == pytest.approx(np.diff(columns_of(view, teeth)), abs=5)


def test_grids_that_differ_are_refused(full_mouth) -> None:
    with pytest.raises(ValueError, match="one grid"):
        panoramic(full_mouth[0], Volume(np.zeros((2, 2, 2), np.uint8)))
