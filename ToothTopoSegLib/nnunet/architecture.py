"""nnU-Net's networks as graphs: from the arguments of a plan and the weights of a checkpoint.

PlainConvUNet and ResidualEncoderUNet of ``dynamic_network_architectures``, with batch norm, which is folded into the
convolution before it, or instance norm, which stays a node. A transposed convolution (kernel = stride) becomes a 1x1x1
convolution and a pixel shuffle; average pooling and the 1x1x1 convolution of a residual block's skip become one
convolution with the kernel of the stride. All of it is exact. Heads of deep supervision are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.errors import ModelError
from ToothTopoSegLib.nnunet.plans import Architecture, Size3
from ToothTopoSegLib.quantization.graph import Add, Concat, Conv, Graph, InstanceNorm, LeakyRelu, Node, Shuffle

Array = NDArray[Any]
Weights = Mapping[str, Array]
NORMS = ("BatchNorm3d", "InstanceNorm3d")
SLOPES = {"LeakyReLU": 0.01, "ReLU": 0.0}


@dataclass(frozen=True)
class Shape:
    """A network of a plan, every argument spelt out for each stage."""

    residual: bool
    features: tuple[int, ...]
    kernels: tuple[Size3, ...]
    strides: tuple[Size3, ...]
    blocks: tuple[int, ...]
    blocks_decoder: tuple[int, ...]
    norm: str
    epsilon: float
    slope: float

    @property
    def patch_multiple(self) -> Size3:
        """What each side of a patch must be a multiple of."""
        z, y, x = (int(np.prod([stride[axis] for stride in self.strides])) for axis in range(3))
        return z, y, x


def shape_of(architecture: Architecture, norm: str | None = None) -> Shape:
    """The shape of a plan's network; ``norm`` replaces its norm, as ``nnUNetTrainerBN`` does.

    Raises ModelError for arguments that cannot be imported, by name.
    """
    given = dict(architecture.arguments)
    residual = architecture.name == "ResidualEncoderUNet"
    try:
        stages = int(given["n_stages"])
        found = Shape(
            residual,
            tuple(_each(given["features_per_stage"], stages)),
            tuple(_three(k) for k in _each(given["kernel_sizes"], stages)),
            tuple(_three(s) for s in _each(given["strides"], stages)),
            tuple(_each(given["n_blocks_per_stage" if residual else "n_conv_per_stage"], stages)),
            tuple(_each(given["n_conv_per_stage_decoder"], stages - 1)),
            norm or _last_name(given["norm_op"]),
            float((given.get("norm_op_kwargs") or {}).get("eps", 1e-5)),
            _slope(given),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"The plan of the network lacks a usable {error}; get the model's files again.") from error
    _check(found, given)
    return found


def _check(shape: Shape, given: Mapping[str, Any]) -> None:
    if shape.norm not in NORMS:
        raise ModelError(f"The network has the norm {shape.norm}; only {' and '.join(NORMS)} can be imported.")
    if _last_name(given.get("conv_op", "Conv3d")) != "Conv3d":
        raise ModelError(f"The network has {_last_name(given['conv_op'])}; only 3D networks can be imported.")
    for name in ("nonlin_first", "bottleneck_channels", "block"):
        if given.get(name) and _last_name(given[name]) != "BasicBlockD":
            raise ModelError(f"The network is built with {name}, which cannot be imported.")


def _last_name(value: Any) -> str:
    return str(value).rpartition(".")[2]


def _slope(given: Mapping[str, Any]) -> float:
    name = _last_name(given.get("nonlin"))
    if name not in SLOPES:
        raise ModelError(f"The network has the activation {name}; only LeakyReLU and ReLU can be imported.")
    return float((given.get("nonlin_kwargs") or {}).get("negative_slope", SLOPES[name]))


def _each(value: Any, count: int) -> list[Any]:
    values = [value] * count if isinstance(value, int) else list(value)
    if len(values) != count:
        raise ValueError(f"list of {count} values (it has {len(values)})")
    return values


def _three(value: Any) -> Size3:
    z, y, x = (int(v) for v in ([value] * 3 if isinstance(value, int) else value))
    return z, y, x


class _Builder:
    """Appends nodes to a graph; each method returns the name of the tensor that it made."""

    def __init__(self, shape: Shape, weights: Weights) -> None:
        self.shape, self.weights = shape, weights
        self.nodes: list[Node] = []

    def add(self, node: Node) -> str:
        self.nodes.append(node)
        return node.name

    def conv(self, name: str, source: str, block: str, stride: Size3 = (1, 1, 1)) -> str:
        """Convolution and norm of a block of the checkpoint; ``stride`` is that of the convolution."""
        return self.convolved(name, source, self.weights[f"{block}.conv.weight"], block, stride)

    def convolved(self, name: str, source: str, weight: Array, block: str, stride: Size3) -> str:
        """The same with a weight of its own."""
        none = np.zeros(len(weight), np.float32)
        bias = self.weights.get(f"{block}.conv.bias", none)
        gamma = self.weights.get(f"{block}.norm.weight", none + 1)
        beta = self.weights.get(f"{block}.norm.bias", none)
        if self.shape.norm == "InstanceNorm3d":
            source = self.add(Conv(f"{name}.conv", source, weight, bias, stride))
            return self.add(InstanceNorm(f"{name}.norm", source, gamma, beta, self.shape.epsilon))
        mean, variance = (self.weights[f"{block}.norm.running_{what}"] for what in ("mean", "var"))
        conv = Conv(f"{name}.conv", source, weight, bias, stride)
        return self.add(affine_conv(conv, gamma, beta, mean, variance, self.shape.epsilon))

    def active(self, name: str, source: str) -> str:
        return self.add(LeakyRelu(f"{name}.act", source, self.shape.slope))

    def residual(self, name: str, source: str, block: str, channels: int, stride: Size3) -> str:
        """A BasicBlockD: two convolutions beside a skip that is pooled and projected where it must be."""
        inner = self.active(f"{name}.1", self.conv(f"{name}.1", source, f"{block}.conv1", stride))
        inner = self.conv(f"{name}.2", inner, f"{block}.conv2")
        skip = self.skip(f"{name}.skip", source, block, channels, stride)
        return self.active(name, self.add(Add(f"{name}.sum", (inner, skip))))

    def skip(self, name: str, source: str, block: str, channels: int, stride: Size3) -> str:
        pooled = max(stride) > 1
        projection = f"{block}.skip.{int(pooled)}"
        voxels = int(np.prod(stride))
        if f"{projection}.conv.weight" in self.weights:
            weight = self.weights[f"{projection}.conv.weight"] / voxels
            weight = np.ascontiguousarray(np.broadcast_to(weight, (*weight.shape[:2], *stride)))
            return self.convolved(name, source, weight, projection, stride)
        if not pooled:
            return source
        mean = np.zeros((channels, channels, *stride), np.float32)
        mean[range(channels), range(channels)] = 1 / voxels
        return self.add(Conv(name, source, mean, np.zeros(channels, np.float32), stride))

    def upsampled(self, index: int, source: str, factors: Size3) -> str:
        """A transposed convolution whose kernel is its stride."""
        kernel = self.weights[f"decoder.transpconvs.{index}.weight"]
        spread = np.ascontiguousarray(kernel.reshape(kernel.shape[0], -1).T[:, :, None, None, None])
        none = np.zeros(kernel.shape[1], np.float32)
        bias = np.repeat(self.weights.get(f"decoder.transpconvs.{index}.bias", none), int(np.prod(factors)))
        return self.add(Shuffle(f"up{index}", self.add(Conv(f"up{index}.conv", source, spread, bias)), factors))

    def encoder(self, source: str) -> list[str]:
        """All stages; returns what each gives, the finest first."""
        found = []
        if self.shape.residual:
            source = self.active("stem", self.conv("stem", source, "encoder.stem.convs.0"))
        for stage, count in enumerate(self.shape.blocks):
            for i in range(count):
                stride, name = self.shape.strides[stage] if i == 0 else (1, 1, 1), f"enc{stage}.{i}"
                if self.shape.residual:
                    block = f"encoder.stages.{stage}.blocks.{i}"
                    source = self.residual(name, source, block, self.shape.features[stage], stride)
                else:
                    block = f"encoder.stages.{stage}.0.convs.{i}"
                    source = self.active(name, self.conv(name, source, block, stride))
            found.append(source)
        return found

    def decoder(self, skips: Sequence[str]) -> None:
        source = skips[-1]
        for index, count in enumerate(self.shape.blocks_decoder):
            up = self.upsampled(index, source, self.shape.strides[-1 - index])
            source = self.add(Concat(f"cat{index}", (up, skips[-2 - index])))
            for i in range(count):
                name = f"dec{index}.{i}"
                source = self.active(name, self.conv(name, source, f"decoder.stages.{index}.convs.{i}"))
        head = f"decoder.seg_layers.{len(self.shape.blocks_decoder) - 1}"
        self.add(Conv("scores", source, self.weights[f"{head}.weight"], self.weights[f"{head}.bias"]))


def affine_conv(conv: Conv, gamma: Array, beta: Array, mean: Array, variance: Array, epsilon: float) -> Conv:
    """A convolution with the norm of fixed statistics (c,) after it folded in."""
    scale = gamma / np.sqrt(variance + epsilon)
    weight = (conv.weight * scale[:, None, None, None, None]).astype(np.float32)
    bias = ((conv.bias - mean) * scale + beta).astype(np.float32)
    return Conv(conv.name, conv.source, weight, bias, conv.stride)


def network_graph(shape: Shape, weights: Weights) -> Graph:
    """The graph of a network; ModelError when the weights are not those of the plan."""
    builder = _Builder(shape, weights)
    try:
        builder.decoder(builder.encoder("image"))
    except KeyError as error:
        raise ModelError(f"The checkpoint lacks the weights {error} of the plan; get the files again.") from error
    return Graph(tuple(builder.nodes))


def norm_of(weights: Weights) -> str:
    """The norm that a checkpoint was trained with: only batch norms have running statistics."""
    return "BatchNorm3d" if any(name.endswith(".running_mean") for name in weights) else "InstanceNorm3d"


def build_network(shape: Shape, heads: int, weights: Weights) -> Any:
    """The same network as nnU-Net's own torch module, in eval mode, to compare with.

    Raises ModelError when the checkpoint's weights are not exactly those of the plan.
    """
    import torch
    from dynamic_network_architectures.architectures import unet
    from torch import nn

    kind = unet.ResidualEncoderUNet if shape.residual else unet.PlainConvUNet
    blocks = {"n_blocks_per_stage" if shape.residual else "n_conv_per_stage": list(shape.blocks)}
    network = kind(
        input_channels=1,
        n_stages=len(shape.features),
        features_per_stage=list(shape.features),
        conv_op=nn.Conv3d,
        kernel_sizes=[list(k) for k in shape.kernels],
        strides=[list(s) for s in shape.strides],
        num_classes=heads,
        n_conv_per_stage_decoder=list(shape.blocks_decoder),
        conv_bias=any(name.endswith(".transpconvs.0.bias") for name in weights),
        norm_op=nn.BatchNorm3d if shape.norm == "BatchNorm3d" else nn.InstanceNorm3d,
        norm_op_kwargs={"eps": shape.epsilon, "affine": any(".norm.weight" in name for name in weights)},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"negative_slope": shape.slope, "inplace": True},
        deep_supervision=False,
        **blocks,
    )
    state = network.state_dict()
    own = [name for name in state if name in weights]
    try:
        missing = network.load_state_dict({n: torch.from_numpy(weights[n]) for n in weights}, strict=False)
    except RuntimeError as error:
        raise ModelError("The weights of the checkpoint are not of the plan's sizes; get the files again.") from error
    aliases = (".all_modules.", "decoder.encoder.", "num_batches_tracked")
    wrong = [n for n in missing.missing_keys if not any(a in n for a in aliases)] + missing.unexpected_keys
    if wrong or not own:
        raise ModelError(f"The checkpoint and the plan differ in the weights {wrong[:1]}; get the model's files again.")
    return network.eval()
