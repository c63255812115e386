"""Ranges, scales and integer weights, against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from Testing.Library.quantization.tiny import TINY, Tiny, smooth_patches
from ToothTopoSegLib.quantization.calibrate import affine_of, calibrate, quantize_weights, rounded_weights
from ToothTopoSegLib.quantization.config import QuantConfig
from ToothTopoSegLib.quantization.graph import Graph, LeakyRelu

CONFIG = QuantConfig()
finite = st.floats(-1e6, 1e6, allow_nan=False, width=32)


@given(finite, finite)
def test_every_range_covers_itself_and_zero_to_half_a_step(a: float, b: float) -> None:
    low, high = sorted((a, b))
    found = affine_of(low, high, CONFIG)
    assert 0 <= found.zero_point <= 255 and found.scale > 0
    ends = found.scale * (np.array([0, 255]) - found.zero_point)
    assert ends[0] <= min(low, 0) + 0.51 * found.scale and ends[1] >= max(high, 0) - 0.51 * found.scale


def test_a_range_beside_zero_is_widened_to_zero() -> None:
    above, below = affine_of(1.0, 5.1, CONFIG), affine_of(-5.1, -1.0, CONFIG)
    assert (above.zero_point, below.zero_point) == (0, 255)
    assert above.scale == below.scale == pytest.approx(0.02)


def test_a_range_of_nothing_has_a_scale_above_zero_and_an_exact_zero() -> None:
    found = affine_of(0.0, 0.0, CONFIG)
    assert found.scale > 0 and found.zero_point == 0
    assert np.float32(found.scale) == found.scale  # what ONNX stores is what the bias was computed with


def test_fewer_bits_give_smaller_limits() -> None:
    assert (CONFIG.weight_limit, CONFIG.activation_limit) == (63, 255)
    assert (QuantConfig(weight_bits=8).weight_limit, QuantConfig(weight_bits=4).weight_limit) == (127, 7)
    assert affine_of(-1.0, 254.0, CONFIG).scale == 1.0


def test_each_output_channel_has_a_scale_of_its_own() -> None:
    weight = np.array([[0.63, -0.315, 0.0], [-6.3, 0.1, 6.2]], np.float32).reshape(2, 3, 1, 1, 1)
    found = quantize_weights(weight, CONFIG)
    np.testing.assert_allclose(found.scales, [0.01, 0.1], rtol=1e-6)
    np.testing.assert_array_equal(found.values.reshape(2, 3), [[63, -32, 0], [-63, 1, 62]])
    assert found.values.dtype == np.int8 and found.scales.dtype == np.float32


def test_a_channel_of_zeros_stays_zero() -> None:
    found = quantize_weights(np.zeros((2, 1, 3, 3, 3), np.float32), CONFIG)
    assert not found.values.any() and (found.scales > 0).all()


def test_a_smallest_scale_holds_for_small_channels_only() -> None:
    weight = np.array([6.3, 1e-12], np.float32).reshape(2, 1, 1, 1, 1)
    found = quantize_weights(weight, CONFIG, np.array([0.01, 0.5]))
    np.testing.assert_allclose(found.scales, [0.1, 0.5], rtol=1e-6)
    np.testing.assert_array_equal(found.values.ravel(), [63, 0])


def test_quantized_weights_are_half_a_step_off_at_most(tiny: Tiny) -> None:
    weight = tiny.weights["encoder.stages.1.0.convs.0.conv.weight"]
    found = quantize_weights(weight, CONFIG)
    back = found.values * found.scales[:, None, None, None, None]
    assert (np.abs(back - weight).max((1, 2, 3, 4)) <= found.scales * 0.5001).all()


def test_calibration_needs_a_patch(tiny: Tiny) -> None:
    with pytest.raises(ValueError, match="at least one patch"):
        calibrate(tiny.graph, [], CONFIG)


def test_every_activation_of_the_graph_is_calibrated(tiny: Tiny) -> None:
    found = calibrate(tiny.graph, iter(smooth_patches(TINY, 2)), CONFIG)
    assert set(found) == set(tiny.graph.tensors)


def test_the_range_is_the_mean_over_the_patches() -> None:
    graph = Graph((LeakyRelu("act", "image"),))
    patches = [np.array([-1.0, high]).reshape(1, 1, 1, 1, 2) for high in (1.0, 3.0)]
    image = calibrate(graph, patches, QuantConfig(percentile=100))["image"]
    assert image.scale == pytest.approx(3.0 / 255)
    assert image.zero_point == 85


def test_one_voxel_of_metal_does_not_set_the_range() -> None:
    graph = Graph((LeakyRelu("act", "image"),))
    patch = np.linspace(-1, 1, 64**3, dtype=np.float32).reshape(1, 1, 64, 64, 64).copy()
    patch[0, 0, 0, 0, 0] = 1000.0
    robust, whole = (calibrate(graph, [patch], QuantConfig(percentile=p))["image"].scale for p in (99.99, 100.0))
    assert robust == pytest.approx(2 / 255, rel=0.01) and whole > 3.9


def test_weights_of_least_error_have_less_error_than_the_widest_range() -> None:
    weight = np.random.default_rng(0).standard_t(3, (4, 30, 3, 3, 3)).astype(np.float32)  # heavy tails
    error = {}
    for observer in ("minmax", "mse"):
        found = quantize_weights(weight, QuantConfig(weight_bits=4, weight_observer=observer))
        back = found.values * found.scales[:, None, None, None, None]
        error[observer] = np.square(back - weight).mean((1, 2, 3, 4))
    assert (error["mse"] < error["minmax"]).all()


def test_weights_per_tensor_share_the_scale_of_the_largest() -> None:
    weight = np.array([6.3, 0.1], np.float32).reshape(2, 1, 1, 1, 1)
    found = quantize_weights(weight, QuantConfig(weights_per_channel=False))
    np.testing.assert_allclose(found.scales, [0.1, 0.1], rtol=1e-6)
    np.testing.assert_array_equal(found.values.ravel(), [63, 1])


def test_given_scales_are_taken_as_they_are() -> None:
    weight = np.array([1.0, 100.0], np.float32).reshape(2, 1, 1, 1, 1)
    found = rounded_weights(weight, np.array([0.5, 0.5], np.float32), CONFIG)
    np.testing.assert_array_equal(found.values.ravel(), [2, 63])


def test_symmetric_activations_have_zero_point_128() -> None:
    found = affine_of(-0.5, 1.27, QuantConfig(symmetric_activations=True))
    assert found.zero_point == 128 and found.scale == pytest.approx(0.01)


@pytest.mark.parametrize("observer", ["minmax", "percentile", "mse"])
def test_every_observer_calibrates_every_activation(tiny: Tiny, observer: str) -> None:
    found = calibrate(tiny.graph, smooth_patches(TINY, 1), QuantConfig(observer=observer))
    assert set(found) == set(tiny.graph.tensors) and all(a.scale > 0 for a in found.values())
