"""Volumes and segmentations of a Slicer scene as the engine's values, and results of the engine as nodes.

In go MRML nodes; out come Volumes (array (z, y, x), LPS mm, parent transforms applied), and back: the only place with
RAS coordinates besides finding_nodes. Node geometry is handled as 4 x 4 matrices from voxel (i, j, k) to RAS mm. What
cannot be used raises InputError and leaves the scene as it was. Calls are those of Slicer 5.8. Sources: Slicer's
vtkSegmentation, vtkSegmentationHistory and vtkMRMLSegmentationNode.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import slicer
import vtk
from vtk.util.numpy_support import get_vtk_array_type, vtk_to_numpy

from ToothTopoSegGui.segment_numbers import Numbering, SegmentLabel, number_segments
from ToothTopoSegGui.steps import at_once

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ToothTopoSegLib.imaging.volume import Array, Volume
    from ToothTopoSegLib.imaging.write import Segment

    Matrix = NDArray[Any]
    Box = tuple[slice, ...]

LABELMAP = "Binary labelmap"
SURFACE = "Closed surface"
_SEVERAL_VALUES = (
    "vtkMRMLVectorVolumeNode",
    "vtkMRMLTensorVolumeNode",
    "vtkMRMLDiffusionWeightedVolumeNode",
    "vtkMRMLMultiVolumeNode",
)
_RIGHT_ANGLE = 1e-3  # largest cosine between two axes, that of headers with rounded numbers
_SAME_LATTICE_VOXELS = 0.01
_LARGEST_SURFACE_VOXELS = 64**3  # a jaw at little more than 1 mm, about as the network sees it
_COPIED_AT_ONCE_BYTES = 16 * 2**20  # some 10 ms
FIRST_JAW = 101  # teeth have smaller numbers
_LOOKS = ("Visibility", "Visibility3D", "Visibility2DFill", "Visibility2DOutline")
_LOOKS += ("Opacity3D", "Opacity2DFill", "Opacity2DOutline")


@dataclass(frozen=True)
class SegmentedTeeth:
    """The teeth of a segmentation node.

    ``labels`` holds FDI numbers and jaw labels (uint8), ``numbers`` the one of each segment that is a tooth or jaw,
    ``scheme`` the label scheme bare numbers were read in (None where there were none), ``notes`` what to tell the user.
    """

    labels: Volume
    numbers: Mapping[str, int]
    scheme: str | None
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Layer:
    """A label map image of a segmentation as values.

    ``voxels`` (z, y, x) are the node's own or a copy, ``first`` is the VTK index (k, j, i) of the first of them,
    ``matrix`` leads from VTK indices (i, j, k) to the node's RAS mm, ``members`` is the label value of each segment.
    """

    voxels: Array
    first: Array
    matrix: Matrix
    members: Mapping[str, int]


@dataclass(frozen=True, eq=False)
class SegmentationView:
    """What a segmentation node holds, as values: enough to read its teeth, and to plan changes, away from the node.

    ``names`` are those of all segments by id, ``grid`` is where teeth are read, ``stamp`` tells whether the node has
    changed since (:func:`stamp_of`).
    """

    title: str
    numbering: Numbering
    names: Mapping[str, str]
    layers: tuple[Layer, ...]
    to_world: Matrix
    grid: Volume
    stamp: tuple[Any, ...]


# ---- volumes


def volume_of(node: Any, copy: bool = True) -> Volume:
    """A scalar volume node as a Volume in world coordinates; the scene is not touched.

    Without ``copy`` the array is the node's own: to be read at once, or by who can bear that it changes. Raises
    InputError for no node, a node that is no scalar volume, one of a time sequence, one without voxels or geometry,
    and a parent transform that bends or shears.
    """
    if copy:
        return at_once(volume_steps(node))
    _check_scalar_volume(node)
    return _grid_of_volume(node).with_array(_voxels(node.GetImageData()))


def volume_steps(node: Any) -> Generator[None, None, Volume]:
    """:func:`volume_of` in steps, between which the application may go on."""
    _check_scalar_volume(node)
    grid, image = _grid_of_volume(node), node.GetImageData()
    stamp = image.GetMTime()

    def is_unchanged() -> bool:
        return node.GetImageData() is image and image.GetMTime() == stamp

    return grid.with_array((yield from _copy_steps(_voxels(image), node.GetName(), is_unchanged)))


def _copy_steps(array: Array, title: str, is_unchanged: Callable[[], bool]) -> Generator[None, None, Array]:
    """A copy of an array (z, y, x) of the node ``title``, made in slabs; InputError where it changes meanwhile."""
    import numpy as np

    from ToothTopoSegLib.errors import InputError

    made = np.empty_like(array, order="C")
    for slab in _slabs(array):
        if not is_unchanged():  # its memory may be another's by now
            raise InputError(f"{title!r} was changed while it was read; try again.")
        made[slab] = array[slab]
        yield
    return made


def _slabs(array: Array) -> Iterator[slice]:
    """The slices (z) of an array that are copied at once, one part after the other."""
    planes = max(1, _COPIED_AT_ONCE_BYTES * len(array) // max(array.nbytes, 1))
    return (slice(start, start + planes) for start in range(0, len(array), planes))


def _check_scalar_volume(node: Any) -> None:
    from ToothTopoSegLib.errors import InputError

    if node is None:
        raise InputError("No volume is chosen; choose the CBCT volume first.")
    title = repr(node.GetName())
    if node.IsA("vtkMRMLSequenceNode") or _moments(node) > 1:
        raise InputError(f"{title} is a time sequence, expected one CBCT volume; copy the wanted moment to a volume.")
    image = node.GetImageData() if node.IsA("vtkMRMLVolumeNode") else None
    several = image is not None and image.GetNumberOfScalarComponents() > 1
    if several or any(node.IsA(name) for name in _SEVERAL_VALUES):
        raise InputError(f"{title} has several values in each voxel, expected a CBCT volume with one; choose another.")
    if not node.IsA("vtkMRMLScalarVolumeNode"):
        raise InputError(f"{title} is no volume; choose the CBCT volume.")
    if image is None or image.GetPointData().GetScalars() is None or image.GetNumberOfPoints() == 0:
        raise InputError(f"The volume {title} has no voxels; load it again or choose another.")


def _moments(node: Any) -> int:
    """How many moments a sequence browser can show in this node; 0 where it is in no sequence."""
    scene = node.GetScene()
    count = scene.GetNumberOfNodesByClass("vtkMRMLSequenceBrowserNode") if scene else 0
    browsers = [scene.GetNthNodeByClass(n, "vtkMRMLSequenceBrowserNode") for n in range(count)]
    sequences = [browser.GetSequenceNode(node) for browser in browsers]
    return max((s.GetNumberOfDataNodes() for s in sequences if s is not None), default=0)


def _grid_of_volume(node: Any) -> Volume:
    """The grid of a volume node in world coordinates; its array has the right shape and takes no memory."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    to_world = _matrix_to_world(node, "volume")
    return _grid(to_world @ _numpy_matrix(matrix), node.GetImageData().GetExtent(), f"The volume {node.GetName()!r}")


