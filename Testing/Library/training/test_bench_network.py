"""The bench of one patch: its forms compute one network; the page says what was measured and what is missing."""

from __future__ import annotations

import json

import numpy as np
import onnxruntime
import pytest

from Testing.Library.quantization.tiny import TINY, smooth_patches, tiny_network
from ToothTopoSegLib.errors import UsageError
from ToothTopoSegLib.quantization.config import QuantConfig
from ToothTopoSegLib.quantization.export import quantized
from ToothTopoSegLib.quantization.graph import Conv, Graph, Shuffle
from ToothTopoSegLib.training import bench_network as bench


def _run(model: bytes, image: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, {"image": image})[0]


def test_the_form_for_other_engines_is_the_same_integer_graph() -> None:
    model, _ = quantized(tiny_network().graph, smooth_patches(TINY), TINY, QuantConfig())
    image = smooth_patches(TINY, 1, seed=5)[0]
    away = np.abs(_run(bench.between_floats(model), image).astype(int) - _run(model, image))
    assert away.max() <= 1 and (away > 0).mean() < 1e-3


def test_products_are_counted_as_on_paper() -> None:
    first = Conv("a", "image", np.zeros((8, 1, 3, 3, 3), np.float32), np.zeros(8, np.float32), 2)
    last = Conv("c", "b", np.zeros((5, 1, 1, 1, 1), np.float32), np.zeros(5, np.float32))
    products = bench.count_products(Graph((first, Shuffle("b", "a"), last)), (4, 6, 8))
    assert products == 2 * 3 * 4 * 27 * 8 + 4 * 6 * 8 * 5


def test_a_patch_that_the_strides_do_not_divide_is_refused() -> None:
    with pytest.raises(UsageError, match="multiple of 16"):
        bench.bench_network("bundled", (16, 16, 20))


@pytest.mark.parametrize("engine", ["ONNX Runtime FP32", "ONNX Runtime QDQ INT8", bench.OURS, bench.FLOOR])
def test_every_engine_is_timed_and_a_missing_package_is_named(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {engine: "onnxruntime", bench.OURS: "onnxruntime", "Other": "no_such_package"}
    monkeypatch.setattr(bench, "ENGINES", kept)
    monkeypatch.setattr(bench, "_network", lambda name: (TINY, tiny_network().weights))
    report = bench.bench_network("bundled", threads=(1,), repeats=1)
    rows = report["threads"]["1"]
    assert rows[bench.OURS]["times_ours"] == 1 and rows[engine]["seconds"] > 0
    assert "pip install no_such_package" in bench.table(report)
    json.dumps(report)


def test_an_engine_that_fails_is_said_to_and_the_others_are_timed() -> None:
    rows = {bench.OURS: {"seconds": 2.0, "peak_mb": 10.0}, "bad": bench._summary("bad", [{"error": "no such model"}])}
    found = bench._with_ratios(rows, 1)
    assert found["bad"] == {"error": "no such model"} and found[bench.OURS]["times_ours"] == 1
