"""Equalised networks compute the same as before, with channels that reach equally far."""

from __future__ import annotations

import numpy as np
import pytest

from ToothTopoSegLib.quantization.calibrate import run_float
from ToothTopoSegLib.quantization.equalise import equalised, readers_of
from ToothTopoSegLib.quantization.graph import Add, Concat, Conv, Graph, InstanceNorm, LeakyRelu, Node, Shuffle

CHANNELS = 4
SHAPE = (4, 6, 8)
READ_BY_CONVOLUTIONS = ("fine.act", "up", "last.act")
"""Activations of the network below that may be scaled: not those of its residual sum."""


def _conv(name: str, source: str, rng: np.random.Generator, channels: int, out: int, stride: int = 1) -> Conv:
    uneven = rng.choice([0.2, 1.0, 3.0], out)[:, None, None, None, None]
    weight = rng.normal(size=(out, channels, *(3 if stride == 1 else 2,) * 3))
    return Conv(name, source, (weight * uneven).astype(np.float32), rng.normal(size=out).astype(np.float32), stride)


def _network(seed: int, normed: bool) -> Graph:
    """Two levels with a skip, a residual sum on the coarse one, and channels of very different size."""
    rng = np.random.default_rng(seed)

    def block(name: str, source: str, channels: int, stride: int = 1) -> list[Node]:
        conv = _conv(f"{name}.conv", source, rng, channels, CHANNELS, stride)
        scale, bias = (rng.uniform(0.02, 5, CHANNELS).astype(np.float32) for _ in range(2))
        norm = [InstanceNorm(f"{name}.norm", conv.name, scale, bias)] if normed else []
        return [conv, *norm, LeakyRelu(f"{name}.act", norm[0].name if normed else conv.name)]

    nodes = [*block("fine", "image", 1), *block("down", "fine.act", CHANNELS, 2), *block("deep", "down.act", CHANNELS)]
    nodes += [Add("sum", ("down.act", "deep.act")), _conv("up.conv", "sum", rng, CHANNELS, 8 * CHANNELS)]
    nodes += [Shuffle("up", "up.conv"), Concat("cat", ("up", "fine.act")), *block("last", "cat", 2 * CHANNELS)]
    return Graph((*nodes, _conv("scores", "last.act", rng, CHANNELS, 3)))


def _patches(seed: int) -> list[np.ndarray]:
    return [np.random.default_rng(seed + i).normal(size=(1, 1, *SHAPE)).astype(np.float32) for i in range(2)]


def _seen(graph: Graph, patches: list[np.ndarray]) -> dict[str, np.ndarray]:
    """How far each channel of each activation reaches."""
    seen: dict[str, np.ndarray] = {}

    def watch(name, values):
        reach = values.abs().amax((0, 2, 3, 4)).numpy()
        seen[name] = np.maximum(seen.get(name, reach), reach)

    for patch in patches:
        run_float(graph, patch, watch)
    return seen


@pytest.mark.parametrize("normed", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_an_equalised_network_computes_the_same(seed: int, normed: bool) -> None:
    graph, patches = _network(seed, normed), _patches(seed)
    changed = equalised(graph, patches)
    other = np.random.default_rng(99).normal(size=(1, 1, *SHAPE))
    expected = run_float(graph, other)
    np.testing.assert_allclose(run_float(changed, other), expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("normed", [True, False])
def test_channels_that_convolutions_read_reach_one(normed: bool) -> None:
    graph, patches = _network(5, normed), _patches(5)
    seen = _seen(equalised(graph, patches), patches)
    assert np.ptp(_seen(graph, patches)["up"]) > 1
    for name in READ_BY_CONVOLUTIONS:
        assert seen[name].max() <= 1 + 1e-5 and np.median(seen[name]) > 0.3, name
    np.testing.assert_allclose(seen["up"], 1, rtol=1e-4)


def test_a_residual_sum_and_the_scores_stay_as_they_are() -> None:
    graph, patches = _network(6, normed=True), _patches(6)
    before, after = _seen(graph, patches), _seen(equalised(graph, patches), patches)
    for name in ("down.act", "deep.act", "sum", "scores"):
        np.testing.assert_allclose(after[name], before[name], rtol=1e-4)


def test_readers_are_found_behind_a_concatenation() -> None:
    graph = _network(7, normed=False)
    assert readers_of(graph, "down.conv") is None and readers_of(graph, "scores") is None
    found = readers_of(graph, "fine.conv")
    assert found is not None
    assert {(reader.name, reader.first) for reader in found} == {("down.conv", 0), ("last.conv", CHANNELS)}


def test_a_channel_that_never_leaves_zero_stays_finite() -> None:
    graph, patches = _network(8, normed=False), _patches(8)
    first = graph.nodes[0]
    assert isinstance(first, Conv)
    first.weight[0], first.bias[0] = 0, 0
    changed = equalised(graph, patches)
    assert all(np.isfinite(node.weight).all() for node in changed.nodes if isinstance(node, Conv))
