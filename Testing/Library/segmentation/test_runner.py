"""The runner gives the network's scores, or says in one sentence why it cannot."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from Testing.Library.quantization.tiny import TINY
from ToothTopoSegLib.errors import ModelError, UsageError
from ToothTopoSegLib.quantization.bundle import Bundle, load_bundle
from ToothTopoSegLib.segmentation.runner import Runner


def _patch(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=TINY.patch).astype(np.float32)


def test_a_patch_gives_one_score_a_class_and_voxel(tiny_bundle: Path) -> None:
    runner = Runner(load_bundle(tiny_bundle))
    scores = runner(_patch())
    assert runner.classes == TINY.classes
    assert scores.shape == (TINY.classes, *TINY.patch) and scores.dtype == np.uint8
    assert len(np.unique(scores)) > 50


@pytest.mark.parametrize("threads", [1, 2, None])
@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_device_and_threads_do_not_change_the_scores(tiny_bundle: Path, device: str, threads: int | None) -> None:
    bundle = load_bundle(tiny_bundle)
    expected = Runner(bundle, "cpu", 1)(_patch())
    np.testing.assert_array_equal(Runner(bundle, device, threads)(_patch()), expected)


def test_a_patch_of_any_number_type_and_memory_order_is_taken(tiny_bundle: Path) -> None:
    runner = Runner(load_bundle(tiny_bundle), threads=1)
    turned = _patch().transpose(2, 1, 0)
    np.testing.assert_array_equal(runner(turned), runner(np.ascontiguousarray(turned)))
    np.testing.assert_array_equal(runner(turned.astype(np.float64)), runner(turned))


def test_an_unknown_device_is_wrong_usage(tiny_bundle: Path) -> None:
    with pytest.raises(UsageError, match="device 'tpu' is unknown; use auto, cpu or cuda"):
        Runner(load_bundle(tiny_bundle), "tpu")


def test_cuda_where_there_is_none_is_wrong_usage(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(UsageError, match="No CUDA device"):
        Runner(load_bundle(tiny_bundle), "cuda")


@pytest.mark.parametrize("threads", [0, -2])
def test_fewer_than_one_thread_is_wrong_usage(tiny_bundle: Path, threads: int) -> None:
    with pytest.raises(UsageError, match="at least 1 is needed"):
        Runner(load_bundle(tiny_bundle), threads=threads)


@pytest.mark.parametrize("content", [b"", b"this is no model", bytes(5000)])
def test_what_is_no_onnx_model_is_refused_though_its_hash_is_right(
    tmp_path: Path, tiny_bundle: Path, content: bytes
) -> None:
    card = json.loads(tiny_bundle.with_suffix(".json").read_text(encoding="utf-8"))
    card["sha256"] = hashlib.sha256(content).hexdigest()
    (tmp_path / "no.onnx").write_bytes(content)
    (tmp_path / "no.json").write_text(json.dumps(card), encoding="utf-8")
    with pytest.raises(ModelError, match=r"cannot load the model no\.onnx") as caught:
        Runner(load_bundle(tmp_path / "no.onnx"))
    assert "\n" not in str(caught.value)


def test_a_model_of_another_patch_size_than_its_card_is_refused(tiny_bundle: Path) -> None:
    bundle = load_bundle(tiny_bundle)
    other = Bundle(bundle.path, bundle.model, bundle.card | {"plan": {"patch": [16, 16, 32], "spacing": 1.0}})
    with pytest.raises(ModelError, match="takes no patches of the size on its card"):
        Runner(other)
