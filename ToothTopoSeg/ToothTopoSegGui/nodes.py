"""Volumes and segmentations of a Slicer scene as the engine's values, and results of the engine as nodes.

In go MRML nodes; out come Volumes (array (z, y, x), LPS mm, parent transforms applied), and back: the only place with
RAS coordinates besides finding_nodes. Node geometry is handled as 4 x 4 matrices from voxel (i, j, k) to RAS mm. What
cannot be used raises InputError and leaves the scene as it was. Calls are those of Slicer 5.8. Sources: Slicer's
vtkSegmentation, vtkSegmentationHistory and vtkMRMLSegmentationNode.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import slicer
import vtk
from vtk.util.numpy_support import get_vtk_array_type, vtk_to_numpy

from ToothTopoSegGui.segment_numbers import Numbering, SegmentLabel, number_segments

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
_LARGEST_SURFACE_VOXELS = 200**3
_FIRST_JAW = 101  # teeth have smaller numbers
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


# ---- volumes


def volume_of(node: Any) -> Volume:
    """A copy of a scalar volume node as a Volume in world coordinates; the scene is not touched.

    Raises InputError for no node, a node that is no scalar volume, one of a time sequence, one without voxels or
    geometry, and a parent transform that bends or shears.
    """
    _check_scalar_volume(node)
    image = node.GetImageData()
    grid = _grid_of_volume(node)
    return grid.with_array(_voxels(image).copy())


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
    numbering = _numbered(segmentation_node, scheme)
    if reference_volume_node is not None:
        _check_scalar_volume(reference_volume_node)
        return _labels_on(_grid_of_volume(reference_volume_node), segmentation_node, numbering)
    return _labels_on(_own_grid(segmentation_node), segmentation_node, numbering)


def numbers_of(segmentation_node: Any, scheme: str | None = None) -> Mapping[str, int]:
    """The FDI number or jaw label of each segment that is one; no voxel is looked at. Raises as :func:`labels_of`."""
    return _numbered(segmentation_node, scheme).numbers


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
    """The grid of the volume the segmentation refers to, else the geometry it keeps, else what its segments span."""
    volume = node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole())
    if volume is not None and volume.GetImageData() is not None:
        return _grid_of_volume(volume)
    segmentation = _with_labelmaps(node, None)
    name = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
    text = segmentation.GetConversionParameter(name) or segmentation.DetermineCommonLabelmapGeometry(
        slicer.vtkSegmentation.EXTENT_UNION_OF_SEGMENTS, None
    )
    matrix, extent = vtk.vtkMatrix4x4(), [0, -1, 0, -1, 0, -1]
    slicer.vtkSegmentationConverter.DeserializeImageGeometry(text, matrix, extent)
    if min(high - low for low, high in zip(extent[::2], extent[1::2], strict=True)) < 0:
        raise _all_empty(node)
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


def _all_empty(node: Any) -> Exception:
    from ToothTopoSegLib.errors import InputError

    return InputError(f"All segments of {node.GetName()!r} are empty; draw the teeth or choose another segmentation.")


def _labels_on(grid: Volume, node: Any, numbering: Numbering) -> SegmentedTeeth:
    """The numbered segments of a node, written on a grid."""
    import numpy as np

    segmentation = _with_labelmaps(node, grid)
    to_world = _matrix_to_world(node, "segmentation")
    array = np.zeros(grid.array.shape, np.uint8)
    empty: list[str] = []
    cut = False
    overlaps: Counter[tuple[int, int]] = Counter()
    for image, members in _layers(segmentation, numbering.numbers):
        there = _label_values(image)
        empty += [segmentation.GetSegment(i).GetName() for i, value in members.items() if value not in there]
        if not there & set(members.values()):
            continue
        box, part, whole = _on_grid(image, to_world, grid)
        cut |= not whole
        table = np.zeros(max(there) + 2, np.uint8)
        for identifier, value in members.items():
            if value in there:
                table[value] = numbering.numbers[identifier]
        _merge(array[box], part, table, overlaps)
    if not array.any():
        raise _all_empty(node) if not cut else _elsewhere(node)
    notes = (*numbering.notes, *_remarks(segmentation, numbering, empty, cut, overlaps))
    return SegmentedTeeth(grid.with_array(array), numbering.numbers, numbering.scheme, notes)


def _layers(segmentation: Any, identifiers: Iterable[str]) -> list[tuple[Any, dict[str, int]]]:
    """Each label map image with those of the segments that are stored in it, and their label values."""
    layers: dict[Any, dict[str, int]] = {}
    for identifier in identifiers:
        segment = segmentation.GetSegment(identifier)
        image = segment.GetRepresentation(LABELMAP)
        layers.setdefault(image, {})[identifier] = segment.GetLabelValue()
    return list(layers.items())


def _label_values(image: Any) -> set[int]:
    from ToothTopoSegLib.anatomy.schemes import label_values

    if image is None or image.GetPointData().GetScalars() is None or image.GetNumberOfPoints() == 0:
        return set()
    return set(label_values(_voxels(image)))


def _on_grid(image: Any, to_world: Matrix, grid: Volume) -> tuple[Box, Array, bool]:
    """A label map image on a grid: the box it covers there, its values in that box, and whether the box holds it all.

    Voxels of the same lattice are taken as they are; others by the nearest neighbour.
    """
    import numpy as np

    into = _inverse(to_world @ _image_matrix(image)) @ _ijk_to_ras(grid)
    first, size = np.array(image.GetExtent()[::2]), np.array(image.GetDimensions())
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
        return box, _voxels(image)[inside], whole
    return box, _nearest(_voxels(image), matrix, matrix @ low + start, high - low), whole


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
        replaces = (there >= _FIRST_JAW) & (new > 0) & (new < _FIRST_JAW)
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
    segmentation: Any, numbering: Numbering, empty: Sequence[str], cut: bool, overlaps: Mapping[tuple[int, int], int]
) -> Iterator[str]:
    from ToothTopoSegLib.anatomy.schemes import listed

    owners: dict[int, list[str]] = {}
    for identifier, number in numbering.numbers.items():
        owners.setdefault(number, []).append(segmentation.GetSegment(identifier).GetName())
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


def _elsewhere(node: Any) -> Exception:
    from ToothTopoSegLib.errors import InputError

    return InputError(f"The segmentation {node.GetName()!r} lies outside the volume; choose the volume it belongs to.")


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
    from ToothTopoSegLib.errors import InputError
    from ToothTopoSegLib.imaging.segments import tooth_segments
    from ToothTopoSegLib.topology.check import check_same_grid

    _check_scalar_volume(volume_node)
    check_same_grid(labels, _grid_of_volume(volume_node))
    segments = tooth_segments(labels)
    if not segments:
        raise InputError(f"No teeth were found in {volume_node.GetName()!r}; expected a CBCT that shows teeth.")
    segmentation = _segmentation(labels, volume_node, segments, closed_surface)
    node = slicer.vtkMRMLSegmentationNode()
    node.SetName(name)
    node.SetAndObserveSegmentation(segmentation)
    with _whole_or_nothing(volume_node.GetScene(), node):
        volume_node.GetScene().AddNode(node)
        node.SetAndObserveTransformNodeID(volume_node.GetTransformNodeID())
        node.SetReferenceImageGeometryParameterFromVolumeNode(volume_node)
        node.CreateDefaultDisplayNodes()
        _show_jaws(node, segments, jaws_visible)
        _place_beside(node, volume_node)
    return node


def _segmentation(labels: Volume, volume_node: Any, segments: Sequence[Segment], closed_surface: bool) -> Any:
    local = vtk.vtkMatrix4x4()
    volume_node.GetIJKToRASMatrix(local)
    matrix, first = _numpy_matrix(local), volume_node.GetImageData().GetExtent()[::2]
    boxes = _boxes(labels.array)
    image = _image_of(labels.array, _union(list(boxes.values())), matrix, first)
    segmentation = slicer.vtkSegmentation()
    segmentation.SetSourceRepresentationName(LABELMAP)
    for told in segments:
        segment = _new_segment(told, image)
        if closed_surface:
            surface = _surface(labels.array, told.value, boxes[told.value], matrix, first, segmentation)
            segment.AddRepresentation(SURFACE, surface)
        segmentation.AddSegment(segment, told.identifier)
    return segmentation


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


def _boxes(array: Array) -> dict[int, Box]:
    """The box that holds each label of an array (z, y, x)."""
    from scipy import ndimage

    return {value: box for value, box in enumerate(ndimage.find_objects(array), start=1) if box is not None}


def _union(boxes: Sequence[Box]) -> Box:
    return tuple(slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in zip(*boxes, strict=True))


def _image_of(array: Array, box: Box, ijk_to_ras: Matrix, first: Sequence[int]) -> Any:
    """A box of an array (z, y, x) as a label map image; ``first`` is the VTK index (i, j, k) of voxel [0, 0, 0]."""
    image = slicer.vtkOrientedImageData()
    bounds = [(s.start + n, s.stop - 1 + n) for s, n in zip(box[::-1], first, strict=True)]
    image.SetExtent([bound for pair in bounds for bound in pair])
    image.AllocateScalars(get_vtk_array_type(array.dtype), 1)
    _voxels(image)[...] = array[box]
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(ijk_to_ras.ravel())
    image.SetGeometryFromImageToWorldMatrix(matrix)
    image.Modified()
    return image


def _surface(array: Array, value: int, box: Box, ijk_to_ras: Matrix, first: Sequence[int], like: Any) -> Any:
    """The closed surface (vtkPolyData) of one value in a box of an array, with the parameters of a segmentation.

    It is Slicer's own conversion, but of the box alone: Slicer runs through the whole layer for each of its segments.
    Of a very large segment, a jaw, only every second or third voxel is taken, because the surface of all of them takes
    several times the memory of the label map. ``first`` is the VTK index (i, j, k) of voxel [0, 0, 0] of the array.
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


