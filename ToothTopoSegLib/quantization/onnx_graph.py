"""ONNX files of a folded graph: the float one (reference) and the integer one (shipped).

The integer graph starts with its only QuantizeLinear; from there to the class scores every activation is uint8:
QLinearConv (weights int8 per channel, bias int32), QLinearLeakyRelu, QLinearConcat and QLinearAdd of ONNX Runtime's
domain, and Reshape / Transpose for the pixel shuffle. There is no DequantizeLinear: argmax and blending work on the
uint8 scores.

A graph that keeps instance norms is an exception and no integer graph: each norm (with the LeakyReLU after it) is in
float, takes the 32-bit sums of its convolution (ConvInteger) unrounded, and ends in a QuantizeLinear. The first and the
last convolution are in float too, because they are few of the products and most of the error, and so are the scores.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.quantization.calibrate import Affine, QuantWeights, quantize_weights, rounded_weights
from ToothTopoSegLib.quantization.config import QuantConfig
from ToothTopoSegLib.quantization.graph import (
    LARGEST_BIAS,
    Add,
    Concat,
    Conv,
    Graph,
    InstanceNorm,
    LeakyRelu,
    Shuffle,
    Size3,
)

Array = NDArray[Any]
OPSET, MICROSOFT_OPSET = 17, 1
MICROSOFT = "com.microsoft"
MIDDLE = 128
"""The unsigned weight that stands for 0."""


@dataclass
class GraphWriter:
    """The nodes and constants of an ONNX graph that is being written."""

    nodes: list[Any] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)

    def constant(self, name: str, value: Array) -> str:
        """Add a constant; its name."""
        self.constants[name] = value
        return name

    def add(self, op: str, inputs: list[str], output: str, domain: str = "", **attributes: Any) -> str:
        """Add a node named as its output; that name."""
        from onnx import helper

        self.nodes.append(helper.make_node(op, inputs, [output], name=output, domain=domain, **attributes))
        return output

    def affine(self, name: str, value: Affine) -> list[str]:
        """Names of the scale and zero point of an activation, added once."""
        self.constant(f"{name}/scale", np.asarray(value.scale, np.float32))
        self.constant(f"{name}/zero", np.asarray(value.zero_point, np.uint8))
        return [f"{name}/scale", f"{name}/zero"]


def _model(builder: GraphWriter, graph: Graph, output_type: int, patch: tuple[int, int, int], classes: int) -> bytes:
    from onnx import TensorProto, checker, helper, numpy_helper

    image = helper.make_tensor_value_info(graph.image, TensorProto.FLOAT, [1, 1, *patch])
    scores = helper.make_tensor_value_info(graph.scores, output_type, [1, classes, *patch])
    constants = [numpy_helper.from_array(np.require(v, requirements="C"), k) for k, v in builder.constants.items()]
    body = helper.make_graph(builder.nodes, "ToothTopoSeg", [image], [scores], constants)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, MICROSOFT_OPSET)]
    model = helper.make_model(body, opset_imports=opsets, producer_name="ToothTopoSeg", ir_version=8)
    checker.check_model(model)
    return bytes(model.SerializeToString())


def _channels(graph: Graph, name: str) -> int:
    conv = next(n for n in graph.nodes if n.name == name)
    assert isinstance(conv, Conv)
    return int(conv.weight.shape[0])


def _conv_attributes(node: Conv) -> dict[str, Any]:
    return {"kernel_shape": list(node.kernel), "strides": list(node.strides), "pads": [*node.padding, *node.padding]}


def _norm(builder: GraphWriter, node: InstanceNorm, source: str, output: str) -> None:
    parts = [builder.constant(f"{node.name}/{n}", v) for n, v in (("gamma", node.scale), ("beta", node.bias))]
    builder.add("InstanceNormalization", [source, *parts], output, epsilon=node.epsilon)


def float_model(graph: Graph, patch: tuple[int, int, int]) -> bytes:
    """The folded network as a float32 ONNX model for patches (z, y, x)."""
    from onnx import TensorProto

    builder = GraphWriter()
    for node in graph.nodes:
        if isinstance(node, Conv):
            inputs = [node.source, builder.constant(f"{node.name}/w", node.weight)]
            inputs.append(builder.constant(f"{node.name}/b", node.bias))
            builder.add("Conv", inputs, node.name, **_conv_attributes(node))
        elif isinstance(node, LeakyRelu):
            builder.add("LeakyRelu", [node.source], node.name, alpha=node.slope)
        elif isinstance(node, Concat):
            builder.add("Concat", list(node.sources), node.name, axis=1)
        elif isinstance(node, InstanceNorm):
            _norm(builder, node, node.source, node.name)
        elif isinstance(node, Add):
            builder.add("Add", list(node.sources), node.name)
        else:
            _shuffle_static(builder, graph, node, patch)
    return _model(builder, graph, TensorProto.FLOAT, patch, _channels(graph, graph.scores))


def _shuffle_static(builder: GraphWriter, graph: Graph, node: Shuffle, patch: Size3) -> None:
    """Pixel shuffle with sizes known from the patch: two Reshapes around one Transpose."""
    channels = _channels(graph, node.source) // node.blocks
    later = [n for n in graph.nodes[graph.nodes.index(node) :] if isinstance(n, Shuffle)]
    low = [n // math.prod(s.factors[axis] for s in later) for axis, n in enumerate(patch)]
    high = [n * factor for n, factor in zip(low, node.factors, strict=True)]
    blocks = builder.constant(f"{node.name}/blocks", np.asarray([channels, *node.factors, *low], np.int64))
    size = builder.constant(f"{node.name}/size", np.asarray([1, channels, *high], np.int64))
    builder.add("Reshape", [node.source, blocks], f"{node.name}/split")
    builder.add("Transpose", [f"{node.name}/split"], f"{node.name}/mixed", perm=[0, 4, 1, 5, 2, 6, 3])
    builder.add("Reshape", [f"{node.name}/mixed", size], node.name)


def integer_model(
    graph: Graph,
    activations: Mapping[str, Affine],
    config: QuantConfig,
    patch: tuple[int, int, int],
    weight_scales: Mapping[str, Array] | None = None,
) -> bytes:
    """The all-uint8 ONNX model of a folded graph for patches (z, y, x); scores come out as uint8.

    With instance norms in the graph it is a mixed one and the scores are float32. ``weight_scales`` (out,) by the names
    of the convolutions are taken as they are, e.g. from quantization-aware training; otherwise they follow from the
    weights.
    """
    from onnx import TensorProto

    builder = GraphWriter()
    # A pixel shuffle moves values and keeps their scale.
    scale = dict(activations)
    scale.update({n.name: scale[n.source] for n in graph.nodes if isinstance(n, Shuffle)})
    name_of = {graph.image: "image/uint8"}
    in_float = _activations_after_norms(graph)
    normed = {node.source for node in graph.nodes if isinstance(node, InstanceNorm)}
    if any(isinstance(n, Conv) and n.source == graph.image and n.name not in normed for n in graph.nodes):
        builder.add("QuantizeLinear", [graph.image, *builder.affine(graph.image, scale[graph.image])], "image/uint8")
    for node in graph.nodes:
        if node.name in in_float:
            continue
        if isinstance(node, Conv) and normed and (node.name in normed or node.name == graph.scores):
            _real_conv(builder, node, graph, scale[node.source], config)
            continue
        if isinstance(node, InstanceNorm):
            _float_norm(builder, node, _activation_after(graph, node), scale)
            continue
        out = builder.affine(node.name, scale[node.name])
        if isinstance(node, Conv):
            weights = _integer_weights(node, scale[node.source], config, weight_scales)
            _integer_conv(builder, node, name_of.get(node.source, node.source), scale[node.source], out, weights)
        elif isinstance(node, LeakyRelu):
            inputs = [node.source, *builder.affine(node.source, scale[node.source]), *out]
            builder.add("QLinearLeakyRelu", inputs, node.name, MICROSOFT, alpha=node.slope)
        elif isinstance(node, Concat):
            parts = [part for s in node.sources for part in (s, *builder.affine(s, scale[s]))]
            builder.add("QLinearConcat", [*out, *parts], node.name, MICROSOFT, axis=1)
        elif isinstance(node, Add):
            parts = [part for s in node.sources for part in (s, *builder.affine(s, scale[s]))]
            builder.add("QLinearAdd", [*parts, *out], node.name, MICROSOFT)
        else:
            _shuffle_static(builder, graph, node, patch)
    output = TensorProto.FLOAT if normed else TensorProto.UINT8
    return _model(builder, graph, output, patch, _channels(graph, graph.scores))


def _activation_after(graph: Graph, norm: InstanceNorm) -> LeakyRelu | None:
    """The LeakyReLU right after a norm, where nothing else reads the norm."""
    at = graph.nodes.index(norm) + 1
    following = graph.nodes[at] if at < len(graph.nodes) else None
    return following if isinstance(following, LeakyRelu) and following.source == norm.name else None


def _activations_after_norms(graph: Graph) -> set[str]:
    found = [_activation_after(graph, node) for node in graph.nodes if isinstance(node, InstanceNorm)]
    return {node.name for node in found if node is not None}


def _real_conv(builder: GraphWriter, node: Conv, graph: Graph, source: Affine, config: QuantConfig) -> None:
    """A convolution whose result is float: in 8 bits with its 32-bit sums as they are, the first and last in float."""
    from onnx import TensorProto

    if graph.image == node.source or node.name == graph.scores:
        image = node.source
        if graph.image != node.source:
            image = f"{node.name}/in"
            builder.add("DequantizeLinear", [node.source, *builder.affine(node.source, source)], image)
        parts = [builder.constant(f"{node.name}/w", node.weight), builder.constant(f"{node.name}/b", node.bias)]
        builder.add("Conv", [image, *parts], node.name, **_conv_attributes(node))
        return
    weights = quantize_weights(node.weight, config)
    unit = (source.scale * weights.scales).reshape(-1, 1, 1, 1).astype(np.float32)
    bias = node.bias.reshape(-1, 1, 1, 1).astype(np.float32)
    # Unsigned weights: ConvInteger of ONNX Runtime is four times as fast with them, and exact with all their 8 bits.
    values = (weights.values.astype(np.int16) + MIDDLE).astype(np.uint8)
    inputs = [node.source, builder.constant(f"{node.name}/w", values), builder.affine(node.source, source)[1]]
    inputs.append(builder.constant(f"{node.name}/w/zero", np.asarray(MIDDLE, np.uint8)))
    builder.add("ConvInteger", inputs, f"{node.name}/sums", **_conv_attributes(node))
    builder.add("Cast", [f"{node.name}/sums"], f"{node.name}/float", to=TensorProto.FLOAT)
    builder.add("Mul", [f"{node.name}/float", builder.constant(f"{node.name}/unit", unit)], f"{node.name}/scaled")
    builder.add("Add", [f"{node.name}/scaled", builder.constant(f"{node.name}/b", bias)], node.name)


def _float_norm(
    builder: GraphWriter, node: InstanceNorm, activation: LeakyRelu | None, scale: Mapping[str, Affine]
) -> None:
    """An instance norm, and the LeakyReLU after it, from a float convolution to uint8 activations."""
    last = activation or node
    _norm(builder, node, node.source, f"{node.name}/real")
    if activation is not None:
        builder.add("LeakyRelu", [f"{node.name}/real"], f"{last.name}/real", alpha=activation.slope)
    builder.add("QuantizeLinear", [f"{last.name}/real", *builder.affine(last.name, scale[last.name])], last.name)


def _integer_weights(
    node: Conv, source_scale: Affine, config: QuantConfig, given: Mapping[str, Array] | None
) -> QuantWeights:
    if given is not None:
        return rounded_weights(node.weight, given[node.name], config)
    # A channel with hardly any weight would need a bias beyond 32 bits: its scale follows the bias instead.
    return quantize_weights(node.weight, config, np.abs(node.bias) / (source_scale.scale * LARGEST_BIAS))


def _integer_conv(
    builder: GraphWriter, node: Conv, source: str, source_scale: Affine, out: list[str], weights: QuantWeights
) -> None:
    unit = source_scale.scale * weights.scales.astype(np.float64)
    bias = np.rint(node.bias / unit).astype(np.int32)
    inputs = [source, *builder.affine(node.source, source_scale)]
    inputs.append(builder.constant(f"{node.name}/w", weights.values))
    inputs.append(builder.constant(f"{node.name}/w/scale", weights.scales))
    inputs.append(builder.constant(f"{node.name}/w/zero", np.zeros(len(weights.scales), np.int8)))
    inputs += [*out, builder.constant(f"{node.name}/b", bias)]
    builder.add("QLinearConv", inputs, node.name, **_conv_attributes(node))
