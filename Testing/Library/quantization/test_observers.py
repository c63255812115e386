"""Ranges: what they cover, what they forget, and that nothing a network can produce breaks them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ToothTopoSegLib.quantization.config import QuantConfig
from ToothTopoSegLib.quantization.observers import (
    LearnedRange,
    Observer,
    affine_of_range,
    observed_range,
    scaled_gradient,
    straight_round,
    thinned,
)

KINDS = ("minmax", "percentile", "mse")


def _quantized(values: torch.Tensor, config: QuantConfig) -> torch.Tensor:
    scale, zero_point = affine_of_range(*observed_range(values, config), config)
    levels = (values / scale).round().clamp(-zero_point, config.activation_limit - zero_point)
    return levels * scale


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "values",
    [
        torch.zeros(7),
        torch.full((5, 3), 4.0),
        torch.full((5, 3), -4.0),
        torch.tensor([1e-30]),
        torch.tensor(3.0),
        torch.tensor([65504.0, -65504.0, 1.0], dtype=torch.float16),
        torch.tensor([float("inf"), float("-inf"), float("nan"), 2.0], dtype=torch.float16),
        torch.tensor([3.3e38, -3.3e38, 0.5], dtype=torch.bfloat16),
        torch.tensor([6e-8, 0.0], dtype=torch.float16),
        torch.tensor([float("nan")] * 3),
    ],
    ids=["zeros", "constant", "negative", "tiny", "single", "fp16", "overflow", "bf16", "subnormal", "nan"],
)
def test_every_tensor_gives_a_finite_scale_and_an_exact_zero(kind: str, values: torch.Tensor) -> None:
    config = QuantConfig(observer=kind)
    observer = Observer(config)
    observer(values)
    scale, zero_point = observer.affine()
    assert scale.isfinite() and scale > 0
    assert 0 <= zero_point <= 255 and zero_point == zero_point.round()
    assert scale.dtype == torch.float32


@pytest.mark.parametrize("kind", KINDS)
def test_a_constant_is_kept_to_half_a_step(kind: str) -> None:
    values = torch.full((4, 4), 3.0)
    assert torch.allclose(_quantized(values, QuantConfig(observer=kind)), values, atol=0.5 * 3 / 255 + 1e-6)


def test_an_empty_tensor_says_nothing() -> None:
    observer = Observer(QuantConfig())
    observer(torch.tensor([-1.0, 3.0]))
    before = observer.affine()
    observer(torch.zeros(0, 4))
    assert observer.affine() == before and observer.seen == 1


def test_the_first_batch_sets_the_range_and_later_ones_move_it() -> None:
    observer = Observer(QuantConfig(observer="minmax"), momentum=0.1)
    for high in (1.0, 3.0):
        observer(torch.tensor([0.0, high]))
    assert observer.high.item() == pytest.approx(2.0)  # the mean of the first ones
    for _ in range(200):
        observer(torch.tensor([0.0, 8.0]))
    assert observer.high.item() == pytest.approx(8.0, rel=1e-3)


def test_overflows_do_not_widen_the_range() -> None:
    values = torch.linspace(-1, 1, 101)
    spoilt = torch.cat([values, torch.tensor([float("inf"), float("nan")])])
    for kind in KINDS:
        assert observed_range(spoilt, QuantConfig(observer=kind, percentile=100))[1] <= 1.0


def test_one_voxel_of_metal_does_not_set_the_range_of_percentiles() -> None:
    torch.manual_seed(0)
    values = torch.randn(50_000)
    values[0] = 1000.0
    high = {kind: observed_range(values, QuantConfig(observer=kind))[1].item() for kind in KINDS}
    assert high["minmax"] == 1000 and high["percentile"] < 5


def test_the_range_of_least_error_has_less_error_than_the_others() -> None:
    torch.manual_seed(1)
    values = torch.randn(40_000).abs().pow(2)  # a long tail
    error = {kind: (_quantized(values, QuantConfig(observer=kind)) - values).square().mean() for kind in KINDS}
    assert error["mse"] <= error["minmax"] and error["mse"] <= error["percentile"]


@pytest.mark.parametrize("percentile", [99.99, 99.0, 75.0])
@pytest.mark.parametrize("count", [1, 2, 7, 1000])
def test_percentiles_are_those_of_numpy(percentile: float, count: int) -> None:
    values = np.random.default_rng(count).normal(size=count).astype(np.float32)
    low, high = observed_range(torch.from_numpy(values), QuantConfig(percentile=percentile))
    expected = np.percentile(values, (100 - percentile, percentile))
    np.testing.assert_allclose((low, high), (min(expected[0], 0), max(expected[1], 0)), rtol=1e-5, atol=1e-6)


def test_symmetric_activations_have_their_zero_in_the_middle() -> None:
    config = QuantConfig(observer="minmax", symmetric_activations=True)
    scale, zero_point = affine_of_range(torch.tensor(-0.5), torch.tensor(2.0), config)
    assert zero_point == 128 and scale.item() == pytest.approx(2 / 127)


def test_thinning_takes_evenly_from_every_channel_in_any_memory_format() -> None:
    values = torch.arange(2 * 3 * 4 * 5 * 6.0).reshape(2, 3, 4, 5, 6)
    found = thinned(values, 100)
    assert found.shape[:2] == (2, 3) and torch.equal(found, values.flatten(2)[..., ::7])
    assert torch.equal(thinned(values.to(memory_format=torch.channels_last_3d), 100), found)
    assert torch.equal(thinned(values, 10**6), values.flatten(2))


def test_rounding_lets_the_gradient_through() -> None:
    values = torch.tensor([0.5, 1.5, -0.2], requires_grad=True)
    rounded = straight_round(values)
    assert rounded.tolist() == [0, 2, 0]
    (rounded * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert values.grad is not None and values.grad.tolist() == [1, 2, 3]


def test_a_scaled_gradient_leaves_the_value_alone() -> None:
    value = torch.tensor(3.0, requires_grad=True)
    scaled = scaled_gradient(value, 0.25)
    scaled.backward()
    assert scaled.item() == 3.0 and value.grad == 0.25


def test_a_learned_range_starts_where_it_is_told() -> None:
    for symmetric in (False, True):
        config = QuantConfig(learned_ranges=True, symmetric_activations=symmetric)
        learned = LearnedRange(config)
        low, high = torch.tensor(-1.0), torch.tensor(3.0)
        learned.start(low, high)
        scale, zero_point = learned.affine()
        expected = affine_of_range(low, high, config)
        assert torch.allclose(scale, expected[0], rtol=1e-5) and zero_point == expected[1]


def test_a_learned_range_learns_the_range_of_least_error() -> None:
    torch.manual_seed(2)
    values = torch.randn(4000) * 2 + 1
    config = QuantConfig(learned_ranges=True, observer="minmax")
    learned = LearnedRange(config)
    learned.start(torch.tensor(-100.0), torch.tensor(20.0))  # far too wide and shifted
    optimiser = torch.optim.Adam(learned.parameters(), lr=0.02)

    def error() -> torch.Tensor:
        scale, zero_point = learned.affine(len(values))
        levels = torch.clamp(straight_round(values / scale), -zero_point, 255 - zero_point)
        return (levels * scale - values).square().mean()

    before = error().item()
    for _ in range(300):
        optimiser.zero_grad()
        error().backward()
        optimiser.step()
    assert error().item() < before / 30
    scale, zero_point = learned.affine()
    assert scale > 0 and 0 <= zero_point <= 255


@pytest.mark.parametrize("start", [0.0, 1e-12, 65504.0, 1e30])
def test_the_gradients_of_a_learned_range_are_finite(start: float) -> None:
    learned = LearnedRange(QuantConfig(learned_ranges=True))
    learned.start(torch.tensor(0.0), torch.tensor(start))
    scale, zero_point = learned.affine(0)
    values = torch.tensor([0.0, start])
    (torch.clamp(straight_round(values / scale), -zero_point, 255 - zero_point) * scale).sum().backward()
    assert scale.isfinite() and all(p.grad is not None and p.grad.isfinite() for p in learned.parameters())
