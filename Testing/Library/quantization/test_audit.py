"""The audit passes integer graphs and names what is float in any other."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from Testing.Library.quantization.tiny import TINY, Tiny, smooth_patches
from ToothTopoSegLib.errors import ModelError
from ToothTopoSegLib.quantization import reference
from ToothTopoSegLib.quantization.audit import audit_graph, audit_model, optimised_graph
from ToothTopoSegLib.quantization.onnx_graph import float_model
from ToothTopoSegLib.quantization.reference import Difference


def _problems(model: bytes) -> list[str]:
    return audit_graph(optimised_graph(model).graph)


def _with_float_end(integer: bytes, operators: list[str]) -> bytes:
    """The integer model with its scores turned into float, ``operators`` run on them, and quantized again if asked."""
    model = onnx.load_from_string(integer)
    graph = model.graph
    source = graph.output[0].name
    for operator in operators:
        scale = ["scores/scale", "scores/zero"] if operator.endswith("Linear") else []
        graph.node.append(helper.make_node(operator, [source, *scale], [f"{source}/{operator}"], name=f"my {operator}"))
        source = f"{source}/{operator}"
    kind = TensorProto.UINT8 if operators[-1] == "QuantizeLinear" else TensorProto.FLOAT
    shape = [d.dim_value for d in graph.output[0].type.tensor_type.shape.dim]
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(source, kind, shape))
    return model.SerializeToString()


def _qdq_model() -> bytes:
    """Convolution, softplus, convolution, in the QuantizeLinear / DequantizeLinear form that quantizers write."""
    rng = np.random.default_rng(0)
    constants = {
        "scale": np.float32(0.05),
        "zero": np.uint8(128),
        "w/scale": np.float32(0.01),
        "w/zero": np.int8(0),
        "w1": rng.integers(-63, 64, (2, 1, 3, 3, 3), np.int8),
        "w2": rng.integers(-63, 64, (2, 2, 3, 3, 3), np.int8),
    }
    nodes = []

    def add(operator: str, inputs: list[str], output: str, **attributes: object) -> str:
        nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def through_integers(source: str) -> str:
        add("QuantizeLinear", [source, "scale", "zero"], f"{source}/q")
        return add("DequantizeLinear", [f"{source}/q", "scale", "zero"], f"{source}/dq")

    source = through_integers("image")
    for number in (1, 2):
        add("DequantizeLinear", [f"w{number}", "w/scale", "w/zero"], f"w{number}/dq")
        source = through_integers(add("Conv", [source, f"w{number}/dq"], f"conv{number}", pads=[1] * 6))
        if number == 1:
            source = through_integers(add("Softplus", [source], "softplus"))
    shape = [1, 1, 8, 8, 8]
    graph = helper.make_graph(
        nodes,
        "qdq",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(source, TensorProto.FLOAT, [1, 2, 8, 8, 8])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def test_the_exported_graph_passes(integer: bytes) -> None:
    assert _problems(integer) == []


def test_the_graph_that_is_audited_is_the_one_that_runs(integer: bytes) -> None:
    operators = {node.op_type for node in optimised_graph(integer).graph.node}
    assert {"QLinearConv", "QLinearLeakyRelu", "QLinearConcat", "QuantizeLinear"} <= operators


def test_a_float_model_fails_by_the_name_of_its_operators(tiny: Tiny) -> None:
    problems = _problems(float_model(tiny.graph, TINY.patch))
    assert any("Conv: not an operator of the integer graph" in p for p in problems)
    assert "0 QuantizeLinear instead of one at the input" in problems
    assert "the output scores is not uint8" in problems


def test_a_model_that_keeps_dequantizing_fails_by_name() -> None:
    problems = _problems(_qdq_model())
    assert any("DequantizeLinear: not an operator of the integer graph" in p for p in problems)
    assert any("Softplus: not an operator of the integer graph" in p for p in problems)
    assert any("quantizes an inner tensor" in p for p in problems)


def test_scores_turned_into_float_at_the_end_fail_by_name(integer: bytes) -> None:
    problems = _problems(_with_float_end(integer, ["DequantizeLinear"]))
    assert "1 x DequantizeLinear: not an operator of the integer graph" in problems
    assert "the output scores/DequantizeLinear is not uint8" in problems


def test_a_float_operator_between_integers_fails_by_name(integer: bytes) -> None:
    problems = _problems(_with_float_end(integer, ["DequantizeLinear", "Softplus", "QuantizeLinear"]))
    assert "1 x Softplus: not an operator of the integer graph" in problems
    assert "2 QuantizeLinear instead of one at the input" in problems
    assert any("my QuantizeLinear" in p and "quantizes an inner tensor" in p for p in problems)


def _unoptimised(integer: bytes) -> onnx.GraphProto:
    return onnx.load_from_string(integer).graph


def test_weights_of_more_than_eight_bits_fail_by_name(integer: bytes) -> None:
    graph = _unoptimised(integer)
    weights = next(c for c in graph.initializer if c.name == "scores/w")
    weights.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights).astype(np.int32), weights.name))
    assert audit_graph(graph) == ["scores: its weights are not 8-bit"]


def test_an_inner_float_tensor_fails_by_name(integer: bytes) -> None:
    graph = _unoptimised(integer)
    graph.value_info.append(helper.make_tensor_value_info("up0", TensorProto.FLOAT16, None))
    assert audit_graph(graph) == ["the inner tensor up0 is float"]


def test_a_second_way_from_the_image_fails_by_name(integer: bytes) -> None:
    graph = _unoptimised(integer)
    graph.node.append(helper.make_node("Reshape", ["image", "up0/size"], ["aside"], name="aside"))
    assert audit_graph(graph) == ["aside: reads the float image"]


def test_a_bundle_is_audited_with_its_figures(tiny_bundle: Path) -> None:
    report = audit_model(tiny_bundle)
    assert report["passed"] and report["all_uint8_graph"] and report["problems"] == []
    assert report["model"] == "tiny.onnx" and report["bytes"] == tiny_bundle.stat().st_size
    assert report["operators"]["QLinearConv"] == 8 and report["operators"]["QuantizeLinear"] == 1
    assert report["sha256"] == hashlib.sha256(tiny_bundle.read_bytes()).hexdigest()
    assert json.loads(json.dumps(report)) == report


def test_the_comparison_with_the_integer_reference_is_a_claim_of_its_own(tiny_bundle: Path) -> None:
    report = audit_model(tiny_bundle, lambda bundle: smooth_patches(TINY, 2, seed=6))
    assert report["passed"] and report["all_uint8_graph"] and report["equal_to_integer_reference"]
    found = report["integer_reference"]
    assert found["patches"] == 2 and found["scores"] == 2 * TINY.classes * 16**3 and found["differing_scores"] == 0
    assert "equal_to_integer_reference" not in audit_model(tiny_bundle)
    assert json.loads(json.dumps(report)) == report


def test_an_integer_graph_that_differs_from_the_reference_does_not_pass(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    different = Difference(1, 100, 3, 1, 10, 0, {"scores": 3})
    monkeypatch.setattr(reference, "compare_with_reference", lambda model, patches: different)
    report = audit_model(tiny_bundle, lambda bundle: smooth_patches(TINY, 1))
    assert report["all_uint8_graph"] and not report["equal_to_integer_reference"] and not report["passed"]
    assert report["integer_reference"]["layers"] == {"scores": 3}


def test_a_graph_that_is_not_all_integer_is_not_compared(tmp_path: Path, tiny_bundle: Path, tiny: Tiny) -> None:
    _bundle_of(tmp_path, tiny_bundle, float_model(tiny.graph, TINY.patch))
    report = audit_model(tmp_path / "other.onnx", lambda bundle: smooth_patches(TINY, 1))
    assert not report["passed"] and "equal_to_integer_reference" not in report


def test_a_bundle_that_is_not_all_integer_is_told_and_not_raised(tmp_path: Path, tiny_bundle: Path, tiny: Tiny) -> None:
    _bundle_of(tmp_path, tiny_bundle, float_model(tiny.graph, TINY.patch))
    report = audit_model(tmp_path / "other.onnx")
    assert not report["passed"] and not report["all_uint8_graph"] and report["problems"]


def test_a_bundle_that_is_no_onnx_model_gives_one_sentence(tmp_path: Path, tiny_bundle: Path) -> None:
    _bundle_of(tmp_path, tiny_bundle, b"no model at all")
    with pytest.raises(ModelError, match=r"cannot load the model other\.onnx") as caught:
        audit_model(tmp_path / "other.onnx")
    assert "\n" not in str(caught.value)


def _bundle_of(folder: Path, like: Path, model: bytes) -> None:
    card = json.loads(like.with_suffix(".json").read_text(encoding="utf-8"))
    card["sha256"] = hashlib.sha256(model).hexdigest()
    (folder / "other.onnx").write_bytes(model)
    (folder / "other.json").write_text(json.dumps(card), encoding="utf-8")
