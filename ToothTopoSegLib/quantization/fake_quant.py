"""A network in fake quantization that computes what its exported integer graph computes.

In: the folded graph of a trained network and images (b, 1, z, y, x). Out: class scores as the integer graph gives
them, differentiable by weights, biases and, where they are learned, ranges. Every tensor of the graph is quantized
once, where :func:`~ToothTopoSegLib.quantization.onnx_graph.integer_model` quantizes it: the image, each convolution
before its LeakyReLU, each LeakyReLU, each concatenation; a pixel shuffle keeps its scale.

Between the operators stand the integers themselves, as float32, and not the real numbers they mean. A convolution of
integers is exact in float32 up to 2^24, and so it is with the ten bits that TF32 leaves to its factors: the sums are
those of the integer graph on the CPU and on a GPU, and only the rounding of the last multiplication can differ.

The norms are folded once, before the training, and stay folded. Folding at every step with frozen statistics would
give the same network with more parameters than freedoms (gamma scales what the weights scale already). After the
training :func:`~ToothTopoSegLib.quantization.fold.unfold` writes the weights back under nnU-Net's names, so the
architecture stays unchanged.

Source: straight-through fake quantization, Jacob et al., CVPR 2018, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ToothTopoSegLib.quantization.calibrate import Affine, observed_ranges, shuffled, weight_scales
from ToothTopoSegLib.quantization.config import QuantConfig
from ToothTopoSegLib.quantization.graph import LARGEST_BIAS, Concat, Conv, Graph, LeakyRelu, Node, Shuffle
from ToothTopoSegLib.quantization.observers import LearnedRange, Observer, scaled_gradient, straight_round, thinned

if TYPE_CHECKING:
    from ToothTopoSegLib.training.network import Plan

Array = NDArray[Any]
SMALLEST_SCALE = 1e-10


class ActivationQuantizer(nn.Module):
    """Turns one activation into integers; its range is observed in training mode until it is frozen, or learned."""

    def __init__(self, config: QuantConfig) -> None:
        super().__init__()
        self.limit = config.activation_limit
        self.observer: Observer = Observer(config)
        self.learned: LearnedRange | None = LearnedRange(config) if config.learned_ranges else None
        self.observing = True

    def affine(self, values: int = 1) -> tuple[Tensor, Tensor]:
        """Scale and zero point; ``values`` is how many numbers they quantize."""
        if self.learned is None or self.observing:
            return self.observer.affine()
        return self.learned.affine(values)

    def forward(self, values: Tensor, unit: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Integers minus the zero point, and their scale, of real ``values`` (b, c, z, y, x) or of sums in ``unit``.

        ``unit`` (c,) is what one step of the sums of a convolution is worth.
        """
        if self.training and self.observing:
            sample = thinned(values)
            self.observer(sample if unit is None else sample * unit.detach()[:, None])
        scale, zero_point = self.affine(values.numel())
        # ONNX Runtime multiplies sums by one factor, but divides real numbers by the scale.
        steps = values / scale if unit is None else values * (unit / scale)[:, None, None, None]
        return torch.clamp(straight_round(steps), -zero_point, self.limit - zero_point), scale

    def get_extra_state(self) -> dict[str, bool]:
        """Whether the range is still observed, for checkpoints."""
        return {"observing": self.observing}

    def set_extra_state(self, state: dict[str, bool]) -> None:
        """Take over what :meth:`get_extra_state` gave."""
        self.observing = state["observing"]

    def start(self, low: float, high: float, seen: int) -> None:
        """Begin with the mean range of ``seen`` tensors and go on observing."""
        self.observer.start(low, high, seen)
        self.observing = True

    @torch.no_grad()
    def stop_observing(self) -> None:
        """Keep the range as it is from now on; a learned range starts from what was observed."""
        if self.learned is not None and self.observing:
            self.learned.start(self.observer.low, self.observer.high)
        self.observing = False


