"""An integer graph executed with integers alone: what ``./toothtopo audit --reference`` compares ONNX Runtime with.

In: the bytes of an integer ONNX model and patches. Out: uint8 class scores. The image's QuantizeLinear is the one step
that reads floating point. After it

- a convolution is a sum of products of (uint8 - zero point) and int8 plus an int32 bias, in 32 bits;
- its sums are requantized by an integer multiplier and a shift (Jacob et al., CVPR 2018, section 2.2), rounded half to
  even. ONNX Runtime multiplies by the same factor in float32, which rounds twice: the product to 24 bits, then to an
  integer. The reference can round both ways, in integers: twice, and it must equal ONNX Runtime bit for bit; or once
  with a multiplier of 31 bits, as plain integer hardware would, which differs by one level where a product lies within
  2^-24 of its size of a half, and then in what later layers make of that level;
- LeakyReLU and concatenation are tables of 256 entries, filled once from the graph's scales;
- a pixel shuffle moves integers.

The products are summed by the BLAS in float32 for speed. That is exact, because each block of a sum is so short that no
partial sum can reach 2^24, below which float32 holds every integer; blocks are then added as int32.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.errors import ModelError

Array = NDArray[Any]
Levels = NDArray[np.uint8]
EXACT_IN_FLOAT32 = 2**24
MULTIPLIER_BITS, FLOAT32_BITS = 31, 24
LARGEST_SHIFT = 62
COLUMN_VALUES = 4_000_000
"""Values of the matrix of shifted inputs that are held at a time (16 MB)."""


@dataclass(frozen=True)
class Difference:
    """How ONNX Runtime's uint8 scores differ from the integer reference's on some patches.

    ``layers`` counts the differing values of every tensor, by name, over the patches whose scores differ.
    """

    patches: int
    scores: int
    differing_scores: int
    largest_difference: int
    voxels: int
    differing_classes: int
    layers: dict[str, int] = field(default_factory=dict)


class IntegerReference:
    """An integer ONNX model, ready to run in integers; ``roundings`` (1 or 2) is explained at :func:`requantized`.

    Raises ModelError for a graph with operators or attributes that the integer graph does not have.
    """

    def __init__(self, model: bytes, roundings: int = 2) -> None:
        from onnx import helper, load_from_string, numpy_helper

        graph = load_from_string(model).graph
        self.image, self.scores = graph.input[0].name, graph.output[0].name
        self._constants = {c.name: numpy_helper.to_array(c) for c in graph.initializer}
        self._nodes = list(graph.node)
        self._attributes = [{a.name: helper.get_attribute_value(a) for a in node.attribute} for node in graph.node]
        for node, attributes in zip(self._nodes, self._attributes, strict=True):
            if node.op_type not in OPERATORS:
                raise ModelError(
                    f"The graph has the operator {node.op_type}, which the integer reference lacks; export it again."
                )
            attributes["roundings"] = roundings
            if attributes.get("group", 1) != 1 or set(attributes.get("dilations", [1])) != {1}:
                raise ModelError(f"The convolution {node.name} has groups or dilations; export the model again.")

    def __call__(self, image: Array, watch: Callable[[str, Levels], None] | None = None) -> Levels:
        """uint8 scores (1, classes, z, y, x) of a patch (1, 1, z, y, x); ``watch`` sees every tensor."""
        values: dict[str, Array] = {self.image: image}
        uses = Counter(name for node in self._nodes for name in node.input)
        for node, attributes in zip(self._nodes, self._attributes, strict=True):
            inputs = [self._constants[name] if name in self._constants else values[name] for name in node.input]
            values[node.output[0]] = OPERATORS[node.op_type](inputs, attributes)
            if watch:
                watch(node.output[0], values[node.output[0]])
            for name in node.input:
                uses[name] -= 1
                if not uses[name]:
                    values.pop(name, None)
        return values[self.scores]


def _quantize(inputs: list[Array], attributes: dict[str, Any]) -> Levels:
    image, scale, zero = inputs
    return np.clip(np.rint(image.astype(np.float32) / scale) + np.float32(zero), 0, 255).astype(np.uint8)


def _convolution(inputs: list[Array], attributes: dict[str, Any]) -> Levels:
    source, source_scale, source_zero, weight, weight_scale, weight_zero, scale, zero = inputs[:8]
    if weight_zero.any():
        raise ModelError("The graph has weights with a zero point; export the model again.")
    sums = integer_sums(source[0], source_zero.item(), weight, attributes["strides"], attributes["pads"][:3])
    # The factor as ONNX Runtime computes it; its 24 bits fit the multiplier's 31 exactly.
    factors = np.broadcast_to(source_scale * weight_scale / scale, (len(weight),))
    bias = inputs[8] if len(inputs) > 8 else np.zeros(len(weight), np.int32)
    out = np.empty(sums.shape, np.uint8)
    for channel, factor in enumerate(factors):
        total = sums[channel].astype(np.int64) + int(bias[channel])
        out[channel] = np.clip(requantized(total, float(factor), attributes["roundings"]) + zero.item(), 0, 255)
    return out[None]


def integer_sums(
    source: Levels, zero: int, weight: Array, strides: Sequence[int], pads: Sequence[int]
) -> NDArray[np.int32]:
    """Sums (out, z, y, x) of a convolution of uint8 (in, z, y, x) minus ``zero`` with int8 (out, in, z, y, x).

    ``strides`` and ``pads``, before and after, are along each axis (z, y, x).
    """
    centred = np.pad(source.astype(np.float32) - zero, ((0, 0), *((pad, pad) for pad in pads)))
    windows = np.lib.stride_tricks.sliding_window_view(centred, weight.shape[2:], axis=(1, 2, 3))
    windows = windows[:, :: strides[0], :: strides[1], :: strides[2]].transpose(0, 4, 5, 6, 1, 2, 3)
    matrix = weight.reshape(len(weight), -1).astype(np.float32)
    shape = windows.shape[4:]
    sums = np.zeros((len(weight), *shape), np.int32)
    thick = max(1, COLUMN_VALUES // (matrix.shape[1] * shape[1] * shape[2]))
    blocks = list(exact_blocks(weight.reshape(len(weight), -1), max(zero, 255 - zero)))
    for z in range(0, shape[0], thick):
        slab = slice(z, z + thick)
        columns = windows[:, :, :, :, slab].reshape(matrix.shape[1], -1)
        for block in blocks:
            sums[:, slab] += (matrix[:, block] @ columns[block]).astype(np.int32).reshape(sums[:, slab].shape)
    return sums


def exact_blocks(weight: Array, largest: int) -> Iterator[slice]:
    """Parts of the columns of weights (out, n) whose sums over inputs up to ``largest`` stay exact in float32."""
    start, total = 0, np.zeros(len(weight), np.int64)
    for i, column in enumerate(np.abs(weight.astype(np.int64)).T * largest):
        total += column
        if total.max() >= EXACT_IN_FLOAT32:
            yield slice(start, i)
            start, total = i, column.copy()
    yield slice(start, weight.shape[1])


def dyadic(factor: float, bits: int = MULTIPLIER_BITS) -> tuple[int, int]:
    """Multiplier of at most ``bits`` bits and shift such that ``factor`` = multiplier / 2^shift, nearly."""
    fraction, exponent = np.frexp(factor)
    multiplier, shift = round(float(fraction) * 2**bits), bits - int(exponent)
    if shift > LARGEST_SHIFT:
        multiplier, shift = multiplier >> min(shift - LARGEST_SHIFT, bits), LARGEST_SHIFT
    if shift < 1:
        raise ModelError(f"The graph multiplies sums by {factor:g}, expected less than a million; export it again.")
    return multiplier, shift


def shifted(values: NDArray[np.int64], shift: NDArray[np.int64] | int) -> NDArray[np.int64]:
    """Values divided by 2^shift (shift >= 0), rounded half to even, by shifts, masks and comparisons of integers."""
    found = values >> shift
    rest, half = (values - (found << shift)) << 1, np.int64(1) << shift
    return found + ((rest > half) | ((rest == half) & (found & 1 == 1) & (half > 1)))


def requantized(sums: NDArray[np.int64], factor: float, roundings: int = 2) -> NDArray[np.int64]:
    """32-bit sums (as int64) times ``factor`` as integers, rounded half to even.

    With one rounding the product with a multiplier of 31 bits is shifted once. With two, the sum and the product with a
    multiplier of 24 bits are first rounded to their 24 leading bits, as float32 does.
    """
    if roundings == 1:
        multiplier, shift = dyadic(factor)
        return shifted(sums * multiplier, shift)
    multiplier, shift = dyadic(factor, FLOAT32_BITS)
    product = _leading_bits(_leading_bits(np.abs(sums)) * multiplier)
    return np.sign(sums) * shifted(product, shift)


def _leading_bits(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Values from 0 to 2^56 rounded to their 24 leading bits."""
    if values.max(initial=0) < 2**FLOAT32_BITS:
        return values
    # The exponent of a float64 is the number of bits, or one more where 54 bits and more round up; checked after it.
    bits = np.frexp(values.astype(np.float64))[1].astype(np.int64)
    bits -= (values < np.int64(1) << np.maximum(bits - 1, 0)).astype(np.int64)
    drop = np.maximum(bits - FLOAT32_BITS, 0)
    return shifted(values, drop) << drop


