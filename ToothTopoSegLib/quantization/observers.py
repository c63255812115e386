"""Ranges of activations and weights: observed while a network runs, or learned with it.

In: tensors of any shape and floating type. Out: a range that holds 0 (zero padding must be exact), or the scale and
zero point it gives. Values that are no finite numbers count as 0, and an empty tensor says nothing, so that one
overflow in half precision cannot spoil a range. Nothing here waits for a GPU.

Sources: moving averages of ranges, Jacob et al., CVPR 2018, section 3.1; ranges of least squared error, Krishnamoorthi,
arXiv 1806.08342, and Banner et al., NeurIPS 2019; learned scale and offset, LSQ+, Bhalgat et al., CVPR workshops 2020.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ToothTopoSegLib.quantization.config import QuantConfig

SAMPLE = 65_536
"""About how many values a range is estimated from while training; sorting all of them would dominate the step."""
SMALLEST_SPAN, LARGEST = 1e-8, 1e30
SHRINK, SHRINK_STEPS = 0.85, 20
ERROR_SAMPLE = 16_384
"""About how many values each range is tried on when the one of least squared error is sought."""
MOMENTUM = 0.05


def thinned(values: Tensor, limit: int = SAMPLE) -> Tensor:
    """About ``limit`` values of a tensor (b, c, ...) as (b, c, n), evenly over space, without gradient."""
    # An odd stride does not always hit the same place of a row.
    return values.detach().flatten(2)[..., :: max(1, values.numel() // limit) | 1]


def observed_range(values: Tensor, config: QuantConfig) -> tuple[Tensor, Tensor]:
    """Low end (<= 0) and high end (>= 0), float32 scalars, of values of any shape with at least one element."""
    flat = values.detach().reshape(-1).float()
    flat = torch.where(flat.isfinite(), flat, 0.0).clamp(-LARGEST, LARGEST)
    if config.observer == "percentile" and config.percentile < 100:
        share = 1 - config.percentile / 100
        low, high = -_upper_quantile(-flat, share), _upper_quantile(flat, share)
    else:
        low, high = flat.amin(), flat.amax()
    low, high = low.clamp(max=0), high.clamp(min=0)
    return _least_error(flat, low, high, config) if config.observer == "mse" else (low, high)


def _upper_quantile(flat: Tensor, share: float) -> Tensor:
    """The value above which ``share`` of the values lie, linearly interpolated; only the top of them is sorted."""
    place = share * (len(flat) - 1)
    top = flat.topk(min(int(place) + 2, len(flat))).values
    return torch.lerp(top[int(place)], top[-1], place - int(place))


def _least_error(flat: Tensor, low: Tensor, high: Tensor, config: QuantConfig) -> tuple[Tensor, Tensor]:
    """The range within ``low..high`` of least mean squared error: first the better high end, then the low one."""
    values, weights = _with_all_extremes(flat)
    shrink = SHRINK ** torch.arange(SHRINK_STEPS, device=flat.device)
    errors = _squared_errors(values, weights, low.expand(SHRINK_STEPS), shrink * high, config)
    high = (shrink * high)[errors.argmin()]
    errors = _squared_errors(values, weights, shrink * low, high.expand(SHRINK_STEPS), config)
    return (shrink * low)[errors.argmin()], high


def _with_all_extremes(flat: Tensor) -> tuple[Tensor, Tensor]:
    """At most about ``ERROR_SAMPLE`` values, the largest and the smallest among them, and how many each stands for."""
    ends = ERROR_SAMPLE // 4
    if len(flat) <= ERROR_SAMPLE:
        return flat, torch.ones_like(flat)
    ordered = flat.sort().values
    step = (len(flat) - 2 * ends) // (2 * ends) + 1
    values = torch.cat([ordered[:ends], ordered[ends:-ends:step], ordered[-ends:]])
    weights = torch.ones_like(values)
    weights[ends:-ends] = step
    return values, weights


def _squared_errors(flat: Tensor, weights: Tensor, low: Tensor, high: Tensor, config: QuantConfig) -> Tensor:
    """Weighted sum of squared errors (k,) of quantizing ``flat`` (n,) with each of k ranges, in the widest step."""
    scale, zero_point = affine_of_range(low, high, config)
    x = flat / scale[:, None]
    levels = x.round().clamp(-zero_point[:, None], config.activation_limit - zero_point[:, None])
    return ((levels - x) * (scale / scale.amax())[:, None]).square() @ weights


def affine_of_range(low: Tensor, high: Tensor, config: QuantConfig) -> tuple[Tensor, Tensor]:
    """Scale and zero point (whole numbers, float32) of ranges ``low`` <= 0 <= ``high`` of any common shape."""
    if config.symmetric_activations:
        middle = (config.activation_limit + 1) // 2
        scale = torch.maximum(-low, high).clamp(min=SMALLEST_SPAN) / (middle - 1)
        return scale, torch.full_like(scale, middle)
    scale = (high - low).clamp(min=SMALLEST_SPAN) / config.activation_limit
    return scale, (-low / scale).round().clamp(0, config.activation_limit)


class Observer(nn.Module):
    """The mean range of the first tensors it sees, then a moving average that forgets the older ones."""

    def __init__(self, config: QuantConfig, momentum: float = MOMENTUM) -> None:
        super().__init__()
        self.config, self.momentum = config, momentum
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.zeros(()))
        self.register_buffer("seen", torch.zeros(()))

    @torch.no_grad()
    def forward(self, values: Tensor) -> None:
        """Take the values of one more batch into account; an empty tensor changes nothing."""
        if not values.numel():
            return
        low, high = observed_range(values, self.config)
        self.seen += 1
        share = (1 / self.seen).clamp(min=self.momentum)
        self.low.lerp_(low, share)
        self.high.lerp_(high, share)

    @torch.no_grad()
    def start(self, low: float, high: float, seen: int) -> None:
        """Begin with the mean range of ``seen`` tensors."""
        self.low.fill_(low)
        self.high.fill_(high)
        self.seen.fill_(seen)

    def affine(self) -> tuple[Tensor, Tensor]:
        """Scale and zero point of the range seen so far."""
        return affine_of_range(self.low, self.high, self.config)


def scaled_gradient(value: Tensor, factor: float) -> Tensor:
    """``value`` unchanged, whose gradient is multiplied by ``factor``."""
    return value.detach() + (value - value.detach()) * factor


class LearnedRange(nn.Module):
    """Scale and zero point as parameters (LSQ+).

    The scale is learned as its logarithm and the zero point as a share of all levels: the scale stays above 0, and a
    learning rate means the same relative change for every tensor. Gradients are divided by sqrt(values * levels), as in
    LSQ (Esser et al., ICLR 2020), so that the many values of a tensor do not outweigh its weights.
    """

    def __init__(self, config: QuantConfig) -> None:
        super().__init__()
        self.config = config
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.zero = nn.Parameter(torch.full((), 0.5), requires_grad=not config.symmetric_activations)

    @torch.no_grad()
    def start(self, low: Tensor, high: Tensor) -> None:
        """Begin with the range ``low..high``."""
        scale, zero_point = affine_of_range(low, high, self.config)
        self.log_scale.copy_(scale.log())
        self.zero.copy_(zero_point / self.config.activation_limit)

    def affine(self, values: int = 1) -> tuple[Tensor, Tensor]:
        """Scale and zero point with gradients; ``values`` is how many numbers they quantize."""
        limit = self.config.activation_limit
        share = 1 / math.sqrt(max(1, values) * limit)
        scale = scaled_gradient(self.log_scale, share).clamp(-60, 60).exp()
        zero_point = straight_round(scaled_gradient(self.zero, share) * limit).clamp(0, limit)
        return scale, zero_point


class _StraightRound(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values.round()

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> Tensor:
        return gradient[0]


def straight_round(values: Tensor) -> Tensor:
    """Values rounded half to even; the gradient goes straight through (Bengio et al., arXiv 1308.3432)."""
    return _StraightRound.apply(values)
