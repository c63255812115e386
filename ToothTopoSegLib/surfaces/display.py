"""Light surfaces of teeth to look at on a screen, many times faster than those for planning and printing.

In goes a label map (FDI numbers), out come meshes of a thousand triangles or so. Each tooth is blurred a little and
sampled on a grid of its own, so that the cost does not grow with the resolution of the scan; its surface is the dual of
that grid (S. F. F. Gibson, *Constrained elastic surface nets*, MICCAI 1998, with vertices at the mean of the crossings
of a cell's edges). What is thinner than that grid may vanish: :mod:`ToothTopoSegLib.surfaces.mesh` keeps it.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.anatomy import fdi
from ToothTopoSegLib.imaging.boxes import Box, label_boxes
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.surfaces.mesh import TriangleMesh

Floats = NDArray[np.float32]

STEP_MM = 0.7
TRIANGLES = 1200
_BLUR = 0.45
"""Standard deviation of the blur in steps: less leaves the staircase of the voxels, more wears away the root tips."""
_LEVEL = 0.42
"""A net lies a little within a rounded body; this gives a tooth its volume back."""
_AROUND = ((0, 0), (1, 0), (1, 1), (0, 1))


def display_surfaces(labels: Volume, triangles: int = TRIANGLES) -> dict[int, TriangleMesh]:
    """Meshes in LPS mm of the teeth of a label map (z, y, x) by FDI number, of about so many triangles each at most.

    Teeth that are too small to be drawn are left out.
    """
    boxes = {value: box for value, box in label_boxes(labels.array).items() if fdi.is_tooth(value)}
    found = {value: _surface(labels, value, box, triangles) for value, box in boxes.items()}
    return {value: mesh for value, mesh in found.items() if len(mesh.faces)}


def _surface(labels: Volume, value: int, box: Box, triangles: int) -> TriangleMesh:
    field, start, step = _sampled(labels.array[box] == value, np.asarray(labels.spacing))
    vertices, faces = surface_net(field, _LEVEL)
    places = labels.index_to_lps(start + vertices * step + [side.start for side in box]).astype(np.float32)
    mesh = _light(TriangleMesh(places, faces), triangles)
    return TriangleMesh(mesh.vertices, mesh.faces[:, ::-1]) if len(faces) and mesh.volume < 0 else mesh


def _light(mesh: TriangleMesh, triangles: int) -> TriangleMesh:
    """The mesh with fewer triangles by edge collapse, their topology unchecked."""
    from fast_simplification import simplify

    if len(mesh.faces) <= triangles:
        return mesh
    vertices, faces = simplify(mesh.vertices, mesh.faces, target_count=triangles)
    return TriangleMesh(np.asarray(vertices, np.float32), np.asarray(faces, np.int32))


def _sampled(mask: NDArray[np.bool_], spacing: NDArray[Any]) -> tuple[Floats, NDArray[Any], NDArray[Any]]:
    """A blurred mask on a coarser grid, zero at its border; the index (z, y, x) of its first point, and its step."""
    from scipy import ndimage

    step = np.maximum(STEP_MM / spacing, 1.0)
    pad = np.ceil(2 * step).astype(int)
    blurred = ndimage.gaussian_filter(np.pad(mask, [(n, n) for n in pad]).astype(np.float32), _BLUR * step, truncate=3)
    shape = tuple(np.ceil(blurred.shape / step).astype(int))
    field = ndimage.affine_transform(blurred, step, output_shape=shape, order=1)
    return np.pad(field, 1), -pad - step, step


def surface_net(field: Floats, level: float) -> tuple[Floats, NDArray[np.int32]]:
    """Vertices (n, 3) as indices (z, y, x) and triangles (m, 3) between ``field`` < level and above, evenly wound.

    ``field`` (z, y, x) must be below the level at its border; without anything above there are no triangles.
    """
    inside = field >= level
    total = np.zeros((*(n - 1 for n in field.shape), 3), np.float32)
    crossings = np.zeros(total.shape[:3], np.int32)
    for axis, (u, v) in product(range(3), product((0, 1), repeat=2)):
        near = tuple(np.insert([u, v], axis, 0))
        far = tuple(np.insert([u, v], axis, 1))
        low, high = _corner(field, near), _corner(field, far)
        crossed = _corner(inside, near) != _corner(inside, far)
        offset = np.repeat(np.array(near, np.float32)[None], np.count_nonzero(crossed), axis=0)
        offset[:, axis] = (level - low[crossed]) / (high - low)[crossed]
        total[crossed] += offset
        crossings += crossed
    cells = np.argwhere(crossings)
    number = np.full(crossings.shape, -1, np.int32)
    number[tuple(cells.T)] = np.arange(len(cells))
    vertices = cells + total[crossings > 0] / crossings[crossings > 0][:, None]
    return vertices.astype(np.float32), np.concatenate([_faces(inside, number, axis) for axis in range(3)])


def _corner(array: NDArray[Any], corner: tuple[int, ...]) -> NDArray[Any]:
    """The values at one of the eight corners of every cell."""
    return array[tuple(slice(c, n - 1 + c) for c, n in zip(corner, array.shape, strict=True))]


def _faces(inside: NDArray[np.bool_], number: NDArray[np.int32], axis: int) -> NDArray[np.int32]:
    """Two triangles across every edge of the grid along ``axis`` that leaves or enters the body."""
    along = np.moveaxis(inside, axis, 0)
    crossed = along[:-1] != along[1:]
    edge = np.argwhere(crossed)
    leaving = along[:-1][crossed]
    others = np.moveaxis(number, axis, 0)
    # the axes after ``axis`` in cyclic order; moveaxis keeps the rest ascending, which turns the sense for the middle
    quads = np.stack([others[edge[:, 0], edge[:, 1] - a, edge[:, 2] - b] for a, b in _AROUND], axis=1)
    turned = leaving == (axis != 1)
    quads[turned] = quads[turned, ::-1]
    return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]).astype(np.int32)