def _table(scale: Array, zero: Array, out_scale: Array, out_zero: Array, slope: float = 1.0) -> Levels:
    """For every level of one scale the level of another, after LeakyReLU; in float32, as ONNX Runtime fills it."""
    real = np.float32(scale) * (np.arange(256, dtype=np.float32) - np.float32(zero))
    real = np.where(real >= 0, real, np.float32(slope) * real)
    return np.clip(np.rint(real / np.float32(out_scale)) + np.float32(out_zero), 0, 255).astype(np.uint8)


def _leaky_relu(inputs: list[Array], attributes: dict[str, Any]) -> Levels:
    source, scale, zero, out_scale, out_zero = inputs
    return _table(scale, zero, out_scale, out_zero, attributes["alpha"])[source]


def _concatenation(inputs: list[Array], attributes: dict[str, Any]) -> Levels:
    out_scale, out_zero = inputs[:2]
    parts = [inputs[i : i + 3] for i in range(2, len(inputs), 3)]
    return np.concatenate([_table(s, z, out_scale, out_zero)[source] for source, s, z in parts], attributes["axis"])


OPERATORS: dict[str, Callable[[list[Array], dict[str, Any]], Array]] = {
    "QuantizeLinear": _quantize,
    "QLinearConv": _convolution,
    "QLinearLeakyRelu": _leaky_relu,
    "QLinearConcat": _concatenation,
    "Reshape": lambda inputs, attributes: inputs[0].reshape(inputs[1]),
    "Transpose": lambda inputs, attributes: inputs[0].transpose(attributes["perm"]),
}