def _show_jaws(node: Any, segments: Sequence[Segment], visible: bool) -> None:
    for told in segments:
        if told.value >= _FIRST_JAW:
            node.GetDisplayNode().SetSegmentVisibility(told.identifier, visible)


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
        display = self.node.GetDisplayNode()
        for identifier in set(self.node.GetSegmentation().GetSegmentIDs()) - before:
            for look, value in self._looks.get(identifier, {}).items() if display else ():
                getattr(display, f"SetSegment{look}")(identifier, value)
        return done

    def _note_looks(self) -> None:
        display = self.node.GetDisplayNode()
        for identifier in self.node.GetSegmentation().GetSegmentIDs() if display else ():
            self._looks[identifier] = {look: getattr(display, f"GetSegment{look}")(identifier) for look in _LOOKS}


@dataclass
class _Layer:
    """A label map image being changed: its voxels (z, y, x), the VTK index (k, j, i) of the first, and its segments.

    ``shift`` is what a grid index (z, y, x) becomes by, plus the grid index, as VTK index; ``members`` the label value
    of each segment in the layer. The voxels are the node's own until ``owned``.
    """

    array: Array
    first: Array
    shift: Array
    matrix: Matrix
    members: dict[str, int]
    owned: bool = False

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
    import numpy as np

    numbering = _numbered(segmentation_node, scheme)
    _check_editable(segmentation_node)
    before = _labels_on(labels, segmentation_node, numbering).labels.array
    where = np.argwhere(before != labels.array)
    if not len(where):
        return []
    new = labels.array[tuple(where.T)]
    touched = sorted({*np.unique(before[tuple(where.T)]).tolist(), *np.unique(new).tolist()} - {0})
    edit = _Edit(segmentation_node, labels, numbering.numbers)
    edit.erase(where, new)
    edit.write(where, new)
    put_in_place = edit.prepared()
    if history is not None:
        history.save()
    put_in_place()
    return touched


