"""Results to hand on: a surface for each tooth, a label map with FDI values, a segmentation, and what DICOM asks for.

In go segmentation nodes, whoever made them; out come files that other programs read. What the teeth are is told as
everywhere else (see segment_numbers). A DICOM segmentation is written by Slicer's own DICOM export; what it needs to
find on the nodes is put there by :func:`prepare_for_dicom`. Files are complete or not there. Calls are those of Slicer
5.8. Sources: Slicer's vtkMRMLModelStorageNode, vtkSlicerSegmentationsModuleLogic and DICOMSegmentationPlugin; DICOM
PS3.3 C.8.20 (segmentation).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer
import vtk

from ToothTopoSegGui.nodes import labels_of, numbers_of
from ToothTopoSegGui.segment_numbers import number_of_terminology

if TYPE_CHECKING:
    from ToothTopoSegGui.nodes import SegmentedTeeth

SURFACE_FORMATS = ("stl", "obj")
COORDINATES = ("LPS", "RAS")
ALGORITHM_TYPES = ("AUTOMATIC", "SEMIAUTOMATIC", "MANUAL")
_ALGORITHM_TYPE, _ALGORITHM_NAME = "DICOM.SegmentAlgorithmType", "DICOM.SegmentAlgorithmName"
_REFERENCED_INSTANCES = "DICOM.ReferencedInstanceUIDs"
_FORBIDDEN_IN_NAMES = '<>:"/\\|?*'
_NO_CODE = ("", "85756007")  # none, and Slicer's "Tissue" for a segment that nobody has told anything of
_COLOUR_TABLE = "ToothTopoSeg FDI"


# ---- files


def save_surfaces(
    segmentation_node: Any,
    folder: str | Path,
    file_format: str = "stl",
    coordinates: str = "LPS",
    scheme: str | None = None,
    jaws: bool = False,
) -> list[Path]:
    """Write the closed surface of each tooth (mm, world coordinates) as a file of its own; the paths, by FDI number.

    ``file_format`` is stl (binary) or obj, ``coordinates`` LPS or RAS, which the file's header names. The names carry
    the FDI number: "Teeth_36_lower_left_first_molar.stl". With ``jaws`` the jaws are written too. Raises UsageError for
    another format or an unknown ``scheme``, InputError where no segment is a tooth or all are empty, OutputError.
    """
    from ToothTopoSegLib.errors import InputError
    from ToothTopoSegLib.imaging.write import output_folder

    _check_choice(file_format, SURFACE_FORMATS, "format of surfaces")
    _check_choice(coordinates, COORDINATES, "kind of coordinates")
    surfaces = _surfaces(segmentation_node, scheme, jaws)
    if not surfaces:
        raise InputError(f"All teeth of {segmentation_node.GetName()!r} are empty; draw them or choose another.")
    folder = Path(folder)
    names = {number: f"{_stem(segmentation_node, number)}.{file_format}" for number in surfaces}
    with output_folder(folder) as staging:
        for number, surface in surfaces.items():
            _write_surface(surface, staging / names[number], coordinates)
    return [folder / name for name in names.values()]


def save_label_map(
    segmentation_node: Any, path: str | Path, reference_volume_node: Any = None, scheme: str | None = None
) -> SegmentedTeeth:
    """Write a label map whose values are FDI numbers (101 and 102 the jaws) and its colour table; the teeth written.

    The name decides on NIfTI, NRRD or MetaImage; the colour table lies beside it as "<name>_ColorTable.ctbl", for
    Slicer, which else numbers colours from 1. Raises what labels_of raises, UsageError for another suffix, OutputError.
    """
    from ToothTopoSegLib.anatomy.colours import colour_table
    from ToothTopoSegLib.imaging.read import scan_name
    from ToothTopoSegLib.imaging.write import output_folder, write_label_map

    path = Path(path)
    teeth = labels_of(segmentation_node, reference_volume_node, scheme)
    with output_folder(path.parent) as staging:
        write_label_map(teeth.labels, staging / path.name)
        table = staging / f"{scan_name(path)}_ColorTable.ctbl"
        table.write_text(colour_table(), encoding="utf-8", newline="\n")
    return teeth


def save_segmentation(
    segmentation_node: Any, path: str | Path, reference_volume_node: Any = None, scheme: str | None = None
) -> SegmentedTeeth:
    """Write a .seg.nrrd in which each tooth has its name, colour, code and FDI number as value; the teeth written.

    Other than Slicer's own saving, this gives the teeth of any segmentation the names and codes of this program.
    Raises what labels_of raises, UsageError for another suffix, OutputError.
    """
    from ToothTopoSegLib.imaging.segments import tooth_segments
    from ToothTopoSegLib.imaging.write import output_folder, write_segmentation

    path = Path(path)
    teeth = labels_of(segmentation_node, reference_volume_node, scheme)
    with output_folder(path.parent) as staging:
        write_segmentation(teeth.labels, staging / path.name, tooth_segments(teeth.labels))
    return teeth


def _check_choice(value: str, known: tuple[str, ...], what: str) -> None:
    from ToothTopoSegLib.errors import UsageError

    if value not in known:
        raise UsageError(f"{value!r} is no {what}; choose {' or '.join(known)}.")


def _surfaces(node: Any, scheme: str | None, jaws: bool) -> dict[int, Any]:
    """The closed surface (vtkPolyData, RAS mm) of each tooth that has one, by ascending number."""
    from ToothTopoSegLib.anatomy.fdi import is_tooth

    parts: dict[int, list[Any]] = {}
    for identifier, number in numbers_of(node, scheme).items():
        if jaws or is_tooth(number):
            parts.setdefault(number, []).append(_surface_of_segment(node, identifier))
    joined = {number: _joined(parts[number]) for number in sorted(parts)}
    return {number: surface for number, surface in joined.items() if surface.GetNumberOfCells()}


def _surface_of_segment(node: Any, identifier: str) -> Any:
    surface = vtk.vtkPolyData()
    slicer.vtkSlicerSegmentationsModuleLogic.GetSegmentClosedSurfaceRepresentation(node, identifier, surface, True)
    return surface


def _joined(surfaces: list[Any]) -> Any:
    if len(surfaces) == 1:
        return surfaces[0]
    append = vtk.vtkAppendPolyData()
    for surface in surfaces:
        append.AddInputData(surface)
    append.Update()
    return append.GetOutput()


def _write_surface(surface: Any, path: Path, coordinates: str) -> None:
    from ToothTopoSegLib.errors import OutputError

    model, storage = slicer.vtkMRMLModelNode(), slicer.vtkMRMLModelStorageNode()
    model.SetAndObservePolyData(surface)
    storage.SetFileName(str(path))
    storage.SetUseCompression(True)  # binary STL
    storage.SetCoordinateSystem(getattr(slicer.vtkMRMLStorageNode, f"CoordinateSystem{coordinates}"))
    if not storage.WriteData(model):
        raise OutputError(f"The surface {path.name} could not be written; check the folder and its free space.")


def _stem(node: Any, number: int) -> str:
    """A file name without suffix: the segmentation's name, the FDI number, the tooth in words."""
    from ToothTopoSegLib.anatomy.fdi import is_tooth, label_name

    title = "".join("_" if c in _FORBIDDEN_IN_NAMES or ord(c) < 32 else c for c in node.GetName() or "").strip(" .")
    words = [title, str(number) if is_tooth(number) else "", label_name(number).replace(" ", "_")]
    return "_".join(word for word in words if word)


