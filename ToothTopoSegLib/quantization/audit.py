"""The proof that a model runs in 8-bit integers: ``./toothtopo audit``.

The graph is rewritten as for running (:mod:`ToothTopoSegLib.quantization.rewrite`), ONNX Runtime optimises it, writes
it down, and every node of *that* graph is read: one QuantizeLinear at the input, only operators that take and give
uint8 activations after it, and no float tensor between them. Anything else fails the audit by name. That is one claim;
the other, that ONNX Runtime computes with that graph what integers alone would, is measured on whole patches against
the integer reference.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from ToothTopoSegLib.errors import ModelError

if TYPE_CHECKING:
    from ToothTopoSegLib.quantization.bundle import Bundle

INTEGER_OPERATORS = {
    "QuantizeLinear",
    "QLinearConv",
    "QLinearLeakyRelu",
    "QLinearConcat",
    "QLinearAdd",
    "Concat",
    "Gather",
    "Reshape",
    "Transpose",
}
"""Operators of the integer graph; the first one, alone, reads float."""


def optimised_graph(model: bytes) -> Any:
    """The ONNX model (protobuf) that ONNX Runtime would run on this processor; raises what ONNX Runtime raises."""
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


def audit_graph(graph: Any) -> list[str]:
    """What is wrong with an optimised graph, one sentence each; empty when all activations are uint8."""
    return [*_wrong_operators(graph), *_wrong_nodes(graph), *_wrong_tensors(graph)]


def _wrong_operators(graph: Any) -> Iterator[str]:
    counts = Counter(node.op_type for node in graph.node)
    for operator in sorted(set(counts) - INTEGER_OPERATORS):
        yield f"{counts[operator]} x {operator}: not an operator of the integer graph"
    if counts["QuantizeLinear"] != 1:
        yield f"{counts['QuantizeLinear']} QuantizeLinear instead of one at the input"


def _wrong_nodes(graph: Any) -> Iterator[str]:
    from onnx import TensorProto

    constants = {tensor.name: tensor.data_type for tensor in graph.initializer}
    images = {value.name for value in graph.input} - set(constants)
    for node in graph.node:
        name = node.name or node.output[0]
        if node.op_type == "QuantizeLinear" and node.input[0] not in images:
            yield f"{name}: quantizes an inner tensor"
        elif node.op_type != "QuantizeLinear" and images & set(node.input):
            yield f"{name}: reads the float image"
        if node.op_type == "QLinearConv" and constants.get(node.input[3]) not in (TensorProto.UINT8, TensorProto.INT8):
            yield f"{name}: its weights are not 8-bit"


def _wrong_tensors(graph: Any) -> Iterator[str]:
    from onnx import TensorProto

    for output in graph.output:
        if output.type.tensor_type.elem_type != TensorProto.UINT8:
            yield f"the output {output.name} is not uint8"
    for value in graph.value_info:
        kind = value.type.tensor_type.elem_type
        if kind in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16):
            yield f"the inner tensor {value.name} is float"


def audit_model(
    model: Path | None = None, patches: Callable[[Bundle], Iterable[NDArray[Any]]] | None = None
) -> dict[str, Any]:
    """Audit a bundle (the bundled one by default): {"passed", "all_uint8_graph", "operators", "problems", ...}.

    With ``patches``, which gives normalised patches (1, 1, z, y, x) for a bundle, ONNX Runtime is also compared with
    the integer reference on them: "equal_to_integer_reference" and the counts in "integer_reference". A graph that is
    not all integer is not compared. Raises ModelError when the bundle is missing, altered or cannot be loaded.
    """
    from ToothTopoSegLib.quantization.bundle import load_bundle
    from ToothTopoSegLib.quantization.rewrite import rewritten

    bundle = load_bundle(model)
    try:
        graph = optimised_graph(rewritten(bundle.model)).graph
    except Exception as error:  # onnxruntime has no common base for what it raises
        reason = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"ONNX Runtime cannot load the model {bundle.path.name} ({reason}); update onnxruntime or give another."
        ) from error
    problems = audit_graph(graph)
    report = {
        "model": bundle.path.name,
        "passed": not problems,
        "all_uint8_graph": not problems,
        "operators": dict(sorted(Counter(node.op_type for node in graph.node).items())),
        "problems": problems,
        "bytes": len(bundle.model),
        "sha256": bundle.card["sha256"],
    }
    return report | _compared(bundle, patches) if patches and not problems else report


def _compared(bundle: Bundle, patches: Callable[[Bundle], Iterable[NDArray[Any]]]) -> dict[str, Any]:
    """The part of the report about the integer reference."""
    from ToothTopoSegLib.quantization.reference import compare_with_reference

    found = compare_with_reference(bundle.model, patches(bundle))
    equal = found.differing_scores == 0
    return {"passed": equal, "equal_to_integer_reference": equal, "integer_reference": asdict(found)}
