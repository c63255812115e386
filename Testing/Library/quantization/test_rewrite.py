"""The rewritten graph gives the plain one's scores bit by bit, whatever the weights, the image and the layers."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest

from Testing.Library.quantization.tiny import TINY, WIDE, smooth_patches, tiny_network
from ToothTopoSegLib.quantization import rewrite
from ToothTopoSegLib.quantization.audit import audit_graph, optimised_graph
from ToothTopoSegLib.quantization.bundle import load_bundle, model_path
from ToothTopoSegLib.quantization.calibrate import Affine
from ToothTopoSegLib.quantization.config import QuantConfig
from ToothTopoSegLib.quantization.export import quantized
from ToothTopoSegLib.quantization.graph import Add, Concat, Conv, Graph, LeakyRelu, Node, Shuffle
from ToothTopoSegLib.quantization.onnx_graph import float_model, integer_model
from ToothTopoSegLib.quantization.rewrite import rewritten
from ToothTopoSegLib.training.network import Plan

SIZE = (6, 8, 12)
ODD = (5, 7, 9)
IMAGE = Affine(0.02, 77)


def _scores(model: bytes, image: np.ndarray, threads: int = 1) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, threads
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"image": image.astype(np.float32)})[0]


def _conv(name: str, source: str, shape: tuple[int, ...], stride: int | tuple[int, int, int] = 1) -> Conv:
    rng = np.random.default_rng(sum(map(ord, name)))
    weight = rng.normal(0, 0.3, shape).astype(np.float32)
    return Conv(name, source, weight, rng.normal(0, 0.5, shape[0]).astype(np.float32), stride)


def _integer(nodes: list[Node], size: tuple[int, int, int]) -> bytes:
    """The integer model of the nodes; scales and zero points differ from tensor to tensor, and many values saturate."""
    names = [node.name for node in nodes]
    affines = {name: Affine(0.01 + 0.003 * i, (40 + 29 * i) % 256) for i, name in enumerate(names)}
    return integer_model(Graph(tuple(nodes)), {"image": IMAGE, **affines}, QuantConfig(), size)


def _equal(model: bytes, size: tuple[int, int, int]) -> bytes:
    """The rewritten model, after its scores were found equal on a wide and on a narrow image."""
    new = rewritten(model)
    assert new != model, "the graph was not rewritten"
    rng = np.random.default_rng(1)
    for spread in (0.5, 20.0):
        image = rng.normal(0, spread, (1, 1, *size))
        expected = _scores(model, image)
        assert len(np.unique(expected)) > 8
        np.testing.assert_array_equal(_scores(new, image), expected)
    return new


@pytest.mark.parametrize("stride", [1, 2, (1, 2, 2)])
@pytest.mark.parametrize("size", [SIZE, ODD])
@pytest.mark.parametrize("kernel", [(3, 3, 3), (1, 3, 3), (3, 1, 1), (3, 3, 1), (1, 1, 1)])
def test_a_convolution_of_the_image_stays_equal(kernel, size, stride) -> None:
    _equal(_integer([_conv("a", "image", (5, 1, *kernel), stride)], size), size)


@pytest.mark.parametrize("small_slice", [0, rewrite.SMALL_SLICE])
@pytest.mark.parametrize("channels", [3, 7, 33])
@pytest.mark.parametrize("size", [SIZE, ODD])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_of_many_channels_stays_equal_in_every_form(
    channels: int, size: tuple[int, int, int], stride: int, small_slice: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rewrite, "SMALL_SLICE", small_slice)
    layers = [_conv("a", "image", (7, 1, 3, 3, 3)), _conv("b", "a", (channels, 7, 3, 3, 3), stride)]
    _equal(_integer([*layers, _conv("c", "b", (4, channels, 1, 1, 1))], size), size)


@pytest.mark.parametrize("factors", [(2, 2, 2), (1, 2, 2), (2, 1, 1)])
def test_a_pixel_shuffle_moves_no_byte_and_stays_equal(factors: tuple[int, int, int]) -> None:
    out = 3 * int(np.prod(factors))
    nodes = [_conv("a", "image", (5, 1, 3, 3, 3), factors), _conv("b", "a", (out, 5, 1, 1, 1))]
    nodes += [Shuffle("c", "b", factors), LeakyRelu("d", "c"), _conv("e", "d", (4, 3, 3, 3, 3))]
    new = _equal(_integer(nodes, SIZE), SIZE)
    assert Counter(node.op_type for node in onnx.load_from_string(new).graph.node)["Transpose"] == 1


@pytest.mark.parametrize("widths", [(3, 3), (3, 5), (4, 2, 2)])
@pytest.mark.parametrize("last", [1, 3])
def test_a_concatenation_of_any_scales_and_widths_stays_equal(widths: tuple[int, ...], last: int) -> None:
    nodes: list[Node] = [_conv(f"a{i}", "image", (n, 1, 3, 3, 3)) for i, n in enumerate(widths)]
    nodes += [LeakyRelu("act", "a0"), Concat("cat", ("act", *(f"a{i}" for i in range(1, len(widths)))))]
    _equal(_integer([*nodes, _conv("b", "cat", (6, sum(widths), last, last, last))], SIZE), SIZE)


def test_a_concatenation_of_concatenations_and_a_sum_stay_equal() -> None:
    nodes: list[Node] = [_conv("a", "image", (3, 1, 3, 3, 3)), _conv("b", "a", (3, 3, 3, 3, 3))]
    nodes += [Add("sum", ("a", "b")), Concat("two", ("a", "sum")), Concat("three", ("two", "b"))]
    _equal(_integer([*nodes, LeakyRelu("act", "three"), _conv("c", "act", (5, 9, 3, 3, 3))], SIZE), SIZE)


@pytest.mark.parametrize("plan", [TINY, WIDE, Plan((16, 24, 32), 1.0, (5, 9, 13), (2, 2, 1), (2, 1), 7)])
def test_all_rewrites_together_stay_equal_and_all_integer(plan: Plan) -> None:
    model, _ = quantized(tiny_network(plan, seed=7).graph, smooth_patches(plan), plan, QuantConfig())
    new = rewritten(model)
    assert new != model and not audit_graph(optimised_graph(new).graph)
    for image in smooth_patches(plan, 2, seed=4):
        expected = _scores(model, image)
        for threads in (1, 2, 4):
            np.testing.assert_array_equal(_scores(new, image, threads), expected)


@pytest.mark.parametrize("name", ["toothtoposeg", "toothtoposeg_surface"])
def test_the_bundled_networks_stay_equal_on_any_threads_and_in_every_run(name: str) -> None:
    bundle = load_bundle(model_path(None).with_name(f"{name}.onnx"))
    image = np.random.default_rng(3).normal(0, 1, (1, 1, *bundle.patch))
    expected, new = _scores(bundle.model, image), rewritten(bundle.model)
    assert new != bundle.model
    for threads in (1, 2, 2, 4):
        np.testing.assert_array_equal(_scores(new, image, threads), expected)


def test_weights_that_could_saturate_in_another_order_are_left_alone() -> None:
    model, _ = quantized(tiny_network().graph, smooth_patches(TINY), TINY, QuantConfig(weight_bits=8))
    assert rewritten(model) is model


def test_rewriting_twice_gives_the_same_bytes() -> None:
    model = _integer([_conv("a", "image", (5, 1, 3, 3, 3))], SIZE)
    assert rewritten(model) == rewritten(model)


def test_a_float_model_is_given_back_as_it_is() -> None:
    model = float_model(tiny_network().graph, TINY.patch)
    assert rewritten(model) is model


def test_a_model_with_an_unknown_operator_is_given_back_as_it_is() -> None:
    model = onnx.load_from_string(_integer([_conv("a", "image", (5, 1, 3, 3, 3))], SIZE))
    model.graph.node.append(onnx.helper.make_node("Identity", ["a"], ["other"]))
    model.graph.output[0].name = "other"
    data = model.SerializeToString()
    assert rewritten(data) is data


@pytest.mark.parametrize(("attribute", "value"), [("group", 5), ("dilations", [2, 2, 2])])
def test_a_convolution_with_groups_or_dilations_is_left_alone(attribute: str, value: object) -> None:
    model = onnx.load_from_string(_integer([_conv("a", "image", (5, 1, 3, 3, 3))], SIZE))
    conv = next(node for node in model.graph.node if node.op_type == "QLinearConv")
    conv.attribute.append(onnx.helper.make_attribute(attribute, value))
    data = model.SerializeToString()
    assert rewritten(data) is data
