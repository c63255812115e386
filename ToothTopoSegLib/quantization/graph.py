"""The folded network as a value: a short list of nodes that every executor and exporter walks through.

Norms are folded into the convolutions before them, transposed convolutions (kernel = stride = 2) are written as a
1x1x1 convolution to eight times the channels followed by a 3D pixel shuffle (exact; used for 3D U-Net in MLPerf
Inference). Weights are float32 numpy arrays (out, in, z, y, x).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]
LARGEST_BIAS = 2**30
"""Largest integer bias: half of 32 bits, the other half is left to the sum over the kernel."""


@dataclass(frozen=True, eq=False)
class Conv:
    """3D convolution with zero padding ``kernel // 2``."""

    name: str
    source: str
    weight: Array
    bias: Array
    stride: int = 1

    @property
    def kernel(self) -> int:
        """Edge length of the cubic kernel."""
        return int(self.weight.shape[-1])


@dataclass(frozen=True)
class LeakyRelu:
    """max(x, slope * x)."""

    name: str
    source: str
    slope: float = 0.01


@dataclass(frozen=True)
class Shuffle:
    """3D pixel shuffle by 2: channel 8 c + 4 dz + 2 dy + dx of voxel v is channel c of voxel 2 v + (dz, dy, dx)."""

    name: str
    source: str


@dataclass(frozen=True)
class Concat:
    """Concatenation along the channels."""

    name: str
    sources: tuple[str, ...]


Node = Conv | LeakyRelu | Shuffle | Concat


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes in order of execution; ``image`` is the name of the input, the last node gives the class scores."""

    nodes: tuple[Node, ...]
    image: str = "image"

    @property
    def scores(self) -> str:
        """Name of the output tensor."""
        return self.nodes[-1].name

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of all activations, the input first."""
        return (self.image, *(node.name for node in self.nodes))
