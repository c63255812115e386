"""The integer reference: its arithmetic against exact fractions, and ONNX Runtime against the reference."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from Testing.Library.quantization.tiny import TINY, WIDE, Tiny, smooth_patches, tiny_network
from ToothTopoSegLib.errors import ModelError
from ToothTopoSegLib.quantization.bundle import load_bundle, model_path
from ToothTopoSegLib.quantization.calibrate import calibrate
from ToothTopoSegLib.quantization.config import QuantConfig
from ToothTopoSegLib.quantization.onnx_graph import float_model, integer_model
from ToothTopoSegLib.quantization.reference import (
    EXACT_IN_FLOAT32,
    IntegerReference,
    compare_with_reference,
    dyadic,
    exact_blocks,
    integer_sums,
    requantized,
    shifted,
)
from ToothTopoSegLib.training.network import Plan

sums_32 = st.integers(-(2**31) + 1, 2**31 - 1)
factors = st.floats(2.0**-30, 2.0, width=32)


@given(st.integers(-(2**60), 2**60), st.integers(0, 61))
def test_a_shift_rounds_half_to_even(value: int, shift: int) -> None:
    assert shifted(np.array([value]), shift)[0] == round(Fraction(value, 2**shift))


@given(sums_32, factors)
def test_a_factor_of_float32_is_a_multiplier_of_31_bits_and_a_shift(total: int, factor: float) -> None:
    multiplier, shift = dyadic(factor)
    assert multiplier < 2**31 and shift <= 62
    assert abs(Fraction(multiplier, 2**shift) - Fraction(factor)) <= Fraction(1, 2**62)
    assert requantized(np.array([total]), factor, 1)[0] == round(total * Fraction(multiplier, 2**shift))


@given(sums_32, factors)
def test_two_roundings_are_those_of_a_product_in_float32(total: int, factor: float) -> None:
    expected = np.rint(np.float32(total) * np.float32(factor))
    assert requantized(np.array([total]), factor, 2)[0] == int(expected)


def test_a_factor_that_no_shift_can_hold_is_refused() -> None:
    with pytest.raises(ModelError, match="multiplies sums by"):
        dyadic(2.0**31)
    assert dyadic(1e-30) == (0, 62)


@pytest.mark.parametrize("channels, zero", [(1, 0), (3, 77), (40, 255), (70, 128)])
@pytest.mark.parametrize("stride, kernel", [(1, 3), (2, 3), (1, 1)])
def test_sums_are_those_of_64_bit_integers(channels: int, zero: int, stride: int, kernel: int) -> None:
    rng = np.random.default_rng(channels)
    source = rng.integers(0, 256, (channels, 4, 5, 6), np.uint8)
    weight = rng.integers(-127, 128, (4, channels, kernel, kernel, kernel), np.int8)
    weight[0] = 127  # the largest sums
    found = integer_sums(source, zero, weight, (stride,) * 3, (kernel // 2,) * 3)
    padded = np.pad(source.astype(np.int64) - zero, ((0, 0), *((kernel // 2,) * 2,) * 3))
    windows = np.lib.stride_tricks.sliding_window_view(padded, weight.shape[2:], axis=(1, 2, 3))
    expected = np.einsum("izyxabc,oiabc->ozyx", windows[:, ::stride, ::stride, ::stride], weight.astype(np.int64))
    np.testing.assert_array_equal(found, expected)


def test_no_block_of_a_sum_can_leave_what_float32_holds_exactly() -> None:
    weight = np.full((2, 5000), -127, np.int8)
    weight[1] = 3
    blocks = list(exact_blocks(weight, 255))
    assert len(blocks) > 5 and blocks[0].start == 0 and blocks[-1].stop == 5000
    assert all(a.stop == b.start for a, b in pairwise(blocks))
    assert all(np.abs(weight[:, b].astype(int)).sum(1).max() * 255 < EXACT_IN_FLOAT32 for b in blocks)


def _integer(plan, config: QuantConfig | None = None) -> bytes:
    tiny = tiny_network(plan)
    config = config or QuantConfig()
    return integer_model(tiny.graph, calibrate(tiny.graph, smooth_patches(plan), config), config, plan.patch)


@pytest.mark.parametrize("plan", [TINY, WIDE], ids=["tiny", "wide"])
@pytest.mark.parametrize("symmetric", [False, True])
def test_onnx_runtime_and_the_reference_give_the_same_scores_bit_by_bit(plan, symmetric: bool) -> None:
    model = _integer(plan, QuantConfig(symmetric_activations=symmetric))
    found = compare_with_reference(model, smooth_patches(plan, 3, seed=8))
    assert (found.patches, found.voxels) == (3, 3 * np.prod(plan.patch))
    assert found.scores == found.voxels * plan.classes
    assert (found.differing_scores, found.differing_classes, found.largest_difference) == (0, 0, 0)
    assert found.layers == {}


def test_rounding_once_differs_by_levels_in_a_few_places_at_most() -> None:
    found = compare_with_reference(_integer(WIDE), smooth_patches(WIDE, 2, seed=8), roundings=1)
    assert found.differing_scores < found.scores / 100 and found.differing_classes < found.voxels / 1000


@pytest.mark.parametrize("name", ["toothtoposeg", "toothtoposeg_surface"])
def test_a_bundled_models_whole_patch_is_equal_bit_by_bit(name: str) -> None:
    bundle = load_bundle(model_path(None).with_name(f"{name}.onnx"))
    plan = Plan.from_dict(bundle.card["plan"])
    found = compare_with_reference(bundle.model, smooth_patches(plan, 1, seed=3))
    assert found.scores == plan.classes * np.prod(bundle.patch)
    assert (found.differing_scores, found.differing_classes) == (0, 0)


def test_a_graph_that_computes_something_else_is_found_out_with_the_place(integer: bytes) -> None:
    reference = IntegerReference(integer)
    model = onnx.load_from_string(integer)
    bias = next(c for c in model.graph.initializer if c.name == "up1.conv/b")
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + 3000, bias.name))
    image = smooth_patches(TINY, 1)[0]
    seen: dict[str, np.ndarray] = {}
    IntegerReference(model.SerializeToString())(image, lambda name, levels: seen.update({name: levels}))
    original: dict[str, np.ndarray] = {}
    reference(image, lambda name, levels: original.update({name: levels}))
    differing = [name for name in seen if (seen[name] != original[name]).any()]
    assert differing[0] == "up1.conv" and differing[-1] == "scores"


def test_the_float_graph_is_no_integer_graph(tiny: Tiny) -> None:
    with pytest.raises(ModelError, match="operator Conv") as caught:
        IntegerReference(float_model(tiny.graph, TINY.patch))
    assert "\n" not in str(caught.value)


def test_weights_with_a_zero_point_are_refused(integer: bytes) -> None:
    model = onnx.load_from_string(integer)
    zero = next(c for c in model.graph.initializer if c.name == "scores/w/zero")
    zero.CopyFrom(numpy_helper.from_array(np.ones_like(numpy_helper.to_array(zero)), zero.name))
    with pytest.raises(ModelError, match="zero point"):
        IntegerReference(model.SerializeToString())(smooth_patches(TINY, 1)[0])


def test_a_comparison_needs_a_patch(integer: bytes) -> None:
    with pytest.raises(ValueError, match="at least one patch"):
        compare_with_reference(integer, [])