# ---- label values inside Slicer


def use_fdi_values(segmentation_node: Any) -> Any:
    """Let Slicer's own exports of this segmentation to label maps write FDI numbers; the colour table node they follow.

    Slicer numbers segments from 1 unless a colour table has them by name or code. The table is made once a scene.
    """
    scene = segmentation_node.GetScene()
    known = scene.GetNodesByClassByName("vtkMRMLColorTableNode", _COLOUR_TABLE)
    table = known.GetItemAsObject(0) or _colour_table_node(scene)
    segmentation_node.SetLabelmapConversionColorTableNodeID(table.GetID())
    return table


def _colour_table_node(scene: Any) -> Any:
    from ToothTopoSegLib.anatomy.colours import colour_of
    from ToothTopoSegLib.anatomy.fdi import DECIDUOUS_NUMERIC, JAWS, PERMANENT_NUMERIC
    from ToothTopoSegLib.imaging.segments import segment_name

    table = scene.AddNewNodeByClass("vtkMRMLColorTableNode", _COLOUR_TABLE)
    table.SetTypeToUser()
    table.SetNumberOfColors(max(JAWS) + 1)
    table.SetColor(0, "background", 0.0, 0.0, 0.0, 0.0)
    for number in (*PERMANENT_NUMERIC, *DECIDUOUS_NUMERIC, *JAWS):
        table.SetColor(number, segment_name(number), *colour_of(number), 1.0)
    return table


# ---- DICOM


