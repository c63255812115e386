"""The float16 twin of an integer model, for a GPU: the same weights, half precision between float32 ends.

In: a bundle with its float weights beside it. Out: a bundle whose graph computes in float16. ONNX Runtime has kernels
for the integer graph on processors only.
"""

from __future__ import annotations

from ToothTopoSegLib.quantization.bundle import Bundle


def half_bundle(bundle: Bundle) -> Bundle:
    """The float16 twin of an integer bundle: float32 patches in, float32 scores out, half precision between.

    Raises ModelError when the float weights are not beside the bundle or cannot be read, ImportError without the
    packages onnx and safetensors.
    """
    from ToothTopoSegLib.quantization.export import float_bundle

    twin = float_bundle(bundle)
    return Bundle(bundle.path, in_half_precision(twin.model), twin.card | {"precision": "float16"})


def in_half_precision(model: bytes) -> bytes:
    """A float32 ONNX model computing in float16; its one input and one output stay float32."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    half = onnx.load_from_string(model)
    graph = half.graph
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype("float16"), tensor.name))
    image, scores = graph.input[0].name, graph.output[0].name
    for node in graph.node:
        node.input[:] = [f"{image}/half" if name == image else name for name in node.input]
        node.output[:] = [f"{scores}/half" if name == scores else name for name in node.output]
    graph.node.insert(0, helper.make_node("Cast", [image], [f"{image}/half"], to=TensorProto.FLOAT16))
    graph.node.append(helper.make_node("Cast", [f"{scores}/half"], [scores], to=TensorProto.FLOAT))
    onnx.checker.check_model(half)
    return bytes(half.SerializeToString())
