"""The integer ONNX model: what stands in it, and that it computes what integers would."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper

from Testing.Library.quantization.tiny import TINY, WIDE, Tiny, smooth_patches, tiny_network
from ToothTopoSegLib.quantization.calibrate import Affine, calibrate, run_float
from ToothTopoSegLib.quantization.config import QuantConfig
from ToothTopoSegLib.quantization.graph import Concat, Conv, Graph, LeakyRelu, Shuffle
from ToothTopoSegLib.quantization.onnx_graph import integer_model
from ToothTopoSegLib.training.network import Plan

CONFIG = QuantConfig()
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
UNIT = 2.0**-6
"""A weight scale that float32 holds exactly."""


def _run(model: bytes, image: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, {"image": image.astype(np.float32)})[0]


def _layer(weights: np.ndarray, bias: np.ndarray, image: Affine, out: Affine, shape: tuple[int, int, int]) -> bytes:
    """An integer model of one convolution with the integer ``weights`` (o, i, z, y, x) of scale UNIT each."""
    assert (np.abs(weights).reshape(len(weights), -1).max(1) == 63).all()  # else the export would choose another scale
    graph = Graph((Conv("conv", "image", (weights * UNIT).astype(np.float32), bias.astype(np.float32)),))
    return integer_model(graph, {"image": image, "conv": out}, CONFIG, shape)


def _exact_layer(levels: np.ndarray, weights: np.ndarray, bias: np.ndarray, image: Affine, out: Affine) -> np.ndarray:
    """QLinearConv of uint8 ``levels`` (z, y, x) in 64-bit integers, requantised in float32, rounding half to even."""
    pad = weights.shape[-1] // 2
    centred = np.pad(levels.astype(np.int64) - image.zero_point, pad)
    windows = np.lib.stride_tricks.sliding_window_view(centred, weights.shape[2:])
    total = np.einsum("zyxabc,oabc->ozyx", windows, weights[:, 0].astype(np.int64))
    total += np.rint(bias / (image.scale * UNIT)).astype(np.int64)[:, None, None, None]
    assert np.abs(total).max() < 2**31
    factor = np.float32(image.scale) * np.float32(UNIT) / np.float32(out.scale)
    return np.clip(np.rint(total.astype(np.float32) * factor) + out.zero_point, 0, 255).astype(np.uint8)


def _levels_as_image(levels: np.ndarray, image: Affine) -> np.ndarray:
    return ((levels.astype(np.float64) - image.zero_point) * image.scale)[None, None]


@pytest.mark.parametrize("zero_point", [0, 77, 255])
@pytest.mark.parametrize("kernel", [1, 3])
def test_a_layer_computes_exactly_what_integers_would(kernel: int, zero_point: int) -> None:
    rng = np.random.default_rng(kernel + zero_point)
    weights = rng.integers(-63, 64, (5, 1, kernel, kernel, kernel))
    weights[:, 0, 0, 0, 0] = (63, -63, 63, 63, -63)
    levels = rng.integers(0, 256, (7, 8, 9))
    image = Affine(0.0625, zero_point)
    reach = 63 * 255 * kernel**1.5 * image.scale * UNIT
    out = Affine(float(np.float32(reach / 255)), 128)
    bias = rng.normal(0, reach / 8, 5).astype(np.float32)
    found = _run(_layer(weights, bias, image, out, levels.shape), _levels_as_image(levels, image))
    expected = _exact_layer(levels, weights, bias, image, out)
    np.testing.assert_array_equal(found[0], expected)
    assert len(np.unique(expected)) > 40


@pytest.mark.parametrize("level, zero_point", [(255, 0), (0, 255), (255, 128), (0, 128)])
def test_the_largest_activations_and_weights_do_not_saturate(level: int, zero_point: int) -> None:
    signs = np.array([1, -1, 1, -1, 1])
    weights = np.full((5, 1, 3, 3, 3), 63) * signs[:, None, None, None, None]
    weights[4, 0, 1:] *= -1
    image = Affine(0.125, zero_point)
    levels = np.full((6, 6, 6), level)
    full = (level - zero_point) * weights.sum((1, 2, 3, 4)) * image.scale * UNIT
    # The bias brings the largest sum back to the middle of a fine output scale, where losing one bit would show.
    out = Affine(0.5, 100)
    found = _run(_layer(weights, -full, image, out, levels.shape), _levels_as_image(levels, image))[0]
    np.testing.assert_array_equal(found, _exact_layer(levels, weights, -full, image, out))
    assert (found[:, 2, 2, 2] == 100).all()


def test_halves_are_rounded_to_the_even_neighbour() -> None:
    image, out = Affine(1.0, 0), Affine(2 * UNIT, 0)
    weights = np.full((1, 1, 1, 1, 1), 63)
    levels = np.arange(9).reshape(1, 1, 9)
    found = _run(_layer(weights, np.zeros(1), image, out, levels.shape), _levels_as_image(levels, image))
    np.testing.assert_array_equal(found.ravel(), [0, 32, 63, 94, 126, 158, 189, 220, 252])


def test_a_channel_without_weights_keeps_its_bias() -> None:
    weight = np.zeros((3, 1, 3, 3, 3), np.float32)
    weight[0] = 0.1
    graph = Graph((Conv("conv", "image", weight, np.array([0.0, 0.5, -0.25], np.float32)),))
    model = integer_model(graph, {"image": Affine(0.02, 0), "conv": Affine(0.01, 100)}, CONFIG, (4, 4, 4))
    found = _run(model, np.zeros((1, 1, 4, 4, 4)))
    np.testing.assert_array_equal(found[0, :, 0, 0, 0], [100, 150, 75])


def test_from_the_image_to_the_scores_everything_is_in_integers(integer: bytes) -> None:
    model = onnx.load_from_string(integer)
    counts = Counter(node.op_type for node in model.graph.node)
    assert counts["QuantizeLinear"] == 1 and "DequantizeLinear" not in counts
    assert model.graph.node[0].op_type == "QuantizeLinear"
    assert counts == {
        "QuantizeLinear": 1,
        "QLinearConv": 5 + 2 + 1,  # blocks, transposed convolutions, class scores
        "QLinearLeakyRelu": 5,
        "QLinearConcat": 2,
        "Reshape": 4,
        "Transpose": 2,
    }
    assert model.graph.output[0].type.tensor_type.elem_type == TensorProto.UINT8
    shape = [d.dim_value for d in model.graph.output[0].type.tensor_type.shape.dim]
    assert shape == [1, TINY.classes, *TINY.patch]


def test_shipped_weights_need_seven_bits(integer: bytes) -> None:
    constants = {c.name: numpy_helper.to_array(c) for c in onnx.load_from_string(integer).graph.initializer}
    weights = [value for name, value in constants.items() if name.endswith("/w")]
    assert len(weights) == 8 and {w.dtype for w in weights} == {np.dtype(np.int8)}
    assert all(np.abs(w.astype(int)).max() == 63 for w in weights)
    assert all(not constants[name].any() for name in constants if name.endswith("/w/zero"))
    # Float constants are scales alone: one number, or one for each output channel.
    assert all(name.endswith("scale") and v.ndim < 2 for name, v in constants.items() if v.dtype == np.float32)


def _real(levels: np.ndarray, affine: Affine) -> np.ndarray:
    return affine.scale * (levels.astype(float) - affine.zero_point)


@pytest.mark.parametrize("plan", [TINY, WIDE], ids=["tiny", "wide"])
def test_the_integer_model_names_the_class_that_the_float_network_names(plan: Plan) -> None:
    tiny = tiny_network(plan, seed=5, lively=False)
    activations = calibrate(tiny.graph, smooth_patches(plan, 4), CONFIG)
    image = smooth_patches(plan, 1, seed=9)[0]
    real, levels = run_float(tiny.graph, image), _run(integer_model(tiny.graph, activations, CONFIG, plan.patch), image)
    assert levels.dtype == np.uint8
    assert np.abs(_real(levels, activations["scores"]) - real).mean() < 0.03 * real.std()
    assert (levels.argmax(1) == real.argmax(1)).mean() > 0.85  # of 35 classes, many nearly equal


def test_every_activation_stays_near_its_float_twin(tiny: Tiny, integer: bytes, activations: dict[str, Affine]) -> None:
    twins: dict[str, np.ndarray] = {}
    image = smooth_patches(TINY, 1)[0]
    run_float(tiny.graph, image, lambda name, value: twins.update({name: value.numpy().copy()}))
    model = onnx.load_from_string(integer)
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(n) for n in tiny.graph.tensors[1:-1])
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    assert len(names) == len(tiny.graph.nodes)
    moved = {node.name: node.source for node in tiny.graph.nodes if isinstance(node, Shuffle)}
    for name, levels in zip(names, session.run(None, {"image": image}), strict=True):
        away = _real(levels, activations[moved.get(name, name)]) - twins[name]
        assert np.abs(away).mean() < 0.1 * twins[name].std(), name


def test_a_shuffle_and_a_concatenation_move_levels_without_changing_values() -> None:
    rng = np.random.default_rng(1)
    spread = np.eye(8, 1).reshape(8, 1, 1, 1, 1).astype(np.float32)
    identity = np.zeros((3, 2, 1, 1, 1), np.float32)
    identity[(0, 1, 2), (0, 1, 1), 0, 0, 0] = 1, 1, -1
    graph = Graph(
        (
            Conv("low", "image", np.ones((1, 1, 1, 1, 1), np.float32), np.zeros(1, np.float32), stride=2),
            Conv("up.conv", "low", spread, np.zeros(8, np.float32)),
            Shuffle("up", "up.conv"),
            Conv("same", "image", np.ones((1, 1, 1, 1, 1), np.float32), np.zeros(1, np.float32)),
            LeakyRelu("act", "same"),
            Concat("cat", ("up", "act")),
            Conv("scores", "cat", identity, np.zeros(3, np.float32)),
        )
    )
    scale = Affine(1.0, 0)
    wide = Affine(1.0, 128)
    activations = {name: scale for name in graph.tensors} | {"scores": wide}
    image = rng.integers(0, 128, (1, 1, 4, 4, 4)).astype(np.float32)
    found = _run(integer_model(graph, activations, CONFIG, (4, 4, 4)), image)[0].astype(int) - 128
    expected = np.zeros((4, 4, 4))
    expected[::2, ::2, ::2] = image[0, 0, ::2, ::2, ::2]
    np.testing.assert_array_equal(found[0], expected)
    np.testing.assert_array_equal(found[1], image[0, 0])
    np.testing.assert_array_equal(found[2], -image[0, 0])


def test_the_same_network_gives_the_same_bytes(tiny: Tiny, activations: dict[str, Affine], integer: bytes) -> None:
    assert integer_model(tiny.graph, activations, CONFIG, TINY.patch) == integer
