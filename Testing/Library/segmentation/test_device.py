"""The choice of a device, with providers that are only said to be there: no test needs a GPU."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from Testing.Library.quantization.tiny import TINY
from ToothTopoSegLib.errors import ModelError, UsageError
from ToothTopoSegLib.quantization.bundle import load_bundle
from ToothTopoSegLib.segmentation import device
from ToothTopoSegLib.segmentation.device import CPU, CUDA, attempts
from ToothTopoSegLib.segmentation.runner import Runner


@pytest.fixture
def with_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime says that it has CUDA."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])


def _patch() -> np.ndarray:
    return np.random.default_rng(0).normal(size=TINY.patch).astype(np.float32)


def _without_weights(bundle: Path, folder: Path) -> Path:
    for name in (bundle.name, bundle.with_suffix(".json").name):
        shutil.copy(bundle.with_name(name), folder / name)
    return folder / bundle.name


def test_without_a_gpu_auto_is_the_integer_graph_on_the_processor(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU])
    bundle = load_bundle(tiny_bundle)
    ways, note = attempts(bundle, "auto")
    assert [(way.bundle, way.providers) for way in ways] == [(bundle, (CPU,))] and note == ""


@pytest.mark.usefixtures("with_cuda")
def test_with_a_gpu_auto_is_the_half_precision_graph_there_and_then_the_integer_one(tiny_bundle: Path) -> None:
    bundle = load_bundle(tiny_bundle)
    (gpu, processor), note = attempts(bundle, "auto")
    assert gpu.providers == (CUDA, CPU) and gpu.bundle.card["precision"] == "float16"
    assert processor.bundle is bundle and processor.providers == (CPU,) and note == ""


@pytest.mark.usefixtures("with_cuda")
def test_the_processor_can_be_chosen_beside_a_gpu(tiny_bundle: Path) -> None:
    bundle = load_bundle(tiny_bundle)
    assert [way.bundle for way in attempts(bundle, "cpu")[0]] == [bundle]


@pytest.mark.usefixtures("with_cuda")
def test_a_gpu_that_does_not_start_is_told_in_one_sentence_and_the_processor_gives_the_same_scores(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = onnxruntime.InferenceSession

    def broken(model: bytes, options: Any, providers: list[str]) -> Any:
        if CUDA in providers:
            raise RuntimeError("CUDA failure 35: driver too old\nmore lines")
        return start(model, options, providers=providers)

    monkeypatch.setattr(onnxruntime, "InferenceSession", broken)
    bundle = load_bundle(tiny_bundle)
    runner = Runner(bundle, "auto", 1)
    assert runner.note.startswith("The GPU did not start (CUDA failure 35: driver too old), so the processor is used")
    assert runner.note.count(".") == 1 and "\n" not in runner.note
    np.testing.assert_array_equal(runner(_patch()), Runner(bundle, "cpu", 1)(_patch()))
    with pytest.raises(ModelError, match="driver too old"):
        Runner(bundle, "cuda", 1)


@pytest.mark.usefixtures("with_cuda")
def test_a_provider_that_onnxruntime_silently_leaves_out_counts_as_not_started(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime, "InferenceSession", lambda model, options, providers: start(model, options, providers=[CPU])
    )
    runner = Runner(load_bundle(tiny_bundle), "auto", 1)
    assert "cannot load CUDA's libraries" in runner.note
    assert runner(_patch()).dtype == np.uint8


@pytest.mark.usefixtures("with_cuda")
def test_without_float_weights_auto_stays_on_the_processor_and_says_why(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = load_bundle(_without_weights(tiny_bundle, tmp_path))
    ways, note = attempts(bundle, "auto")
    assert [way.bundle for way in ways] == [bundle]
    assert note.startswith("The GPU cannot be used (The float weights tiny_float16.safetensors are missing")
    with pytest.raises(ModelError, match="The GPU cannot be used: The float weights"):
        attempts(bundle, "cuda")


@pytest.mark.usefixtures("with_cuda")
def test_a_package_that_a_gpu_needs_and_that_is_missing_is_named(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(bundle: object) -> None:
        raise ImportError("No module named 'safetensors'", name="safetensors")

    monkeypatch.setattr(device, "half_bundle", lacking)
    assert "the package safetensors is not installed" in attempts(load_bundle(tiny_bundle), "auto")[1]


def test_an_unknown_device_is_wrong_usage_with_or_without_a_gpu(tiny_bundle: Path) -> None:
    with pytest.raises(UsageError, match="'tpu' is unknown"):
        attempts(load_bundle(tiny_bundle), "tpu")
