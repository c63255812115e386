"""Norm statistics of the scan at hand mixed into those of the training.

In: float weights and normalised tiles of a scan. Out: the same weights with other running means and variances, to be
folded and quantized like any others. A share of 0 leaves the training's, 1 takes the scan's alone, as in *Improving
robustness against common corruptions by covariate shift adaptation* (Schneider et al., NeurIPS 2020), where the
training's count as so many samples more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ToothTopoSegLib.training.network import Plan

Array = NDArray[Any]


def with_scan_statistics(weights: Mapping[str, Array], plan: Plan, tiles: Array, share: float) -> dict[str, Array]:
    """Weights by nnU-Net's names with the statistics of ``tiles`` (n, z, y, x) mixed in.

    Layer by layer, each seeing what the layers before it make of the tiles with their new statistics. Raises ValueError
    for a share outside 0..1.
    """
    import torch
    from torch import nn

    from ToothTopoSegLib.training.network import build_network

    if not 0 <= share <= 1:
        raise ValueError(f"the scan's share is {share}; expected 0 to 1")
    network = build_network(plan)
    network.load_state_dict({k: torch.from_numpy(np.array(v, np.float32)) for k, v in weights.items()}, strict=False)
    network.eval()
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm3d)]

    def mix(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        _mix(norm, inputs[0], share)

    hooks = [norm.register_forward_pre_hook(mix) for norm in norms]
    with torch.inference_mode():
        network(torch.from_numpy(np.ascontiguousarray(tiles[:, None], np.float32)))
    for hook in hooks:
        hook.remove()
    mixed = network.state_dict()
    return {name: mixed[name].numpy() for name in weights}


def _mix(norm: nn.Module, values: Tensor, share: float) -> None:
    """Mix the statistics of ``values`` (n, c, z, y, x) into those of a norm, in place."""
    mean, variance = values.mean((0, 2, 3, 4)), values.var((0, 2, 3, 4), correction=0)
    old, spread = norm.running_mean.clone(), norm.running_var.clone()
    norm.running_mean.lerp_(mean, share)
    within = (1 - share) * (spread + (old - norm.running_mean) ** 2)
    norm.running_var.copy_(within + share * (variance + (mean - norm.running_mean) ** 2))
