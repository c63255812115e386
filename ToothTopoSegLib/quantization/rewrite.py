"""An integer ONNX model rewritten into one that runs faster and gives the same uint8 scores, bit for bit.

In: the bytes of an integer model as :mod:`ToothTopoSegLib.quantization.onnx_graph` writes it. Out: the bytes of a model
with the same input and output. The file of a bundle stays as it is, because its hash, the integer reference and the
audit read it; :class:`~ToothTopoSegLib.segmentation.runner.Runner` rewrites when it loads, so that older bundles become
fast too. A model with anything that is not known here is given back unchanged.

Every tensor becomes a matrix of uint8 (rows, width) with the channels last, and *where* a voxel's channels lie in it is
an array of row numbers that exists only while the model is rewritten (:class:`Rows`). With that

- a pixel shuffle changes the row numbers and moves no byte;
- a concatenation stacks the rows of its parts, requantized, and a voxel then has several rows;
- a 3D convolution is a 2D one over slices whose neighbours along z are further channels. One Gather brings the
  neighbours together, and ONNX Runtime's im2col copies long runs instead of single voxels (for 3D it also keeps the
  matrix of a whole patch in memory, hundreds of MB);
- thin convolutions compute two slices at a time: a third more products, but twice as many columns in the matrix
  product, which fills vector registers, and a third less to copy;
- a convolution of one channel computes blocks of voxels along x, with the weights laid out sparsely;
- the two layout changes that ONNX Runtime puts around every QLinearConv are gone.

The sums of integers are the same in any order, and the factors, biases and tables are untouched: hence bit for bit.
That holds on every processor only for weights within +-64: without VNNI pairs of products are added in 16 bits with
saturation, which depends on the order. A model with larger weights is therefore left as it is.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.quantization.onnx_graph import MICROSOFT, GraphWriter

Array = NDArray[Any]
Size3 = tuple[int, int, int]
THIN = 32
"""Output channels below which a convolution computes two slices at a time: ONNX Runtime's smallest full tile."""
SMALL_SLICE = 512
"""Voxels of a slice below which a convolution stays 3D: slice by slice, the matrix product would have too few rows."""
LARGEST_WEIGHT = 64
"""Two products of this with 255 still fit 16 bits."""
BLOCK = 4
"""Voxels along x that a convolution of one channel computes at a time."""


class _Unknown(Exception):
    """The model has something that is not rewritten."""


@dataclass(frozen=True, eq=False)
class Rows:
    """A uint8 tensor as the matrix ``name`` (height, width): the channels of voxel v are those of the rows ``of[v]``.

    ``of`` is an int32 array (z, y, x, parts). With ``padded`` the last row is of zero points and belongs to no voxel.
    """

    name: str
    height: int
    width: int
    of: NDArray[np.int32]
    padded: bool = False

    @property
    def size(self) -> Size3:
        """Voxels along (z, y, x)."""
        z, y, x = self.of.shape[:3]
        return z, y, x

    @property
    def channels(self) -> int:
        """Channels of a voxel."""
        return self.width * int(self.of.shape[3])

    @property
    def in_order(self) -> bool:
        """Whether the rows follow the voxels and nothing else is there."""
        return self.height == self.of.size and np.array_equal(self.of.ravel(), np.arange(self.height))


def in_order(size: Size3, parts: int = 1) -> NDArray[np.int32]:
    """Row numbers (z, y, x, parts) of a matrix whose rows follow the voxels."""
    return np.arange(math.prod(size) * parts, dtype=np.int32).reshape(*size, parts)


