"""Activation ranges of a folded graph, observed on calibration patches, and the integer parameters they give.

In: a graph and an iterator of normalised patches (1, 1, z, y, x). Out: scale and zero point of every activation.
The range of a tensor is the mean over patches of its range in each, as in moving-average observers, which a single
patch with metal cannot blow up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.quantization.config import QuantConfig
from ToothTopoSegLib.quantization.graph import Add, Concat, Conv, Graph, InstanceNorm, LeakyRelu, Node, Size3

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Array = NDArray[Any]
CALIBRATION_SAMPLE = 400_000
WEIGHT_SHRINK = np.linspace(1.0, 0.4, 31)
"""Parts of the widest range among which the weights' range of least squared error is sought."""


@dataclass(frozen=True)
class Affine:
    """Real value = scale * (integer - zero_point)."""

    scale: float
    zero_point: int


@dataclass(frozen=True, eq=False)
class QuantWeights:
    """Integer weights (out, in, z, y, x) int8 and the scale of each output channel."""

    values: NDArray[np.int8]
    scales: NDArray[np.float32]


def affine_of(low: float, high: float, config: QuantConfig) -> Affine:
    """Scale and zero point covering ``low..high`` and 0, which must be exact because of zero padding."""
    low, high = min(low, 0.0), max(high, 0.0)
    if config.symmetric_activations:
        middle = (config.activation_limit + 1) // 2
        return Affine(float(np.float32(max(-low, high, 1e-8) / (middle - 1))), middle)
    scale = float(np.float32(max(high - low, 1e-8) / config.activation_limit))
    return Affine(scale, int(np.clip(round(-low / scale), 0, config.activation_limit)))


def weight_scales(weight: Array, config: QuantConfig) -> NDArray[np.float32]:
    """Scale of each output channel (out,) of weights (out, in, z, y, x): the widest, or that of least squared error."""
    flat = weight.reshape(weight.shape[0] if config.weights_per_channel else 1, -1)
    widest = np.maximum(np.abs(flat).max(1), 1e-8) / config.weight_limit
    best, least = widest, np.full(len(flat), np.inf)
    for shrink in WEIGHT_SHRINK if config.weight_observer == "mse" else (1.0,):
        steps = flat / (shrink * widest)[:, None]
        levels = np.clip(np.rint(steps), -config.weight_limit, config.weight_limit)
        error = np.square(levels - steps).mean(1) * shrink**2
        best, least = np.where(error < least, shrink * widest, best), np.minimum(error, least)
    return np.broadcast_to(best, (weight.shape[0],)).astype(np.float32)


def rounded_weights(weight: Array, scales: Array, config: QuantConfig) -> QuantWeights:
    """Integer weights (out, in, z, y, x) for the given scale of each output channel (out,)."""
    values = np.rint(weight / scales[:, None, None, None, None])
    values = np.clip(values, -config.weight_limit, config.weight_limit)
    return QuantWeights(values.astype(np.int8), scales.astype(np.float32))


def quantize_weights(weight: Array, config: QuantConfig, smallest: Array | float = 0.0) -> QuantWeights:
    """Symmetric integer weights (out, in, z, y, x), no scale of an output channel below ``smallest`` (out,)."""
    scales = np.maximum(weight_scales(weight, config), smallest).astype(np.float32)
    return rounded_weights(weight, scales, config)


def _torch_step(node: Node, values: dict[str, Tensor], device: str | torch.device) -> Tensor:
    import torch
    from torch.nn import functional

    if isinstance(node, Conv):
        weight, bias = (torch.from_numpy(a).to(device) for a in (node.weight, node.bias))
        return functional.conv3d(values[node.source], weight, bias, stride=node.strides, padding=node.padding)
    if isinstance(node, InstanceNorm):
        scale, bias = (torch.from_numpy(a).to(device) for a in (node.scale, node.bias))
        return functional.instance_norm(values[node.source], weight=scale, bias=bias, eps=node.epsilon)
    if isinstance(node, LeakyRelu):
        return functional.leaky_relu(values[node.source], node.slope)
    if isinstance(node, Concat):
        return torch.cat([values[s] for s in node.sources], 1)
    if isinstance(node, Add):
        return values[node.sources[0]] + values[node.sources[1]]
    return shuffled(values[node.source], node.factors)


def shuffled(values: Tensor, factors: Size3 = (2, 2, 2)) -> Tensor:
    """The pixel shuffle of :class:`~ToothTopoSegLib.quantization.graph.Shuffle`: (b, 8 c, z, y, x) to twice z, y, x."""
    b, c, z, y, x = values.shape
    fz, fy, fx = factors
    left = c // (fz * fy * fx)
    blocks = values.reshape(b, left, fz, fy, fx, z, y, x).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return blocks.reshape(b, left, fz * z, fy * y, fx * x)


def run_float(
    graph: Graph,
    image: Array,
    watch: Callable[[str, Tensor], None] | None = None,
    device: str | torch.device = "cpu",
) -> Array:
    """Class scores (1, classes, z, y, x) of a patch (1, 1, z, y, x) in float; ``watch`` sees every activation."""
    import torch

    with torch.inference_mode():
        first = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))
        values: dict[str, Any] = {graph.image: first.to(device)}
        if watch:
            watch(graph.image, values[graph.image])
        for node in graph.nodes:
            values[node.name] = _torch_step(node, values, device)
            if watch:
                watch(node.name, values[node.name])
        return np.asarray(values[graph.scores].cpu().numpy())


def observed_ranges(
    graph: Graph, patches: Iterable[Array], config: QuantConfig, device: str | torch.device = "cpu"
) -> dict[str, tuple[float, float]]:
    """The mean range of every activation of ``graph`` in float on representative patches (1, 1, z, y, x).

    Raises ValueError when there is no patch.
    """
    from ToothTopoSegLib.quantization.observers import observed_range, thinned

    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in graph.tensors}

    def watch(name: str, values: Tensor) -> None:
        low, high = observed_range(thinned(values, CALIBRATION_SAMPLE), config)
        seen[name].append((float(low), float(high)))

    for patch in patches:
        run_float(graph, patch, watch, device)
    if not seen[graph.image]:
        raise ValueError("calibration needs at least one patch")
    means = {name: np.mean(ranges, axis=0) for name, ranges in seen.items()}
    return {name: (float(low), float(high)) for name, (low, high) in means.items()}


def calibrate(graph: Graph, patches: Iterable[Array], config: QuantConfig) -> dict[str, Affine]:
    """Scale and zero point of every activation of ``graph``, see :func:`observed_ranges`."""
    return {name: affine_of(*ends, config) for name, ends in observed_ranges(graph, patches, config).items()}
