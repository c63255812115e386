"""A trained PlainConvUNet with BatchNorm, folded into a :class:`~ToothTopoSegLib.quantization.graph.Graph`.

In: the weights by nnU-Net's names (without its aliases) and the plan. Out: the folded graph; in exact arithmetic it
gives the class scores of the network in eval mode. Source of the folding: Jacob et al., CVPR 2018, section 3.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.errors import ModelError
from ToothTopoSegLib.quantization.graph import Concat, Conv, Graph, LeakyRelu, Node, Shuffle

if TYPE_CHECKING:
    from ToothTopoSegLib.training.network import Plan

Array = NDArray[Any]
NORM_EPSILON = 1e-5


def read_weights(path: Path) -> dict[str, Array]:
    """Weights of a safetensors file (a format that cannot carry code) as float32; ModelError if it is damaged."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return {name: value.astype(np.float32) for name, value in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise ModelError(f"The weights {path.name} cannot be read; copy or train them again.") from error


def _folded_conv(weights: Mapping[str, Array], block: str, name: str, source: str, stride: int) -> Conv:
    weight, bias = weights[f"{block}.conv.weight"], weights[f"{block}.conv.bias"]
    gamma, beta = weights[f"{block}.norm.weight"], weights[f"{block}.norm.bias"]
    mean, variance = weights[f"{block}.norm.running_mean"], weights[f"{block}.norm.running_var"]
    scale = gamma / np.sqrt(variance + NORM_EPSILON)
    folded = weight * scale[:, None, None, None, None]
    return Conv(name, source, folded.astype(np.float32), ((bias - mean) * scale + beta).astype(np.float32), stride)


def _block(weights: Mapping[str, Array], block: str, name: str, source: str, stride: int) -> list[Node]:
    conv = _folded_conv(weights, block, f"{name}.conv", source, stride)
    return [conv, LeakyRelu(f"{name}.act", conv.name)]


def _upsample(weights: Mapping[str, Array], index: int, source: str) -> list[Node]:
    kernel, bias = weights[f"decoder.transpconvs.{index}.weight"], weights[f"decoder.transpconvs.{index}.bias"]
    spread = kernel.reshape(kernel.shape[0], -1).T[:, :, None, None, None]
    conv = Conv(f"up{index}.conv", source, np.ascontiguousarray(spread), np.repeat(bias, 8))
    return [conv, Shuffle(f"up{index}", conv.name)]


def fold(weights: Mapping[str, Array], plan: Plan) -> Graph:
    """The folded graph of a plan's network; raises KeyError when a weight is missing."""
    nodes: list[Node] = []
    skips: list[str] = []
    source = "image"
    for stage, (count, stride) in enumerate(zip(plan.convs, plan.strides, strict=True)):
        for i in range(count):
            block = f"encoder.stages.{stage}.0.convs.{i}"
            nodes += _block(weights, block, f"enc{stage}.{i}", source, stride if i == 0 else 1)
            source = nodes[-1].name
        skips.append(source)
    for index, count in enumerate(plan.convs_decoder):
        nodes += _upsample(weights, index, source)
        nodes.append(Concat(f"cat{index}", (nodes[-1].name, skips[-2 - index])))
        source = nodes[-1].name
        for i in range(count):
            nodes += _block(weights, f"decoder.stages.{index}.convs.{i}", f"dec{index}.{i}", source, 1)
            source = nodes[-1].name
    last = len(plan.convs_decoder) - 1
    head = f"decoder.seg_layers.{last}"
    nodes.append(Conv("scores", source, weights[f"{head}.weight"], weights[f"{head}.bias"]))
    return Graph(tuple(nodes))


def supervision_heads(weights: Mapping[str, Array], plan: Plan) -> dict[str, Conv]:
    """The heads of deep supervision below full resolution, the finest first, by the name of the tensor they read."""
    heads: dict[str, Conv] = {}
    for index in reversed(range(len(plan.convs_decoder) - 1)):
        source, head = f"dec{index}.{plan.convs_decoder[index] - 1}.act", f"decoder.seg_layers.{index}"
        heads[source] = Conv(source, source, weights[f"{head}.weight"], weights[f"{head}.bias"])
    return heads


def unfold(graph: Graph, heads: Mapping[str, Conv], plan: Plan) -> dict[str, Array]:
    """Weights by nnU-Net's names of an unchanged network with BatchNorm whose folded graph is ``graph``.

    The norms do nothing (mean 0, variance and gamma 1), what they did is in the convolutions.
    """
    convs = {node.name: node for node in graph.nodes if isinstance(node, Conv)}
    weights: dict[str, Array] = {}
    for stage, count in enumerate(plan.convs):
        for i in range(count):
            weights |= _unfolded_block(f"encoder.stages.{stage}.0.convs.{i}", convs[f"enc{stage}.{i}.conv"])
    for index, count in enumerate(plan.convs_decoder):
        up = convs[f"up{index}.conv"]
        spread = up.weight[:, :, 0, 0, 0].T.reshape(up.weight.shape[1], -1, 2, 2, 2)
        weights[f"decoder.transpconvs.{index}.weight"] = np.ascontiguousarray(spread)
        weights[f"decoder.transpconvs.{index}.bias"] = up.bias[::8].copy()
        for i in range(count):
            weights |= _unfolded_block(f"decoder.stages.{index}.convs.{i}", convs[f"dec{index}.{i}.conv"])
    last = len(plan.convs_decoder) - 1
    for index, head in enumerate([*list(heads.values())[::-1], convs["scores"]], last - len(heads)):
        weights |= {f"decoder.seg_layers.{index}.weight": head.weight, f"decoder.seg_layers.{index}.bias": head.bias}
    return weights


def _unfolded_block(block: str, conv: Conv) -> dict[str, Array]:
    one, none = np.ones(len(conv.bias), np.float32), np.zeros(len(conv.bias), np.float32)
    norm = {"weight": np.sqrt(one + NORM_EPSILON), "bias": none, "running_mean": none, "running_var": one}
    weights = {f"{block}.norm.{name}": value.copy() for name, value in norm.items()}
    return weights | {f"{block}.conv.weight": conv.weight, f"{block}.conv.bias": conv.bias}
