"""Norm statistics of a scan mixed into those of the training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from Testing.Library.quantization.tiny import TINY, tiny_network
from ToothTopoSegLib.quantization.calibrate import run_float
from ToothTopoSegLib.quantization.fold import fold
from ToothTopoSegLib.training.scan_statistics import with_scan_statistics


@pytest.fixture(scope="module")
def weights() -> dict[str, np.ndarray]:
    return tiny_network(TINY).weights


@pytest.fixture(scope="module")
def tiles() -> np.ndarray:
    return np.random.default_rng(3).normal(0.5, 2.0, (2, *TINY.patch)).astype(np.float32)


def test_nothing_of_the_scan_leaves_the_weights_as_they_are(weights, tiles) -> None:
    mixed = with_scan_statistics(weights, TINY, tiles, 0.0)
    assert mixed.keys() == weights.keys()
    for name, value in weights.items():
        np.testing.assert_allclose(mixed[name], value, rtol=1e-5, atol=1e-6)


def test_the_scan_alone_gives_what_norms_that_measure_the_batch_give(weights, tiles) -> None:
    mixed = with_scan_statistics(weights, TINY, tiles, 1.0)
    network = tiny_network(TINY).network
    network.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()}, strict=False)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.train()
    with torch.inference_mode():
        outputs = network(torch.from_numpy(tiles[:, None]))
    expected = (outputs[0] if isinstance(outputs, list) else outputs)[:1].numpy()
    np.testing.assert_allclose(run_float(fold(mixed, TINY), tiles[:1, None]), expected, rtol=1e-3, atol=1e-3)


def test_the_scans_own_statistics_do_not_change_when_taken_again(weights, tiles) -> None:
    once = with_scan_statistics(weights, TINY, tiles, 1.0)
    again = with_scan_statistics(once, TINY, tiles, 1.0)
    assert any(not np.allclose(once[name], weights[name], atol=1e-2) for name in weights)
    for name, value in once.items():
        np.testing.assert_allclose(again[name], value, rtol=1e-4, atol=1e-5)


def test_a_mixture_has_the_mean_of_both_and_the_variance_of_all(weights, tiles) -> None:
    first = next(name for name in weights if name.endswith("running_mean")).removesuffix(".running_mean")
    parts = [with_scan_statistics(weights, TINY, tiles, share) for share in (0.0, 0.25, 1.0)]
    (m0, m, m1), (v0, v, v1) = ([p[f"{first}.running_{what}"] for p in parts] for what in ("mean", "var"))
    np.testing.assert_allclose(m, 0.75 * m0 + 0.25 * m1, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(v, 0.75 * v0 + 0.25 * v1 + 0.75 * 0.25 * (m1 - m0) ** 2, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_is_between_nothing_and_all(weights, tiles, share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        with_scan_statistics(weights, TINY, tiles, share)
