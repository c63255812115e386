"""The dental region: around the teeth, all of them, and never larger than a dentition."""

from __future__ import annotations

import numpy as np
import pytest

from ToothTopoSegLib.segmentation.classes import CLASSES, LABELS, TEETH, class_to_label, to_classes
from ToothTopoSegLib.segmentation.region import LARGEST_MM, MARGIN_MM, dental_region

HEAD = (150, 160, 150)
JAW = CLASSES - 1


def _region(classes: np.ndarray, spacing: float) -> tuple[slice, slice, slice] | None:
    """The region where all teeth are equally bright."""
    return dental_region(classes, np.ones(classes.shape, np.float32), spacing)


def _arch(classes: np.ndarray, z: int, centre: tuple[int, int], first: int, height: int = 15) -> None:
    """Sixteen blocks of 6 x 6 mm along an arch at the level ``z``, classes from ``first`` on, one voxel a mm."""
    for i, angle in enumerate(np.linspace(0, np.pi, 16)):
        y, x = round(centre[0] - 28 * np.sin(angle)), round(centre[1] - 26 * np.cos(angle))
        classes[z : z + height, y - 3 : y + 3, x - 3 : x + 3] = first + i


def _dentition() -> np.ndarray:
    classes = np.zeros(HEAD, np.uint8)
    _arch(classes, 60, (90, 75), 17)
    _arch(classes, 78, (88, 75), 1)
    return classes


