"""The surface of a tooth as triangles: closed, smooth, with the volume and the topology of its label.

In goes a label map (FDI numbers), out comes a :class:`TriangleMesh` in LPS mm. The boundary of the voxels
(:mod:`ToothTopoSegLib.surfaces.boundary`) is smoothed by a low-pass filter that does not shrink (G. Taubin, *A signal
processing approach to fair surface design*, SIGGRAPH 1995), held within its own cells so that it passes no voxel's
centre (S. F. F. Gibson, *Constrained elastic surface nets*, MICCAI 1998), and given the labelled volume. Moving the
vertices cannot change the topology; taking triangles away can, so that the result of that is checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.errors import InputError
from ToothTopoSegLib.imaging.boxes import Box, label_boxes
from ToothTopoSegLib.imaging.volume import Volume
from ToothTopoSegLib.surfaces.boundary import Boundary, boundary

Floats = NDArray[np.float64]

FEWEST_TRIANGLES = 100
"""Fewer triangles show no tooth."""
_SMOOTHINGS = 80
_LAMBDA, _MU = 0.5, -0.505
"""Taubin's factors for a pass band of 0.02: steps are up to twenty voxels apart; what is larger stays."""
_VOLUME_ROUNDS = 4
_SHARES = (1.0, 0.96, 0.92, 0.88, 0.84, 0.8, 1.25, 1.5, 2.0, 3.0, 5.0)
"""Of the wanted number, what is tried one after another where taking triangles away harmed the topology."""