def _matrix_to_world(node: Any, what: str) -> Matrix:
    """The parent transforms of a node as one 4 x 4 matrix; InputError where they are not linear."""
    from ToothTopoSegLib.errors import InputError

    matrix = vtk.vtkMatrix4x4()
    parent = node.GetParentTransformNode()
    if parent is not None and not parent.IsTransformToWorldLinear():
        raise InputError(
            f"The {what} {node.GetName()!r} lies under the transform {parent.GetName()!r}, which bends it, expected a "
            "linear one; harden the transform or take it away."
        )
    if parent is not None:
        parent.GetMatrixTransformToWorld(matrix)
    return _numpy_matrix(matrix)


def _grid(ijk_to_ras: Matrix, extent: Sequence[int], title: str) -> Volume:
    """A Volume without memory of its own, whose voxel [0, 0, 0] is the first one of a VTK extent."""
    import numpy as np

    from ToothTopoSegLib.errors import InputError
    from ToothTopoSegLib.imaging.volume import Volume

    step = np.diag([-1.0, -1.0, 1.0]) @ ijk_to_ras[:3, :3]
    spacing = np.linalg.norm(step, axis=0)
    if not np.isfinite(ijk_to_ras).all() or spacing.min() < 1e-6 or abs(np.linalg.det(step / spacing)) < 1e-6:
        raise InputError(f"{title} has no usable spacing, origin or directions; correct them in the module Volumes.")
    direction = step / spacing
    if np.abs(direction.T @ direction - np.eye(3)).max() > _RIGHT_ANGLE:
        raise InputError(f"{title} has axes that are not at right angles; resample it to an upright grid first.")
    origin = np.diag([-1.0, -1.0, 1.0]) @ (ijk_to_ras @ [*extent[::2], 1.0])[:3]
    shape = tuple(high - low + 1 for low, high in zip(extent[4::-2], extent[5::-2], strict=True))
    return Volume(
        np.broadcast_to(np.uint8(0), shape),
        spacing=tuple(spacing[::-1].tolist()),
        origin=tuple((origin + 0.0).tolist()),
        direction=tuple(map(tuple, (direction + 0.0).tolist())),
    )


def _ijk_to_ras(grid: Volume) -> Matrix:
    """The 4 x 4 matrix from voxel (i, j, k) to RAS mm of a Volume."""
    import numpy as np

    matrix = np.eye(4)
    matrix[:3, :3] = np.asarray(grid.direction) * np.asarray(grid.spacing)[::-1]
    matrix[:3, 3] = grid.origin
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ matrix


def _numpy_matrix(matrix: Any) -> Matrix:
    import numpy as np

    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def _voxels(image: Any) -> Array:
    """The voxels (z, y, x) of a vtkImageData, not copied."""
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])


# ---- segmentations as label maps


def labels_of(segmentation_node: Any, reference_volume_node: Any = None, scheme: str | None = None) -> SegmentedTeeth:
    """The teeth of any segmentation node on the grid of a volume node, or else on the grid it was made on.

    ``scheme`` names the label scheme of bare numbers; where it is None it is told from them. Where segments overlap,
    teeth go before jaws and otherwise the first segment wins, and the notes say so. Raises UsageError for an unknown
    scheme, InputError where there is no segmentation, no segment, no tooth or only empty segments, or where a parent
    transform is not linear.
    """
    return teeth_of(view_of(segmentation_node, reference_volume_node, scheme))


def view_of(segmentation_node: Any, reference_volume_node: Any = None, scheme: str | None = None) -> SegmentationView:
    """What :func:`labels_of` reads of a node, not copied; raises as it does where the node itself is not usable."""
    numbering = _numbered(segmentation_node, scheme)
    if reference_volume_node is None:
        return _view(segmentation_node, numbering, _own_grid(segmentation_node))
    _check_scalar_volume(reference_volume_node)
    return _view(segmentation_node, numbering, _grid_of_volume(reference_volume_node))


def numbers_of(segmentation_node: Any, scheme: str | None = None) -> Mapping[str, int]:
    """The FDI number or jaw label of each segment that is one; no voxel is looked at. Raises as :func:`labels_of`."""
    return _numbered(segmentation_node, scheme).numbers


def middle_of(segmentation_node: Any, identifier: str) -> tuple[float, float, float]:
    """RAS mm of the middle of a segment in the world; told from its surface where it has one, which takes less time."""
    segment = segmentation_node.GetSegmentation().GetSegment(identifier)
    surface = segment.GetRepresentation(SURFACE)
    if surface is not None:
        to_world = _matrix_to_world(segmentation_node, "segmentation")
        r, a, s = (to_world @ [*surface.GetCenter(), 1.0])[:3].tolist()
        return r, a, s
    r, a, s = segmentation_node.GetSegmentCenterRAS(identifier)
    return r, a, s


def straightened(segmentation_node: Any) -> Any:
    """The node itself, or where a transform that bends lies above it a copy outside the scene with that hardened."""
    parent = segmentation_node.GetParentTransformNode()
    if parent is None or parent.IsTransformToWorldLinear():
        return segmentation_node
    to_world = vtk.vtkGeneralTransform()
    parent.GetTransformToWorld(to_world)
    copy = slicer.vtkMRMLSegmentationNode()
    copy.SetName(segmentation_node.GetName())
    copy.GetSegmentation().DeepCopy(segmentation_node.GetSegmentation())
    copy.ApplyTransform(to_world)
    return copy


def view_steps(
    segmentation_node: Any, scheme: str | None = None, reference_volume_node: Any = None
) -> Generator[None, None, SegmentationView]:
    """:func:`view_of` with copied voxels, in steps between which the application may go on."""
    view = view_of(segmentation_node, reference_volume_node, scheme)
    layers = []
    for layer in view.layers:
        voxels = yield from _copy_steps(layer.voxels, view.title, lambda: stamp_of(segmentation_node) == view.stamp)
        layers.append(replace(layer, voxels=voxels))
    return replace(view, layers=tuple(layers))


