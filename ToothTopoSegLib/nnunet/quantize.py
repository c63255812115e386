"""The 8-bit forms of an imported network, and how far each agrees with the network in floating point.

In: the graph of each fold and normalised patches, some to calibrate on and others to compare on. Out: ONNX models,
those in 8 bits with equalised channels.

- ``integer``: the all-uint8 graph. Batch norms are folded exactly. Instance norms measure every patch anew; here their
  statistics are taken from the calibration patches once and for all, which is an approximation of its own.
- ``qdq``: 8-bit convolutions but the first and the last; each instance norm stays in float, takes the 32-bit sums of
  its convolution and ends in a QuantizeLinear.
- ``float``: the network as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.nnunet.architecture import affine_conv
from ToothTopoSegLib.nnunet.plans import Size3
from ToothTopoSegLib.quantization.config import QuantConfig
from ToothTopoSegLib.quantization.graph import Add, Concat, Conv, Graph, InstanceNorm, Node

Array = NDArray[Any]
SCALE_ONLY = {"scale": 1.0, "zero_point": 0}
CONFIGS = {
    "integer": QuantConfig(percentile=99.999),
    "qdq": QuantConfig(percentile=99.999, weight_bits=8),  # its sums are exact with all bits of its weights
}
"""Wide ranges: the activations of equalised networks have long tails."""


@dataclass(frozen=True, eq=False)
class Exported:
    """An ONNX model with one output a fold, and the scale and zero point of each."""

    precision: str
    model: bytes
    scores: list[dict[str, Any]]


def has_instance_norm(graph: Graph) -> bool:
    """Whether the graph has norms that cannot be folded without calibration."""
    return any(isinstance(node, InstanceNorm) for node in graph.nodes)


def exported(graphs: Sequence[Graph], precision: str, patches: Sequence[Array], patch: Size3) -> Exported:
    """One ONNX model of all folds in a precision; ``patches`` (1, 1, z, y, x) calibrate the 8-bit ones."""
    from ToothTopoSegLib.quantization.calibrate import calibrate
    from ToothTopoSegLib.quantization.equalise import equalised
    from ToothTopoSegLib.quantization.onnx_graph import float_model, integer_model

    models, scores = [], []
    for graph in graphs:
        if precision == "float":
            models.append(float_model(graph, patch))
            scores.append(SCALE_ONLY)
            continue
        graph = with_fixed_norms(graph, patches) if precision == "integer" else graph
        graph = equalised(graph, patches)
        activations = calibrate(graph, patches, CONFIGS[precision])
        models.append(integer_model(graph, activations, CONFIGS[precision], patch))
        last = activations[graph.scores]
        in_steps = {"scale": last.scale, "zero_point": last.zero_point}
        scores.append(SCALE_ONLY if has_instance_norm(graph) else in_steps)
    return Exported(precision, ensemble(models), scores)


def with_fixed_norms(graph: Graph, patches: Sequence[Array]) -> Graph:
    """The graph with its instance norms folded, with the mean statistics of the patches; the same where it has none."""
    from ToothTopoSegLib.quantization.calibrate import run_float

    if not has_instance_norm(graph):
        return graph
    norms = {node.source: node for node in graph.nodes if isinstance(node, InstanceNorm)}
    sums = {source: [0.0, 0.0] for source in norms}

    def watch(name: str, values: Any) -> None:
        if name in norms:
            part = values.double()
            sums[name][0] += part.mean((0, 2, 3, 4)).numpy()
            sums[name][1] += part.var((0, 2, 3, 4), correction=0).numpy()

    for patch in patches:
        run_float(graph, patch, watch)
    statistics = {name: (mean / len(patches), variance / len(patches)) for name, (mean, variance) in sums.items()}
    return _folded(graph, norms, statistics)


def _folded(graph: Graph, norms: dict[str, InstanceNorm], statistics: dict[str, tuple[Any, Any]]) -> Graph:
    nodes: list[Node] = []
    renamed = {norm.name: source for source, norm in norms.items()}
    for node in graph.nodes:
        if isinstance(node, Conv) and node.name in norms:
            norm = norms[node.name]
            node = affine_conv(node, norm.scale, norm.bias, *statistics[node.name], norm.epsilon)
        if not isinstance(node, InstanceNorm):
            nodes.append(_reading(node, renamed))
    return Graph(tuple(nodes), graph.image)


def _reading(node: Node, renamed: dict[str, str]) -> Node:
    """The node with the tensors it reads under their new names."""
    if isinstance(node, Add):
        first, second = (renamed.get(s, s) for s in node.sources)
        return replace(node, sources=(first, second))
    if isinstance(node, Concat):
        return replace(node, sources=tuple(renamed.get(s, s) for s in node.sources))
    return replace(node, source=renamed.get(node.source, node.source))


def ensemble(models: Sequence[bytes]) -> bytes:
    """One ONNX model that reads one image and gives the scores of every model."""
    from onnx import checker, compose, load_from_string

    if len(models) == 1:
        return models[0]
    parts = [load_from_string(model) for model in models]
    image = parts[0].graph.input[0].name
    whole = parts[0]
    for index, part in enumerate(parts[1:], 1):
        named = compose.add_prefix(part, f"fold{index}/", rename_inputs=False)
        del named.graph.input[:]
        whole.graph.node.extend(named.graph.node)
        whole.graph.initializer.extend(named.graph.initializer)
        whole.graph.output.extend(named.graph.output)
    assert [value.name for value in whole.graph.input] == [image]
    checker.check_model(whole)
    return bytes(whole.SerializeToString())


def agreement(found: Sequence[NDArray[Any]], expected: Sequence[NDArray[Any]]) -> dict[str, float]:
    """Mean Dice over the labels but 0 that occur, and the share of equal voxels, of label maps of the same places."""
    labels = sorted({int(v) for one in (*found, *expected) for v in np.unique(one)} - {0})
    dice = []
    for label in labels:
        pairs = [(a == label, b == label) for a, b in zip(found, expected, strict=True)]
        both = sum(int((a & b).sum()) for a, b in pairs)
        dice.append(2 * both / sum(int(a.sum() + b.sum()) for a, b in pairs))
    same = np.mean([(a == b).mean() for a, b in zip(found, expected, strict=True)])
    return {"Dice": float(np.mean(dice)) if dice else 1.0, "equal voxels": float(same)}
