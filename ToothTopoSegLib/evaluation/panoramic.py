"""A dentist's panoramic picture computed from a CBCT and its label map: a curved planar reformation.

In go a scan and an FDI label map on one canonical grid; out comes a grey picture along the dental arch, the teeth
seen in it, and the way from the picture to the patient and back. One smooth arch lies through the teeth of both
jaws; every picture column looks through a slab of tissue across it, as the focal trough of a panoramic X-ray unit
does. The patient's right is at the picture's left and the upper jaw on top. Arch form: y = depth * |x / width|^p
(an even power curve, between parabola and U; cf. AlHarbi et al., Angle Orthod 2008, on curves for dental arches).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ToothTopoSegLib.anatomy import fdi
from ToothTopoSegLib.anatomy.sizes import size_of
from ToothTopoSegLib.imaging.boxes import Box, label_boxes
from ToothTopoSegLib.imaging.volume import Volume

Floats = NDArray[np.float64]

PIXEL_MM = 0.3
SLAB_HALF_MM = 9.0
MARGIN_MM = 12.0
_DEPTH_STEP_MM = 0.5
_COLUMNS_AT_ONCE = 32
# Without teeth the picture still needs a height: that of both dentitions with their roots, about 60 mm.
_HALF_HEIGHT_WITHOUT_TEETH_MM = 30.0

# A mean adult arch through the tooth centres, in mm (half width and depth at the second molars, power of the
# curve, turn about the vertical in radians) and how far a patient may stray from it before the fit resists.
_FORM = np.array([28.0, 42.0, 2.4, 0.0])
_FORM_SPREAD = np.array([4.0, 6.0, 0.4, 0.15])
_TEETH_FOR_A_FIT = 4


@dataclass(frozen=True, eq=False)
class Panoramic:
    """A panoramic picture: row 0 is uppermost, column 0 is the patient's right end of the arch.

    ``grey`` is float (rows, columns), ``labels`` the FDI number or jaw value seen through each pixel, ``curve`` the
    LPS (x, y) mm of each column's middle, ``normals`` the outward (labial) unit vectors there, ``top_mm`` the LPS
    z of row 0, ``pixel_mm`` the side of a pixel.
    """

    grey: Floats
    labels: NDArray[np.int32]
    curve: Floats
    normals: Floats
    top_mm: float
    pixel_mm: float

    def to_lps(self, rows_columns: Floats, depth_mm: float = 0.0) -> Floats:
        """LPS (..., 3) mm of picture positions (..., 2) as (row, column), ``depth_mm`` outward of the arch."""
        position = np.asarray(rows_columns, dtype=float)
        columns = np.clip(position[..., 1], 0, len(self.curve) - 1)
        every = np.arange(len(self.curve))
        axial = [
            np.interp(columns, every, self.curve[:, i]) + depth_mm * np.interp(columns, every, self.normals[:, i])
            for i in (0, 1)
        ]
        return np.stack([*axial, self.top_mm - position[..., 0] * self.pixel_mm], axis=-1)

    def to_picture(self, lps: Floats) -> Floats:
        """Picture positions (..., 2) as (row, column) of LPS positions (..., 3) mm, projected onto the arch."""
        position = np.asarray(lps, dtype=float)
        axial = position[..., :2].reshape(-1, 2)
        columns, _ = _nearest_on(self.curve, axial)
        rows = (self.top_mm - position[..., 2]) / self.pixel_mm
        return np.stack([rows, columns.reshape(position.shape[:-1])], axis=-1)

    def distance_mm(self, lps: Floats) -> Floats:
        """How far (...,) mm positions (..., 3) lie from the arch in the axial plane."""
        position = np.asarray(lps, dtype=float)
        _, distance = _nearest_on(self.curve, position[..., :2].reshape(-1, 2))
        return distance.reshape(position.shape[:-1])


def panoramic(
    scan: Volume, labels: Volume, pixel_mm: float = PIXEL_MM, slab_half_mm: float = SLAB_HALF_MM
) -> Panoramic:
    """The panoramic picture of ``scan`` with the teeth of ``labels``, both canonical (z, y, x) on one grid.

    Only the slab along the arch is sampled, a few columns at a time. Raises ValueError if the grids differ.
    """
    if scan.array.shape != labels.array.shape:
        raise ValueError(f"scan {scan.array.shape} and labels {labels.array.shape} must lie on one grid")
    boxes = tooth_boxes(labels)
    curve, normals = _arch_columns(scan, tooth_centres(labels, boxes), pixel_mm)
    top, bottom = _vertical_extent(scan, boxes)
    heights = np.arange(top, bottom, -pixel_mm)
    grey = np.empty((len(heights), len(curve)))
    seen = np.zeros(grey.shape, dtype=np.int32)
    depths = np.arange(-slab_half_mm, slab_half_mm + 1e-6, _DEPTH_STEP_MM)
    outside = float(scan.array.min())
    for start in range(0, len(curve), _COLUMNS_AT_ONCE):
        part = slice(start, start + _COLUMNS_AT_ONCE)
        index = _sample_positions(scan, curve[part], normals[part], depths, heights)
        grey[:, part] = _see_through(scan, index, outside)
        seen[:, part] = _thickest_label(labels, index)
    return Panoramic(grey, seen, curve, normals, float(top), float(pixel_mm))


def tooth_boxes(labels: Volume) -> dict[int, Box]:
    """Bounding box (z, y, x) of every FDI tooth in a label map."""
    boxes = label_boxes(labels.array, highest=fdi.LOWER_JAW - 1)
    return {value: box for value, box in boxes.items() if fdi.is_tooth(value)}


def tooth_centres(labels: Volume, boxes: Mapping[int, Box]) -> dict[int, Floats]:
    """LPS centroid (3,) mm of every FDI tooth in a label map (z, y, x) with these :func:`tooth_boxes`."""
    centres = {}
    for value, box in boxes.items():
        offset = [piece.start for piece in box]
        index = np.argwhere(labels.array[box] == value).mean(axis=0) + offset
        centres[value] = labels.index_to_lps(index)
    return centres


# --- the arch ----------------------------------------------------------------------------------------------------


def _arch_columns(scan: Volume, centres: dict[int, Floats], pixel_mm: float) -> tuple[Floats, Floats]:
    """Middle (n, 2) and outward normal (n, 2) of every picture column, from the patient's right to the left."""
    middle = scan.index_to_lps((np.array(scan.array.shape) - 1) / 2)[:2]
    points = np.array([c[:2] for c in centres.values()]).reshape(-1, 2)
    vertex_and_form = _fit_arch(points, list(centres), middle)
    line = _arch_line(vertex_and_form)
    arc = _arc_length(line)
    first, last = _columns_extent(line, arc, points)
    wanted = np.arange(first, last, pixel_mm)
    curve = _inside(scan, np.stack([np.interp(wanted, arc, line[:, i]) for i in (0, 1)], axis=1))
    tangent = np.gradient(curve, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    # Walking from right to left (towards +x at the incisors), the lips lie on the right-hand side, towards -y.
    return curve, np.stack([tangent[:, 1], -tangent[:, 0]], axis=1)


def _inside(scan: Volume, curve: Floats) -> Floats:
    """The columns between the first and the last that lie in the scan; all of them if the arch misses the scan."""
    height = scan.index_to_lps((np.array(scan.array.shape) - 1) / 2)[2]
    index = scan.lps_to_index(np.column_stack([curve, np.full(len(curve), height)]))[:, 1:]
    seen = np.flatnonzero(((index >= 0) & (index <= np.array(scan.array.shape[1:]) - 1)).all(axis=1))
    return curve[seen[0] : seen[-1] + 1] if len(seen) > 1 else curve


def _columns_extent(line: Floats, arc: Floats, points: Floats) -> tuple[float, float]:
    """Arc lengths where the picture begins and ends: the whole mean arch, and a margin beyond the last tooth."""
    middle = arc[len(arc) // 2]
    first, last = middle + _expected_arc(18), middle + _expected_arc(28)
    if len(points):
        seen = np.interp(_nearest_on(line, points)[0], np.arange(len(arc)), arc)
        first, last = min(first, seen.min()), max(last, seen.max())
    return max(first - MARGIN_MM, arc[0]), min(last + MARGIN_MM, arc[-1])


def _fit_arch(points: Floats, numbers: list[int], middle: Floats) -> Floats:
    """Vertex x, y and the four form values of the arch that best follows the tooth centres (n, 2).

    Distances count with a robust loss, so that a misplaced tooth does not bend the arch. Below four teeth the mean
    form is kept and only moved; without any tooth it lies about the middle of the scan.
    """
    from scipy.optimize import least_squares

    start = np.concatenate([[middle[0], middle[1] - _FORM[1] / 2], _FORM])
    if not len(points):
        return start
    expected = np.array([_expected_arc(number) for number in numbers])
    free = slice(0, 6 if len(points) >= _TEETH_FOR_A_FIT else 2)
    start[:2] += points.mean(axis=0) - _at_arc(start, expected).mean(axis=0)

    def residuals(values: Floats) -> Floats:
        arch = start.copy()
        arch[free] = values
        line = _arch_line(arch)
        away = _nearest_on(line, points)[1] / 1.5
        # The number says where along the arch a tooth belongs: weak, but it places a scan of one quadrant.
        along = np.linalg.norm(points - _at_arc(arch, expected, line), axis=1) / 12.0
        form = (arch[2:] - _FORM) / _FORM_SPREAD
        # A soft loss by hand on the teeth alone: the form's own resistance must stay quadratic.
        return np.concatenate([_soften(away), _soften(along), form * 0.5])

    start[free] = least_squares(residuals, start[free], x_scale=np.array([3.0, 3, 4, 6, 0.4, 0.15])[free]).x
    return start


def _soften(residual: Floats) -> Floats:
    """Residuals whose squares grow only linearly beyond 1 (pseudo-Huber)."""
    value: Floats = np.sqrt(2.0 * (np.sqrt(1.0 + residual**2) - 1.0))
    return value


def _expected_arc(number: int) -> float:
    """Arc length in mm from the midline at which a tooth belongs: negative on the patient's right."""
    mesial = [
        size_of(other).md_crown
        for other in fdi.arch_order(fdi.is_upper(number), fdi.is_deciduous(number))
        if fdi.is_left(other) == fdi.is_left(number) and fdi.position(other) < fdi.position(number)
    ]
    arc = sum(mesial) + size_of(number).md_crown / 2
    return arc if fdi.is_left(number) else -arc


def _arch_line(arch: Floats) -> Floats:
    """The arch as a dense line (n, 2) of LPS x, y from the patient's right to the left, vertex in its middle."""
    x0, y0, width, depth, power, turn = arch
    u = np.linspace(-1.6, 1.6, 401)
    power = np.clip(power, 1.6, 4.0)
    local = np.stack([max(width, 10.0) * u, max(depth, 10.0) * np.abs(u) ** power], axis=1)
    cos, sin = np.cos(turn), np.sin(turn)
    line: Floats = local @ np.array([[cos, sin], [-sin, cos]]) + (x0, y0)
    return line


def _arc_length(line: Floats) -> Floats:
    """Length (n,) of the line from its beginning to each of its points."""
    return np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])