def in_pairs(size: Size3) -> NDArray[np.int32]:
    """Row numbers (z, y, x, 1) where voxels of two slices alternate."""
    z, y, x = size
    return np.ascontiguousarray(in_order((z // 2, y, x), 2).transpose(0, 3, 1, 2)).reshape(*size, 1)


def shuffled(of: NDArray[np.int32], factors: Size3) -> NDArray[np.int32]:
    """Row numbers after a pixel shuffle of a matrix (rows, blocks * width) seen as (rows * blocks, width)."""
    z, y, x = of.shape[:3]
    within = np.arange(math.prod(factors), dtype=np.int32)
    blocks: NDArray[np.int32] = of[..., None] * np.int32(len(within)) + within
    spread = blocks.reshape(z, y, x, *factors).transpose(0, 3, 1, 4, 2, 5)
    return np.ascontiguousarray(spread).reshape(z * factors[0], y * factors[1], x * factors[2], 1)


def two_slices(weight: Array) -> Array:
    """Weights (2 out, in, z + 1, y, x) that compute a slice and the next one from weights (out, in, z, y, x)."""
    empty = np.zeros_like(weight[:, :, :1])
    return np.concatenate([np.concatenate(pair, 2) for pair in ((weight, empty), (empty, weight))])


def blocked(weight: Array, block: int) -> Array:
    """Weights (block * out, block, z, y, 3) over blocks along x, from weights (out, 1, z, y, 3 or 1) with stride 1."""
    out, _, kz, ky, kx = weight.shape
    spread = np.zeros((block, out, kz, ky, 3 * block), weight.dtype)
    for x in range(block):
        first = block + x - kx // 2
        spread[x, ..., first : first + kx] = weight[:, 0]
    parts = spread.reshape(block * out, kz, ky, 3, block)
    return np.ascontiguousarray(parts.transpose(0, 4, 1, 2, 3))


@dataclass(frozen=True, eq=False)
class _Conv:
    """A QLinearConv: what it computes, and the names of its scales and zero points."""

    name: str
    source: str
    scales: tuple[str, str, str, str]
    weight: Array
    per_channel: tuple[Array, Array, Array]
    strides: Size3
    pads: tuple[Size3, Size3]

    @property
    def kernel(self) -> Size3:
        z, y, x = self.weight.shape[2:]
        return z, y, x

    def size(self, source: Size3) -> Size3:
        """Voxels along (z, y, x) of the result."""
        before, after = self.pads
        z, y, x = (
            (source[i] + before[i] + after[i] - self.kernel[i]) // self.strides[i] + 1 for i in range(len(source))
        )
        return z, y, x

    def with_channels(self, order: Array) -> _Conv:
        """The convolution whose output channel i is channel ``order[i]`` of this one."""
        scale, zero, bias = (value[order] for value in self.per_channel)
        return replace(self, weight=self.weight[order], per_channel=(scale, zero, bias))


@dataclass
class _Writer(GraphWriter):
    """The new graph and, by their old names, the tensors written so far."""

    rows: dict[str, Rows] = field(default_factory=dict)

    def reshape(self, source: str, shape: tuple[int, ...], output: str) -> str:
        name = "shape/" + "x".join(map(str, shape))
        return self.add("Reshape", [source, self.constant(name, np.asarray(shape, np.int64))], output)

    def take(self, source: str, index: NDArray[np.int32], output: str) -> str:
        name = self._equal_index(index) or self.constant(f"{output}/index", index)
        return self.add("Gather", [source, name], output, axis=0)

    def _equal_index(self, index: NDArray[np.int32]) -> str | None:
        """The name of an equal index, which layers of one size share."""
        known = (n for n, c in self.constants.items() if n.endswith("/index") and np.array_equal(c, index))
        return next(known, None)

    def source(self, name: str) -> Rows:
        if name not in self.rows:
            raise _Unknown
        return self.rows[name]

    def ordered(self, source: Rows, name: str) -> str:
        """The matrix (voxels, channels) of a tensor, in the order of the voxels."""
        if source.in_order and source.of.shape[3] == 1:
            return source.name
        taken = source.name if source.in_order else self.take(source.name, source.of, f"{name}/taken")
        return self.reshape(taken, (math.prod(source.size), source.channels), f"{name}/ordered")

    def padded(self, name: str, zero: str) -> Rows:
        """A tensor with the row of zero points at its end."""
        source = self.source(name)
        if not source.padded:
            row = self.constant(f"{name}/row", np.full((1, source.width), self.constants[zero], np.uint8))
            matrix = self.add("Concat", [source.name, row], f"{name}/padded", axis=0)
            self.rows[name] = replace(source, name=matrix, height=source.height + 1, padded=True)
        return self.rows[name]


def rewritten(model: bytes) -> bytes:
    """A model with the scores of the integer ONNX model ``model``, but faster; ``model`` itself where it is unknown."""
    from onnx import load_from_string, numpy_helper

    old = load_from_string(model)
    writer = _Writer(constants={c.name: numpy_helper.to_array(c) for c in old.graph.initializer})
    try:
        _translate(old.graph, writer)
    except _Unknown:
        return model
    return _assembled(old, writer)


def _assembled(old: Any, writer: _Writer) -> bytes:
    from onnx import helper, numpy_helper

    used = {name for node in writer.nodes for name in node.input}
    kept = {name: value for name, value in writer.constants.items() if name in used}
    constants = [numpy_helper.from_array(np.require(v, requirements="C"), k) for k, v in kept.items()]
    body = helper.make_graph(writer.nodes, old.graph.name, list(old.graph.input), list(old.graph.output), constants)
    new = helper.make_model(body, opset_imports=list(old.opset_import), ir_version=old.ir_version)
    return bytes(new.SerializeToString())


def _translate(graph: Any, writer: _Writer) -> None:
    """Write all nodes of a graph anew; _Unknown for anything that is not of the integer graph."""
    nodes, uses = list(graph.node), Counter(name for node in graph.node for name in node.input)
    uses.update(output.name for output in graph.output)
    _image(graph, nodes.pop(0), writer)
    while nodes:
        node = nodes.pop(0)
        factors = _shuffle_after(node, nodes, uses, writer)
        if factors:
            _shuffled_convolution(node, nodes[2].output[0], factors, writer)
            del nodes[:3]
        elif node.op_type in _TRANSLATORS:
            _TRANSLATORS[node.op_type](node, writer)
        else:
            raise _Unknown
    for output in graph.output:
        _scores(output.name, writer)


def _attributes(node: Any) -> dict[str, Any]:
    from onnx import helper

    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def _image(graph: Any, node: Any, writer: _Writer) -> None:
    """The quantized image, of a size known from the graph, as a matrix of one column."""
    shapes = [[d.dim_value for d in value.type.tensor_type.shape.dim] for value in graph.input]
    if node.op_type != "QuantizeLinear" or len(shapes) != 1 or len(shapes[0]) != 5 or shapes[0][:2] != [1, 1]:
        raise _Unknown
    z, y, x = shapes[0][2:]
    output = node.output[0]
    writer.add("QuantizeLinear", list(node.input), output)
    matrix = writer.reshape(output, (z * y * x, 1), f"{output}/rows")
    writer.rows[output] = Rows(matrix, z * y * x, 1, in_order((z, y, x)))


def _shuffle_after(node: Any, following: list[Any], uses: Counter[str], writer: _Writer) -> Size3 | None:
    """The factors (z, y, x) of the pixel shuffle that alone reads a convolution, if there is one."""
    kinds = [n.op_type for n in (node, *following[:3])]
    if kinds != ["QLinearConv", "Reshape", "Transpose", "Reshape"] or uses[node.output[0]] != 1:
        return None
    split, mixed, _ = following[:3]
    blocks = writer.constants.get(split.input[1], np.zeros(0))
    if split.input[0] != node.output[0] or len(blocks) != 7 or _attributes(mixed)["perm"] != [0, 4, 1, 5, 2, 6, 3]:
        return None
    z, y, x = (int(n) for n in blocks[1:4])
    return z, y, x


def _shuffled_convolution(node: Any, output: str, factors: Size3, writer: _Writer) -> None:
    """A convolution and the pixel shuffle after it: its channels are ordered so that a shuffled voxel is one row."""
    conv, blocks = _read(node, writer), math.prod(factors)
    order = np.arange(len(conv.weight)).reshape(-1, blocks).T.ravel()
    found = _convolved(conv.with_channels(order), writer)
    height, width = found.height * blocks, found.width // blocks
    matrix = writer.reshape(found.name, (height, width), f"{output}/rows")
    writer.rows[output] = Rows(matrix, height, width, shuffled(found.of[..., 0], factors))


def _read(node: Any, writer: _Writer) -> _Conv:
    """A 3D convolution without groups or dilations, all of whose parameters are constants; _Unknown for another."""
    attributes, names = _attributes(node), list(node.input)
    plain = attributes.get("group", 1) == 1 and set(attributes.get("dilations", [1])) == {1}
    if not plain or attributes.get("auto_pad", b"NOTSET") != b"NOTSET" or attributes.get("channels_last", 0):
        raise _Unknown
    if len(names) != 9 or any(name not in writer.constants for name in names[1:]):
        raise _Unknown
    weight, scale, zero, bias = (writer.constants[names[i]] for i in (3, 4, 5, 8))
    if weight.ndim != 5 or np.abs(weight.astype(np.int16)).max() > LARGEST_WEIGHT:
        raise _Unknown
    pads, strides = attributes.get("pads", [0] * 6), attributes.get("strides", [1] * 3)
    per_channel = [np.broadcast_to(value.ravel(), (len(weight),)) for value in (scale, zero, bias)]
    scales = (names[1], names[2], names[6], names[7])
    ends = tuple(pads[:3]), tuple(pads[3:])
    return _Conv(node.output[0], names[0], scales, weight, tuple(per_channel), tuple(strides), ends)  # type: ignore[arg-type]


def _convolution(node: Any, writer: _Writer) -> None:
    writer.rows[node.output[0]] = _convolved(_read(node, writer), writer)


def _convolved(conv: _Conv, writer: _Writer) -> Rows:
    """Write a convolution in the form that suits it; its result as rows."""
    source = writer.source(conv.source)
    if source.channels != conv.weight.shape[1]:
        raise _Unknown
    z, y, x = conv.size(source.size)
    if math.prod(conv.kernel) == 1 and set(conv.strides) == {1} and not any(map(any, conv.pads)):
        return _pointwise(conv, source, writer)
    if _has_blocks(conv, source):
        return _in_blocks(conv, source, writer)
    if conv.kernel[0] > 1 and y * x < SMALL_SLICE:
        return _in_space(conv, source, writer)
    pairs = len(conv.weight) < THIN and conv.kernel[0] > 1 and conv.strides[0] == 1 and z % 2 == 0
    return _in_slices(conv, 2 if pairs else 1, writer)


def _pointwise(conv: _Conv, source: Rows, writer: _Writer) -> Rows:
    """A convolution of single voxels: it takes the rows in any order, also those that no voxel reads."""
    if source.of.shape[3] > 1:
        matrix = writer.ordered(source, conv.name)
        source = Rows(matrix, math.prod(source.size), source.channels, in_order(source.size))
    image = writer.reshape(source.name, (1, source.height, source.width), f"{conv.name}/in")
    found = _write(conv, conv.weight[..., 0, 0], image, (1,), (0, 0), writer)
    matrix = writer.reshape(found, (source.height, len(conv.weight)), f"{conv.name}/rows")
    return Rows(matrix, source.height, len(conv.weight), source.of)


def _in_space(conv: _Conv, source: Rows, writer: _Writer) -> Rows:
    """A convolution in 3D with the channels last."""
    image = writer.reshape(writer.ordered(source, conv.name), (1, *source.size, source.channels), f"{conv.name}/in")
    found = _write(conv, conv.weight, image, conv.strides, (*conv.pads[0], *conv.pads[1]), writer)
    return _ordered_result(conv, found, source, writer)


def _in_slices(conv: _Conv, together: int, writer: _Writer) -> Rows:
    """A convolution in 2D over slices with their neighbours along z as channels, ``together`` slices at a time."""
    weight = two_slices(conv.weight) if together == 2 else conv.weight
    image, source = _windows(conv, weight.shape[2], together, writer)
    slices = np.ascontiguousarray(weight.transpose(0, 2, 1, 3, 4)).reshape(len(weight), -1, *weight.shape[3:])
    wide = conv.with_channels(np.tile(np.arange(len(conv.weight)), together))
    found = _write(wide, slices, image, conv.strides[1:], (*conv.pads[0][1:], *conv.pads[1][1:]), writer)
    if together == 1:
        return _ordered_result(conv, found, source, writer)
    size = conv.size(source.size)
    matrix = writer.reshape(found, (math.prod(size), len(conv.weight)), f"{conv.name}/rows")
    return Rows(matrix, math.prod(size), len(conv.weight), in_pairs(size))


def _windows(conv: _Conv, slices: int, together: int, writer: _Writer) -> tuple[str, Rows]:
    """Each group of output slices' input slices as channels: the image (groups, y, x, slices * channels)."""
    before, after = conv.pads[0][0], conv.pads[1][0]
    source = writer.padded(conv.source, conv.scales[1]) if before or after else writer.source(conv.source)
    groups, step = conv.size(source.size)[0] // together, conv.strides[0] * together
    of = np.pad(source.of, ((before, after), (0, 0), (0, 0), (0, 0)), constant_values=source.height - 1)
    index = np.stack([of[k : k + (groups - 1) * step + 1 : step] for k in range(slices)], 3)
    in_place = source.height == index.size and np.array_equal(index.ravel(), np.arange(index.size))
    taken = source.name if in_place else writer.take(source.name, index, f"{conv.name}/taken")
    shape = (groups, *source.size[1:], slices * source.channels)
    return writer.reshape(taken, shape, f"{conv.name}/in"), source


def _has_blocks(conv: _Conv, source: Rows) -> bool:
    """Whether a convolution can compute blocks along x: of one channel that lies in order, x known to keep its size."""
    same = conv.kernel[2] in (1, 3) and conv.strides[2] == 1
    same = same and conv.pads[0][2] == conv.pads[1][2] == conv.kernel[2] // 2
    return same and source.channels == 1 and source.in_order and source.size[2] % BLOCK == 0


def _in_blocks(conv: _Conv, source: Rows, writer: _Writer) -> Rows:
    """A convolution of one channel in 2D over blocks of voxels along x."""
    z, y, x = source.size
    columns, out = (z, y, x // BLOCK), len(conv.weight)
    name = writer.reshape(source.name, (source.height // BLOCK, BLOCK), f"{conv.name}/blocks")
    writer.rows[f"{conv.name}/blocks"] = Rows(name, source.height // BLOCK, BLOCK, in_order(columns))
    ends = ((*conv.pads[0][:2], 1), (*conv.pads[1][:2], 1))
    order = np.tile(np.arange(out), BLOCK)
    wide = replace(conv.with_channels(order), source=name, weight=blocked(conv.weight, BLOCK), pads=ends)
    found = _in_slices(wide, 1, writer)
    size = conv.size(source.size)
    matrix = writer.reshape(found.name, (math.prod(size), out), f"{conv.name}/unblocked")
    return Rows(matrix, math.prod(size), out, in_order(size))


def _ordered_result(conv: _Conv, found: str, source: Rows, writer: _Writer) -> Rows:
    size = conv.size(source.size)
    matrix = writer.reshape(found, (math.prod(size), len(conv.weight)), f"{conv.name}/rows")
    return Rows(matrix, math.prod(size), len(conv.weight), in_order(size))


def _write(
    conv: _Conv, weight: Array, image: str, strides: tuple[int, ...], pads: tuple[int, ...], writer: _Writer
) -> str:
    """A QLinearConv with the channels last and ``weight`` (out, in, ...), its other parameters those of ``conv``."""
    x_scale, x_zero, y_scale, y_zero = conv.scales
    values = (weight, *conv.per_channel)
    names = [
        writer.constant(f"{conv.name}/{part}", np.ascontiguousarray(value))
        for part, value in zip(("w", "w/scale", "w/zero", "b"), values, strict=True)
    ]
    inputs = [image, x_scale, x_zero, *names[:3], y_scale, y_zero, names[3]]
    shape = {"kernel_shape": list(weight.shape[2:]), "strides": list(strides), "pads": list(pads)}
    return writer.add("QLinearConv", inputs, f"{conv.name}/voxels", MICROSOFT, channels_last=1, **shape)


def _leaky_relu(node: Any, writer: _Writer) -> None:
    """A table, applied to the matrix wherever its rows are; it maps zero points to zero points."""
    source, output = writer.source(node.input[0]), node.output[0]
    slope = _attributes(node).get("alpha", 0.01)
    found = writer.add("QLinearLeakyRelu", [source.name, *node.input[1:]], f"{output}/rows", MICROSOFT, alpha=slope)
    writer.rows[output] = replace(source, name=found)


def _concatenation(node: Any, writer: _Writer) -> None:
    """The rows of all parts below each other, and a row of zero points; side by side where their widths differ."""
    scale, zero, *names = node.input
    if _attributes(node)["axis"] != 1 or zero not in writer.constants:
        raise _Unknown
    parts = [writer.source(name) for name in names[::3]]
    if len({part.width for part in parts}) > 1:
        _side_by_side(node, parts, writer)
        return
    output, width = node.output[0], parts[0].width
    row = writer.constant(f"{output}/row", np.full((1, width), writer.constants[zero], np.uint8))
    matrices = [
        n for part, at in zip(parts, range(1, len(names), 3), strict=True) for n in (part.name, *names[at : at + 2])
    ]
    found = writer.add("QLinearConcat", [scale, zero, *matrices, row, scale, zero], f"{output}/rows", MICROSOFT, axis=0)
    starts = np.cumsum([0, *(part.height for part in parts)])
    of = np.concatenate([part.of + np.int32(at) for part, at in zip(parts, starts[:-1], strict=True)], 3)
    writer.rows[output] = Rows(found, int(starts[-1]) + 1, width, of, padded=True)


def _side_by_side(node: Any, parts: list[Rows], writer: _Writer) -> None:
    output, inputs = node.output[0], list(node.input)
    for i, part in enumerate(parts):
        inputs[2 + 3 * i] = writer.ordered(part, f"{output}/{i}")
    found = writer.add("QLinearConcat", inputs, f"{output}/rows", MICROSOFT, axis=1)
    channels = sum(part.channels for part in parts)
    writer.rows[output] = Rows(found, math.prod(parts[0].size), channels, in_order(parts[0].size))


def _sum(node: Any, writer: _Writer) -> None:
    output, inputs = node.output[0], list(node.input)
    parts = [writer.source(inputs[0]), writer.source(inputs[3])]
    inputs[0], inputs[3] = (writer.ordered(part, f"{output}/{i}") for i, part in enumerate(parts))
    found = writer.add("QLinearAdd", inputs, f"{output}/rows", MICROSOFT)
    size = parts[0].size
    writer.rows[output] = Rows(found, math.prod(size), parts[0].channels, in_order(size))


def _scores(name: str, writer: _Writer) -> None:
    """A tensor as the old graph gives it: (1, channels, z, y, x)."""
    source = writer.source(name)
    matrix = writer.ordered(source, f"{name}/last")
    first = writer.add("Transpose", [matrix], f"{name}/first", perm=[1, 0])
    writer.reshape(first, (1, source.channels, *source.size), name)


_TRANSLATORS: dict[str, Callable[[Any, _Writer], None]] = {
    "QLinearConv": _convolution,
    "QLinearLeakyRelu": _leaky_relu,
    "QLinearConcat": _concatenation,
    "QLinearAdd": _sum,
}