def compare_with_reference(model: bytes, patches: Iterable[Array], roundings: int = 2) -> Difference:
    """Run patches (1, 1, z, y, x) through ONNX Runtime and through the integer reference, and count differences.

    ONNX Runtime runs the model rewritten, as for segmenting; where scores differ, layers are counted on the plain one.
    ``roundings`` is explained at :func:`requantized`. Raises ModelError for a graph that is not the integer graph,
    ValueError when there is no patch.
    """
    from ToothTopoSegLib.quantization.rewrite import rewritten

    reference, session = IntegerReference(model, roundings), _session(rewritten(model))
    counts: Counter[str] = Counter()
    largest = 0
    for patch in patches:
        patch = np.ascontiguousarray(patch, np.float32)
        expected, found = reference(patch), session.run(None, {reference.image: patch})[0]
        away = np.abs(found.astype(np.int16) - expected)
        largest = max(largest, int(away.max()))
        counts.update(patches=1, scores=found.size, voxels=found[0, 0].size)
        counts.update(differing_scores=int((away > 0).sum()))
        counts.update(differing_classes=int((found.argmax(1) != expected.argmax(1)).sum()))
        if away.any():
            counts.update({f"layer {name}": n for name, n in _differing_layers(model, reference, patch).items()})
    if not counts["patches"]:
        raise ValueError("a comparison needs at least one patch")
    layers = {name.removeprefix("layer "): n for name, n in counts.items() if name.startswith("layer ") and n}
    keys = ("patches", "scores", "differing_scores", "voxels", "differing_classes")
    return Difference(**{key: counts[key] for key in keys}, largest_difference=largest, layers=layers)


def _differing_layers(model: bytes, reference: IntegerReference, patch: Array) -> dict[str, int]:
    """Number of differing values of every tensor of the graph."""
    from onnx import helper, load_from_string

    watched = load_from_string(model)
    names = [node.output[0] for node in watched.graph.node if node.output[0] != reference.scores]
    watched.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    found = _session(watched.SerializeToString()).run([*names, reference.scores], {reference.image: patch})
    by_name = dict(zip([*names, reference.scores], found, strict=True))
    differing: dict[str, int] = {}
    reference(patch, lambda name, levels: differing.update({name: int((levels != by_name[name]).sum())}))
    return differing


def _session(model: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
