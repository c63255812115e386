"""Resampling and cropping: geometry exact, ramps exact, fine detail averaged rather than aliased."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ToothTopoSegLib.imaging.resample import crop, resample_linear
from ToothTopoSegLib.imaging.volume import Volume

OBLIQUE = ((0.0, -0.6, 0.8), (1.0, 0.0, 0.0), (0.0, 0.8, 0.6))


def physical_centre(volume: Volume) -> np.ndarray:
    return volume.index_to_lps((np.array(volume.array.shape) - 1) / 2)


def ramp(shape=(20, 24, 28), spacing=(0.5, 0.4, 0.3)) -> Volume:
    """A volume whose value is 10 + 3 times its LPS x, 2 times its y and -1 times its z coordinate in mm."""
    volume = Volume(np.zeros(shape, np.float32), spacing, (5.0, -7.0, 11.0), OBLIQUE)
    places = volume.index_to_lps(np.stack(np.indices(shape), axis=-1))
    return volume.with_array((10 + places @ np.array([3.0, 2.0, -1.0])).astype(np.float32))


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.25, 0.2, 0.2), (0.5, 0.9, 0.17)])
def test_a_ramp_keeps_its_value_at_every_world_position_away_from_the_rim(spacing):
    result = resample_linear(ramp(), spacing)
    inside = tuple(slice(2, -2) if n > 5 else slice(None) for n in result.array.shape)
    places = result.index_to_lps(np.stack(np.indices(result.array.shape), axis=-1))
    expected = 10 + places @ np.array([3.0, 2.0, -1.0])
    margin = tuple(slice(int(np.ceil(1.1 / s)) + 1, -int(np.ceil(1.1 / s)) - 1) for s in spacing)
    assert result.array[margin].size
    np.testing.assert_allclose(result.array[margin], expected[margin], atol=1e-4)
    assert result.array[inside].dtype == np.float32


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    shape=st.tuples(*[st.integers(1, 12)] * 3),
    old=st.tuples(*[st.floats(0.1, 3.0)] * 3),
    new=st.tuples(*[st.floats(0.1, 3.0)] * 3),
)
def test_the_centre_of_the_physical_extent_and_every_constant_are_kept(shape, old, new):
    volume = Volume(np.full(shape, 7, np.int16), old, (1.0, 2.0, 3.0), OBLIQUE)
    result = resample_linear(volume, new)
    np.testing.assert_allclose(physical_centre(result), physical_centre(volume), atol=1e-9)
    np.testing.assert_allclose(result.array, 7.0, rtol=1e-5)
    assert result.spacing == new
    for n, m, a, b in zip(shape, result.array.shape, old, new, strict=True):
        assert m == 1 or abs(m - n * a / b) <= 0.5 + 1e-9  # at a tie either neighbour is right


def test_the_same_spacing_returns_the_same_voxels():
    volume = Volume(np.random.default_rng(0).integers(-1000, 3000, (9, 10, 11)).astype(np.int16), (0.3, 0.4, 0.5))
    result = resample_linear(volume, volume.spacing)
    assert np.array_equal(result.array, volume.array)
    assert (result.spacing, result.origin) == (volume.spacing, volume.origin)


def test_halving_the_spacing_interpolates_by_hand_worked_quarters():
    volume = Volume(np.array([0.0, 4.0]).reshape(1, 1, 2), (1.0, 1.0, 1.0))
    result = resample_linear(volume, (1.0, 1.0, 0.5))
    assert result.array.ravel().tolist() == [0.0, 1.0, 3.0, 4.0]
    assert result.origin == (-0.25, 0.0, 0.0)


def test_detail_finer_than_the_new_voxels_is_averaged_and_not_aliased():
    stripes = np.zeros((8, 8, 60), np.int16)
    stripes[:, :, ::2] = 1000
    result = resample_linear(Volume(stripes, (0.5, 0.5, 0.5)), (1.0, 1.0, 1.5))
    # Linear interpolation alone would hit stripe after stripe: 0, 1000, 0, ...
    np.testing.assert_allclose(result.array[:, :, 2:-2], 500, atol=100)


def test_the_mean_of_a_scan_is_kept_when_it_is_made_coarser():
    volume = Volume(np.random.default_rng(1).normal(400, 200, (40, 44, 48)).astype(np.int16), (0.4, 0.4, 0.4))
    assert resample_linear(volume, (0.8, 0.8, 0.8)).array.mean() == pytest.approx(volume.array.mean(), rel=0.01)


def test_a_region_equals_the_resampled_crop():
    volume = ramp()
    box = ((2, 3, 4), (14, 20, 25))
    part, cut = resample_linear(volume, (1.0, 0.8, 0.6), box), resample_linear(crop(volume, *box), (1.0, 0.8, 0.6))
    assert np.array_equal(part.array, cut.array)
    assert part.origin == cut.origin


def test_only_the_result_and_a_few_slices_of_memory_are_taken():
    volume = Volume(np.ones((160, 160, 160), np.int16), (0.5, 0.5, 0.5))
    resample_linear(crop(volume, (0, 0, 0), (4, 4, 4)), (1.0, 1.0, 1.0))  # imports are not counted
    tracemalloc.start()
    result = resample_linear(volume, (1.0, 1.0, 1.0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < result.array.nbytes + 12 * 160 * 160 * 4


def test_a_crop_is_a_view_at_its_place_in_the_world():
    volume = ramp()
    part = crop(volume, (1, 2, 3), (5, 7, 9))
    assert part.array.shape == (4, 5, 6)
    assert np.shares_memory(part.array, volume.array)
    np.testing.assert_allclose(part.index_to_lps(np.zeros(3)), volume.index_to_lps(np.array([1, 2, 3])), atol=1e-12)
    np.testing.assert_allclose(part.index_to_lps(np.array([3, 4, 5])), volume.index_to_lps(np.array([4, 6, 8])))


@pytest.mark.parametrize("box", [((0, 0, 0), (0, 5, 5)), ((-1, 0, 0), (5, 5, 5)), ((0, 0, 0), (5, 5, 99))])
def test_an_empty_box_or_one_beyond_the_volume_is_refused(box):
    with pytest.raises(ValueError, match="does not lie within"):
        crop(ramp(), *box)


def test_a_spacing_of_zero_is_refused():
    with pytest.raises(ValueError, match="positive"):
        resample_linear(ramp(), (0.0, 1.0, 1.0))
