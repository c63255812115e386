"""Folding norms and transposed convolutions away changes nothing but rounding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from Testing.Library.quantization.tiny import TINY, WIDE, Tiny, smooth_patches, tiny_network
from ToothTopoSegLib.errors import ModelError
from ToothTopoSegLib.quantization.calibrate import run_float
from ToothTopoSegLib.quantization.fold import fold, read_weights
from ToothTopoSegLib.quantization.graph import Conv, Graph, LeakyRelu, Shuffle
from ToothTopoSegLib.quantization.onnx_graph import float_model
from ToothTopoSegLib.training.network import Plan

DEEP = Plan(patch=(16, 16, 32), features=(3, 4, 5, 6), convs=(2, 1, 1, 2), convs_decoder=(1, 1, 2), classes=7)


def _scores(network: torch.nn.Module, image: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return network(torch.from_numpy(image)).numpy()


def _run(model: bytes, image: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: image})[0]


@pytest.mark.parametrize("plan", [TINY, WIDE, DEEP], ids=["tiny", "wide", "deep"])
def test_the_folded_graph_gives_the_scores_of_the_network(plan: Plan) -> None:
    tiny = tiny_network(plan)
    image = smooth_patches(plan, 1)[0]
    expected, found = _scores(tiny.network, image), run_float(tiny.graph, image)
    assert found.shape == expected.shape == (1, plan.classes, *plan.patch)
    assert expected.std() > 0.05  # a network that says the same everywhere would prove nothing
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_float_onnx_model_gives_the_scores_of_the_folded_graph() -> None:
    tiny = tiny_network(DEEP, seed=3)
    image = smooth_patches(DEEP, 1)[0]
    np.testing.assert_allclose(
        _run(float_model(tiny.graph, DEEP.patch), image), run_float(tiny.graph, image), atol=1e-4
    )


def test_a_transposed_convolution_is_a_small_convolution_and_a_pixel_shuffle() -> None:
    rng = np.random.default_rng(0)
    up = torch.nn.ConvTranspose3d(3, 2, 2, 2)
    kernel, bias = up.weight.detach().numpy(), up.bias.detach().numpy()
    conv = Conv("conv", "image", kernel.reshape(3, 16).T[:, :, None, None, None], np.repeat(bias, 8))
    image = rng.normal(size=(1, 3, 2, 3, 4)).astype(np.float32)
    found = run_float(Graph((conv, Shuffle("up", "conv"))), image)
    np.testing.assert_allclose(found, up(torch.from_numpy(image)).detach().numpy(), atol=1e-5)


def test_the_pixel_shuffle_puts_a_channel_of_eight_at_its_corner_of_the_voxel() -> None:
    channels = np.arange(8, dtype=np.float32).reshape(1, 8, 1, 1, 1)
    found = run_float(Graph((Shuffle("up", "image"),)), channels)
    np.testing.assert_array_equal(found[0, 0], [[[0, 1], [2, 3]], [[4, 5], [6, 7]]])


def test_a_leaky_relu_keeps_a_hundredth_of_what_is_negative() -> None:
    found = run_float(Graph((LeakyRelu("act", "image"),)), np.array([-2.0, 0.0, 3.0]).reshape(1, 1, 1, 1, 3))
    np.testing.assert_allclose(found.ravel(), [-0.02, 0.0, 3.0])


def test_a_missing_weight_is_named(tiny: Tiny) -> None:
    weights = dict(tiny.weights)
    del weights["encoder.stages.1.0.convs.0.norm.running_mean"]
    with pytest.raises(KeyError, match="running_mean"):
        fold(weights, TINY)


def test_weights_are_read_from_half_precision_as_float32(tiny_bundle: Path, tiny: Tiny) -> None:
    weights = read_weights(tiny_bundle.with_name("tiny_float16.safetensors"))
    assert set(weights) == set(tiny.weights) and {w.dtype for w in weights.values()} == {np.dtype(np.float32)}
    assert all(np.array_equal(weights[name], tiny.weights[name]) for name in weights)


def test_a_damaged_weights_file_gives_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    with pytest.raises(ModelError, match=r"cut\.safetensors cannot be read") as caught:
        read_weights(tmp_path / "cut.safetensors")
    assert "\n" not in str(caught.value)