class QuantConv(nn.Module):
    """A convolution whose weights and bias are rounded to the integers that the exported graph holds.

    ``copies`` consecutive output channels share one bias: 8 where a pixel shuffle follows, because the transposed
    convolution that the two stand for has one bias for each of its channels.
    """

    def __init__(self, node: Conv, config: QuantConfig, copies: int = 1) -> None:
        super().__init__()
        self.config, self.copies = config, copies
        self.stride, self.padding = node.strides, node.padding
        self.weight = nn.Parameter(torch.from_numpy(np.array(node.weight, np.float32)))
        self.bias = nn.Parameter(torch.from_numpy(np.array(node.bias[::copies], np.float32)))
        self.register_buffer("shrink", torch.ones(len(self.weight)))
        self.log_scale = nn.Parameter(torch.zeros(len(self.weight))) if config.learned_ranges else None
        self.seek_scales()

    @torch.no_grad()
    def seek_scales(self) -> None:
        """Seek the best range of the weights as they are; it then moves with the largest weight, or is learned."""
        scales = torch.from_numpy(weight_scales(_numpy(self.weight), self.config)).to(self.weight.device)
        self.shrink.copy_(scales * self.config.weight_limit / self._largest().clamp(min=SMALLEST_SCALE))
        if self.log_scale is not None:
            self.log_scale.copy_(scales.log())

    @torch.no_grad()
    def _largest(self) -> Tensor:
        largest = self.weight.abs().flatten(1).amax(1)
        return largest if self.config.weights_per_channel else largest.amax().expand_as(largest)

    def biases(self) -> Tensor:
        """The bias of each output channel (out,)."""
        return self.bias.repeat_interleave(self.copies)

    def scale(self, source_scale: Tensor) -> Tensor:
        """Scale of the integer weights of each output channel (out,)."""
        limit = self.config.weight_limit
        if self.log_scale is None:
            own = (self.shrink * self._largest() / limit).clamp(min=SMALLEST_SCALE)
        else:
            own = scaled_gradient(self.log_scale, 1 / math.sqrt(self.weight[0].numel() * limit)).clamp(-60, 60).exp()
        # A bias must fit 32 bits, see onnx_graph.
        return torch.maximum(own, self.biases().detach().abs() / (source_scale.detach() * LARGEST_BIAS))

    def levels(self, scale: Tensor) -> Tensor:
        """Integer weights (out, in, z, y, x), as float32, for the scale of each output channel."""
        limit = self.config.weight_limit
        return straight_round(self.weight / scale[:, None, None, None, None]).clamp(-limit, limit)

    def forward(self, levels: Tensor, source_scale: Tensor) -> tuple[Tensor, Tensor]:
        """Integer sums (b, out, z, y, x) and what one step of each output channel is worth (out,)."""
        scale = self.scale(source_scale)
        bias = straight_round(self.biases().double() / (source_scale.double() * scale.double())).float()
        sums = functional.conv3d(levels, self.levels(scale), bias, stride=self.stride, padding=self.padding)
        return sums, source_scale * scale


@dataclass(frozen=True, eq=False)
class Exported:
    """What the integer graph of a trained network is made of."""

    graph: Graph
    activations: Mapping[str, Affine]
    weight_scales: Mapping[str, Array]


