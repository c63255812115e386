"""The network in fake quantization is the integer graph: same integers, same classes, and it can be trained."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from Testing.Library.quantization.tiny import TINY, WIDE, smooth_patches, tiny_network
from ToothTopoSegLib.quantization.bundle import load_bundle
from ToothTopoSegLib.quantization.calibrate import calibrate, run_float
from ToothTopoSegLib.quantization.config import QuantConfig
from ToothTopoSegLib.quantization.export import float_weights_path, quantized, trained_in_integers
from ToothTopoSegLib.quantization.fake_quant import QatNetwork, quantized_network
from ToothTopoSegLib.quantization.fold import fold, read_weights, supervision_heads, unfold
from ToothTopoSegLib.quantization.graph import Concat, Conv, Graph, Shuffle
from ToothTopoSegLib.training.losses.overlap import deep_supervision_loss
from ToothTopoSegLib.training.network import Plan, build_network

DEEP = Plan(patch=(16, 16, 32), features=(3, 4, 5, 6), convs=(2, 1, 1, 2), convs_decoder=(1, 1, 2), classes=7)
CONFIGS = {
    "default": QuantConfig(),
    "least error": QuantConfig(observer="mse", weight_observer="mse"),
    "learned": QuantConfig(learned_ranges=True),
    "symmetric": QuantConfig(symmetric_activations=True, observer="minmax"),
    "per tensor": QuantConfig(weights_per_channel=False),
    "learned, 4 bits": QuantConfig(weight_bits=4, learned_ranges=True, symmetric_activations=True),
}


def _network(plan: Plan = TINY, config: QuantConfig | None = None) -> QatNetwork:
    return quantized_network(tiny_network(plan).weights, plan, config or QuantConfig(), smooth_patches(plan))


def _levels(network: QatNetwork, image: np.ndarray) -> np.ndarray:
    """The integer scores (1, classes, z, y, x) of a network in eval mode."""
    with torch.inference_mode():
        scores = network.eval()(torch.from_numpy(image)).numpy()
    affine = network.exported().activations["scores"]
    return np.rint(scores / affine.scale) + affine.zero_point


def _exported_levels(network: QatNetwork, patch: tuple[int, int, int], image: np.ndarray) -> np.ndarray:
    model, _ = trained_in_integers(network, Plan(patch=patch))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"image": image})[0]


def _trained(network: QatNetwork, plan: Plan, steps: int = 3) -> list[float]:
    """Losses of a few steps towards random classes, in the memory format that training uses."""
    network.train().to(memory_format=torch.channels_last_3d)
    optimiser = torch.optim.AdamW(network.parameters(), lr=5e-3)
    images = torch.from_numpy(np.concatenate(smooth_patches(plan, 2, seed=4)))
    classes = (images[:, 0] > 0.5).long()
    losses = []
    for _ in range(steps):
        loss = deep_supervision_loss(network(images.to(memory_format=torch.channels_last_3d)), classes)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("plan", [TINY, WIDE, DEEP], ids=["tiny", "wide", "deep"])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_the_network_and_its_exported_graph_give_the_same_integers(plan: Plan, config: QuantConfig) -> None:
    network = _network(plan, config)
    for image in smooth_patches(plan, 2, seed=9):
        expected = _exported_levels(network, plan.patch, image)
        found = _levels(network, image)
        assert (found != expected).mean() < 1e-5
        assert (found.argmax(1) == expected.argmax(1)).mean() >= 0.9999
        assert len(np.unique(expected.argmax(1))) > 2


@pytest.mark.parametrize("config", [CONFIGS["default"], CONFIGS["learned"]], ids=["default", "learned"])
def test_they_still_agree_after_training(config: QuantConfig) -> None:
    network = _network(TINY, config)
    before = network.exported()
    losses = _trained(network, TINY, 12)
    assert losses[-1] < losses[0]
    after = network.exported()
    assert after.activations != before.activations  # observed or learned
    image = smooth_patches(TINY, 1, seed=9)[0]
    found, expected = _levels(network, image), _exported_levels(network, TINY.patch, image)
    assert (found.argmax(1) == expected.argmax(1)).mean() >= 0.9999 and (found != expected).mean() < 1e-5


def test_the_bundled_networks_weights_give_the_classes_of_their_exported_graph() -> None:
    bundle = load_bundle()
    plan = Plan.from_dict(bundle.card["plan"] | {"patch": [32, 48, 48]})
    weights = read_weights(float_weights_path(bundle.path))
    network = quantized_network(weights, plan, QuantConfig(), smooth_patches(plan, 2))
    for image in smooth_patches(plan, 2, seed=5):
        found, expected = _levels(network, image), _exported_levels(network, plan.patch, image)
        assert (found.argmax(1) == expected.argmax(1)).mean() >= 0.9999


def test_fake_quantization_stays_near_the_float_network() -> None:
    tiny = tiny_network(WIDE, seed=5, lively=False)
    network = quantized_network(tiny.weights, WIDE, QuantConfig(), smooth_patches(WIDE)).eval()
    image = smooth_patches(WIDE, 1, seed=9)[0]
    real = run_float(tiny.graph, image)
    with torch.inference_mode():
        found = network(torch.from_numpy(image)).numpy()
    assert np.abs(found - real).mean() < 0.03 * real.std()


def test_every_parameter_has_a_finite_gradient_that_is_not_all_zero() -> None:
    network = _network(DEEP, CONFIGS["learned"]).train()
    image = torch.from_numpy(smooth_patches(DEEP, 1)[0])
    sum(scores.square().mean() for scores in network(image)).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        if name.endswith(("weight", "bias", "log_scale")):
            assert parameter.grad.abs().sum() > 0, name


def test_the_gradient_of_a_weight_is_that_of_the_float_network_but_for_rounding() -> None:
    network = _network(WIDE).train()
    network.freeze_ranges()
    image = torch.from_numpy(smooth_patches(WIDE, 1)[0])
    network(image)[0].square().mean().backward()
    tiny = tiny_network(WIDE)
    weight = tiny.network.decoder.seg_layers[-1].weight
    tiny.network(image).square().mean().backward()
    found, expected = network.convs["scores"].weight.grad, weight.grad
    assert torch.nn.functional.cosine_similarity(found.flatten(), expected.flatten(), 0) > 0.98


def test_in_training_mode_there_are_the_scores_of_every_resolution_as_in_nnunet() -> None:
    network = _network(DEEP)
    image = torch.from_numpy(smooth_patches(DEEP, 1)[0])
    expected = [scores.shape for scores in build_network(DEEP)(image)]
    assert [scores.shape for scores in network.train()(image)] == expected
    assert network.eval()(image).shape == expected[0]


def test_the_further_heads_give_what_they_give_in_nnunet() -> None:
    torch.manual_seed(3)
    full = build_network(DEEP).eval()
    weights = {name: value.detach().numpy() for name, value in full.state_dict().items()}
    network = quantized_network(weights, DEEP, QuantConfig(), smooth_patches(DEEP, 2)).train()
    image = torch.from_numpy(smooth_patches(DEEP, 1)[0])
    with torch.no_grad():
        for found, expected in zip(network(image), full(image), strict=True):
            assert (found - expected).abs().mean() < 0.05 * expected.std()


def test_in_float_it_is_the_folded_network_with_its_heads() -> None:
    network, tiny = _network(WIDE), tiny_network(WIDE)
    network.in_float = True
    image = smooth_patches(WIDE, 1, seed=9)[0]
    with torch.no_grad():
        found = network.eval()(torch.from_numpy(image)).numpy()
        heads = network.train()(torch.from_numpy(image))
    np.testing.assert_allclose(found, run_float(tiny.graph, image), rtol=1e-4, atol=1e-4)
    assert len(heads) == len(network.head_sources) + 1


@pytest.mark.parametrize("name", ["default", "learned"])
def test_what_learnt_in_float_goes_on_in_integers_with_ranges_of_its_own(name: str) -> None:
    network = _network(TINY, CONFIGS[name])
    network.freeze_ranges()
    before = network.exported()
    network.in_float = True
    losses = _trained(network, TINY, 12)
    assert losses[-1] < losses[0]
    assert network.exported().activations == before.activations
    network.observe_anew(smooth_patches(TINY))
    assert network.in_float
    network.in_float = False
    after = network.exported()
    assert after.activations != before.activations
    image = smooth_patches(TINY, 1, seed=9)[0]
    assert (_levels(network, image) != _exported_levels(network, TINY.patch, image)).mean() < 1e-5
    network.train()(torch.from_numpy(5 * image))
    assert network.exported().activations == after.activations  # kept


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_quantization_aware_training_begins_where_post_training_quantization_ends(config: QuantConfig) -> None:
    tiny, image = tiny_network(WIDE), smooth_patches(WIDE, 1, seed=9)[0]
    network = _network(WIDE, config)
    found, expected = network.exported().activations, calibrate(tiny.graph, smooth_patches(WIDE), config)
    for name in set(network.ranges.values()):
        assert found[name].scale == pytest.approx(expected[name].scale, rel=1e-6), name
        assert abs(found[name].zero_point - expected[name].zero_point) <= 1, name
    model, _ = quantized(tiny.graph, smooth_patches(WIDE), WIDE, config)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    scores = session.run(None, {"image": image})[0]
    assert (scores.argmax(1) == _levels(network, image).argmax(1)).mean() > 0.99


def test_ranges_are_observed_while_training_and_kept_once_frozen() -> None:
    network = _network(TINY)
    bright = torch.from_numpy(3 * smooth_patches(TINY, 1)[0])
    before = network.exported().activations
    network.eval()(bright)
    assert network.exported().activations == before
    network.train()(bright)
    moved = network.exported().activations
    assert moved["image"].scale > before["image"].scale
    network.freeze_ranges()
    network(bright)
    assert network.exported().activations == moved


def test_autocast_does_not_change_an_integer() -> None:
    network = _network(TINY).eval()
    image = torch.from_numpy(smooth_patches(TINY, 1)[0])
    with torch.no_grad():
        expected = network(image)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(network(image), expected)


@pytest.mark.parametrize("value", [0.0, 5.0, float("nan"), float("inf"), -65504.0])
def test_an_image_without_contrast_or_numbers_gives_finite_scores(value: float) -> None:
    network = _network(TINY, CONFIGS["learned"])
    image = torch.full((1, 1, *TINY.patch), value)
    if np.isnan(value):
        image[...] = 0.0
        image[0, 0, 0, 0, 0] = 3e38
    loss = network.train()(image)[0].mean()
    loss.backward()
    assert loss.isfinite()


def test_calibration_needs_a_patch() -> None:
    with pytest.raises(ValueError, match="at least one patch"):
        quantized_network(tiny_network().weights, TINY, QuantConfig(), [])


@pytest.mark.parametrize("name", ["default", "learned"])
def test_a_checkpoint_restores_the_network_with_its_ranges(name: str, tmp_path: Path) -> None:
    network = _network(TINY, CONFIGS[name])
    _trained(network, TINY)
    network.freeze_ranges()
    network.in_float = True
    torch.save(network.state_dict(), tmp_path / "checkpoint.pt")
    weights = tiny_network(TINY).weights
    twin = QatNetwork(fold(weights, TINY), CONFIGS[name], supervision_heads(weights, TINY))
    twin.load_state_dict(torch.load(tmp_path / "checkpoint.pt", weights_only=True))
    assert twin.in_float
    network.in_float = twin.in_float = False
    image = smooth_patches(TINY, 1, seed=8)[0]
    np.testing.assert_array_equal(_levels(twin, image), _levels(network, image))
    twin.train()(torch.from_numpy(5 * image))
    assert twin.exported().activations == network.exported().activations  # still frozen


def test_a_copy_follows_the_network_as_moving_averages_of_weights_do() -> None:
    network = _network(TINY)
    twin = copy.deepcopy(network).eval()
    _trained(network, TINY)
    with torch.no_grad():
        for slow, fast in zip(twin.parameters(), network.parameters(), strict=True):
            slow.lerp_(fast, 1.0)
        for slow, fast in zip(twin.buffers(), network.buffers(), strict=True):
            slow.copy_(fast)
    image = smooth_patches(TINY, 1, seed=8)[0]
    np.testing.assert_array_equal(_levels(twin, image), _levels(network, image))


def test_after_training_the_weights_are_again_those_of_an_unchanged_nnunet(tmp_path: Path) -> None:
    network = _network(DEEP)
    _trained(network, DEEP)
    exported = network.exported()
    weights = unfold(exported.graph, network.exported_heads(), DEEP)
    plain = build_network(DEEP)
    names = {name for name in plain.state_dict() if "all_modules" not in name and "decoder.encoder" not in name}
    assert set(weights) == {name for name in names if not name.endswith("num_batches_tracked")}
    for found, expected in zip(fold(weights, DEEP).nodes, exported.graph.nodes, strict=True):
        if isinstance(expected, Conv):
            assert isinstance(found, Conv)
            np.testing.assert_allclose(found.weight, expected.weight, rtol=1e-6, atol=1e-9)
            np.testing.assert_allclose(found.bias, expected.bias, rtol=1e-6, atol=1e-9)
    heads = supervision_heads(weights, DEEP)
    assert list(heads) == list(network.exported_heads())
    plain.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()}, strict=False)


def test_a_channel_without_weights_keeps_its_bias() -> None:
    weight = np.zeros((3, 1, 3, 3, 3), np.float32)
    weight[0] = 0.1
    graph = Graph((Conv("scores", "image", weight, np.array([0.0, 0.5, -0.25], np.float32)),))
    network = QatNetwork(graph, QuantConfig())
    network.calibrate([np.zeros((1, 1, 4, 4, 4), np.float32)])
    image = np.zeros((1, 1, 4, 4, 4), np.float32)
    found = _levels(network, image)
    np.testing.assert_array_equal(found, _exported_levels(network, (4, 4, 4), image))
    assert network.exported().activations["scores"].scale * (found[0, 1, 0, 0, 0] - found[0, 0, 0, 0, 0]) == (
        pytest.approx(0.5, abs=0.01)
    )


def test_a_shuffle_shares_the_range_of_what_it_moves() -> None:
    spread = np.eye(8, 1).reshape(8, 1, 1, 1, 1).astype(np.float32)
    one = np.ones((1, 1, 1, 1, 1), np.float32)
    graph = Graph(
        (
            Conv("low", "image", one, np.zeros(1, np.float32), stride=2),
            Conv("up.conv", "low", spread, np.zeros(8, np.float32)),
            Shuffle("up", "up.conv"),
            Conv("same", "image", one, np.zeros(1, np.float32)),
            Concat("cat", ("up", "same")),
            Conv("scores", "cat", np.ones((2, 2, 1, 1, 1), np.float32), np.zeros(2, np.float32)),
        )
    )
    network = QatNetwork(graph, QuantConfig())
    image = np.random.default_rng(0).normal(size=(1, 1, 4, 4, 4)).astype(np.float32)
    network.calibrate([image])
    activations = network.exported().activations
    assert activations["up"] == activations["up.conv"] != activations["cat"]
    np.testing.assert_array_equal(_levels(network, image), _exported_levels(network, (4, 4, 4), image))
