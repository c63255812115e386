"""Tiles cover everything, and blending them invents nothing."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ToothTopoSegLib.segmentation import tiling
from ToothTopoSegLib.segmentation.normalise import GreyScale
from ToothTopoSegLib.segmentation.tiling import (
    Blend,
    QuickLook,
    blend,
    corners,
    corners_around,
    gaussian,
    padded,
    starts,
    tile_at,
)

PATCH = (6, 8, 10)


@pytest.fixture
def raw(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles reach the network with the image's own values."""
    monkeypatch.setattr(tiling, "grey_scale", lambda *_: GreyScale(-np.inf, np.inf, 0.0, 1.0))


shapes = st.tuples(*(st.integers(1, 3 * n) for n in PATCH))


def _constant(patch: np.ndarray) -> np.ndarray:
    return np.broadcast_to(np.array([3, 250, 17], np.uint8)[:, None, None, None], (3, *patch.shape))


def _pointwise(patch: np.ndarray) -> np.ndarray:
    return np.stack([patch, 2 - patch, patch * patch])


@given(st.integers(1, 600), st.integers(8, 100), st.sampled_from([0.0, 0.15, 0.5, 0.75]))
def test_tiles_cover_every_voxel_and_share_what_is_asked(length: int, patch: int, overlap: float) -> None:
    found = starts(length, patch, overlap)
    assert found[0] == 0 and found == sorted(set(found))
    if length <= patch:
        assert found == [0]
    else:
        assert found[-1] + patch == length
        assert all(0 < b - a <= patch - int(overlap * patch) for a, b in pairwise(found))


@given(shapes)
def test_every_corner_lies_inside_and_every_voxel_in_a_tile(shape: tuple[int, int, int]) -> None:
    shape = tuple(max(n, p) for n, p in zip(shape, PATCH, strict=True))
    seen = np.zeros(shape, int)
    for corner in corners(shape, PATCH, 0.5):
        tile = tuple(slice(c, c + p) for c, p in zip(corner, PATCH, strict=True))
        assert seen[tile].shape == PATCH
        seen[tile] += 1
    assert seen.min() >= 1