class QatNetwork(nn.Module):
    """The folded network in fake quantization: images (b, 1, z, y, x) -> class scores (b, classes, z, y, x).

    ``heads`` names, from the finest to the coarsest, the tensors that further heads of nnU-Net's deep supervision read,
    with the head itself; they stay in float, are no part of the exported graph, and only in training mode make the
    result a list of scores, the finest resolution first. Before :meth:`calibrate` there are no ranges.

    With ``in_float`` nothing is rounded: the folded network learns as it is, in a fraction of the time. Before it goes
    on in fake quantization its ranges are observed anew (:meth:`observe_anew`).
    """

    def __init__(self, graph: Graph, config: QuantConfig, heads: Mapping[str, Conv] | None = None) -> None:
        super().__init__()
        self.graph, self.config = graph, config
        before_shuffle = {node.source for node in graph.nodes if isinstance(node, Shuffle)}
        convs = [node for node in graph.nodes if isinstance(node, Conv)]
        self.convs = nn.ModuleDict(
            {_key(n.name): QuantConv(n, config, 8 if n.name in before_shuffle else 1) for n in convs}
        )
        # A pixel shuffle moves values and keeps their scale.
        self.ranges = {name: name for name in graph.tensors}
        self.ranges |= {node.name: node.source for node in graph.nodes if isinstance(node, Shuffle)}
        self.quantizers = nn.ModuleDict({_key(name): ActivationQuantizer(config) for name in self.ranges.values()})
        self.heads = nn.ModuleDict({_key(name): _float_head(conv) for name, conv in (heads or {}).items()})
        self.head_sources = tuple(heads or ())
        self.in_float = False

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """Class scores; in training mode with heads a list of them."""
        if self.in_float:
            return self._with_heads(self._unrounded(image))
        # Half precision would round the integers.
        with torch.autocast(image.device.type, enabled=False):
            values = {self.graph.image: self._quantizer(self.graph.image)(image.float())}
            for node in self.graph.nodes:
                values[node.name] = self._step(node, values)
            names = (self.graph.scores, *self.head_sources)
            return self._with_heads({name: values[name][0] * values[name][1] for name in names})

    def get_extra_state(self) -> dict[str, bool]:
        """Whether nothing is rounded, for checkpoints."""
        return {"in_float": self.in_float}

    def set_extra_state(self, state: dict[str, bool]) -> None:
        """Take over what :meth:`get_extra_state` gave."""
        self.in_float = state["in_float"]

    def _with_heads(self, real: Mapping[str, Tensor]) -> Tensor | list[Tensor]:
        scores = real[self.graph.scores]
        if not (self.training and self.head_sources):
            return scores
        return [scores, *(self.heads[_key(name)](real[name]) for name in self.head_sources)]

    def _unrounded(self, image: Tensor) -> dict[str, Tensor]:
        """The values of all tensors of the folded network in float."""
        values = {self.graph.image: image}
        for node in self.graph.nodes:
            if isinstance(node, Conv):
                conv, source = self.convs[_key(node.name)], values[node.source]
                found = functional.conv3d(source, conv.weight, conv.biases(), conv.stride, conv.padding)
            elif isinstance(node, LeakyRelu):
                found = functional.leaky_relu(values[node.source], node.slope)
            elif isinstance(node, Concat):
                found = torch.cat([values[source] for source in node.sources], 1)
            elif isinstance(node, Shuffle):
                found = shuffled(values[node.source], node.factors)
            else:
                raise _not_trained(node)
            values[node.name] = found
        return values

    def _quantizer(self, name: str) -> Any:
        return self.quantizers[_key(self.ranges[name])]

    def _step(self, node: Node, values: Mapping[str, tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Integers and scale of a node's output."""
        found: tuple[Tensor, Tensor]
        if isinstance(node, Conv):
            found = self._quantizer(node.name)(*self.convs[_key(node.name)](*values[node.source]))
        elif isinstance(node, LeakyRelu):
            levels, scale = values[node.source]
            found = self._quantizer(node.name)(functional.leaky_relu(levels * scale, node.slope))
        elif isinstance(node, Concat):
            found = self._quantizer(node.name)(torch.cat([values[s][0] * values[s][1] for s in node.sources], 1))
        elif isinstance(node, Shuffle):
            levels, scale = values[node.source]
            found = shuffled(levels, node.factors), scale
        else:
            raise _not_trained(node)
        return found

    def calibrate(self, patches: Iterable[Array]) -> None:
        """Give activations the ranges that post-training quantization would give them on patches (1, 1, z, y, x).

        What is observed from now on moves them; learned ranges start from them. Raises ValueError when there is no
        patch.
        """
        device, patches = next(self.parameters()).device, list(patches)
        found = observed_ranges(self.exported().graph, patches, self.config, device)
        for name in self.ranges.values():
            self._quantizer(name).start(*found[name], len(patches))
        if self.config.learned_ranges:
            self.freeze_ranges()

    def observe_anew(self, patches: Iterable[Array]) -> None:
        """Seek the ranges of the weights, and of the activations on patches (1, 1, z, y, x), and keep them.

        Raises ValueError when there is no patch.
        """
        for conv in self.convs.values():
            conv.seek_scales()
        self.calibrate(patches)
        self.freeze_ranges()

    def freeze_ranges(self) -> None:
        """Let observers keep their ranges from now on; learned ranges go on learning."""
        for quantizer in self.quantizers.values():
            quantizer.stop_observing()

    def _weight_scales(self) -> dict[str, Tensor]:
        """Scales (out,) of the integer weights by the names of the convolutions."""
        convs = [node for node in self.graph.nodes if isinstance(node, Conv)]
        return {n.name: self.convs[_key(n.name)].scale(self._quantizer(n.source).affine()[0]) for n in convs}

    def weights_in_steps(self) -> Iterable[Tensor]:
        """The weights of each convolution (out, in, z, y, x) divided by their scales, before rounding."""
        for name, scale in self._weight_scales().items():
            yield self.convs[_key(name)].weight / scale.detach()[:, None, None, None, None]

    @torch.no_grad()
    def exported(self) -> Exported:
        """The graph with the weights as they are now, and all scales and zero points, on the CPU."""
        affine = {name: self._quantizer(name).affine() for name in self.graph.tensors}
        activations = {name: Affine(float(scale), int(zero)) for name, (scale, zero) in affine.items()}
        weight_scales = {name: _numpy(scale) for name, scale in self._weight_scales().items()}
        nodes = tuple(self._exported_node(node) for node in self.graph.nodes)
        return Exported(Graph(nodes, self.graph.image), activations, weight_scales)

    def _exported_node(self, node: Node) -> Node:
        if not isinstance(node, Conv):
            return node
        conv = self.convs[_key(node.name)]
        return replace(node, weight=_numpy(conv.weight), bias=_numpy(conv.biases()))

    def exported_heads(self) -> dict[str, Conv]:
        """The further heads with the weights as they are now."""
        heads = {name: self.heads[_key(name)] for name in self.head_sources}
        return {name: Conv(name, name, _numpy(head.weight), _numpy(head.bias)) for name, head in heads.items()}


def _not_trained(node: Node) -> TypeError:
    return TypeError(f"{node.name} is a {type(node).__name__}, which no network trained in integers has")


def _key(name: str) -> str:
    """Name of a node as the name of a submodule, where dots separate levels."""
    return name.replace(".", "_")


def _numpy(values: Tensor) -> Array:
    return np.array(values.detach().cpu().numpy(), np.float32)


def _float_head(conv: Conv) -> nn.Module:
    out, channels = conv.weight.shape[:2]
    head = nn.Conv3d(channels, out, 1)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(np.array(conv.weight, np.float32)))
        head.bias.copy_(torch.from_numpy(np.array(conv.bias, np.float32)))
    return head


def quantized_network(
    weights: Mapping[str, Array], plan: Plan, config: QuantConfig, patches: Iterable[Array]
) -> QatNetwork:
    """A calibrated :class:`QatNetwork` with deep supervision from weights by nnU-Net's names and their plan.

    ``patches`` (1, 1, z, y, x) are what the ranges are observed on before the first step. Raises KeyError when a
    weight is missing, ValueError when there is no patch.
    """
    from ToothTopoSegLib.quantization.fold import fold, supervision_heads

    network = QatNetwork(fold(weights, plan), config, supervision_heads(weights, plan))
    network.calibrate(patches)
    return network
