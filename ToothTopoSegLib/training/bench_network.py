"""One patch through one network by every engine at hand, side by side: ``./toothtopo bench --network``.

In: the bundled network, or the larger one of :data:`FACTS` with random weights. Out: for each engine and number of
threads the median seconds of interleaved runs, their ratio to this program's, and the peak memory. Each engine runs in
a process of its own, so that memory and thread pools are its own; the parent asks one after the other for a run.

The arithmetic floor is the network's products divided by the best rate of uint8 x int8 products that ONNX Runtime
reaches in one large matrix product on the same threads (on a processor with VNNI, that of its VNNI kernel).
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.errors import UsageError
from ToothTopoSegLib.progress import Progress, silent
from ToothTopoSegLib.quantization.config import QuantConfig
from ToothTopoSegLib.quantization.graph import Conv, Graph, Shuffle
from ToothTopoSegLib.training.network import Plan

Array = NDArray[Any]
FACTS = Plan((64, 96, 96), 1.0, (24, 48, 96, 192, 256), (2,) * 5, (2,) * 4, 33)
SEED = 0
PROBE = 1024
"""Edge of the matrices of the floor's product."""
ENGINES = {
    "PyTorch FP32": "torch",
    "ONNX Runtime FP32": "onnxruntime",
    "ONNX Runtime QDQ INT8": "onnxruntime",
    "ONNX Runtime, graph as exported": "onnxruntime",
    "OpenVINO FP32": "openvino",
    "OpenVINO INT8": "openvino",
    "this program": "onnxruntime",
    "floor": "onnxruntime",
}
"""The engines by the package each needs."""
OURS, FLOOR = "this program", "floor"