@pytest.mark.parametrize("patch", [PATCH, (5, 5, 5), (1, 16, 3)])
def test_the_weight_of_a_tile_is_symmetric_positive_and_largest_in_its_middle(patch: tuple[int, int, int]) -> None:
    weight = gaussian(patch)
    assert weight.shape == patch and weight.dtype == np.float32
    assert weight.min() >= np.float32(0.01) and weight.max() == 1
    assert weight[tuple(n // 2 for n in patch)] == 1
    for axis in range(3):
        np.testing.assert_allclose(weight, np.flip(weight, axis), rtol=1e-6)


@given(shapes)
def test_padding_only_adds_zeros_around_the_image(shape: tuple[int, int, int]) -> None:
    image = np.ones(shape, np.float32)
    grown, inside = padded(image, PATCH)
    assert grown.shape == tuple(max(n, p) for n, p in zip(shape, PATCH, strict=True))
    np.testing.assert_array_equal(grown[inside], image)
    assert grown.sum() == image.sum()


@settings(max_examples=25, deadline=None)
@given(shapes)
def test_a_network_that_says_the_same_everywhere_is_blended_to_just_that(shape: tuple[int, int, int]) -> None:
    found = blend(np.zeros(shape, np.float32), PATCH, _constant, (0, 1, 2))
    assert found.shape == (3, *shape) and found.dtype == np.float32
    np.testing.assert_allclose(found, _constant(np.zeros(shape)), rtol=1e-5)


@settings(max_examples=25, deadline=None)
@given(shapes, st.integers(0, 1000))
def test_a_network_that_looks_at_one_voxel_is_blended_exactly(shape: tuple[int, int, int], seed: int) -> None:
    image = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    np.testing.assert_allclose(blend(image, PATCH, _pointwise, (0, 1, 2)), _pointwise(image), atol=2e-5)


def test_the_middle_of_a_tile_counts_more_than_its_rim() -> None:
    def number_of_the_call(patch: np.ndarray) -> np.ndarray:
        calls.append(1)
        return np.full((1, *patch.shape), float((len(calls) + 1) // 2))

    calls: list[int] = []
    found = blend(np.zeros((6, 8, 15), np.float32), PATCH, number_of_the_call, (0,))[0, 3, 4]
    assert len(calls) == 4  # tiles at 0..9 and 5..14, each with its mirror image
    assert (found[:5] == 1).all() and (found[10:] == 2).all() and (np.diff(found) >= 0).all()
    assert found[5] < 1.1 and found[9] > 1.9 and found[7] == pytest.approx(1.5)


def test_the_mirror_image_speaks_for_the_classes_of_the_other_side() -> None:
    """A network that calls everything on its right class 0 and on its left class 1, wherever the teeth are."""

    def sided(patch: np.ndarray) -> np.ndarray:
        scores = np.zeros((2, *patch.shape), np.float32)
        half = patch.shape[2] // 2
        scores[0, :, :, :half] = scores[1, :, :, half:] = 1.0
        return scores

    image = np.zeros(PATCH, np.float32)
    np.testing.assert_allclose(blend(image, PATCH, sided, (1, 0)), sided(image))
    np.testing.assert_allclose(blend(image, PATCH, sided, (0, 1)), 0.5, atol=1e-6)


def test_whole_scores_are_summed_exactly_in_any_order_of_tiles() -> None:
    rng = np.random.default_rng(1)
    places = corners((9, 11, 14), PATCH, 0.5)
    tiles = [rng.integers(0, 256, (2, *PATCH)).astype(np.uint8) for _ in places]
    means = []
    for order in (range(len(places)), reversed(range(len(places)))):
        mean = Blend(2, (9, 11, 14), PATCH)
        for i in order:
            mean.add(tile_at(places[i], PATCH), tiles[i])
        means.append(mean.scores())
    np.testing.assert_array_equal(*means)
    inside = Blend(2, (9, 11, 14), PATCH)
    for place, tile in zip(places, tiles, strict=True):
        inside.add(tile_at(place, PATCH), tile.astype(np.float32))
    np.testing.assert_allclose(means[0], inside.scores(), atol=0.1)  # weights of 14 bits


def test_where_no_tile_was_the_mean_is_zero() -> None:
    mean = Blend(2, (6, 8, 20), PATCH)
    assert not mean.scores().any()
    mean.add(tile_at((0, 0, 0), PATCH), np.full((2, *PATCH), 7, np.uint8))
    found = mean.scores()
    assert (found[..., : PATCH[2]] == 7).all() and not found[..., PATCH[2] :].any()


def test_blending_tells_how_far_it_is() -> None:
    seen: list[float] = []
    blend(np.zeros((6, 8, 30), np.float32), PATCH, _constant, (0, 1, 2), progress=lambda part, _: seen.append(part))
    assert seen == [0.0, 0.2, 0.4, 0.6, 0.8]


@pytest.mark.usefixtures("raw")
def test_a_quick_look_finds_what_is_bright_wherever_it_is() -> None:
    image = np.random.default_rng(0).normal(-0.5, 0.1, (13, 30, 41)).astype(np.float32)
    bright = [(0, 0, 0), (12, 29, 40), (6, 15, 20), (12, 0, 20)]
    for z, y, x in bright:
        image[max(z - 2, 0) : z + 2, max(y - 2, 0) : y + 2, max(x - 2, 0) : x + 2] = 3.0
    found = QuickLook(image, PATCH, lambda patch: np.stack([patch < 1, patch >= 1])).everywhere()
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, image >= 1)


@pytest.mark.usefixtures("raw")
def test_a_quick_look_skips_tiles_where_everything_is_dark() -> None:
    def network(patch: np.ndarray) -> np.ndarray:
        looked.append(patch.max())
        return np.ones((1, *patch.shape))

    looked: list[float] = []
    image = np.zeros((6, 8, 80), np.float32)
    image[:, :, 60:76] = 2.0
    QuickLook(image, PATCH, network).everywhere()
    assert 2 <= len(looked) <= 4 and all(value == 2.0 for value in looked)


@pytest.mark.usefixtures("raw")
@pytest.mark.parametrize("shape", [(3, 8, 10), (5, 6, 7), (6, 8, 10)])
def test_a_quick_look_takes_images_smaller_than_a_patch(shape: tuple[int, int, int]) -> None:
    image = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    found = QuickLook(image, PATCH, lambda patch: np.stack([patch < 0, patch >= 0])).everywhere()
    np.testing.assert_array_equal(found, image >= 0)


def test_where_tiles_overlap_the_one_in_whose_middle_a_voxel_lies_deeper_decides() -> None:
    def number_of_the_call(patch: np.ndarray) -> np.ndarray:
        calls.append(1)
        return np.eye(3)[len(calls)][:, None, None, None] * np.ones(patch.shape)

    calls: list[int] = []
    found = QuickLook(np.ones((6, 8, 16), np.float32), PATCH, number_of_the_call).everywhere()
    assert len(calls) == 2
    np.testing.assert_array_equal(found[3, 4], [1] * 8 + [2] * 8)


@pytest.mark.parametrize("seed", range(4))
def test_tiles_laid_around_voxels_cover_all_of_them_and_lie_within_the_grid(seed: int) -> None:
    rng = np.random.default_rng(seed)
    wanted = np.zeros((30, 40, 50), bool)
    for z, y, x in rng.integers(0, (24, 34, 44), (3, 3)):
        wanted[z : z + 6, y : y + 6, x : x + 6] = True
    covered = np.zeros_like(wanted)
    for corner in corners_around(wanted, PATCH, 0.25, 2):
        tile = tuple(slice(c, c + p) for c, p in zip(corner, PATCH, strict=True))
        assert covered[tile].shape == PATCH and wanted[tile].any()
        covered[tile] = True
    assert covered[wanted].all()


def test_a_tile_around_a_small_thing_has_it_in_its_middle() -> None:
    wanted = np.zeros((30, 40, 50), bool)
    wanted[10:14, 20:24, 30:34] = True
    assert corners_around(wanted, (6, 8, 10), 0.25, 2) == [(9, 18, 27)]


def test_where_nothing_is_wanted_no_tile_is_laid() -> None:
    assert corners_around(np.zeros((30, 40, 50), bool), PATCH, 0.25, 2) == []
