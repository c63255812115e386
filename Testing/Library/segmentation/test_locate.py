"""Where teeth are looked for, with networks made of thresholds: what is bright enough is a tooth."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.segmentation import locate, tiling
from ToothTopoSegLib.segmentation.classes import CLASSES, TEETH
from ToothTopoSegLib.segmentation.locate import (
    area_around,
    crowded_places,
    find_region,
    grown,
    region_of_every_tile,
    teeth_seen,
)
from ToothTopoSegLib.segmentation.normalise import GreyScale
from ToothTopoSegLib.segmentation.region import LARGEST_MM

PATCH = (16, 24, 24)
SKIN, BONE, ENAMEL = 400.0, 1000.0, 2000.0
Network = Callable[[np.ndarray], np.ndarray]


def _head(teeth: bool) -> Volume:
    """Air around tissue with a cap of bone at its top; rows of teeth low in front of the middle, or none; 2 mm."""
    grey = np.zeros((65, 70, 70), np.float32)
    grey[2:, 5:65, 5:65] = SKIN
    grey[50:55, 10:60, 10:60] = BONE
    grey[10:30, 12:30, 22:48] = BONE
    if teeth:
        for i in range(8):
            for level in (15, 22):
                grey[level : level + 5, 19:24, 23 + i * 3 : 25 + i * 3] = ENAMEL
    return Volume(grey, (2.0, 2.0, 2.0))


class Looks:
    """A network that takes columns of what is above ``tooth`` for teeth, one number after the other, and counts."""

    def __init__(self, tooth: float = 1500.0) -> None:
        self.count, self._tooth = 0, tooth

    def __call__(self, patch: np.ndarray) -> np.ndarray:
        self.count += 1
        classes = np.zeros(patch.shape, np.int64)
        classes[patch > 0.8 * BONE] = CLASSES - 1
        columns = np.arange(patch.shape[2]) // 3 % len(TEETH) + 1
        classes = np.where(patch > self._tooth, columns, classes)
        return np.asarray(np.eye(CLASSES, dtype=np.float32)[classes].transpose(3, 0, 1, 2))


@pytest.fixture(autouse=True)
def raw(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles as they are, so that thresholds mean what they say."""
    monkeypatch.setattr(tiling, "grey_scale", lambda *_: GreyScale(-1e9, 1e9, 0.0, 1.0))
    monkeypatch.setattr(locate, "FEW_TEETH", 2)


def test_teeth_of_a_whole_head_are_found_with_few_looks_and_with_their_margin() -> None:
    head, quick, slow = _head(teeth=True), Looks(), Looks()
    found = find_region(head, head, PATCH, quick)
    assert found == region_of_every_tile(head, head, PATCH, slow)
    assert quick.count < slow.count / 3


def test_that_a_scan_shows_no_teeth_is_said_only_after_a_look_at_all_of_it() -> None:
    head, quick, slow = _head(teeth=False), Looks(), Looks()
    assert find_region(head, head, PATCH, quick) is None
    assert region_of_every_tile(head, head, PATCH, slow) is None
    assert quick.count >= slow.count


def test_what_is_no_tooth_on_a_closer_look_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    head = _head(teeth=True)
    vault, row = np.array([[100.0, 40, 40], [110, 60, 60]]), np.array([[30.0, 38, 46], [53, 48, 93]])
    monkeypatch.setattr(locate, "_met", lambda *_: [vault, row])
    looks = Looks()
    assert find_region(head, head, PATCH, looks) == region_of_every_tile(head, head, PATCH, Looks())
    assert looks.count < 20


def test_a_scan_no_larger_than_a_dentition_is_its_own_region_without_a_look() -> None:
    scan, looks = Volume(np.zeros(tuple(int(n) for n in LARGEST_MM), np.float32)), Looks()
    assert find_region(scan, scan, PATCH, looks) == tuple(slice(0, int(n)) for n in LARGEST_MM)
    assert looks.count == 0


def test_the_area_of_a_closer_look_grows_until_it_holds_all_teeth(monkeypatch: pytest.MonkeyPatch) -> None:
    head, tiles = _head(teeth=True), []

    class Watched(locate.QuickLook):
        def look(self, places: Any, progress: Any = None) -> None:
            tiles.append(set(places))
            super().look(places)

    # The first look catches one end of the row only.
    monkeypatch.setattr(locate, "_met", lambda *_: [np.array([[30.0, 38.0, 46.0], [40.0, 48.0, 52.0]])])
    expected = region_of_every_tile(head, head, PATCH, Looks())
    monkeypatch.setattr(locate, "QuickLook", Watched)
    looks = Looks()
    assert find_region(head, head, PATCH, looks) == expected
    assert len(tiles) > 1 and all(before < after for before, after in pairwise(tiles))
    assert looks.count <= len(tiles[-1])  # no tile is looked at twice


@pytest.mark.parametrize(
    ("tiles", "low", "high", "expected"),
    [
        ([20], 22, 30, [20]),
        ([20], 10, 30, [8, 20]),
        ([20], -5, 30, [0, 8, 20]),
        ([20, 32], 22, 70, [20, 32, 44, 56]),
        ([80], 80, 120, [80, 84]),
    ],
)
def test_tiles_are_added_where_the_teeth_reach_beyond(
    tiles: list[int], low: float, high: float, expected: list[int]
) -> None:
    assert grown(tiles, low, high, 16, 100) == expected


def test_places_come_in_the_order_of_how_much_dense_tissue_crowds_there() -> None:
    head = _head(teeth=True)
    first = next(iter(crowded_places(head, PATCH)))
    assert all(s.stop - s.start == n for s, n in zip(first, PATCH, strict=True))
    assert head.array[first].max() >= BONE


def test_places_of_a_scan_smaller_than_a_patch_are_the_scan() -> None:
    scan = Volume(np.random.default_rng(0).random((8, 9, 10), np.float32))
    assert next(iter(crowded_places(scan, PATCH))) == (slice(0, 8), slice(0, 9), slice(0, 10))


def test_numbers_of_a_few_voxels_do_not_count_as_teeth() -> None:
    classes = np.zeros((20, 20, 20), np.uint8)
    classes[0, 0, :3] = 3
    classes[5:15, 5:15, 5:15] = 6
    assert teeth_seen(classes, 1.0) == 1
    assert teeth_seen(classes, 0.3) == 0


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        ((40, 40, 40), (50, 60, 60), (16, 24, 24)),
        ((40, 40, 40), (57, 60, 60), (28, 24, 24)),
        ((0, 0, 0), (5, 5, 5), (16, 24, 24)),
        ((90, 90, 90), (100, 100, 100), (16, 24, 24)),
        ((0, 0, 0), (100, 100, 100), (100, 100, 100)),
    ],
)
def test_the_area_is_what_the_tiles_it_takes_cover_and_lies_within_the_scan(
    low: tuple[int, ...], high: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    area = area_around(np.array(low), np.array(high), (100, 100, 100), PATCH)
    assert tuple(s.stop - s.start for s in area) == expected
    assert all(0 <= s.start <= a and b <= s.stop <= 100 for s, a, b in zip(area, low, high, strict=True))
