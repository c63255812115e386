"""Tiny networks with random weights, and complete bundles made of them without any training."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file

from ToothTopoSegLib.quantization.bundle import CARD_SCHEMA
from ToothTopoSegLib.quantization.config import QuantConfig
from ToothTopoSegLib.quantization.export import float_weights_path, quantized
from ToothTopoSegLib.quantization.fold import fold
from ToothTopoSegLib.quantization.graph import Graph
from ToothTopoSegLib.training.loop import unaliased
from ToothTopoSegLib.training.network import Plan, build_network

TINY = Plan(patch=(16, 16, 16), features=(4, 8, 8), convs=(1, 1, 1), convs_decoder=(1, 1))
WIDE = Plan(patch=(16, 32, 32), features=(4, 8, 8), convs=(1, 2, 1), convs_decoder=(1, 2))
Weights = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Tiny:
    """A torch network in eval mode, its plan, and its weights (half precision made float32) by nnU-Net's names."""

    network: torch.nn.Module
    plan: Plan
    weights: Weights

    @property
    def graph(self) -> Graph:
        return fold(self.weights, self.plan)


def tiny_network(plan: Plan = TINY, seed: int = 0, lively: bool = True) -> Tiny:
    """A network with random weights and random norm statistics; a ``lively`` one puts every class ahead somewhere.

    Liveliness blows small differences up, rounding included.
    """
    torch.manual_seed(seed)
    network = build_network(plan, deep_supervision=False).eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm3d):
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.3, 2.0)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.3)
        if lively:
            head = network.decoder.seg_layers[-1]
            scores = network(torch.from_numpy(np.concatenate(smooth_patches(plan))))
            spread = 3.0 / scores.std((0, 2, 3, 4))
            head.weight *= spread[:, None, None, None, None]
            head.bias.copy_((head.bias - scores.mean((0, 2, 3, 4))) * spread)
        for tensor in (*network.parameters(), *network.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(tensor.half().float())
    weights = {name: value.numpy().copy() for name, value in unaliased(network.state_dict()).items()}
    return Tiny(network, plan, weights)


def smooth_patches(plan: Plan, count: int = 3, seed: int = 1) -> list[np.ndarray]:
    """Smooth random images (1, 1, z, y, x) of mean 0 and standard deviation 1."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    fields = [gaussian_filter(rng.normal(size=plan.patch), 2.0) for _ in range(count)]
    return [((f - f.mean()) / f.std()).astype(np.float32)[None, None] for f in fields]


def write_bundle(folder: Path, tiny: Tiny, name: str = "tiny") -> Path:
    """Integer model, card and float16 weights in ``folder``; returns the path of the model."""
    folder.mkdir(parents=True, exist_ok=True)
    config = QuantConfig()
    model, scores = quantized(tiny.graph, smooth_patches(tiny.plan), tiny.plan, config)
    path = folder / f"{name}.onnx"
    path.write_bytes(model)
    save_file({k: v.astype(np.float16) for k, v in tiny.weights.items()}, float_weights_path(path))
    card: dict[str, Any] = {
        "schema": CARD_SCHEMA,
        "name": name,
        "version": "0",
        "precision": "uint8 activations, int7 weights in int8",
        "sha256": hashlib.sha256(model).hexdigest(),
        "plan": tiny.plan.as_dict(),
        "scores": scores,
        "quantization": config.as_dict(),
        "licence": "Apache-2.0",
    }
    path.with_suffix(".json").write_text(json.dumps(card), encoding="utf-8")
    return path


def seeing_nothing(tiny: Tiny) -> Tiny:
    """The same weights but for the class scores, which put background ahead everywhere."""
    head = f"decoder.seg_layers.{len(tiny.plan.convs_decoder) - 1}"
    kernel, bias = (tiny.weights[f"{head}.{name}"] for name in ("weight", "bias"))
    background = np.where(np.arange(len(bias)) == 0, 10.0, -10.0).astype(np.float32)
    changed = {f"{head}.weight": np.zeros_like(kernel), f"{head}.bias": background}
    return Tiny(tiny.network, tiny.plan, tiny.weights | changed)