def stamp_of(segmentation_node: Any) -> tuple[Any, ...]:
    """What differs as soon as voxels, names or place of a segmentation node have changed; takes no time."""
    segmentation, parent = segmentation_node.GetSegmentation(), segmentation_node.GetParentTransformNode()
    source = segmentation.GetSourceRepresentationName()
    stamp: list[Any] = [source, parent and (parent.GetID(), parent.GetTransformToWorldMTime())]
    for identifier in segmentation.GetSegmentIDs():
        held = segmentation.GetSegment(identifier).GetRepresentation(source)
        stamp.append((_told(identifier, segmentation.GetSegment(identifier)), held and held.GetMTime()))
    return tuple(stamp)


def _view(node: Any, numbering: Numbering, grid: Volume) -> SegmentationView:
    segmentation = _with_labelmaps(node, grid)
    identifiers = segmentation.GetSegmentIDs()
    names = {identifier: segmentation.GetSegment(identifier).GetName() for identifier in identifiers}
    layers = tuple(_layer(image, members) for image, members in _layers(segmentation, identifiers))
    to_world = _matrix_to_world(node, "segmentation")
    return SegmentationView(node.GetName(), numbering, names, layers, to_world, grid, stamp_of(node))


def _layer(image: Any, members: Mapping[str, int]) -> Layer:
    import numpy as np

    if image is None or image.GetPointData().GetScalars() is None or image.GetNumberOfPoints() == 0:
        return Layer(np.zeros((0, 0, 0), np.uint8), np.zeros(3, int), np.eye(4), members)
    return Layer(_voxels(image), np.array(image.GetExtent()[4::-2]), _image_matrix(image), members)


def _numbered(node: Any, scheme: str | None) -> Numbering:
    from ToothTopoSegLib.errors import InputError

    if node is None or not node.IsA("vtkMRMLSegmentationNode"):
        raise InputError("No segmentation is chosen; choose the segmentation of the teeth first.")
    segmentation = node.GetSegmentation()
    if segmentation is None or segmentation.GetNumberOfSegments() == 0:
        raise InputError(f"The segmentation {node.GetName()!r} has no segments; choose another or segment a volume.")
    told = [_told(identifier, segmentation.GetSegment(identifier)) for identifier in segmentation.GetSegmentIDs()]
    return number_segments(told, scheme, repr(node.GetName()))


def _told(identifier: str, segment: Any) -> SegmentLabel:
    entry = vtk.reference("")
    segment.GetTag(segment.GetTerminologyEntryTagName(), entry)
    return SegmentLabel(identifier, segment.GetName() or "", segment.GetLabelValue(), str(entry))


def _own_grid(node: Any) -> Volume:
    """The grid of the volume the segmentation refers to, else the geometry it keeps, else what its segments span.

    Where one of the two was moved without the other, the volume's grid is no longer that of the segmentation's voxels.
    """
    volume = node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole())
    together = volume is not None and volume.GetTransformNodeID() == node.GetTransformNodeID()
    if together and volume.GetImageData() is not None:
        return _grid_of_volume(volume)
    segmentation = _with_labelmaps(node, None)
    name = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
    text = segmentation.GetConversionParameter(name) or segmentation.DetermineCommonLabelmapGeometry(
        slicer.vtkSegmentation.EXTENT_UNION_OF_SEGMENTS, None
    )
    matrix, extent = vtk.vtkMatrix4x4(), [0, -1, 0, -1, 0, -1]
    slicer.vtkSegmentationConverter.DeserializeImageGeometry(text, matrix, extent)
    if min(high - low for low, high in zip(extent[::2], extent[1::2], strict=True)) < 0:
        raise _all_empty(node.GetName())
    to_world = _matrix_to_world(node, "segmentation")
    return _grid(to_world @ _numpy_matrix(matrix), extent, f"The segmentation {node.GetName()!r}")


def _with_labelmaps(node: Any, grid: Volume | None) -> Any:
    """The node's vtkSegmentation, or where it has surfaces only a copy of it with label maps (on ``grid`` if given)."""
    from ToothTopoSegLib.errors import InputError

    segmentation = node.GetSegmentation()
    if segmentation.ContainsRepresentation(LABELMAP):
        return segmentation
    copy = slicer.vtkSegmentation()
    copy.DeepCopy(segmentation)
    if grid is not None:
        matrix = vtk.vtkMatrix4x4()
        matrix.DeepCopy((_inverse(_matrix_to_world(node, "segmentation")) @ _ijk_to_ras(grid)).ravel())
        extent = [bound for n in reversed(grid.array.shape) for bound in (0, n - 1)]
        text = slicer.vtkSegmentationConverter.SerializeImageGeometry(matrix, extent)
        copy.SetConversionParameter(slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName(), text)
    if not copy.CreateRepresentation(LABELMAP):
        raise InputError(
            f"The segmentation {node.GetName()!r} cannot be turned into voxels; make its binary label map in the "
            "module Segmentations first."
        )
    return copy


def _inverse(matrix: Matrix) -> Matrix:
    import numpy as np

    return np.linalg.inv(matrix)


def _all_empty(title: str) -> Exception:
    from ToothTopoSegLib.errors import InputError

    return InputError(f"All segments of {title!r} are empty; draw the teeth or choose another segmentation.")


def teeth_of(view: SegmentationView) -> SegmentedTeeth:
    """The teeth of a view, written on its grid; no node is touched.

    Raises InputError where all segments are empty or lie outside the grid.
    """
    import numpy as np

    grid, numbering = view.grid, view.numbering
    array = np.zeros(grid.array.shape, np.uint8)
    empty: list[str] = []
    cut = False
    overlaps: Counter[tuple[int, int]] = Counter()
    for layer in view.layers:
        members = {i: value for i, value in layer.members.items() if i in numbering.numbers}
        there = _label_values(layer.voxels) if members else set()
        empty += [view.names[i] for i, value in members.items() if value not in there]
        if not there & set(members.values()):
            continue
        box, part, whole = _on_grid(layer, view.to_world, grid)
        cut |= not whole
        table = np.zeros(max(there) + 2, np.uint8)
        for identifier, value in members.items():
            if value in there:
                table[value] = numbering.numbers[identifier]
        _merge(array[box], part, table, overlaps)
    if not array.any():
        raise _all_empty(view.title) if not cut else _elsewhere(view.title)
    notes = (*numbering.notes, *_remarks(view.names, numbering, empty, cut, overlaps))
    return SegmentedTeeth(grid.with_array(array), numbering.numbers, numbering.scheme, notes)


