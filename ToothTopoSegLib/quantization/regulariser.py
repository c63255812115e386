"""The quantization regulariser of the training objective: weights that lose little when they are rounded.

In: the weights of each layer in units of their quantization step. Out: one differentiable number. Two terms, each with
a weight of its own:

- *grid*: mean squared distance of the weights to the nearest integer, times 12, so that weights spread evenly between
  the integers score 1 and rounded ones 0 (a sharper form of the mean squared quantization error);
- *kurtosis*: squared difference of the weights' kurtosis from 1.8, that of a uniform distribution, which of all
  distributions loses least in uniform steps (KURE, Shkolnik et al., NeurIPS 2020).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

UNIFORM_KURTOSIS = 1.8
SMALLEST_VARIANCE = 1e-6
"""Squared variance, in steps, below which weights count as constant."""


def grid_distance(steps: Tensor) -> Tensor:
    """12 times the mean squared distance of weights (any shape, in quantization steps) to the nearest integer."""
    return 12 * (steps - steps.detach().round()).square().mean()


def kurtosis_distance(steps: Tensor) -> Tensor:
    """Squared difference of the kurtosis of weights (any shape, in quantization steps) from a uniform one's."""
    steps = steps.to(torch.promote_types(steps.dtype, torch.float32))  # fourth powers overflow in half precision
    centred = steps - steps.mean()
    kurtosis = centred.pow(4).mean() / (centred.square().mean().square() + SMALLEST_VARIANCE)
    return (kurtosis - UNIFORM_KURTOSIS).square()


@dataclass(frozen=True)
class QuantRegulariser:
    """Weights of the two terms; a term of weight 0 is not computed."""

    grid: float = 0.0
    kurtosis: float = 0.0

    def __call__(self, layers: Iterable[Tensor]) -> Tensor:
        """The weighted terms, each the mean over layers, of weights in quantization steps.

        :meth:`~ToothTopoSegLib.quantization.fake_quant.QatNetwork.weights_in_steps` gives them. Empty layers count
        nothing; without any layer the result is 0.
        """
        terms = []
        for steps in layers:
            if not steps.numel():
                continue
            term = steps.new_zeros((), dtype=torch.float32)
            if self.grid:
                term = term + self.grid * grid_distance(steps)
            if self.kurtosis:
                term = term + self.kurtosis * kurtosis_distance(steps)
            terms.append(term)
        return torch.stack(terms).mean() if terms else torch.zeros(())