def _at_arc(arch: Floats, arc_from_midline: Floats, line: Floats | None = None) -> Floats:
    """Points (n, 2) at signed arc lengths from the vertex."""
    line = _arch_line(arch) if line is None else line
    arc = _arc_length(line)
    arc -= arc[len(arc) // 2]
    return np.stack([np.interp(arc_from_midline, arc, line[:, i]) for i in (0, 1)], axis=1)


def _nearest_on(line: Floats, points: Floats) -> tuple[Floats, Floats]:
    """Fractional index (n,) into a line (m, 2) nearest to each point (n, 2), and the distance (n,) there."""
    start, step = line[:-1], np.diff(line, axis=0)
    from_start = points[:, None, :] - start[None]
    t = np.clip((from_start * step).sum(-1) / (step**2).sum(-1), 0.0, 1.0)
    distance = np.linalg.norm(from_start - t[..., None] * step, axis=-1)
    best = distance.argmin(axis=1)
    every = np.arange(len(points))
    return best + t[every, best], distance[every, best]


def _vertical_extent(scan: Volume, boxes: Mapping[int, Box]) -> tuple[float, float]:
    """LPS z in mm of the picture's top and bottom: the teeth with a margin, never beyond the scan."""
    depth = scan.array.shape[0]
    rows, columns = (scan.array.shape[1] - 1) / 2, (scan.array.shape[2] - 1) / 2
    z = scan.index_to_lps(np.array([[k, rows, columns] for k in range(depth)]))[:, 2]
    if boxes:
        ends = [z[k] for box in boxes.values() for k in (box[0].start, box[0].stop - 1)]
        low, high = min(ends) - MARGIN_MM, max(ends) + MARGIN_MM
    else:
        middle = z.mean()
        low, high = middle - _HALF_HEIGHT_WITHOUT_TEETH_MM, middle + _HALF_HEIGHT_WITHOUT_TEETH_MM
    return min(high, z.max()), max(low, z.min() - 1e-3)


# --- looking through the slab ------------------------------------------------------------------------------------


def _sample_positions(scan: Volume, curve: Floats, normals: Floats, depths: Floats, heights: Floats) -> Floats:
    """Voxel indices (3, heights, columns, depths) as (z, y, x) of all samples of some columns."""
    axial = curve[:, None] + normals[:, None] * depths[None, :, None]
    # a position is the sum of what its place in the axial plane and what its height give
    flat = scan.lps_to_index(np.concatenate([axial, np.zeros((*axial.shape[:2], 1))], axis=-1))
    up = scan.lps_to_index(np.array([[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]))
    raised = heights[:, None] * (up[0] - up[1])
    return np.moveaxis(flat, -1, 0)[:, None] + raised.T[:, :, None, None]


def _see_through(scan: Volume, index: Floats, outside: float) -> Floats:
    """Grey (heights, columns) of the slab: half mean, as X-rays add up, half the densest tenth, which keeps edges."""
    from scipy import ndimage

    values = ndimage.map_coordinates(scan.array, index, output=np.float32, order=1, mode="constant", cval=outside)
    n = max(values.shape[-1] // 10, 1)
    dense = np.partition(values, -n, axis=-1)[..., -n:]
    grey: Floats = 0.5 * values.mean(axis=-1, dtype=float) + 0.5 * dense.mean(axis=-1, dtype=float)
    return grey


def _thickest_label(labels: Volume, index: Floats) -> NDArray[np.int32]:
    """The tooth (heights, columns) that most samples along each ray lie in; a jaw only where there is no tooth."""
    nearest = np.rint(index).astype(np.int32)
    inside = np.ones(index.shape[1:], dtype=bool)
    for axis, size in zip(nearest, labels.array.shape, strict=True):
        inside &= (axis >= 0) & (axis < size)
        np.clip(axis, 0, size - 1, out=axis)
    found = np.where(inside, labels.array[tuple(nearest)], 0)
    pixels, samples = index.shape[1:3], index.shape[3]
    where = np.flatnonzero(found)
    values, kind = np.unique(found.reshape(-1)[where], return_inverse=True)
    if not len(values):
        return np.zeros(pixels, dtype=np.int32)
    count = np.bincount(where // samples * len(values) + kind, minlength=len(values) * found[..., 0].size)
    # One sample of a tooth outweighs any jaw: the teeth are what the picture is about.
    weight = [1000 if fdi.is_tooth(value) else 1 for value in values.tolist()]
    thickness = count.reshape(-1, len(values)) * weight
    best = np.where(thickness.any(axis=1), values[thickness.argmax(axis=1)], 0)
    return best.reshape(pixels).astype(np.int32)