def prepare_for_dicom(
    segmentation_node: Any,
    scheme: str | None = None,
    algorithm_name: str | None = None,
    algorithm_type: str = "AUTOMATIC",
) -> None:
    """Put on a segmentation node what Slicer's export to a DICOM segmentation reads from it.

    Teeth and jaws whose terminology names none get their SNOMED CT codes (Slicer calls a new segment "Tissue"), and
    with ``algorithm_name`` each of them says that it was made by it (``algorithm_type`` as in DICOM; Slicer writes
    MANUAL where nothing is said). The node goes beside its reference volume in the subject hierarchy, that is into its
    study, and refers to the volume's instances.
    Raises InputError where no segment is a tooth, UsageError for another ``algorithm_type`` or an unknown ``scheme``.
    """
    from ToothTopoSegLib.anatomy.snomed import terminology_entry

    _check_choice(algorithm_type, ALGORITHM_TYPES, "type of algorithm in DICOM")
    for identifier, number in numbers_of(segmentation_node, scheme).items():
        segment = segmentation_node.GetSegmentation().GetSegment(identifier)
        if number_of_terminology(_tag(segment, segment.GetTerminologyEntryTagName())) is None:
            segment.SetTag(segment.GetTerminologyEntryTagName(), terminology_entry(number))
        if algorithm_name is not None:
            segment.SetTag(_ALGORITHM_TYPE, algorithm_type)
            segment.SetTag(_ALGORITHM_NAME, algorithm_name)
    volume = _reference_volume(segmentation_node)
    if volume is not None:
        _join_study(segmentation_node, volume)


def missing_for_dicom(segmentation_node: Any) -> list[str]:
    """What keeps Slicer from exporting a DICOM segmentation that tells the segments apart, one sentence each."""
    return [*_missing_source(segmentation_node), *_missing_codes(segmentation_node)]


def _missing_source(node: Any) -> Iterator[str]:
    volume = _reference_volume(node)
    if volume is None:
        yield "The segmentation has no source volume; choose its source geometry in the module Segmentations."
    elif not volume.GetAttribute("DICOM.instanceUIDs"):
        yield (
            f"The volume {volume.GetName()!r} was not loaded by the module DICOM; a DICOM segmentation needs the DICOM "
            "files it was made on."
        )
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(node.GetScene())
    item = hierarchy.GetItemByDataNode(node) if hierarchy else 0
    study = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMLevelStudy()
    if not item or not hierarchy.GetItemAncestorAtLevel(item, study):
        yield "The segmentation is in no study; drag it to the study of its volume in the module Data."


def _missing_codes(node: Any) -> Iterator[str]:
    from ToothTopoSegLib.anatomy.schemes import listed

    codes = _type_codes(node)
    bare = [name for name, code in codes.items() if code in _NO_CODE]
    if bare:
        yield f"Without a code of what they are: {listed(bare)}; choose their terminology in the module Segmentations."
    for code, count in Counter(code for code in codes.values() if code not in _NO_CODE).items():
        if count > 1:
            names = [name for name, other in codes.items() if other == code]
            yield f"Several segments have the code {code}: {listed(names)}; give each its own or join them."


def _type_codes(node: Any) -> Mapping[str, str]:
    """The code of what each segment is, by the segment's name; "" where it has none."""
    codes = {}
    for identifier in node.GetSegmentation().GetSegmentIDs():
        segment = node.GetSegmentation().GetSegment(identifier)
        fields = _tag(segment, segment.GetTerminologyEntryTagName()).split("~")
        kind = fields[2].split("^") if len(fields) > 2 else []
        codes[segment.GetName() or identifier] = kind[1] if len(kind) > 1 else ""
    return codes


def _tag(segment: Any, name: str) -> str:
    value = vtk.reference("")
    segment.GetTag(name, value)
    return str(value)


def _reference_volume(node: Any) -> Any:
    return node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole())


def _join_study(node: Any, volume: Any) -> None:
    """Put a node beside a volume in the subject hierarchy, with a reference to the DICOM instances of the volume."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(node.GetScene())
    beside = hierarchy.GetItemByDataNode(volume) if hierarchy else 0
    if not beside:
        return
    parent = hierarchy.GetItemParent(beside)
    item = hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(parent, node)
    hierarchy.SetItemParent(item, parent)
    instances = volume.GetAttribute("DICOM.instanceUIDs")
    if instances:
        hierarchy.SetItemAttribute(item, _REFERENCED_INSTANCES, instances)


def load_terminology(logic: Any) -> bool:
    """Add the list of teeth and jaws to Slicer's terminologies through that module's logic; False where it fails."""
    from ToothTopoSegLib.anatomy.snomed import CONTEXT_NAME
    from ToothTopoSegLib.resources import resource_folder

    path = resource_folder() / "Terminologies" / "SegmentationCategoryTypeModifier-ToothTopoSeg.term.json"
    return logic.LoadTerminologyFromFile(os.fspath(path)) == CONTEXT_NAME
