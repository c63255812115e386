"""The folded network as a value: a short list of nodes that every executor and exporter walks through.

Batch norms are folded into the convolutions before them, transposed convolutions (kernel = stride) are written as a
1x1x1 convolution to that many times the channels followed by a 3D pixel shuffle (exact; used for 3D U-Net in MLPerf
Inference). Networks of other makers may keep their instance norms and have residual sums. Weights are float32 numpy
arrays (out, in, z, y, x).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]
Size3 = tuple[int, int, int]
LARGEST_BIAS = 2**30
"""Largest integer bias: half of 32 bits, the other half is left to the sum over the kernel."""


@dataclass(frozen=True, eq=False)
class Conv:
    """3D convolution with zero padding ``(kernel - 1) // 2`` along each axis."""

    name: str
    source: str
    weight: Array
    bias: Array
    stride: int | Size3 = 1

    @property
    def kernel(self) -> Size3:
        """Edge lengths (z, y, x) of the kernel."""
        z, y, x = (int(n) for n in self.weight.shape[2:])
        return z, y, x

    @property
    def strides(self) -> Size3:
        """Stride along each axis (z, y, x)."""
        return (self.stride,) * 3 if isinstance(self.stride, int) else self.stride

    @property
    def padding(self) -> Size3:
        """Zeros before and after each axis (z, y, x)."""
        z, y, x = ((n - 1) // 2 for n in self.kernel)
        return z, y, x


@dataclass(frozen=True)
class LeakyRelu:
    """max(x, slope * x)."""

    name: str
    source: str
    slope: float = 0.01


@dataclass(frozen=True)
class Shuffle:
    """3D pixel shuffle by 2: channel 8 c + 4 dz + 2 dy + dx of voxel v is channel c of voxel 2 v + (dz, dy, dx).

    Other ``factors`` (z, y, x) likewise.
    """

    name: str
    source: str
    factors: Size3 = (2, 2, 2)

    @property
    def blocks(self) -> int:
        """How many channels become one."""
        return self.factors[0] * self.factors[1] * self.factors[2]


@dataclass(frozen=True, eq=False)
class InstanceNorm:
    """Each channel to mean 0 and variance 1 over the patch at hand, then times ``scale`` plus ``bias``, both (c,)."""

    name: str
    source: str
    scale: Array
    bias: Array
    epsilon: float = 1e-5


@dataclass(frozen=True)
class Add:
    """Sum of two tensors of one shape."""

    name: str
    sources: tuple[str, str]


@dataclass(frozen=True)
class Concat:
    """Concatenation along the channels."""

    name: str
    sources: tuple[str, ...]


Node = Conv | LeakyRelu | Shuffle | Concat | InstanceNorm | Add


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
