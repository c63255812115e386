"""Channels of an activation brought to one range, exactly: the network computes the same, and rounds less.

An activation has one scale for all its channels, so a channel that stays small has few of the 256 steps. A positive
factor commutes with LeakyReLU, concatenation and pixel shuffle: what a norm or a convolution makes is multiplied by it,
and the weights of the convolutions that read it are divided by it. Source: Nagel et al., Data-free quantization through
weight equalization and bias correction, ICCV 2019. In: a graph and patches that show the ranges. Out: an equal graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.quantization.graph import Concat, Conv, Graph, InstanceNorm, LeakyRelu, Node, Shuffle

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[Any]
LARGEST_FACTOR = 32.0
"""A channel that hardly leaves zero must not be blown up without bound."""


@dataclass(frozen=True)
class Reader:
    """A convolution that has the channels of an activation among its input's, from ``first`` on."""

    name: str
    first: int


def equalised(graph: Graph, patches: Sequence[Array]) -> Graph:
    """An equal graph whose activations reach 1 on ``patches`` (1, 1, z, y, x) in every channel where that can be.

    Where anything but convolutions needs the values, such as a residual sum, they stay as they are.
    """
    from ToothTopoSegLib.quantization.calibrate import run_float

    makers = _makers(graph)
    reach = {name: np.zeros(1, np.float32) for name in makers}

    def watch(name: str, values: Tensor) -> None:
        if name in makers:
            # A norm is rounded after its LeakyReLU, which leaves the positive; a convolution before it.
            shown = values if isinstance(makers[name], Conv) else values.clamp(min=0)
            reach[name] = np.maximum(reach[name], shown.abs().amax((0, 2, 3, 4)).numpy())

    for patch in patches:
        run_float(graph, patch, watch)
    for name, maker in makers.items():
        readers = readers_of(graph, name)
        if readers is not None and reach[name].max() > 0:
            factors = 1 / np.maximum(reach[name], reach[name].max() / LARGEST_FACTOR)
            graph = _scaled(graph, maker.name, readers, factors.astype(np.float32))
    return graph


def _makers(graph: Graph) -> dict[str, Conv | InstanceNorm]:
    """The activations that may be scaled, each with the node whose parameters scale it."""
    nodes = {node.name: node for node in graph.nodes}
    spread = {node.source for node in graph.nodes if isinstance(node, InstanceNorm | Shuffle)}
    found: dict[str, Conv | InstanceNorm] = {}
    for node in graph.nodes:
        if isinstance(node, InstanceNorm) or (isinstance(node, Conv) and node.name not in spread):
            found[node.name] = node
        elif isinstance(node, Shuffle) and isinstance(conv := nodes[node.source], Conv):
            found[node.name] = conv
    return found


def readers_of(graph: Graph, name: str) -> list[Reader] | None:
    """The convolutions that read an activation, with the place of its channels; None if anything else needs it too."""
    channels = channels_of(graph)
    readers: list[Reader] = []
    places = {name: 0}
    for node in graph.nodes:
        for first in _reads(node, places, channels):
            if isinstance(node, Conv):
                readers.append(Reader(node.name, first))
            elif isinstance(node, LeakyRelu | Concat):
                places[node.name] = first
            else:
                return None
    return None if graph.scores in places else readers


def _reads(node: Node, places: dict[str, int], channels: dict[str, int]) -> Iterator[int]:
    """Where the activation's channels begin in what the node makes of its inputs, once for each that holds them."""
    first = 0
    for source in sources_of(node):
        if source in places:
            yield first + places[source]
        first += channels[source]


def sources_of(node: Node) -> tuple[str, ...]:
    """The tensors that a node reads."""
    sources: tuple[str, ...] = getattr(node, "sources", None) or (getattr(node, "source", ""),)
    return sources


def channels_of(graph: Graph) -> dict[str, int]:
    """The number of channels of every tensor."""
    channels = {graph.image: 1}
    for node in graph.nodes:
        counts = [channels[source] for source in sources_of(node)]
        if isinstance(node, Conv):
            channels[node.name] = len(node.weight)
        elif isinstance(node, Concat):
            channels[node.name] = sum(counts)
        else:
            channels[node.name] = counts[0] // (node.blocks if isinstance(node, Shuffle) else 1)
    return channels


def _scaled(graph: Graph, maker: str, readers: Sequence[Reader], factors: Array) -> Graph:
    places = {reader.name: slice(reader.first, reader.first + len(factors)) for reader in readers}

    def changed(node: Node) -> Node:
        if isinstance(node, InstanceNorm) and node.name == maker:
            return replace(node, scale=node.scale * factors, bias=node.bias * factors)
        if isinstance(node, Conv) and node.name == maker:
            rows = np.repeat(factors, len(node.weight) // len(factors))  # a pixel shuffle makes one channel of several
            return replace(node, weight=node.weight * rows[:, None, None, None, None], bias=node.bias * rows)
        if isinstance(node, Conv) and node.name in places:
            weight = node.weight.copy()
            weight[:, places[node.name]] /= factors[:, None, None, None]
            return replace(node, weight=weight)
        return node

    return Graph(tuple(map(changed, graph.nodes)), graph.image)