def _check_editable(node: Any) -> None:
    from ToothTopoSegLib.errors import InputError

    if node.GetSegmentation().GetSourceRepresentationName() != LABELMAP:
        raise InputError(
            f"The segmentation {node.GetName()!r} is made of surfaces, expected voxels; make the binary label map its "
            "source in the module Segmentations."
        )


class _Edit:
    """Changes of the voxels of a segmentation node, made on copies of its layers and put in place together."""

    def __init__(self, node: Any, grid: Volume, numbers: Mapping[str, int]) -> None:
        import numpy as np

        self.segmentation = node.GetSegmentation()
        self.numbers = dict(numbers)
        self.added: dict[str, Segment] = {}
        self.changed: set[str] = set()
        self.matrix = _inverse(_matrix_to_world(node, "segmentation")) @ _ijk_to_ras(grid)
        self.layers: list[_Layer] = []
        for image, members in _layers(self.segmentation, self.segmentation.GetSegmentIDs()):
            if _label_values(image) and any(identifier in numbers for identifier in members):
                matrix, first = _image_matrix(image), np.array(image.GetExtent()[4::-2])
                shift = _shift(matrix, self.matrix, grid.array.shape, node.GetName())
                self.layers.append(_Layer(_voxels(image), first, shift, matrix, members))

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
                wanted = (new == number) | ((new > 0) & (new < _FIRST_JAW) & (number >= _FIRST_JAW))
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

    def prepared(self) -> Callable[[], None]:
        """Make all images and surfaces, which may fail; what comes back puts them in place, which takes a moment."""
        layers = [layer for layer in self.layers if layer.owned]
        images = [_layer_image(layer) for layer in layers]
        surfaces = self._surfaces(layers)
        emptied = self._emptied(layers)

        def put_in_place() -> None:
            # The history tells by the time of the last change whether it has saved an object already.
            for made in (*images, *surfaces.values()):
                made.Modified()
            for layer, image in zip(layers, images, strict=True):
                for identifier, value in layer.members.items():
                    self._put(identifier, value, image, surfaces.get(identifier))
            for identifier in emptied:
                self.segmentation.RemoveSegment(identifier)
            self.segmentation.InvokeEvent(slicer.vtkSegmentation.SourceRepresentationModified)

        return put_in_place

    def _put(self, identifier: str, value: int, image: Any, surface: Any) -> None:
        segment = self.segmentation.GetSegment(identifier) or _new_segment(self.added[identifier], image)
        segment.SetLabelValue(value)
        if surface is not None:
            segment.AddRepresentation(SURFACE, surface)
        segment.AddRepresentation(LABELMAP, image)
        if identifier in self.added:
            self.segmentation.AddSegment(segment, identifier, self._follower(identifier))

    def _surfaces(self, layers: Sequence[_Layer]) -> dict[str, Any]:
        """New closed surfaces of the segments that changed, where the segmentation has surfaces."""
        if not self.segmentation.ContainsRepresentation(SURFACE):
            return {}
        made = {}
        for layer in layers:
            boxes = _boxes(layer.array)
            for identifier in self.changed & set(layer.members):
                value = layer.members[identifier]
                if value in boxes:
                    first = layer.first[::-1].tolist()
                    like = self.segmentation
                    made[identifier] = _surface(layer.array, value, boxes[value], layer.matrix, first, like)
        return made

    def _emptied(self, layers: Sequence[_Layer]) -> list[str]:
        return [
            identifier
            for layer in layers
            for identifier in self.changed & set(layer.members)
            if not (layer.array == layer.members[identifier]).any()
        ]

    def _add(self, number: int) -> str:
        import numpy as np

        from ToothTopoSegLib.imaging.segments import tooth_segments
        from ToothTopoSegLib.imaging.volume import Volume

        told = tooth_segments(Volume(np.full((1, 1, 1), number, np.uint8)))[0]
        identifier = self.segmentation.GenerateUniqueSegmentID(told.identifier)
        self.added[identifier] = told
        self.numbers[identifier] = number
        return identifier

    def _layer_for(self, identifier: str, where: Array) -> _Layer:
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

    def _alone(self, identifier: str, value: int, home: _Layer | None, where: Array) -> _Layer:
        import numpy as np

        low = where.min(axis=0)
        size = where.max(axis=0) + 1 - low
        layer = _Layer(np.zeros(size, np.uint8), low, np.zeros(3, int), self.matrix, {identifier: value}, True)
        if home is not None:
            own = home.array == value
            layer = _Layer(own * home.array.dtype.type(value), home.first, home.shift, home.matrix, layer.members, True)
            home.array[own] = 0
            del home.members[identifier]
        self.layers.append(layer)
        return layer

    def _follower(self, identifier: str) -> str:
        """The segment before which a new one goes, so that numbers ascend; "" for the end."""
        listed = self.segmentation.GetSegmentIDs()
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


def _layer_image(layer: _Layer) -> Any:
    box = tuple(slice(0, n) for n in layer.array.shape)
    return _image_of(layer.array, box, layer.matrix, layer.first[::-1].tolist())
