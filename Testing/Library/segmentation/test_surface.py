"""Surfaces at half a millimetre, with drawn teeth and a second network that is told what to say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from scipy import ndimage

from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.segmentation.classes import CLASSES, TEETH
from ToothTopoSegLib.segmentation.regrid import teeth_on_grid
from ToothTopoSegLib.segmentation.surface import (
    OVERLAP,
    SURE,
    give_away_strays,
    grid_spacing,
    strike_out_implants,
    surfaces,
)
from ToothTopoSegLib.segmentation.tiling import corners

PATCH = (16, 16, 16)


@dataclass
class Thresholds:
    """A network that calls values from 2 on core and from 1 on border of a tooth, with scores of 60; the rest has
    another one."""

    score_scale: float = 0.1
    tiles: int = 0
    rest: float = 60.0

    def __call__(self, patch):
        self.tiles += 1
        core, border = patch >= 2, (patch >= 1) & (patch < 2)
        return np.stack([~(core | border) * self.rest, core * 60.0, border * 60.0]).astype(np.float32)


@pytest.fixture(autouse=True)
def _grey_values_as_they_are(monkeypatch):
    class Same:
        def apply(self, grey):
            return np.asarray(grey, np.float32)

    monkeypatch.setattr("ToothTopoSegLib.segmentation.normalise.grey_scale", lambda grey, limit=0: Same())


def scores_of(labels: np.ndarray) -> np.ndarray:
    """Class scores (35, z, y, x) of a label map of teeth that leave no doubt."""
    out = np.zeros((CLASSES, *labels.shape), np.float32)
    out[0] = labels == 0
    for index, fdi in enumerate(TEETH, 1):
        out[index] = labels == fdi
    return out * SURE


def looked_at(grey: np.ndarray, coarse: np.ndarray, network: Thresholds | None = None, patch=PATCH):
    """Surfaces in a scan (z, y, x) of 0.5 mm of which the first network saw ``coarse`` at 1 mm."""
    scan = Volume(grey.astype(np.float32), (0.5, 0.5, 0.5))
    region = Volume(coarse, (1.0, 1.0, 1.0), (0.25, 0.25, 0.25))
    return scan, surfaces(scan, region, scores_of(coarse), network or Thresholds(), patch, 0.5)


def block(*boxes) -> tuple[np.ndarray, np.ndarray]:
    """Grey values at 0.5 mm of blocks (z0, z1, y0, y1, x0, x1, FDI), their outer voxel border, and labels at 1 mm."""
    grey, coarse = np.zeros((32, 32, 32)), np.zeros((16, 16, 16), np.uint8)
    for z0, z1, y0, y1, x0, x1, fdi in boxes:
        grey[z0:z1, y0:y1, x0:x1] = 1
        grey[z0 + 1 : z1 - 1, y0 + 1 : y1 - 1, x0 + 1 : x1 - 1] = 2
        coarse[z0 // 2 : z1 // 2, y0 // 2 : y1 // 2, x0 // 2 : x1 // 2] = fdi
    return grey, coarse


def on_scan(scan: Volume, found) -> np.ndarray:
    labels = np.zeros(scan.array.shape, np.uint8)
    teeth_on_grid(labels, found.tooth, found.number, scan)
    return labels


def assert_alike(labels: np.ndarray, expected: np.ndarray) -> None:
    """No voxel is wrong but at edges, which smoothing rounds: next to one that is right, and few of them."""
    wrong = labels != expected
    assert wrong.sum() <= 0.06 * (expected > 0).sum()
    assert not ndimage.binary_erosion(wrong, np.ones((2, 2, 2))).any()


def test_a_tooth_gets_the_surface_that_the_second_network_sees():
    grey, coarse = block((5, 21, 7, 19, 9, 23, 36))
    scan, found = looked_at(grey, coarse)
    assert found.tooth.spacing == (0.5, 0.5, 0.5) and found.tooth.array.shape == (32, 32, 32)
    assert_alike(on_scan(scan, found), np.where(grey >= 1, 36, 0))


@pytest.mark.parametrize(
    ("scan", "grid"),
    [
        ((0.4, 0.4, 0.4), 0.4),
        ((0.39999998, 0.4, 0.4), 0.39999998),
        ((0.6, 0.6, 0.6), 0.6),
        ((0.60000002, 0.6, 0.6), 0.60000002),
        ((0.3, 0.3, 0.3), 0.5),
        ((0.7, 0.7, 0.7), 0.5),
        ((0.45, 0.5, 0.5), 0.5),
    ],
)
def test_scans_with_voxels_of_about_the_networks_size_are_looked_at_on_their_own_grid(scan, grid):
    assert grid_spacing(scan, 0.5) == grid


def test_on_its_own_grid_a_scan_is_seen_as_it_is():
    grey, coarse = block((5, 21, 7, 19, 9, 23, 36))
    scan = Volume(grey.astype(np.float32), (0.42, 0.42, 0.42), (3.0, 4.0, 5.0))
    region = Volume(coarse, (0.84, 0.84, 0.84), (3.21, 4.21, 5.21))
    found = surfaces(scan, region, scores_of(coarse), Thresholds(), PATCH, 0.5)
    assert found.tooth.spacing == scan.spacing and found.tooth.origin == pytest.approx(scan.origin)
    assert_alike(on_scan(scan, found), np.where(grey >= 1, 36, 0))


@pytest.mark.parametrize("rest", [20.0, 80.0])
def test_the_surface_does_not_move_with_how_sure_the_network_is_on_either_side(rest):
    grey, coarse = block((5, 21, 7, 19, 9, 23, 36))
    scan, found = looked_at(grey, coarse, Thresholds(rest=rest))
    assert_alike(on_scan(scan, found), np.where(grey >= 1, 36, 0))


def test_teeth_that_touch_are_parted_where_their_borders_meet():
    grey, coarse = block((4, 20, 4, 20, 4, 15, 36), (4, 20, 4, 20, 15, 30, 37))
    coarse[2:10, 2:10, 2:9] = 36  # the first network draws the seam a voxel too far
    coarse[2:10, 2:10, 9:15] = 37
    scan, found = looked_at(grey, coarse)
    expected = np.zeros((32, 32, 32), np.uint8)
    expected[4:20, 4:20, 4:15], expected[4:20, 4:20, 15:30] = 36, 37
    assert_alike(on_scan(scan, found), expected)


def test_a_tooth_whose_numbers_are_torn_becomes_one():
    grey, coarse = block((4, 24, 6, 18, 6, 18, 25))
    coarse[10:12, 3:9, 3:9] = np.where(coarse[10:12, 3:9, 3:9] > 0, 26, 0)
    scan, found = looked_at(grey, coarse)
    assert set(np.unique(on_scan(scan, found))) == {0, 25}


def test_two_teeth_that_the_second_network_runs_together_keep_their_numbers():
    grey, coarse = block((4, 30, 4, 30, 4, 30, 36))
    coarse[:, :, 8:][coarse[:, :, 8:] > 0] = 37
    scan, found = looked_at(grey, coarse)
    labels = on_scan(scan, found)
    assert (labels[:, :, :16] != 37).all() and (labels[:, :, 16:] != 36).all() and {36, 37} <= set(np.unique(labels))


@pytest.mark.parametrize(("sure", "drawn"), [(0.1, {11}), (0.2, {11, 12})])
def test_a_tooth_that_the_first_network_missed_is_drawn_where_the_second_is_sure_of_it(sure, drawn):
    grey, coarse = block((4, 14, 4, 14, 4, 14, 11), (4, 14, 4, 14, 24, 32, 12))
    coarse[coarse == 12] = 0
    scan, found = looked_at(grey, coarse, Thresholds(sure), (32, 32, 32))
    labels = on_scan(scan, found)
    numbers = set(np.unique(labels[labels > 0]))
    assert len(numbers) == len(drawn) and (labels[:, :, :16] == 11).any()
    assert (labels[:, :, 24:] > 0).any() == (12 in drawn)


def test_what_looks_like_a_tooth_far_from_any_is_none():
    grey, coarse = block((4, 14, 4, 14, 4, 14, 11), (22, 32, 22, 32, 22, 32, 12))
    coarse[coarse == 12] = 0
    network = Thresholds()
    scan, found = looked_at(grey, coarse, network)
    labels = on_scan(scan, found)
    assert set(np.unique(labels)) == {0, 11} and found.tooth.array.min() == -SURE
    assert network.tiles < len(corners(scan.array.shape, PATCH, OVERLAP))


def test_the_tip_of_a_root_that_the_first_network_misses_is_drawn():
    grey, coarse = block((4, 28, 8, 20, 8, 20, 21))
    whole = on_scan(*looked_at(grey, coarse))
    coarse[11:] = 0
    assert_alike(on_scan(*looked_at(grey, coarse, patch=(32, 32, 32))), whole)


def test_crumbs_are_no_teeth():
    grey, coarse = block((4, 20, 4, 20, 4, 20, 11))
    grey[6, 6, 22] = 2
    scan, found = looked_at(grey, coarse)
    assert on_scan(scan, found)[6, 6, 22] == 0


def test_an_implant_is_no_tooth_and_a_tooth_under_a_metal_crown_is_one():
    number, grey = np.zeros((20, 12, 60), np.uint8), np.full((20, 12, 60), 100.0)
    for n, fdi in enumerate((44, 45, 46, 47)):
        spot = np.s_[2:18, 2:10, 2 + 14 * n : 12 + 14 * n]
        number[spot], grey[spot] = fdi, 900.0
        grey[2:7, 2:10, 2 + 14 * n : 12 + 14 * n] = 1500.0
    grey[2:9, 2:10, 16:26] = 4000.0
    grey[2:18, 2:10, 30:40] = 4000.0
    tooth = number > 0
    strike_out_implants(number, tooth, ndimage.binary_dilation(tooth, iterations=2), grey)
    assert set(np.unique(number)) == {0, 44, 45, 47}
    strike_out_implants(number, np.zeros_like(tooth), tooth, grey)
    assert set(np.unique(number)) == {0, 44, 45, 47}


def test_implants_are_no_teeth_where_there_is_no_enamel_to_compare_them_with():
    """A mouth full of implants in a scan of eight bits, whose brightest value is all metal, and one tooth left."""
    number, grey = np.zeros((20, 12, 60), np.uint8), np.full((20, 12, 60), 60.0)
    for n, fdi in enumerate((44, 45, 46, 47)):
        number[2:18, 2:10, 2 + 14 * n : 12 + 14 * n] = fdi
        grey[1:19, 1:11, 1 + 14 * n : 13 + 14 * n] = 255.0
    tooth = number > 0
    grey[2:18, 2:10, 44:54] = 140.0
    grey[2:6, 2:10, 44:54] = 230.0
    strike_out_implants(number, tooth, ndimage.binary_dilation(tooth, iterations=2), grey)
    assert set(np.unique(number)) == {0, 47}


def test_a_stray_piece_of_a_number_goes_to_the_tooth_it_sticks_to_and_one_far_apart_to_none():
    number = np.zeros((12, 12, 34), np.uint8)
    number[2:10, 2:10, 4:12], number[2:10, 2:10, 14:24] = 36, 37
    number[4:7, 4:7, 21:24] = 36
    number[4:6, 4:6, 1:3] = 36
    number[4:6, 4:6, 27:29] = 36
    tooth = number > 0
    give_away_strays(tooth, number, 0.5)
    assert (number[4:7, 4:7, 21:24] == 37).all() and not tooth[4:6, 4:6, 27:29].any()
    assert (number[4:6, 4:6, 1:3] == 36).all() and tooth[4:6, 4:6, 1:3].all()
    assert (number[2:10, 2:10, 4:12] == 36).all()


def test_strays_close_to_each_other_are_no_more_of_a_tooth_than_one():
    number = np.zeros((12, 12, 40), np.uint8)
    number[2:10, 2:10, 4:14] = 36
    number[4:6, 4:6, 20:22] = number[4:6, 4:6, 23:25] = 36
    number[2:4, 10:12, 16:18] = 36  # 1.1 mm away aslant, though its box reaches the tooth
    tooth = number > 0
    give_away_strays(tooth, number, 0.5)
    assert tooth[2:10, 2:10, 4:14].all() and tooth.sum() == 8 * 8 * 10


def test_strays_of_two_numbers_that_touch_each_other_are_no_tooth_and_one_that_touches_a_tooth_by_another_is():
    number = np.zeros((12, 12, 60), np.uint8)
    number[2:10, 2:10, 2:12], number[2:10, 2:10, 50:59] = 14, 12
    number[4:6, 4:6, 28:30], number[4:8, 4:8, 30:35] = 14, 12  # the larger one begins where the box of 14 ends
    number[4:6, 4:6, 12:14], number[4:6, 4:6, 14:16] = 12, 15
    number[10:12, 2:10, 40:59] = 15
    tooth = number > 0
    give_away_strays(tooth, number, 0.5)
    assert not tooth[4:8, 4:8, 28:35].any()
    assert (number[4:6, 4:6, 12:16] == 14).all() and tooth[4:6, 4:6, 12:16].all()


def test_a_large_piece_far_from_every_tooth_is_none_and_one_near_any_stays():
    number = np.zeros((12, 12, 80), np.uint8)
    number[2:10, 2:10, 4:14], number[2:10, 2:10, 50:58] = 36, 36
    tooth = number > 0
    far, near = tooth.copy(), tooth.copy()
    give_away_strays(far, number.copy(), 0.5)
    assert not far[:, :, 50:].any() and far[:, :, :14].sum() == 8 * 8 * 10
    number[2:10, 2:10, 70:79] = 38
    near |= number > 0
    give_away_strays(near, number.copy(), 0.5)
    assert near[2:10, 2:10, 50:58].all()


@pytest.mark.parametrize("spacing", [0.2, 0.33, 0.5, 0.8])
def test_teeth_lie_on_the_grid_of_the_scan(spacing):
    size = round(16 / spacing)
    scan = Volume(np.zeros((size,) * 3, np.float32), (spacing,) * 3, (3.0, -2.0, 5.0))
    corner = tuple(o + 0.25 - spacing / 2 for o in scan.origin)
    evidence = np.full((32, 32, 32), -2.0, np.float32)
    evidence[8:24, 8:24, 8:24] = 2.0
    number = np.where(np.arange(32) < 16, 31, 41).astype(np.uint8) * np.ones((32, 32, 1), np.uint8)
    labels = np.full(scan.array.shape, 100, np.uint8)
    teeth_on_grid(labels, Volume(evidence, (0.5,) * 3, corner), number, scan)
    volume = ((labels == 31).sum() * spacing**3, (labels == 41).sum() * spacing**3)
    assert volume == pytest.approx((256, 256), rel=0.15) and set(np.unique(labels)) == {31, 41, 100}
