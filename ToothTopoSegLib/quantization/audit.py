"""The proof that a model runs in 8-bit integers: ``./toothtopo audit``.

ONNX Runtime optimises the graph as it would for running, writes it down, and every node of *that* graph is read:
one QuantizeLinear at the input, only operators that take and give uint8 activations after it, and no float tensor
between them. Anything else fails the audit by name.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from ToothTopoSegLib.errors import ModelError

INTEGER_OPERATORS = {
    "QuantizeLinear",
    "QLinearConv",
    "QLinearLeakyRelu",
    "QLinearConcat",
    "Reshape",
    "Transpose",
}
"""Operators of the integer graph; the first one, alone, reads float."""


def optimised_graph(model: bytes) -> Any:
    """The ONNX model (protobuf) that ONNX Runtime would run on this processor."""
    import onnx
    import onnxruntime

    with tempfile.TemporaryDirectory(prefix="toothtopo-") as folder:
        path = Path(folder) / "optimised.onnx"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.optimized_model_filepath = str(path)
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return onnx.load(str(path))


def _constant_types(graph: Any) -> dict[str, int]:
    return {tensor.name: tensor.data_type for tensor in graph.initializer}


def audit_graph(graph: Any) -> list[str]:
    """What is wrong with an optimised graph, one sentence each; empty when all activations are uint8."""
    from onnx import TensorProto

    problems = []
    counts = Counter(node.op_type for node in graph.node)
    for operator in sorted(set(counts) - INTEGER_OPERATORS):
        problems.append(f"{counts[operator]} x {operator}: not an operator of the integer graph")
    if counts["QuantizeLinear"] != 1:
        problems.append(f"{counts['QuantizeLinear']} QuantizeLinear instead of one at the input")
    image = graph.input[0].name
    constants = _constant_types(graph)
    integer = {tensor for tensor, kind in constants.items() if kind in (TensorProto.UINT8, TensorProto.INT8)}
    for node in graph.node:
        data = node.input[0] if node.op_type not in ("QLinearConcat",) else None
        if node.op_type == "QuantizeLinear" and data != image:
            problems.append(f"{node.name}: quantizes an inner tensor")
        elif node.op_type != "QuantizeLinear" and image in node.input:
            problems.append(f"{node.name}: reads the float image")
        if node.op_type == "QLinearConv" and node.input[3] not in integer:
            problems.append(f"{node.name}: its weights are not 8-bit")
    for output in graph.output:
        if output.type.tensor_type.elem_type != TensorProto.UINT8:
            problems.append(f"the output {output.name} is not uint8")
    for value in graph.value_info:
        kind = value.type.tensor_type.elem_type
        if kind in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16):
            problems.append(f"the inner tensor {value.name} is float")
    return problems


def audit_model(model: Path | None = None) -> dict[str, Any]:
    """Audit a bundle (the bundled one by default): {"passed", "operators", "problems", ...}.

    Raises ModelError when the bundle is missing, altered or cannot be loaded.
    """
    from ToothTopoSegLib.segmentation.bundle import load_bundle

    bundle = load_bundle(model)
    try:
        graph = optimised_graph(bundle.model).graph
    except Exception as error:
        raise ModelError(f"ONNX Runtime cannot load {bundle.path.name}; is it an ONNX model? ({error})") from error
    problems = audit_graph(graph)
    return {
        "model": bundle.path.name,
        "passed": not problems,
        "all_uint8_graph": not problems,
        "operators": dict(sorted(Counter(node.op_type for node in graph.node).items())),
        "problems": problems,
        "bytes": len(bundle.model),
        "sha256": bundle.card["sha256"],
    }
