"""The quantization regulariser: what it is on weights whose answer is known, and that it does what it is for."""

from __future__ import annotations

import pytest
import torch

from Testing.Library.quantization.tiny import TINY, smooth_patches, tiny_network
from ToothTopoSegLib.quantization.config import QuantConfig
from ToothTopoSegLib.quantization.fake_quant import quantized_network
from ToothTopoSegLib.quantization.regulariser import QuantRegulariser, grid_distance, kurtosis_distance


def test_weights_on_the_grid_cost_nothing_and_those_between_cost_most() -> None:
    assert grid_distance(torch.tensor([-3.0, 0.0, 63.0])) == 0
    assert grid_distance(torch.tensor([0.5, -1.5])) == 3.0
    assert grid_distance(torch.linspace(0, 60, 60_001)).item() == pytest.approx(1.0, abs=1e-3)


def test_a_uniform_distribution_has_the_wanted_kurtosis_and_a_normal_one_has_not() -> None:
    torch.manual_seed(0)
    assert kurtosis_distance(torch.linspace(-63, 63, 10_001)) < 1e-4
    assert kurtosis_distance(10 * torch.randn(100_000)).item() == pytest.approx(1.2**2, abs=0.1)


@pytest.mark.parametrize("term", [grid_distance, kurtosis_distance])
def test_the_gradient_is_the_numerical_one(term) -> None:
    torch.manual_seed(1)
    steps = (torch.rand(6, dtype=torch.float64) * 0.8 - 0.4).requires_grad_()
    assert torch.autograd.gradcheck(term, (steps,))


def test_each_term_can_be_switched_off() -> None:
    layers = [torch.tensor([0.25, 1.0, -3.0]), torch.tensor([0.5, 2.0])]
    grid, kurtosis = QuantRegulariser(grid=2.0)(layers), QuantRegulariser(kurtosis=3.0)(layers)
    assert QuantRegulariser()(layers) == 0
    assert grid.item() == pytest.approx(2.0 * sum(grid_distance(x).item() for x in layers) / 2)
    assert kurtosis.item() == pytest.approx(3.0 * sum(kurtosis_distance(x).item() for x in layers) / 2)
    assert QuantRegulariser(2.0, 3.0)(layers).item() == pytest.approx(grid.item() + kurtosis.item())


@pytest.mark.parametrize(
    "layer",
    [
        torch.zeros(0),
        torch.zeros(4),
        torch.full((3,), 7.3),
        torch.tensor([2.4]),
        torch.tensor([65504.0, -65504.0], dtype=torch.float16),
        torch.tensor([1e-7, 0.0], dtype=torch.bfloat16),
    ],
    ids=["empty", "zeros", "constant", "single", "fp16", "bf16"],
)
def test_loss_and_gradient_are_finite_on_degenerate_layers(layer: torch.Tensor) -> None:
    layer = layer.clone().requires_grad_()
    loss = QuantRegulariser(1.0, 1.0)([layer])
    assert loss.isfinite()
    if layer.numel():
        loss.backward()
        assert layer.grad is not None and layer.grad.isfinite().all()


def test_no_layers_cost_nothing() -> None:
    assert QuantRegulariser(1.0, 1.0)([]) == 0


@pytest.mark.parametrize("learned", [False, True], ids=["observed", "learned"])
def test_descending_it_moves_the_networks_weights_to_their_grid(learned: bool) -> None:
    config = QuantConfig(weight_bits=4, learned_ranges=learned)
    network = quantized_network(tiny_network().weights, TINY, config, smooth_patches(TINY, 1))
    regulariser = QuantRegulariser(grid=1.0)
    optimiser = torch.optim.Adam([c.weight for c in network.convs.values()], lr=2e-3)
    before = regulariser(network.weights_in_steps()).item()
    for _ in range(100):
        optimiser.zero_grad()
        regulariser(network.weights_in_steps()).backward()
        optimiser.step()
    assert regulariser(network.weights_in_steps()).item() < before / 4