def _layers(segmentation: Any, identifiers: Iterable[str]) -> list[tuple[Any, dict[str, int]]]:
    """Each label map image with those of the segments that are stored in it, and their label values."""
    layers: dict[Any, dict[str, int]] = {}
    for identifier in identifiers:
        segment = segmentation.GetSegment(identifier)
        image = segment.GetRepresentation(LABELMAP)
        layers.setdefault(image, {})[identifier] = segment.GetLabelValue()
    return list(layers.items())


def _label_values(voxels: Array) -> set[int]:
    from ToothTopoSegLib.anatomy.schemes import label_values

    return set(label_values(voxels))


def _on_grid(layer: Layer, to_world: Matrix, grid: Volume) -> tuple[Box, Array, bool]:
    """A layer on a grid: the box it covers there, its values in that box, and whether the box holds it all.

    Voxels of the same lattice are taken as they are; others by the nearest neighbour.
    """
    import numpy as np

    into = _inverse(to_world @ layer.matrix) @ _ijk_to_ras(grid)
    first, size = layer.first[::-1], np.array(layer.voxels.shape[::-1])
    matrix, start = into[:3, :3], into[:3, 3] - first
    corners = np.array(np.meshgrid(*([-0.5, n - 0.5] for n in size))).reshape(3, -1)
    covered = np.linalg.solve(matrix, corners - start[:, None])
    shape = np.array(grid.array.shape[::-1])
    low = np.ceil(covered.min(axis=1) - 1e-3).astype(int)
    high = np.floor(covered.max(axis=1) + 1e-3).astype(int) + 1
    whole = bool((low >= 0).all() and (high <= shape).all())
    low, high = np.clip(low, 0, shape), np.clip(high, 0, shape)
    box = tuple(slice(a, b) for a, b in zip(low[::-1].tolist(), high[::-1].tolist(), strict=True))
    if _same_lattice(matrix, start, shape):
        shift = np.rint(start).astype(int)[::-1].tolist()
        inside = tuple(slice(s.start + d, s.stop + d) for s, d in zip(box, shift, strict=True))
        return box, layer.voxels[inside], whole
    return box, _nearest(layer.voxels, matrix, matrix @ low + start, high - low), whole


def _same_lattice(matrix: Matrix, start: Array, shape: Array) -> bool:
    """Whether the map of indices does no more than shift them by whole voxels, all over a grid of this shape."""
    import numpy as np

    drift = np.abs(matrix - np.eye(3)) @ shape + np.abs(start - np.rint(start))
    return bool(drift.max() < _SAME_LATTICE_VOXELS)


def _nearest(voxels: Array, matrix: Matrix, start: Array, size: Array) -> Array:
    """Nearest neighbours of voxels (z, y, x) on another grid; matrix, start and size are in the order (x, y, z)."""
    from scipy import ndimage

    return ndimage.affine_transform(
        voxels,
        matrix[::-1, ::-1],
        offset=start[::-1],
        output_shape=tuple(size[::-1].tolist()),
        order=0,
        mode="grid-constant",
        prefilter=False,
    )


def _image_matrix(image: Any) -> Matrix:
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    return _numpy_matrix(matrix)


def _merge(target: Array, part: Array, table: Array, overlaps: Counter[tuple[int, int]]) -> None:
    """Write a layer into the label map slice by slice; ``overlaps`` counts voxels that two claim by (kept, dropped)."""
    import numpy as np

    for there, plane in zip(target, part, strict=True):
        new = np.take(table, plane, mode="clip")
        replaces = (there >= FIRST_JAW) & (new > 0) & (new < FIRST_JAW)
        claimed = (there > 0) & (new > 0) & (there != new)
        if claimed.any():
            kept = np.where(replaces, new, there)[claimed]
            dropped = np.where(replaces, there, new)[claimed]
            pairs, counts = np.unique(np.stack([kept, dropped]), axis=1, return_counts=True)
            for kept_one, dropped_one, count in zip(*pairs.tolist(), counts.tolist(), strict=True):
                overlaps[kept_one, dropped_one] += count
        write = (new > 0) & ((there == 0) | replaces)
        there[write] = new[write]


def _remarks(
    segment_names: Mapping[str, str],
    numbering: Numbering,
    empty: Sequence[str],
    cut: bool,
    overlaps: Mapping[tuple[int, int], int],
) -> Iterator[str]:
    from ToothTopoSegLib.anatomy.schemes import listed

    owners: dict[int, list[str]] = {}
    for identifier, number in numbering.numbers.items():
        owners.setdefault(number, []).append(segment_names[identifier])
    joined = [f"{_called(number)} ({', '.join(names)})" for number, names in owners.items() if len(names) > 1]
    if joined:
        yield f"Several segments are one tooth and count as one: {listed(joined)}."
    if empty:
        yield f"Empty and left out: {listed(empty)}."
    for (kept, dropped), count in sorted(overlaps.items()):
        yield f"{_called(kept)} and {_called(dropped)} overlap in {count} voxels, which count as {_called(kept)}."
    if cut:
        yield "Parts of the segmentation that lie outside the volume were left out."


def _called(number: int) -> str:
    from ToothTopoSegLib.anatomy.fdi import is_tooth, label_name

    return f"tooth {number}" if is_tooth(number) else f"the {label_name(number)}"


def _elsewhere(title: str) -> Exception:
    from ToothTopoSegLib.errors import InputError

    return InputError(f"The segmentation {title!r} lies outside the volume; choose the volume it belongs to.")


# ---- label maps as segmentations