@dataclass(frozen=True, eq=False)
class TriangleMesh:
    """A surface: ``vertices`` float32 (n, 3) LPS mm as (x, y, z), ``faces`` int32 (m, 3) anticlockwise from outside."""

    vertices: NDArray[np.float32]
    faces: NDArray[np.int32]

    @property
    def volume(self) -> float:
        """The enclosed volume in mm3 (signed tetrahedra, about the mean vertex so that no digits are lost)."""
        return _volume(self.vertices.astype(float), self.faces)

    @cached_property
    def watertight(self) -> bool:
        """Whether every edge lies in exactly two triangles, once in each sense, and around each vertex goes one fan."""
        return is_manifold(self.faces, len(self.vertices))

    @property
    def euler_number(self) -> int:
        """Vertices - edges + faces; of a closed surface around a label, 2 (b0 - b1 + b2)."""
        return len(self.vertices) - len(self.faces) * 3 // 2 + len(self.faces)

    @cached_property
    def bodies(self) -> tuple[int, ...]:
        """The Euler characteristic of every connected part, ascending; the closed surface of a ball has 2."""
        part = _parts(self.faces, len(self.vertices))
        vertices, corners = np.bincount(part), np.bincount(part[self.faces[:, 0]])
        return tuple(sorted((vertices - corners // 2).tolist()))


def tooth_surface(
    labels: Volume, fdi: int, triangles: int | None = None, boxes: Mapping[int, Box] | None = None
) -> TriangleMesh:
    """The surface of one label: closed, manifold, outward, with the Betti numbers of its voxels (26-connected).

    ``triangles`` is how many the mesh should have at most (at least 100): it has more where fewer would change the
    topology. ``boxes`` are those of :func:`~ToothTopoSegLib.imaging.boxes.label_boxes`, for many teeth of one map. The
    volume is that of the label up to 1 % unless the label is a few voxels thin. Raises InputError when there is no such
    label.
    """
    box = (label_boxes(labels.array) if boxes is None else boxes).get(fdi)
    if box is None:
        raise InputError(f"The label map holds no tooth {fdi}; ask for one that it has.")
    mask = labels.array[box] == fdi
    wanted = np.count_nonzero(mask) * labels.voxel_volume
    found = boundary(mask)
    spacing = np.asarray(labels.spacing)
    smooth = _smoothed(found, spacing, wanted)
    vertices = labels.index_to_lps(smooth / spacing + [side.start for side in box])
    # (z, y, x) turned into (x, y, z) is a mirror, and so may be the axes of the image
    mirrored = np.linalg.det(np.asarray(labels.direction)) > 0
    faces = found.triangles[:, ::-1] if mirrored else found.triangles
    mesh = TriangleMesh(vertices.astype(np.float32), faces.astype(np.int32))
    return mesh if triangles is None else simplified(mesh, triangles)


def simplified(mesh: TriangleMesh, triangles: int) -> TriangleMesh:
    """The mesh with at most so many triangles (quadric error), or as few more as its topology takes; same volume.

    Edges are collapsed where the surface is flattest (M. Garland, P. S. Heckbert, *Surface simplification using
    quadric error metrics*, SIGGRAPH 1997).
    """
    from fast_simplification import simplify

    wanted = max(triangles, FEWEST_TRIANGLES)
    for target in (int(share * wanted) for share in _SHARES):
        if target < len(mesh.faces):
            vertices, faces = simplify(mesh.vertices, mesh.faces, target_count=target)
            found = TriangleMesh(np.asarray(vertices, np.float32), np.asarray(faces, np.int32))
            if found.watertight and found.bodies == mesh.bodies:
                return _with_volume(found, mesh.volume)
    return mesh


def is_manifold(faces: NDArray[Any], count: int) -> bool:
    """Whether triangles (m, 3) of ``count`` vertices, all of them used, are a closed, evenly wound 2-manifold."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not len(faces) or len(np.unique(faces)) != count:
        return False
    start, end = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    there, back = start * np.int64(count) + end, end * np.int64(count) + start
    order, reverse = np.argsort(there), np.argsort(back)
    if (np.diff(there[order]) == 0).any() or not np.array_equal(there[order], back[reverse]):
        return False
    # the corner an edge leaves and the one where its reverse ends are at one vertex: all there must hang together, or
    # two fans meet in it
    corner = np.arange(faces.size).reshape(faces.shape)
    following = np.roll(corner, -1, axis=1).ravel()
    rows, columns = corner.ravel()[order], following[reverse]
    fans = connected_components(coo_array((np.ones(len(rows)), (rows, columns)), shape=(faces.size,) * 2), False)[0]
    return int(fans) == count


def _parts(faces: NDArray[Any], count: int) -> NDArray[np.int32]:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    start, end = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    graph = coo_array((np.ones(len(start)), (start, end)), shape=(count, count))
    part: NDArray[np.int32] = connected_components(graph, directed=False)[1]
    return part


def _volume(vertices: Floats, faces: NDArray[Any]) -> float:
    a, b, c = (vertices[faces[:, i]] - vertices.mean(axis=0) for i in range(3))
    return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)


def _smoothed(found: Boundary, spacing: Floats, wanted: float) -> Floats:
    """Vertices (n, 3) in mm along (z, y, x), smoothed within their cells, enclosing ``wanted`` mm3."""
    mean = _mean_of_neighbours(found)
    low, high = found.low * spacing, found.high * spacing
    points = found.vertices * spacing
    for _ in range(_SMOOTHINGS):
        for factor in (_LAMBDA, _MU):
            points = np.clip(points + factor * (mean @ points - points), low, high)
    for _ in range(_VOLUME_ROUNDS):
        points = np.clip(_blown(points, found.triangles, wanted), low, high)
    return points


def _mean_of_neighbours(found: Boundary) -> Any:
    """The sparse matrix (n, n) that turns vertices into the means of those they share an edge with."""
    from scipy.sparse import csr_array

    one, two = found.edges.T
    count = len(found.vertices)
    degree = np.bincount(found.edges.ravel(), minlength=count)
    rows, columns = np.concatenate([one, two]), np.concatenate([two, one])
    return csr_array((1.0 / degree[rows], (rows, columns)), shape=(count, count))


def _blown(points: Floats, faces: NDArray[Any], wanted: float) -> Floats:
    """The points moved along the normals, all equally far, by what is missing to the volume ``wanted``."""
    a, b, c = (points[faces[:, i]] for i in range(3))
    normal = np.cross(b - a, c - a)
    area = float(np.linalg.norm(normal, axis=1).sum()) / 2
    at = np.zeros_like(points)
    for i in range(3):
        np.add.at(at, faces[:, i], normal)
    at /= np.maximum(np.linalg.norm(at, axis=1, keepdims=True), 1e-12)
    return np.asarray(points + (wanted - _volume(points, faces)) / max(area, 1e-12) * at)


def _with_volume(mesh: TriangleMesh, wanted: float) -> TriangleMesh:
    points = mesh.vertices.astype(float)
    for _ in range(2):
        points = _blown(points, mesh.faces, wanted)
    return TriangleMesh(points.astype(np.float32), mesh.faces)