def bench_network(
    name: str = "bundled",
    patch: tuple[int, int, int] | None = None,
    threads: tuple[int, ...] = (1, 2),
    repeats: int = 5,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Seconds and memory of one patch (z, y, x) by engine and threads for the network ``bundled`` or ``facts``.

    Raises UsageError for a patch that the network's strides do not divide.
    """
    plan, weights = _network(name)
    plan = replace(plan, patch=patch or plan.patch)
    whole = 2 ** (len(plan.features) - 1)
    if any(n < whole or n % whole for n in plan.patch):
        raise UsageError(f"The patch {plan.patch} was asked for, but each edge must be a multiple of {whole}.")
    with tempfile.TemporaryDirectory(prefix="toothtopo-") as folder:
        progress(0.0, "writing the network in each engine's form")
        products = _write_forms(Path(folder), plan, weights)
        tables = {}
        for i, count in enumerate(threads):
            progress((1 + i) / (1 + len(threads)), f"timing with {count} threads")
            tables[str(count)] = _timed(Path(folder), count, repeats)
    report = {
        "network": name,
        "patch_zyx": list(plan.patch),
        "features": list(plan.features),
        "products": products,
        "processor": _processor(),
        "repeats": repeats,
        "missing": {e: p for e, p in ENGINES.items() if importlib.util.find_spec(p) is None},
        "threads": {count: _with_ratios(table, products) for count, table in tables.items()},
    }
    progress(1.0, "done")
    return report


def _network(name: str) -> tuple[Plan, dict[str, Array]]:
    """Plan and weights by nnU-Net's names: the bundled network's, or random ones."""
    from ToothTopoSegLib.quantization.bundle import load_bundle
    from ToothTopoSegLib.quantization.export import float_weights_path
    from ToothTopoSegLib.quantization.fold import read_weights

    if name == "bundled":
        bundle = load_bundle()
        return Plan.from_dict(bundle.card["plan"]), read_weights(float_weights_path(bundle.path))
    import torch

    from ToothTopoSegLib.training.loop import unaliased
    from ToothTopoSegLib.training.network import build_network

    torch.manual_seed(SEED)
    state = unaliased(build_network(FACTS, deep_supervision=False).state_dict())
    return FACTS, {key: value.numpy() for key, value in state.items()}


def _write_forms(folder: Path, plan: Plan, weights: dict[str, Array]) -> int:
    """Files that the engines read, all of the same weights; returns how many products the network takes."""
    from safetensors.numpy import save_file
    from scipy.ndimage import gaussian_filter

    from ToothTopoSegLib.quantization.export import quantized
    from ToothTopoSegLib.quantization.fold import fold
    from ToothTopoSegLib.quantization.onnx_graph import float_model

    image = gaussian_filter(np.random.default_rng(SEED).normal(size=plan.patch), 2.0)
    image = (image / image.std()).astype(np.float32)[None, None]
    graph = fold(weights, plan)
    np.save(folder / "patch.npy", image)
    (folder / "plan.json").write_text(json.dumps(plan.as_dict()), encoding="utf-8")
    save_file({key: np.ascontiguousarray(value) for key, value in weights.items()}, folder / "weights.safetensors")
    (folder / "float.onnx").write_bytes(float_model(graph, plan.patch))
    integer = quantized(graph, [image], plan, QuantConfig())[0]
    (folder / "integer.onnx").write_bytes(integer)
    (folder / "same.onnx").write_bytes(between_floats(integer))
    _quantize_statically(folder, image)
    return count_products(graph, plan.patch)


def count_products(graph: Graph, patch: tuple[int, int, int]) -> int:
    """Multiplications of a folded graph's convolutions on a patch (z, y, x)."""
    size: dict[str, tuple[int, ...]] = {graph.image: patch}
    total = 0
    for node in graph.nodes:
        source = size[node.source if hasattr(node, "source") else node.sources[0]]
        if isinstance(node, Conv):
            source = tuple(-(-n // stride) for n, stride in zip(source, node.strides, strict=True))
            total += math.prod(source) * int(node.weight.size)
        elif isinstance(node, Shuffle):
            source = tuple(n * factor for n, factor in zip(source, node.factors, strict=True))
        size[node.name] = source
    return total


def _quantize_statically(folder: Path, image: Array) -> None:
    """The float model as onnxruntime.quantization makes it an INT8 one: QuantizeLinear / DequantizeLinear pairs."""
    from onnxruntime import quantization

    class Once(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.left = [{"image": image}]

        def get_next(self) -> dict[str, Array] | None:
            return self.left.pop() if self.left else None

    quantization.quantize_static(
        folder / "float.onnx", folder / "qdq.onnx", Once(), per_channel=True, reduce_range=True,
        activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8,
    )  # fmt: skip


def between_floats(model: bytes) -> bytes:
    """An integer ONNX model written with float operators between DequantizeLinear and QuantizeLinear.

    Same weights, scales and zero points: the form in which engines without ONNX Runtime's integer operators take it.
    """
    from onnx import helper, load_from_string

    old = load_from_string(model)
    nodes: list[Any] = []

    def real(parts: list[str], at: str, **attributes: Any) -> str:
        nodes.append(helper.make_node("DequantizeLinear", parts, [at], **attributes))
        return at

    for node in old.graph.node:
        i, name = list(node.input), node.output[0]
        kept = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type == "QLinearConv":
            bias = _bias_scale(old, i)
            parts = [
                real(i[:3], f"{name}/x"),
                real(i[3:6], f"{name}/k", axis=0),
                real([i[8], bias], f"{name}/c", axis=0),
            ]
            kind, out = "Conv", i[6:8]
        elif node.op_type == "QLinearLeakyRelu":
            kind, parts, out = "LeakyRelu", [real(i[:3], f"{name}/x")], i[3:5]
        elif node.op_type == "QLinearConcat":
            kind, out = "Concat", i[:2]
            parts = [real(i[j : j + 3], f"{name}/x{j}") for j in range(2, len(i), 3)]
        else:
            nodes.append(node)
            continue
        nodes.append(helper.make_node(kind, parts, [f"{name}/real"], **kept))
        nodes.append(helper.make_node("QuantizeLinear", [f"{name}/real", *out], [name]))
    del old.graph.node[:]
    old.graph.node.extend(nodes)
    return bytes(old.SerializeToString())


def _bias_scale(model: Any, inputs: list[str]) -> str:
    """Name of a new constant: the scale of a QLinearConv's bias, by channel."""
    from onnx import numpy_helper

    constants = {c.name: c for c in model.graph.initializer if c.name in inputs}
    scale = numpy_helper.to_array(constants[inputs[1]]) * numpy_helper.to_array(constants[inputs[4]])
    name = f"{inputs[8]}/scale"
    model.graph.initializer.append(numpy_helper.from_array(scale, name))
    return name


@dataclass(frozen=True)
class _Child:
    """An engine waiting in a process of its own."""

    process: subprocess.Popen[str]

    def ask(self, line: str = "run") -> dict[str, Any]:
        """Have it run once: seconds and peak memory, or what went wrong."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except OSError:
            return {"error": "the process ended"}
        answer = self.process.stdout.readline()
        return json.loads(answer) if answer else {"error": "the process ended"}

    def end(self) -> None:
        self.process.communicate()


def _timed(folder: Path, threads: int, repeats: int) -> dict[str, dict[str, Any]]:
    """For each installed engine seconds, peak MB or an error: one run to warm up, then ``repeats`` in turn."""
    here = [engine for engine, package in ENGINES.items() if importlib.util.find_spec(package)]
    children = {engine: _start(engine, folder, threads) for engine in here}
    answers: dict[str, list[dict[str, Any]]] = {engine: [] for engine in here}
    try:
        for _ in range(1 + repeats):
            for engine, child in children.items():
                answers[engine].append(child.ask())
    finally:
        for child in children.values():
            child.end()
    return {engine: _summary(engine, found) for engine, found in answers.items()}


def _start(engine: str, folder: Path, threads: int) -> _Child:
    command = [sys.executable, "-m", "ToothTopoSegLib.training.bench_network", engine, str(folder), str(threads)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    return _Child(subprocess.Popen(command, text=True, encoding="utf-8", **pipes))  # type: ignore[call-overload]


def _summary(engine: str, answers: list[dict[str, Any]]) -> dict[str, Any]:
    """The median of all but the first run; of the floor the best."""
    if failed := next((a["error"] for a in answers if "error" in a), None):
        return {"error": failed}
    seconds = [float(a["seconds"]) for a in answers[1:]]
    chosen = min(seconds) if engine == FLOOR else statistics.median(seconds)
    return {"seconds": chosen, "peak_mb": answers[-1]["peak_mb"]}


def _with_ratios(table: dict[str, dict[str, Any]], products: int) -> dict[str, Any]:
    """The floor made that of the network, and each engine's seconds in units of this program's."""
    found = {engine: dict(row) for engine, row in table.items()}
    if "seconds" in found.get(FLOOR, {}):
        rate = PROBE**3 / found[FLOOR]["seconds"]
        found[FLOOR] = {"seconds": products / rate, "products_per_second": rate}
    ours = found[OURS].get("seconds")
    for row in found.values():
        if ours and "seconds" in row:
            row["times_ours"] = row["seconds"] / ours
    return found


def _processor() -> str:
    """The processor's name and the vector instructions that matter for 8-bit integers, as far as they can be read."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    facts = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    facts = {key.strip(): value.strip() for key, value in facts.items()}
    flags = set(facts.get("flags", "").split())
    kinds = [kind for kind in ("avx2", "avx512f", "avx512_vnni", "avx_vnni") if kind in flags]
    return f"{facts.get('model name', platform.machine())} ({', '.join(kinds) or 'vector instructions unknown'})"


def table(report: dict[str, Any]) -> str:
    """The report as a page in Markdown."""
    z, y, x = report["patch_zyx"]
    features = "-".join(map(str, report["features"]))
    lines = [
        "# One patch, every engine",
        "",
        f"`./toothtopo bench --network {report['network']}`: features {features}, a patch of {z}x{y}x{x} voxels, "
        f"{report['products'] / 1e9:.1f} thousand million products, {report['processor']}.",
        f"Medians of {report['repeats']} interleaved runs, each engine in a process of its own; the floor is the "
        "network's products at the best rate of one large matrix product of uint8 and int8 in ONNX Runtime.",
    ]
    for threads, rows in report["threads"].items():
        lines += ["", f"| {threads} thread(s) | s | times ours | peak MB |", "| --- | --- | --- | --- |"]
        lines += [_row(engine, row) for engine, row in rows.items()]
    for engine, package in report["missing"].items():
        lines += ["", f"{engine} is missing: `pip install {package}` adds it."]
    return "\n".join(lines) + "\n"


def _row(engine: str, row: dict[str, Any]) -> str:
    if "error" in row:
        return f"| {engine} | {row['error']} | | |"
    memory = f"{row['peak_mb']:.0f}" if "peak_mb" in row else ""
    return f"| {engine} | {row['seconds']:.3f} | {row.get('times_ours', math.nan):.2f} | {memory} |"


# ---- in the process of an engine


def _engine(name: str, folder: Path, threads: int) -> Callable[[], Any]:
    """What runs the patch once."""
    image = np.load(folder / "patch.npy")
    if name == FLOOR:
        return _matrix_product(threads)
    if name.startswith("PyTorch"):
        return _torch(folder, image, threads)
    if name.startswith("OpenVINO"):
        return _openvino(folder / ("float.onnx" if "FP32" in name else "same.onnx"), image, threads)
    files = {"ONNX Runtime FP32": "float.onnx", "ONNX Runtime QDQ INT8": "qdq.onnx"}
    model = (folder / files.get(name, "integer.onnx")).read_bytes()
    if name == OURS:
        from ToothTopoSegLib.quantization.rewrite import rewritten

        model = rewritten(model)
    session = _session(model, threads)
    return lambda: session.run(None, {"image": image})


def _session(model: bytes, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _torch(folder: Path, image: Array, threads: int) -> Callable[[], Any]:
    import torch
    from safetensors.torch import load_file

    from ToothTopoSegLib.training.network import build_network

    torch.set_num_threads(threads)
    plan = Plan.from_dict(json.loads((folder / "plan.json").read_text(encoding="utf-8")))
    network = build_network(plan, deep_supervision=False).eval()
    network.load_state_dict(load_file(folder / "weights.safetensors"), strict=False)
    values = torch.from_numpy(image)

    def run() -> Any:
        with torch.inference_mode():
            return network(values)

    return run


def _openvino(model: Path, image: Array, threads: int) -> Callable[[], Any]:
    openvino = importlib.import_module("openvino")
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(str(model), "CPU", settings)
    return lambda: compiled([image])


def _matrix_product(threads: int) -> Callable[[], Any]:
    """One product of uint8 and int8 matrices of PROBE x PROBE."""
    from onnx import TensorProto, helper, numpy_helper

    right = np.random.default_rng(SEED).integers(-63, 64, (PROBE, PROBE)).astype(np.int8)
    node = helper.make_node("MatMulInteger", ["left", "right", "zero"], ["sums"])
    values = [helper.make_tensor_value_info("left", TensorProto.UINT8, [PROBE, PROBE])]
    sums = [helper.make_tensor_value_info("sums", TensorProto.INT32, [PROBE, PROBE])]
    constants = [numpy_helper.from_array(right, "right"), numpy_helper.from_array(np.uint8(128), "zero")]
    body = helper.make_graph([node], "product", values, sums, constants)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = _session(model.SerializeToString(), threads)
    left = np.random.default_rng(SEED + 1).integers(0, 256, (PROBE, PROBE)).astype(np.uint8)
    return lambda: session.run(None, {"left": left})


def _serve(name: str, folder: Path, threads: int) -> None:
    """Run the patch once for every line that comes in, and answer with seconds and peak memory."""
    from ToothTopoSegLib.topology.report import peak_rss_mb

    run: Callable[[], Any] | None = None
    answer: dict[str, float | str]
    for _ in sys.stdin:
        try:
            run = run or _engine(name, folder, threads)
            start = time.perf_counter()
            run()
            answer = {"seconds": time.perf_counter() - start, "peak_mb": peak_rss_mb()}
        except Exception as error:  # engines have no common base for what they raise
            answer = {"error": str(error).strip().partition("\n")[0] or type(error).__name__}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _serve(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