def _bounds(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    points = np.argwhere(mask)
    return points.min(0), points.max(0) + 1


def test_the_region_is_the_teeth_of_both_jaws_and_a_margin() -> None:
    classes = _dentition()
    box = _region(classes, 1.0)
    low, high = _bounds(classes > 0)
    assert [s.start for s in box] == (low - MARGIN_MM).tolist()
    assert [s.stop for s in box] == (high + MARGIN_MM).tolist()


def test_the_region_ends_at_the_border_of_the_scan() -> None:
    classes = _dentition()[60:92]
    box = _region(classes, 1.0)
    assert box[0] == slice(0, 32)


def test_strays_elsewhere_in_the_head_do_not_count() -> None:
    classes = _dentition()
    expected = _region(classes, 1.0)
    rng = np.random.default_rng(0)
    for _ in range(40):  # lone voxels close by, as noise makes them
        classes[tuple(rng.integers(0, HEAD))] |= 5
    classes[135:145, 145:155, 70:80] = 9  # a block in the spine, larger than a tooth
    classes[2:8, 5:11, 5:11] = 3
    found = _region(classes, 1.0)
    grown = [max(abs(a.start - b.start), abs(a.stop - b.stop)) for a, b in zip(found, expected, strict=True)]
    assert max(grown) <= 2


def test_jaws_are_no_teeth() -> None:
    classes = _dentition()
    expected = _region(classes, 1.0)
    classes[classes == 0] = JAW
    assert _region(classes, 1.0) == expected
    assert _region(np.full(HEAD, JAW, np.uint8), 1.0) is None


def test_no_teeth_means_no_region() -> None:
    assert _region(np.zeros(HEAD, np.uint8), 1.0) is None


@pytest.mark.parametrize("spacing, edge, there", [(1.0, 3, False), (1.0, 4, True), (0.5, 7, False), (0.5, 8, True)])
def test_a_crumb_is_no_dentition_whatever_the_voxel_size(spacing: float, edge: int, there: bool) -> None:
    classes = np.zeros((60, 60, 60), np.uint8)
    classes[20 : 20 + edge, 20 : 20 + edge, 20 : 20 + edge] = 4
    assert (_region(classes, spacing) is not None) == there


def test_many_crumbs_are_no_dentition_either() -> None:
    classes = np.zeros(HEAD, np.uint8)
    classes[5::20, 5::20, 5::20] = 7
    assert (classes > 0).sum() > 200
    assert _region(classes, 1.0) is None


@pytest.mark.parametrize("spacing", [1.0, 1.3, 2.0])
def test_the_region_is_never_larger_than_a_dentition(spacing: float) -> None:
    shape = tuple(int(130 / spacing) for _ in range(3))
    classes = np.ones(shape, np.uint8)
    box = _region(classes, spacing)
    size = np.array([(s.stop - s.start) * spacing for s in box])
    assert (size <= LARGEST_MM).all() and (size > np.array(LARGEST_MM) - 2 * spacing).all()
    middle = np.array([(s.stop + s.start) / 2 for s in box])
    np.testing.assert_allclose(middle, np.array(shape) / 2, atol=1)


def test_one_jaw_far_from_the_other_is_still_joined() -> None:
    classes = np.zeros(HEAD, np.uint8)
    _arch(classes, 40, (90, 75), 17)
    _arch(classes, 72, (88, 75), 1, height=18)  # 17 mm apart: mouth wide open
    box = _region(classes, 1.0)
    assert box[0] == slice(40 - 12, 90 + 12)


def test_a_class_stands_for_one_label_and_back() -> None:
    assert len(LABELS) == CLASSES == 35 and len(set(LABELS)) == 35
    assert LABELS[1:33] == TEETH and {11, 18, 21, 28, 31, 38, 41, 48} <= set(TEETH)
    table = class_to_label()
    np.testing.assert_array_equal(to_classes(table), np.arange(35))
    np.testing.assert_array_equal(to_classes(np.array([[51, 200, 1], [0, 11, 48]])), [[0, 0, 0], [0, 1, 32]])


def test_the_bright_teeth_win_against_more_voxels_of_dull_bone_taken_for_teeth() -> None:
    classes = _dentition()
    image = np.where(classes > 0, 1600.0, 0.0)
    image[classes > 0] -= np.random.default_rng(0).uniform(0, 600, (classes > 0).sum())
    expected = dental_region(classes, image, 1.0)
    head = np.zeros((260, *HEAD[1:]), np.uint8)
    head[: HEAD[0]] = classes
    grey = np.zeros(head.shape)
    grey[: HEAD[0]] = image
    head[200:225, 30:110, 30:110] = 12  # a vault ten times as large as the dentition
    grey[200:225, 30:110, 30:110] = 1200.0
    assert (head[200:] > 0).sum() >= 10 * (classes > 0).sum()
    assert dental_region(head, grey, 1.0) == expected


def _head_of_bone(enamel: float) -> tuple[np.ndarray, np.ndarray]:
    """Class map and grey values of a vault taken for two teeth above a jaw, ``enamel`` being the teeth's grey value."""
    classes, image = np.zeros(HEAD, np.uint8), np.full(HEAD, -1000.0)
    classes[20:50, 30:120, 30:120], image[20:50, 30:120, 30:120] = JAW, 1500.0
    classes[110:130, 40:90, 40:60], image[110:130, 40:90, 40:60] = 3, enamel
    classes[110:130, 40:90, 60:80], image[110:130, 40:90, 60:80] = 19, enamel
    return classes, image


@pytest.mark.parametrize("enamel, there", [(1400.0, False), (1510.0, False), (1700.0, True), (2400.0, True)])
def test_where_nothing_is_denser_than_the_bone_there_are_no_teeth(enamel: float, there: bool) -> None:
    classes, image = _head_of_bone(enamel)
    for offset, scale in ((0.0, 1.0), (1000.0, 1.0), (0.0, 0.1)):  # grey values need not be Hounsfield units
        assert (dental_region(classes, scale * image + offset, 1.0) is not None) == there


def test_a_dentition_counts_even_where_its_enamel_is_not_denser_than_the_bone() -> None:
    classes = _dentition()
    classes[20:50, 30:120, 30:120] = JAW
    assert dental_region(classes, np.where(classes > 0, 1500.0, 0.0), 1.0) is not None


def _as_dense(classes: np.ndarray, vault: float) -> np.ndarray:
    """Grey values of teeth up to 2000 and of a vault up to ``vault`` beside them."""
    noise = np.random.default_rng(3)
    image = np.where(classes > 0, noise.uniform(1400, 2000, HEAD), -1000.0)
    image[5:35, 20:130, 20:130] = noise.uniform(vault - 200, vault, (30, 110, 110))
    return image


@pytest.mark.parametrize("vault, there", [(1500.0, True), (2050.0, False)])
def test_a_few_teeth_no_denser_than_much_else_are_none(vault: float, there: bool) -> None:
    classes = _dentition()
    classes[(classes % 3 > 0)] = 0
    assert len(np.unique(classes)) == 11
    assert (dental_region(classes, _as_dense(classes, vault), 1.0) is not None) == there


def test_many_numbers_all_over_a_head_no_denser_than_much_else_are_no_dentition() -> None:
    classes = np.zeros(HEAD, np.uint8)
    for n in range(32):
        z, y, x = 40 + 25 * (n // 8), 10 + 70 * (n // 4 % 2), 10 + 35 * (n % 4)
        classes[z : z + 12, y : y + 8, x : x + 8] = n + 1
    assert dental_region(classes, _as_dense(classes, 1500.0), 1.0) is not None
    assert dental_region(classes, _as_dense(classes, 2050.0), 1.0) is None


def test_a_whole_mouth_is_a_dentition_though_much_else_is_as_dense() -> None:
    classes = _dentition()
    expected = _region(classes, 1.0)
    classes[10:14, 30:90, 30:90] = 12  # a part of the vault, taken for a tooth
    assert dental_region(classes, _as_dense(classes, 2050.0), 1.0) == expected