def show_teeth(
    labels: Volume, volume_node: Any, name: str, *, jaws_visible: bool = True, closed_surface: bool = False
) -> Any:
    """A new segmentation node in the volume's scene: one segment for each tooth and jaw of an FDI label map (uint8).

    ``labels`` lie on the grid of the volume node. Names, colours, terminology and label values are those of the
    .seg.nrrd files; all segments share one layer. The node gets the volume's parent transform and its place in the
    subject hierarchy. Raises InputError where the labels hold nothing or lie elsewhere; then, and when anything else
    fails, nothing is left in the scene.
    """
    from ToothTopoSegLib.imaging.boxes import label_boxes

    boxes = label_boxes(labels.array)
    steps = show_teeth_in_steps(
        labels, boxes, volume_node, name, jaws_visible=jaws_visible, closed_surface=closed_surface
    )
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def show_teeth_in_steps(
    labels: Volume,
    boxes: Mapping[int, Box],
    volume_node: Any,
    name: str,
    *,
    jaws_visible: bool = True,
    closed_surface: bool = False,
    node: Any = None,
) -> Generator[float, None, Any]:
    """:func:`show_teeth` as a generator, for a thread that must not be held up: each step takes a tenth of a second.

    ``boxes`` are those of :func:`~ToothTopoSegLib.imaging.boxes.label_boxes`. It yields the fraction that is done and
    returns the node, which comes into the scene with the last step; whoever stops before has left nothing there. Where
    a segmentation ``node`` of the scene is given, the last step puts the teeth in place of what it holds and gives it
    the name; segments that it had before are shown as they were.
    """
    from ToothTopoSegLib.errors import InputError
    from ToothTopoSegLib.topology.check import check_same_grid

    _check_scalar_volume(volume_node)
    check_same_grid(labels, _grid_of_volume(volume_node))
    if not boxes:
        raise InputError(f"No teeth were found in {volume_node.GetName()!r}; expected a CBCT that shows teeth.")
    segments = _told_of(sorted(boxes))
    made = yield from _segments(labels, boxes, volume_node, segments, closed_surface)
    if node is not None and node.GetScene() is volume_node.GetScene():
        _put_in_place(made, node, volume_node, name, jaws_visible)
        return node
    node = slicer.vtkMRMLSegmentationNode()
    node.SetName(name)
    node.SetAndObserveSegmentation(_segmentation_of(made))
    with _whole_or_nothing(volume_node.GetScene(), node):
        volume_node.GetScene().AddNode(node)
        node.SetAndObserveTransformNodeID(volume_node.GetTransformNodeID())
        node.SetReferenceImageGeometryParameterFromVolumeNode(volume_node)
        node.CreateDefaultDisplayNodes()
        show_jaws(node, jaws_visible)
        _place_beside(node, volume_node)
    return node


def _put_in_place(made: Mapping[str, Any], node: Any, volume_node: Any, name: str, jaws_visible: bool) -> None:
    """Put segments in place of those of a node of the scene."""
    looks, held = looks_of(node), node.GetSegmentation()
    _empty(held)
    held.SetSourceRepresentationName(LABELMAP)
    for identifier, segment in made.items():
        held.AddSegment(segment, identifier)
    node.SetName(name)
    node.SetAndObserveTransformNodeID(volume_node.GetTransformNodeID())
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume_node)
    node.CreateDefaultDisplayNodes()
    show_jaws(node, jaws_visible)
    show_as(node, made, looks)


def _segmentation_of(segments: Mapping[str, Any]) -> Any:
    segmentation = slicer.vtkSegmentation()
    segmentation.SetSourceRepresentationName(LABELMAP)
    for identifier, segment in segments.items():
        segmentation.AddSegment(segment, identifier)
    return segmentation


def _segments(
    labels: Volume, boxes: Mapping[int, Box], volume_node: Any, segments: Sequence[Segment], closed_surface: bool
) -> Generator[float, None, dict[str, Any]]:
    """New segments by their ID, which are in no segmentation yet: one that is left behind would part their layer."""
    local = vtk.vtkMatrix4x4()
    volume_node.GetIJKToRASMatrix(local)
    matrix, first = _numpy_matrix(local), volume_node.GetImageData().GetExtent()[::2]
    image = yield from _image_in_steps(labels.array, _union(list(boxes.values())), matrix, first)
    made, usual = {}, slicer.vtkSegmentation()
    for number, told in enumerate(segments):
        yield number / len(segments)
        segment = _new_segment(told, image)
        if closed_surface:
            surface = _surface(labels.array, told.value, boxes[told.value], matrix, first, usual)
            segment.AddRepresentation(SURFACE, surface)
        made[told.identifier] = segment
    yield 1.0
    return made


def _told_of(numbers: Sequence[int]) -> list[Segment]:
    """What is told of the segments of these numbers."""
    import numpy as np

    from ToothTopoSegLib.imaging.segments import tooth_segments
    from ToothTopoSegLib.imaging.volume import Volume

    return tooth_segments(Volume(np.array(numbers, np.uint8).reshape(1, 1, -1)))


def _new_segment(told: Segment, image: Any) -> Any:
    segment = slicer.vtkSegment()
    segment.SetName(told.name)
    segment.SetNameAutoGenerated(False)
    segment.SetColor(*told.colour)
    segment.SetColorAutoGenerated(False)
    segment.SetTag(segment.GetTerminologyEntryTagName(), told.terminology)
    segment.SetLabelValue(told.value)
    segment.AddRepresentation(LABELMAP, image)
    return segment


def _union(boxes: Sequence[Box]) -> Box:
    return tuple(slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in zip(*boxes, strict=True))


def _image_of(array: Array, box: Box, ijk_to_ras: Matrix, first: Sequence[int]) -> Any:
    """A box of an array (z, y, x) as a label map image; ``first`` is the VTK index (i, j, k) of voxel [0, 0, 0]."""
    steps = _image_in_steps(array, box, ijk_to_ras, first)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return done.value


def _image_in_steps(array: Array, box: Box, ijk_to_ras: Matrix, first: Sequence[int]) -> Generator[float, None, Any]:
    """:func:`_image_of` as a generator that copies some slices a step; it yields 0, for this is but the beginning."""
    start = [s.start + n for s, n in zip(box[::-1], first, strict=True)]
    image = _new_image([s.stop - s.start for s in box], array.dtype, ijk_to_ras, start)
    voxels, part = _voxels(image), array[box]
    for slab in _slabs(voxels):
        voxels[slab] = part[slab]
        yield 0.0
    image.Modified()
    return image


def _new_image(shape: Sequence[int], dtype: Any, ijk_to_ras: Matrix, first: Sequence[int]) -> Any:
    """A label map image of a shape (z, y, x), its voxels not set; ``first`` is the VTK index (i, j, k) of the first."""
    image = slicer.vtkOrientedImageData()
    image.SetExtent([bound for n, size in zip(first, shape[::-1], strict=True) for bound in (n, n + size - 1)])
    image.AllocateScalars(get_vtk_array_type(dtype), 1)
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(ijk_to_ras.ravel())
    image.SetGeometryFromImageToWorldMatrix(matrix)
    return image


def _surface(array: Array, value: int, box: Box, ijk_to_ras: Matrix, first: Sequence[int], like: Any) -> Any:
    """The closed surface (vtkPolyData) of one value in a box of an array, with the parameters of a segmentation.

    It is Slicer's own conversion, but of the box alone: Slicer runs through the whole layer for each of its segments.
    Of a very large segment, a jaw, only some of the voxels is taken, because the surface of all of them takes several
    times the memory of the label map and seconds to make. ``first`` is the VTK index (i, j, k) of voxel [0, 0, 0] of
    the array.
    """
    import numpy as np

    stride = 1
    while math.prod((s.stop - s.start) // stride for s in box) > _LARGEST_SURFACE_VOXELS:
        stride += 1
    part = array[box][::stride, ::stride, ::stride]
    # A border of background, or Slicer would make a padded copy.
    mask = np.zeros([n + 2 for n in part.shape], np.uint8)
    np.equal(part, value, out=mask[1:-1, 1:-1, 1:-1].view(bool))
    matrix = np.array(ijk_to_ras)
    matrix[:3, :3] *= stride
    start = [n + s.start for n, s in zip(first, box[::-1], strict=True)]
    matrix[:3, 3] += (ijk_to_ras[:3, :3] @ start) - matrix[:3, :3].sum(axis=1)
    alone = slicer.vtkSegmentation()
    alone.SetSourceRepresentationName(LABELMAP)
    alone.CopyConversionParameters(like)
    segment = slicer.vtkSegment()
    segment.AddRepresentation(LABELMAP, _image_of(mask, tuple(slice(0, n) for n in mask.shape), matrix, (0, 0, 0)))
    alone.AddSegment(segment, "alone")
    if not alone.CreateRepresentation(SURFACE):
        raise RuntimeError("Slicer made no closed surface")
    return segment.GetRepresentation(SURFACE)


@contextmanager
def _whole_or_nothing(scene: Any, node: Any) -> Iterator[None]:
    """Take the node, its display nodes and its place in the subject hierarchy out of the scene when the block fails."""
    try:
        yield
    except BaseException:
        remove_with_displays(scene, node)
        raise


def move_segmentation(source_node: Any, target_node: Any) -> None:
    """Put the segments of one segmentation node in place of those of another, and take the first out of the scene."""
    target_node.GetSegmentation().DeepCopy(source_node.GetSegmentation())
    target_node.SetAndObserveTransformNodeID(source_node.GetTransformNodeID())
    role = source_node.GetReferenceImageGeometryReferenceRole()
    target_node.SetReferenceImageGeometryParameterFromVolumeNode(source_node.GetNodeReference(role))
    target_node.CreateDefaultDisplayNodes()
    remove_with_displays(source_node.GetScene(), source_node)


def remove_with_segments(scene: Any, node: Any) -> None:
    """:func:`remove_with_displays` of a segmentation node that nobody wants back, in a moment."""
    remove_with_displays(scene, node)
    _empty(node.GetSegmentation())


def _empty(segmentation: Any) -> None:
    """Remove all segments, for each of which Slicer would look through the whole layer if they still were in it."""
    for identifier in segmentation.GetSegmentIDs():
        segmentation.GetSegment(identifier).RemoveRepresentation(LABELMAP)
        segmentation.RemoveSegment(identifier)


def remove_with_displays(scene: Any, node: Any) -> None:
    """Remove a displayable node with all that belongs to it alone: display nodes, storage node, hierarchy item."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    item = hierarchy.GetItemByDataNode(node) if hierarchy else 0
    if item:
        hierarchy.RemoveItem(item, False)
    own = [node.GetNthDisplayNode(n) for n in range(node.GetNumberOfDisplayNodes())] + [node.GetStorageNode()]
    for part in (*own, node):
        if part is not None and part.GetScene() is scene:
            scene.RemoveNode(part)


def looks_of(segmentation_node: Any) -> dict[str, dict[str, Any]]:
    """How each segment of a node is shown; nothing where the node has no display node."""
    display = segmentation_node.GetDisplayNode()
    identifiers = segmentation_node.GetSegmentation().GetSegmentIDs() if display else ()
    return {one: {look: getattr(display, f"GetSegment{look}")(one) for look in _LOOKS} for one in identifiers}


def show_as(segmentation_node: Any, identifiers: Iterable[str], looks: Mapping[str, Mapping[str, Any]]) -> None:
    """Show segments of a node as :func:`looks_of` has told of them; those it told nothing of stay as they are."""
    display = segmentation_node.GetDisplayNode()
    for identifier in identifiers if display else ():
        for look, value in looks.get(identifier, {}).items():
            getattr(display, f"SetSegment{look}")(identifier, value)


def show_jaws(segmentation_node: Any, visible: bool) -> None:
    """Show or hide the jaws of a segmentation that :func:`show_teeth` made."""
    segmentation, display = segmentation_node.GetSegmentation(), segmentation_node.GetDisplayNode()
    for identifier in segmentation.GetSegmentIDs() if display is not None else ():
        if segmentation.GetSegment(identifier).GetLabelValue() >= FIRST_JAW:
            display.SetSegmentVisibility(identifier, visible)


def _place_beside(node: Any, volume_node: Any) -> None:
    """Put a node under the item that the volume lies under, its study where it came by DICOM."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(node.GetScene())
    if hierarchy is None:
        return
    beside = hierarchy.GetItemByDataNode(volume_node)
    parent = hierarchy.GetItemParent(beside) if beside else hierarchy.GetSceneItemID()
    item = hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(parent, node)
    hierarchy.SetItemParent(item, parent)


# ---- changes and their history


class History:
    """Undo and redo of what :func:`apply_labels` does to one segmentation node, by Slicer's own segmentation history.

    How a segment is shown is kept for the case that an undo brings the segment back.
    """

    def __init__(self, segmentation_node: Any, states: int = 10) -> None:
        self.node = segmentation_node
        self._states = slicer.vtkSegmentationHistory()
        self._states.SetMaximumNumberOfStates(states)
        self._states.SetSegmentation(segmentation_node.GetSegmentation())
        self._looks: dict[str, dict[str, Any]] = {}

    def save(self) -> None:
        """Remember the segmentation as it is; the next undo comes back to it."""
        self._note_looks()
        self._states.SaveState()

    @property
    def can_undo(self) -> bool:
        """Whether there is a state to go back to."""
        return bool(self._states.IsRestorePreviousStateAvailable())

    @property
    def can_redo(self) -> bool:
        """Whether there is an undone state to go forward to."""
        return bool(self._states.IsRestoreNextStateAvailable())

    def undo(self) -> bool:
        """Go back to the last saved state; False where there is none."""
        return self.can_undo and self._restored(self._states.RestorePreviousState)

    def redo(self) -> bool:
        """Take back the last undo; False where there is nothing to take back."""
        return self.can_redo and self._restored(self._states.RestoreNextState)

    def _restored(self, restore: Any) -> bool:
        self._note_looks()
        before = set(self.node.GetSegmentation().GetSegmentIDs())
        done = bool(restore())
        show_as(self.node, set(self.node.GetSegmentation().GetSegmentIDs()) - before, self._looks)
        return done

    def _note_looks(self) -> None:
        self._looks |= looks_of(self.node)


@dataclass(eq=False)
class _EditedLayer:
    """A layer being changed: its voxels (z, y, x), the VTK index (k, j, i) of the first, and its segments.

    ``shift`` is what a grid index (z, y, x) becomes by, plus the grid index, as VTK index; ``members`` the label value
    of each segment in the layer. The voxels are those of the view until ``owned``. ``boxes`` is where each label lies
    in them, once all is changed.
    """

    array: Array
    first: Array
    shift: Array
    matrix: Matrix
    members: dict[str, int]
    owned: bool = False
    boxes: dict[int, Box] = field(default_factory=dict)

    def own(self) -> None:
        """Go on with a copy of the voxels, so that the node keeps what it has until all is done."""
        if not self.owned:
            self.array, self.owned = self.array.copy(), True

    def reach(self, where: Array) -> None:
        """Grow so far that the grid indices (n, 3) lie inside."""
        import numpy as np

        local = where + self.shift - self.first
        before = np.maximum(-local.min(axis=0), 0)
        after = np.maximum(local.max(axis=0) + 1 - self.array.shape, 0)
        if before.any() or after.any():
            self.array = np.pad(self.array, list(zip(before, after, strict=True)))
            self.first, self.owned = self.first - before, True

    def index(self, where: Array) -> tuple[Array, ...]:
        """Grid indices (n, 3) as an index into the voxels."""
        return tuple((where + self.shift - self.first).T)


def apply_labels(
    segmentation_node: Any, labels: Volume, history: History | None = None, scheme: str | None = None
) -> list[int]:
    """Make the teeth of a segmentation node those of an FDI label map on its own grid; the numbers that changed.

    Only voxels that differ from what :func:`labels_of` reads are touched, so that overlaps, other segments, names,
    colours and visibility stay. A number that is new gets a segment as :func:`show_teeth` makes it, a segment that
    loses all its voxels is removed; closed surfaces of changed segments are made anew. With ``history`` the state
    before is saved there first. Raises InputError where the segmentation is made of surfaces or lies on another grid.
    """
    numbering = _numbered(segmentation_node, scheme)
    check_editable(segmentation_node)
    edit = planned(_view(segmentation_node, numbering, labels), labels)
    at_once(put_steps(segmentation_node, edit, history))
    return edit.touched


def planned(view: SegmentationView, labels: Volume) -> Edit:
    """The change that makes the teeth of a view those of a label map on its grid; no node is touched.

    Raises InputError where the label map lies on another grid than the segmentation.
    """
    import numpy as np

    edit = Edit(view, labels)
    before = teeth_of(view).labels.array
    differs = before != labels.array
    if differs.any():
        where = np.argwhere(differs)
        new = labels.array[differs]
        edit.touched = sorted({*np.unique(before[differs]).tolist(), *np.unique(new).tolist()} - {0})
        edit.erase(where, new)
        edit.write(where, new)
        edit.measure()
    return edit


def put_steps(segmentation_node: Any, edit: Edit, history: History | None = None) -> Generator[None, None, None]:
    """Put a planned change into the node, in steps between which the application may go on; all of it or nothing.

    With ``history`` the state before is saved there first. Raises InputError where the node has changed since the view
    that was planned on.
    """
    _check_unchanged(segmentation_node, edit)
    if not edit.touched:
        return
    put_in_place = yield from edit.prepared(segmentation_node.GetSegmentation())
    _check_unchanged(segmentation_node, edit)
    if history is not None:
        history.save()
    put_in_place()


def _check_unchanged(node: Any, edit: Edit) -> None:
    from ToothTopoSegLib.errors import InputError

    if node.GetScene() is None:
        raise InputError(f"The segmentation {node.GetName()!r} was removed in the meantime; nothing was changed.")
    if stamp_of(node) != edit.view.stamp:
        raise InputError(
            f"The segmentation {node.GetName()!r} was changed in the meantime, so nothing was done to it; try again."
        )


def check_editable(node: Any) -> None:
    """InputError unless the segments of a node are voxels first of all, which is what can be changed."""
    from ToothTopoSegLib.errors import InputError

    if node.GetSegmentation().GetSourceRepresentationName() != LABELMAP:
        raise InputError(
            f"The segmentation {node.GetName()!r} is made of surfaces, expected voxels; make the binary label map its "
            "source in the module Segmentations."
        )


class Edit:
    """Changes of the voxels of a segmentation, made on copies of its layers; see :func:`planned`.

    ``touched`` lists the numbers that change.
    """

    def __init__(self, view: SegmentationView, grid: Volume) -> None:
        self.view = view
        self.numbers = dict(view.numbering.numbers)
        self.touched: list[int] = []
        self.added: dict[str, Segment] = {}
        self.changed: set[str] = set()
        self.matrix = _inverse(view.to_world) @ _ijk_to_ras(grid)
        self.layers: list[_EditedLayer] = []
        for layer in view.layers:
            if layer.voxels.any() and any(identifier in self.numbers for identifier in layer.members):
                shift = _shift(layer.matrix, self.matrix, grid.array.shape, view.title)
                held = (layer.voxels, layer.first, shift, layer.matrix, dict(layer.members))
                self.layers.append(_EditedLayer(*held))

    def erase(self, where: Array, new: Array) -> None:
        """Take voxels (n, 3) from all numbered segments but the new ones; jaws may go on under teeth."""
        import numpy as np

        for layer in self.layers:
            local = where + layer.shift - layer.first
            inside = ((local >= 0) & (local < layer.array.shape)).all(axis=1)
            values = layer.array[tuple(local[inside].T)]
            for identifier, value in layer.members.items():
                number = self.numbers.get(identifier)
                if number is None:
                    continue
                wanted = (new == number) | ((new > 0) & (new < FIRST_JAW) & (number >= FIRST_JAW))
                taken = local[inside][(values == value) & ~wanted[inside]]
                if len(taken):
                    layer.own()
                    layer.array[tuple(np.transpose(taken))] = 0
                    self.changed.add(identifier)

    def write(self, where: Array, new: Array) -> None:
        """Give voxels (n, 3) to the segments of the new numbers."""
        import numpy as np

        for number in np.unique(new[new > 0]).tolist():
            there = where[new == number]
            identifier = next((i for i, known in self.numbers.items() if known == number), "") or self._add(number)
            layer = self._layer_for(identifier, there)
            layer.own()
            layer.reach(there)
            layer.array[layer.index(there)] = layer.members[identifier]
            self.changed.add(identifier)

    def measure(self) -> None:
        """Note where each label lies in the layers that changed."""
        from ToothTopoSegLib.imaging.boxes import label_boxes

        for layer in self.layers:
            if layer.owned:
                layer.boxes = label_boxes(layer.array)

    def prepared(self, segmentation: Any) -> Generator[None, None, Callable[[], None]]:
        """Make all images and surfaces, which may fail; what comes back puts them in place, which takes a moment."""
        layers = [layer for layer in self.layers if layer.owned]
        images = []
        for layer in layers:
            images.append((yield from _layer_image_steps(layer)))
        surfaces = yield from self._surface_steps(segmentation, layers)

        def put_in_place() -> None:
            # The history tells by the time of the last change whether it has saved an object already.
            for made in (*images, *surfaces.values()):
                made.Modified()
            for layer, image in zip(layers, images, strict=True):
                for identifier, value in layer.members.items():
                    self._put(segmentation, identifier, value, image, surfaces.get(identifier))
            for identifier in self._emptied(layers):
                # Slicer would look for its voxels in the whole layer once more.
                segmentation.GetSegment(identifier).RemoveRepresentation(LABELMAP)
                segmentation.RemoveSegment(identifier)
            segmentation.InvokeEvent(slicer.vtkSegmentation.SourceRepresentationModified)

        return put_in_place

    def _put(self, segmentation: Any, identifier: str, value: int, image: Any, surface: Any) -> None:
        segment = segmentation.GetSegment(identifier) or _new_segment(self.added[identifier], image)
        segment.SetLabelValue(value)
        if surface is not None:
            segment.AddRepresentation(SURFACE, surface)
        segment.AddRepresentation(LABELMAP, image)
        if identifier in self.added:
            segmentation.AddSegment(segment, identifier, self._follower(segmentation, identifier))

    def _surface_steps(
        self, segmentation: Any, layers: Sequence[_EditedLayer]
    ) -> Generator[None, None, dict[str, Any]]:
        """New closed surfaces of the segments that changed, where the segmentation has surfaces."""
        made: dict[str, Any] = {}
        if not segmentation.ContainsRepresentation(SURFACE):
            return made
        for layer in layers:
            for identifier in sorted(self.changed & set(layer.members)):
                value = layer.members[identifier]
                if value in layer.boxes:
                    box, first = layer.boxes[value], layer.first[::-1].tolist()
                    made[identifier] = _surface(layer.array, value, box, layer.matrix, first, segmentation)
                    yield
        return made

    def _emptied(self, layers: Sequence[_EditedLayer]) -> list[str]:
        return [
            identifier
            for layer in layers
            for identifier in sorted(self.changed & set(layer.members))
            if layer.members[identifier] not in layer.boxes
        ]

    def _add(self, number: int) -> str:
        told = _told_of([number])[0]
        identifier, count = told.identifier, 1
        while identifier in self.view.names or identifier in self.added:
            identifier, count = f"{told.identifier}_{count}", count + 1
        self.added[identifier] = told
        self.numbers[identifier] = number
        return identifier

    def _layer_for(self, identifier: str, where: Array) -> _EditedLayer:
        """The layer a segment is in, or may be put in, where no other segment has these voxels; else one of its own."""
        import numpy as np

        home = next((layer for layer in self.layers if identifier in layer.members), None)
        value = home.members[identifier] if home else self.numbers[identifier]
        for layer in [home] if home else self.layers[:1]:
            layer.own()
            layer.reach(where)
            if home is None and (value in layer.members.values() or value in layer.array):
                continue
            if np.isin(layer.array[layer.index(where)], (0, value)).all():
                layer.members[identifier] = value
                return layer
        return self._alone(identifier, value, home, where)

    def _alone(self, identifier: str, value: int, home: _EditedLayer | None, where: Array) -> _EditedLayer:
        import numpy as np

        low = where.min(axis=0)
        size = where.max(axis=0) + 1 - low
        layer = _EditedLayer(np.zeros(size, np.uint8), low, np.zeros(3, int), self.matrix, {identifier: value}, True)
        if home is not None:
            own = home.array == value
            layer = _EditedLayer(
                own * home.array.dtype.type(value), home.first, home.shift, home.matrix, layer.members, True
            )
            home.array[own] = 0
            del home.members[identifier]
        self.layers.append(layer)
        return layer

    def _follower(self, segmentation: Any, identifier: str) -> str:
        """The segment before which a new one goes, so that numbers ascend; "" for the end."""
        listed = segmentation.GetSegmentIDs()
        return next((i for i in listed if self.numbers.get(i, 0) > self.numbers[identifier]), "")


def _shift(matrix: Matrix, grid_matrix: Matrix, shape: Sequence[int], title: str) -> Array:
    """What to add to a grid index (z, y, x) for the VTK index of the same voxel; InputError on another lattice."""
    import numpy as np

    from ToothTopoSegLib.errors import InputError

    into = _inverse(matrix) @ grid_matrix
    if not _same_lattice(into[:3, :3], into[:3, 3], np.array(shape[::-1])):
        raise InputError(
            f"The segmentation {title!r} was drawn on another grid than the one it was checked on; choose no reference "
            "volume, or the one it was made on."
        )
    return np.rint(into[:3, 3]).astype(int)[::-1]


def _layer_image_steps(layer: _EditedLayer) -> Generator[None, None, Any]:
    image = _new_image(layer.array.shape, layer.array.dtype, layer.matrix, layer.first[::-1].tolist())
    voxels = _voxels(image)
    for slab in _slabs(voxels):
        voxels[slab] = layer.array[slab]
        yield
    image.Modified()
    return image
